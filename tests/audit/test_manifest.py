"""requant.audit.subject.manifest: each claim of a manifest beside a quant is compared, and each contradiction is evidence."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from requant.audit.metadata.comparison import Grade, MetadataFinding
from requant.audit.named_weights import open_weights
from requant.audit.recipe.imatrix import HashedImatrix, read_hashed
from requant.audit.subject.manifest import compare_claims
from requant.audit.subject.subject import open_subject
from requant.audit.weights.sweep import Sweep
from requant.audit.weights.tensor import TensorAudit
from requant.documents.entries import tensors
from requant.documents.file_names import MANIFEST
from requant.documents.pins import ToolchainPin
from requant.formats.ggml import Arithmetic, GGMLType
from requant.formats.weights_root import weights_root
from requant.ground.canonical import canonical, parse
from requant.ground.digests import Known
from requant.pipeline.describe import describe, tensor_entries
from requant.places.place import Place
from requant.quantization.verdict import Verdict
from support.small_release import IMATRIX, QUANT, write_release

PIN = ToolchainPin("llama.cpp", "c" * 40, "d" * 40, None, None, None)
SOURCE = f"Org/Big@{'a' * 40}"
TEXT = b"config.json"
"""What the small release's config.json holds."""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


class Opened:
    """The small release, opened, with the weights that its quant is said to be made of: its own tensors."""

    def __init__(self, release: Path, *, full: bool = True) -> None:
        self.subject = open_subject(str(release / QUANT))
        self.weights = replace(open_weights(str(release / QUANT)), texts={"config.json": TEXT})
        entries = tensors(tensor_entries(describe(release / QUANT)))
        audits = [TensorAudit(tensor, verdict=Verdict.EXACT) for tensor in self.subject.header.tensors]
        digests = {entry.name: entry.sha256 for entry in entries}
        self.sweep = Sweep(tuple(audits), Arithmetic.STRICT, GGMLType.F32, (), 8, 0, digests=digests if full else {},
                           source=entries if full else ())  # fmt: skip
        self.imatrix: HashedImatrix | None = read_hashed(open_subject(str(release / IMATRIX)).file)

    @property
    def found(self) -> list[MetadataFinding]:
        return compare_claims(self.subject, self.weights, self.sweep, self.imatrix, PIN)


def change(release: Path, *changes: tuple[str, object]) -> None:
    """Change a manifest at places such as ``quants.0.type``."""
    document = parse((release / MANIFEST).read_bytes(), MANIFEST)
    for path, value in changes:
        at, *rest = [int(part) if part.isdigit() else part for part in reversed(path.split("."))]
        inside = document
        for part in reversed(rest):
            inside = inside[part]
        inside[at] = value
    (release / MANIFEST).write_bytes(canonical(document))


def bf16_as_found(release: Path) -> None:
    """Let the manifest say of the converted GGUF what its quant has: then nothing contradicts anything."""
    document = parse((release / MANIFEST).read_bytes(), MANIFEST)
    change(release, ("model.tensors", document["quants"][0]["tensors"]))


@pytest.mark.parametrize("full", [True, False])
def test_what_agrees_is_not_mentioned(release: Path, full: bool) -> None:
    bf16_as_found(release)
    assert Opened(release, full=full).found == []


def test_without_a_manifest_there_is_nothing_to_compare(release: Path) -> None:
    (release / MANIFEST).unlink()
    assert Opened(release).found == []


