"""The lanes as a library: llama.cpp's strict quantization, many blocks at a time, called through ``ctypes``."""

import ctypes
from functools import cached_property
from pathlib import Path

import numpy as np

from requant.formats.ggml import Arithmetic, Bytes, Floats, GGMLType, row_bytes
from requant.ground.errors import ToolError
from requant.toolchain.ggml_library import GGMLLibrary
from requant.toolchain.wasm_library import WasmLibrary

REPEATED = 0.01
"""Share of the rows, and one at least of every call, that llama.cpp's own code quantizes too."""


class LanesLibrary:
    """The lanes ahead of ``own``, llama.cpp's code in the strict arithmetic: itself a
    ``requant.quantization.quantizer.Quantizer``.

    What the lanes do not know ``own`` does.
    """

    arithmetic = Arithmetic.STRICT

    def __init__(self, own: GGMLLibrary | WasmLibrary, library: Path) -> None:
        self._own = own
        self._path = library
        self._drawn = np.random.default_rng()

    @cached_property
    def _library(self) -> ctypes.CDLL:
        try:
            library = ctypes.CDLL(str(self._path.resolve()))
            size, pointer = ctypes.c_int64, ctypes.c_void_p
            library.requant_quantize.argtypes = [ctypes.c_int, pointer, pointer, size, size, pointer]
            library.requant_quantize.restype = ctypes.c_size_t
        except (OSError, AttributeError) as error:
            raise ToolError(f"{self._path} cannot be used ({error}): remove it and run again") from error
        return library

    def quantize(self, kind: GGMLType, weights: Floats, importance: Floats | None = None) -> Bytes:
        """Quantize rows; as in ``Quantizer``.

        Raises:
            ToolError: when a drawn row comes out as other bytes than from llama.cpp's own code.
        """
        rows, columns = weights.shape
        source = np.ascontiguousarray(weights, np.float32)
        out = np.empty((rows, row_bytes(kind, columns)), np.uint8)
        used = None if importance is None else np.ascontiguousarray(importance, np.float32)
        pointer = None if used is None else used.ctypes.data
        if not rows or not self._library.requant_quantize(
            int(kind), source.ctypes.data, out.ctypes.data, rows, columns, pointer
        ):
            return self._own.quantize(kind, weights, importance)
        drawn = self._drawn.integers(rows, size=max(1, round(REPEATED * rows)))
        again = self._own.quantize(kind, source[drawn], used)
        if not np.array_equal(out[drawn], again):
            raise ToolError(f"{self._path} gives other bytes than llama.cpp in {kind.name}: remove it, and report this")
        return out

    def dequantize(self, kind: GGMLType, data: Bytes, columns: int) -> Floats:
        """The weights that quantized rows stand for; as in ``Quantizer``."""
        return self._own.dequantize(kind, data, columns)
