"""One digest for the weights of a GGUF: what changes it, what does not, and that a manifest may not lie about it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from requant.documents.consistency import disagreements
from requant.documents.file_names import MANIFEST
from requant.documents.manifest import SCHEMA, SCHEMAS, Manifest, alike, read_manifest
from requant.formats.weights_root import TensorEntry, weights_root
from requant.ground.canonical import canonical, parse
from requant.ground.errors import FormatError
from support.checkout import ROOT
from support.small_release import write_release

A, B = (TensorEntry(name, "Q4_K", (256, 2), name * 64) for name in "ab")


def test_it_is_what_the_documents_say() -> None:
    """docs/attestation.md, done with nothing of ours."""
    entries = [{"name": each.name, "type": each.type, "shape": [*each.shape], "sha256": each.sha256} for each in (A, B)]
    text = json.dumps(entries, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    assert weights_root([A, B]) == hashlib.sha256(text.encode()).hexdigest()
    assert weights_root([B, A]) == weights_root([A, B]), "the order of the file is none of its weights"


@pytest.mark.parametrize(
    "changed",
    [
        replace(A, name="c"), replace(A, type="Q5_K"), replace(A, shape=(2, 256)), replace(A, shape=(256, 2, 1)),
        replace(A, sha256="c" * 64), B,
    ],
)  # fmt: skip
def test_everything_else_changes_it(changed: TensorEntry) -> None:
    assert weights_root([changed, B]) != weights_root([A, B])


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    release = write_release(tmp_path_factory.mktemp("root") / "release")
    found: dict[str, Any] = parse((release / MANIFEST).read_bytes(), MANIFEST)
    return found


def test_a_manifest_has_one_for_each_quant(document: dict[str, Any]) -> None:
    assert document["schema"] == SCHEMA == SCHEMAS[-1]
    manifest = Manifest.of(document)
    assert [quant.weights_root for quant in manifest.quants] == [
        weights_root(quant.tensors) for quant in manifest.quants
    ]
    assert [*disagreements(manifest)] == []


def test_one_that_does_not_follow_from_the_tensors(document: dict[str, Any]) -> None:
    quants = [{**document["quants"][0], "weights_root": "0" * 64}]
    [found] = disagreements(Manifest.of({**document, "quants": quants}))
    assert (found.where, found.actual) == (f"{MANIFEST}: quants.0.weights_root", "0" * 64)


def older(document: dict[str, Any]) -> dict[str, Any]:
    quants = [{key: value for key, value in quant.items() if key != "weights_root"} for quant in document["quants"]]
    return {**document, "schema": SCHEMAS[0], "quants": quants}


FORMS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], bool]] = {
    "this version": (dict, True),
    "the first": (older, True),
    "the first, with a root": (lambda document: {**document, "schema": SCHEMAS[0]}, False),
    "this version without a root": (lambda document: {**older(document), "schema": SCHEMA}, False),
}


@pytest.mark.parametrize(("form", "right"), FORMS.values(), ids=FORMS)
def test_versions(
    document: dict[str, Any], tmp_path: Path, form: Callable[[dict[str, Any]], dict[str, Any]], right: bool
) -> None:
    (tmp_path / MANIFEST).write_bytes(canonical(form(document)))
    if right:
        read_manifest(tmp_path / MANIFEST)
    else:
        with pytest.raises(FormatError, match=r"^manifest\.json: quants\.0\.weights_root stands in"):
            read_manifest(tmp_path / MANIFEST)


def test_two_versions_of_one_release_are_the_same(document: dict[str, Any]) -> None:
    """A release that is made again from a manifest of version 1 gets one of this version."""
    one, other = alike(Manifest.of(document), Manifest.of(older(document)))
    assert one == other == older(document)
    assert alike(Manifest.of(document), Manifest.of(document)) == (document, document)
    golden = read_manifest(ROOT / "tests" / "golden" / "v1" / MANIFEST)
    assert golden.document["schema"] == SCHEMAS[0] and golden.quants[0].weights_root is None
