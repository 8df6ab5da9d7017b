"""requant.metadata, conversion, vocabulary and inferred: what each change to a GGUF's metadata means.

The subject is what a small Qwen3 checkpoint gives; the converter itself is asked in e2e.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant import vocabulary
from requant.conversion import expected_metadata
from requant.errors import FormatError, RequantError, UnsupportedError
from requant.ggml_types import GGMLType, ValueType
from requant.gguf import Field, Header, Tensor
from requant.inferred import infer
from requant.metadata import (
    WIDTH,
    Expected,
    Grade,
    NamedImatrix,
    compare_metadata,
    differing,
    expected_from_gguf,
    shown,
)

ROWS = 16
BASE = ["a", "b", "c", "ab", "abc", "d"]
MERGES = ["a b", "ab c"]
TEMPLATE = "{%- if tools %}\n    use them\n{%- endif %}\n{{ messages }}\n"
FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
ADDED = {6: ("<|endoftext|>", True), 7: ("<|im_end|>", True), 8: ("<think>", False)}
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 256, "intermediate_size": 768,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": ROWS,
    "tie_word_embeddings": True, "rope_theta": 1000000, "rms_norm_eps": 1e-6, "max_position_embeddings": 4096,
    "bos_token_id": 6, "eos_token_id": 7,
}  # fmt: skip
SETTINGS = {
    "tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "chat_template": TEMPLATE, "bos_token": None,
    "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None,
    "added_tokens_decoder": {str(number): {"content": text, "special": special, **FLAGS} for number, (text, special) in ADDED.items()},
}  # fmt: skip
TOKENIZER = {
    "added_tokens": [{"id": number, "content": text, "special": special, **FLAGS} for number, (text, special) in ADDED.items()],
    "normalizer": {"type": "NFC"}, "post_processor": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": vocabulary.QWEN2_PATTERN}}, {"type": "ByteLevel"},
    ]},
    "model": {"type": "BPE", "vocab": {token: number for number, token in enumerate(BASE)},
              "merges": [merge.split() for merge in MERGES], "byte_fallback": False},
}  # fmt: skip
GENERATION = {"temperature": 0.6, "top_k": 20, "do_sample": True}
IMATRIX = NamedImatrix(14, 100)
SUBJECT = {
    "general.name": Field(ValueType.STRING, "Small"),
    "general.file_type": Field(ValueType.UINT32, 15),
    "general.quantization_version": Field(ValueType.UINT32, 2),
    "quantize.imatrix.file": Field(ValueType.STRING, "imatrix.gguf"),
    "quantize.imatrix.entries_count": Field(ValueType.UINT32, 14),
    "quantize.imatrix.chunks_count": Field(ValueType.UINT32, 100),
}
TENSORS = (
    Tensor("token_embd.weight", (256, ROWS), GGMLType.Q6_K, 0, 0),
    Tensor("blk.0.attn_q.weight", (256, 256), GGMLType.Q4_K, 0, 0),
    Tensor("output_norm.weight", (256,), GGMLType.F32, 0, 0),
)


@pytest.fixture(autouse=True)
def small_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these few tokens be Qwen's."""
    monkeypatch.setattr(vocabulary, "QWEN2", hashlib.sha256("\n".join(BASE + MERGES).encode()).hexdigest())


def checkpoint(**changes: Any) -> dict[str, bytes]:
    """The files by name (with __ for the dot); ``None`` removes one, objects become JSON."""
    files: dict[str, Any] = {
        "config__json": CONFIG, "tokenizer_config__json": SETTINGS, "tokenizer__json": TOKENIZER, "generation_config__json": GENERATION,
    } | changes  # fmt: skip
    return {
        name.replace("__", "."): content if isinstance(content, bytes) else json.dumps(content).encode()
        for name, content in files.items()
        if content is not None
    }


SLOW = {"tokenizer__json": None, "vocab__json": TOKENIZER["model"]["vocab"], "merges__txt": "\n".join(["#version: 0.2", *MERGES, ""]).encode()}  # fmt: skip


