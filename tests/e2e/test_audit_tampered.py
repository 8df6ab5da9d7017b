"""Every alteration of the demo's quant must be a mismatch of exactly the tensors it touched."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import pytest

from requant.audit.weights.sample import draw, runs
from requant.conversion.weights import GGUFWeights
from requant.formats.ggml import PLAIN, Arithmetic
from requant.formats.ggml import GGMLType as T
from requant.quantization.verdict import Verdict
from support.quants import audited, contents, cut, kept, opened, read_importances, replaced
from support.weight_changes import ALTERATIONS, EMBEDDING, TARGETS, Scene, answer
from support.workplace import Workplace


@pytest.fixture(scope="module")
def scene(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    unquantized = demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf"
    weights = cut(unquantized, folder / "weights.gguf", EMBEDDING, 4096)
    quant = cut(demo.release / "Tiny-Qwen3-Q4_K_M.gguf", folder / "quant.gguf", EMBEDDING, 4096)
    file, header = opened(weights)
    with file:
        yield Scene(
            quant,
            GGUFWeights(file, header),
            read_importances(demo.release / "imatrix.gguf"),
            {name: kind for name, (kind, _, _) in contents(quant).items()},
        )


def refuted(
    scene: Scene, out: Path, changes: dict[str, bytes], verdict: Verdict = Verdict.MISMATCH
) -> dict[str, str | None]:
    """Audit an altered copy: gives the reasons of exactly the touched tensors, which mismatch or so; all others are exact."""
    outcome = audited(replaced(scene.quant, out, changes), scene.weights, scene.importances)
    assert outcome.arithmetic is Arithmetic.STRICT
    assert outcome.excluded == (tuple(changes) if verdict is Verdict.EXACT else ()), "and it is named"
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
    verdict = answer(name)
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
