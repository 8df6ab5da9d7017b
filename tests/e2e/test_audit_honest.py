"""Honest quants must pass the audit, whoever's compiler made them: every tensor of the demo, and every type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import numpy as np
import pytest

from requant.audit.weights.judgement import OTHER_SUMS, judge, rate, surprisingly_many
from requant.audit.weights.material import Material
from requant.audit.weights.sample import draw, runs
from requant.audit.weights.sweep import Sweep
from requant.audit.weights.tensor import TensorAudit
from requant.conversion.layout import plan, read_config
from requant.conversion.sources import ROPE_TOLERANCE
from requant.conversion.weights import CheckpointWeights, GGUFWeights, Weights, as_float32, rounded
from requant.formats.ggml import PLAIN, Arithmetic, Floats, Indices
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Tensor
from requant.formats.ranged import read_whole
from requant.formats.safetensors import read_checkpoint
from requant.pipeline.tiny_model import make_tensor
from requant.places.place import open_place
from requant.quantization.derivation import Making, Rows, Tally, Ways, compare_rows
from requant.quantization.verdict import Verdict
from requant.quantization.witnesses import EPSILONS
from requant.toolchain.quantizers import FINGERPRINTS, fingerprint
from support.quants import (
    OLDER,
    PINS,
    Quantize,
    audited,
    cut,
    kept,
    opened,
    program,
    read_importances,
    requantized,
    written,
)
from support.workplace import Workplace

QUANT = "Tiny-Qwen3-Q4_K_M.gguf"
TENSORS, QUANTIZED = 46, 29
TYPES = (
    T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.IQ4_NL, T.IQ4_XS,
)  # fmt: skip
ROWS, COLUMNS = 256, 512
CLANG = ("x86-64-v3 clang", pytest.param("ARM64 clang", marks=pytest.mark.long))
"""A whole file takes a minute under qemu; every type, in few rows, does not."""


@pytest.fixture(scope="module")
def importances(demo: Workplace) -> dict[str, Floats]:
    return read_importances(demo.release / "imatrix.gguf")


@pytest.fixture(scope="module")
def weights(demo: Workplace) -> Iterator[Weights]:
    file, header = opened(demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf")
    with file:
        yield GGUFWeights(file, header)


@pytest.fixture(scope="module")
def shorter(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The weights and the quant with a thirtieth of the embedding: qemu quantizes a million weights in a second."""
    folder = tmp_path_factory.mktemp("shorter")
    unquantized = demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf"
    weights = cut(unquantized, folder / "weights.gguf", "token_embd.weight", 5_000)
    return weights, cut(demo.release / QUANT, folder / QUANT, "token_embd.weight", 5_000)


@pytest.fixture(scope="module")
def checkpoint(demo: Workplace) -> Iterator[Weights]:
    place = open_place(str(demo.results / "generated"))
    stored = read_checkpoint(place)
    config = read_config(read_whole(place.open("config.json"), 1 << 20, "config.json"))
    yield CheckpointWeights(stored, plan(config, stored.tensors), ROPE_TOLERANCE)
    place.close()


def verdicts(outcome: Sweep) -> Counter[Verdict]:
    return Counter(audit.verdict for audit in outcome.tensors)


def test_our_own_release(
    demo: Workplace, weights: Weights, checkpoint: Weights, importances: Mapping[str, Floats]
) -> None:
    for named in (weights, checkpoint):
        outcome = audited(demo.release / QUANT, named, importances)
        assert verdicts(outcome) == {Verdict.EXACT: TENSORS}
        assert (outcome.arithmetic, outcome.differing, outcome.missing) == (Arithmetic.STRICT, 0, ())


def test_both_kinds_of_weights_are_the_same(weights: Weights, checkpoint: Weights) -> None:
    """The converter's GGUF, and the checkpoint seen through what the converter would make of it."""
    assert dict(weights.shapes) == dict(checkpoint.shapes)
    for name, shape in weights.shapes.items():
        count = prod(shape[1:])
        for rows in (np.arange(min(count, 300)), np.unique(np.linspace(0, count - 1, 40).astype(np.int64))):
            assert weights.rows(name, rows).tobytes() == checkpoint.rows(name, rows).tobytes(), name
        assert weights.tolerance(name) == checkpoint.tolerance(name) == 0


