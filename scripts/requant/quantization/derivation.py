"""Derivation: the bytes of quantized rows as a function of weights, importance, type and arithmetic.

``compare_rows`` derives rows again and says of every block that differs whether another way of making it explains it.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np

from requant.conversion.weights import as_float32, rounded
from requant.formats.ggml import PLAIN, UNSEARCHED, Arithmetic, Bytes, Floats, GGMLType, Indices
from requant.quantization.consistency import Consistency, check_rows, look, with_counts
from requant.quantization.quantizer import Quantizer
from requant.quantization.witnesses import ROW_WIDE, Flags, find_witnesses

Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Causes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

MOST_EXAMPLES = 3
FIRST = 32
"""Unexplained blocks of a batch whose witnesses are looked for before it is known whether the others' are worth it."""
F16_LOSSLESS = 2.0**-17
"""Below that float16 drops digits of BF16 numbers: their last one is less than its smallest number."""
DENSE = 0.5
"""Share of unexplained blocks in a batch from which on nobody looks for witnesses: no compiler makes so many."""


@dataclass(frozen=True)
class Making:
    """How a file may have been made: in which arithmetic, of weights that a conversion had rounded to ``via``.

    ``weighed`` says whether with the importances that there are.
    """

    arithmetic: Arithmetic
    via: GGMLType
    weighed: bool = True


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one tensor: what they derive from, and the bytes in question.

    ``weights`` are ``[rows, columns]`` as they are stored, ``importance`` is ``[columns]``, for all of them, or
    ``None``, ``actual`` is ``[rows, bytes per row]`` of ``type``; ``indices`` are the rows' numbers in the tensor.
    ``copied`` are the same bytes as the weights have them, where these come in the same type, one of ``COPIED``.
    """

    type: GGMLType
    weights: Floats
    importance: Floats | None
    actual: Bytes
    indices: Indices
    copied: Bytes | None = None

    def at(self, places: Indices) -> "Rows":
        """Some of them."""
        copied = None if self.copied is None else self.copied[places]
        part = self.weights[places], self.importance, self.actual[places], self.indices[places], copied
        return Rows(self.type, *part)


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

    ``differing`` blocks are other than the derived ones. Of these, ``other`` come out if the file was made in another
    way, ``others`` says in which, ``witnessed`` have a witness within ``epsilon``, and ``unexplained`` are neither.
    ``small`` are unexplained blocks with numbers that float16 rounds, and about as near to them as what is derived.
    ``error`` and ``derived_error`` are the weighted squared errors of the differing blocks and of those derived in
    their place. ``consistency`` is of the rows that hold what is unexplained.
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
    others: Counter[Making] = field(default_factory=Counter)
    odd: list[Odd] = field(default_factory=list)
    consistency: Consistency = field(default_factory=Consistency)
    small: int = 0

    def add(self, more: "Tally") -> None:
        """Add another batch of the same tensor."""
        for name, value in vars(more).items():
            if name not in ("epsilon", "odd", "consistency"):
                setattr(self, name, getattr(self, name) + value)
        self.epsilon = max(self.epsilon, more.epsilon)
        self.odd = sorted([*self.odd, *more.odd], key=lambda each: (each.row, each.column))[:MOST_EXAMPLES]
        self.consistency.add(more.consistency)


def derivable(weights: Floats, importance: Floats | None) -> str | None:
    """Why llama.cpp's search is not run on these numbers, or ``None`` if it may be."""
    if not usable(weights):
        return "the weights hold NaN, infinity or a number beyond 2**20"
    if importance is not None and not usable(importance, IMPORTANCE_LIMIT):
        return "the importance matrix holds a number beyond 2**40"
    return None


class Cause(IntEnum):
    """Why a block is as it is: derived again, made in another way, with a witness, or nobody knows."""

    DERIVED = 0
    OTHER = 1
    WITNESSED = 2
    UNEXPLAINED = 3


