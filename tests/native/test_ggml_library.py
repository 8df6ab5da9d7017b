"""llama.cpp's quantization through ctypes: rows alone, threads, exact values, numbers that it must not see."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from requant.formats.ggml import DERIVED, PLAIN, Arithmetic, Floats, row_bytes
from requant.formats.ggml import GGMLType as T
from requant.ground.errors import ToolError
from requant.quantization.derivation import IMPORTANCE_LIMIT, LIMIT, usable
from requant.toolchain.ggml_library import GGMLLibrary
from support.quants import kept, numbers

ROWS, COLUMNS = 12, 512
SLOW = (T.IQ1_S, T.IQ1_M, T.IQ2_XS, T.IQ2_S)
"""llama.cpp makes their tables in 4 to 20 seconds; IQ2_XXS stands for them."""
QUICK = sorted(set(DERIVED) - set(SLOW))
named = pytest.mark.parametrize("kind", QUICK, ids=lambda kind: kind.name)


@pytest.fixture(scope="module", params=Arithmetic)
def quantizer(request: pytest.FixtureRequest) -> GGMLLibrary:
    return kept(request.param)


@named
def test_threads_do_not_meet(quantizer: GGMLLibrary, kind: T) -> None:
    """Four threads on one library, each with weights and importances of its own, from before its tables are made."""
    jobs = [(numbers(seed, ROWS, COLUMNS), numbers(100 + seed, COLUMNS) ** 2) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda job: quantizer.quantize(kind, *job), jobs))
    assert all(np.array_equal(made, quantizer.quantize(kind, *job)) for made, job in zip(at_once, jobs, strict=True))


@named
def test_rows_are_independent(quantizer: GGMLLibrary, kind: T) -> None:
    """Together, alone, in another order, as part of a larger array: a row's bytes are its own."""
    weights, by = numbers(1, ROWS, COLUMNS), numbers(2, COLUMNS) ** 2
    together = quantizer.quantize(kind, weights, by)
    assert together.shape == (ROWS, row_bytes(kind, COLUMNS))
    assert len(np.unique(together, axis=0)) == ROWS
    for row in range(ROWS):
        assert np.array_equal(quantizer.quantize(kind, weights[[row]], by)[0], together[row]), row
    assert np.array_equal(quantizer.quantize(kind, weights[::-1], by), together[::-1])
    wider = np.concatenate([weights, weights], axis=1)
    assert np.array_equal(quantizer.quantize(kind, wider[:, :COLUMNS], by), together)


def steps(low: int, high: int, scale: float) -> Floats:
    """Whole numbers times a power of two: each block has both ends, the larger one first in magnitude."""
    values = np.random.default_rng(3).integers(low, high, (ROWS, COLUMNS), endpoint=True)
    values[:, ::32], values[:, 1::32] = low, high
    return (values * np.float32(scale)).astype(np.float32)


EXACT = {
    T.F32: numbers(4, ROWS, COLUMNS),
    T.F16: numbers(5, ROWS, COLUMNS).astype(np.float16).astype(np.float32),
    T.BF16: (numbers(6, ROWS, COLUMNS).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
    T.Q8_0: steps(-127, 127, 2**-9),
    T.Q4_0: steps(-8, 7, 2**-5),
    T.Q5_0: steps(-16, 15, 2**-5),
    T.Q4_1: steps(0, 15, 2**-5),
    T.Q5_1: steps(0, 31, 2**-6),
    T.TQ2_0: steps(-1, 1, 2**-4),
}


@pytest.mark.parametrize("kind", EXACT, ids=lambda kind: kind.name)
def test_what_a_type_can_hold_it_gives_back(quantizer: GGMLLibrary, kind: T) -> None:
    weights = EXACT[kind]
    back = quantizer.dequantize(kind, quantizer.quantize(kind, weights), COLUMNS)
    assert np.array_equal(back, weights)


@pytest.mark.parametrize("kind", sorted(set(QUICK) - set(PLAIN)), ids=lambda kind: kind.name)
def test_importances_count(quantizer: GGMLLibrary, kind: T) -> None:
    """Other importances, other bytes: except for the types that llama.cpp makes without them."""
    weights, by = numbers(7, ROWS, COLUMNS), numbers(8, COLUMNS) ** 2
    same = np.array_equal(quantizer.quantize(kind, weights, by), quantizer.quantize(kind, weights, by[::-1]))
    assert same == (kind in (T.Q8_0, T.TQ1_0, T.TQ2_0))


def test_no_rows(quantizer: GGMLLibrary) -> None:
    assert quantizer.quantize(T.Q4_K, np.empty((0, COLUMNS), np.float32)).shape == (0, 288)


@pytest.mark.parametrize(
    ("value", "limit", "fine"),
    [
        (0.0, LIMIT, True), (LIMIT, LIMIT, True), (-LIMIT, LIMIT, True), (np.nextafter(LIMIT, np.inf), LIMIT, True),
        (np.nextafter(np.float32(LIMIT), np.float32(np.inf)), LIMIT, False), (-2 * LIMIT, LIMIT, False),
        (2 * LIMIT, IMPORTANCE_LIMIT, True), (np.nan, LIMIT, False), (np.inf, LIMIT, False), (-np.inf, LIMIT, False),
    ],
)  # fmt: skip
def test_numbers_that_may_be_searched(value: float, limit: float, fine: bool) -> None:
    """The fourth is LIMIT as a float32."""
    values = np.zeros((3, 4), np.float32)
    values[1, 2] = value
    assert usable(values, limit) is fine


def test_limits_hold(quantizer: GGMLLibrary) -> None:
    """At the limits llama.cpp's search neither aborts nor overflows: what comes out is finite."""
    signs = np.where(numbers(9, ROWS, COLUMNS) < 0, np.float32(-LIMIT), np.float32(LIMIT))
    by = np.full(COLUMNS, IMPORTANCE_LIMIT, np.float32)
    for kind in set(QUICK) - {T.F16}:  # which ends at 65,504
        made = quantizer.quantize(kind, signs, by)
        if kind in PLAIN:
            assert np.isfinite(quantizer.dequantize(kind, made, COLUMNS)).all(), kind.name
        assert made.shape == (ROWS, row_bytes(kind, COLUMNS))


@pytest.mark.parametrize("content", [None, b"no library"])
def test_a_broken_library_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "libggml-base.so"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ToolError, match=r"libggml-base\.so cannot be used .* remove it and run again"):
        GGMLLibrary(Arithmetic.STRICT, path).quantize(T.Q4_K, numbers(1, 1, COLUMNS))
