"""requant.pipeline.run_times: a measurement that a power cut took does not keep a run from its end."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from requant.pipeline.run_times import write_run


def test_an_empty_measurement_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "calibrate.jsonl").write_text('{"s": 1.26, "max_rss": "NA"}\n')
    (tmp_path / "quantize.jsonl").touch()
    with caplog.at_level(logging.WARNING):
        write_run([tmp_path], [], tmp_path / "run.json", tmp_path / "run.tsv")
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == {
        "calibrate": {"peak_memory_mb": "NA", "seconds": 1.3}
    }
    assert "quantize.jsonl is empty: how long that step took is not known" in caplog.text