def header(metadata: Mapping[str, Field], tensors: tuple[Tensor, ...] = TENSORS) -> Header:
    return Header("subject.gguf", 3, dict(metadata), tensors, 32, 0, 0)


def subject(expected: Expected) -> dict[str, Field]:
    written = {key: value for key, value in expected.values.items() if key not in expected.implied}
    return written | SUBJECT


def test_a_release_has_no_serious_finding() -> None:
    expected = expected_metadata(checkpoint())
    assert not expected.unknown
    found = compare_metadata(header(subject(expected)), expected, IMATRIX)
    assert [(finding.key, finding.grade) for finding in found.findings] == [
        ("general.name", Grade.HARMLESS), ("quantize.imatrix.file", Grade.HARMLESS),
    ]  # fmt: skip
    assert len(found.equal) == len(subject(expected)) - 2


def test_what_is_expected_of_a_checkpoint() -> None:
    values = expected_metadata(checkpoint()).values
    plain = {key: field.value for key, field in values.items() if field.item is None}
    assert plain == {
        "general.architecture": "qwen3", "general.type": "model", "general.sampling.top_k": 20,
        "general.sampling.temp": float(np.float32(0.6)), "qwen3.block_count": 2, "qwen3.embedding_length": 256,
        "qwen3.feed_forward_length": 768, "qwen3.attention.head_count": 4, "qwen3.attention.head_count_kv": 2,
        "qwen3.attention.key_length": 64, "qwen3.attention.value_length": 64, "qwen3.rope.dimension_count": 64,
        "qwen3.vocab_size": ROWS, "qwen3.context_length": 4096, "qwen3.rope.freq_base": 1e6,
        "qwen3.attention.layer_norm_rms_epsilon": float(np.float32(1e-6)), "tokenizer.chat_template": TEMPLATE,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.bos_token_id": 6,
        "tokenizer.ggml.eos_token_id": 7, "tokenizer.ggml.padding_token_id": 6, "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
    }  # fmt: skip
    assert values["tokenizer.ggml.merges"].value == MERGES
    assert values["tokenizer.ggml.tokens"].value == [
        *BASE,
        *(text for text, _ in ADDED.values()),
        *(f"[PAD{index}]" for index in range(9, ROWS)),
    ]
    types = values["tokenizer.ggml.token_type"].value
    assert isinstance(types, np.ndarray) and types.tolist() == [1] * 6 + [3, 3, 4] + [5] * 7


def test_vocab_and_merges_give_the_same_but_for_what_the_other_file_tells() -> None:
    fast, slow = expected_metadata(checkpoint()), expected_metadata(checkpoint(**SLOW))
    assert fast.values.keys() - slow.values.keys() == {
        "tokenizer.ggml.padding_token_id",
        "tokenizer.ggml.add_eos_token",
    }
    assert all(fast.values[key] == value for key, value in slow.values.items())


def text(value: str) -> Field:
    return Field(ValueType.STRING, value)


def item(field: Field, index: int, value: Any) -> Field:
    """One item changed."""
    items = list(field.value) if not isinstance(field.value, np.ndarray) else field.value.copy()  # type: ignore[arg-type]
    items[index] = value
    return replace(field, value=items)


