"""Importances read off the blocks that they led to, where nobody has the matrix.

With importances llama.cpp stores in Q4_0 and Q5_0, as float16, the scale d that makes sum(w (d l - x)^2) least, in Q4_1
and Q5_1 scale and minimum that make sum(w (d l + m - x)^2) least, of weights x and their quants l. Here w is the
importance times sqrt(s + x^2), and s the mean square of the row (``make_qx_quants``, ``make_qkx3_quants`` and
``quantize_row_q4_0_impl`` in ``ggml-quants.c`` of llama.cpp 0c1e57098bba). So each block gives equations that are
linear in the importances of its 32 columns, and hold but for the rounding to float16. All rows share them: some
hundreds tell them to a few parts in a thousand, but for a factor that all 32 columns have in common and that no byte of
these types depends on.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from requant.formats.ggml import Bytes, Floats, GGMLType
from requant.quantization.unpacking import unpack

Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

RECOVERABLE = (GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1)
"""Types whose scales are stored as they were found; K-quants round them to six or eight bits."""
SQUARES = 16
"""Steps of reweighted least squares, which find the importances."""
POWERS = (4, 4, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16, 32, 32, 32, 32)
"""Sums of which power are made less then, one after the other, to bring every block within half a unit of the last
place, as the true importances do."""
MOST = 4.0
"""The factor by which an importance may change in a step."""
TOGETHER = 1 << 18
"""Weights that are looked at together; some twenty float64 of each lie in memory."""
TINY = 1e-30


class _Blocks(NamedTuple):
    """Some columns of blocks, ``[blocks, rows, 32]``, and what rounding may have done to what they store.

    ``weights`` are sqrt(s + x^2), 0 where a block says nothing, ``residuals`` what is left of x by scale and minimum.
    ``of_scale`` and ``of_minimum``, ``[blocks, rows]``, are half units of their last place.
    """

    weights: Doubles
    quants: Doubles
    residuals: Doubles
    of_scale: Doubles
    of_minimum: Doubles | None


def recover(kind: GGMLType, weights: Floats, actual: Bytes) -> Floats:
    """Find the importances that lead from weights to blocks.

    Args:
        kind: one of ``RECOVERABLE``.
        weights: ``[rows, columns]`` as they were quantized, of one matrix; 64 rows at least, better some hundreds.
        actual: what was made of them, ``[rows, bytes per row]``.

    Returns:
        ``[columns]``, in each block of 32 as parts of their mean. Whether they explain anything other rows must show.
    """
    height, columns = weights.shape
    squares = np.mean(np.square(weights, dtype=np.float64), axis=1)
    blocks = actual.reshape(height, -1, kind.type_size)
    parts = weights.reshape(height, -1, kind.block_size)
    found = np.empty((columns // kind.block_size, kind.block_size))
    step = max(1, TOGETHER // (height * kind.block_size))
    for first in range(0, len(found), step):
        part = slice(first, first + step)
        found[part] = _solve(_looked_at(kind, parts[:, part], blocks[:, part], squares))
    return found.reshape(-1).astype(np.float32)


def _looked_at(kind: GGMLType, weights: Floats, blocks: Bytes, squares: Doubles) -> _Blocks:
    height, width, size = weights.shape
    taken = unpack(kind, np.ascontiguousarray(blocks).reshape(height * width, -1))
    x = weights.transpose(1, 0, 2).astype(np.float64)
    quants = taken.quants.reshape(height, width, size).transpose(1, 0, 2).astype(np.float64)
    with np.errstate(invalid="ignore"):
        # Scales may be no number: files are hostile.
        scale = taken.scales.reshape(height, width).T.astype(np.float64)
        least = None if taken.minima is None else -taken.minima.reshape(height, width).T.astype(np.float64)
        residuals = x - scale[..., None] * quants - (0 if least is None else least[..., None])
    usable = np.isfinite(residuals).all(2, keepdims=True)
    weighted = np.where(usable, np.sqrt(squares[:, None] + np.square(x)), 0)
    residuals = np.where(usable, residuals, 0)
    return _Blocks(weighted, quants, residuals, _half_unit(scale), None if least is None else _half_unit(least))


def _half_unit(values: Doubles) -> Doubles:
    """Half the distance to the next float16; infinity where nothing is to be held against the value.

    A minimum of 0 is where one above 0 is cut off.
    """
    near = np.abs(values).astype(np.float16)
    with np.errstate(invalid="ignore", over="ignore"):
        found = (np.nextafter(near, np.float16(np.inf)).astype(np.float64) - near.astype(np.float64)) / 2
    return np.where(np.isfinite(found) & (near > 0), found, np.inf)


def _solve(blocks: _Blocks) -> Doubles:
    """The importances ``[blocks, 32]`` that leave the least residuals."""
    found = np.ones((len(blocks.weights), blocks.weights.shape[2]))
    for _ in range(SQUARES):
        found = _step(blocks, found, 2)
    worst = _worst(blocks, found)
    for power in POWERS:
        closer = _step(blocks, found, power)
        left = _worst(blocks, closer)
        better = left < worst
        found, worst = np.where(better[:, None], closer, found), np.where(better, left, worst)
    return found


def _step(blocks: _Blocks, found: Doubles, power: int) -> Doubles:
    """A step of Newton's method towards the least sum of the residuals' powers, on the importances of the same sum."""
    # The unknowns are the parts by which importances change, so that small ones are found as well as large ones.
    matrix = _residuals(blocks, found) * found[:, None]
    left = np.abs(matrix.sum(2))
    weight = (left / np.maximum(left.max(1, keepdims=True), TINY)) ** (power - 2)
    square = np.matmul((matrix * weight[..., None]).transpose(0, 2, 1), matrix)
    ridge = np.maximum(1e-12 * np.trace(square, axis1=1, axis2=2), TINY)
    square += ridge[:, None, None] * np.eye(square.shape[1])
    change = np.linalg.solve(square, found[..., None])[..., 0]
    change *= found.shape[1] / (change * found).sum(1, keepdims=True)
    changed: Doubles = found * np.clip(1 + (change - 1) / (power - 1), 1 / MOST, MOST)
    changed *= found.shape[1] / changed.sum(1, keepdims=True)
    return changed


def _worst(blocks: _Blocks, found: Doubles) -> Doubles:
    """The largest residual in each column of blocks, in half units of the last place."""
    left: Doubles = np.abs(np.matmul(_residuals(blocks, found), found[..., None]))
    worst: Doubles = left.max((1, 2), initial=0)
    return worst


def _residuals(blocks: _Blocks, found: Doubles) -> Doubles:
    """By how much scale and minimum differ from those that ``found`` leads to, in half units: a sum over columns each.

    ``[blocks, equations, 32]``, of every row two equations where the type has minima; 0 where a block says nothing.
    """
    weights, quants, residuals, of_scale, of_minimum = blocks
    by_quant = weights * quants
    both = np.matmul(by_quant * quants, found[..., None])[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        if of_minimum is None:
            rows = [by_quant * residuals / (both * of_scale)[..., None]]
        else:
            one, linear = (np.matmul(each, found[..., None])[..., 0] for each in (weights, by_quant))
            free = np.isfinite(of_minimum)
            one, linear = np.where(free, one, 1), np.where(free, linear, 0)
            spread = one * both - linear * linear
            first, second = by_quant * residuals, weights * residuals
            rows = [
                (first * one[..., None] - second * linear[..., None]) / (spread * of_scale)[..., None],
                (second * both[..., None] - first * linear[..., None]) / (spread * of_minimum)[..., None],
            ]
        together = np.concatenate(rows, 1)
    return np.where(np.isfinite(together), together, 0)
