"""Quants looked at without importances: whatever these were, what llama.cpp made follows, and what was changed does not."""

from __future__ import annotations

import numpy as np
import pytest

from requant.formats.ggml import NEEDS_IMPORTANCE, Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.quantization.consistency import EVEN_SIGNS, LIMITS, Consistency, check_rows, derive_evenly, look
from requant.quantization.unpacking import LEVELS, UNPACKED, unpack
from support.planted import CHANGES, flipped, kept_quants
from support.quants import kept

GRIDS = (T.IQ2_XXS, T.IQ3_S)
"""One with an even number of signs and one without; llama.cpp takes up to ten seconds to make ready for each of the others,
which ``bench/consistency.py`` looks at."""
TYPES = (*LIMITS, *GRIDS)
named = pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
COLUMNS = 512
STRICT = kept(Arithmetic.STRICT)


def weights_of(kind: T, seed: int) -> Floats:
    """Some rows are plain, some have few large weights, some columns of all sizes; in others float16 scales are subnormal."""
    generator = np.random.default_rng([seed, int(kind)])
    weights = generator.standard_normal((4 if kind in GRIDS else 16, COLUMNS))
    weights[1::4] = generator.standard_t(3, (len(weights[1::4]), COLUMNS))
    weights[2::4] *= np.exp(generator.standard_normal(COLUMNS) * 1.5)
    weights[3::4] *= np.where(np.arange(COLUMNS) < 256, 1e-4, 1e-7)
    return (weights / 50).astype(np.float32)


def importances(name: str) -> Floats | None:
    generator = np.random.default_rng(9)
    found = {
        "none": None,
        "chi squared": generator.chisquare(1, COLUMNS),
        "wild": np.exp(generator.standard_normal(COLUMNS) * 4),
        "dead columns": generator.chisquare(1, COLUMNS) * (np.arange(COLUMNS) % 300 > 40),
    }[name]
    return None if found is None else found.astype(np.float32)


def checked(kind: T, weights: Floats, actual: Bytes) -> Consistency:
    return check_rows(STRICT, kind, weights, actual, np.arange(len(weights)))


@pytest.mark.parametrize("kind", UNPACKED, ids=lambda kind: kind.name)
def test_blocks_are_taken_apart_as_ggml_does(kind: T) -> None:
    data = STRICT.quantize(kind, weights_of(kind, 1), importances("wild"))
    parts = unpack(kind, data.reshape(-1, kind.type_size))
    levels = LEVELS[parts.quants] if kind in (T.IQ4_NL, T.IQ4_XS) else parts.quants.astype(np.float32)
    values = levels * parts.scales[..., None]
    if parts.minima is not None:
        values -= parts.minima[..., None]
    assert np.array_equal(values.reshape(len(data), COLUMNS), STRICT.dequantize(kind, data, COLUMNS))


