"""Do quants follow from weights where the importances are not known?

Importances choose scales. What a weight becomes under a scale they do not touch, and llama.cpp rounds every weight once
more under the scales that it stores, or under the one that its search took. So three things can be asked of a block
without knowing whose importances it had, each as far as its type allows:

- ``RE_ROUNDED``: is every quant what its weight rounds to under the block's own scales? For IQ4_NL and IQ4_XS under one
  of the scales that the stored float16 may have been rounded from.
- ``ROUNDED``: is there any scale under which the weights round to these quants? The search's own is not stored.
- ``SIGNED``: are the signs those of the weights? Grids choose magnitudes for eight or four weights together, by
  importance. Types with an even number of minus signs turn one where the number is odd.

Of IQ1 nothing is left to ask but how large the error is. docs/verdicts.md has what was measured.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np

from requant.formats.ggml import NEEDS_IMPORTANCE, Bytes, Floats, GGMLType, Indices
from requant.quantization.quantizer import Quantizer
from requant.quantization.unpacking import LEVELS, Parts, unpack

Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

LIMITS = {
    GGMLType.Q2_K: (0, 3), GGMLType.Q3_K: (-4, 3), GGMLType.Q4_K: (0, 15), GGMLType.Q5_K: (0, 31),
    GGMLType.Q6_K: (-32, 31), GGMLType.Q4_0: (-8, 7), GGMLType.Q4_1: (0, 15), GGMLType.Q5_0: (-16, 15),
    GGMLType.Q5_1: (0, 31), GGMLType.IQ4_NL: (0, 15), GGMLType.IQ4_XS: (0, 15),
}  # fmt: skip
"""The least and the greatest quant; beyond them is clamped."""
NON_LINEAR = (GGMLType.IQ4_NL, GGMLType.IQ4_XS)
RE_ROUNDED = (GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K, *NON_LINEAR)
ROUNDED = (GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1)
EVEN_SIGNS = (GGMLType.IQ2_XXS, GGMLType.IQ2_XS, GGMLType.IQ3_XXS)
SIGNED = (*EVEN_SIGNS, GGMLType.IQ2_S, GGMLType.IQ3_S)

SLACK = 2.0**-20
"""How near to a tie, as a part of the largest level, either side will do: compilers divide and subtract alike, but not
all multiply by a reciprocal. Of llama.cpp's own no quant needs it where scales are stored exactly."""
MIDPOINTS = np.concatenate([[-np.inf], (LEVELS[1:] + LEVELS[:-1]) / 2, [np.inf]]).astype(np.float32)
MOST_PLACES = 3
GROUP, GRID_PART = 8, 16
"""Weights that share a byte of signs, and those that share a scale in the smallest grids."""


