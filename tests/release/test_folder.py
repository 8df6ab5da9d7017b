"""requant.release.folder: what is uploaded is what the manifest describes, and a folder from outside is not trusted."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requant.documents.file_names import SUMS
from requant.documents.manifest import SCHEMA
from requant.documents.records import file_entry, write_record
from requant.formats.weights_root import weights_root
from requant.ground.canonical import canonical, parse
from requant.ground.digests import digest_file
from requant.ground.errors import DiskError, FormatError, MismatchError, RequantError, StaleError, UnsupportedError
from requant.release.bill_of_materials import write_bill
from requant.release.card import write_card
from requant.release.folder import build_manifest, list_release, place_file, write_manifest, write_sums
from support.small_release import IMATRIX, QUANT, write_release

NAMES = (IMATRIX, QUANT, "README.md")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A finished release, made as the workflow makes it."""
    products, folder = write_release(tmp_path / "products"), tmp_path / "release"
    for name in (*NAMES, "manifest.json"):
        place_file(products / name, folder / name)
    write_sums([folder / name for name in NAMES], folder / "manifest.json", folder / SUMS)
    return folder


def test_sha256sum_accepts_the_release(release: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS], cwd=release, capture_output=True, text=True, check=True
    )
    names = sorted([*NAMES, "manifest.json"])
    assert done.stdout.splitlines() == [f"{name}: OK" for name in names], "every file once, sorted by name"
    assert list_release(release) == [file_entry(name, digest_file(release / name)) for name in names]


def test_placing_leaves_the_product_alone(tmp_path: Path) -> None:
    """Snakemake touches what a rule made: through a hard link it would touch the product, and everything made of it."""
    product, placed = tmp_path / "product", tmp_path / "release" / "name"
    product.write_bytes(b"x")
    place_file(product, placed)
    before = product.stat().st_mtime_ns
    os.utime(placed, ns=(before + 10**12, before + 10**12))
    assert (product.stat().st_mtime_ns, product.stat().st_nlink) == (before, 1)
    (tmp_path / "other").write_bytes(b"y")
    place_file(tmp_path / "other", placed)
    assert placed.read_bytes() == b"y"
    assert product.read_bytes() == b"x", "the product that lay there before is not written through"
    assert [path.name for path in placed.parent.iterdir()] == ["name"]


def test_a_product_is_not_placed_on_a_full_disk(tmp_path: Path) -> None:
    product = tmp_path / "product"
    with product.open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(DiskError, match=r"^name needs 8\.8 TB on the disk of "):
        place_file(product, tmp_path / "release" / "name")
    assert not (tmp_path / "release").exists()


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "the sums": lambda manifest, out: write_sums([], manifest, out),
    "the card": lambda manifest, out: write_card(manifest, None, out),
    "the bill": write_bill,
}
BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no JSON": (lambda data: data[:-9], "manifest.json is not valid JSON"),
    "a list": (lambda _: b"[]\n", "manifest.json names no schema: get the file again"),
    "other spaces": (lambda data: data.replace(b'":', b'": ', 1), "manifest.json is not canonical JSON: get the file again"),
    "another version": (lambda data: data.replace(b"requant/manifest/v", b"requant/manifest/v9"), "install a requant that knows it"),
    "a missing key": (lambda data: canonical({key: value for key, value in parse(data, "m").items() if key != "quants"}), "manifest.json: quants is missing; write "),
}  # fmt: skip


