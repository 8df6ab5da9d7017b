"""The named weights: rounding as the converter does it, and rows of a GGUF in any order."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

from requant.conversion.weights import GGUFWeights, as_float32, read_rows, rounded
from requant.formats.ggml import PLAIN, Floats
from requant.formats.ggml import GGMLType as T
from requant.ground.errors import FormatError
from support.quants import opened, written


def patterns() -> Floats:
    """Random bits, ties between neighbours of both 16-bit types and the numbers beside them, and the edges."""
    bits = np.random.default_rng(1).integers(0, 1 << 32, 1 << 17, dtype=np.uint32)
    tops = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    ties = [tops | np.uint32(low) for low in (0, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    halves = [(tops >> np.uint32(3)) | np.uint32(0x38000000 | low) for low in (0, 0x0FFF, 0x1000, 0x1001)]
    values = np.concatenate([bits, *ties, *halves]).view(np.float32)
    return values[np.isfinite(values)].reshape(1, -1)


@pytest.mark.parametrize(
    ("via", "theirs"),
    [(T.BF16, gguf.GGMLQuantizationType.BF16), (T.F16, gguf.GGMLQuantizationType.F16)],
    ids=lambda kind: kind.name,
)
def test_rounding_is_the_converters(via: T, theirs: gguf.GGMLQuantizationType) -> None:
    """gguf-py is what convert_hf_to_gguf.py rounds with."""
    values = patterns()
    with np.errstate(over="ignore"):
        expected = dequantize(quantize(values, theirs), theirs)
    found = rounded(values, via)
    assert found.dtype == np.float32
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))
    assert np.array_equal(rounded(found, via), found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 + 2**-8, 1.0), (1 + 3 * 2**-8, 1 + 2**-6), (1 + 2**-8 + 2**-20, 1 + 2**-7), (-1 - 2**-8, -1.0),
        (0.0, 0.0), (-0.0, -0.0), (2.0**-149, 0.0), (2.0**127, 2.0**127), (3.4e38, np.inf), (-np.inf, -np.inf),
    ],
)  # fmt: skip
def test_bfloat16_ties_go_to_even(value: float, expected: float) -> None:
    assert rounded(np.array([[value]], np.float32), T.BF16).tobytes() == np.float32(expected).tobytes()


def test_nan_stays_nan() -> None:
    """One with bits in the lower half only would become infinity, were it rounded."""
    nan = np.array([[0x7F800001]], np.uint32).view(np.float32)
    for via in PLAIN:
        assert np.isnan(rounded(nan, via)).all()


def test_nan_and_infinity_become_the_converters() -> None:
    """Byte for byte, also as the upper halves that a GGUF holds."""
    tops = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    values = np.concatenate([tops | np.uint32(low) for low in (0, 1, 0x7FFF, 0x8000, 0xFFFF)]).view(np.float32)
    values = values[~np.isfinite(values)].reshape(1, -1)
    found = rounded(values, T.BF16).view(np.uint32)
    assert not (found & np.uint32(0xFFFF)).any()
    expected = quantize(values, gguf.GGMLQuantizationType.BF16).view("<u2")
    assert np.array_equal((found >> np.uint32(16)).astype("<u2"), expected)


def test_full_precision_is_left_alone() -> None:
    values = patterns()
    assert rounded(values, T.F32) is values


STORED = {
    "f32.weight": (T.F32, np.random.default_rng(2).standard_normal((9, 32)).astype(np.float32)),
    "f16.weight": (T.F16, np.random.default_rng(3).standard_normal((9, 32)).astype(np.float16).astype(np.float32)),
    "bf16.weight": (T.BF16, rounded(np.random.default_rng(4).standard_normal((9, 32)).astype(np.float32), T.BF16)),
}


def encoded(kind: T, values: Floats) -> bytes:
    if kind is T.BF16:
        return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    return values.astype("<f2" if kind is T.F16 else "<f4").tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tensors = {name: (kind, (32, 9), encoded(kind, values)) for name, (kind, values) in STORED.items()}
    tensors["norm.weight"] = T.F32, (32,), STORED["f32.weight"][1][0].tobytes()
    tensors["experts.weight"] = T.F32, (32, 3, 3), encoded(T.F32, STORED["f32.weight"][1])
    tensors["quantized.weight"] = T.Q8_0, (32, 9), bytes(9 * 34)
    return written(tmp_path / "weights.gguf", tensors)


ORDERS = {
    "all": range(9), "one": [4], "none": [], "runs": [0, 1, 2, 5, 6, 8], "backwards": [8, 7, 3], "twice": [2, 2, 3],
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", [*STORED, "experts.weight"])
def test_rows_of_a_gguf(path: Path, name: str, order: str) -> None:
    values = STORED["f32.weight" if name == "experts.weight" else name][1]
    file, header = opened(path)
    with file:
        found = GGUFWeights(file, header).rows(name, np.array(ORDERS[order], np.int64))
    assert found.dtype == np.float32
    assert np.array_equal(found, values[np.array(ORDERS[order], np.int64)])


def test_a_vector_is_one_row(path: Path) -> None:
    file, header = opened(path)
    with file:
        weights = GGUFWeights(file, header)
        assert np.array_equal(weights.rows("norm.weight", np.arange(1)), STORED["f32.weight"][1][:1])
        assert weights.tolerance("norm.weight") == 0


def test_rows_outside_the_file_are_an_error(path: Path) -> None:
    file, header = opened(path)
    last = max(header.tensors, key=lambda each: each.offset)
    with file, pytest.raises(FormatError, match="truncated or damaged"):
        read_rows(file, last, np.array([10**9]))


def test_only_unquantized_tensors_are_weights(path: Path) -> None:
    file, header = opened(path)
    with file:
        weights = GGUFWeights(file, header)
        said = {name: weights.unchecked(name) for name in weights.shapes}
    assert said.pop("quantized.weight") == "the weights hold it as Q8_0: name the unquantized weights"
    assert set(said.values()) == {None}
    assert weights.shapes["experts.weight"] == (32, 3, 3)


@pytest.mark.parametrize(
    ("kinds", "vias"),
    [([T.F32], PLAIN), ([T.BF16], (T.F32,)), ([T.F16], (T.F32,)), ([T.F32, T.BF16], (T.F32,))],
    ids=str,
)
def test_what_weights_may_have_been_rounded_to(tmp_path: Path, kinds: list[T], vias: tuple[T, ...]) -> None:
    """A norm in F32 says nothing: converters keep those in full."""
    tensors = {f"{kind.name}.weight": (kind, (32, 2), bytes(64 * kind.type_size)) for kind in kinds}
    file, header = opened(written(tmp_path / "x.gguf", {**tensors, "norm.weight": (T.F32, (32,), bytes(128))}))
    with file:
        assert GGUFWeights(file, header).vias == vias


def test_every_bit_pattern_of_sixteen_bits() -> None:
    bits = np.arange(1 << 16, dtype="<u2").reshape(1, -1)
    for kind, theirs in ((T.BF16, "BF16"), (T.F16, "F16")):
        found = as_float32(kind, bits.view(np.uint8))
        expected = dequantize(bits.view(np.uint8), gguf.GGMLQuantizationType[theirs])
        assert np.array_equal(found, expected, equal_nan=True)
