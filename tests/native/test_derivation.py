"""Rows derived again and compared: what is counted, what explains a difference, where the odd blocks are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import requant.quantization.derivation
from requant.conversion.weights import rounded
from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.quantization.derivation import (
    FIRST,
    IMPORTANCE_LIMIT,
    LIMIT,
    MOST_EXAMPLES,
    Making,
    Odd,
    Rows,
    Tally,
    Ways,
    compare_rows,
    derivable,
)
from requant.quantization.quantizer import Quantizer
from support.quants import kept, numbers

ROWS, COLUMNS = 400, 512
INDICES = np.arange(ROWS) * 3 + 7
QUANTIZED = pytest.mark.parametrize("kind", [T.Q4_K, T.Q6_K, T.Q4_0, T.Q8_0], ids=lambda kind: kind.name)


WEIGHTS, BY = numbers(1, ROWS, COLUMNS), np.exp(numbers(2, COLUMNS) * 50)


def never() -> Quantizer:
    pytest.fail("the other arithmetic was asked for, and nothing differs")


def ways(other: Callable[[], Quantizer] = lambda: kept(Arithmetic.FUSED)) -> Ways:
    """Strict, or else fused; of weights that nothing has rounded."""

    def quantizer(arithmetic: Arithmetic) -> Quantizer:
        return kept(arithmetic) if arithmetic is Arithmetic.STRICT else other()

    return Ways(quantizer, [Making(arithmetic, T.F32) for arithmetic in Arithmetic])


def compared(kind: T, actual: Bytes, other: Callable[[], Quantizer] = lambda: kept(Arithmetic.FUSED)) -> Tally:
    return compare_rows(ways(other), Rows(kind, WEIGHTS, BY, actual, INDICES))


def derived(kind: T, arithmetic: Arithmetic = Arithmetic.STRICT) -> Bytes:
    return kept(arithmetic).quantize(kind, WEIGHTS, BY)


@QUANTIZED
def test_equal_rows(kind: T) -> None:
    assert compared(kind, derived(kind), never) == Tally(rows=ROWS, blocks=WEIGHTS.size // kind.block_size)


class WrongInOneRow:
    """Lanes that make one row otherwise than llama.cpp does."""

    arithmetic = Arithmetic.STRICT

    def quantize(self, kind: T, weights: Floats, importance: Floats | None = None) -> Bytes:
        made = kept(Arithmetic.STRICT).quantize(kind, weights, importance)
        made[3] ^= 1
        return made

    def dequantize(self, kind: T, data: Bytes, columns: int) -> Floats:
        return kept(Arithmetic.STRICT).dequantize(kind, data, columns)


def test_llama_cpp_has_the_last_word() -> None:
    """What lanes make otherwise is no difference; a row that does differ is compared with llama.cpp's own."""
    actual = derived(T.Q4_K)
    with_lanes = replace(ways(), lanes=WrongInOneRow())
    rows = Rows(T.Q4_K, WEIGHTS, BY, actual, INDICES)
    assert compare_rows(with_lanes, rows) == Tally(rows=ROWS, blocks=WEIGHTS.size // 256)
    actual[11, 20] ^= 0x55
    assert compare_rows(with_lanes, rows) == compare_rows(ways(), rows)


@pytest.mark.parametrize("kind", [T.Q2_K, T.Q4_K, T.Q5_K], ids=lambda kind: kind.name)
def test_the_other_arithmetic_explains_its_blocks(kind: T) -> None:
    actual, size = derived(kind, Arithmetic.FUSED), kind.type_size
    tally = compared(kind, actual)
    differing = int((actual.reshape(-1, size) != derived(kind).reshape(-1, size)).any(1).sum())
    assert differing > 0
    assert (tally.differing, tally.other, tally.witnessed, tally.unexplained) == (differing, differing, 0, 0)
    assert (tally.epsilon, tally.odd) == (0, [])
    assert tally.error == pytest.approx(tally.derived_error, rel=0.2)


@QUANTIZED
def test_an_odd_block_is_placed(kind: T) -> None:
    actual = derived(kind)
    block = 3 * kind.type_size if kind.block_size == 32 else kind.type_size
    actual[11, block : block + 5] ^= 0x55
    tally = compared(kind, actual)
    assert (tally.differing, tally.other, tally.witnessed, tally.unexplained) == (1, 0, 0, 1)
    (odd,) = tally.odd
    column = block // kind.type_size * kind.block_size
    assert (odd.row, odd.column, odd.differing, odd.size) == (INDICES[11], column, 5, kind.type_size)
    assert odd.ratio == pytest.approx(tally.error / tally.derived_error)
    assert odd.ratio > 1.01


def altered(blocks: int) -> Bytes:
    actual = derived(T.Q4_K)
    actual.reshape(-1, 144)[:blocks, 4:] ^= 0xFF
    return actual


def looked_for(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of blocks whose witnesses are looked for, call by call; none is found."""
    searches: list[int] = []

    def count(*arguments: object, **options: object) -> Floats:
        searches.append(len(arguments[2]))  # type: ignore[arg-type]
        return np.full((searches[-1], 1), np.nan, np.float32)

    monkeypatch.setattr(requant.quantization.derivation, "find_witnesses", count)
    return searches


def test_dense_differences_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to half of a batch is looked into; more is no rounding, and looking would take for ever."""
    for number, searched in ((400, True), (401, False)):  # of 800 blocks
        searches = looked_for(monkeypatch)
        tally = compared(T.Q4_K, altered(number))
        assert (tally.differing, tally.unexplained, bool(searches)) == (number, number, searched)


def test_a_search_without_success_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few blocks without a witness say as much as all of them."""
    searches = looked_for(monkeypatch)
    assert compared(T.Q4_K, altered(80)).unexplained == 80
    assert searches == [FIRST]


@pytest.mark.parametrize("kind", [T.Q4_K, T.Q6_K, T.Q4_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_rounding_on_the_way_explains_blocks(kind: T, arithmetic: Arithmetic) -> None:
    """Numbers that float16 cannot hold: whoever went that way has other blocks, in either arithmetic."""
    small = WEIGHTS.copy()
    small[::7] *= np.float32(2**-14)
    makings = [Making(one, via) for via in (T.F32, T.F16) for one in Arithmetic]
    actual = kept(arithmetic).quantize(kind, rounded(small, T.F16), BY)
    tally = compare_rows(Ways(kept, makings), Rows(kind, small, BY, actual, INDICES))
    assert tally.differing == tally.other > 0
    assert max(tally.others, key=tally.others.__getitem__) == Making(arithmetic, T.F16)


@pytest.mark.parametrize("kind", [T.F32, T.F16, T.BF16], ids=lambda kind: kind.name)
def test_nothing_explains_plain_numbers(kind: T) -> None:
    actual = derived(kind)
    actual[5, 2 * kind.type_size] ^= 1
    tally = compared(kind, actual, never)
    assert (tally.blocks, tally.differing, tally.unexplained) == (WEIGHTS.size, 1, 1)
    assert (tally.odd[0].row, tally.odd[0].column, tally.odd[0].differing) == (INDICES[5], 2, 1)


def test_nan_costs_infinitely_much() -> None:
    actual = derived(T.Q4_K)
    actual[0, :2] = (0xFF, 0x7F)  # the scale
    tally = compared(T.Q4_K, actual)
    assert tally.odd[0].ratio == tally.error == math.inf


def test_ratio_over_no_error() -> None:
    """A row of zeros is derived without error."""
    weights = np.zeros((1, 32), np.float32)
    actual = kept(Arithmetic.STRICT).quantize(T.Q8_0, weights)
    actual[0, :3] = (0, 0x3C, 1)
    tally = compare_rows(ways(), Rows(T.Q8_0, weights, None, actual, np.array([0])))
    assert (tally.error, tally.derived_error) == (1, 0)
    assert tally.odd == [Odd(0, 0, 2, 34, math.inf)]


def test_tallies_add_up() -> None:
    """In parts or at once, in any order: the same counts, and the first few odd blocks."""
    actual = derived(T.Q4_K)
    rows = np.array([3, 80, 81, 82, 150, 399])
    actual[rows, 20] ^= 3
    once, parts = compared(T.Q4_K, actual), Tally()
    whole = Rows(T.Q4_K, WEIGHTS, BY, actual, INDICES)
    for start in reversed(range(0, ROWS, 100)):
        part = whole.at(np.arange(start, start + 100))
        parts.add(compare_rows(ways(), part))
    assert once.unexplained == len(rows)
    assert [odd.row for odd in once.odd] == INDICES[rows[:MOST_EXAMPLES]].tolist()
    assert parts.error == pytest.approx(once.error)
    parts.error, parts.derived_error = once.error, once.derived_error
    assert parts.consistency.off == once.consistency.off > 0
    parts.consistency = once.consistency
    assert parts == once


@pytest.mark.parametrize(
    ("weight", "importance", "why"),
    [
        (1.0, None, None), (LIMIT, IMPORTANCE_LIMIT, None), (1.0, 0.0, None),
        (np.nan, None, "the weights hold NaN"), (-np.inf, None, "the weights hold NaN"),
        (2 * LIMIT, None, "beyond 2**20"), (1.0, 2 * IMPORTANCE_LIMIT, "importance matrix holds a number beyond 2**40"),
        (1.0, np.nan, "importance matrix"), (1.0, np.inf, "importance matrix"),
    ],
)  # fmt: skip
def test_what_is_not_derived(weight: float, importance: float | None, why: str | None) -> None:
    weights = np.full((2, 3), weight, np.float32)
    by = None if importance is None else np.full(3, importance, np.float32)
    said = derivable(weights, by)
    assert said is None if why is None else said is not None and why in said
