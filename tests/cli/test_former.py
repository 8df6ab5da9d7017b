"""Former names of verbs: each says its new one in one line, and works as it did."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from requant.cli.main import main
from requant.difference.imatrices import as_document, as_text, compare
from requant.documents.results import write_results
from requant.ground.canonical import canonical
from support.command import run
from support.gguf_files import write_imatrix

FILES = {"imatrix.gguf": b"x" * 1500, "README.md": b"# Tiny\n"}
NOTES = {
    "show": "note: requant show is now requant verify; the old name stays for two minor versions\n",
    "compare": "note: requant compare is now requant diff; the old name stays for two minor versions\n",
    "compare-behaviour": (
        "note: requant compare-behaviour is now requant diff; the old name stays for two minor versions\n"
    ),
}


def test_they_are_hidden() -> None:
    assert {name for name, verb in main.commands.items() if verb.hidden} == NOTES.keys()
    assert not any(f"  {name} " in run("--help")[1] for name in NOTES)


# show


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    lines = [f"{hashlib.sha256(FILES[name]).hexdigest()}  {name}\n" for name in sorted(FILES)]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def test_show(files: Path) -> None:
    code, out, err = run("show", files)
    assert (code, err) == (0, NOTES["show"])
    assert out.splitlines() == [
        f"release: {files}",
        f"  README.md          7 B  {hashlib.sha256(FILES['README.md']).hexdigest()}",
        f"  imatrix.gguf    1.5 kB  {hashlib.sha256(FILES['imatrix.gguf']).hexdigest()}",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"y" * 1500, "error: imatrix.gguf has SHA-256 "),
        (None, "lacks imatrix.gguf, which SHA256SUMS names: get the file again"),
    ],
    ids=["other bytes", "a missing file"],
)
def test_show_a_bad_release(files: Path, content: bytes | None, words: str) -> None:
    (files / "imatrix.gguf").unlink()
    if content:
        (files / "imatrix.gguf").write_bytes(content)
    code, out, err = run("show", files)
    assert (code, out) == (1, "")
    note, error = err.splitlines(keepends=True)
    assert note == NOTES["show"]
    assert words in error


@pytest.mark.parametrize("name", ["absent", "release/README.md", "."])
def test_show_what_is_no_release(files: Path, name: str) -> None:
    code, out, err = run("show", files.parent / name)
    assert (code, out) == (2, "")
    error = f"error: {files.parent / name} holds no SHA256SUMS: it is not a finished release\n"
    assert err == NOTES["show"] + error


# compare and compare-behaviour


def matrix(path: Path, value: float) -> Path:
    tensors = {"w.in_sum2": np.full((1, 4), value, np.float32), "w.counts": np.full((1, 1), 8, np.float32)}
    return write_imatrix(path, tensors)


def test_compare_ends_with_0_however_much_differs(tmp_path: Path) -> None:
    a, b, out = matrix(tmp_path / "a", 1), matrix(tmp_path / "b", 2), tmp_path / "report.json"
    code, said, err = run("compare", a, b, "--json", out)
    assert (code, said, err) == (0, as_text(compare(a, b)) + "\n", NOTES["compare"])
    assert out.read_bytes() == canonical(as_document(compare(a, b)))
    assert json.loads(out.read_bytes())["schema"] == "requant/compare/v1"


@pytest.mark.parametrize(
    "options", [("--quantize", "m"), ("--type", "Q4_K_M", "--tool", "t"), ("--quantize", "m", "--type", "Q4_K_M")]
)
@pytest.mark.parametrize("verb", ["compare", "diff"])
def test_options_that_belong_together(tmp_path: Path, verb: str, options: tuple[str, ...]) -> None:
    a = matrix(tmp_path / "a", 1)
    code, out, err = run(verb, a, a, *options)
    assert (code, out) == (2, "")
    assert err.endswith("error: --quantize, --type and --tool belong together: give all three or none\n")


def test_compare_behaviour_ends_with_0_however_much_differs(tmp_path: Path) -> None:
    for name, outcome in (("a", "passed"), ("b", "failed")):
        write_results({"suite": "s"}, [{"id": "q", "outcome": outcome}], tmp_path / name)
    code, out, err = run("compare-behaviour", tmp_path / "a", tmp_path / "b")
    assert (code, err) == (0, NOTES["compare-behaviour"])
    assert "only A: q\n" in out and out.endswith("exact McNemar p value: 1\n")