U32 = ValueType.UINT32
Change = Callable[[dict[str, Field]], Field | None]
CHANGES: dict[str, tuple[str, Change, Grade | None]] = {
    "template": ("tokenizer.chat_template", lambda kv: text(TEMPLATE.replace("use", "ignore")), Grade.SERIOUS),
    "template's last line end": ("tokenizer.chat_template", lambda kv: text(TEMPLATE.rstrip()), Grade.SERIOUS),
    "no template": ("tokenizer.chat_template", lambda kv: None, Grade.SERIOUS),
    "another template": ("tokenizer.chat_template.tool_use", lambda kv: text("x"), Grade.SERIOUS),
    "token": ("tokenizer.ggml.tokens", lambda kv: item(kv["tokenizer.ggml.tokens"], 3, "ba"), Grade.SERIOUS),
    "special token": ("tokenizer.ggml.tokens", lambda kv: item(kv["tokenizer.ggml.tokens"], 7, "<|end|>"), Grade.SERIOUS),
    "padding token": ("tokenizer.ggml.tokens", lambda kv: item(kv["tokenizer.ggml.tokens"], 15, "<|x|>"), Grade.SERIOUS),
    "token type": ("tokenizer.ggml.token_type", lambda kv: item(kv["tokenizer.ggml.token_type"], 8, 3), Grade.SERIOUS),
    "merge": ("tokenizer.ggml.merges", lambda kv: item(kv["tokenizer.ggml.merges"], 1, "a bc"), Grade.SERIOUS),
    "fewer merges": ("tokenizer.ggml.merges", lambda kv: replace(kv["tokenizer.ggml.merges"], value=["a b"]), Grade.SERIOUS),
    "pre": ("tokenizer.ggml.pre", lambda kv: text("gpt-2"), Grade.SERIOUS),
    "eos": ("tokenizer.ggml.eos_token_id", lambda kv: Field(U32, 6), Grade.SERIOUS),
    "no eos": ("tokenizer.ggml.eos_token_id", lambda kv: None, Grade.SERIOUS),
    "eot": ("tokenizer.ggml.eot_token_id", lambda kv: Field(U32, 7), Grade.SERIOUS),
    "add bos": ("tokenizer.ggml.add_bos_token", lambda kv: Field(ValueType.BOOL, True), Grade.SERIOUS),
    "no add_bos": ("tokenizer.ggml.add_bos_token", lambda kv: None, Grade.HARMLESS),
    "no add_eos": ("tokenizer.ggml.add_eos_token", lambda kv: None, Grade.HARMLESS),
    "space before": ("tokenizer.ggml.add_space_prefix", lambda kv: Field(ValueType.BOOL, True), Grade.SERIOUS),
    "rope base": ("qwen3.rope.freq_base", lambda kv: Field(ValueType.FLOAT32, 5e6), Grade.SERIOUS),
    "rope base of another type": ("qwen3.rope.freq_base", lambda kv: Field(ValueType.FLOAT64, 1e6), Grade.SERIOUS),
    "no rope base": ("qwen3.rope.freq_base", lambda kv: None, Grade.SERIOUS),
    "rope scaling": ("qwen3.rope.scaling.type", lambda kv: text("yarn"), Grade.SERIOUS),
    "rope dimensions as assumed": ("qwen3.rope.dimension_count", lambda kv: Field(U32, 64), None),
    "other rope dimensions": ("qwen3.rope.dimension_count", lambda kv: Field(U32, 32), Grade.SERIOUS),
    "epsilon": ("qwen3.attention.layer_norm_rms_epsilon", lambda kv: Field(ValueType.FLOAT32, 1e-5), Grade.SERIOUS),
    "context": ("qwen3.context_length", lambda kv: Field(U32, 8192), Grade.SERIOUS),
    "heads": ("qwen3.attention.head_count", lambda kv: Field(U32, 2), Grade.SERIOUS),
    "sliding window": ("qwen3.attention.sliding_window", lambda kv: Field(U32, 128), Grade.SERIOUS),
    "architecture": ("general.architecture", lambda kv: text("qwen2"), Grade.SERIOUS),
    "no architecture": ("general.architecture", lambda kv: None, Grade.SERIOUS),
    "type": ("general.type", lambda kv: text("adapter"), Grade.SERIOUS),
    "no type": ("general.type", lambda kv: None, Grade.HARMLESS),
    "sampling": ("general.sampling.temp", lambda kv: Field(ValueType.FLOAT32, 2.0), Grade.SERIOUS),
    "more sampling": ("general.sampling.min_p", lambda kv: Field(ValueType.FLOAT32, 0.5), Grade.SERIOUS),
    "no sampling": ("general.sampling.temp", lambda kv: None, Grade.HARMLESS),
    "file type": ("general.file_type", lambda kv: Field(U32, 7), Grade.SERIOUS),
    "unquantized file type": ("general.file_type", lambda kv: Field(U32, 32), Grade.SERIOUS),
    "another mix of the same type": ("general.file_type", lambda kv: Field(U32, 14), None),
    "unknown file type": ("general.file_type", lambda kv: Field(U32, 99), Grade.UNCHECKED),
    "file type of another type": ("general.file_type", lambda kv: text("15"), Grade.UNCHECKED),
    "quantization version": ("general.quantization_version", lambda kv: Field(U32, 1), Grade.SERIOUS),
    "imatrix entries": ("quantize.imatrix.entries_count", lambda kv: Field(U32, 15), Grade.SERIOUS),
    "imatrix chunks, signed": ("quantize.imatrix.chunks_count", lambda kv: Field(ValueType.INT32, 100), None),
    "imatrix chunks": ("quantize.imatrix.chunks_count", lambda kv: text("100"), Grade.SERIOUS),
    "imatrix file": ("quantize.imatrix.file", lambda kv: text("/home/me/imatrix.dat"), Grade.HARMLESS),
    "name": ("general.name", lambda kv: text("Large"), Grade.HARMLESS),
    "url": ("general.url", lambda kv: text("https://x.y"), Grade.HARMLESS),
    "tags": ("general.tags", lambda kv: Field(ValueType.ARRAY, ["x"], ValueType.STRING), Grade.HARMLESS),
    "alignment": ("general.alignment", lambda kv: Field(U32, 64), Grade.HARMLESS),
    "split": ("split.count", lambda kv: Field(ValueType.UINT16, 0), Grade.HARMLESS),
    "unknown": ("acme.secret", lambda kv: Field(U32, 1), Grade.HARMLESS),
    "of another architecture": ("llama.block_count", lambda kv: Field(U32, 1), Grade.HARMLESS),
}  # fmt: skip


