"""The parts of a recipe that say how something is computed or measured, as types.

The recipe's key ``arithmetic`` names a *variant*, a build of llama.cpp; here it is called so.
"""

from collections.abc import Mapping, Sequence
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
    """``calibration``: so many ``chunks`` of ``context`` tokens, ``batch`` and ``ubatch`` tokens at a time.

    ``shards`` is by how many jobs, ``None`` by one. ``unseen`` is ``refuse`` where an expert without tokens is no good.
    """

    chunks: int
    context: int
    batch: int
    ubatch: int
    flash_attention: bool
    shards: int | None = None
    unseen: str | None = None


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

    suites: Sequence[str]
    thinking: str
    items: int | None = None
    max_tokens: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """``evaluation``: what is measured of a release; ``None`` is what is not."""

    fidelity: Fidelity | None
    speed: Speed | None
    behaviour: Behaviour | None

    @classmethod
    def of(cls, part: Mapping[str, Any]) -> Self:
        """Read a recipe's ``evaluation`` that has the form of its schema; it may be empty."""
        return cls(
            Fidelity.of(part["fidelity"]) if "fidelity" in part else None,
            Speed.of(part["speed"]) if "speed" in part else None,
            Behaviour.of(part["behaviour"]) if "behaviour" in part else None,
        )

    @property
    def any(self) -> bool:
        """Whether something is measured at all."""
        return any((self.fidelity, self.speed, self.behaviour))
