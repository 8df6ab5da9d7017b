"""The manifest: what a release is made of, joined from the records of its steps, and read from outside."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from requant.documents.file_names import MANIFEST
from requant.documents.schemas import check
from requant.ground.canonical import canonical, parse
from requant.ground.digests import read_small
from requant.ground.errors import FormatError, RecipeError, UnsupportedError
from requant.ground.text import printable

SCHEMA = "requant/manifest/v1"


def build_manifest(
    recipe: Mapping[str, Any],
    inputs: Mapping[str, Mapping[str, Any]],
    variants: Sequence[Mapping[str, Any]],
    model: Mapping[str, Any],
    imatrix: Mapping[str, Any],
    quants: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Join the step records of one recipe into a manifest.

    Args:
        recipe: the recipe's document, without machine facts.
        inputs: the records of ``model``, ``corpus`` and ``toolchain``, as they were fetched and proven.
        variants: build records; only what is the same on every machine is taken over.
        model: the record of the working GGUF.
        imatrix: the record of the calibration.
        quants: the records of the quants, in the recipe's order.
    """
    builds = {build["variant"]: {key: build[key] for key in ("definitions", "flags", "own_code")} for build in variants}
    # Only native bytes depend on the processor; elsewhere naming it would make equal releases unequal.
    features = imatrix["features"] if imatrix["arithmetic"] == "native" else []
    return {
        "schema": SCHEMA,
        "recipe": {"sha256": hashlib.sha256(canonical(recipe)).hexdigest(), "document": recipe},
        "inputs": inputs,
        "variants": builds,
        "model": _without(model, "step"),
        "imatrix": {**_without(imatrix, "step", "settings"), "features": features},
        "quants": [_without(quant, "step") for quant in quants],
        "steps": [record["step"] for record in (model, imatrix, *quants)],
    }


def _without(record: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


LONGEST = 1 << 23
"""Bytes: room for thirty quants of a model with a thousand tensors."""


def read_manifest(path: Path, versions: Collection[str]) -> dict[str, Any]:
    """Read a manifest from outside: at most ``LONGEST`` bytes, canonical, of a known version and in its form.

    Raises:
        FormatError: naming the file or the key.
        UnsupportedError: when its schema is none of ``versions``.
    """
    data = read_small(path, LONGEST)
    manifest = parse(data, MANIFEST)
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if not isinstance(schema, str):
        raise FormatError(f"{MANIFEST} names no schema: get the file again")
    if schema not in versions:
        raise UnsupportedError(f"{MANIFEST} has schema {printable(schema)}: install a requant that knows it")
    if canonical(manifest) != data:
        raise FormatError(f"{MANIFEST} is not canonical JSON: get the file again")
    require_form(manifest)
    return dict(manifest)


def require_form(manifest: Any) -> None:
    """Check a manifest v1, and the recipe in it, against their schemas.

    Raises:
        FormatError: one sentence naming the key.
    """
    try:
        check(manifest, "manifest", MANIFEST)
        check(manifest["recipe"]["document"], "recipe", f"{MANIFEST}: recipe.document")
    except RecipeError as error:
        raise FormatError(printable(str(error))) from error


def outputs(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the steps made, in their order: working GGUF, importance matrix, quants; name, size and sha256 each."""
    return [manifest["model"]["file"], manifest["imatrix"]["file"], *(quant["file"] for quant in manifest["quants"])]
