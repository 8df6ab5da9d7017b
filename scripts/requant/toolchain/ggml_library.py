"""llama.cpp's own quantization code, called through ``ctypes``.

``ggml_quantize_chunk`` of ``libggml-base`` is what llama-quantize calls for every row (``ggml/include/ggml.h``), so the
bytes are the same. Rows are independent, which is why any row can be derived alone.
"""

import ctypes
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from requant.formats.ggml import Arithmetic, Bytes, Floats, GGMLType, row_bytes
from requant.ground.errors import ToolError


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


class GGMLLibrary:
    """One ``libggml-base``, in one arithmetic: a ``requant.quantization.quantizer.Quantizer``."""

    def __init__(self, arithmetic: Arithmetic, library: Path) -> None:
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
        """Quantize rows; as in ``Quantizer``."""
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
        """The weights that quantized rows stand for; as in ``Quantizer``."""
        source = np.ascontiguousarray(data)
        out = np.empty((len(source), columns), np.float32)
        if kind is GGMLType.F32:
            return source.view(np.float32).reshape(out.shape)
        to_float = self._library.ggml_get_type_traits(int(kind)).contents.to_float
        to_float(source.ctypes.data, out.ctypes.data, out.size)
        return out