def audited_anew(
    quantize: Quantize, weights: Path, quant: Path, importances: Mapping[str, Floats], out: Path
) -> tuple[Sweep, bool]:
    """Make the quant again, by other means, and audit that; says too whether it is the same file."""
    other = requantized(quant, weights, importances, quantize, out)
    file, header = opened(weights)
    with file:
        outcome = audited(other, GGUFWeights(file, header), importances)
    return outcome, other.read_bytes() == quant.read_bytes()


@pytest.mark.parametrize(
    ("compiler", "arithmetic"),
    [pytest.param("x86-64 GCC", Arithmetic.STRICT, marks=pytest.mark.long), ("ARM64 GCC", Arithmetic.FUSED)],
)
def test_quants_of_default_builds_are_exact(
    compiler: str, arithmetic: Arithmetic, shorter: tuple[Path, Path], importances: Mapping[str, Floats], tmp_path: Path
) -> None:
    """Every byte of every tensor, in the arithmetic of that compiler."""
    outcome, same = audited_anew(program(compiler).quantize, *shorter, importances, tmp_path / QUANT)
    assert verdicts(outcome) == {Verdict.EXACT: TENSORS}
    assert (outcome.arithmetic, outcome.differing, same) == (arithmetic, 0, arithmetic is Arithmetic.STRICT)


@pytest.mark.long
def test_quants_of_another_commit_are_exact(
    shorter: tuple[Path, Path], importances: Mapping[str, Floats], tmp_path: Path
) -> None:
    outcome, same = audited_anew(kept(Arithmetic.STRICT, OLDER).quantize, *shorter, importances, tmp_path / QUANT)
    assert verdicts(outcome) == {Verdict.EXACT: TENSORS}
    assert (outcome.arithmetic, same) == (Arithmetic.STRICT, True)


@pytest.mark.parametrize("compiler", CLANG)
def test_quants_of_another_compiler_are_near(
    compiler: str, shorter: tuple[Path, Path], importances: Mapping[str, Floats], tmp_path: Path
) -> None:
    """Clang contracts other sums than GCC: some blocks are in neither arithmetic, and every one has its witness."""
    outcome, _ = audited_anew(program(compiler).quantize, *shorter, importances, tmp_path / QUANT)
    found = verdicts(outcome)
    assert found[Verdict.EXACT] + found[Verdict.NEAR] == TENSORS
    assert found[Verdict.NEAR] > QUANTIZED // 2
    assert outcome.arithmetic in FINGERPRINTS
    assert 0 < outcome.differing < 0.05 * outcome.blocks
    for audit in outcome.tensors:
        tally = audit.tally
        assert tally.other + tally.witnessed == tally.differing, audit.tensor.name
        assert (tally.unexplained, tally.odd) == (0, [])
        assert tally.epsilon in (0, *EPSILONS)
        assert (audit.verdict == Verdict.NEAR) == (tally.differing > 0)
    assert sum(audit.tally.witnessed for audit in outcome.tensors) > 0


def test_differences_in_few_tensors(
    shorter: tuple[Path, Path], importances: Mapping[str, Floats], tmp_path: Path
) -> None:
    """Clang rounds some types nearly as GCC does: that nearly only the embedding differs is no alteration."""
    weights, quant = shorter
    clang = program("x86-64-v3 clang").quantize
    made = requantized(quant, weights, importances, clang, tmp_path / QUANT, {T.Q4_K: T.IQ4_XS})
    file, header = opened(weights)
    with file:
        outcome = audited(made, GGUFWeights(file, header), importances)
    assert set(verdicts(outcome)) == {Verdict.EXACT, Verdict.NEAR}
    differing, blocks = Counter[T](), Counter[T]()
    for audit in outcome.tensors:
        differing[audit.tensor.type] += audit.tally.differing
        blocks[audit.tensor.type] += audit.tally.blocks
    assert differing[T.Q6_K] / blocks[T.Q6_K] > 5 * differing[T.IQ4_XS] / blocks[T.IQ4_XS] > 0


