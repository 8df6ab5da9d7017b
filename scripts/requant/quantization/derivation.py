"""Derivation: the bytes of quantized rows as a function of weights, importance, type and arithmetic.

``compare_rows`` derives rows again and says of every block that differs whether another arithmetic explains it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from requant.formats.ggml import (
    PLAIN,
    Bytes,
    Floats,
    GGMLType,
    Indices,
)
from requant.quantization.quantizer import Quantizer
from requant.quantization.witnesses import ROW_WIDE, find_witnesses

MOST_EXAMPLES = 3
DENSE = 0.1
"""Share of differing blocks in a batch from which on nobody looks for witnesses: rounding explains 3 % at most."""


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


def compare_rows(
    quantizer: Quantizer,
    other: Callable[[], Quantizer],
    kind: GGMLType,
    weights: Floats,
    importance: Floats | None,
    actual: Bytes,
    indices: Indices,
) -> Tally:
    """Derive rows and compare them with the bytes in question.

    Args:
        quantizer: the arithmetic that the file is taken to be in.
        other: gives the other one; called only when there is a difference.
        kind: the tensor's type in the file.
        weights: ``[rows, columns]``, for which ``derivable`` has nothing to say.
        importance: ``[columns]`` or None.
        actual: ``[rows, bytes per row]``.
        indices: the rows' numbers in the tensor.
    """
    derived = quantizer.quantize(kind, weights, importance)
    blocks = actual.size // kind.type_size
    tally = Tally(rows=len(actual), blocks=blocks)
    if np.array_equal(derived, actual):
        return tally
    rows = np.flatnonzero((derived != actual).any(1))
    x, made, found = weights[rows], _blocks(kind, derived[rows]), _blocks(kind, actual[rows])
    differs = (made != found).any(2)
    tally.differing = int(differs.sum())
    explained = np.full(differs.shape, np.nan)
    if kind not in PLAIN:
        explained[differs & (_blocks(kind, other().quantize(kind, x, importance)) == found).all(2)] = -1
        if tally.differing <= max(DENSE * blocks, MOST_EXAMPLES):
            _explain((quantizer, other()), kind, x, importance, found, differs & np.isnan(explained), explained)
    left = differs & np.isnan(explained)
    tally.other = int((explained == -1).sum())
    tally.witnessed = int((differs & (explained >= 0)).sum())
    tally.unexplained = int(left.sum())
    tally.epsilon = float(np.nanmax(np.where(differs, explained, 0), initial=0))
    errors = [_errors(quantizer, kind, x, importance, data) for data in (found, made)]
    tally.error, tally.derived_error = (float(each[differs].sum()) for each in errors)
    for row, block in np.argwhere(left)[:MOST_EXAMPLES]:
        bytes_off = int((made[row, block] != found[row, block]).sum())
        ratio = float(errors[0][row, block] / errors[1][row, block]) if errors[1][row, block] else float("inf")
        where = int(indices[rows[row]]), int(block) * kind.block_size
        tally.odd.append(Odd(*where, bytes_off, kind.type_size, ratio))
    return tally


def _explain(
    quantizers: tuple[Quantizer, Quantizer],
    kind: GGMLType,
    weights: Floats,
    importance: Floats | None,
    found: Bytes,
    wanted: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    explained: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> None:
    """Look for witnesses of the ``wanted`` blocks, ``[rows, blocks]``, and enter the change they need."""
    if not wanted.any():
        return
    everywhere = None if importance is None else np.broadcast_to(importance, weights.shape)
    if kind in ROW_WIDE:
        rows = np.flatnonzero(wanted.any(1))
        part = None if everywhere is None else everywhere[rows]
        changes = find_witnesses(
            quantizers, kind, weights[rows], part, found[rows].reshape(len(rows), -1), wanted[rows]
        )
        explained[rows] = np.where(wanted[rows], changes, explained[rows])
        return
    cut = (len(weights), -1, kind.block_size)
    part = None if everywhere is None else everywhere.reshape(cut)[wanted]
    changes = find_witnesses(quantizers, kind, weights.reshape(cut)[wanted], part, found[wanted])
    explained[wanted] = changes[:, 0]


def _blocks(kind: GGMLType, rows: Bytes) -> Bytes:
    return rows.reshape(len(rows), -1, kind.type_size)


def _errors(
    quantizer: Quantizer, kind: GGMLType, weights: Floats, importance: Floats | None, blocks: Bytes
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Weighted squared error of every block, ``[rows, blocks]``; NaN counts as infinite."""
    values = quantizer.dequantize(kind, blocks.reshape(len(blocks), -1), weights.shape[1]).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = (values - weights) ** 2
    weighted = squares if importance is None else squares * importance
    errors: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    errors = np.nan_to_num(weighted, nan=np.inf).reshape(*blocks.shape[:2], -1).sum(2)
    return errors


LIMIT = float(1 << 20)
"""Magnitude up to which weights are derived: within it no product inside the search overflows to infinity."""

IMPORTANCE_LIMIT = float(1 << 40)
"""The same for importances."""


def usable(weights: Floats, limit: float = LIMIT) -> bool:
    """Whether all numbers are finite and at most ``limit`` in magnitude: beyond that llama.cpp's search may abort."""
    # A NaN makes the comparison false.
    return bool((np.abs(weights) <= limit).all())
