"""An audit where Python has only what it has on every system, and the machine no compiler: macOS and Windows are like that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from requant.formats.ggml import GGMLType as T
from requant.toolchain.wasm_library import WasmLibrary
from support.checkout import ROOT
from support.command import PYTHONPATH
from support.quants import Tensors, numbers, written

ROWS, COLUMNS = 64, 256
KINDS = {"token_embd.weight": T.Q6_K, "blk.0.attn_q.weight": T.Q4_K, "blk.0.ffn_down.weight": T.Q8_0}


def pair(folder: Path) -> tuple[Path, Path]:
    """A quant and its weights."""
    weights: Tensors = {}
    quant: Tensors = {}
    for seed, (name, kind) in enumerate(KINDS.items()):
        rows = numbers(seed, ROWS, COLUMNS)
        weights[name] = T.F32, (COLUMNS, ROWS), rows.tobytes()
        quant[name] = kind, (COLUMNS, ROWS), WasmLibrary().quantize(kind, rows).tobytes()
    return written(folder / "quant.gguf", quant), written(folder / "weights.gguf", weights)


@pytest.mark.parametrize(("options", "changed"), [(("--full",), False), (("--rows", "20", "--jobs", "4"), True)])
def test_an_audit(tmp_path: Path, options: tuple[str, ...], changed: bool) -> None:
    """Of a local pair: what is written, too, is written with what every system has."""
    quant, weights = pair(tmp_path)
    if changed:
        data = np.fromfile(quant, np.uint8)
        data[-ROWS * 272 :: 34] ^= 1  # a bit of a scale in every block of the last tensor
        data.tofile(quant)
    (tmp_path / "path").mkdir()
    home = {name: str(tmp_path / "home") for name in ("HOME", "XDG_CACHE_HOME")}
    path = os.pathsep.join([PYTHONPATH, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "elsewhere.py", "audit", quant, "--source", weights, *options,
         "--json", tmp_path / "report.json", "--html", tmp_path / "page.html"],
        env={"PATH": str(tmp_path / "path"), "PYTHONPATH": path, **home}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == (1 if changed else 3), done.stdout + done.stderr  # these files say nothing of a model
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert report["answers"]["weights"]["status"] == ("mismatch" if changed else "exact"), report["answers"]
    assert not (tmp_path / "home").exists()
