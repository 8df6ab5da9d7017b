"""What the card and the report both say of a release: how it was made, and what was measured of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Made:
    """How a release was made: parts of its manifest, which the templates show."""

    name: str
    card: Mapping[str, Any]
    recipe_sha256: str
    weights: Mapping[str, Any]
    generated: Mapping[str, int] | None
    corpus: Mapping[str, Any]
    toolchain: Mapping[str, Any]
    variants: Mapping[str, Any]
    imatrix: Mapping[str, Any]


@dataclass(frozen=True)
class Status:
    """Whether something was measured.

    ``detail`` is how much of it, if not all; or why it was not, if the recipe asks for it.
    """

    done: bool
    detail: str = ""


def made(manifest: Mapping[str, Any]) -> Made:
    """How the release of a manifest was made."""
    recipe, inputs = manifest["recipe"]["document"], manifest["inputs"]
    return Made(
        name=recipe["name"],
        card=recipe["card"],
        recipe_sha256=manifest["recipe"]["sha256"],
        weights=inputs["model"],
        generated=inputs["model"].get("generate"),
        corpus=inputs["corpus"],
        toolchain=inputs["toolchain"],
        variants=manifest["variants"],
        imatrix=manifest["imatrix"],
    )


def suite_statuses(behaviour: Mapping[str, Any] | None) -> dict[str, Status]:
    """The suites that an evaluation's ``behaviour`` names, those that were asked first."""
    if behaviour is None:
        return {}
    asked = {suite["name"]: Status(True, _part(suite)) for suite in behaviour["suites"]}
    return asked | {
        suite["name"]: Status(False, suite["reason"]) for suite in behaviour["not_run"] if suite["name"] not in asked
    }


def _part(suite: Mapping[str, Any]) -> str:
    """How many of a suite's questions every model answered, empty if all of them."""
    answered = min(model["items"] - model["errors"] for model in suite["models"])
    return "" if answered == suite["of"] else f"{answered}/{suite['of']}"
