"""Importances read off what llama.cpp made with them: other rows derive with these, and a changed row does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.audit.question import Question, audit
from requant.audit.recipe.imatrix import ImatrixReport
from requant.audit.render import rendered
from requant.audit.report import as_document
from requant.audit.weights import recovered
from requant.conversion.weights import rounded
from requant.documents.schemas import fault
from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.quantization.recovery import RECOVERABLE, recover
from support.checkout import shared_cache
from support.quants import kept, written

ROWS, COLUMNS, NOISY = 400, 128, 301
STRICT = Arithmetic.STRICT


def importance(columns: int = COLUMNS) -> Floats:
    return np.random.default_rng(1).chisquare(1, columns).astype(np.float32) + np.float32(0.01)


IMPORTANCE = importance()


def weights(rows: int = ROWS, columns: int = COLUMNS) -> Floats:
    return rounded((np.random.default_rng(0).standard_t(5, (rows, columns)) / 50).astype(np.float32), T.BF16)


def other_blocks(kind: T, data: Bytes, importance: Floats) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Of every row, which blocks the importances do not lead to."""
    derived = kept(STRICT).quantize(kind, weights(), importance)
    return (derived != data).reshape(ROWS, -1, kind.type_size).any(2)


@pytest.mark.parametrize("kind", RECOVERABLE)
def test_other_rows_derive_with_them(kind: T) -> None:
    data = kept(STRICT).quantize(kind, weights(), IMPORTANCE)
    found = recover(kind, weights()[:300], data[:300])
    blocks = IMPORTANCE.reshape(-1, 32) / IMPORTANCE.reshape(-1, 32).mean(1, keepdims=True)
    assert np.median(np.abs(found.reshape(-1, 32) / blocks - 1)) < 0.01
    assert other_blocks(kind, data, np.ones(COLUMNS, np.float32))[300:].mean() > 0.9
    assert other_blocks(kind, data, found)[300:].mean() < 0.15


def document(folder: Path, kind: T, source: Floats, made_of: Floats, **options: Any) -> dict[str, Any]:
    """What a full audit of one tensor finds that was made with importances nobody has."""
    rows, columns = made_of.shape
    shape, name = (columns, rows), "blk.0.attn_q.weight"
    data = kept(STRICT).quantize(kind, made_of, importance(columns))
    quant = written(folder / "q.gguf", {name: (kind, shape, data.tobytes())})
    weights = written(folder / "w.gguf", {name: (T.F32, shape, source.tobytes())})
    report = audit(Question(str(quant), str(weights), **{"rows": None, "fit_imatrix": True} | options))
    assert not isinstance(report, ImatrixReport)
    found = as_document(report)
    assert fault(found, "audit", "the report") is None
    return found | {"said": rendered(report).markdown}


def test_a_tensor_of_an_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of 0.1 %, which changes hardly a quant of Q4_1, shows in the scales of the one row that has it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache()))
    source = rounded(weights(600, 512), T.BF16)
    found = document(tmp_path, T.Q4_1, source, source)
    [tensor] = found["tensors"]
    honest = tensor["recovered"]
    assert (tensor["verdict"], honest["rows"], honest["blocks"]) == ("consistent", 300, 300 * 16)
    assert honest["derived"] > 0.9 * honest["blocks"] and honest["least"] > 0.6 * honest["row"] == 0.6 * 16
    words = f"importances that were read off 300 rows derive {honest['derived']:,} of 4,800 blocks in others"
    assert words in found["said"] and "--fit-imatrix" in found["command"]
    noisy = source.copy()
    noise = np.random.default_rng(2).standard_normal(512).astype(np.float32)
    noisy[NOISY] += np.float32(0.001) * noisy.std() * noise
    found = document(tmp_path, T.Q4_1, source, noisy, rows=8)
    [tensor] = found["tensors"]
    assert tensor["verdict"] == "consistent", "its quants alone do not show it"
    assert tensor["recovered"]["derived"] > 0.9 * 4800 and tensor["recovered"]["least"] < 8
    monkeypatch.setattr(recovered, "FEWEST", 301)
    assert "recovered" not in document(tmp_path, T.Q4_1, source, source)["tensors"][0]
    assert "recovered" not in document(tmp_path, T.Q4_1, source, source, fit_imatrix=False)["tensors"][0]


@pytest.mark.parametrize("kind", RECOVERABLE)
def test_any_bytes_lead_to_numbers(kind: T) -> None:
    """Scales that are no number, blocks of zeros, rows of zeros, importances of zero: files are hostile."""
    random = np.random.default_rng(3)
    data = random.integers(0, 256, (80, kind.type_size * COLUMNS // 32), np.uint8)
    data[:40, : kind.type_size] = 0
    given = weights()[:80].copy()
    given[::3] = 0
    assert np.isfinite(recover(kind, given, data)).all()
    dead = IMPORTANCE * (np.arange(COLUMNS) % 5 > 0)
    made = kept(STRICT).quantize(kind, weights(), dead.astype(np.float32))
    assert other_blocks(kind, made, recover(kind, weights()[:300], made[:300]))[300:].mean() < 0.3
    assert np.isfinite(recover(kind, np.zeros((80, COLUMNS), np.float32), data)).all()