@pytest.mark.parametrize("write", WRITERS.values(), ids=list(WRITERS))
@pytest.mark.parametrize(("change", "words"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_manifest_is_one_sentence(
    release: Path, write: Callable[[Path, Path], object], change: Callable[[bytes], bytes], words: str
) -> None:
    manifest, out = release / "manifest.json", release / "new"
    manifest.write_bytes(change(manifest.read_bytes()))
    with pytest.raises((FormatError, UnsupportedError)) as error:
        write(manifest, out)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not out.exists()


def test_sums_are_not_written_for_other_files(release: Path) -> None:
    (release / SUMS).unlink()
    (release / QUANT).unlink()
    (release / QUANT).write_bytes(b"changed")
    with pytest.raises(StaleError, match=rf"{QUANT} is not the file that manifest\.json describes: remove"):
        write_sums([release / name for name in NAMES], release / "manifest.json", release / SUMS)
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
    "a flipped bit": (lambda folder: flip(folder / QUANT), MismatchError, f"{QUANT} has SHA-256 "),
    "a flipped bit in the manifest": (lambda folder: flip(folder / "manifest.json"), MismatchError, "manifest.json has SHA"),
    "a missing file": (lambda folder: (folder / "README.md").unlink(), MismatchError, "lacks README.md, which SHA256SUMS"),
    "no sums": (lambda folder: (folder / SUMS).unlink(), FormatError, "holds no SHA256SUMS: it is not a finished release"),
    "no folder": (shutil.rmtree, FormatError, "holds no SHA256SUMS"),
    "a folder for a file": (
        folder_for_file,
        MismatchError,
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
        sums(f"{ZEROS}  README.md\r{ZEROS}  ../secret\n"),
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
        "quant": {"file": {}, "tensors": [], "step": {"name": "quantize"}},
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


# ---- what enters a manifest: no machine

RECIPE = {"recipe": 1, "name": "Tiny", "quants": ["Q4_K_M"]}


def step(name: str) -> dict[str, Any]:
    return {"name": name, "command": [name, "--threads", "{threads}"], "materials": [], "products": []}


def manifest(arithmetic: str = "native", features: tuple[str, ...] = ("avx2",), **build: Any) -> dict[str, Any]:
    builds = [
        {
            "variant": "strict",
            "definitions": {"GGML_CPU": "OFF"},
            "flags": ["-ffp-contract=off"],
            "own_code": [],
            **build,
        },
        {"variant": arithmetic, "definitions": {}, "flags": [], "own_code": [], **build},
    ]
    return build_manifest(
        RECIPE,
        {"model": {"name": "Tiny"}, "corpus": {"name": "text"}, "toolchain": {"name": "llama.cpp"}},
        builds,
        {"file": "m", "step": step("convert")},
        {"file": "i", "arithmetic": arithmetic, "features": list(features), "settings": {}, "step": step("calibrate")},
        [{"file": "q", "type": "Q4_K_M", "tensors": [], "step": step("quantize")}],
    )


def test_what_a_manifest_holds() -> None:
    document = manifest()
    assert document["schema"] == SCHEMA
    assert document["recipe"]["document"] == RECIPE
    assert [each["name"] for each in document["steps"]] == ["convert", "calibrate", "quantize"]
    assert document["quants"] == [{"file": "q", "type": "Q4_K_M", "tensors": [], "weights_root": weights_root([])}]
    assert document["model"] == {"file": "m"}
    assert parse(canonical(document), "manifest.json") == document


def test_compilers_and_binaries_stay_out() -> None:
    ours = manifest(compilers={"c": "gcc 12"}, binaries={"llama-quantize": {"size": 1, "sha256": "a"}}, commit="x")
    theirs = manifest(compilers={"c": "clang 19"}, binaries={"llama-quantize": {"size": 2, "sha256": "b"}}, commit="x")
    assert canonical(ours) == canonical(theirs)


@pytest.mark.parametrize(("arithmetic", "equal"), [("native", False), ("cuda-sm121", True), ("portable", True)])
def test_the_processor_counts_only_where_it_moves_bytes(arithmetic: str, *, equal: bool) -> None:
    ours, theirs = manifest(arithmetic, ("avx2",)), manifest(arithmetic, ("avx512f", "avx512_bf16"))
    assert (canonical(ours) == canonical(theirs)) == equal


def test_the_recipe_digest_is_of_its_one_form() -> None:
    document = manifest()
    again = json.loads(json.dumps(dict(reversed(RECIPE.items()))))
    other = build_manifest(again, {}, [], {"step": 1}, {"step": 2, "features": [], "arithmetic": "native"}, [])
    assert document["recipe"]["sha256"] == other["recipe"]["sha256"]
