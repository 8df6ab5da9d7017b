"""The sweep with a quantizer in numpy: what is compared, in which arithmetic, and why some tensors are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.audit.answers import cover
from requant.audit.named_weights import open_weights
from requant.audit.weights.judgement import COARSE
from requant.audit.weights.making import PROBE
from requant.audit.weights.material import Material
from requant.audit.weights.sample import LEAST, draw, runs
from requant.audit.weights.sweep import Sweep, audit_tensors
from requant.conversion.weights import GGUFWeights, rounded
from requant.formats.ggml import PLAIN, Arithmetic, Floats, Indices
from requant.formats.ggml import GGMLType as T
from requant.ground.errors import FormatError
from requant.quantization.verdict import Verdict
from support.checkpoints import MODELS, write_checkpoint
from support.pure_quantizer import PureQuantizer
from support.quants import Tensors, opened, written
from support.relabelled import text

ROWS, COLUMNS = 600, 256
WEIGHTS = {
    f"blk.{layer}.weight": (np.random.default_rng(layer).standard_normal((ROWS, COLUMNS)) / 50).astype(np.float32)
    for layer in range(3)
}
NORM = np.linspace(0.5, 2, COLUMNS, dtype=np.float32)
KINDS = dict(zip(WEIGHTS, (T.Q4_1, T.Q4_1, T.Q8_0), strict=True))


def unquantized(out: Path, changes: Mapping[str, tuple[T, tuple[int, ...], bytes]] | None = None) -> Path:
    tensors: Tensors = {name: (T.F32, (COLUMNS, ROWS), rows.tobytes()) for name, rows in WEIGHTS.items()}
    return written(out, {**tensors, "norm.weight": (T.F32, (COLUMNS,), NORM.tobytes()), **(changes or {})})


def quantized(arithmetic: Arithmetic = Arithmetic.STRICT, via: T = T.F32) -> Tensors:
    quantizer = PureQuantizer(arithmetic)
    tensors: Tensors = {
        name: (KINDS[name], (COLUMNS, ROWS), quantizer.quantize(KINDS[name], rounded(rows, via)).tobytes())
        for name, rows in WEIGHTS.items()
    }
    return {**tensors, "norm.weight": (T.F32, (COLUMNS,), NORM.tobytes())}


def swept(
    folder: Path,
    subject: Tensors,
    count: int | None = None,
    importances: Mapping[str, Floats] = {},  # nothing writes to it
    weights: Path | None = None,
) -> tuple[Sweep, int]:
    """What the sweep finds in a quant, and how many weights it says that it has compared."""
    (quant, header), (named, their) = (
        opened(written(folder / "quant.gguf", subject)),
        opened(weights or unquantized(folder / "weights.gguf")),
    )
    compared: list[int] = []
    read: list[int] = []
    with quant, named:
        material = Material(quant, header, GGUFWeights(named, their), importances, PureQuantizer)
        coverage = cover(header, count, 7)
        found = audit_tensors(material, coverage.selected, 2, compared.append, reading=read.append)
        assert sum(compared) <= sum(map(coverage.weights_of, header.tensors))
        assert sum(read) == (sum(compared) if count else 0), "what is left is told all the time"
    return found, sum(compared)


def chosen(count: int) -> dict[str, Indices]:
    """The rows that a sample of so many looks at."""
    drawn, whole = (draw(dict.fromkeys(WEIGHTS, ROWS), count, 7), runs(dict.fromkeys(WEIGHTS, ROWS), 7))
    return {name: np.union1d(rows, drawn.get(name, rows)) for name, rows in whole.items()}


@pytest.mark.parametrize("count", [None, 1000])
@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_a_file_is_in_one_arithmetic(tmp_path: Path, arithmetic: Arithmetic, count: int | None) -> None:
    found, compared = swept(tmp_path, quantized(arithmetic), count)
    assert {audit.verdict for audit in found.tensors} == {Verdict.EXACT}
    assert (found.arithmetic, found.differing, found.missing) == (arithmetic, 0, ())
    rows = sum(map(len, chosen(count).values())) if count else 3 * ROWS
    assert compared == COLUMNS * (rows + 1)
    assert sum(audit.tally.rows for audit in found.tensors) == rows + 1


@pytest.mark.parametrize("via", PLAIN)
def test_what_the_weights_were_rounded_to_is_found(tmp_path: Path, via: T) -> None:
    """The norms stay as they are."""
    tensors = unquantized(tmp_path / "f32.gguf", {"norm.weight": (T.F32, (COLUMNS,), NORM.tobytes())})
    found, _ = swept(tmp_path, quantized(via=via), weights=tensors)
    assert {audit.verdict for audit in found.tensors} == {Verdict.EXACT}
    assert (found.arithmetic, found.via) == (Arithmetic.STRICT, via)


@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_a_rounding_that_the_first_look_does_not_see(tmp_path: Path, arithmetic: Arithmetic) -> None:
    """Only few rows of a later tensor are too small for float16: the file is exact, through it."""
    named = {f"blk.{layer}.weight": rounded(rows, T.BF16) for layer, rows in enumerate(WEIGHTS.values())}
    named["blk.2.weight"][100:103] *= np.float32(2**-18)
    quantizer, shape = PureQuantizer(arithmetic), (COLUMNS, ROWS)
    weights = written(tmp_path / "w.gguf", {name: (T.F32, shape, rows.tobytes()) for name, rows in named.items()})
    made: Tensors = {
        name: (T.Q4_1, shape, quantizer.quantize(T.Q4_1, rounded(rows, T.F16)).tobytes())
        for name, rows in named.items()
    }
    found, _ = swept(tmp_path, made, weights=weights)
    assert {audit.verdict for audit in found.tensors} == {Verdict.EXACT}
    assert (found.via, found.arithmetic, found.differing) == (T.F16, arithmetic, 0)


@pytest.mark.parametrize("count", [None, 1000])
def test_weights_in_f16_accuse_nobody_of_what_f16_cannot_hold(tmp_path: Path, count: int | None) -> None:
    """A quant of BF16, held against the F16 that its publisher shows beside it; and what is changed in it all the same."""
    quantizer, shape = PureQuantizer(Arithmetic.STRICT), (COLUMNS, ROWS)
    named = {f"blk.{layer}.weight": rounded(rows, T.BF16) for layer, rows in enumerate(WEIGHTS.values())}
    small = chosen(1000)["blk.2.weight"][:3]
    named["blk.2.weight"][small] *= np.float32(2**-17)
    weights = written(
        tmp_path / "w.gguf", {name: (T.F16, shape, rows.astype("<f2").tobytes()) for name, rows in named.items()}
    )
    made = {name: quantizer.quantize(T.Q4_1, rows) for name, rows in named.items()}
    found, _ = swept(
        tmp_path, {name: (T.Q4_1, shape, data.tobytes()) for name, data in made.items()}, count, {}, weights
    )
    said = {audit.tensor.name: (audit.verdict, audit.reason) for audit in found.tensors}
    assert said == dict.fromkeys([*WEIGHTS][:2], (Verdict.EXACT, None)) | {"blk.2.weight": (Verdict.UNCHECKED, COARSE)}
    made["blk.2.weight"][chosen(1000)["blk.2.weight"][9], 7] ^= 0x55
    found, _ = swept(
        tmp_path, {name: (T.Q4_1, shape, data.tobytes()) for name, data in made.items()}, count, {}, weights
    )
    assert [audit.verdict for audit in found.tensors] == [Verdict.EXACT, Verdict.EXACT, Verdict.MISMATCH]


@pytest.mark.parametrize(("kind", "outlier"), [(T.Q4_1, 0.002), (T.Q8_0, 1e-4), (T.Q5_0, 0.01)])
def test_what_f16_loses_beside_larger_numbers(tmp_path: Path, kind: T, outlier: float) -> None:
    """Most of a row is too small for F16, and one number in each block is not; another number there is seen."""
    draw, shape = np.random.default_rng(4), (COLUMNS, ROWS)
    named = {f"blk.{layer}.weight": rounded(rows, T.BF16) for layer, rows in enumerate(WEIGHTS.values())}
    coarse = (draw.standard_normal((8, COLUMNS)) * 1e-6).astype(np.float32)
    coarse[:, ::32] = outlier
    named["blk.2.weight"][:8] = rounded(coarse, T.BF16)
    stored = {name: (T.F16, shape, rows.astype("<f2").tobytes()) for name, rows in named.items()}
    weights = written(tmp_path / "w.gguf", stored)
    made = {name: PureQuantizer(Arithmetic.STRICT).quantize(kind, rows) for name, rows in named.items()}

    def said() -> list[Verdict]:
        tensors = {name: (kind, shape, data.tobytes()) for name, data in made.items()}
        return [audit.verdict for audit in swept(tmp_path, tensors, None, {}, weights)[0].tensors]

    assert said() in ([Verdict.EXACT] * 2 + [last] for last in (Verdict.EXACT, Verdict.UNCHECKED))
    named["blk.2.weight"][3, 5] += np.float32(0.05)
    made["blk.2.weight"] = PureQuantizer(Arithmetic.STRICT).quantize(kind, named["blk.2.weight"])
    assert said() == [Verdict.EXACT, Verdict.EXACT, Verdict.MISMATCH]


def test_what_f16_loses_excuses_no_other_numbers(tmp_path: Path) -> None:
    """A row that is zero in the weights and is not in the quant."""
    shape = (COLUMNS, ROWS)
    named = {f"blk.{layer}.weight": rounded(rows, T.BF16) for layer, rows in enumerate(WEIGHTS.values())}
    named["blk.1.weight"][7] = 0
    stored = {name: (T.F16, shape, rows.astype("<f2").tobytes()) for name, rows in named.items()}
    weights = written(tmp_path / "w.gguf", stored)
    named["blk.1.weight"][7] = np.random.default_rng(5).standard_normal(COLUMNS) * 50
    made = {name: PureQuantizer(Arithmetic.STRICT).quantize(T.Q4_1, rows).tobytes() for name, rows in named.items()}
    found, _ = swept(tmp_path, {name: (T.Q4_1, shape, data) for name, data in made.items()}, None, {}, weights)
    assert [audit.verdict for audit in found.tensors] == [Verdict.EXACT, Verdict.MISMATCH, Verdict.EXACT]


def altered(row: int) -> Tensors:
    tensors = quantized()
    kind, shape, data = tensors["blk.1.weight"]
    changed = np.frombuffer(data, np.uint8).reshape(ROWS, -1).copy()
    changed[row, 7] ^= 0x55
    return {**tensors, "blk.1.weight": (kind, shape, changed.tobytes())}


def test_an_altered_row_is_found_where_it_is_read(tmp_path: Path) -> None:
    drawn = chosen(300)["blk.1.weight"]
    [other] = np.setdiff1d(np.arange(ROWS), drawn)[:1]
    for row, count, verdict in (
        (int(drawn[0]), 300, Verdict.MISMATCH), (int(other), 300, Verdict.EXACT), (int(other), None, Verdict.MISMATCH),
    ):  # fmt: skip
        found, _ = swept(tmp_path, altered(row), count)
        assert {audit.tensor.name: audit.verdict for audit in found.tensors} == {
            name: verdict if name == "blk.1.weight" else Verdict.EXACT for name in quantized()
        }
        [audit] = [audit for audit in found.tensors if audit.tensor.name == "blk.1.weight"]
        assert audit.tally.unexplained == (verdict is Verdict.MISMATCH)
        assert [odd.row for odd in audit.tally.odd] == [row] * (verdict is Verdict.MISMATCH)


A, B = "blk.0.weight", "blk.1.weight"
NAN = np.where(np.arange(ROWS * COLUMNS) == 5, np.float32(np.nan), WEIGHTS[A].ravel()).astype(np.float32)
ODD: dict[str, tuple[Tensors, Tensors, Mapping[str, Floats], Verdict, str]] = {
    # what is other in the quant, what is other in the weights, importances, and what is said of A
    "another shape": ({A: (T.Q4_1, (COLUMNS, 2), bytes(2 * 160))}, {}, {}, Verdict.MISMATCH, "has the shape [256, 2], the weights have [256, 600]"),
    "a type that is not derived": ({A: (T.MXFP4, (COLUMNS, ROWS), bytes(ROWS * 136))}, {}, {}, Verdict.UNCHECKED, "MXFP4 is not derived by this version"),
    "quantized weights": ({}, {A: (T.Q8_0, (COLUMNS, ROWS), bytes(ROWS * 272))}, {}, Verdict.UNCHECKED, "the weights hold it as Q8_0: name the unquantized weights"),
    "importances of another matrix": ({}, {}, {A: np.ones(9, np.float32)}, Verdict.UNCHECKED, "its importances are of 9 columns, the tensor has 256, so it was made with another importance matrix"),
    "not a number": ({}, {A: (T.F32, (COLUMNS, ROWS), NAN.tobytes())}, {}, Verdict.UNCHECKED, "the weights hold NaN, infinity or a number beyond 2**20"),
    "infinite importances": ({}, {}, {A: np.full(COLUMNS, np.inf, np.float32)}, Verdict.UNCHECKED, "the importance matrix holds a number beyond 2**40"),
}  # fmt: skip


@pytest.mark.parametrize(("subject", "weights", "importances", "verdict", "reason"), ODD.values(), ids=ODD)
def test_why_a_tensor_is_not_compared(
    tmp_path: Path, subject: Tensors, weights: Tensors, importances: Mapping[str, Floats], verdict: Verdict,
    reason: str,
) -> None:  # fmt: skip
    """And the norm is, whatever else there is."""
    named = unquantized(tmp_path / "weights.gguf", weights)
    found, _ = swept(tmp_path, quantized() | subject, None, importances, named)
    said = {audit.tensor.name: (audit.verdict, audit.reason) for audit in found.tensors}
    assert said[A] == (verdict, reason)
    assert said["norm.weight"] == (Verdict.EXACT, None)
    assert said[B] == (Verdict.EXACT, None)


def test_tensors_of_one_side_only(tmp_path: Path) -> None:
    tensors = quantized()
    tensors["other.weight"] = tensors.pop(B)
    found, _ = swept(tmp_path, tensors)
    said = {audit.tensor.name: (audit.verdict, audit.reason) for audit in found.tensors}
    assert found.missing == (B,)
    assert said["other.weight"] == (Verdict.MISMATCH, "the named weights have no such tensor")


def test_scaling_of_positions_that_the_weights_do_not_have_is_unchecked(tmp_path: Path) -> None:
    """Older converters did not compute it; whatever stands there, it is no evidence and does not pass."""
    factors = np.ones(COLUMNS, np.float32)
    found, _ = swept(tmp_path, quantized() | {"rope_freqs.weight": (T.F32, (COLUMNS,), factors.tobytes())})
    said = {audit.tensor.name: audit.verdict for audit in found.tensors}
    assert said == dict.fromkeys(quantized(), Verdict.EXACT) | {"rope_freqs.weight": Verdict.UNCHECKED}


@pytest.mark.parametrize(
    ("name", "architecture", "verdict"),
    [
        ("dense_2.weight", "gemma-embedding", Verdict.UNCHECKED), ("dense_3.weight", "gemma-embedding", Verdict.UNCHECKED),
        ("dense_4.weight", "gemma-embedding", Verdict.MISMATCH), ("dense_2.weight", "llama", Verdict.MISMATCH),
    ],
)  # fmt: skip
def test_modules_beside_a_model_are_unchecked(tmp_path: Path, name: str, architecture: str, verdict: Verdict) -> None:
    """``--sentence-transformers-dense-modules`` converts them, or not."""
    quant, header = opened(written(tmp_path / "q.gguf", quantized() | {name: (T.F32, (4, 4), bytes(64))}))
    named, their = opened(unquantized(tmp_path / "weights.gguf"))
    header = replace(header, metadata={"general.architecture": text(architecture)})
    with quant, named:
        material = Material(quant, header, GGUFWeights(named, their), {}, PureQuantizer)
        found = audit_tensors(material, cover(header, 9, 7).selected, 2, lambda _: None)
    assert {audit.tensor.name: audit.verdict for audit in found.tensors}[name] is verdict


def test_a_checkpoint_tells_whether_positions_are_scaled(tmp_path: Path) -> None:
    """What it does not have is computed by no converter: somebody put it there."""
    (tmp_path / "checkpoint").mkdir()
    write_checkpoint(tmp_path / "checkpoint", MODELS["Qwen3-Embedding"])
    named = open_weights(f"{tmp_path}/checkpoint/")
    quant, header = opened(written(tmp_path / "q.gguf", {"rope_freqs.weight": (T.F32, (4,), bytes(16))}))
    with named.place, quant:
        found = audit_tensors(Material(quant, header, named.tensors, {}, PureQuantizer), None, 2, lambda _: None)
    assert [(audit.verdict, audit.reason) for audit in found.tensors] == [
        (Verdict.MISMATCH, "the named weights have no such tensor")
    ]


def test_no_matrix_is_left_out(tmp_path: Path) -> None:
    """A sample of a single row still looks at a run of rows of every one."""
    found, compared = swept(tmp_path, quantized(), 1)
    assert {audit.verdict for audit in found.tensors} == {Verdict.EXACT}
    rows = [audit.tally.rows for audit in found.tensors if audit.tensor.name in WEIGHTS]
    assert sorted(rows) in ([LEAST, LEAST, LEAST], [LEAST, LEAST, LEAST + 1])
    assert compared == COLUMNS * (sum(rows) + 1), "and the norm"


def test_an_unreadable_subject_ends_the_sweep(tmp_path: Path) -> None:
    file, header = opened(written(tmp_path / "quant.gguf", quantized()))
    named, their = opened(unquantized(tmp_path / "weights.gguf"))
    beyond = tuple(replace(tensor, offset=tensor.offset + file.size) for tensor in header.tensors)
    material = Material(file, replace(header, tensors=beyond), GGUFWeights(named, their), {}, PureQuantizer)
    with file, named, pytest.raises(FormatError, match="truncated or damaged"):
        audit_tensors(material, None, 2, lambda _: None)


class Stored:
    """Weights of a GGUF, as if a checkpoint held them."""

    def __init__(self, weights: GGUFWeights) -> None:
        self._weights = weights

    def __getattr__(self, name: str) -> Any:
        return getattr(self._weights, name)


def test_a_checkpoint_in_f16_lost_nothing(tmp_path: Path) -> None:
    """What was quantized is what it holds: few small numbers that are others are evidence."""
    shape, quantizer = (COLUMNS, ROWS), PureQuantizer(Arithmetic.STRICT)
    named = {f"blk.{layer}.weight": rounded(rows, T.BF16) for layer, rows in enumerate(WEIGHTS.values())}
    named["blk.2.weight"][:3] *= np.float32(2**-17)
    stored = {name: (T.F16, shape, rows.astype("<f2").tobytes()) for name, rows in named.items()}
    made = {name: (T.Q4_1, shape, quantizer.quantize(T.Q4_1, rows).tobytes()) for name, rows in named.items()}
    (quant, header), (file, their) = (
        opened(written(tmp_path / name, tensors)) for name, tensors in (("q.gguf", made), ("w.gguf", stored))
    )
    with quant, file:
        weights: Any = Stored(GGUFWeights(file, their))
        found = audit_tensors(Material(quant, header, weights, {}, PureQuantizer), None, 2, lambda _: None)
    assert [audit.verdict for audit in found.tensors] == [Verdict.EXACT, Verdict.EXACT, Verdict.MISMATCH]


EXCESS = np.float32(1e5)
"""More than float16 holds, and less than what is too much for the search."""
C = "blk.2.weight"
UNSEEN = int(np.setdiff1d(np.arange(ROWS), np.linspace(0, ROWS - 1, PROBE // COLUMNS).astype(int))[0])
"""A row that the first look passes over."""


def beyond_f16(folder: Path, others: T, large: str, changed: int, coarse: str, row: int) -> dict[str, Verdict]:
    """The verdicts of three tensors, one of which, ``large``, holds a number that float16 does not.

    ``others`` is what the weights are rounded to. One row of the tensor ``coarse`` was quantized through float16, and
    ``changed`` blocks of the large one are others.
    """
    shape, quantize = (COLUMNS, ROWS), PureQuantizer(Arithmetic.STRICT).quantize
    named = {name: rounded(rows, others) for name, rows in WEIGHTS.items()}
    named[large][0, 0] = EXCESS
    named[coarse][row] *= np.float32(2**-18)
    weights = written(folder / "w.gguf", {name: (T.F32, shape, data.tobytes()) for name, data in named.items()})
    made = {name: quantize(T.Q4_1, data) for name, data in named.items()}
    made[coarse][row] = quantize(T.Q4_1, rounded(named[coarse][row : row + 1], T.F16))
    made[large][ROWS - changed :, 7] ^= 0x55
    tensors: Tensors = {name: (T.Q4_1, shape, data.tobytes()) for name, data in made.items()}
    found, _ = swept(folder, tensors, weights=weights)
    return {audit.tensor.name: audit.verdict for audit in found.tensors}


def test_another_way_that_explains_less_leaves_nothing_behind(tmp_path: Path) -> None:
    """A few blocks through float16, in a file that is not: the other tensors stay what they are."""
    said = beyond_f16(tmp_path, T.F32, B, 0, C, 100)
    assert (said[A], said[B]) == (Verdict.EXACT, Verdict.EXACT)


@pytest.mark.parametrize(("large", "coarse", "row"), [(B, C, 100), (C, B, UNSEEN)], ids=["looked at", "passed over"])
def test_no_way_wins_by_what_it_cannot_compare(tmp_path: Path, large: str, coarse: str, row: int) -> None:
    """Float16 would explain the one row, and hide that another tensor was changed."""
    said = beyond_f16(tmp_path, T.BF16, large, 3, coarse, row)
    assert (said[A], said[large]) == (Verdict.EXACT, Verdict.MISMATCH)
