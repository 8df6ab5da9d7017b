"""The embedding and the output layer as one matrix, which the quant stores once and the weights twice, or the reverse."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from requant.audit.answers import cover
from requant.audit.weights.material import Material
from requant.audit.weights.sweep import Sweep, audit_tensors
from requant.audit.weights.tied import EMBEDDING, OUTPUT, TiedWeights, as_stored_by
from requant.conversion.weights import GGUFWeights
from requant.formats.ggml import Arithmetic, Floats
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Header
from requant.formats.weights_root import TensorEntry, weights_root
from requant.quantization.verdict import Verdict
from support.pure_quantizer import PureQuantizer
from support.quants import Tensors, numbers, opened, written

SHAPE = COLUMNS, ROWS = 256, 300
TABLE = numbers(1, ROWS, COLUMNS)
ONE_ROW = np.where(np.arange(ROWS)[:, None] == 299, TABLE[::-1], TABLE)
NORM = np.linspace(0.5, 2, COLUMNS, dtype=np.float32)


def plain(**matrices: Floats) -> Tensors:
    tensors: Tensors = {f"{name}.weight": (T.F32, SHAPE, rows.tobytes()) for name, rows in matrices.items()}
    return {**tensors, "output_norm.weight": (T.F32, (COLUMNS,), NORM.tobytes())}


def quant(**matrices: Floats) -> Tensors:
    """As llama-quantize makes the output layer of another type than the embedding."""
    tensors = plain(**matrices)
    for name, kind in ((EMBEDDING, T.Q4_1), (OUTPUT, T.Q8_0)):
        if name in tensors:
            rows = matrices[name.removesuffix(".weight")]
            tensors[name] = kind, SHAPE, PureQuantizer(Arithmetic.STRICT).quantize(kind, rows).tobytes()
    return tensors


def read_whole(path: Path, header: Header) -> list[TensorEntry]:
    data = path.read_bytes()
    return [
        TensorEntry(
            each.name,
            each.type.name,
            each.shape,
            hashlib.sha256(data[each.offset : each.offset + each.nbytes]).hexdigest(),
        )
        for each in sorted(header.tensors, key=lambda each: each.name)
    ]


def swept(folder: Path, weights: Tensors, subject: Tensors, count: int | None) -> tuple[Sweep, str | None]:
    (file, header), (named, their) = (
        opened(written(folder / "quant.gguf", subject)),
        opened(written(folder / "weights.gguf", weights)),
    )
    with file, named:
        found = as_stored_by(header, GGUFWeights(named, their))
        material = Material(file, header, found, {}, PureQuantizer)
        sweep = audit_tensors(material, cover(header, count, 7).selected, 2, lambda _: None)
    return sweep, found.note if isinstance(found, TiedWeights) else None


def verdicts(sweep: Sweep) -> dict[str, Verdict]:
    return {audit.tensor.name: audit.verdict for audit in sweep.tensors}


@pytest.mark.parametrize("count", [None, 40])
def test_the_quant_stores_it_once(tmp_path: Path, count: int | None) -> None:
    """As quants of Qwen3-0.6B do, whose checkpoint stores it twice."""
    sweep, note = swept(tmp_path, plain(token_embd=TABLE, output=TABLE), quant(token_embd=TABLE), count)
    assert (set(verdicts(sweep).values()), sweep.missing) == ({Verdict.EXACT}, ())
    assert note == "the named weights store the embedding once more, as output.weight; in the quant it stands for both"
    if count is None:
        _, header = opened(tmp_path / "weights.gguf")
        assert sweep.source_root == weights_root(read_whole(tmp_path / "weights.gguf", header)), "both, as stored"


@pytest.mark.parametrize("count", [None, 40])
def test_an_output_layer_of_its_own_is_missing(tmp_path: Path, count: int | None) -> None:
    weights = plain(token_embd=TABLE, output=TABLE[::-1].copy())
    sweep, note = swept(tmp_path, weights, quant(token_embd=TABLE), count)
    assert (set(verdicts(sweep).values()), sweep.missing, note) == ({Verdict.EXACT}, (OUTPUT,), None)
    assert sweep.source_root is None, "not all of the weights were hashed"


def test_a_single_other_row_is_enough(tmp_path: Path) -> None:
    sweep, _ = swept(tmp_path, plain(token_embd=TABLE, output=ONE_ROW), quant(token_embd=TABLE), None)
    assert sweep.missing == (OUTPUT,)


@pytest.mark.parametrize(
    "output", [(T.F32, (COLUMNS, 9), TABLE[:9].tobytes()), (T.F16, SHAPE, TABLE.astype("<f2").tobytes())]
)
def test_one_of_another_shape_or_type_is_missing(tmp_path: Path, output: tuple[T, tuple[int, ...], bytes]) -> None:
    table = TABLE.astype("<f2").astype(np.float32)
    weights = plain(token_embd=table) | {OUTPUT: output}
    assert swept(tmp_path, weights, quant(token_embd=table), None)[0].missing == (OUTPUT,)


def test_an_output_layer_without_an_embedding_is_compared_with_none(tmp_path: Path) -> None:
    assert swept(tmp_path, plain(), quant(output=TABLE), None)[1] is None


@pytest.mark.parametrize("count", [None, 40])
def test_the_quant_stores_it_twice(tmp_path: Path, count: int | None) -> None:
    weights = plain(token_embd=TABLE)
    sweep, note = swept(tmp_path, weights, quant(token_embd=TABLE, output=TABLE), count)
    assert (verdicts(sweep)[OUTPUT], set(verdicts(sweep).values())) == (Verdict.EXACT, {Verdict.EXACT})
    assert note == "output.weight is compared with the embedding; in the named weights it stands for both"
    if count is None:
        _, header = opened(tmp_path / "weights.gguf")
        entries = [
            TensorEntry(each.name, each.type.name, each.shape, digest)
            for each in header.tensors
            for digest in [entry.sha256 for entry in sweep.source if entry.name == each.name]
        ]
        assert sweep.source_root == weights_root(entries), "what is read twice is no second weight"


def test_a_row_of_another_output_layer_is_a_mismatch(tmp_path: Path) -> None:
    sweep, _ = swept(tmp_path, plain(token_embd=TABLE), quant(token_embd=TABLE, output=ONE_ROW), None)
    assert verdicts(sweep)[OUTPUT] is Verdict.MISMATCH
    assert verdicts(sweep)[EMBEDDING] is Verdict.EXACT


def test_where_both_have_it_nothing_is_taken_for_another(tmp_path: Path) -> None:
    other = TABLE[::-1].copy()
    subject = quant(token_embd=TABLE, output=TABLE)
    sweep, note = swept(tmp_path, plain(token_embd=TABLE, output=other), subject, None)
    assert (verdicts(sweep)[OUTPUT], note) == (Verdict.MISMATCH, None)
