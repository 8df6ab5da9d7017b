"""Derivation: the bytes of quantized rows as a function of weights, importance, type and arithmetic.

``compare_rows`` derives rows again and says of every block that differs whether another arithmetic explains it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np

from requant.formats.ggml import PLAIN, Bytes, Floats, GGMLType, Indices
from requant.quantization.quantizer import Quantizer
from requant.quantization.witnesses import ROW_WIDE, Flags, find_witnesses

Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Causes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

MOST_EXAMPLES = 3
DENSE = 0.1
"""Share of differing blocks in a batch from which on nobody looks for witnesses: rounding explains 3 % at most."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one tensor: what they derive from, and the bytes in question.

    ``weights`` are ``[rows, columns]``, ``importance`` is ``[columns]``, for all of them, or ``None``, ``actual`` is
    ``[rows, bytes per row]`` of ``type``; ``indices`` are the rows' numbers in the tensor.
    """

    type: GGMLType
    weights: Floats
    importance: Floats | None
    actual: Bytes
    indices: Indices

    def at(self, places: Indices) -> "Rows":
        """Some of them."""
        return replace(self, weights=self.weights[places], actual=self.actual[places], indices=self.indices[places])


@dataclass(frozen=True)
class Odd:
    """One block without an explanation: its row, its first column, how many of its bytes differ, and what that costs.

    ``ratio`` is its weighted squared error over that of the derived block.
    """

    row: int
    column: int
    differing: int
    size: int
    ratio: float


@dataclass
class Tally:
    """What was found in rows of one tensor; tallies add up.

    ``differing`` blocks are other than the derived ones. Of these, ``other`` are the other arithmetic's, ``witnessed``
    have a witness within ``epsilon``, and ``unexplained`` are neither. ``error`` and ``derived_error`` are the weighted
    squared errors of the differing blocks and of those derived in their place.
    """

    rows: int = 0
    blocks: int = 0
    differing: int = 0
    other: int = 0
    witnessed: int = 0
    unexplained: int = 0
    epsilon: float = 0.0
    error: float = 0.0
    derived_error: float = 0.0
    odd: list[Odd] = field(default_factory=list)

    def add(self, more: "Tally") -> None:
        """Add another batch of the same tensor."""
        for name in ("rows", "blocks", "differing", "other", "witnessed", "unexplained", "error", "derived_error"):
            setattr(self, name, getattr(self, name) + getattr(more, name))
        self.epsilon = max(self.epsilon, more.epsilon)
        self.odd = sorted([*self.odd, *more.odd], key=lambda each: (each.row, each.column))[:MOST_EXAMPLES]


def derivable(weights: Floats, importance: Floats | None) -> str | None:
    """Why llama.cpp's search is not run on these numbers, or ``None`` if it may be."""
    if not usable(weights):
        return "the weights hold NaN, infinity or a number beyond 2**20"
    if importance is not None and not usable(importance, IMPORTANCE_LIMIT):
        return "the importance matrix holds a number beyond 2**40"
    return None


class Cause(IntEnum):
    """Why a block is as it is: derived again, the other arithmetic's, with a witness, or nobody knows."""

    DERIVED = 0
    OTHER = 1
    WITNESSED = 2
    UNEXPLAINED = 3


@dataclass(frozen=True, eq=False)
class Explanation:
    """Of every block of some rows why it is as it is, and the change that its witness needed.

    ``causes`` are ``Cause``, ``[rows, blocks]``; ``epsilons`` are float32 of the same shape, 0 where there is no
    witness.
    """

    causes: Causes
    epsilons: Floats

    def count(self, cause: Cause) -> int:
        """How many blocks have this cause."""
        return int((self.causes == cause).sum())


def compare_rows(quantizer: Quantizer, other: Callable[[], Quantizer], rows: Rows) -> Tally:
    """Derive rows again and compare them with the bytes in question.

    Args:
        quantizer: the arithmetic that the file is taken to be in.
        other: gives the other one; called only when there is a difference.
        rows: weights and importances for which ``derivable`` has nothing to say.
    """
    derived = quantizer.quantize(rows.type, rows.weights, rows.importance)
    height, blocks = len(rows.actual), rows.actual.size // rows.type.type_size
    touched = np.flatnonzero((derived != rows.actual).any(1))
    if not touched.size:
        return Tally(rows=height, blocks=blocks)
    derived, rows = derived[touched], rows.at(touched)
    explanation = _explained(quantizer, other, rows, derived, max(DENSE * blocks, MOST_EXAMPLES))
    differs = explanation.causes != Cause.DERIVED
    errors, derived_errors = (_errors(quantizer, rows, data) for data in (rows.actual, derived))
    return Tally(
        rows=height,
        blocks=blocks,
        differing=int(differs.sum()),
        other=explanation.count(Cause.OTHER),
        witnessed=explanation.count(Cause.WITNESSED),
        unexplained=explanation.count(Cause.UNEXPLAINED),
        epsilon=float(explanation.epsilons.max()),
        error=float(errors[differs].sum()),
        derived_error=float(derived_errors[differs].sum()),
        odd=[
            _odd(rows, derived, row, block, float(errors[row, block]), float(derived_errors[row, block]))
            for row, block in np.argwhere(explanation.causes == Cause.UNEXPLAINED)[:MOST_EXAMPLES].tolist()
        ],
    )


