"""Every alteration of the demo's quant must be a mismatch of exactly the tensors it touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import pytest

from requant.audit.sample import draw, runs
from requant.conversion.weights import GGUFWeights, as_float32
from requant.formats.ggml import PLAIN, Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.pipeline.tiny_model import make_tensor
from requant.quantization.quantizer import Quantizer
from requant.quantization.verdict import Verdict
from support.quants import audited, contents, cut, kept, opened, read_importances, replaced, whole
from support.workplace import Workplace

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


@pytest.fixture(scope="module")
def scene(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    unquantized = demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf"
    weights = cut(unquantized, folder / "weights.gguf", EMBEDDING, 4096)
    quant = cut(demo.release / "Tiny-Qwen3-Q4_K_M-imatrix.gguf", folder / "quant.gguf", EMBEDDING, 4096)
    file, header = opened(weights)
    with file:
        yield Scene(
            quant,
            GGUFWeights(file, header),
            read_importances(demo.release / "imatrix.gguf"),
            {name: kind for name, (kind, _, _) in contents(quant).items()},
        )


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


SCALES = ("importances reversed", "no importances")
"""What only chooses other scales throughout a tensor: it may as well have been left out of the matrix that was used."""


def refuted(
    scene: Scene, out: Path, changes: dict[str, bytes], verdict: Verdict = Verdict.MISMATCH
) -> dict[str, str | None]:
    """Audit an altered copy: gives the reasons of exactly the touched tensors, which mismatch; all others are exact."""
    outcome = audited(replaced(scene.quant, out, changes), scene.weights, scene.importances)
    assert outcome.arithmetic is Arithmetic.STRICT
    found = {audit.tensor.name: audit.verdict for audit in outcome.tensors}
    assert found == {name: verdict if name in changes else Verdict.EXACT for name in scene.types}
    return {audit.tensor.name: audit.reason for audit in outcome.tensors if audit.verdict == verdict}


def test_the_scene_is_exact(scene: Scene, tmp_path: Path) -> None:
    """Or no mismatch below would mean anything."""
    assert refuted(scene, tmp_path / "copy.gguf", {}) == {}


@pytest.mark.parametrize("kind", TARGETS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ALTERATIONS)
def test_alterations(scene: Scene, tmp_path: Path, name: str, kind: T) -> None:
    target = TARGETS[kind]
    assert scene.types[target] is kind
    verdict = Verdict.CONSISTENT if name in SCALES else Verdict.MISMATCH
    reasons = refuted(scene, tmp_path / "altered.gguf", {target: ALTERATIONS[name](scene, target)}, verdict)
    assert not (reasons[target] or "").startswith("differs where"), "it is not one that rounding could explain"


def test_swapped_tensors(scene: Scene, tmp_path: Path) -> None:
    up, gate = "blk.0.ffn_up.weight", "blk.0.ffn_gate.weight"
    changes = {up: scene.data(gate).tobytes(), gate: scene.data(up).tobytes()}
    refuted(scene, tmp_path / "swapped.gguf", changes)


@pytest.mark.parametrize("value", [0.0, 1.0000001, np.nan, np.inf], ids=str)
def test_norms(scene: Scene, tmp_path: Path, value: float) -> None:
    """One number of a tensor that is not quantized at all: times, or instead."""
    name = "blk.3.attn_norm.weight"
    numbers = scene.data(name).view(np.float32).ravel()
    numbers[7] = numbers[7] * np.float32(value) if value else 0
    refuted(scene, tmp_path / "norm.gguf", {name: numbers.tobytes()})


@pytest.mark.parametrize("kind", TARGETS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_one_block_in_the_other_arithmetic(scene: Scene, tmp_path: Path, kind: T, arithmetic: Arithmetic) -> None:
    """Rounding explains the block, but not that it is the only one: whoever chose it is no compiler."""
    names = [name for name, of in scene.types.items() if of not in PLAIN]
    quants = {name: scene.made(name, kept(arithmetic)) for name in names}
    for name in (each for each in names if scene.types[each] is kind):
        data, foreign = quants[name], scene.made(name, kept(arithmetic.other))
        if (ties := np.argwhere((data != foreign).any(2))).size:
            row, block = ties[0]
            data[row, block] = foreign[row, block]
            break
    else:
        pytest.fail("the arithmetics agree on every block: choose other weights")
    copy = replaced(scene.quant, tmp_path / "tie.gguf", {name: data.tobytes() for name, data in quants.items()})
    outcome = audited(copy, scene.weights, scene.importances)
    assert (outcome.arithmetic, outcome.differing) == (arithmetic, 1)
    assert {audit.tensor.name: audit.verdict for audit in outcome.tensors} == {
        each: Verdict.MISMATCH if each == name else Verdict.EXACT for each in scene.types
    }
    reasons = {audit.reason for audit in outcome.tensors if audit.verdict == Verdict.MISMATCH}
    assert reasons == {"differs where rounding could explain it, in a file that is exact otherwise"}


def test_a_sample_catches_what_it_draws(scene: Scene, tmp_path: Path) -> None:
    """Rows altered here and there: a mismatch of just those tensors of which an altered row was drawn."""
    generator = np.random.default_rng(5)
    changes, altered = {}, {}
    for name in (EMBEDDING, *TARGETS.values()):
        data = scene.data(name)
        altered[name] = generator.choice(len(data), len(data) // 50, replace=False)
        data[altered[name]] = generator.integers(0, 256, (len(altered[name]), *data.shape[1:]), np.uint8)
        changes[name] = data.tobytes()
    copy = replaced(scene.quant, tmp_path / "altered.gguf", changes)
    rows = {name: prod(shape[1:]) for name, shape in scene.weights.shapes.items() if len(shape) > 1}
    refutations = 0
    for seed in range(24):
        drawn = {name: np.union1d(run, draw(rows, 100, seed).get(name, run)) for name, run in runs(rows, seed).items()}
        outcome = audited(copy, scene.weights, scene.importances, drawn)
        for audit in outcome.tensors:
            name = audit.tensor.name
            hit = name in drawn and np.isin(drawn[name], altered.get(name, [])).any()
            assert audit.verdict == (Verdict.MISMATCH if hit else Verdict.EXACT), (seed, name)
            refutations += hit
    assert refutations > 5
