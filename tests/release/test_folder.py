"""requant.release.folder: what is uploaded is what the manifest describes, and a folder from outside is not trusted."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requant.documents.file_names import SUMS
from requant.documents.records import file_entry, write_record
from requant.ground.canonical import canonical
from requant.ground.digests import digest_bytes, digest_file
from requant.ground.errors import DigestError, FormatError, RequantError
from requant.release.folder import (
    list_release,
    place_file,
    write_manifest,
    write_sums,
)

FILES = {"imatrix.gguf": b"imatrix", "Tiny-Q4_K_M.gguf": b"weights", "README.md": b"# Tiny\n"}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A finished release, made as the workflow makes it."""
    products, folder = tmp_path / "products", tmp_path / "release"
    products.mkdir()
    for name, data in FILES.items():
        (products / name).write_bytes(data)
        place_file(products / name, folder / name)
    entries = {name: file_entry(name, digest_bytes(data)) for name, data in FILES.items()}
    manifest = {"imatrix": {"file": entries["imatrix.gguf"]}, "quants": [{"file": entries["Tiny-Q4_K_M.gguf"]}]}
    (folder / "manifest.json").write_bytes(canonical(manifest))
    write_sums([folder / name for name in FILES], folder / "manifest.json", folder / SUMS)
    return folder


def test_sha256sum_accepts_the_release(release: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS], cwd=release, capture_output=True, text=True, check=True
    )
    names = sorted([*FILES, "manifest.json"])
    assert done.stdout.splitlines() == [f"{name}: OK" for name in names], "every file once, sorted by name"
    assert [entry["name"] for entry in list_release(release)] == names
    assert (
        list_release(release)[0]["sha256"] == hashlib.sha256(FILES["README.md"]).hexdigest() or names[0] != "README.md"
    )


def test_placing_does_not_copy(tmp_path: Path) -> None:
    (tmp_path / "product").write_bytes(b"x")
    place_file(tmp_path / "product", tmp_path / "release" / "name")
    assert (tmp_path / "release" / "name").stat().st_ino == (tmp_path / "product").stat().st_ino
    (tmp_path / "other").write_bytes(b"y")
    place_file(tmp_path / "other", tmp_path / "release" / "name")
    assert (tmp_path / "release" / "name").read_bytes() == b"y"
    assert (tmp_path / "product").read_bytes() == b"x", "the product that lay there before is not written through"
    assert [path.name for path in (tmp_path / "release").iterdir()] == ["name"]


def test_placing_where_links_are_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "product").write_bytes(b"x")
    place_file(tmp_path / "product", tmp_path / "release" / "name")
    assert (tmp_path / "release" / "name").read_bytes() == b"x"
    assert (tmp_path / "release" / "name").stat().st_ino != (tmp_path / "product").stat().st_ino


def test_sums_are_not_written_for_other_files(release: Path) -> None:
    (release / SUMS).unlink()
    (release / "Tiny-Q4_K_M.gguf").unlink()
    (release / "Tiny-Q4_K_M.gguf").write_bytes(b"changed")
    with pytest.raises(FormatError, match=r"Tiny-Q4_K_M\.gguf is not the file that manifest\.json describes: remove"):
        write_sums([release / name for name in FILES], release / "manifest.json", release / SUMS)
    assert not (release / SUMS).exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.unlink()
    path.write_bytes(data)


def sums(text: str | bytes) -> Callable[[Path], object]:
    data = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / SUMS).write_bytes(data)


def with_evil_name(folder: Path) -> None:
    """A file whose name would move the cursor of whoever lists the release."""
    name = "\x1b[2Jevil"
    (folder / name).write_bytes(b"x")
    (folder / SUMS).write_text(f"{digest_file(folder / name).sha256}  {name}\n")


