"""bench/report.py: what it reads from logs, and ratios that say how much faster the subject is."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from support.checkout import ROOT

REPORT = ROOT / "bench" / "report.py"


@pytest.fixture(scope="module")
def report() -> ModuleType:
    spec = importlib.util.spec_from_file_location("report", REPORT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def document() -> dict[str, Any]:
    def entry(process: list[float], **more: Any) -> dict[str, Any]:
        return {"process": process, "features": [], "sha256": ["aa"], **more}

    contenders = {
        "portable": entry([2.0, 4.0, 3.0], computing=[1.0, 2.0, 1.0]),
        "native": entry([1.0, 3.0, 3.0], computing=[0.5, 1.0, 0.5]),
        "default": {**entry([4.0, 4.0, 4.0]), "sha256": ["bb"]},
    }
    measured = {"name": "calibrate-Wide", "subject": "portable", "model": "Wide", "parameters": 5_000_000, "chunks": 2,
                "command": ["llama-imatrix", "-t", "{threads}"], "contenders": contenders}  # fmt: skip
    here = {"processor": "CPU", "architecture": "x86_64", "flags": [], "cores": 2, "load_before": 0.1}
    return {"commit": "c" * 40, "compiler": "cc 1", "machine": here, "rounds": 3, "threads": 2,
            "left_out": {"avx2": "this processor has no AVX2"}, "measured": [measured]}  # fmt: skip


def test_ratios_are_taken_round_by_round(report: ModuleType) -> None:
    [measured] = report.add_ratios(document())["measured"]
    assert measured["ratios"]["native"]["process"] == {"median": 0.75, "min": 0.5, "max": 1.0}
    assert measured["ratios"]["native"]["computing"] == {"median": 0.5, "min": 0.5, "max": 0.5}
    assert measured["ratios"]["default"].keys() == {"process"}


def test_the_table_says_who_was_left_out_and_whose_bytes_are_equal(report: ModuleType) -> None:
    text = report.render(report.add_ratios(document()))
    assert "Left out: avx2, because this processor has no AVX2" in text
    assert "| native | 3.00 [1.00, 3.00] | 0.25 [0.25, 0.50] | 0.75 [0.50, 1.00] | 0.50 [0.50, 0.50] |" in text
    assert "| default | 4.00 [4.00, 4.00] | not logged | 1.33 [1.00, 2.00] |  |" in text
    assert "The same bytes came from: native." in text
    assert "llama-imatrix -t 2" in text


def test_other_types_are_one_line_each(report: ModuleType) -> None:
    made, times = document(), {"lanes": [1.0, 2.0, 2.0], "default": [4.0, 4.0, 6.0]}
    contenders = {name: {"process": found, "features": [], "sha256": ["ab" * 32]} for name, found in times.items()}
    made["measured"].append({**made["measured"][0], "model": "Wide-Qwen3", "type": "Q2_K", "subject": "lanes",
                             "contenders": contenders})  # fmt: skip
    text = report.render(report.add_ratios(made))
    line = "| Q2_K | 2.00 [1.00, 2.00] | 4.00 [4.00, 6.00] | 3.00 [2.00, 4.00] | yes | abababababababab |"
    assert line in text and text.count("## Quantization") == 1


def test_times_from_a_log(report: ModuleType) -> None:
    lines = [
        "0.01.500.000 I compute_imatrix: computing over 3 chunks",
        "0.03.100.000 I compute_imatrix: 1.60 seconds per pass - ETA 0.05 minutes",
        "1.06.250.500 I save_imatrix: stored collected data after 3 chunks",
    ]
    assert report.tool_times(lines) == {"computing": 64.751, "first_pass": 1.6}
    assert report.tool_times(["main: quantize time =  1234.50 ms"]) == {"computing": 1.234}
    assert report.tool_times([]) == {}