@dataclass(frozen=True, eq=False)
class Explanation:
    """Of every block of some rows why it is as it is, and the change that its witness needed.

    ``causes`` are ``Cause``, ``[rows, blocks]``; ``epsilons`` are float32 of the same shape, 0 where there is no
    witness. ``others`` counts the differing blocks that come out in another way.
    """

    causes: Causes
    epsilons: Floats
    others: Counter[Making] = field(default_factory=Counter)

    def count(self, cause: Cause) -> int:
        """How many blocks have this cause."""
        return int((self.causes == cause).sum())


@dataclass(frozen=True)
class Ways:
    """All ways in which a file may have been made, ``makings``, the one that it is taken for first.

    ``quantizer`` opens an arithmetic; the others' are opened only when there is a difference. ``lanes`` are quicker in
    the strict one, and not llama.cpp's own code.
    """

    quantizer: Callable[[Arithmetic], Quantizer]
    makings: Sequence[Making]
    lanes: Quantizer | None = None

    def weights(self, making: Making, rows: Rows) -> Floats:
        """What was quantized."""
        return rounded(rows.weights, making.via)

    def derive(self, making: Making, rows: Rows) -> Bytes:
        """What comes out, ``[rows, bytes per row]``."""
        return self.quantizer(making.arithmetic).quantize(rows.type, self.weights(making, rows), rows.importance)

    def differing(self, making: Making, rows: Rows) -> tuple[Indices, Bytes]:
        """Which of the rows are other than what comes out, and what comes out for these.

        Equal rows may be the lanes' word; of each that differs llama.cpp's own code has the last one.
        """
        if self.lanes is None or self.lanes.arithmetic is not making.arithmetic:
            derived = self.derive(making, rows)
            touched = np.flatnonzero((derived != rows.actual).any(1))
            return touched, derived[touched]
        quick = self.lanes.quantize(rows.type, self.weights(making, rows), rows.importance)
        touched = np.flatnonzero((quick != rows.actual).any(1))
        derived = self.derive(making, rows.at(touched))
        still = np.flatnonzero((derived != rows.actual[touched]).any(1))
        return touched[still], derived[still]

    def roundings(self, rows: Rows) -> list[tuple[Floats, list[Making]]]:
        """The different weights that may have been quantized, each with the ways that lead to them.

        Those that no search can be run on are left out: rounding to F16 may give infinity.
        """
        seen: list[tuple[Floats, list[Making]]] = []
        for making in self.makings:
            weights = self.weights(making, rows)
            if not usable(weights):
                continue
            for known, ways in seen:
                if np.array_equal(known, weights):
                    ways.append(making)
                    break
            else:
                seen.append((weights, [making]))
        return seen


def compare_copied(rows: Rows, copied: Bytes) -> Tally:
    """Compare rows with those that they are a copy of.

    Whoever quantizes MXFP4's numbers again gets the same ones, but may get them under other scales; a block that holds
    the same numbers counts as made in another way.
    """
    differs = (_blocks(rows.type, copied) != _blocks(rows.type, rows.actual)).any(2)
    wrong = differs.copy()
    if differs.any() and rows.type is GGMLType.MXFP4:
        same = (as_float32(rows.type, rows.actual) == rows.weights).reshape(*differs.shape, -1).all(2)
        wrong &= ~same
    blocks, differing, unexplained = differs.size, int(differs.sum()), int(wrong.sum())
    return Tally(len(rows.actual), blocks, differing, other=differing - unexplained, unexplained=unexplained)


def compare_evenly(ways: Ways, rows: Rows) -> Tally:
    """Look at rows of a type that cannot do without importances where there are none: nothing can be derived."""
    height, blocks = len(rows.actual), rows.actual.size // rows.type.type_size
    consistency = _consistency(ways, rows, None)
    return Tally(rows=height, blocks=blocks, differing=blocks, unexplained=blocks, consistency=consistency)


