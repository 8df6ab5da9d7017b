"""A sampled audit over HTTP costs the rows that it reads, not what the model weighs: sparse pairs of the size of real models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from requant.pipeline.tiny_shape import TinyShape
from support.hub import LoopbackHub
from support.sparse_pair import DEEPER, DIGEST, FOUR_B, IMATRIX, QUANT, SHARD, SparsePair, write_sparse_pair
from support.workplace import Workplace

REQUANT = str(Path(sys.executable).parent / "requant")
SEED, ROWS = 11, 4096
PASSED = {"weights": "exact", "recipe": "stock", "metadata": "harmless", "coverage": "sample"}


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


def written(demo: Workplace, folder: Path, size: TinyShape) -> SparsePair:
    quant = demo.release / "Tiny-Qwen3-Q4_K_M.gguf"
    pair = write_sparse_pair(folder, demo.results / "generated", quant, size, SEED, ROWS)
    assert pair.on_disk < 200_000_000
    return pair


def audited(hub: LoopbackHub, cache: Path, folder: Path, pair: SparsePair) -> tuple[int, str, dict[str, Any]]:
    hub.add_model("org/Giant", pair.weights, digests={SHARD: DIGEST})
    hub.add_model("some/Giant-GGUF", pair.quant, digests={QUANT: DIGEST})
    report = folder / "report.json"
    command = [REQUANT, "audit", f"hf://some/Giant-GGUF/{QUANT}", "--source", "org/Giant"]
    command += ["--imatrix", f"hf://some/Giant-GGUF/{IMATRIX}", "--rows", str(ROWS), "--seed", str(SEED)]
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run([*command, "--json", str(report)], env=env, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr, json.loads(report.read_text()) if report.exists() else {}


def test_the_cost_does_not_grow_with_the_model(demo: Workplace, cache: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    runs = {}
    for name, size in (("4B", FOUR_B), ("15B", DEEPER)):
        pair = written(demo, tmp_path / name, size)
        code, said, report = audited(hub, cache, tmp_path, pair)
        words = {question: answer["status"] for question, answer in report["answers"].items()}
        assert (code, words) == (0, PASSED), said
        assert report["rows"] > ROWS, "the drawn ones, and some of every matrix"
        run = report["run"]
        print(f"{name}: {run} of {pair.nbytes:,} bytes")
        assert pair.nbytes > 10_000_000_000
        assert run["bytes_fetched"] < pair.nbytes / 100
        assert size is DEEPER or run["requests"] <= 1500, "one for each tensor on each side, whatever is drawn of it"
        weights = sum(entry.sent for entry in hub.seen(f"*/{SHARD}"))
        runs[name] = run["bytes_fetched"], weights, pair.nbytes, report["rows"]
        hub.requests.clear()
    fetched, of_weights, nbytes, rows = (large / small for small, large in zip(*runs.values(), strict=True))
    assert nbytes > 3
    # As many rows are drawn, and eight of every matrix besides: the deeper model has more matrices, none of them larger.
    assert rows < nbytes / 1.5
    assert of_weights < 1.2 * rows
    # Headers, norms and the importance matrix grow with the number of layers.
    assert fetched < nbytes / 2


def test_a_drawn_row_that_was_altered_is_seen(demo: Workplace, cache: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    pair = written(demo, tmp_path / "4B", FOUR_B)
    with (pair.quant / QUANT).open("r+b") as file:
        file.seek(pair.drawn_row + 40)
        byte = file.read(1)[0]
        file.seek(pair.drawn_row + 40)
        file.write(bytes([byte ^ 1]))
    code, said, report = audited(hub, cache, tmp_path, pair)
    assert (code, report["answers"]["weights"]["status"]) == (1, "mismatch"), said
    assert sum(tensor["verdict"] == "mismatch" for tensor in report["tensors"]) == 1