@dataclass
class Consistency:
    """What was found in some rows without importances; findings add up.

    ``off`` of ``quants`` are not what their weights round to, or are signs that are not the weights'. ``marred`` of
    ``blocks`` hold such. ``contradicted`` are parts for which there is no scale at all under which the weights round to
    these quants. ``flat`` parts have the scale 0: no weight shows in them. ``error`` and ``derived_error`` are squared
    errors, unweighted, of the blocks and of those derived without importances in their place; ``worst`` is the largest
    ratio of the two in one block. ``power`` is the squared error that zeros would have.
    ``places`` are row and column of the first few that are off, of signs those of their group.
    """

    quants: int = 0
    off: int = 0
    contradicted: int = 0
    flat: int = 0
    blocks: int = 0
    marred: int = 0
    error: float = 0.0
    derived_error: float = 0.0
    power: float = 0.0
    worst: float = 0.0
    places: list[tuple[int, int]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """By which factor the squared error is that of a derivation without importances; 1 where neither has any."""
        if not self.derived_error:
            return 1.0 if not self.error else float(np.inf)
        return self.error / self.derived_error

    def add(self, more: "Consistency") -> None:
        """Add other rows of the same tensor."""
        for each in fields(self):
            one, other = getattr(self, each.name), getattr(more, each.name)
            setattr(self, each.name, max(one, other) if each.name == "worst" else one + other)
        self.places = sorted(self.places)[:MOST_PLACES]


def check_rows(
    quantizer: Quantizer, kind: GGMLType, weights: Floats, actual: Bytes, indices: Indices,
    derived: Bytes | None = None,
) -> Consistency:  # fmt: skip
    """Ask of rows what can be asked without importances.

    Args:
        quantizer: derives what the error is compared with; the arithmetic does not matter.
        kind: any type that is found by a search.
        weights: ``[rows, columns]``, fit for the quantizer.
        actual: the bytes in question, ``[rows, bytes per row]``.
        indices: the numbers of the rows in the tensor.
        derived: what the quantizer makes of the weights without importances, where that is known.
    """
    found = look(quantizer, kind, weights, actual, indices)
    if derived is None:
        derived = derive_evenly(quantizer, kind, weights)
    errors, least = (_errors(quantizer, kind, weights, data) for data in (actual, derived))
    found.error, found.derived_error = float(errors.sum()), float(least.sum())
    found.power = float(np.einsum("rc,rc->", weights, weights, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found.worst = float(np.nan_to_num(errors / least, nan=1.0, posinf=np.inf).max(initial=0))
    return found


def derive_evenly(quantizer: Quantizer, kind: GGMLType, weights: Floats) -> Bytes:
    """Derive rows without importances, or with equal ones where a type cannot do without."""
    ones = np.ones(weights.shape[1], np.float32) if kind in NEEDS_IMPORTANCE else None
    return quantizer.quantize(kind, weights, ones)


def look(quantizer: Quantizer, kind: GGMLType, weights: Floats, actual: Bytes, indices: Indices) -> Consistency:
    """The same without errors, which nothing needs to be derived for."""
    blocks = actual.reshape(-1, kind.type_size)
    flat = contradicted = np.zeros(0, np.bool_)
    off = np.zeros((len(blocks), 0), np.bool_)
    if kind in LIMITS:
        off, contradicted, flat = _rounding(kind, weights.reshape(len(blocks), -1), blocks)
    elif kind in SIGNED:
        values = quantizer.dequantize(kind, actual, weights.shape[1])
        off, contradicted, flat = _signs(kind, weights.reshape(len(blocks), -1), values.reshape(len(blocks), -1))
    width = off.size // max(1, len(weights))
    step = weights.shape[1] // max(1, width)
    places = np.flatnonzero(off)[:MOST_PLACES]
    return Consistency(
        quants=weights.size,
        off=int(off.sum()),
        contradicted=int(contradicted.sum()),
        flat=int(flat.sum()),
        blocks=len(blocks),
        marred=int(off.any(1).sum()),
        places=[(int(indices[place // width]), int(place % width) * step) for place in places],
    )


def with_counts(found: Consistency, counts: Consistency) -> Consistency:
    """The errors of the one, and what was counted in the other."""
    errors = {name: getattr(found, name) for name in ("error", "derived_error", "power", "worst")}
    return replace(counts, **errors)


def _rounding(kind: GGMLType, weights: Floats, blocks: Bytes) -> tuple[Flags, Flags, Flags]:
    """Quants that are off, ``[blocks, weights]``; parts that no scale fits, parts of scale 0: ``[blocks, parts]``."""
    parts = unpack(kind, blocks)
    weights = weights.reshape(parts.quants.shape)
    flat: Flags = parts.scales == 0
    off = _beyond(kind, parts, weights)
    off[flat] = False
    if kind in NON_LINEAR:
        marred = np.flatnonzero(off.any((1, 2)))
        off[marred] &= ~_before_rounding(kind, parts, weights, marred, blocks)[:, None, None]
    # A part of scale 0 stands for one number, whatever its quants are: they are the search's, or all alike.
    told = flat & (parts.quants != parts.quants[..., :1]).any(2)
    asked = off.any(2) | told
    possible = np.ones(flat.shape, np.bool_)
    possible[asked] = _possible(kind, parts, weights, asked)
    if kind in ROUNDED:
        off &= ~possible[..., None]
    off |= (told & ~possible)[..., None]
    return off.reshape(len(blocks), -1), ~possible, flat


def _edges(kind: GGMLType, quants: Any) -> tuple[Floats, Floats]:
    """Between which positions weights round to these quants, with some slack; infinite where they are clamped to."""
    low, high = LIMITS[kind]
    if kind in NON_LINEAR:
        slack = np.float32(SLACK * 127)
        return MIDPOINTS[quants] - slack, MIDPOINTS[quants + 1] + slack
    reach = np.float32(0.5 + SLACK * high)
    lower, upper = quants - reach, quants + reach
    lower[quants == low], upper[quants == high] = -np.inf, np.inf
    return lower, upper


def _positions(parts: Parts, weights: Floats) -> Floats:
    """Where the weights lie among the levels of their parts; not finite where a scale is 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shifted = weights if parts.minima is None else weights + parts.minima[..., None]
        found: Floats = shifted / parts.scales[..., None]
    return found


def _beyond(kind: GGMLType, parts: Parts, weights: Floats) -> Flags:
    """Quants that are not what the weights round to under the stored scales; what is no number is."""
    positions = _positions(parts, weights)
    if kind in NON_LINEAR:
        lower, upper = _edges(kind, parts.quants)
        found: Flags = ~((positions >= lower) & (positions <= upper))
        return found
    low, high = LIMITS[kind]
    np.clip(positions, low, high, out=positions)
    positions -= parts.quants
    return ~(np.abs(positions, out=positions) <= np.float32(0.5 + SLACK * high))


def _before_rounding(kind: GGMLType, parts: Parts, weights: Floats, chosen: Any, blocks: Bytes) -> Flags:
    """Whether blocks of IQ4 round so under some scale that becomes the stored float16."""
    half = np.ascontiguousarray(blocks[chosen, :2]).view("<f2")[:, 0]
    with np.errstate(invalid="ignore"):
        # Of a negative power of two numpy's spacing is that below it.
        reach = np.spacing(np.abs(half)).astype(np.float64) / 2
        step = np.divide(reach, np.abs(half.astype(np.float64)), where=half != 0, out=np.zeros(len(half)))
    picked = Parts(parts.quants[chosen], parts.scales[chosen])
    positions = _positions(picked, weights[chosen]).reshape(len(chosen), kind.block_size)
    # Where a part's own scale is 0 all of it is the level next to 0, which is seen to elsewhere.
    positions[~np.isfinite(positions)] = 0
    lower, upper = (edge.reshape(positions.shape) for edge in _edges(kind, picked.quants))
    flat = np.repeat(picked.scales == 0, picked.quants.shape[2], 1)
    lower[flat], upper[flat] = -np.inf, np.inf
    return _some_factor(positions, lower, upper, 1 / (1 + step), 1 / (1 - np.minimum(step, 0.5)))


def _possible(kind: GGMLType, parts: Parts, weights: Floats, asked: Flags) -> Flags:
    """Whether there is any scale, and any minimum where there are minima, that makes the quants of each ``asked``."""
    scales, quants = parts.scales[asked], parts.quants[asked]
    signed = weights[asked].astype(np.float64) * np.where(scales < 0, -1, 1)[:, None]
    if parts.minima is not None:
        return _some_line(signed, quants, *LIMITS[kind])
    lower, upper = _edges(kind, quants)
    # Whether the lost scale of a flat part was negative nobody knows.
    least = np.where(scales == 0, -np.inf, 0)
    return _some_factor(signed, lower, upper, least, np.full(len(scales), np.inf))


def _some_factor(positions: Any, lower: Any, upper: Any, least: Doubles, most: Doubles) -> Flags:
    """Is there a factor from ``least`` to ``most`` that brings all positions of a part between their edges?"""
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = lower / positions, upper / positions
    at_zero = positions == 0
    first = np.where(at_zero, -np.inf, np.where(positions > 0, one, other)).max(1)
    last = np.where(at_zero, np.inf, np.where(positions > 0, other, one)).min(1)
    fits: Flags = (~at_zero | ((lower <= 0) & (upper >= 0))).all(1)
    fits &= np.maximum(first, least) <= np.minimum(last, most)
    return fits


def _some_line(weights: Doubles, quants: Any, low: int, high: int) -> Flags:
    """Is there a rising line that takes every weight of a part to within half a step of its quant?

    Of each level only the least and the greatest weight matter. Every pair of levels bounds the slope: from below by
    how far apart its nearest weights are, from above by its farthest. If a slope is left, there is an offset too.
    """
    count, levels = len(weights), high - low + 1
    places = (np.arange(count)[:, None] * levels + (quants - low)).ravel()
    least, most = np.full((count, levels), np.inf), np.full((count, levels), -np.inf)
    np.minimum.at(least.reshape(-1), places, weights.ravel())
    np.maximum.at(most.reshape(-1), places, weights.ravel())
    slack = 2 * SLACK * high
    shallow, steep = np.zeros(count), np.full(count, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        for gap in range(levels):
            if gap:
                apart, rise = least[:, gap:] - most[:, : levels - gap], gap - 1 - slack
                bound = rise / apart
                shallow = np.maximum(shallow, np.where(apart > 0, bound, 0).max(1))
                blocked = np.where(apart < 0, bound, np.where((apart == 0) & (rise > 0), -1, np.inf))
                steep = np.minimum(steep, blocked.min(1))
            # The lowest level has no lower edge and the highest no upper one: what is clamped may lie anywhere.
            apart = most[:, 1 + gap : levels - 1] - least[:, 1 : levels - 1 - gap]
            bound = np.where(apart > 0, (gap + 1 + slack) / apart, np.inf)
            steep = np.minimum(steep, bound.min(1, initial=np.inf))
    return shallow <= steep


def _signs(kind: GGMLType, weights: Floats, values: Floats) -> tuple[Flags, Flags, Flags]:
    """The same for grids: groups whose signs are not the weights', and parts that show nothing."""
    weights = _pushed_together(weights) if kind is GGMLType.IQ3_S else weights
    parts = values.reshape(len(weights), -1, GRID_PART)
    flat: Flags = (parts == parts[..., :1]).all(2) & (parts[..., 0] >= 0)
    wrong = ((weights < 0) != (values < 0)).reshape(parts.shape)
    wrong[flat] = False
    groups = wrong.reshape(len(weights), -1, GROUP).sum(2)
    if kind in EVEN_SIGNS:
        odd = (weights < 0).reshape(len(weights), -1, GROUP).sum(2) % 2
        odd[np.repeat(flat, GRID_PART // GROUP, 1)] = 0
        off: Flags = groups != odd
    else:
        off = groups > 0
    return off, off, flat


def _pushed_together(weights: Floats) -> Floats:
    """Blocks of IQ3_S as llama.cpp stores their signs: 32 weights that are all 0 take no room, and the next move up.

    ``quantize_row_iq3_s_impl`` goes on to the next part before it has advanced its pointers; what comes after stands in
    the wrong place. Such a quant is a bad one, and honest.
    """
    parts = weights.reshape(len(weights), -1, 32)
    order = np.argsort((parts == 0).all(2), axis=1, kind="stable")
    found: Floats = np.take_along_axis(parts, order[..., None], 1).reshape(weights.shape)
    return found


def _errors(quantizer: Quantizer, kind: GGMLType, weights: Floats, data: Bytes) -> Doubles:
    """Squared error of every block; what is no number is infinite."""
    values = quantizer.dequantize(kind, data, weights.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        wide = (values - weights).reshape(-1, kind.block_size).astype(np.float64)
        found: Doubles = np.nan_to_num(np.einsum("bi,bi->b", wide, wide), nan=np.inf, posinf=np.inf)
    return found