def folder_for_file(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()


ZEROS = "0" * 64
BAD: dict[str, tuple[Callable[[Path], object], type[RequantError], str]] = {
    "a flipped bit": (lambda folder: flip(folder / "Tiny-Q4_K_M.gguf"), DigestError, "Tiny-Q4_K_M.gguf has SHA-256 "),
    "a flipped bit in the manifest": (lambda folder: flip(folder / "manifest.json"), DigestError, "manifest.json has SHA"),
    "a missing file": (lambda folder: (folder / "README.md").unlink(), DigestError, "lacks README.md, which SHA256SUMS"),
    "no sums": (lambda folder: (folder / SUMS).unlink(), FormatError, "holds no SHA256SUMS: it is not a finished release"),
    "no folder": (shutil.rmtree, FormatError, "holds no SHA256SUMS"),
    "a folder for a file": (
        folder_for_file,
        DigestError,
        "lacks README.md",
    ),
    "nothing in it": (sums(""), FormatError, "SHA256SUMS names no file: get the file again"),
    "path traversal": (sums(f"{ZEROS}  ../secret\n"), FormatError, "line 1 is not '<sha256>  <name>': get the file again"),
    "an absolute path": (sums(f"{ZEROS}  /etc/passwd\n"), FormatError, "line 1 is not '<sha256>  <name>'"),
    "a folder": (sums(f"{ZEROS}  ..\n"), FormatError, "line 1 is not '<sha256>  <name>'"),
    "no name": (sums(f"{ZEROS}  \n"), FormatError, "line 1 is not '<sha256>  <name>'"),
    "one blank": (sums(f"{ZEROS} README.md\n"), FormatError, "line 1 is not '<sha256>  <name>'"),
    "no digest": (sums("README.md\n"), FormatError, "line 1 is not '<sha256>  <name>'"),
    "64 other characters": (sums(f"{'x' * 64}  README.md\n"), FormatError, "line 1 is not '<sha256>  <name>'"),
    "an escaped line": (sums(f"\\{ZEROS}  READ\\nME.md\n"), FormatError, "line 1 is not '<sha256>  <name>'"),
    "line injection": (
        sums(f"{hashlib.sha256(FILES['README.md']).hexdigest()}  README.md\r{ZEROS}  ../secret\n"),
        FormatError,
        "is not '<sha256>  <name>'",
    ),
    "control characters": (with_evil_name, FormatError, "line 1 is not '<sha256>  <name>'"),
    "a null": (sums(f"{ZEROS}  READ\0ME.md\n"), FormatError, "line 1 is not '<sha256>  <name>'"),
    "another encoding": (sums(b"\xff\xfe"), FormatError, "is not '<sha256>  <name>'"),
    "endless": (sums(f"{ZEROS}  README.md\n" * 100_000), FormatError, "SHA256SUMS is too long"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "words"), BAD.values(), ids=list(BAD))
def test_bad_folders(release: Path, change: Callable[[Path], object], kind: type[RequantError], words: str) -> None:
    change(release)
    with pytest.raises(kind) as error:
        list_release(release)
    assert words in str(error.value)
    assert str(error.value).isprintable(), "one line, and nothing that a terminal would obey"


def test_the_manifest_is_the_same_from_the_same_records(tmp_path: Path) -> None:
    records: dict[str, dict[str, Any]] = {
        "model": {"name": "Tiny"},
        "strict": {"variant": "strict", "definitions": {}, "flags": [], "own_code": [], "compilers": {"c": "gcc"}},
        "bf16": {"file": {}, "step": {"name": "convert"}},
        "imatrix": {
            "file": {},
            "arithmetic": "native",
            "settings": {},
            "features": ["avx2"],
            "step": {"name": "calibrate"},
        },
        "quant": {"file": {}, "step": {"name": "quantize"}},
    }
    for name, record in records.items():
        write_record(tmp_path / f"{name}.json", record)
    paths = {name: tmp_path / f"{name}.json" for name in records}
    for out in ("one", "two"):
        write_manifest(
            {"recipe": 1}, {"model": paths["model"]}, [paths["strict"]], paths["bf16"], paths["imatrix"],
            [paths["quant"]], tmp_path / out / "manifest.json",
        )  # fmt: skip
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "two" / "manifest.json").read_bytes()
    document = json.loads((tmp_path / "one" / "manifest.json").read_bytes())
    assert [step["name"] for step in document["steps"]] == ["convert", "calibrate", "quantize"]