@pytest.mark.parametrize(("key", "change", "grade"), CHANGES.values(), ids=CHANGES)
def test_a_change(key: str, change: Change, grade: Grade | None) -> None:
    expected = expected_metadata(checkpoint())
    metadata = subject(expected)
    changed = change(metadata)
    metadata = {name: field for name, field in metadata.items() if name != key} | ({key: changed} if changed else {})
    comparison = compare_metadata(header(metadata), expected, IMATRIX)
    found = {finding.key: finding for finding in comparison.findings}
    assert found.keys() - {"general.name", "quantize.imatrix.file", key} == set()
    if grade is None:
        assert key in comparison.equal and key not in found
        return
    finding = found[key]
    assert (finding.grade, key in comparison.equal) == (grade, False)
    assert finding.sentence.startswith(key) and "\n" not in finding.sentence
    assert finding.expected != finding.actual
    for shown_text in (finding.expected, finding.actual, finding.sentence):
        assert shown_text.isprintable() and len(shown_text) <= 2 * WIDTH


def test_keys_of_the_claimed_architecture_are_serious_too() -> None:
    expected = expected_metadata(checkpoint())
    metadata = subject(expected) | {"general.architecture": text("llama"), "llama.block_count": Field(U32, 2)}
    serious = {
        finding.key
        for finding in compare_metadata(header(metadata), expected).findings
        if finding.grade is Grade.SERIOUS
    }
    assert serious == {"general.architecture", "llama.block_count"}


def test_without_an_imatrix_its_counts_are_unchecked() -> None:
    expected = expected_metadata(checkpoint())
    found = compare_metadata(header(subject(expected)), expected).findings
    assert {finding.key for finding in found if finding.grade is Grade.UNCHECKED} == {
        "quantize.imatrix.entries_count", "quantize.imatrix.chunks_count",
    }  # fmt: skip


