"""A quantizer without llama.cpp: gguf-py's numpy code, for the few types that it makes itself, behind the same protocol."""

from dataclasses import dataclass

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

from requant.formats.ggml import PLAIN, Arithmetic, Bytes, Floats, GGMLType


@dataclass(frozen=True)
class PureQuantizer:
    """Two arithmetics that make a few blocks otherwise, as real ones do where they search: fused sees larger weights."""

    arithmetic: Arithmetic

    def quantize(self, kind: GGMLType, weights: Floats, importance: Floats | None = None) -> Bytes:
        """Quantize rows; importances are passed over."""
        alike = self.arithmetic is Arithmetic.STRICT or kind in (*PLAIN, GGMLType.Q8_0)
        seen = weights if alike else weights * np.float32(1 + 2**-21)
        made: Bytes = quantize(seen, gguf.GGMLQuantizationType(int(kind))).view(np.uint8)
        return made

    def dequantize(self, kind: GGMLType, data: Bytes, columns: int) -> Floats:
        """The weights that quantized rows stand for."""
        found: Floats = dequantize(data, gguf.GGMLQuantizationType(int(kind)))
        return found.reshape(len(data), columns)
