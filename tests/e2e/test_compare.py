"""requant diff --quantize with the demo's importance matrix and the real llama-quantize."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.formats.gguf import read_header
from support.checkout import TOOLCHAINS
from support.workplace import TOOLCHAIN, Workplace

SCALED = "blk.2.ffn_down.weight"
TOOL = TOOLCHAINS / TOOLCHAIN / "strict" / "bin" / "llama-quantize.json"


def scale(path: Path, factor: float) -> None:
    """Multiply every second column of one weight by ``factor``."""
    [tensor] = [tensor for tensor in read_header(path).tensors if tensor.name == f"{SCALED}.in_sum2"]
    data = np.memmap(path, "<f4", "r+", tensor.offset, (tensor.nbytes // 4,))
    data[::2] *= np.float32(factor)
    data.flush()


def compare(demo: Workplace, copy: Path, code: int) -> dict[str, Any]:
    """Run the command in the folder of ``copy`` and return what it wrote; it ends with ``code`` and leaves nothing else."""
    model = demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf"
    requant = [str(Path(sys.executable).parent / "requant"), "diff", demo.release / "imatrix.gguf", copy]
    options = ["--json", "report.json", "--quantize", model, "--type", "Q4_K_M", "--tool", TOOL]
    done = subprocess.run([*requant, *options], cwd=copy.parent, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert {path.name for path in copy.parent.iterdir()} == {copy.name, "report.json"}
    report = json.loads((copy.parent / "report.json").read_text())["imatrix"]
    assert f"{report['quant']['total']['differing']:,}" in done.stdout.split("\n\n")[1].splitlines()[-1]
    return report


@pytest.fixture
def copy(demo: Workplace, tmp_path: Path) -> Path:
    return Path(shutil.copy(demo.release / "imatrix.gguf", tmp_path / "copy.gguf"))


def test_the_demo_and_itself(demo: Workplace, copy: Path) -> None:
    report = compare(demo, copy, 0)
    assert (report["total"]["max"], report["total"]["same_bytes"]) == ("0", True)
    assert report["quant"]["total"]["differing"] == 0
    manifest = json.loads((demo.release / "manifest.json").read_text())
    [quant] = manifest["quants"]
    assert [(row["name"], row["type"]) for row in report["quant"]["tensors"]] == [
        (tensor["name"], tensor["type"]) for tensor in quant["tensors"]
    ]


def test_the_demo_and_a_slightly_scaled_copy(demo: Workplace, copy: Path) -> None:
    """Only the tensor whose importances were changed gets other bytes, and it gets some."""
    scale(copy, 1.01)
    report = compare(demo, copy, 1)
    changed = {row["name"]: float(row["max"]) for row in report["weights"] if row["max"] != "0"}
    assert changed == {SCALED: pytest.approx(1 - 1 / 1.01, abs=3e-7)}
    differing = {row["name"]: row["differing"] for row in report["quant"]["tensors"] if row["differing"]}
    assert differing.keys() == {SCALED}
    assert report["quant"]["total"]["differing"] == differing[SCALED]
