"""The release folder: what gets uploaded, and nothing else."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from requant.documents.entries import tensors
from requant.documents.file_names import SIGNATURES, SUMS
from requant.documents.manifest import SCHEMA, read_manifest
from requant.documents.records import file_entry, read_record
from requant.documents.sums import read_sums, sums_text
from requant.formats.weights_root import weights_root
from requant.ground.canonical import canonical
from requant.ground.digests import digest_file, named_when_whole, write_bytes
from requant.ground.disk import require_space
from requant.ground.errors import FormatError, MismatchError, StaleError


def write_manifest(
    recipe: dict[str, Any], inputs: dict[str, Path], variants: Sequence[Path], bf16: Path, imatrix: Path,
    quants: Sequence[Path], out: Path,
) -> None:  # fmt: skip
    """Write ``manifest.json`` from the records of every step; all arguments but ``recipe`` are record files."""
    manifest = build_manifest(
        recipe,
        {name: read_record(path) for name, path in sorted(inputs.items())},
        [read_record(path) for path in variants],
        read_record(bf16),
        read_record(imatrix),
        [read_record(path) for path in quants],
    )
    write_bytes(out, canonical(manifest))


def build_manifest(
    recipe: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, Any]],
    variants: Sequence[Mapping[str, Any]],
    bf16: Mapping[str, Any],
    imatrix: Mapping[str, Any],
    quants: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Join the step records of one recipe into a manifest.

    Args:
        recipe: the recipe's document, without machine facts.
        inputs: the records of ``model``, ``corpus`` and ``toolchain``, as they were fetched and proven.
        variants: build records; only what is the same on every machine is taken over.
        bf16: the record of the working GGUF.
        imatrix: the record of the calibration; it holds those of its shards.
        quants: the records of the quants, in the recipe's order.
    """
    builds = {build["variant"]: {key: build[key] for key in ("definitions", "flags", "own_code")} for build in variants}
    # Only native bytes depend on the processor; elsewhere naming it would make equal releases unequal.
    features = imatrix["features"] if imatrix["arithmetic"] == "native" else []
    shards = imatrix.get("shards", [])
    parts = {"shards": [shard["file"] for shard in shards]} if shards else {}
    return {
        "schema": SCHEMA,
        "recipe": {"sha256": hashlib.sha256(canonical(recipe)).hexdigest(), "document": recipe},
        "inputs": inputs,
        "variants": builds,
        "model": _without(bf16, "step"),
        "imatrix": {**_without(imatrix, "step", "settings"), "features": features, **parts},
        "quants": [
            {**_without(quant, "step"), "weights_root": weights_root(tensors(quant["tensors"]))} for quant in quants
        ],
        "steps": [record["step"] for record in (bf16, *shards, imatrix, *quants)],
    }


def _without(record: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def place_file(source: Path, out: Path) -> None:
    """Copy a finished product to its place in the release.

    Not a link: Snakemake sets the times of a rule's outputs, and through a second name of one file those of the product
    too. It would then be newer than what was made from it, and the next run would make all of that again.
    ``write_sums`` reads the placed bytes once more and compares them with the manifest.

    Raises:
        DiskError: when there is no room for the copy.
    """
    require_space(out.parent, source.stat().st_size, out.name)
    with named_when_whole(out) as temporary:
        shutil.copyfile(source, temporary)


def write_sums(files: Sequence[Path], manifest: Path, out: Path) -> None:
    """Write ``SHA256SUMS`` for ``sha256sum -c``, after checking every product against the manifest.

    Signatures of an earlier run stay: they are still right if the bytes are the same, and ``requant verify`` says so
    if they are not.

    Raises:
        StaleError: when a file of the release is not the one that the manifest describes.
        FormatError: when the folder holds what the recipe does not make, or, as UnsupportedError, of the manifest.
    """
    described = read_manifest(manifest).files
    known = {*SIGNATURES, *(path.name for path in (*files, manifest, out))}
    extra = sorted({path.name for path in out.parent.iterdir()} - known)
    if extra:
        raise FormatError(f"{out.parent} holds {extra[0]}, which this recipe does not make: move it away and run again")
    sums = {}
    for file in sorted([*files, manifest], key=lambda path: path.name):
        found = digest_file(file)
        if described.get(file.name, found) != found:
            raise StaleError(f"{file} is not the file that {manifest.name} describes: remove the release and run again")
        sums[file.name] = found.sha256
    write_bytes(out, sums_text(sums).encode())


def list_release(folder: Path) -> list[dict[str, Any]]:
    """Every file that ``SHA256SUMS`` names, checked: name, size, sha256.

    Raises:
        FormatError: as ``read_sums``.
        MismatchError: when a file is missing or has other bytes.
    """
    found = []
    for name, sha256 in read_sums(folder).items():
        if not (folder / name).is_file():
            raise MismatchError(f"{folder} lacks {name}, which {SUMS} names: get the file again")
        digest = digest_file(folder / name)
        if digest.sha256 != sha256:
            raise MismatchError(
                f"{name} has SHA-256 {digest.sha256}, expected {sha256}: these are not the bytes that {SUMS} names"
            )
        found.append(file_entry(name, digest))
    return found
