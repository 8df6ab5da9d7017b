"""The sweep over experts, with a quantizer in numpy on whose outcome importances have an effect: each expert has his own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from requant.audit.answers import cover
from requant.audit.weights.material import by_expert
from requant.audit.weights.sweep import Material, audit_tensors
from requant.conversion.weights import GGUFWeights
from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Tensor
from requant.quantization.verdict import Verdict
from support.pure_quantizer import PureQuantizer
from support.quants import opened, written

EXPERTS, ROWS, COLUMNS = 5, 24, 64
NAME = "blk.0.ffn_up_exps.weight"
STREAM = np.random.default_rng(5)
WEIGHTS: Floats = STREAM.standard_normal((EXPERTS, ROWS, COLUMNS)).astype(np.float32)
IMPORTANCES: Floats = STREAM.chisquare(1, (EXPERTS, COLUMNS)).astype(np.float32)


@dataclass(frozen=True)
class Weighing(PureQuantizer):
    """Moves each column by its importance first; llama.cpp's search is moved in its own way."""

    def quantize(self, kind: T, weights: Floats, importance: Floats | None = None) -> Bytes:
        assert importance is None or importance.shape == weights.shape[1:]
        return super().quantize(kind, weights if importance is None else weights + importance)


def audited(
    folder: Path, experts: list[int], importances: Floats, count: int | None = None
) -> tuple[Verdict, str | None]:
    """What is found in a quant each of whose experts has the importances of one of ``experts``."""
    (folder / "a").mkdir()
    quantizer, shape = Weighing(Arithmetic.STRICT), (COLUMNS, ROWS, EXPERTS)
    data = b"".join(
        quantizer.quantize(T.Q4_1, each, IMPORTANCES[by]).tobytes() for each, by in zip(WEIGHTS, experts, strict=True)
    )
    (quant, header), (named, their) = (
        opened(written(folder / "a" / "quant.gguf", {NAME: (T.Q4_1, shape, data)})),
        opened(written(folder / "weights.gguf", {NAME: (T.F32, shape, WEIGHTS.tobytes())})),
    )
    with quant, named:
        material = Material(quant, header, GGUFWeights(named, their), {NAME: importances}, Weighing)
        [found] = audit_tensors(material, cover(header, count, 3).selected, 2, lambda _: None).tensors
        assert found.verdict is not Verdict.EXACT or found.tally.rows == (len(found.indices))
        return found.verdict, found.reason


@pytest.mark.parametrize("count", [None, 30])
@pytest.mark.parametrize("importances", [IMPORTANCES, IMPORTANCES.ravel()], ids=["by expert", "flat"])
def test_each_has_importances_of_his_own(tmp_path: Path, importances: Floats, count: int | None) -> None:
    assert audited(tmp_path, [0, 1, 2, 3, 4], importances, count) == (Verdict.EXACT, None)


def test_those_of_another_are_not_taken(tmp_path: Path) -> None:
    verdict, _ = audited(tmp_path, [0, 1, 3, 3, 4], IMPORTANCES)
    assert verdict is Verdict.MISMATCH


def test_a_matrix_of_other_experts(tmp_path: Path) -> None:
    """llama-quantize would have refused it."""
    said = f"its importances are of {3 * COLUMNS} columns, the tensor has {EXPERTS * COLUMNS}"
    verdict, reason = audited(tmp_path, [0, 1, 2, 3, 4], IMPORTANCES[:3])
    assert (verdict, reason) == (Verdict.UNCHECKED, f"{said}, so it was made with another importance matrix")


def test_rows_by_expert() -> None:
    experts = Tensor(NAME, (COLUMNS, 4, 3), T.F32, 0, 0)
    assert by_expert(experts, np.array([0, 3, 4, 9, 11])) == [slice(0, 2), slice(2, 3), slice(3, 5)]
    for shape, rows in (((COLUMNS, 12), 12), ((COLUMNS,), 1), ((COLUMNS, 12, 1), 12)):
        assert by_expert(Tensor("x", shape, T.F32, 0, 0), np.arange(rows)) == [slice(0, rows)]