def compare_rows(ways: Ways, rows: Rows) -> Tally:
    """Derive rows again and compare them with the bytes in question.

    Args:
        ways: in which the file may have been made.
        rows: weights and importances for which ``derivable`` has nothing to say.
    """
    height, blocks = len(rows.actual), rows.actual.size // rows.type.type_size
    if rows.type is GGMLType.F32 and rows.actual.tobytes() == rows.weights.astype("<f4").tobytes():
        # What the converter keeps in F32, such as the router of experts, it does not round.
        return Tally(rows=height, blocks=blocks)
    touched, derived = ways.differing(ways.makings[0], rows)
    if not touched.size:
        return Tally(rows=height, blocks=blocks)
    rows = rows.at(touched)
    explanation = _explained(ways, rows, derived, max(DENSE * blocks, FIRST))
    differs = explanation.causes != Cause.DERIVED
    unexplained = explanation.count(Cause.UNEXPLAINED)
    consistency = Consistency()
    if unexplained and rows.type not in UNSEARCHED:
        consistency = _consistency(ways, rows, derived if rows.importance is None else None)
    quantizer = ways.quantizer(ways.makings[0].arithmetic)
    rows = replace(rows, weights=ways.weights(ways.makings[0], rows))
    errors, derived_errors = (_errors(quantizer, rows, data) for data in (rows.actual, derived))
    return Tally(
        rows=height,
        blocks=blocks,
        differing=int(differs.sum()),
        other=explanation.count(Cause.OTHER),
        witnessed=explanation.count(Cause.WITNESSED),
        unexplained=unexplained,
        epsilon=float(explanation.epsilons.max()),
        error=float(errors[differs].sum()),
        derived_error=float(derived_errors[differs].sum()),
        others=explanation.others,
        odd=[
            _odd(rows, derived, row, block, float(errors[row, block]), float(derived_errors[row, block]))
            for row, block in np.argwhere(explanation.causes == Cause.UNEXPLAINED)[:MOST_EXAMPLES].tolist()
        ],
        consistency=consistency,
        small=int((_small(quantizer, rows, derived) & (explanation.causes == Cause.UNEXPLAINED)).sum()),
    )


def _consistency(ways: Ways, rows: Rows, evenly: Bytes | None) -> Consistency:
    """What can be said without importances, of weights rounded so that least speaks against them.

    ``evenly`` is what comes out without importances, if that is known.
    """
    quantizer, roundings = ways.quantizer(ways.makings[0].arithmetic), ways.roundings(rows)
    found = check_rows(quantizer, rows.type, roundings[0][0], rows.actual, rows.indices, evenly)
    for weights, _ in roundings[1:]:
        again = look(quantizer, rows.type, weights, rows.actual, rows.indices) if found.off else found
        if (again.contradicted, again.off) < (found.contradicted, found.off):
            found = with_counts(found, again)
    return found


def _odd(rows: Rows, derived: Bytes, row: int, block: int, error: float, derived_error: float) -> Odd:
    wrong = _blocks(rows.type, derived)[row, block] != _blocks(rows.type, rows.actual)[row, block]
    ratio = error / derived_error if derived_error else math.inf
    return Odd(int(rows.indices[row]), block * rows.type.block_size, int(wrong.sum()), rows.type.type_size, ratio)


