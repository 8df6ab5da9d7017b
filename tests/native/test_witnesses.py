"""Witnesses: every derived block has one, no altered block has, and the answer is always the same."""

from __future__ import annotations

import numpy as np
import pytest

from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.quantization.witnesses import EPSILONS, ROW_WIDE, SCARCE, find_witnesses
from support.quants import kept

K_TYPES = (T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K)
TYPES = (*K_TYPES, *ROW_WIDE, T.IQ4_NL, T.IQ4_XS)
UNITS = 4 * SCARCE + 8
"""More than get the most tries."""
named = pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
k_types = pytest.mark.parametrize("kind", K_TYPES, ids=lambda kind: kind.name)


def units(kind: T, count: int = UNITS, seed: int = 1) -> tuple[Floats, Floats]:
    """Weights of units, and importances of their own."""
    generator = np.random.default_rng(seed)
    shape = count, 128 if kind in ROW_WIDE else kind.block_size
    weights = (generator.standard_normal(shape) / 50).astype(np.float32)
    return weights, np.exp(generator.standard_normal(shape)).astype(np.float32)


def derived(kind: T, weights: Floats, by: Floats | None, arithmetic: Arithmetic = Arithmetic.STRICT) -> Bytes:
    rows = zip(weights, [None] * len(weights) if by is None else by, strict=True)
    return np.concatenate([kept(arithmetic).quantize(kind, row[None], own) for row, own in rows])


def searched(kind: T, weights: Floats, by: Floats | None, actual: Bytes) -> Floats:
    return find_witnesses((kept(Arithmetic.STRICT), kept(Arithmetic.FUSED)), kind, weights, by, actual)


@named
@pytest.mark.parametrize("weighed", [True, False], ids=["importances", "none"])
@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_a_derived_block_is_its_own_witness(kind: T, weighed: bool, arithmetic: Arithmetic) -> None:
    weights, by = units(kind)
    used = by if weighed else None
    found = searched(kind, weights, used, derived(kind, weights, used, arithmetic))
    assert found.shape == (UNITS, weights.shape[1] // kind.block_size)
    assert (found == 0).all()


@k_types
def test_flipped_bits_have_none(kind: T) -> None:
    """One bit anywhere in the block."""
    weights, by = units(kind)
    actual = derived(kind, weights, by)
    bits = np.random.default_rng(2).integers(0, 8 * kind.type_size, UNITS)
    actual[np.arange(UNITS), bits // 8] ^= (1 << bits % 8).astype(np.uint8)
    assert np.isnan(searched(kind, weights, by, actual)).all()


@k_types
def test_the_most_tries_find_none_either(kind: T) -> None:
    weights, by = units(kind, 4)
    actual = derived(kind, weights, by)
    actual[0] = np.random.default_rng(3).integers(0, 256, kind.type_size)
    actual[1, {T.Q2_K: 0, T.Q3_K: 96, T.Q6_K: 192}.get(kind, 4)] ^= 1  # a part's scale
    actual[2, {T.Q2_K: 80, T.Q3_K: 108, T.Q6_K: 208}.get(kind, 0)] ^= 1  # the block's scale
    actual[3] = derived(kind, weights[[0]], by[[0]])[0]  # another block's bytes
    assert np.isnan(searched(kind, weights, by, actual)).all()


def rounded_otherwise(kind: T, part: float) -> tuple[Floats, Floats, Bytes]:
    """Blocks that come out differently when the weights change by up to this part; a stand-in for other compilers."""
    weights, by = units(kind, 6000, 4)
    change = np.random.default_rng(5).uniform(-part, part, weights.shape)
    actual = derived(kind, (weights * (1 + change)).astype(np.float32), by)
    differ = (actual != derived(kind, weights, by)).any(1)
    return weights[differ], by[differ], actual[differ]


@pytest.mark.parametrize("kind", [T.Q4_K, T.Q6_K], ids=lambda kind: kind.name)
def test_small_changes_are_found(kind: T) -> None:
    weights, by, actual = rounded_otherwise(kind, 2.0**-20)
    found = searched(kind, weights, by, actual)
    assert len(found) >= 3
    assert np.isin(found, [0, *EPSILONS]).all(), "a change that is known to be there was not found"
    again = searched(kind, weights, by, actual)
    assert found.tobytes() == again.tobytes()


@pytest.mark.parametrize("kind", [T.Q4_K, T.Q6_K], ids=lambda kind: kind.name)
def test_large_changes_are_not(kind: T) -> None:
    """A part in 500: the weights of another model, for all that a witness can say."""
    weights, by, actual = rounded_otherwise(kind, 2.0**-9)
    found = searched(kind, weights[:UNITS], by[:UNITS], actual[:UNITS])
    assert len(found) == UNITS
    assert np.isnan(found).mean() > 0.9


class Counted:
    """The strict quantizer, which counts how often it is called."""

    arithmetic, calls = Arithmetic.STRICT, 0

    def quantize(self, kind: T, weights: Floats, importance: Floats | None = None) -> Bytes:
        self.calls += 1
        return kept(self.arithmetic).quantize(kind, weights, importance)

    def dequantize(self, kind: T, data: Bytes, columns: int) -> Floats:
        return kept(self.arithmetic).dequantize(kind, data, columns)


def test_only_wanted_blocks_are_looked_for() -> None:
    """Nobody tries on for blocks that were not asked for, though they have no witness; their neighbours have one."""
    weights, by = units(T.Q5_0, 6)
    actual, wanted = derived(T.Q5_0, weights, by), np.random.default_rng(6).random((6, 4)) < 0.5
    assert wanted.any(1).all()
    actual.reshape(6, 4, -1)[~wanted] ^= 0x55
    quantizer = Counted()
    found = find_witnesses((quantizer,), T.Q5_0, weights, by, actual, wanted)
    assert np.array_equal(np.isnan(found), ~wanted)
    assert quantizer.calls == 6, "each row has importances of its own"
