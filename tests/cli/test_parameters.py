"""requant.cli.parameters: what goes to standard output, and what is written."""

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from requant.cli.main import main
from requant.cli.parameters import STANDARD_OUTPUT, hand_out, keep_inputs
from requant.ground.canonical import canonical

BOLD = "\x1b[1mexact\x1b[0m"
DOCUMENT = {"verdict": "exact"}


def test_colours_that_were_chosen_stay(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is no terminal here, but rich may have been told to colour all the same."""
    hand_out(BOLD, DOCUMENT, None)
    assert capsys.readouterr().out == f"{BOLD}\n"


def test_the_document_goes_where_it_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hand_out("exact", DOCUMENT, tmp_path / "report.json")
    assert (capsys.readouterr().out, (tmp_path / "report.json").read_bytes()) == ("exact\n", canonical(DOCUMENT))
    hand_out("exact", DOCUMENT, STANDARD_OUTPUT)
    assert capsys.readouterr().out.encode() == canonical(DOCUMENT)


PAGE = "https://huggingface.co/a/b/blob/main/x.gguf"
HERE: dict[str, list[str]] = {
    "verify": ["verify", PAGE],
    "diff": ["diff", "pyproject.toml", PAGE],
    "attest": ["attest", PAGE],
    "convert": ["convert", PAGE, "x.gguf"],
}


@pytest.mark.parametrize("arguments", HERE.values(), ids=list(HERE))
def test_what_does_not_lie_here_is_to_be_fetched_first(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, arguments)
    fetch = "hf download a/b x.gguf --revision main --local-dir b"
    assert done.stderr == f"error: {PAGE} does not lie on this machine: fetch it first, with {fetch}\n"
    assert (done.exit_code, done.stdout) == (2, "")


def test_what_lies_here_may_be_called_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(PAGE).mkdir(parents=True)
    assert "holds no SHA256SUMS" in CliRunner().invoke(main, ["verify", PAGE]).stderr


def test_what_is_read_is_not_written(tmp_path: Path) -> None:
    """Under any name that it has, nor another part of it, nor whatever lies in a folder that is read."""
    folder, quant = tmp_path / "release", tmp_path / "release" / "quant.gguf"
    folder.mkdir()
    quant.write_bytes(b"GGUF")
    (tmp_path / "link").symlink_to(quant)
    (tmp_path / "hard").hardlink_to(quant)
    parts = [folder / f"quant-0000{number}-of-00002.gguf" for number in (1, 2)]
    parts[1].touch()
    for inputs, out in (
        ([quant], quant), ([quant], tmp_path / "link"), ([quant], tmp_path / "hard"), ([folder], quant), (parts[:1], parts[1]),
    ):  # fmt: skip
        with pytest.raises(click.UsageError, match="is read by this command: name another file to write"):
            keep_inputs([None, *map(str, inputs)], [None, STANDARD_OUTPUT, out])
    keep_inputs([folder, "x" * 300, "hf://a/b"], [folder / "new.json", tmp_path / "report.json", STANDARD_OUTPUT])


@pytest.mark.parametrize("name", ["manifest.json", "imatrix.gguf", "Model.dat", "weights.imatrix", "other.gguf"])
def test_what_is_looked_for_beside_a_file_is_not_written(tmp_path: Path, name: str) -> None:
    """An audit that is given the quant alone finds these."""
    quant, out = tmp_path / "quant.gguf", tmp_path / name
    quant.write_bytes(b"GGUF")
    keep_inputs([quant], [out])
    out.write_bytes(b"kept")
    with pytest.raises(click.UsageError, match="is read by this command: name another file to write"):
        keep_inputs([quant], [out])
    (tmp_path / "report.json").touch()
    keep_inputs([quant], [tmp_path / "report.json"])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / name).touch()
    keep_inputs([quant], [tmp_path / "elsewhere" / name])
    keep_inputs([tmp_path / "elsewhere"], [out])


def test_nothing_is_written_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    for one, other in ((Path("x.json"), tmp_path / "x.json"), (Path("x"), Path("a/../x"))):
        with pytest.raises(click.UsageError, match="is to be written twice"):
            keep_inputs([], [one, STANDARD_OUTPUT, other])
    keep_inputs([], [Path("x.json"), Path("a/x.json"), STANDARD_OUTPUT, STANDARD_OUTPUT])


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    """Root could: what is written gets its name when it is whole, and takes it away from what has it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "lost").symlink_to("/proc/self/fd/1")
    for out in (Path("/dev/null"), Path("/dev/full"), tmp_path / "pipe", tmp_path / "link", tmp_path / "lost"):
        done = CliRunner().invoke(main, ["audit", str(tmp_path / "none.gguf"), "--source", "x/", "--json", str(out)])
        assert (done.exit_code, "is no file but a device or the like" in done.stderr) == (2, True), done.stderr


ENDPOINT = ["--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--out"]
WRITES = {
    "diff": ["diff", "a.gguf", "b.gguf", "--json", "b.gguf"],
    "diff, of the tool": ["diff", "a.gguf", "a.gguf", "--tool", "b.gguf", "--json", "b.gguf"],
    "compare": ["compare", "b.gguf", "a.gguf", "--json", "./b.gguf"],
    "verify": ["verify", "M", "--json", "M/model.safetensors"],
    "verify, the key": ["verify", "M", "--key", "b.gguf", "--json", "b.gguf"],
    "audit": ["audit", "a.gguf", "--source", "b.gguf", "--json", "b.gguf"],
    "convert": ["convert", "M", "M/model.safetensors"],
    "evaluate": ["evaluate", "b.gguf", *ENDPOINT, "b.gguf"],
}


@pytest.mark.parametrize("arguments", WRITES.values(), ids=list(WRITES))
def test_no_verb_writes_over_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {Path(name): name.encode() for name in ("a.gguf", "b.gguf", "M/model.safetensors")}
    Path("M").mkdir()
    for path, data in files.items():
        path.write_bytes(data)
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, "is read by this command: name another file to write" in done.stderr) == (2, True), done
    assert {path: path.read_bytes() for path in files} == files
