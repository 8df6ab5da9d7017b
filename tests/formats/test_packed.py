"""FP8 and MXFP4: what every byte stands for, and where ggml puts it."""

from __future__ import annotations

import gguf
import numpy as np

from requant.formats.packed import FP8, mxfp4_values, pack_mxfp4


def test_what_fp8_stands_for() -> None:
    """Named in the specification: one, the largest, the smallest normal and subnormal numbers, what is none."""
    e4m3, e5m2 = FP8["F8_E4M3"], FP8["F8_E5M2"]
    assert e4m3[[0x00, 0x38, 0x7E, 0x08, 0x07, 0x01]].tolist() == [0, 1, 448, 2**-6, 0.875 * 2**-6, 2**-9]
    assert e5m2[[0x00, 0x3C, 0x7B, 0x04, 0x03, 0x01]].tolist() == [0, 1, 57344, 2**-14, 0.75 * 2**-14, 2**-16]
    assert np.flatnonzero(np.isnan(e4m3)).tolist() == [0x7F, 0xFF]
    assert np.flatnonzero(np.isinf(e5m2)).tolist() == [0x7C, 0xFC]
    for table, finite in ((e4m3, 127), (e5m2, 124)):
        assert (np.diff(table[:finite]) > 0).all()
        assert np.array_equal(table[128 : 128 + finite], -table[:finite])
        assert np.signbit(table[128])


def test_mxfp4_as_gguf_py_reads_it() -> None:
    """Every exponent but the last few, for which float32 has no room."""
    rows = np.random.default_rng(0).integers(0, 256, (1 << 9, 17 * 3), np.uint8)
    rows[:, ::17] = np.arange(rows[:, ::17].size).reshape(len(rows), 3) % 250
    assert np.array_equal(mxfp4_values(rows), gguf.dequantize(rows, gguf.GGMLQuantizationType.MXFP4))


def test_blocks_are_packed_in_halves() -> None:
    """Element i of a stored block is half a byte of byte i // 2."""
    elements = np.random.default_rng(1).integers(0, 16, (5, 3, 32), np.uint8)
    codes, scales = elements[..., ::2] | elements[..., 1::2] << 4, np.full((5, 3), 128, np.uint8)
    found = mxfp4_values(pack_mxfp4(codes, scales)).reshape(elements.shape)
    twice = np.array([0, 1, 2, 3, 4, 6, 8, 12])
    assert np.array_equal(np.abs(found), twice[elements & 7])
    assert np.array_equal(found < 0, (elements > 8))
