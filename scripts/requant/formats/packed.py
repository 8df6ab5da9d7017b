"""Numbers of fewer than 16 bits, which checkpoints store beside their scales: FP8, and MXFP4 as gpt-oss has it.

Formats: OCP 8-bit Floating Point Specification 1.0 and OCP Microscaling Formats 1.0; ``block_mxfp4`` in
``ggml-common.h`` and ``GptOssModel.transform_nibble_layout`` of llama.cpp 0c1e57098bba.
"""

import numpy as np

from requant.formats.ggml import Bytes, Floats, GGMLType

IN_BLOCK = GGMLType.MXFP4.block_size
CODES = IN_BLOCK // 2
"""Bytes of a block without its scale."""
HALVES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)
"""What each code of MXFP4 stands for, twice; ggml halves the scale and knows no negative zero."""


def _e4m3() -> Floats:
    """All numbers of E4M3 without infinities: a bias of 7, three bits of fraction, NaN where all bits are set."""
    codes = np.arange(128)
    exponent, fraction = np.divmod(codes, 8)
    found = np.where(exponent, np.ldexp(1 + fraction / 8, exponent - 7), np.ldexp(fraction / 8, -6))
    found[127] = np.nan
    return np.concatenate([found, -found]).astype(np.float32)


FP8: dict[str, Floats] = {
    "F8_E4M3": _e4m3(),
    "F8_E5M2": (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32),
}
"""Types of safetensors and the number that each byte stands for."""


def pack_mxfp4(codes: Bytes, scales: Bytes) -> Bytes:
    """Rows of gpt-oss in ggml's order: a block is its scale, then each byte has one code of either half of the block.

    Args:
        codes: ``[rows, blocks, 16]``; element 2 i of a block is the lower half of byte i, 2 i + 1 the upper.
        scales: ``[rows, blocks]``, biased exponents of two.

    Returns:
        ``[rows, blocks * 17]``.
    """
    elements = np.stack([codes & 15, codes >> 4], -1).reshape(*codes.shape[:-1], IN_BLOCK)
    halves = elements[..., :CODES] | elements[..., CODES:] << 4
    return np.concatenate([scales[..., None], halves], -1).reshape(len(codes), -1)


def mxfp4_values(rows: Bytes) -> Floats:
    """What rows in ggml's order stand for, ``[rows, columns]``, as ``dequantize_row_mxfp4`` says it."""
    blocks = rows.reshape(len(rows), -1, GGMLType.MXFP4.type_size)
    exponents, codes = blocks[..., :1].astype(np.uint32), blocks[..., 1:]
    bits = np.where(exponents < 2, np.uint32(0x00200000) << exponents, (exponents - np.uint32(1)) << np.uint32(23))
    with np.errstate(over="ignore"):  # the last exponents have no room in float32
        values: Floats = HALVES[np.concatenate([codes & 15, codes >> 4], -1)] * bits.astype(np.uint32).view(np.float32)
    found: Floats = values.reshape(len(rows), -1)
    return found
