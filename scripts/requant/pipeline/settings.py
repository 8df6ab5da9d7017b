"""The parts of a recipe that say how something is computed or measured, as types.

The recipe's key ``arithmetic`` names a *variant*, a build of llama.cpp; here it is called so.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Settings:
    """What all parts have in common: the variant that computes."""

    variant: str

    @classmethod
    def of(cls, part: Mapping[str, Any]) -> Self:
        """Read a part of a recipe that has the form of its schema (law: ``of(part).as_recipe() == part``)."""
        return cls(**{"variant" if key == "arithmetic" else key: value for key, value in part.items()})

    def as_recipe(self) -> dict[str, Any]:
        """The part as the recipe has it; what it leaves open is left out."""
        found = {key: value for key, value in asdict(self).items() if value is not None}
        return {"arithmetic" if key == "variant" else key: value for key, value in found.items()}


@dataclass(frozen=True)
class Calibration(Settings):
    """``calibration``: so many ``chunks`` of ``context`` tokens, ``batch`` and ``ubatch`` tokens at a time."""

    chunks: int
    context: int
    batch: int
    ubatch: int
    flash_attention: bool


@dataclass(frozen=True)
class Fidelity(Settings):
    """``evaluation.fidelity``: so many ``chunks`` of ``context`` tokens."""

    chunks: int
    context: int


@dataclass(frozen=True)
class Speed(Settings):
    """``evaluation.speed``: ``prompt`` tokens read, ``generate`` tokens answered, in so many ``rounds``."""

    prompt: int
    generate: int
    rounds: int


@dataclass(frozen=True)
class Behaviour(Settings):
    """``evaluation.behaviour``: which ``suites`` are asked, and how; ``None`` is what the recipe leaves open."""

    suites: tuple[str, ...]
    thinking: str
    items: int | None = None
    max_tokens: int | None = None
    seed: int | None = None