@named
@pytest.mark.parametrize("by", ["none", "chi squared", "wild", "dead columns"])
@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_nothing_that_llama_cpp_makes_is_off(kind: T, by: str, arithmetic: Arithmetic) -> None:
    if (by == "none" and kind in NEEDS_IMPORTANCE) or (kind in GRIDS and arithmetic is Arithmetic.FUSED):
        pytest.skip("cannot do without importances, or takes long to get ready")
    weights = weights_of(kind, 2)
    found = look(STRICT, kind, weights, kept(arithmetic).quantize(kind, weights, importances(by)), np.arange(16))
    assert (found.off, found.contradicted, found.marred, found.places) == (0, 0, 0, [])
    assert (found.quants, found.blocks) == (weights.size, weights.size // kind.block_size)


WEAK = (T.Q2_K, T.Q4_1, *GRIDS)
"""Types in which a small change shows in some rows only."""


def odd_weights() -> dict[str, Floats]:
    """Weights that no model should have, and some have."""
    generator = np.random.default_rng(10)
    normal, place = generator.standard_normal((4, COLUMNS)) / 50, np.arange(COLUMNS)
    found = {
        "zeros": normal * 0,
        "constant": np.full((4, COLUMNS), -0.02),
        "positive": np.abs(normal),
        "sparse": np.where(generator.random((4, COLUMNS)) < 0.05, normal, 0),
        "whole parts of zeros": np.where(place // 32 % 2, normal, 0),
        "ternary": np.sign(normal) * (generator.random((4, COLUMNS)) < 0.6) * 0.03,
        "on a grid": np.rint(normal * 200) / 256,
        "outliers": np.where(place % 64 == 5, 3, normal / 10),
        "huge": normal * 4e6,
        "denormal": normal * 1e-38,
        "hardly any in two of three parts": normal * np.where(place // 16 % 3, 1, 1e-12),
    }
    return {name: weights.astype(np.float32) for name, weights in found.items()}


@named
@pytest.mark.parametrize("by", ["none", "wild", "all 0"])
def test_nothing_is_off_of_odd_weights(kind: T, by: str) -> None:
    """IQ3_S stores signs in wrong places where whole parts are 0; that is llama.cpp's, and honest."""
    used = np.zeros(COLUMNS, np.float32) if by == "all 0" else importances(by)
    if used is None and kind in NEEDS_IMPORTANCE:
        pytest.skip("cannot do without importances")
    for name, weights in odd_weights().items():
        found = look(STRICT, kind, weights, STRICT.quantize(kind, weights, used), np.arange(4))
        assert (found.off, found.contradicted) == (0, 0), name


@named
@pytest.mark.parametrize("change", ["noise of 1 %", "a LoRA of 2 %", "another seed"])
def test_quants_of_changed_weights_are_off(kind: T, change: str) -> None:
    """Counted in rows of 512 weights."""
    rows = 4 if kind in GRIDS else 12
    generator = np.random.default_rng(3)
    weights = (generator.standard_normal((rows, COLUMNS)) / 50).astype(np.float32)
    actual = STRICT.quantize(kind, CHANGES[change](weights, generator), importances("chi squared"))
    found = [look(STRICT, kind, weights[[row]], actual[[row]], np.array([row])) for row in range(rows)]
    least = rows if change == "another seed" else 0 if kind in EVEN_SIGNS else rows // 3 if kind in WEAK else rows - 1
    assert sum(each.off > 0 for each in found) >= least
    whole = checked(kind, weights, actual)
    if change == "another seed":
        assert whole.ratio > 10 and whole.error > whole.power and whole.contradicted > 0
        row, column = whole.places[0]
        assert row == 0 and column < 32


@pytest.mark.parametrize("kind", LIMITS, ids=lambda kind: kind.name)
def test_a_flipped_bit_is_off(kind: T) -> None:
    generator = np.random.default_rng(4)
    weights = (generator.standard_normal((12, COLUMNS)) / 50).astype(np.float32)
    actual = STRICT.quantize(kind, weights, importances("chi squared"))
    changed = np.stack([flipped(kind, row, generator) for row in actual])
    found = [look(STRICT, kind, weights[[row]], changed[[row]], np.array([row + 7])) for row in range(12)]
    assert all(each.places[0][0] == row + 7 for row, each in enumerate(found) if each.off)
    seen = sum(each.off > 0 for each in found)
    assert seen >= 9
    if kind in (T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K):
        assert seen == sum(each.off for each in found) == 12


@pytest.mark.parametrize("kind", [T.Q4_K, T.Q6_K], ids=lambda kind: kind.name)
def test_quants_of_a_search_are_off_but_never_contradicted(kind: T) -> None:
    """A quantizer that stores what its search found rounds to nearest all the same, under scales that it had."""
    generator = np.random.default_rng(5)
    weights = (generator.standard_normal((16, COLUMNS)) / 50).astype(np.float32)
    actual = kept_quants(kind, weights, STRICT.quantize(kind, weights, importances("chi squared")), generator)
    found = checked(kind, weights, actual)
    assert found.off > 50 and not found.contradicted and found.ratio < 2


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0.0, -1.0])
@pytest.mark.parametrize("kind", LIMITS, ids=lambda kind: kind.name)
def test_no_scale_is_too_odd(kind: T, scale: float) -> None:
    """Files are hostile: whatever stands for a scale, it is said and nothing breaks."""
    weights = weights_of(kind, 6)
    data = STRICT.quantize(kind, weights, importances("wild"))
    place = {T.Q2_K: 80, T.Q3_K: 108, T.Q6_K: 208}.get(kind, 0)
    data[:, place : place + 2] = np.array([scale], "<f2").view(np.uint8)
    found = checked(kind, weights, data)
    assert found.off > 0 or found.flat > 0
    assert found.ratio > 1


def test_findings_add_up() -> None:
    weights = weights_of(T.Q4_K, 7)
    data = STRICT.quantize(T.Q4_K, weights, importances("wild"))
    data[[4, 5, 8, 9], 30] ^= 0x10
    rows, parts = np.arange(len(weights)), Consistency()
    for part in (slice(8, 16), slice(0, 8)):
        parts.add(check_rows(STRICT, T.Q4_K, weights[part], data[part], rows[part]))
    whole = checked(T.Q4_K, weights, data)
    assert parts.error == pytest.approx(whole.error) and parts.derived_error == pytest.approx(whole.derived_error)
    parts.error, parts.derived_error, parts.power = whole.error, whole.derived_error, whole.power
    assert parts == whole
    assert whole.off == whole.marred == 4 and [row for row, _ in whole.places] == [4, 5, 8]


def test_the_error_is_that_over_a_derivation_without() -> None:
    weights = weights_of(T.Q5_K, 8)
    evenly = derive_evenly(STRICT, T.Q5_K, weights)
    found = check_rows(STRICT, T.Q5_K, weights, evenly, np.arange(len(weights)), evenly)
    assert (found.ratio, found.worst, found.off) == (1, 1, 0)
    squares = (STRICT.dequantize(T.Q5_K, evenly, COLUMNS) - weights) ** 2
    assert found.error == pytest.approx(float(squares.sum()), rel=1e-5)
    assert found.power == pytest.approx(float((weights.astype(np.float64) ** 2).sum()))
