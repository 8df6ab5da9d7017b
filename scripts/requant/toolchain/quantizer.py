"""llama.cpp's own quantization code, called through ``ctypes``.

``ggml_quantize_chunk`` of ``libggml-base`` is what llama-quantize calls for every row (``ggml/include/ggml.h``), so the
bytes are the same. Rows are independent, which is why any row can be derived alone.
"""

import ctypes
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np

from requant.formats.ggml import GGMLType
from requant.ground.errors import ToolError

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

LIMIT = float(1 << 20)
"""Magnitude up to which weights are derived: within it no product inside the search overflows to infinity."""
IMPORTANCE_LIMIT = float(1 << 40)
"""The same for importances."""

PLAIN = (GGMLType.F32, GGMLType.F16, GGMLType.BF16)
NEEDS_IMPORTANCE = (
    GGMLType.IQ1_S, GGMLType.IQ1_M, GGMLType.IQ2_XXS, GGMLType.IQ2_XS, GGMLType.IQ2_S,
)  # fmt: skip
DERIVED = (
    *PLAIN, *NEEDS_IMPORTANCE,
    GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1, GGMLType.Q8_0,
    GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K,
    GGMLType.IQ3_XXS, GGMLType.IQ3_S, GGMLType.IQ4_NL, GGMLType.IQ4_XS,
    GGMLType.TQ1_0, GGMLType.TQ2_0,
)  # fmt: skip
"""Types whose bytes are derived here; any other is reported as not checked."""


class _Traits(ctypes.Structure):
    """The start of ``struct ggml_type_traits``."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


class Quantizer:
    """One ``libggml-base``, in one arithmetic (``strict`` or ``fused``). Safe to use from several threads."""

    def __init__(self, arithmetic: str, library: Path) -> None:
        self.arithmetic = arithmetic
        self._path = library

    @cached_property
    def _library(self) -> ctypes.CDLL:
        try:
            library = ctypes.CDLL(str(self._path.resolve()))
            sizes, pointer = [ctypes.c_int64] * 3, ctypes.c_void_p
            library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, *sizes, pointer]
            library.ggml_quantize_chunk.restype = ctypes.c_size_t
            library.ggml_get_type_traits.argtypes = [ctypes.c_int]
            library.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
            library.ggml_quantize_init.argtypes = [ctypes.c_int]
        except (OSError, AttributeError) as error:
            raise ToolError(
                f"{self._path} cannot be used as libggml-base ({error}): remove it and run again"
            ) from error
        return library

    def quantize(self, kind: GGMLType, weights: Floats, importance: Floats | None = None) -> Bytes:
        """Quantize rows.

        Args:
            kind: one of ``DERIVED``.
            weights: shape ``[rows, columns]``; finite, and at most ``LIMIT`` in magnitude (the caller has looked).
            importance: shape ``[columns]``, for all rows; None as llama-quantize does for tensors that have none.

        Returns:
            the bytes of each row, shape ``[rows, bytes per row]``.
        """
        rows, columns = weights.shape
        source = np.ascontiguousarray(weights, np.float32)
        out = np.empty((rows, row_bytes(kind, columns)), np.uint8)
        if rows == 0:
            return out
        used = None if importance is None else np.ascontiguousarray(importance, np.float32)
        # The tables of some types are made on first use, by a function that is safe to call again.
        self._library.ggml_quantize_init(int(kind))
        pointer = None if used is None else used.ctypes.data
        self._library.ggml_quantize_chunk(int(kind), source.ctypes.data, out.ctypes.data, 0, rows, columns, pointer)
        return out

    def dequantize(self, kind: GGMLType, data: Bytes, columns: int) -> Floats:
        """The weights that quantized rows stand for: ``[rows, bytes per row]`` to float32 ``[rows, columns]``."""
        source = np.ascontiguousarray(data)
        out = np.empty((len(source), columns), np.float32)
        if kind is GGMLType.F32:
            return source.view(np.float32).reshape(out.shape)
        to_float = self._library.ggml_get_type_traits(int(kind)).contents.to_float
        to_float(source.ctypes.data, out.ctypes.data, out.size)
        return out


def row_bytes(kind: GGMLType, columns: int) -> int:
    """Bytes of a row of ``columns`` weights, a multiple of the type's block."""
    return columns // kind.block_size * kind.type_size


def usable(weights: Floats, limit: float = LIMIT) -> bool:
    """Whether all numbers are finite and at most ``limit`` in magnitude: beyond that llama.cpp's search may abort."""
    # A NaN makes the comparison false.
    return bool((np.abs(weights) <= limit).all())
