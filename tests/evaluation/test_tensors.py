"""Errors of each tensor: the formula of the module's docstring, with each expert's importances for its own rows."""

import json
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.documents.records import Product, file_entry, write_record
from requant.evaluation.fidelity import tensors
from requant.formats.ggml import Arithmetic, Floats, GGMLType
from requant.ground.digests import digest_file
from requant.ground.errors import FormatError
from support.gguf_files import write_imatrix, write_model
from support.pure_quantizer import PureQuantizer

EXPERTS, ROWS, COLUMNS = 3, 6, 64
QUANTIZER = PureQuantizer(Arithmetic.STRICT)
NAMES = {"dense.weight": (ROWS, COLUMNS), "experts.weight": (EXPERTS, ROWS, COLUMNS)}
STREAM = np.random.default_rng(7)
WEIGHTS = {name: STREAM.standard_normal(shape).astype(np.float32) for name, shape in NAMES.items()}
IMPORTANCES = {
    "dense.weight": STREAM.chisquare(1, (1, COLUMNS)).astype(np.float32),
    "experts.weight": STREAM.chisquare(1, (EXPERTS, COLUMNS)).astype(np.float32),
}


def quantized(weights: Floats) -> Any:
    return QUANTIZER.quantize(GGMLType.Q4_0, weights.reshape(-1, COLUMNS)).reshape(*weights.shape[:-1], -1)


def measure(folder: Path, monkeypatch: pytest.MonkeyPatch, importances: dict[str, Floats]) -> dict[str, dict[str, Any]]:
    """What is recorded of each tensor; numpy dequantizes in place of llama.cpp's library."""
    monkeypatch.setattr(tensors, "tool_quantizer", lambda _: QUANTIZER)
    model = write_model(folder / "model.gguf", {name: (values, None) for name, values in WEIGHTS.items()})
    packed = {name: (quantized(values), GGMLType.Q4_0) for name, values in WEIGHTS.items()}
    quant = Product(write_model(folder / "quant.gguf", packed), folder / "quant.json")
    write_record(quant.record, {"file": file_entry(quant.file.name, digest_file(quant.file)), "type": "Q4_0"})
    matrix = {f"{name}.in_sum2": values for name, values in importances.items()}
    matrix |= {f"{name}.counts": np.ones((len(values), 1), np.float32) for name, values in importances.items()}
    imatrix = write_imatrix(folder / "imatrix.gguf", matrix)
    tensors.measure_tensors(model, quant, imatrix, folder / "tool.json", folder / "record.json")
    return {row["name"]: row for row in json.loads((folder / "record.json").read_text())["tensors"]}


def error(name: str, by: Floats) -> float:
    weights = WEIGHTS[name].reshape(-1, ROWS, COLUMNS).astype(np.float64)
    found = QUANTIZER.dequantize(GGMLType.Q4_0, quantized(WEIGHTS[name]).reshape(-1, COLUMNS // 32 * 18), COLUMNS)
    lost = (found.reshape(weights.shape) - weights) ** 2
    return sqrt((by[:, None] * lost).sum() / (by[:, None] * weights**2).sum())


@pytest.mark.parametrize("batch", [1, 2 * COLUMNS, 4 * COLUMNS, 1 << 21])
def test_each_expert_is_weighted_by_its_own_importances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(tensors, "BATCH", batch)
    found = measure(tmp_path, monkeypatch, IMPORTANCES)
    for name, by in IMPORTANCES.items():
        assert float(found[name]["plain"]) == pytest.approx(error(name, np.ones_like(by)), rel=1e-5), name
        assert float(found[name]["weighted"]) == pytest.approx(error(name, by), rel=1e-5), name
        assert float(found[name]["importance"]) == pytest.approx(by.mean(), rel=1e-5), name


def test_without_importances_only_the_plain_error_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(tmp_path, monkeypatch, {"dense.weight": IMPORTANCES["dense.weight"]})["experts.weight"]
    assert (found["weighted"], found["importance"]) == (None, None)
    assert float(found["plain"]) == pytest.approx(error("experts.weight", np.ones((1, COLUMNS))), rel=1e-5)


def test_a_matrix_of_fewer_experts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormatError, match=r"experts\.weight has other experts .*: use one of this model"):
        measure(tmp_path, monkeypatch, IMPORTANCES | {"experts.weight": IMPORTANCES["experts.weight"][:2]})