def counts_by_row(
    quant: Path, named: Weights, importances: Mapping[str, Floats], arithmetic: Arithmetic
) -> dict[Tensor, Indices]:
    """Of every row of the quantized tensors how many blocks differ, and how many of these nothing explains: [2, rows]."""
    file, header = opened(quant)
    with file:
        material = Material(file, header, named, importances, kept)
        return {
            tensor: counts_of(material, TensorAudit(tensor), Making(arithmetic, T.F32))
            for tensor in header.tensors
            if tensor.type not in PLAIN
        }


def counts_of(material: Material, audit: TensorAudit, making: Making) -> Indices:
    rows, ways = material.rows(audit, audit.indices, making), material.ways(audit, making)
    counts = np.zeros((2, audit.rows), np.int64)
    for row in np.flatnonzero((ways.derive(making, rows) != rows.actual).any(1)):
        tally = compare_rows(ways, rows.at(np.array([row])))
        counts[:, row] = tally.differing, tally.unexplained
    return counts


def judged(counts: Mapping[Tensor, Indices], count: int, seed: int) -> set[Verdict]:
    """What a sample of so many rows would say of the tensors."""
    sizes = {tensor.name: found.shape[1] for tensor, found in counts.items()}
    drawn, audits = draw(sizes, count, seed), []
    for (tensor, found), run in zip(counts.items(), runs(sizes, seed).values(), strict=True):
        rows = np.union1d(run, drawn.get(tensor.name, run))
        blocks = len(rows) * tensor.shape[0] // tensor.type.block_size
        differing, unexplained = found[:, rows].sum(1).tolist()
        tally = Tally(len(rows), blocks, differing, 0, differing - unexplained, unexplained)
        audits.append(TensorAudit(tensor, tally=tally))
    judge(audits, sampled=True)
    return {audit.verdict for audit in audits}


@pytest.mark.parametrize("compiler", CLANG)
@pytest.mark.parametrize("base", [T.Q4_K, T.Q3_K, T.IQ4_XS], ids=lambda kind: kind.name)
def test_no_sample_accuses_an_honest_file(
    compiler: str, base: T, shorter: tuple[Path, Path], importances: Mapping[str, Floats], tmp_path: Path
) -> None:
    """Thousands of samples of another compiler's file: what each row holds is found out once, and drawn from."""
    made = requantized(
        shorter[1], shorter[0], importances, program(compiler).quantize, tmp_path / QUANT, {T.Q4_K: base}
    )
    file, header = opened(shorter[0])
    with file:
        named = GGUFWeights(file, header)
        found = [counts_by_row(made, named, importances, arithmetic) for arithmetic in Arithmetic]
    counts = min(found, key=lambda each: sum(int(rows[0].sum()) for rows in each.values()))
    said = Counter(verdict for seed in range(1000) for verdict in judged(counts, 1024, seed))
    assert said[Verdict.MISMATCH] == 0
    assert sum(said.values()) >= 1000


@pytest.mark.parametrize("via", [T.F32, T.F16, T.BF16], ids=lambda kind: kind.name)
@pytest.mark.parametrize("arithmetic", FINGERPRINTS)
def test_what_the_weights_were_rounded_to_is_found(tmp_path: Path, via: T, arithmetic: Arithmetic) -> None:
    """Weights in full precision, quantized by way of any unquantized type; nothing says which."""
    generator = np.random.default_rng(1)
    named = {f"blk.{number}.weight": generator.standard_normal((96, 512)).astype(np.float32) for number in range(3)}
    weights = written(tmp_path / "f32.gguf", {name: (T.F32, (512, 96), rows.tobytes()) for name, rows in named.items()})
    made = {name: kept(arithmetic).quantize(T.Q4_K, rounded(rows, via)).tobytes() for name, rows in named.items()}
    quant = written(tmp_path / "quant.gguf", {name: (T.Q4_K, (512, 96), data) for name, data in made.items()})
    file, header = opened(weights)
    with file:
        outcome = audited(quant, GGUFWeights(file, header), {})
    assert verdicts(outcome) == {Verdict.EXACT: len(named)}
    assert (outcome.via, outcome.arithmetic) == (via, arithmetic)