def test_a_gguf_as_the_source() -> None:
    expected = expected_metadata(checkpoint())
    source = header(
        subject(expected) | {"general.file_type": Field(U32, 32), "split.count": Field(ValueType.UINT16, 3)}
    )
    found = compare_metadata(header(subject(expected)), expected_from_gguf(source), IMATRIX)
    assert [finding.key for finding in found.findings] == ["quantize.imatrix.file"]
    renamed = subject(expected) | {"general.name": text("Other"), "qwen3.block_count": Field(U32, 3)}
    del renamed["general.sampling.temp"]
    found = compare_metadata(header(renamed), expected_from_gguf(source), IMATRIX)
    assert [(finding.key, finding.grade) for finding in found.findings] == [
        ("qwen3.block_count", Grade.SERIOUS), ("general.name", Grade.HARMLESS),
        ("quantize.imatrix.file", Grade.HARMLESS), ("general.sampling.temp", Grade.SERIOUS),
    ]  # fmt: skip


def test_what_is_shown_of_long_values() -> None:
    long = "x" * 200
    assert differing(text(f"{long}a\n"), text(f"{long}b\n"))[:2] == (
        f"line 1: ...'{'x' * 20}a'",
        f"line 1: ...'{'x' * 20}b'",
    )
    assert differing(text("a\nb"), text("a"))[:2] == ("line 2: 'b'", "line 2: (the text has ended)")
    one, other = (
        Field(ValueType.ARRAY, ["a", "b", "c"], ValueType.STRING),
        Field(ValueType.ARRAY, ["a", "x"], ValueType.STRING),
    )
    assert differing(one, other) == ("item 1 of 3: 'b'", "item 1 of 2: 'x'", None)
    assert differing(one, item(one, 2, "\x1b[2J")) == ("item 2 of 3: 'c'", "item 2 of 3: '\\x1b[2J'", {2})
    assert shown(Field(ValueType.ARRAY, [one], ValueType.ARRAY)) == "1 of ARRAY"
    assert differing(Field(U32, 1), Field(ValueType.INT32, 1))[:2] == ("UINT32 1", "INT32 1")
    nan = Field(ValueType.ARRAY, np.array([np.nan], "<f4"), ValueType.FLOAT32)
    assert differing(nan, Field(ValueType.ARRAY, -nan.value, ValueType.FLOAT32))[2] == {0}  # type: ignore[operator]
    assert len(shown(text("\u202e" * 500))) == WIDTH and shown(Field(ValueType.STRING, b"\xff")) == "b'\\xff'"