def _odd(rows: Rows, derived: Bytes, row: int, block: int, error: float, derived_error: float) -> Odd:
    wrong = _blocks(rows.type, derived)[row, block] != _blocks(rows.type, rows.actual)[row, block]
    ratio = error / derived_error if derived_error else math.inf
    return Odd(int(rows.indices[row]), block * rows.type.block_size, int(wrong.sum()), rows.type.type_size, ratio)


def _explained(
    quantizer: Quantizer, other: Callable[[], Quantizer], rows: Rows, derived: Bytes, most: float
) -> Explanation:
    """Say of every block why it is as it is; nobody looks for witnesses where more than ``most`` blocks differ."""
    found = _blocks(rows.type, rows.actual)
    differs = (_blocks(rows.type, derived) != found).any(2)
    causes = np.where(differs, np.uint8(Cause.UNEXPLAINED), np.uint8(Cause.DERIVED))
    epsilons = np.zeros(causes.shape, np.float32)
    if rows.type in PLAIN:
        return Explanation(causes, epsilons)
    others = _blocks(rows.type, other().quantize(rows.type, rows.weights, rows.importance))
    causes[differs & (others == found).all(2)] = Cause.OTHER
    if differs.sum() <= most:
        changes = _witnesses((quantizer, other()), rows, causes == Cause.UNEXPLAINED)
        witnessed = ~np.isnan(changes)
        causes[witnessed], epsilons[witnessed] = Cause.WITNESSED, changes[witnessed]
    return Explanation(causes, epsilons)


def _witnesses(quantizers: tuple[Quantizer, Quantizer], rows: Rows, wanted: Flags) -> Floats:
    """The change that the witness of each ``wanted`` block needs, ``[rows, blocks]``; NaN where there is none."""
    changes = np.full(wanted.shape, np.nan, np.float32)
    if not wanted.any():
        return changes
    everywhere = None if rows.importance is None else np.broadcast_to(rows.importance, rows.weights.shape)
    if rows.type in ROW_WIDE:
        units = np.flatnonzero(wanted.any(1))
        part = None if everywhere is None else everywhere[units]
        found = find_witnesses(quantizers, rows.type, rows.weights[units], part, rows.actual[units], wanted[units])
        changes[units] = np.where(wanted[units], found, np.nan)
    else:
        cut = (len(rows.weights), -1, rows.type.block_size)
        part = None if everywhere is None else everywhere.reshape(cut)[wanted]
        actual = _blocks(rows.type, rows.actual)[wanted]
        changes[wanted] = find_witnesses(quantizers, rows.type, rows.weights.reshape(cut)[wanted], part, actual)[:, 0]
    return changes


def _blocks(kind: GGMLType, rows: Bytes) -> Bytes:
    return rows.reshape(len(rows), -1, kind.type_size)


def _errors(quantizer: Quantizer, rows: Rows, data: Bytes) -> Doubles:
    """Weighted squared error of every block of ``data``, ``[rows, blocks]``; NaN counts as infinite."""
    values = quantizer.dequantize(rows.type, data, rows.weights.shape[1]).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = (values - rows.weights) ** 2
    weighted = squares if rows.importance is None else squares * rows.importance
    errors: Doubles = np.nan_to_num(weighted, nan=np.inf).reshape(len(data), -1, rows.type.block_size).sum(2)
    return errors


LIMIT = float(1 << 20)
"""Magnitude up to which weights are derived: within it no product inside the search overflows to infinity."""

IMPORTANCE_LIMIT = float(1 << 40)
"""The same for importances."""


def usable(weights: Floats, limit: float = LIMIT) -> bool:
    """Whether all numbers are finite and at most ``limit`` in magnitude: beyond that llama.cpp's search may abort."""
    # A NaN makes the comparison false.
    return bool((np.abs(weights) <= limit).all())
