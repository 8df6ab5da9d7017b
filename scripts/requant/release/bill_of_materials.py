"""A release's bill of materials for machines: CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json), an ML-BOM.

It is a function of the manifest alone, in canonical JSON: no time, no version of ours, and a serial number that follows
from the manifest's digest. The format's own library checks what is written; it has no model cards (of version 11), and
its order of keys is its own, so the document is made here.
"""

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from requant.documents.entries import File
from requant.documents.inputs import PackageInput, WeightsInput
from requant.documents.manifest import Manifest, QuantEntry, read_manifest
from requant.ground.canonical import canonical
from requant.ground.digests import digest_bytes, write_bytes
from requant.ground.errors import FormatError
from requant.ground.text import printable
from requant.release.attestation import NAMESPACE

VERSION = "1.6"
LLAMA_CPP = "pkg:github/ggml-org/llama.cpp"
WEIGHTS, CORPUS, TOOLCHAIN = "weights", "corpus", "llama.cpp"

Component = dict[str, Any]


def write_bill(manifest: Path, out: Path) -> None:
    """Write the bill of the release that ``manifest`` describes, after CycloneDX's own library has checked its form.

    Raises:
        FormatError, UnsupportedError: when the manifest cannot be read, or a licence in it does not fit the format.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    bill = bill_of_materials(read_manifest(manifest))
    if wrong := JsonStrictValidator(SchemaVersion.from_version(VERSION)).validate_str(bill.decode()):
        raise FormatError(f"{out.name} would be no CycloneDX document: {printable(wrong.data.message)}")
    write_bytes(out, bill)


def bill_of_materials(manifest: Manifest) -> bytes:
    """The bill of a release."""
    serial = uuid.uuid5(uuid.UUID(NAMESPACE), digest_bytes(canonical(manifest.document)).sha256)
    return canonical(
        {
            "$schema": f"http://cyclonedx.org/schema/bom-{VERSION}.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": VERSION,
            "serialNumber": f"urn:uuid:{serial}",
            "version": 1,
            "metadata": {"component": _release(manifest), "lifecycles": [{"phase": "build"}]},
            "components": [*_made(manifest), *_materials(manifest)],
            "dependencies": sorted(_dependencies(manifest), key=lambda found: str(found["ref"])),
        }
    )


def _release(manifest: Manifest) -> Component:
    return {
        "type": "machine-learning-model",
        "bom-ref": "release",
        "name": manifest.name,
        "publisher": manifest.recipe.document["card"]["publisher"],
        "description": manifest.recipe.document["card"]["summary"]["en"],
        "licenses": _licences(manifest.inputs.weights.licence),
        "properties": _properties({"recipe": manifest.recipe.sha256}),
    }


def _made(manifest: Manifest) -> Iterator[Component]:
    """What the steps made: quants and importance matrix, which are released, and the working GGUF, which is not."""
    for quant in manifest.quants:
        yield _model(manifest, quant.file, _of_quant(quant), datasets=[{"ref": CORPUS}])
    imatrix = manifest.imatrix
    yield {
        "type": "data",
        **_file(imatrix.file),
        "description": "the importance matrix that the quants were made with",
        "data": [{"type": "other", "name": "importance matrix"}],
        "properties": _properties(
            {"arithmetic": imatrix.variant, "chunks": imatrix.chunks, "tokens in a chunk": imatrix.chunk_size}
        ),
    }
    yield _model(manifest, manifest.bf16.file, {"type": "BF16", "released": "no"})


def _of_quant(quant: QuantEntry) -> dict[str, Any]:
    return {"type": quant.type, **({"weights_root": quant.weights_root} if quant.weights_root else {})}


def _model(manifest: Manifest, file: File, facts: Mapping[str, Any], **parameters: Any) -> Component:
    return {
        "type": "machine-learning-model",
        **_file(file),
        "licenses": _licences(manifest.inputs.weights.licence),
        "modelCard": {
            "modelParameters": {
                "task": "text-generation",
                "modelArchitecture": manifest.bf16.architecture,
                "inputs": [{"format": "text"}],
                "outputs": [{"format": "text"}],
                **parameters,
            }
        },
        "properties": _properties(facts),
    }


def _materials(manifest: Manifest) -> Iterator[Component]:
    """What came from outside, each with the files that were had of it."""
    weights, corpus, toolchain = manifest.inputs.weights, manifest.inputs.corpus, manifest.inputs.toolchain
    yield {
        "type": "machine-learning-model",
        "bom-ref": WEIGHTS,
        "name": weights.repo or weights.name,
        **_known(version=weights.revision, purl=_of_weights(weights)),
        "licenses": _licences(weights.licence),
        "components": [
            *({"type": "file", **_file(file, WEIGHTS)} for file in weights.files),
            *_package(weights.package, WEIGHTS),
        ],
    }
    files = [File(name, known.size or 0, known.sha256 or "") for name, known in sorted(corpus.files.items())]
    files += [text for _, text in sorted(corpus.texts.items())]
    yield {
        "type": "data",
        "bom-ref": CORPUS,
        "name": corpus.repo or corpus.name,
        **_known(version=corpus.revision),
        "licenses": _licences(corpus.licence),
        "data": [{"type": "dataset", "name": corpus.name}],
        "components": [{"type": "file", **_file(file, CORPUS)} for file in files],
    }
    yield {
        "type": "application",
        "bom-ref": TOOLCHAIN,
        "name": "llama.cpp",
        "version": toolchain.commit,
        "purl": f"{LLAMA_CPP}@{toolchain.commit}",
        "licenses": _licences("MIT"),
        "properties": _properties({"tree": toolchain.tree, "variants": " ".join(sorted(manifest.variants))}),
        "components": [*_package(toolchain.sdist, TOOLCHAIN)],
    }


def _of_weights(weights: WeightsInput) -> str | None:
    """The package URL (https://github.com/package-url/purl-spec) of weights that others can get; where it is known."""
    if weights.package:
        return _pypi(weights.package)
    if weights.repo and weights.revision:
        return f"pkg:huggingface/{quote(weights.repo)}@{weights.revision}"
    return None


def _package(package: PackageInput | None, inside: str) -> Iterator[Component]:
    """The distribution that something came in, if it came in one."""
    if package:
        file = File(package.project, package.size, package.sha256)
        yield {"type": "file", **_file(file, inside), "version": package.version, "purl": _pypi(package)}


def _pypi(package: PackageInput) -> str:
    return f"pkg:pypi/{quote(package.project.lower().replace('_', '-'))}@{quote(package.version)}"


def _dependencies(manifest: Manifest) -> Iterator[dict[str, Any]]:
    quants, imatrix, bf16 = [quant.file.name for quant in manifest.quants], manifest.imatrix.file, manifest.bf16.file
    yield {"ref": "release", "dependsOn": sorted([*quants, imatrix.name])}
    for name in quants:
        yield {"ref": name, "dependsOn": sorted([bf16.name, imatrix.name, TOOLCHAIN])}
    yield {"ref": imatrix.name, "dependsOn": sorted([bf16.name, CORPUS, TOOLCHAIN])}
    yield {"ref": bf16.name, "dependsOn": sorted([WEIGHTS, TOOLCHAIN])}


def _file(file: File, inside: str = "") -> Component:
    """A file by its name, which tells it apart among those of one component, and its digest where that is known."""
    found: Component = {"bom-ref": f"{inside}/{file.name}" if inside else file.name, "name": file.name}
    return found | ({"hashes": [{"alg": "SHA-256", "content": file.sha256}]} if file.sha256 else {})


def _licences(expression: str) -> list[dict[str, Any]]:
    return [{"expression": expression}]


def _properties(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"name": f"requant:{name.replace(' ', '_')}", "value": str(value)} for name, value in sorted(facts.items())]


def _known(**facts: str | None) -> Component:
    return {name: value for name, value in facts.items() if value}
