"""The bill of materials: CycloneDX by its own library, the same bytes for a manifest, with every digest that it names."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from requant.documents.file_names import BILL_OF_MATERIALS
from requant.documents.manifest import Manifest, read_manifest
from requant.ground.canonical import canonical
from requant.ground.digests import SHA256, digest_bytes
from requant.ground.errors import FormatError
from requant.release import bill_of_materials as bills
from requant.release.bill_of_materials import bill_of_materials, write_bill
from requant.release.card import render_card
from requant.release.verify import verify_release
from support.checkout import ROOT
from support.manifests import KINDS, hub_model, local_model, packaged_model
from support.small_release import finish

STRICT = JsonStrictValidator(SchemaVersion.V1_6)
every_kind = pytest.mark.parametrize("kind", KINDS)


def made_of(document: dict[str, Any]) -> bytes:
    """The bill of a manifest whose steps say no more than their commands."""
    steps = [{**step, "materials": [], "products": []} for step in document["steps"]]
    return bill_of_materials(Manifest.of({**document, "steps": steps}))


def bill(document: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(made_of(document)))


def values(part: Any, key: str) -> Iterator[Any]:
    """What stands under a key, anywhere."""
    for name, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        if name == key:
            yield value
        yield from values(value, key)


@every_kind
def test_it_is_what_it_says_it_is(kind: Callable[[], dict[str, Any]]) -> None:
    assert STRICT.validate_str(made_of(kind()).decode()) is None


@every_kind
def test_names_within_it_are_unique_and_lead_somewhere(kind: Callable[[], dict[str, Any]]) -> None:
    found = bill(kind())
    names = [*values(found, "bom-ref")]
    assert len(names) == len({*names})
    used = {*values(found, "ref"), *(name for each in values(found, "dependsOn") for name in each)}
    assert used <= {*names} and len(found["dependencies"]) == 3 + len(kind()["quants"])


@every_kind
def test_every_file_from_outside_and_every_product_is_in_it(kind: Callable[[], dict[str, Any]]) -> None:
    document = kind()
    made = [document["model"]["file"], document["imatrix"]["file"], *(quant["file"] for quant in document["quants"])]
    wanted = {*values(document["inputs"], "sha256"), *values(made, "sha256")} - {None}
    assert len(wanted) > 6
    assert {digest["content"] for each in values(bill(document), "hashes") for digest in each} == wanted


def test_the_same_manifest_gives_the_same_bytes_and_another_one_another_number() -> None:
    document = hub_model()
    first = made_of(document)
    assert first == made_of(hub_model()) == canonical(json.loads(first))
    assert "timestamp" not in first.decode()
    document["recipe"]["document"]["name"] = "Other"
    other = bill(document)["serialNumber"]
    assert other != json.loads(first)["serialNumber"]


def test_weights_have_an_address_where_others_can_get_them() -> None:
    weights = [
        next(part for part in bill(kind())["components"] if part["bom-ref"] == "weights")
        for kind in (hub_model, packaged_model, local_model)
    ]
    assert weights[0]["purl"] == f"pkg:huggingface/{weights[0]['name']}@{weights[0]['version']}"
    assert weights[1]["purl"].startswith("pkg:pypi/")
    assert "purl" not in weights[2] and "version" not in weights[2]


def test_only_what_was_calibrated_names_the_corpus() -> None:
    parts = {part["bom-ref"]: part for part in bill(hub_model())["components"]}
    named = {name for name, part in parts.items() if "datasets" in part.get("modelCard", {}).get("modelParameters", {})}
    assert named == {quant["file"]["name"] for quant in hub_model()["quants"]}


def test_what_the_library_refuses_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bills,
        "bill_of_materials",
        lambda _: b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": "random"}',
    )
    with pytest.raises(FormatError, match=r"^bom\.cdx\.json would be no CycloneDX document: "):
        write_bill(ROOT / "tests" / "golden" / "v1" / "manifest.json", tmp_path / BILL_OF_MATERIALS)
    assert not [*tmp_path.iterdir()]


# In a release.


@pytest.fixture
def billed(release: Path) -> Path:
    """The small release as a recipe with a bill would have made it."""
    document = json.loads((release / "manifest.json").read_bytes())
    recipe = document["recipe"]["document"] | {"bill_of_materials": "cyclonedx"}
    document["recipe"] = {"document": recipe, "sha256": digest_bytes(canonical(recipe)).sha256}
    (release / "manifest.json").write_bytes(canonical(document))
    write_bill(release / "manifest.json", release / BILL_OF_MATERIALS)
    finish(release)
    return release


def test_a_release_with_a_bill_agrees_and_its_card_names_it(billed: Path) -> None:
    found = verify_release(billed)
    assert (found.verdict, found.findings, found.unchecked) == ("agrees", (), ())
    assert BILL_OF_MATERIALS in (billed / "SHA256SUMS").read_text()
    assert (billed / "README.md").read_text().count(f"| `{BILL_OF_MATERIALS}` |") == 2
    manifest = read_manifest(billed / "manifest.json")
    assert (billed / BILL_OF_MATERIALS).read_bytes() == bill_of_materials(manifest)


def test_a_bill_that_is_missing_or_that_nobody_asked_for(billed: Path) -> None:
    data = (billed / BILL_OF_MATERIALS).read_bytes()
    (billed / BILL_OF_MATERIALS).unlink()
    finish(billed)
    assert {finding.where for finding in verify_release(billed).findings} == {"SHA256SUMS"}
    document = json.loads((billed / "manifest.json").read_bytes())
    plain = {key: value for key, value in document["recipe"]["document"].items() if key != "bill_of_materials"}
    document["recipe"] = {"document": plain, "sha256": digest_bytes(canonical(plain)).sha256}
    (billed / "manifest.json").write_bytes(canonical(document))
    (billed / BILL_OF_MATERIALS).write_bytes(data)
    finish(billed)
    assert {finding.where for finding in verify_release(billed).findings} >= {"SHA256SUMS"}


def test_a_bill_that_was_changed(billed: Path) -> None:
    """A digest is found; other words are left open, as another version may have written them."""
    text = (billed / BILL_OF_MATERIALS).read_text()
    digest = SHA256.search(text)
    assert digest
    (billed / BILL_OF_MATERIALS).write_text(text.replace(digest[0], "0" * 64))
    finish(billed)
    assert {finding.where.partition(":")[0] for finding in verify_release(billed).findings} == {BILL_OF_MATERIALS}
    (billed / BILL_OF_MATERIALS).write_text(text.replace("text-generation", "telling"))
    finish(billed)
    found = verify_release(billed)
    assert not found.findings and found.unchecked == (
        f"{BILL_OF_MATERIALS} beyond its digests: this version of requant writes another one",
    )


def test_a_card_without_a_bill_names_none() -> None:
    assert BILL_OF_MATERIALS not in render_card(hub_model()).decode()
