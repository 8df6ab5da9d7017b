"""What forgers do to weights: the demo's quant altered, one tensor at a time; the list of ``docs/verdicts.md``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from requant.conversion.weights import GGUFWeights, as_float32
from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.pipeline.tiny_model import make_tensor
from requant.quantization.quantizer import Quantizer
from requant.quantization.verdict import Verdict
from support.quants import contents, kept, whole

EMBEDDING = "token_embd.weight"
TARGETS = {T.Q4_K: "blk.1.ffn_up.weight", T.Q6_K: "blk.2.ffn_down.weight"}
# Where a block holds its float16 scale, a scale of a part of it, and quants: block_q4_K and block_q6_K of ggml-common.h.
SCALE = {T.Q4_K: 0, T.Q6_K: 208}
PART_SCALE = {T.Q4_K: 4, T.Q6_K: 192}
QUANTS = {T.Q4_K: 16, T.Q6_K: 0}


@dataclass(frozen=True)
class Scene:
    """The demo's quant, with a shorter embedding, and what it was made of."""

    quant: Path
    weights: GGUFWeights
    importances: dict[str, Floats]
    types: dict[str, T]

    def data(self, name: str) -> Bytes:
        """A tensor's blocks, ``[rows, blocks, bytes]``, to be written to."""
        kind, shape, data = contents(self.quant)[name]
        return np.frombuffer(data, np.uint8).reshape(prod(shape[1:]), -1, kind.type_size).copy()

    def made(self, name: str, quantizer: Quantizer) -> Bytes:
        """A tensor's blocks made anew, as ``data``."""
        rows = quantizer.quantize(self.types[name], whole(self.weights, name), self.importances.get(name))
        return rows.reshape(len(rows), -1, self.types[name].type_size)

    def honest(self, name: str, weights: Floats, importance: Floats | None) -> bytes:
        """Quantize as llama-quantize would."""
        return kept(Arithmetic.STRICT).quantize(self.types[name], weights, importance).tobytes()

    def from_weights(self, name: str, weights: Floats) -> bytes:
        """Quantize other weights with the importances of the named ones."""
        return self.honest(name, weights, self.importances.get(name))

    def from_importance(self, name: str, importance: Floats | None) -> bytes:
        """Quantize the named weights with other importances."""
        return self.honest(name, whole(self.weights, name), importance)


def flipped(where: dict[T, int], bits: int) -> Callable[[Scene, str], bytes]:
    """Change bits of one byte, of one block in the middle of the tensor."""

    def alter(scene: Scene, name: str) -> bytes:
        data = scene.data(name)
        data[len(data) // 2, -1, where[scene.types[name]]] ^= bits
        return data.tobytes()

    return alter


def another_row(scene: Scene, name: str) -> bytes:
    data, columns = scene.data(name), scene.weights.shapes[name][0]
    row = as_float32(T.BF16, make_tensor(1, name, (1, columns)).view(np.uint8))
    data[-1] = np.frombuffer(scene.from_weights(name, row), np.uint8).reshape(data.shape[1:])
    return data.tobytes()


def noisy(part: float) -> Callable[[Scene, str], bytes]:
    """Add Gaussian noise of a part of each row's root mean square, and quantize that honestly."""

    def alter(scene: Scene, name: str) -> bytes:
        weights = whole(scene.weights, name)
        size = part * np.sqrt((weights**2).mean(1, keepdims=True))
        return scene.from_weights(
            name, weights + (size * np.random.default_rng(1).standard_normal(weights.shape)).astype(np.float32)
        )

    return alter


def low_rank(scene: Scene, name: str) -> bytes:
    """A fine-tuning of rank 8 that changes the weights by 1 %."""
    weights, generator = whole(scene.weights, name), np.random.default_rng(2)
    change = generator.standard_normal((len(weights), 8)) @ generator.standard_normal((8, weights.shape[1]))
    size = 0.01 * weights.std() / change.std()
    return scene.from_weights(name, weights + (size * change).astype(np.float32))


def other_importances(scene: Scene, name: str) -> bytes:
    """An importance matrix of a slightly different text: every column 3 % off."""
    by = scene.importances[name]
    return scene.from_importance(name, by * np.random.default_rng(3).uniform(0.97, 1.03, by.size).astype(np.float32))


def from_q8_0(scene: Scene, name: str) -> bytes:
    weights, strict = whole(scene.weights, name), kept(Arithmetic.STRICT)
    return scene.from_weights(name, strict.dequantize(T.Q8_0, strict.quantize(T.Q8_0, weights), weights.shape[1]))


ALTERATIONS: dict[str, Callable[[Scene, str], bytes]] = {
    "the last bit of a block's scale": flipped(SCALE, 1),
    "the sign of a block's scale": flipped({kind: at + 1 for kind, at in SCALE.items()}, 0x80),
    "one bit of a part's scale": flipped(PART_SCALE, 1),
    "one quant by one step": flipped(QUANTS, 1),
    "one quant by half its range": flipped(QUANTS, 8),
    "one row of another model": another_row,
    "noise of 0.1 %": noisy(0.001),
    "noise of 1 %": noisy(0.01),
    "a fine-tuning of low rank": low_rank,
    "importances 3 % off": other_importances,
    "importances reversed": lambda scene, name: scene.from_importance(name, scene.importances[name][::-1]),
    "no importances": lambda scene, name: scene.from_importance(name, None),
    "quantized from Q8_0": from_q8_0,
    "random bytes": lambda scene, name: np.random.default_rng(4).bytes(scene.data(name).size),
}


ANSWERS = {"importances reversed": Verdict.CONSISTENT, "no importances": Verdict.EXACT}
"""What only chooses other scales throughout a tensor: it may as well have been left out of the matrix that was used, or
been kept from its importances by ``--exclude-weights``."""


def answer(name: str) -> Verdict:
    """What the audit must say of the altered tensor."""
    return ANSWERS.get(name, Verdict.MISMATCH)


def table() -> str:
    """The alterations with their answers, as Markdown."""
    rows = (f"| {name} | `{answer(name)}` |" for name in ALTERATIONS)
    return "\n".join(("| what is planted in one tensor | answer |", "|---|---|", *rows))