UNKNOWN = {
    "sentencepiece": (checkpoint(tokenizer__model=b""), "tokenizer.ggml.tokens"),
    "no tokenizer": (checkpoint(tokenizer__json=None), "tokenizer.ggml.tokens"),
    "unigram": (checkpoint(tokenizer__json={"model": {"type": "Unigram"}}), "tokenizer.ggml.model"),
    "slow and strange": (checkpoint(**SLOW, tokenizer_config__json=SETTINGS | {"tokenizer_class": "X"}), "tokenizer.ggml.merges"),
    "tekken": (checkpoint(tokenizer__json=None, tekken__json=b"{}"), "tokenizer.chat_template"),
    "pre-tokenizer": (checkpoint(tokenizer__json=TOKENIZER | {"pre_tokenizer": {"type": "ByteLevel"}}), "tokenizer.ggml.pre"),
    "other class": (checkpoint(tokenizer_config__json=SETTINGS | {"tokenizer_class": "LlamaTokenizerFast"}), "tokenizer.ggml.pre"),
    "named but missing token": (checkpoint(tokenizer_config__json=SETTINGS | {"unk_token": "<unk>"}), "tokenizer.ggml.tokens"),
    "bos asked for": (checkpoint(tokenizer_config__json=SETTINGS | {"add_bos_token": True}), "tokenizer.ggml.add_bos_token"),
    "roberta": (checkpoint(tokenizer__json=TOKENIZER | {"post_processor": {"type": "RobertaProcessing"}}), "tokenizer.ggml.add_sep_token"),
    "strange template": (checkpoint(tokenizer__json=TOKENIZER | {"post_processor": {"type": "TemplateProcessing", "single": [1]}}), "tokenizer.ggml.eos_token_id"),
    "lower case": (checkpoint(tokenizer__json=TOKENIZER | {"normalizer": {"type": "Lowercase"}}), "tokenizer.ggml.normalizer.lowercase"),
    "longrope": (checkpoint(config__json=CONFIG | {"rope_scaling": {"rope_type": "longrope"}}), "qwen3.rope.scaling.type"),
    "mrope": (checkpoint(config__json=CONFIG | {"rope_scaling": {"mrope_section": [1]}}), "qwen3.rope.freq_base"),
    "local rope": (checkpoint(config__json=CONFIG | {"local_rope_theta": 1e4}), "qwen3.rope.freq_base_swa"),
    "no context": (checkpoint(config__json={key: value for key, value in CONFIG.items() if key != "max_position_embeddings"}), "qwen3.context_length"),
    "pooling": (checkpoint(modules__json=b"[]"), "qwen3.pooling_type"),
    "broken generation config": (checkpoint(generation_config__json=b"{"), "general.sampling.temp"),
    "strange temperature": (checkpoint(generation_config__json={"temperature": "hot"}), "general.sampling.temp"),
    "huge temperature": (checkpoint(generation_config__json={"temperature": 1e300}), "general.sampling.temp"),
    "fractional top_k": (checkpoint(generation_config__json={"top_k": 2.5}), "general.sampling.top_k"),
    "several templates": (checkpoint(tokenizer_config__json=SETTINGS | {"chat_template": [{"name": "default", "template": "x"}]}), "tokenizer.chat_templates"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "key"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_uncertain_is_unchecked_and_never_different(files: dict[str, bytes], key: str) -> None:
    expected = expected_metadata(files)
    assert key not in expected.values
    comparison = compare_metadata(header({key: text("anything")}), expected)
    [finding] = [finding for finding in comparison.findings if finding.key == key]
    assert finding.grade is Grade.UNCHECKED
    assert finding.sentence.startswith(f"{key} cannot be checked: ")


def test_tokens_about_which_the_files_disagree() -> None:
    decoder = {**SETTINGS["added_tokens_decoder"], "8": {"content": "<think>", "special": True, **FLAGS}}  # type: ignore[dict-item]
    expected = expected_metadata(checkpoint(tokenizer_config__json=SETTINGS | {"added_tokens_decoder": decoder}))
    metadata = subject(expected)
    key = "tokenizer.ggml.token_type"
    for number, grade in ((8, Grade.UNCHECKED), (7, Grade.SERIOUS)):
        changed = metadata | {key: item(metadata[key], number, 6)}
        [finding] = [finding for finding in compare_metadata(header(changed), expected).findings if finding.key == key]
        assert finding.grade is grade


def test_an_older_file_of_added_tokens_that_no_other_confirms() -> None:
    assert expected_metadata(checkpoint(added_tokens__json={"<think>": 8})).unsure["tokenizer.ggml.tokens"] == set()
    assert expected_metadata(checkpoint(added_tokens__json={"<x>": 8, "<y>": 9})).unsure["tokenizer.ggml.tokens"] == {
        8,
        9,
    }


def test_rope_scaling() -> None:
    yarn = {
        "type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
        "beta_fast": 16,
        "attention_factor": 2,
        "attn_factor": 3,
    }
    values = expected_metadata(checkpoint(config__json=CONFIG | {"rope_scaling": yarn})).values
    assert {key[len("qwen3.rope.scaling.") :]: field.value for key, field in values.items() if ".scaling." in key} == {
        "type": "yarn", "factor": 4.0, "original_context_length": 1024, "yarn_beta_fast": 16.0, "yarn_attn_factor": 2.0,
    }  # fmt: skip
    linear = expected_metadata(
        checkpoint(config__json=CONFIG | {"rope_scaling": {"type": "linear", "factor": 2}})
    ).values
    assert linear["qwen3.rope.scaling.factor"] == Field(ValueType.FLOAT32, 2.0)
    default = {key: value for key, value in CONFIG.items() if key != "rope_theta"}
    assert "qwen3.rope.freq_base" in expected_metadata(checkpoint(config__json=default)).optional


def test_a_tokenizer_as_llama_3_has_it() -> None:
    start = {"SpecialToken": {"id": "<|endoftext|>"}}
    a, b = {"Sequence": {"id": "A"}}, {"Sequence": {"id": "B"}}
    template = {"type": "TemplateProcessing", "single": [start, a], "pair": [start, a, start, b]}
    config = CONFIG | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    expected = expected_metadata(checkpoint(
        config__json=config,
        tokenizer__json=TOKENIZER | {"post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}},
        tokenizer_config__json={key: value for key, value in SETTINGS.items() if key != "add_bos_token"}
        | {"bos_token": {"content": "<|endoftext|>"}, "add_prefix_space": False},
    ))  # fmt: skip
    flags = {
        kind: expected.values[f"tokenizer.ggml.add_{kind}"].value
        for kind in ("bos_token", "eos_token", "sep_token", "space_prefix")
    }
    assert flags == {"bos_token": True, "eos_token": False, "sep_token": False, "space_prefix": False}
    assert "tokenizer.ggml.add_bos_token" not in expected.optional
    assert expected.unknown.keys() == {"tokenizer.ggml.pre"}
    assert {"llama.vocab_size", "llama.rope.dimension_count"} <= expected.optional


def test_templates_in_files_of_their_own() -> None:
    bare = {key: value for key, value in SETTINGS.items() if key != "chat_template"}
    jinja = {"chat_template__jinja": b"a\r\nb", "chat_template__json": {"chat_template": "json"}}
    for settings, files, expected in (
        (SETTINGS, jinja, TEMPLATE), (bare, jinja, "a\nb"), (bare, {"chat_template__json": jinja["chat_template__json"]}, "json"),
    ):  # fmt: skip
        values = expected_metadata(checkpoint(tokenizer_config__json=settings, **files)).values  # type: ignore[arg-type]
        assert values["tokenizer.chat_template"].value == expected
    several = [{"name": "default", "template": "x"}, {"name": "tool use", "template": "y"}]
    values = expected_metadata(checkpoint(tokenizer_config__json=bare | {"chat_template": several})).values
    assert (values["tokenizer.chat_template"].value, values["tokenizer.chat_template.tool_use"].value) == ("x", "y")


MODEL = TOKENIZER["model"]
BROKEN = {
    "no config": (checkpoint(config__json=None), "has no config.json"),
    "config is no JSON": (checkpoint(config__json=b"{"), "config.json is not valid JSON"),
    "a billion layers": (checkpoint(config__json=CONFIG | {"num_hidden_layers": 10**9}), "num_hidden_layers"),
    "huge context": (checkpoint(config__json=CONFIG | {"max_position_embeddings": 10**20}), "max_position_embeddings"),
    "context is text": (checkpoint(config__json=CONFIG | {"max_position_embeddings": "4096"}), "max_position_embeddings"),
    "huge rope base": (checkpoint(config__json=CONFIG | {"rope_theta": 10**400}), "rope_theta"),
    "rope base is a list": (checkpoint(config__json=CONFIG | {"rope_theta": [1]}), "rope_theta"),
    "deep": (checkpoint(tokenizer__json=b'{"model":' + b"[" * 200_000), "tokenizer.json is not valid JSON"),
    "tokenizer is a list": (checkpoint(tokenizer__json=[]), "tokenizer.json is not a JSON object"),
    "settings are text": (checkpoint(tokenizer_config__json=b'"x"'), "tokenizer_config.json is not a JSON object"),
    "vocab is a list": (checkpoint(tokenizer__json=None, vocab__json=[], merges__txt=b""), "vocab.json is not a JSON object"),
    "id is text": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"vocab": {"a": "0"}}}), "tokenizer.json gives 'a' no id"),
    "id beyond the rows": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"vocab": {"a\x1b": 10**9}}}), r"gives 'a\x1b' no id"),
    "one id twice": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"vocab": {"a": 0, "b": 0}}}), "several tokens the same id"),
    "no merges": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"merges": None}}), "no list of merges"),
    "triple merge": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"merges": [["a", "b", "c"]]}}), "a merge that is no pair"),
    "merge is a number": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"merges": [1]}}), "a merge that is no pair"),
    "merges are no text": (checkpoint(**SLOW | {"merges__txt": b"\xff"}), "merges.txt is not UTF-8"),
    "added tokens are an object": (checkpoint(tokenizer__json=TOKENIZER | {"added_tokens": {}}), "added_tokens that are no list"),
    "added token without id": (checkpoint(tokenizer__json=TOKENIZER | {"added_tokens": [{"content": "x"}]}), "tokenizer.json has an added token"),
    "added token far off": (checkpoint(tokenizer_config__json=SETTINGS | {"added_tokens_decoder": {"9" * 5000: {"content": "x"}}}), "tokenizer_config.json has an added token"),
    "added token is a number": (checkpoint(tokenizer_config__json=SETTINGS | {"added_tokens_decoder": {"6": 6}}), "tokenizer_config.json has an added token"),
    "another added_tokens.json": (checkpoint(added_tokens__json={"<x>": 99}), "added_tokens.json gives '<x>' no id"),
    "template is no text": (checkpoint(chat_template__jinja=b"\xff"), "chat_template.jinja is not UTF-8"),
    "template without a name": (checkpoint(tokenizer_config__json=SETTINGS | {"chat_template": [1]}), "a chat_template without name"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "said"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_is_named(files: dict[str, bytes], said: str) -> None:
    with pytest.raises(FormatError) as caught:
        expected_metadata(files)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_reranker_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="reranker"):
        expected_metadata(checkpoint(README__md=b"---\n---\n# Qwen3-Reranker-0.6B\n"))


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
JUNK = VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.text(max_size=2), VALUES, max_size=2)


