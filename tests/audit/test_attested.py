"""requant verify FILE --statement: the bytes that were attested, the same weights under other metadata, or neither."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from requant.cli.main import main
from requant.documents.entries import tensors
from requant.documents.schemas import fault
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import read_header
from requant.formats.weights_root import weights_root
from requant.pipeline.describe import describe, tensor_entries
from requant.release.attestation import STATEMENT, sign, sign_bundle
from requant.release.derivation import OLDER, derivation_statements
from requant.release.keys import new_key
from support.attested import COMMIT, ROOT, passed_report
from support.gguf_files import gguf_bytes, pair, string, tensor
from support.quants import written

WHEN = datetime(2026, 11, 28, tzinfo=UTC)
TEXT = 8


def quant(out: Path, template: str = "{{ messages }}", data: bytes = bytes(range(64)), **more: str) -> Path:
    """A GGUF of two tensors with a chat template."""
    keys = {
        "tokenizer.chat_template": template,
        "general.name": "x",
        **{f"general.{key}": text for key, text in more.items()},
    }
    pairs = [pair(key, TEXT, string(text)) for key, text in keys.items()]
    infos = [tensor("a.weight", (8,)), tensor("b.weight", (8,), 0, 32)]
    out.write_bytes(gguf_bytes(pairs, infos, data))
    return out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return quant(tmp_path / "x.gguf")


@pytest.fixture
def statement(file: Path, key: Path, tmp_path: Path) -> Path:
    sign_bundle(derivation_statements(passed_report(file), WHEN), key, tmp_path / "x.intoto.jsonl")
    return tmp_path / "x.intoto.jsonl"


def verified(*arguments: Any) -> Result:
    done = CliRunner().invoke(main, ["verify", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done


def test_the_file_that_was_attested(file: Path, statement: Path, public: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = verified(file, "--statement", statement, "--key", public, "--json", report)
    lines = done.output.splitlines()
    assert (done.exit_code, lines[0], lines[-1]) == (0, f"file: {file}", "agrees: none of 1 file differs")
    assert "note: attested: x.gguf: all is well" in lines
    document = json.loads(report.read_text())
    assert fault(document, "verify", "the report") is None
    assert document["signed_by"] is not None and document["verdict"] == "agrees"


def test_under_another_name(file: Path, statement: Path, public: Path, tmp_path: Path) -> None:
    done = verified(shutil.copy(file, tmp_path / "y.gguf"), "--statement", statement, "--key", public)
    assert (done.exit_code, "note: attested under the name x.gguf" in done.output) == (0, True), done.output


def test_without_a_key_nothing_is_sure(file: Path, statement: Path) -> None:
    done = verified(file, "--statement", statement)
    assert done.exit_code == 3
    assert "not checked: who signed the statement: name the key with --key" in done.output


CHANGED: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "a repaired template": (lambda path: quant(path, "{{ better }}"), 3, "weights as attested, metadata changed: tokenizer.chat_template"),
    "a key more": (lambda path: quant(path, author="me"), 3, "weights as attested, metadata changed: general.author"),
    "two keys": (lambda path: quant(path, "", author="me"), 3, "metadata changed: general.author, tokenizer.chat_template"),
    "weights": (lambda path: quant(path, data=bytes(range(63)) + b"x"), 1, "differs: x.gguf: tensor 'b.weight'"),
    "weights, and the template": (lambda path: quant(path, "", bytes(64)), 1, "differs: 1 of 1 files and 2 of 2 tensors differ"),
    "no GGUF": (lambda path: path.write_bytes(b"GGUF"), 1, "ends inside the version"),
    "something in the padding": (lambda path: hidden(path), 1, "has bytes other than zero in its padding"),
}  # fmt: skip


def hidden(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[read_header(path).data_offset - 1] = 1
    path.write_bytes(data)


@pytest.mark.parametrize(("change", "code", "words"), CHANGED.values(), ids=CHANGED)
def test_a_file_with_other_bytes(
    file: Path, statement: Path, public: Path, change: Callable[[Path], object], code: int, words: str
) -> None:
    change(file)
    done = verified(file, "--statement", statement, "--key", public)
    assert (done.exit_code, words in done.output) == (code, True), done.output


def test_only_the_signer_that_was_named(file: Path, statement: Path, key: Path, public: Path, tmp_path: Path) -> None:
    """Whoever changes a statement, or signs one like it, says nothing; nor is what he says shown."""
    new_key(tmp_path / "other")
    done = verified(file, "--statement", statement, "--key", tmp_path / "other.pub")
    assert (done.exit_code, "all is well" in done.output) == (1, False), done.output
    forged = derivation_statements(passed_report(file) | {"headline": "forged"}, WHEN)
    sign_bundle(forged, tmp_path / "other", tmp_path / "forged")
    both = tmp_path / "both"
    both.write_bytes((tmp_path / "forged").read_bytes() + statement.read_bytes())
    done = verified(file, "--statement", both, "--key", public)
    assert (done.exit_code, "all is well" in done.output, "forged" in done.output) == (0, True, False), done.output
    line, *_ = statement.read_bytes().splitlines(keepends=True)
    envelope = json.loads(line)
    envelope["payload"] = json.loads((tmp_path / "forged").read_bytes().splitlines()[0])["payload"]
    both.write_text(json.dumps(envelope, sort_keys=True, separators=(",", ":")) + "\n")
    done = verified(file, "--statement", both, "--key", public)
    assert (done.exit_code, "its bytes were changed" in done.output, "forged" in done.output) == (1, True, False)


def test_of_several_statements_the_one_about_the_file(
    file: Path, statement: Path, key: Path, public: Path, tmp_path: Path
) -> None:
    other = quant(tmp_path / "other.gguf", "another")
    sign_bundle(derivation_statements(passed_report(other), WHEN), key, tmp_path / "s")
    both = tmp_path / "both"
    both.write_bytes((tmp_path / "s").read_bytes() + statement.read_bytes())
    for path in (file, other):
        done = verified(path, "--statement", both, "--key", public)
        assert (done.exit_code, f"attested: {path.name}: all is well" in done.output) == (0, True), done.output


MEANT: dict[str, tuple[str, int, str]] = {
    "the repository": ("org/W", 0, "agrees"),
    "the commit": (f"org/W@{COMMIT}", 0, "agrees"),
    "spelled out": (f"hf://org/W@{COMMIT}", 0, "agrees"),
    "the weights root": (ROOT, 0, "agrees"),
    "another repository": ("org/Other", 1, "expected hf://org/Other"),
    "another hub": ("ms://org/W", 1, "expected ms://org/W"),
    "another commit": (f"org/W@{'c' * 40}", 1, f"found    hf://org/W@{COMMIT}"),
    "a branch": ("org/W@main", 3, f"whether main of hf://org/W is the commit {COMMIT}: name the commit"),
    "another root": ("8" * 64, 1, f"found    {ROOT}"),
}


@pytest.mark.parametrize(("source", "code", "words"), MEANT.values(), ids=MEANT)
def test_the_weights_that_are_meant(
    file: Path, statement: Path, public: Path, source: str, code: int, words: str
) -> None:
    done = verified(file, "--statement", statement, "--key", public, "--source", source)
    assert (done.exit_code, words in done.output) == (code, True), done.output


def test_weights_that_lie_here(file: Path, key: Path, public: Path, tmp_path: Path) -> None:
    """They are read, and have the root that is attested, or not; and of some the audit had no place to name."""
    rows = np.arange(40, dtype=np.float32)
    weights = written(tmp_path / "w.gguf", {"a.weight": (T.F32, (8, 5), rows.tobytes())})
    report = passed_report(file)
    report["source"] |= {"weights_root": weights_root(tensors(tensor_entries(describe(weights)))), "place": None}
    sign_bundle(derivation_statements(report, WHEN), key, tmp_path / "s")
    options = (file, "--statement", tmp_path / "s", "--key", public, "--source")
    assert verified(*options, weights).exit_code == 0
    done = verified(*options, "org/W")
    assert (done.exit_code, "it names no repository, so give a folder or a weights root" in done.output) == (3, True)
    written(weights, {"a.weight": (T.F32, (8, 5), rows[::-1].tobytes())})
    assert verified(*options, weights).exit_code == 1
    assert verified(*options, tmp_path / "nothing").exit_code == 2


def test_statements_of_the_first_form(file: Path, key: Path, public: Path, tmp_path: Path) -> None:
    """One envelope, and the whole report as predicate; what it lacks is said."""
    sha256 = passed_report(file)["subject"]["sha256"]
    subject = [{"name": "x.gguf", "digest": {"sha256": sha256}}]
    predicate = {"schema": "requant/audit/v1", "verdict": "exact", "source": 5}
    sign(
        {"_type": STATEMENT, "subject": subject, "predicateType": OLDER, "predicate": predicate}, key, tmp_path / "old"
    )
    options = (file, "--statement", tmp_path / "old", "--key", public)
    assert verified(*options).exit_code == 0
    assert verified(*options, "--source", ROOT).exit_code == 3
    quant(file, "another template")
    assert verified(*options).exit_code == 1, "it has no weights root"


WRONG: dict[str, tuple[Callable[[Path, Path], list[str | Path]], int, str]] = {
    "a file without a statement": (lambda file, s: [file], 2, "a file is verified with --statement"),
    "weights without a statement": (lambda file, s: [file.parent, "--source", "org/W"], 2, "--source belongs to it"),
    "a folder": (lambda file, s: [file.parent, "--statement", s], 2, "is not a file that can be read"),
    "no such file": (lambda file, s: [file.with_name("no"), "--statement", s], 2, "is not a file that can be read"),
    "no such statement": (
        lambda file, s: [file, "--statement", s.with_name("no")],
        2,
        "is not a file that can be read",
    ),
    "a file for a statement": (lambda file, s: [file, "--statement", file], 2, "holds no statement in a DSSE envelope"),
    "no statement of an audit": (
        lambda file, s: [file, "--statement", only_the_other(s)],
        2,
        "holds no statement about an audit",
    ),
    "no public key": (lambda file, s: [file, "--statement", s, "--key", file], 2, "is not a public key in a PEM file"),
    "no weights": (lambda file, s: [file, "--statement", s, "--source", "a/b/c"], 2, "does not exist"),
    "a report over the file": (lambda file, s: [file, "--statement", s, "--json", file], 2, "is read by this command"),
}


def only_the_other(path: Path) -> Path:
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[1])
    return path


@pytest.mark.parametrize(("arguments", "code", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_verified(
    file: Path, statement: Path, arguments: Callable[[Path, Path], list[str | Path]], code: int, words: str
) -> None:
    before = file.read_bytes()
    done = verified(*arguments(file, statement))
    assert (done.exit_code, words in done.output) == (code, True), done.output
    assert file.read_bytes() == before


def test_a_predicate_of_another_form(file: Path, key: Path, public: Path, tmp_path: Path) -> None:
    found, _ = derivation_statements(passed_report(file), WHEN)
    sign({**found, "predicate": {**found["predicate"], "source": {}}}, key, tmp_path / "s")
    done = verified(file, "--statement", tmp_path / "s", "--key", public)
    assert (done.exit_code, "error: s: source.name is missing" in done.output) == (2, True), done.output