@pytest.mark.long
def test_what_an_older_llama_cpp_made_in_iq1_m_is_not_accused(tmp_path: Path) -> None:
    """It adds up otherwise there, which shows most where many weights are zero; its own library derives all of it."""
    generator = np.random.default_rng(1)
    named = np.where(generator.random((3, 512)) < 0.3, generator.standard_normal((3, 512)), 0).astype(np.float32)
    by = generator.chisquare(3, 512).astype(np.float32)
    weights = written(tmp_path / "f32.gguf", {"blk.0.weight": (T.F32, (512, 3), named.tobytes())})
    made = kept(Arithmetic.STRICT, OLDER).quantize(T.IQ1_M, named, by).tobytes()
    quant = written(tmp_path / "quant.gguf", {"blk.0.weight": (T.IQ1_M, (512, 3), made)})
    file, header = opened(weights)
    with file:
        [found] = audited(quant, GGUFWeights(file, header), {"blk.0.weight": by}).tensors
    assert (found.verdict, found.reason) == (Verdict.UNCHECKED, OTHER_SUMS)
    assert found.tally.differing > 0


@pytest.fixture(scope="module")
def sample() -> tuple[Floats, Floats]:
    """Rows of weights that no release has seen, and importances that differ by orders of magnitude."""
    rows = as_float32(T.BF16, make_tensor(7, "sample", (ROWS, COLUMNS)).view(np.uint8).reshape(ROWS, -1))
    powers = make_tensor(8, "importances", (1, COLUMNS)).view(np.uint8)
    return rows, as_float32(T.BF16, powers)[0] ** 2 * np.float32(1000)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("weighed", [True, False], ids=["importances", "none"])
def test_every_type(kind: T, weighed: bool, sample: tuple[Floats, Floats]) -> None:
    rows, by = sample[0], sample[1] if weighed else None

    def compared(compiler: str) -> Tally:
        """In the arithmetic that fits better, as the audit does."""
        made = program(compiler).quantize(kind, rows, by)
        makings = [Making(arithmetic, T.F32) for arithmetic in Arithmetic]
        made_rows = Rows(kind, rows, by, made, np.arange(ROWS))
        tallies = [compare_rows(Ways(kept, order), made_rows) for order in (makings, makings[::-1])]
        return min(tallies, key=lambda tally: tally.differing)

    assert compared("x86-64 GCC").differing == 0
    assert compared("ARM64 GCC").differing == 0
    for compiler in ("ARM64 clang", "x86-64-v3 clang"):
        clang = compared(compiler)
        assert clang.unexplained == 0
        assert not surprisingly_many(clang.differing, rate(kind).most * clang.blocks)
        assert clang.blocks == rows.size / kind.block_size


@pytest.mark.parametrize(
    ("compiler", "known"), [("x86-64 GCC", Arithmetic.STRICT), ("ARM64 GCC", Arithmetic.FUSED), ("ARM64 clang", None)]
)
def test_fingerprints_tell_compilers_apart(compiler: str, known: Arithmetic | None) -> None:
    found = fingerprint(program(compiler))
    assert {name for name, digest in FINGERPRINTS.items() if digest == found} == ({known} if known else set())


@pytest.mark.parametrize("toolchain", PINS)
def test_all_pins_compute_alike(toolchain: str) -> None:
    """Opening a library checks its fingerprint already: what is said here is that no pin is turned away."""
    for name in FINGERPRINTS:
        assert fingerprint(kept(name, toolchain)) == FINGERPRINTS[name]