OTHER = "e" * 64
FALSE: dict[str, tuple[list[tuple[str, object]], str, bool]] = {
    # What a sample sees too: sizes, names, types, shapes, the importance matrix, small files.
    "size": ([("quants.0.file.size", 5), ("steps.2.products.0.size", 5)], "the manifest's size is not what was found", True),
    "a tensor's type": ([("quants.0.tensors.0.type", "Q8_0")], "tensors are not those that were found: token_embd.weight", True),
    "a tensor's shape": (
        [(f"{at}.tensors.1.shape", [64, 63]) for at in ("quants.0", "model")], "tensors are not those that were found: blk.0.attn_q.weight", True,
    ),
    "importance matrix": (
        [("imatrix.file.sha256", OTHER), ("steps.1.products.0.sha256", OTHER), ("steps.2.materials.1.sha256", OTHER)],
        "the manifest's importance matrix is not what was found", True,
    ),
    "its shards": (
        [("recipe.document.calibration.shards", 2), ("imatrix.shards", [{"name": name, "size": 1, "sha256": OTHER} for name in "ab"])],
        "importance matrix's shards is not what was found", True,
    ),
    "its unseen experts": (
        [("imatrix.unseen", [{"name": "blk.0.attn_q.weight", "experts": 2, "unseen": 1}])],
        "importance matrix's unseen experts is not what was found", True,
    ),
    "its entries": ([("imatrix.entries", 9)], "importance matrix's entries is not what was found", True),
    "a small file of the weights": (
        [("inputs.model.files.0.sha256", OTHER), ("steps.0.materials.0.sha256", OTHER)], "files of weights are not those that were found: config.json", True,
    ),
    "the source's tree": ([("inputs.toolchain.tree", "e" * 40)], "the manifest's toolchain's tree is not what was found", True),
    "the recipe's digest": ([("recipe.sha256", OTHER)], "the manifest contradicts itself (manifest.json: recipe.sha256)", True),
    "one product": ([("steps.2.products.0.sha256", OTHER)], "the manifest contradicts itself (manifest.json: steps.2.products", True),
    # What only a full audit sees.
    "a tensor's digest": ([("quants.0.tensors.2.sha256", OTHER)], "tensors are not those that were found: output_norm.weight", False),
    "a converted tensor's digest": ([("model.tensors.2.sha256", OTHER)], "tensors of the weights are not those that were found: output_norm.weight", False),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence", "sampled"), FALSE.values(), ids=FALSE)
@pytest.mark.parametrize("full", [True, False])
def test_every_contradiction_is_evidence(
    release: Path, changes: list[tuple[str, object]], sentence: str, sampled: bool, full: bool
) -> None:
    bf16_as_found(release)
    change(release, *changes)
    if any(".tensors." in path for path, _ in changes):
        fresh_root(release)
    found = Opened(release, full=full).found
    said = [each.sentence for each in found if each.grade is Grade.SERIOUS]
    assert any(sentence in each for each in said) == (full or sampled), said
    assert len(said) <= 2 and all(each.isprintable() for each in said)


def fresh_root(release: Path) -> None:
    """The manifest's own weights root follows from what it says of its tensors."""
    document = parse((release / MANIFEST).read_bytes(), MANIFEST)
    change(release, ("quants.0.weights_root", weights_root(tensors(document["quants"][0]["tensors"]))))


def test_other_arithmetic(release: Path) -> None:
    """The workflow's tools are strict; where the tensors are not explained at all, their arithmetic says nothing."""
    bf16_as_found(release)
    opened = Opened(release)
    opened.sweep = replace(opened.sweep, arithmetic=Arithmetic.FUSED)
    assert [each.sentence for each in opened.found] == ["the manifest's arithmetic is not what was found"]
    opened.sweep.tensors[0].verdict = Verdict.MISMATCH
    assert opened.found == []


def test_of_the_label_only_what_both_say(release: Path) -> None:
    bf16_as_found(release)
    opened = Opened(release)
    for file_type, count in ((15, 0), (7, 1), (9999, 0), (None, 0)):
        subject = replace(opened.subject, inferred=replace(opened.subject.inferred, file_type=file_type))
        assert len(compare_claims(subject, opened.weights, opened.sweep, None, PIN)) == count, file_type


class Elsewhere(Place):
    """Weights at a hub, of which nothing but its records is known."""

    def __init__(self, spelled: str | None, sha256: str) -> None:
        self.spelled, self.names = spelled, ["config.json", "model.safetensors"]
        self._recorded = {name: Known(len(name), sha256) for name in self.names}

    def pinned(self, name: str | None) -> str:
        return str(self.spelled)

    def _found(self, name: str) -> Any:
        raise AssertionError("nothing is opened")


RECORDS: dict[str, tuple[str | None, str | None, str, list[Grade]]] = {
    "the very commit, right": (SOURCE, f"hf://{SOURCE}", "right", []),
    "the very commit, wrong": (SOURCE, f"hf://{SOURCE}", "wrong", [Grade.SERIOUS]),
    "another commit": (SOURCE, f"hf://Org/Big@{'b' * 40}", "wrong", [Grade.HARMLESS]),
    "another repository": (SOURCE, f"hf://Other/Big@{'a' * 40}", "wrong", [Grade.HARMLESS]),
    "another hub": (SOURCE, f"ms://{SOURCE}", "wrong", [Grade.UNCHECKED]),
    "somewhere": (SOURCE, None, "wrong", [Grade.UNCHECKED]),
    "somewhere, right": (SOURCE, None, "right", []),
    "of no repository": (None, f"hf://{SOURCE}", "wrong", [Grade.UNCHECKED]),
}


@pytest.mark.parametrize(("claimed", "spelled", "record", "grades"), RECORDS.values(), ids=RECORDS)
def test_files_of_weights_are_compared_where_they_are_the_same(
    release: Path, claimed: str | None, spelled: str | None, record: str, grades: list[Grade]
) -> None:
    """Another revision of the weights may be as good, and is nobody's fault."""
    bf16_as_found(release)
    repo, _, revision = (claimed or "").partition("@")
    change(release, ("inputs.model.repo", repo or None), ("inputs.model.revision", revision or None))
    opened = Opened(release)
    sha256 = OTHER
    place = Elsewhere(spelled, sha256)
    if record == "right":
        place._recorded = {name: Known(len(name), hashlib.sha256(name.encode()).hexdigest()) for name in place.names}
    weights = replace(opened.weights, place=place, texts={})
    found = compare_claims(opened.subject, weights, opened.sweep, opened.imatrix, PIN)
    assert [each.grade for each in found] == grades, found
    if grades == [Grade.UNCHECKED] and claimed:
        assert f"name hf://{claimed} to find out why" in found[0].sentence


def test_files_whose_existence_alone_is_looked_at(release: Path) -> None:
    bf16_as_found(release)
    change(release, ("inputs.model.files.0.name", "tekken.json"), ("steps.0.materials.0.name", "tekken.json"))
    opened = Opened(release)
    place = Elsewhere(None, "")
    place.names = ["tekken.json"]
    place._recorded = {"tekken.json": Known(len(TEXT), hashlib.sha256(TEXT).hexdigest())}
    opened.weights = replace(opened.weights, place=place, texts={"tekken.json": b""})
    assert opened.found == []
