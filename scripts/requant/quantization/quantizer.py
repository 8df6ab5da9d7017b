"""What derives a quant's bytes: llama.cpp's own quantization code, however it is run.

``requant.toolchain.ggml_library`` calls it in a library that was built here.
"""

from typing import Protocol

from requant.formats.ggml import Arithmetic, Bytes, Floats, GGMLType


class Quantizer(Protocol):
    """llama.cpp's quantization in one arithmetic; several threads may call it at a time.

    Rows are independent, which is why any row can be derived alone.
    """

    @property
    def arithmetic(self) -> Arithmetic:
        """How its sums are rounded."""
        ...

    def quantize(self, kind: GGMLType, weights: Floats, importance: Floats | None = None) -> Bytes:
        """Quantize rows.

        Args:
            kind: one of ``DERIVED``.
            weights: shape ``[rows, columns]``; finite, and at most ``LIMIT`` of ``requant.quantization.derivation`` in
                magnitude (the caller has looked).
            importance: shape ``[columns]``, for all rows; None as llama-quantize does for tensors that have none.

        Returns:
            the bytes of each row, shape ``[rows, bytes per row]``.
        """
        ...

    def dequantize(self, kind: GGMLType, data: Bytes, columns: int) -> Floats:
        """The weights that quantized rows stand for: ``[rows, bytes per row]`` to float32 ``[rows, columns]``."""
        ...
