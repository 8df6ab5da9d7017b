"""Which tensors importances are read off: consistent ones of types that tell them, of one matrix, of 128 rows and more."""

from __future__ import annotations

from pathlib import Path

import pytest

from requant.audit.weights.material import Material
from requant.audit.weights.recovered import recover_importances
from requant.audit.weights.tensor import TensorAudit
from requant.conversion.weights import GGUFWeights
from requant.formats.ggml import Arithmetic
from requant.formats.ggml import GGMLType as T
from requant.quantization.derivation import Making
from requant.quantization.verdict import Verdict
from support.pure_quantizer import PureQuantizer
from support.quants import Tensors, numbers, opened, written

NAME, COLUMNS = "blk.0.attn_q.weight", 32
CONSISTENT, UNCHECKED = Verdict.CONSISTENT, Verdict.UNCHECKED


@pytest.mark.parametrize(
    ("kind", "shape", "verdict", "looked"),
    [
        (T.Q4_0, (COLUMNS, 128), CONSISTENT, True), (T.Q5_1, (COLUMNS, 128), CONSISTENT, True),
        (T.Q4_0, (COLUMNS, 127), CONSISTENT, False), (T.Q4_0, (COLUMNS, 128, 2), CONSISTENT, False),
        (T.Q4_0, (COLUMNS, 128), UNCHECKED, False), (T.Q8_0, (COLUMNS, 128), CONSISTENT, False),
    ],
    ids=["Q4_0", "Q5_1", "few rows", "experts", "not consistent", "tells nothing"],
)  # fmt: skip
def test_what_is_looked_at(tmp_path: Path, kind: T, shape: tuple[int, ...], verdict: Verdict, looked: bool) -> None:
    count = shape[1] * (*shape, 1)[2]
    weights, quantizer = numbers(1, count, COLUMNS), PureQuantizer(Arithmetic.STRICT)
    quant: Tensors = {NAME: (kind, shape, quantizer.quantize(kind, weights).tobytes())}
    (file, header), (named, their) = (
        opened(written(tmp_path / "q.gguf", quant)),
        opened(written(tmp_path / "w.gguf", {NAME: (T.F32, shape, weights.tobytes())})),
    )
    with file, named:
        material = Material(file, header, GGUFWeights(named, their), {}, PureQuantizer)
        one = TensorAudit(header.tensors[0], verdict=verdict)
        recover_importances(material, [one], Making(Arithmetic.STRICT, T.F32), 1)
    assert (one.recovered is not None) is looked
    assert one.recovered is None or (one.recovered.rows, one.recovered.blocks, one.recovered.row) == (64, 64, 1)
