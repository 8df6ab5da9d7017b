"""Blocks taken apart: the integers that stand for weights, and the scales and minima that they are read with.

A **part** is as many weights as share a scale: 16 in Q2_K, Q3_K and Q6_K, 32 elsewhere. Where the bits lie:
``dequantize_row_*`` of llama.cpp's ``ggml-quants.c`` and the structs of its ``ggml-common.h``; the tests hold all of it
against ggml's own ``dequantize``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from requant.formats.ggml import Bytes, Floats, GGMLType

Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int8]]

LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)
"""What the 16 quants of IQ4_NL and IQ4_XS stand for: ``kvalues_iq4nl``."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Blocks taken apart: weight i of part p stands for ``scales[p] * quants[p, i] - minima[p]``.

    ``quants`` are ``[blocks, parts, weights]``, ``scales`` and ``minima`` float32 ``[blocks, parts]``; minima are None
    for types that have none. For IQ4_NL and IQ4_XS a quant is the number of one of ``LEVELS``.
    """

    quants: Integers
    scales: Floats
    minima: Floats | None = None


def unpack(kind: GGMLType, data: Bytes) -> Parts:
    """Take blocks apart: ``[blocks, bytes per block]`` of one of ``UNPACKED``."""
    with np.errstate(invalid="ignore"):
        # A scale may be no number: files are hostile.
        quants, scales, minima = _UNPACK[kind](data)
    return Parts(quants.reshape(*scales.shape, -1), scales, minima)


_Taken: TypeAlias = tuple[Integers, Floats, Floats | None]


def _half(data: Bytes, place: int) -> Floats:
    """A float16 of every block, as ``[blocks, 1]``."""
    return np.ascontiguousarray(data[:, place : place + 2]).view("<f2").astype(np.float32)


def _fields(data: Bytes, bits: int, *, together: int = 32) -> Integers:
    """Fields of ``bits`` bits; ``together`` bytes hold their lowest fields in succession, then the next ones."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    taken = data.reshape(len(data), -1, 1, together) >> shifts & np.uint8((1 << bits) - 1)
    return taken.reshape(len(data), -1).view(np.int8)


def _fifth(data: Bytes) -> Integers:
    """32 bits in their order, as 0 or 16."""
    return (np.unpackbits(data, axis=1, bitorder="little") << 4).view(np.int8)


def _q4_0(data: Bytes) -> _Taken:
    return _fields(data[:, 2:], 4, together=16) - np.int8(8), _half(data, 0), None


def _q4_1(data: Bytes) -> _Taken:
    return _fields(data[:, 4:], 4, together=16), _half(data, 0), -_half(data, 2)


def _q5_0(data: Bytes) -> _Taken:
    quants = _fields(data[:, 6:], 4, together=16) + _fifth(data[:, 2:6])
    return quants - np.int8(16), _half(data, 0), None


def _q5_1(data: Bytes) -> _Taken:
    return _fields(data[:, 8:], 4, together=16) + _fifth(data[:, 4:8]), _half(data, 0), -_half(data, 2)


def _q2_k(data: Bytes) -> _Taken:
    packed = data[:, :16]
    return _fields(data[:, 16:80], 2), _half(data, 80) * (packed & 15), _half(data, 82) * (packed >> 4)


def _q3_k(data: Bytes) -> _Taken:
    high = _fields(data[:, :32], 1)
    low, top = _fields(data[:, 96:104], 4, together=8), _fields(data[:, 104:108], 2, together=4)
    scales = low | top << 4
    quants = _fields(data[:, 32:96], 2) + (high << 2) - np.int8(4)
    return quants, _half(data, 108) * (scales - np.int8(32)), None


def _scales_and_minima(data: Bytes) -> tuple[Floats, Floats]:
    """The 6-bit scales and minima of Q4_K and Q5_K, ``get_scale_min_k4``, multiplied by the block's two floats."""
    first, second, third = data[:, 4:8], data[:, 8:12], data[:, 12:16]
    scales = np.concatenate([first & 63, third & 15 | first >> 6 << 4], 1)
    minima = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], 1)
    return _half(data, 0) * scales, _half(data, 2) * minima


def _q4_k(data: Bytes) -> _Taken:
    return _fields(data[:, 16:], 4), *_scales_and_minima(data)


def _q5_k(data: Bytes) -> _Taken:
    return _fields(data[:, 48:], 4) + (_fields(data[:, 16:48], 1) << 4), *_scales_and_minima(data)


def _q6_k(data: Bytes) -> _Taken:
    quants = _fields(data[:, :128], 4, together=64) + (_fields(data[:, 128:192], 2) << 4) - np.int8(32)
    return quants, _half(data, 208) * data[:, 192:208].view(np.int8), None


def _iq4_nl(data: Bytes) -> _Taken:
    return _fields(data[:, 2:], 4, together=16), _half(data, 0), None


def _iq4_xs(data: Bytes) -> _Taken:
    high = np.ascontiguousarray(data[:, 2:4]).view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16) & 3
    scales = _fields(data[:, 4:8], 4, together=1) | high.astype(np.int8) << 4
    return _fields(data[:, 8:], 4, together=16), _half(data, 0) * (scales - np.int8(32)), None


_UNPACK: Mapping[GGMLType, Callable[[Bytes], _Taken]] = {
    GGMLType.Q4_0: _q4_0, GGMLType.Q4_1: _q4_1, GGMLType.Q5_0: _q5_0, GGMLType.Q5_1: _q5_1,
    GGMLType.Q2_K: _q2_k, GGMLType.Q3_K: _q3_k, GGMLType.Q4_K: _q4_k, GGMLType.Q5_K: _q5_k, GGMLType.Q6_K: _q6_k,
    GGMLType.IQ4_NL: _iq4_nl, GGMLType.IQ4_XS: _iq4_xs,
}  # fmt: skip

UNPACKED = tuple(_UNPACK)
"""Types whose quants are numbers of levels, one for each weight; grids of IQ1 to IQ3 stand for several at once."""
