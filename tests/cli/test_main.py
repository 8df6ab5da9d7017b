"""The ``requant`` command as people run it: exit codes, one line on standard error, no traceback."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import requant
from requant import __version__

MAIN = "from requant.cli.main import main; main(prog_name='requant')"
FILES = {"imatrix.gguf": b"x" * 1500, "README.md": b"# Tiny\n"}


def run(*arguments: str | Path) -> tuple[int, str, str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(requant.__file__).parents[1])}
    command = [sys.executable, "-c", MAIN, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    lines = [f"{hashlib.sha256(FILES[name]).hexdigest()}  {name}\n" for name in sorted(FILES)]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return folder


def test_show(release: Path) -> None:
    status, out, err = run("show", release)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"release: {release}",
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
def test_show_a_bad_release(release: Path, content: bytes | None, words: str) -> None:
    (release / "imatrix.gguf").unlink()
    if content:
        (release / "imatrix.gguf").write_bytes(content)
    status, out, err = run("show", release)
    assert (status, out) == (1, "")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["absent", "release/README.md", "."])
def test_show_what_is_no_release(release: Path, name: str) -> None:
    status, out, err = run("show", release.parent / name)
    assert (status, out) == (2, "")
    assert err == f"error: {release.parent / name} holds no SHA256SUMS: it is not a finished release\n"


@pytest.mark.parametrize(
    "arguments", [("show",), ("shwo", "x"), ("show", "a", "b"), ("--what",), ("show", "--what", "x")]
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "Usage: requant" in err
    assert "Error: " in err


def test_help_and_version() -> None:
    status, out, _ = run("--help")
    assert status == 0
    assert "show" in out
    status, out, _ = run("--version")
    assert (status, out) == (0, f"requant, version {__version__}\n")
