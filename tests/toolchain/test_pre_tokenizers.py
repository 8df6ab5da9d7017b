"""Upstream's list of pre-tokenizers: read from its source, asked of a stranger's tokenizer in a process of its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from requant.toolchain import pre_tokenizers
from requant.toolchain.pre_tokenizers import PreTokenizers

SOURCE = """
class ModelBase:
    def get_vocab_base_pre(self, tokenizer) -> str:
        chktxt = "abc\\r\\n d"
        chkhsh = sha256(str(tokenizer.encode(chktxt)).encode()).hexdigest()
        res = None
        if chkhsh == "{first}":
            # ref: https://huggingface.co/owner/name
            res = "early"
        if chkhsh == "0000":
            res = "other"
        if chkhsh == "{first}":
            res = "late"
        if res is None:
            logger.warning("** unknown")
        return res
"""


def numbers(*ids: int) -> str:
    return hashlib.sha256(str(list(ids)).encode()).hexdigest()


def tokenizer(*merges: str) -> bytes:
    """What makes tokens of that text; for other characters than its own it has none."""
    vocabulary = {token: number for number, token in enumerate(("a", "b", "c", "d", "ab", "abc"))}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [*merges]}
    return json.dumps({"model": model, "added_tokens": []}).encode()


KNOWN = PreTokenizers.of_source(SOURCE.format(first=numbers(5, 3)))


def test_of_two_names_for_the_same_numbers_upstream_takes_the_last() -> None:
    assert PreTokenizers("abc\r\n d", {numbers(5, 3): "late", "0000": "other"}) == KNOWN
    assert json.loads(KNOWN.as_json()) == {"text": KNOWN.text, "names": dict(KNOWN.names)}


def test_a_tokenizer_is_recognised_by_what_it_makes_of_the_text() -> None:
    assert KNOWN.name(tokenizer("a b", "ab c")) == "late"
    assert KNOWN.name(tokenizer("a b")) is None


def test_the_packages_own_list_is_upstreams() -> None:
    """As long as the pinned source is at hand, tests/native holds them equal."""
    known = PreTokenizers.of_package()
    assert {"qwen2", "llama-bpe", "gpt-2", "smollm"} <= set(known.names.values())
    assert all(len(digest) == 64 for digest in known.names)


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"model": {"type": "BPE"}}'])
def test_a_broken_tokenizer_has_no_name(content: bytes) -> None:
    assert KNOWN.name(content) is None


def test_a_tokenizer_that_takes_for_ever_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "sleep.py"
    program.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(pre_tokenizers, "PROGRAM", program)
    monkeypatch.setattr(pre_tokenizers, "SECONDS", 0.2)
    assert KNOWN.name(b"{}") is None
