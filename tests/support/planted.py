"""Changes that somebody may make to weights or to a quant, and quantizers that are not llama.cpp's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from requant.formats.ggml import Bytes, Floats, GGMLType
from requant.quantization.consistency import LIMITS
from requant.quantization.unpacking import unpack


def noisy(part: float) -> Callable[[Floats, np.random.Generator], Floats]:
    """Noise of this part of the weights' root mean square."""

    def change(weights: Floats, generator: np.random.Generator) -> Floats:
        size = part * float(np.sqrt((weights.astype(np.float64) ** 2).mean()))
        return (weights + size * generator.standard_normal(weights.shape)).astype(np.float32)

    return change


def adapted(weights: Floats, generator: np.random.Generator) -> Floats:
    """A LoRA of rank 8 merged in, whose part of every weight is 2 % of the weights' root mean square."""
    rows, columns = weights.shape
    added = generator.standard_normal((rows, 8)) @ generator.standard_normal((8, columns))
    size = 0.02 * float(np.sqrt((weights.astype(np.float64) ** 2).mean()))
    return (weights + size * added / added.std()).astype(np.float32)


def foreign(weights: Floats, generator: np.random.Generator) -> Floats:
    """Rows of another model, of the same size."""
    return (generator.standard_normal(weights.shape) * weights.std()).astype(np.float32)


CHANGES: Mapping[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "noise of 0.1 %": noisy(0.001), "noise of 1 %": noisy(0.01), "a LoRA of 2 %": adapted, "another seed": foreign,
}  # fmt: skip

QUANTS: Mapping[GGMLType, tuple[int, int]] = {
    GGMLType.Q2_K: (16, 80), GGMLType.Q3_K: (32, 96), GGMLType.Q4_K: (16, 144), GGMLType.Q5_K: (48, 176),
    GGMLType.Q6_K: (0, 128), GGMLType.Q4_0: (2, 18), GGMLType.Q4_1: (4, 20), GGMLType.Q5_0: (6, 22),
    GGMLType.Q5_1: (8, 24), GGMLType.IQ4_NL: (2, 18), GGMLType.IQ4_XS: (8, 136),
}  # fmt: skip
"""Where in a block the low bits of its quants lie: first byte and end."""


def flipped(kind: GGMLType, row: Bytes, generator: np.random.Generator) -> Bytes:
    """A row with one bit of one of its quants flipped."""
    first, end = QUANTS[kind]
    blocks = row.reshape(-1, kind.type_size).copy()
    blocks[generator.integers(len(blocks)), generator.integers(first, end)] ^= 1 << int(generator.integers(8))
    return blocks.reshape(row.shape)


def kept_quants(kind: GGMLType, weights: Floats, data: Bytes, generator: np.random.Generator) -> Bytes:
    """Rows by a quantizer that does not round again under the scales that it stores: Q4_K and Q6_K.

    Its own scales are up to half a step of a stored one away.
    """
    blocks = data.reshape(-1, kind.type_size).copy()
    parts = unpack(kind, blocks)
    weights = weights.reshape(parts.quants.shape)
    low, high = LIMITS[kind]
    apart = generator.uniform(-0.5, 0.5, parts.scales.shape) / (63 if kind is GGMLType.Q4_K else 127)
    scales = parts.scales + apart * np.abs(parts.scales).max(1, keepdims=True)
    shifted = weights if parts.minima is None else weights + parts.minima[..., None]
    quants = np.clip(np.rint(shifted / scales[..., None]), low, high).reshape(len(blocks), -1) - low
    return packed(kind, blocks, quants.astype(np.uint8)).reshape(data.shape)


def packed(kind: GGMLType, blocks: Bytes, quants: Bytes) -> Bytes:
    """Blocks of Q4_K or Q6_K with other quants, ``[blocks, 256]``, counted from 0."""
    if kind is GGMLType.Q4_K:
        pairs = quants.reshape(-1, 4, 2, 32)
        blocks[:, 16:] = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(len(blocks), -1)
    else:
        four = quants.reshape(-1, 2, 4, 32)
        low, high = four & 15, four >> 4
        blocks[:, :128] = np.stack([low[:, :, :2] | low[:, :, 2:] << 4], 1).reshape(len(blocks), -1)
        blocks[:, 128:192] = (high << np.arange(0, 8, 2, dtype=np.uint8)[:, None]).sum(2).reshape(len(blocks), -1)
    return blocks
