"""The audit of an importance matrix alone: who named the weights counts as it does of a quant."""

from pathlib import Path

import numpy as np
import pytest

from requant.audit.question import Question, audit
from requant.audit.recipe.imatrix import ImatrixReport, look_at_matrix, read_hashed
from requant.audit.subject.subject import open_subject
from requant.audit.weights.fused import as_fused_by
from requant.conversion.weights import GGUFWeights, Weights
from support.gguf_files import write_imatrix, write_model
from support.hub import LoopbackHub
from support.quants import opened

REPO = "Org/Weights"
NAME = "blk.0.attn_q.weight"
SUMS = np.arange(1, 65, dtype=np.float32)


@pytest.mark.parametrize(
    ("named", "trusted", "namer", "code"),
    [(True, False, "user", 0), (False, True, "subject, trusted", 0), (False, False, "subject", 3)],
)
def test_who_named_the_weights(
    clients: LoopbackHub, tmp_path: Path, named: bool, trusted: bool, namer: str, code: int
) -> None:
    (tmp_path / "weights").mkdir()
    write_model(tmp_path / "weights" / "model.gguf", {NAME: (np.ones((4, 64), np.float32), None)})
    clients.add_model(REPO, tmp_path / "weights")
    entries = {f"{NAME}.in_sum2": SUMS.reshape(1, -1), f"{NAME}.counts": np.array([[16]], np.float32)}
    matrix = write_imatrix(tmp_path / "imatrix.gguf", entries, base_model=f"https://huggingface.co/{REPO}")
    found = audit(Question(str(matrix), f"hf://{REPO}" if named else None, trust_subject=trusted))
    assert isinstance(found, ImatrixReport)
    assert (found.verdict, found.namer, found.exit_code) == ("plausible", namer, code)


@pytest.mark.parametrize(("part", "verdict"), [("attn_qkv", "plausible"), ("attn_x", "mismatch")])
def test_a_matrix_of_fused_weights(tmp_path: Path, part: str, verdict: str) -> None:
    """It was measured on a conversion with ``--fuse-qkv``; biases, which are fused too, have no entries."""
    weights = {f"blk.0.attn_{each}.weight": (np.ones((4, 64), np.float32), None) for each in "qkv"}
    biases = {f"blk.0.attn_{each}.bias": (np.ones(4, np.float32), None) for each in "qkv"}
    named = write_model(tmp_path / "model.gguf", {**weights, **biases})
    name = f"blk.0.{part}.weight"
    entries = {f"{name}.in_sum2": SUMS.reshape(1, -1), f"{name}.counts": np.array([[16]], np.float32)}
    found = audit(Question(str(write_imatrix(tmp_path / "imatrix.gguf", entries)), str(named)))
    assert isinstance(found, ImatrixReport)
    assert found.verdict == verdict


@pytest.mark.parametrize("fused", [False, True], ids=["as measured", "fused since"])
def test_a_matrix_of_the_parts_of_a_fused_quant(tmp_path: Path, fused: bool) -> None:
    """It was measured before ``--fuse-qkv``; that is no sign of another model."""
    rows = (np.ones((4, 64), np.float32), None)
    named = write_model(tmp_path / "model.gguf", {f"blk.0.attn_{each}.weight": rows for each in "qkv"})
    entries = {}
    for each in "qkv":
        entries |= {f"blk.0.attn_{each}.weight.in_sum2": SUMS.reshape(1, -1)}
        entries |= {f"blk.0.attn_{each}.weight.counts": np.array([[16]], np.float32)}
    matrix = read_hashed(open_subject(str(write_imatrix(tmp_path / "imatrix.gguf", entries))).file)
    file, header = opened(named)
    with file:
        weights: Weights = GGUFWeights(file, header)
        weights = as_fused_by({"blk.0.attn_qkv.weight"}, weights) if fused else weights
        assert [each.sentence for each in look_at_matrix(matrix, weights) if "of the model" in each.sentence] == []
