"""What a witness may be: weights and importances that differ from the named ones by a part in 2**17 at most."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.quantization.witnesses import changed, find_witnesses
from support.pure_quantizer import PureQuantizer
from support.quants import numbers

FARTHEST = 2.0**-17
"""docs/verdicts.md: 0.0008 % of itself."""
ROUNDED = 2.0**-23
"""By which float32 may miss that."""


@dataclass(frozen=True)
class Noting(PureQuantizer):
    """One that notes by which part the numbers that it gets differ from the named ones."""

    weights: Floats
    importance: Floats
    parts: list[tuple[float, float]] = field(default_factory=list)

    def quantize(self, kind: T, weights: Floats, importance: Floats | None = None) -> Bytes:
        assert importance is not None
        self.parts.append((farthest(weights, self.weights), farthest(importance, self.importance)))
        return super().quantize(kind, weights, importance)


def farthest(values: Floats, named: Floats) -> float:
    return float(np.abs(values.astype(np.float64).ravel() / named.ravel() - 1).max())


def test_what_is_tried_is_no_farther_than_is_said() -> None:
    """Of a block that nothing explains everything is tried."""
    weights, by = numbers(1, 1, 64), np.abs(numbers(2, 1, 64)) + 1
    noting = Noting(Arithmetic.STRICT, weights, by)
    actual = PureQuantizer(Arithmetic.STRICT).quantize(T.Q4_1, weights)
    actual[:, 4:] ^= 0xFF
    assert np.isnan(find_witnesses((noting,), T.Q4_1, weights, by, actual)).all()
    assert noting.parts[0] == (0, 0) and len(noting.parts) > 1000
    for most in map(max, zip(*noting.parts, strict=True)):
        assert 0.9 * FARTHEST < most <= FARTHEST + ROUNDED


def test_changes_reach_both_ways_and_no_farther() -> None:
    values = np.full(10_000, 3, np.float32)
    found = changed(values, FARTHEST, np.random.Philox(key=1)).astype(np.float64) / 3 - 1
    assert -FARTHEST - ROUNDED <= found.min() < -0.9 * FARTHEST and 0.9 * FARTHEST < found.max() <= FARTHEST + ROUNDED
    assert changed(values, 0.0, np.random.Philox(key=1)) is values
