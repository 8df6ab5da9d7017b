"""requant.documents.manifest: typed parts say what the JSON says, and which files of a release are described."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requant.documents.consistency import disagreements
from requant.documents.entries import File
from requant.documents.file_names import CARD, IMATRIX, MANIFEST
from requant.documents.manifest import Manifest, read_manifest
from requant.documents.sums import read_sums
from requant.ground.canonical import canonical, parse
from requant.ground.digests import Digest, digest_file
from requant.release.verify import verify_release
from support.checkout import ROOT
from support.small_release import QUANT, finish, write_release

GOLDEN = ROOT / "tests" / "golden" / "v1"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("manifest") / "release")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("sharded") / "release", shards=3)


@pytest.fixture(scope="module", params=["small", "sharded", "golden"])
def folder(request: pytest.FixtureRequest, release: Path, sharded: Path) -> Path:
    """Three releases: two written by this code, one calibrated in shards, and one by an older requant."""
    return {"small": release, "sharded": sharded, "golden": GOLDEN}[request.param]


def test_the_document_stays_as_it_was(folder: Path) -> None:
    data = (folder / MANIFEST).read_bytes()
    document = parse(data, MANIFEST)
    assert Manifest.of(document).document is document
    assert canonical(read_manifest(folder / MANIFEST).document) == data


def test_the_files_are_those_of_the_release(folder: Path) -> None:
    """``SHA256SUMS`` names them, with the same digests, and besides them only the papers."""
    files, sums = read_manifest(folder / MANIFEST).files, read_sums(folder)
    assert {name: digest.sha256 for name, digest in files.items()} == {name: sums[name] for name in files}
    assert sums.keys() - files.keys() == {CARD, MANIFEST}


def test_the_files_are_whole(release: Path) -> None:
    found = read_manifest(release / MANIFEST).files
    assert found == {name: digest_file(release / name) for name in (IMATRIX, QUANT)}
    assert [*found] == [IMATRIX, QUANT], "in the order in which they were made"


def test_outputs_are_what_the_steps_made(folder: Path) -> None:
    manifest = read_manifest(folder / MANIFEST)
    assert [step.products for step in manifest.steps] == [(file,) for file in manifest.outputs]
    assert manifest.outputs[0] == manifest.bf16.file
    assert {file.name: file.digest for file in manifest.outputs if file.name in manifest.files} == manifest.files
    others = manifest.outputs[: -len(manifest.files)]
    assert others == (manifest.bf16.file, *manifest.imatrix.shards), "which are not released"


def test_parts_say_what_the_json_says(folder: Path) -> None:
    manifest = read_manifest(folder / MANIFEST)
    document = manifest.document
    assert manifest.name == document["recipe"]["document"]["name"]
    assert manifest.bf16.file.entry == document["model"]["file"]
    assert [file.entry for file in manifest.inputs.weights.files] == document["inputs"]["model"]["files"]
    assert {role: text.entry for role, text in manifest.inputs.corpus.texts.items()} == document["inputs"]["corpus"][
        "texts"
    ]
    assert manifest.inputs.toolchain.commit == document["inputs"]["toolchain"]["commit"]
    assert manifest.imatrix.variant == document["imatrix"]["arithmetic"]
    for quant, entry in zip(manifest.quants, document["quants"], strict=True):
        tensors = [
            {"name": tensor.name, "type": tensor.type, "shape": [*tensor.shape], "sha256": tensor.sha256}
            for tensor in quant.tensors
        ]
        assert (quant.file.entry, quant.type, tensors) == (entry["file"], entry["type"], entry["tensors"])
    for step, entry in zip(manifest.steps, document["steps"], strict=True):
        sides = ([file.entry for file in side] for side in (step.materials, step.products))
        assert (step.name, [*step.command], *sides) == tuple(
            entry[key] for key in ("name", "command", "materials", "products")
        )


Document = dict[str, Any]
CONTRADICTIONS: dict[str, tuple[Callable[[Document], object], str]] = {
    "one shard less": (lambda found: found["imatrix"]["shards"].pop(), "imatrix.shards"),
    "none": (lambda found: found["imatrix"].pop("shards"), "imatrix.shards"),
    "other shards than were added up": (lambda found: found["steps"][4]["materials"].pop(), "steps.4.materials"),
    "a shard of another model": (lambda found: found["steps"][2]["materials"].pop(0), "steps.2.materials"),
    "a step without a shard": (lambda found: found["steps"].pop(1), "steps"),
    "in another order": (lambda found: found["imatrix"]["shards"].reverse(), "steps.1.products"),
}


@pytest.mark.parametrize(("change", "where"), CONTRADICTIONS.values(), ids=list(CONTRADICTIONS))
def test_shards_agree_with_recipe_and_steps(sharded: Path, change: Callable[[Document], object], where: str) -> None:
    document = parse((sharded / MANIFEST).read_bytes(), MANIFEST)
    assert [*disagreements(Manifest.of(document))] == []
    change(document)
    assert f"{MANIFEST}: {where}" in [found.where for found in disagreements(Manifest.of(document))]


def test_what_is_said_of_unseen_experts_is_compared(tmp_path: Path) -> None:
    folder = write_release(tmp_path / "release")
    document = parse((folder / MANIFEST).read_bytes(), MANIFEST)
    document["imatrix"]["unseen"] = [{"name": "blk.0.attn_q.weight", "experts": 2, "unseen": 1}]
    (folder / MANIFEST).write_bytes(canonical(document))
    finish(folder)
    assert read_manifest(folder / MANIFEST).imatrix.unseen == {"blk.0.attn_q.weight": 1}
    assert [found.where for found in verify_release(folder).findings] == [f"{IMATRIX}: unseen"]


PLACES: dict[str, tuple[dict[str, Any], str | None]] = {
    "generated": ({"repo": None, "revision": None}, None),
    "at a hub": ({"repo": "Org/Big", "revision": "a" * 40}, f"Org/Big@{'a' * 40}"),
    "in a package, of no commit": ({"repo": "Org/Big", "revision": None}, None),
}


@pytest.mark.parametrize(("place", "found"), PLACES.values(), ids=list(PLACES))
def test_where_the_weights_lie(release: Path, place: dict[str, Any], found: str | None) -> None:
    document = parse((release / MANIFEST).read_bytes(), MANIFEST)
    document["inputs"]["model"] |= place
    assert Manifest.of(document).weights_source == found


def test_a_file_and_its_entry() -> None:
    entry = {"name": "a.gguf", "size": 7, "sha256": "0" * 64}
    assert File.of(entry).entry == entry
    assert File.of(entry).digest == Digest(7, "0" * 64)