@given(
    st.sampled_from(["config__json", "tokenizer__json", "tokenizer_config__json", "generation_config__json"]), st.data()
)
def test_no_file_gives_another_exception(name: str, data: st.DataObject) -> None:
    whole = json.loads(checkpoint()[name.replace("__", ".")])
    key = data.draw(st.sampled_from([*whole]))
    if isinstance(whole[key], dict) and whole[key] and data.draw(st.booleans()):
        whole[key][data.draw(st.sampled_from([*whole[key]]))] = data.draw(JUNK)
    else:
        whole[key] = data.draw(JUNK)
    with suppress(RequantError):
        expected = expected_metadata(checkpoint(**{name: whole}))
        compare_metadata(header(SUBJECT), expected)


def test_what_a_header_says_about_its_making() -> None:
    plain = infer(header(SUBJECT))
    assert (plain.file_type, plain.file_type_name, plain.imatrix_entries, plain.base_models, plain.source) == (
        15,
        "Q4_K_M",
        14,
        (),
        None,
    )
    assert len(plain.sentences) == 2
    rich = infer(header({
        "general.architecture": text("qwen3"), "general.base_model.count": Field(U32, 10**9),
        "general.base_model.0.name": text("Qwen3 4B"), "general.base_model.0.organization": text("Qwen"),
        "general.base_model.0.repo_url": text("https://huggingface.co/Qwen/Qwen3-4B"),
        "general.source.huggingface.repository": text("a/b\x1b"), "quantize.imatrix.file": Field(ValueType.STRING, b"x\xe4"),
        "quantize.imatrix.dataset": text("wiki\n"), "general.file_type": text("15"),
    }))  # fmt: skip
    [base] = rich.base_models
    assert (base.repository, base.name, base.organization) == ("Qwen/Qwen3-4B", "Qwen3 4B", "Qwen")
    assert rich.source is not None and rich.source.repository is None
    assert rich.file_type_name is None and rich.imatrix_file == "x\ufffd"
    assert len(rich.sentences) == 3 and all(sentence.isprintable() for sentence in rich.sentences)
    assert infer(header({})).sentences == []
