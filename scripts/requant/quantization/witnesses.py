"""Is a block that differs from its derivation what another compiler's rounding would have made of it?

llama.cpp's search for scales compares candidates. Two compilers round its sums differently in the last bits, so where
two candidates are nearly equal they may choose differently; then the whole block looks different. No bound on the error
tells such a block from a forged one, but a **witness** does: weights and importances that differ from the named ones by
less than one part in 2**17, for which llama.cpp's own code gives exactly the bytes in question. Whoever has a witness
knows that the scales are among the search's candidates and that the quants follow from them. docs/verdicts.md says what
this leaves to a forger.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from requant.formats.ggml import Bytes, Floats, GGMLType
from requant.quantization.quantizer import Quantizer

Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

EPSILONS = (2.0**-23, 2.0**-20, 2.0**-17)
"""Relative changes that are tried, in this order; the last one bounds what ``near`` can mean."""
TRIES = 64
"""Tries per change and arithmetic."""
MANY_TRIES = 1024
FEW, SCARCE = 64, 8
"""Up to how many blocks that are left then get many, where they are at most a quarter of those looked at; and where
they are more. Of 32 blocks that another compiler made at most one was left: where most are, more tries find nothing."""

ROW_WIDE = (GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1)
"""Types whose search weighs each block by the mean square of its whole row."""


def find_witnesses(
    quantizers: Sequence[Quantizer],
    kind: GGMLType,
    weights: Floats,
    importance: Floats | None,
    actual: Bytes,
    wanted: Flags | None = None,
) -> Floats:
    """Look for a witness of every block.

    Args:
        quantizers: the arithmetics to start from.
        kind: the type of the blocks.
        weights: ``[units, columns]``; a unit is one block, or a whole row for ``ROW_WIDE``.
        importance: the same shape, or None.
        actual: the bytes in question, ``[units, bytes]``.
        wanted: of which blocks, ``[units, blocks in a unit]``; by default of all.

    Returns:
        float32 ``[units, blocks in a unit]``: the change that the witness needed (0: none), NaN without a witness.
        The same arguments always give the same answer.
    """
    units, columns = weights.shape
    blocks = columns // kind.block_size
    data = actual.reshape(units, blocks, kind.type_size)
    wanted = np.ones((units, blocks), np.bool_) if wanted is None else wanted
    found = np.full((units, blocks), np.nan, np.float32)
    stream, most = np.random.Philox(key=0), max(SCARCE, min(FEW, int(wanted.any(1).sum()) // 4))
    for epsilon in (0.0, *EPSILONS):
        for number in range(MANY_TRIES if epsilon == EPSILONS[-1] else TRIES if epsilon else 1):
            if number == TRIES and (wanted & np.isnan(found)).any(1).sum() > most:
                break
            for quantizer in quantizers:
                todo = np.flatnonzero((wanted & np.isnan(found)).any(1))
                if not todo.size:
                    return found
                near_weights = changed(weights[todo], epsilon, stream)
                near_importance = None if importance is None else changed(importance[todo], epsilon, stream)
                made = derive(quantizer, kind, near_weights, near_importance).reshape(len(todo), blocks, -1)
                hits = (made == data[todo]).all(2) & np.isnan(found[todo])
                part = found[todo]
                part[hits] = epsilon
                found[todo] = part
    return found


def derive(quantizer: Quantizer, kind: GGMLType, weights: Floats, importance: Floats | None) -> Bytes:
    """Derive units that each have importances of their own."""
    if importance is None:
        return quantizer.quantize(kind, weights)
    if kind in ROW_WIDE:
        return np.concatenate(
            [quantizer.quantize(kind, weights[[unit]], importance[unit]) for unit in range(len(weights))]
        )
    # Blocks do not see each other: a row of all of them lets each have its own importances in one call.
    return quantizer.quantize(kind, weights.reshape(1, -1), importance.reshape(-1)).reshape(len(weights), -1)


def changed(values: Floats, epsilon: float, stream: np.random.Philox) -> Floats:
    """Change every number by a random part of at most ``epsilon`` of itself."""
    if not epsilon:
        return values
    # Philox gives the same words everywhere; numpy's distributions promise no such thing.
    words = stream.random_raw(values.size).reshape(values.shape) >> np.uint64(40)
    parts = words.astype(np.float64) * (2.0**-23 * epsilon) - epsilon
    changed: Floats = (values * (1 + parts)).astype(np.float32)
    return changed