def _explained(ways: Ways, rows: Rows, derived: Bytes, most: float) -> Explanation:
    """Say of every block why it is as it is; nobody looks for witnesses where more than ``most`` are unexplained."""
    found = _blocks(rows.type, rows.actual)
    differs = (_blocks(rows.type, derived) != found).any(2)
    causes = np.where(differs, np.uint8(Cause.UNEXPLAINED), np.uint8(Cause.DERIVED))
    explanation = Explanation(causes, np.zeros(causes.shape, np.float32))
    # Plain numbers are rounded alike in every arithmetic.
    tried = ways.makings[:1] if rows.type in PLAIN else ways.makings
    roundings, arithmetics = ways.roundings(rows), dict.fromkeys(each.arithmetic for each in tried)
    for number, (weights, makings) in enumerate(roundings):
        for arithmetic in arithmetics:
            if number or arithmetic is not ways.makings[0].arithmetic:
                data = ways.quantizer(arithmetic).quantize(rows.type, weights, rows.importance)
                hits = differs & (_blocks(rows.type, data) == found).all(2)
                causes[hits] = Cause.OTHER
                count = int(hits.sum())
                explanation.others.update({each: count for each in makings if each.arithmetic is arithmetic})
    if rows.type in PLAIN or explanation.count(Cause.UNEXPLAINED) > most:
        return explanation
    quantizers = [ways.quantizer(arithmetic) for arithmetic in arithmetics]
    for number, (weights, _) in enumerate(roundings):
        wanted = causes == Cause.UNEXPLAINED
        if number:
            wanted &= (weights != roundings[0][0]).any(1, keepdims=True)
        changes = _witnesses(quantizers, replace(rows, weights=weights), wanted)
        witnessed = ~np.isnan(changes)
        causes[witnessed], explanation.epsilons[witnessed] = Cause.WITNESSED, changes[witnessed]
    return explanation


def _witnesses(quantizers: Sequence[Quantizer], rows: Rows, wanted: Flags) -> Floats:
    """The change that the witness of each ``wanted`` block needs, ``[rows, blocks]``; NaN where there is none.

    Where most of the first few have none, the others are not searched: nothing that they have would change a verdict.
    """
    changes = np.full(wanted.shape, np.nan, np.float32)
    places = np.argwhere(wanted)
    for first, last in ((0, FIRST), (FIRST, len(places))):
        part = np.zeros_like(wanted)
        part[tuple(places[first:last].T)] = True
        if not part.any():
            break
        _search(quantizers, rows, part, changes)
        if 2 * np.isnan(changes[part]).sum() > FIRST:
            break
    return changes


def _search(quantizers: Sequence[Quantizer], rows: Rows, wanted: Flags, changes: Floats) -> None:
    """Look for witnesses of the ``wanted`` blocks, and write the changes that they need."""
    everywhere = None if rows.importance is None else np.broadcast_to(rows.importance, rows.weights.shape)
    if rows.type in ROW_WIDE:
        units = np.flatnonzero(wanted.any(1))
        part = None if everywhere is None else everywhere[units]
        found = find_witnesses(quantizers, rows.type, rows.weights[units], part, rows.actual[units], wanted[units])
        changes[units] = np.where(wanted[units], found, changes[units])
    else:
        cut = (len(rows.weights), -1, rows.type.block_size)
        part = None if everywhere is None else everywhere.reshape(cut)[wanted]
        actual = _blocks(rows.type, rows.actual)[wanted]
        changes[wanted] = find_witnesses(quantizers, rows.type, rows.weights.reshape(cut)[wanted], part, actual)[:, 0]


def _blocks(kind: GGMLType, rows: Bytes) -> Bytes:
    return rows.reshape(len(rows), -1, kind.type_size)


def _small(quantizer: Quantizer, rows: Rows, derived: Bytes) -> Flags:
    """Which blocks hold numbers that float16 rounds, and are about as near to them as what is derived.

    ``[rows, blocks]``. About: by a fifth, and what float16 and the block's own scales round.
    """
    columns, size = rows.weights.shape[1], rows.type.block_size
    sizes = np.abs(rows.weights).reshape(len(rows.weights), -1, size)
    lost, most = (sizes < F16_LOSSLESS).any(2), sizes.max(2)
    with np.errstate(invalid="ignore", over="ignore"):
        far, least = (
            np.abs(quantizer.dequantize(rows.type, data, columns) - rows.weights).reshape(*lost.shape, size).max(2)
            for data in (rows.actual, derived)
        )
    return np.asarray(lost & (far <= 1.2 * least + 2.0**-24 + 2.0**-10 * most))


def _errors(quantizer: Quantizer, rows: Rows, data: Bytes) -> Doubles:
    """Weighted squared error of every block of ``data``, ``[rows, blocks]``; NaN counts as infinite."""
    found = quantizer.dequantize(rows.type, data, rows.weights.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        values = found.astype(np.float64)
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
