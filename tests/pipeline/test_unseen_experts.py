"""requant.pipeline.unseen_experts: which experts no token reached is said, and an error only where the recipe wants it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from requant.formats.imatrix import Imatrix, read_imatrix
from requant.ground.errors import FormatError
from requant.pipeline.settings import Calibration
from requant.pipeline.unseen_experts import report_unseen
from support.gguf_files import write_imatrix

SETTINGS = Calibration("portable", 2, 8, 8, 8, False)
SEEN = {
    "blk.0.attn_q.weight": [16],
    "blk.0.ffn_up_exps.weight": [16, 10, 6, 0],
    "blk.1.ffn_up_exps.weight": [8, 8, 8, 8],
    "blk.2.ffn_up_exps.weight": [32, 0, 0, 0],
}


def matrix(path: Path, names: list[str]) -> Imatrix:
    tensors = {}
    for name in names:
        counts = np.array(SEEN[name], np.float32)[:, None]
        tensors |= {f"{name}.in_sum2": counts * np.ones((1, 4), np.float32), f"{name}.counts": counts}
    return read_imatrix(write_imatrix(path, tensors))


def test_where_all_were_seen_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = matrix(tmp_path / "x.gguf", ["blk.0.attn_q.weight", "blk.1.ffn_up_exps.weight"])
    assert report_unseen(found, replace(SETTINGS, unseen="refuse")) == []
    assert not caplog.records


SAID = (
    "no token of the calibration reached some experts of 2 weights: blk.0.ffn_up_exps.weight (1 of 4), "
    "blk.2.ffn_up_exps.weight (3 of 4); "
)


def test_unseen_experts_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert report_unseen(matrix(tmp_path / "x.gguf", [*SEEN]), SETTINGS) == [
        {"name": "blk.0.ffn_up_exps.weight", "experts": 4, "unseen": 1},
        {"name": "blk.2.ffn_up_exps.weight", "experts": 4, "unseen": 3},
    ]
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING, f"{SAID}llama-quantize takes all their columns for equally important")  # fmt: skip


def test_a_recipe_can_refuse_them(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as error:
        report_unseen(matrix(tmp_path / "x.gguf", [*SEEN]), replace(SETTINGS, unseen="refuse"))
    assert str(error.value) == f"{SAID}calibrate on more or other text, or leave calibration.unseen out"
