"""The manifest: what a release is made of, joined from the records of its steps, and read from outside."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from requant.ground.canonical import canonical

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
