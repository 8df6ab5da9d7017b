"""Importance matrices of all kinds, and what real llama-quantize makes of them, as an audit sees it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.documents.schemas import fault
from requant.formats.imatrix import Entry, importance, read_imatrix
from support.command import Audit
from support.gguf_files import write_imatrix
from support.hollow import TOOL
from support.workplace import Workplace

GOOD = {"weights": "exact", "recipe": "stock", "metadata": "harmless", "coverage": "full"}
Array = np.ndarray[Any, Any]


def ran(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def quantized(demo: Workplace, matrix: Path) -> Path:
    """What llama-quantize makes of the demo's weights with a matrix, beside it."""
    quant = matrix.parent / "Tiny-Qwen3-Q4_K_M.gguf"
    ran(TOOL, "--imatrix", matrix, demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf", quant, "Q4_K_M", "2")
    return quant


def rewritten(demo: Workplace, out: Path, change: Callable[[str, Array], Array | None]) -> Path:
    """The demo's matrix with other squares, or without those for which there are none."""
    known = read_imatrix(demo.release / "imatrix.gguf")
    assert known.chunk_size is not None
    entries: dict[str, Array] = {}
    for name, entry in known.entries.items():
        if (squares := change(name, entry.in_sum2[0])) is not None:
            entries |= {f"{name}.in_sum2": squares.astype(np.float32), f"{name}.counts": entry.counts}
    return write_imatrix(out, entries, known.datasets, known.chunk_count, known.chunk_size)


def statuses(report: dict[str, Any]) -> dict[str, str]:
    return {question: answer["status"] for question, answer in report["answers"].items()}


@pytest.fixture(scope="module")
def legacy(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's matrix as llama-imatrix writes it in the old format."""
    out = tmp_path_factory.mktemp("legacy") / "imatrix.dat"
    model = demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf"
    ran(
        TOOL.with_name("llama-imatrix"), "-m", model, "--in-file", demo.release / "imatrix.gguf",
        "--output-format", "dat", "-o", out,
    )  # fmt: skip
    return out


def test_the_old_format_holds_the_same(demo: Workplace, legacy: Path) -> None:
    old, new = read_imatrix(legacy), read_imatrix(demo.release / "imatrix.gguf")
    assert (old.legacy, old.chunk_count, old.datasets, [*old.entries]) == (
        True, new.chunk_count, new.datasets, sorted(new.entries),
    )  # fmt: skip
    for name, entry in old.entries.items():
        np.testing.assert_allclose(importance(entry), importance(new.entries[name]), rtol=1e-6)


def test_what_is_quantized_with_the_old_format_is_exact(
    audit: Audit, demo: Workplace, generated: Path, legacy: Path
) -> None:
    """Every byte; the matrix is found beside it, under the name that the header gives."""
    code, said, report = audit(quantized(demo, legacy), "--source", generated, "--full")
    assert (code, statuses(report)) == (0, GOOD), said
    assert (report["imatrix"]["entries"], report["imatrix"]["left_out"]) == (28, [])
    code, said, report = audit(legacy, "--source", generated)
    assert (code, report["verdict"]) == (0, "plausible"), said


def test_a_damaged_one_is_one_sentence(audit: Audit, generated: Path, legacy: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "imatrix.dat"
    damaged.write_bytes(legacy.read_bytes()[:-20])
    code, said, _ = audit(damaged, "--source", generated)
    assert (code, said.count("\n")) == (2, 1), said
    assert said.startswith("error: ") and "an importance matrix in the old format, has" in said


def one_in_32(_: str, squares: Array) -> Array:
    return np.where(np.arange(squares.size) % 32 == 0, squares, 0)


def reciprocal(_: str, squares: Array) -> Array:
    return 1 / squares


def test_zeros_but_for_one_column_in_32(audit: Audit, demo: Workplace, generated: Path, tmp_path: Path) -> None:
    """The weights do derive from it, so it is no mismatch; but nothing like it was ever measured."""
    quant = quantized(demo, rewritten(demo, tmp_path / "imatrix.gguf", one_in_32))
    code, said, report = audit(quant, "--source", generated, "--seed", "7", COLUMNS="1000")
    assert (code, statuses(report)) == (3, GOOD | {"recipe": "unchecked", "coverage": "sample"}), said
    sentence = report["answers"]["recipe"]["sentence"]
    assert (
        "the importance matrix is not like measured ones: share of dead columns 0.969 in blk.0.attn_k.weight"
        in sentence
    )
    assert "effective columns 1 of 32 in blk.0.attn_k.weight" in sentence
    assert "times that without a matrix in blk." in sentence
    assert {finding["key"] for finding in report["findings"] if finding["grade"] == "unchecked"} == {"imatrix"}
    assert float(report["imatrix"]["error"]["value"]) > 100
    ratios = {tensor["name"]: tensor["unweighted_ratio"] for tensor in report["tensors"]}
    assert float(ratios["blk.0.attn_k.weight"]) > 2.5
    assert ratios["token_embd.weight"] is ratios["output_norm.weight"] is None
    assert fault(report, "audit", "report.json") is None
    code, said, report = audit(quant, "--source", generated, "--allow-unchecked", "imatrix")
    assert (code, report["allowed"]) == (0, ["imatrix"]), said
    assert "imatrix could not be checked, as was allowed" in " ".join(said.split())
    code, said, report = audit(tmp_path / "imatrix.gguf", "--source", generated)
    assert (code, report["verdict"], report["imatrix"]["dead"]["value"]) == (3, "unchecked", "0.9688"), said
    assert fault(report, "imatrix-audit", "report.json") is None


def test_a_matrix_turned_upside_down_is_told_by_nothing(
    audit: Audit, demo: Workplace, generated: Path, tmp_path: Path
) -> None:
    """What verdicts.md says that this leaves to a forger: it looks like any, and costs what it costs there."""
    quant = quantized(demo, rewritten(demo, tmp_path / "imatrix.gguf", reciprocal))
    code, said, report = audit(quant, "--source", generated)
    assert (code, statuses(report)) == (0, GOOD | {"coverage": "sample"}), said
    assert float(report["imatrix"]["error"]["value"]) < 1.5


def test_honest_numbers_are_shown(audit: Audit, demo: Workplace, generated: Path) -> None:
    code, said, report = audit(demo.release, "--source", generated, "--full", COLUMNS="1000")
    assert (code, report["answers"]["recipe"]["status"]) == (0, "stock"), said
    numbers = report["imatrix"]
    assert numbers["dead"]["value"] == "0"
    assert float(numbers["effective"]["value"]) > 5
    assert float(numbers["error"]["value"]) < 1.3
    assert "share of dead columns 0 (" in said and "unweighted error 1." in said
    ratios = [tensor["unweighted_ratio"] for tensor in report["tensors"]]
    assert sum(ratio is not None for ratio in ratios) == 28
    assert max(float(ratio) for ratio in ratios if ratio) == pytest.approx(float(numbers["error"]["value"]))


def test_tensors_that_the_matrix_leaves_out_are_exact(
    audit: Audit, demo: Workplace, generated: Path, tmp_path: Path
) -> None:
    """llama-quantize makes them as if there were no matrix: a fact."""
    matrix = rewritten(demo, tmp_path / "imatrix.gguf", lambda name, squares: None if "attn_q" in name else squares)
    quant = quantized(demo, matrix)
    code, said, report = audit(quant, "--source", generated, "--full")
    assert (code, statuses(report)) == (0, GOOD), said
    left_out = [f"blk.{layer}.attn_q.weight" for layer in range(4)]
    assert report["imatrix"]["left_out"] == left_out
    assert "4 matrices are quantized without importances" in report["answers"]["recipe"]["sentence"]
    assert {tensor["verdict"] for tensor in report["tensors"]} == {"exact"}


def test_a_matrix_with_more_than_quantization_uses(
    audit: Audit, demo: Workplace, generated: Path, tmp_path: Path
) -> None:
    known = read_imatrix(demo.release / "imatrix.gguf")
    entries: dict[str, Array] = {}
    for name, entry in known.entries.items():
        entries |= {f"{name}.in_sum2": entry.in_sum2[0], f"{name}.counts": entry.counts}
        entries |= {f"{name}.in_sum": -entry.in_sum2[0], f"{name}.stats": np.zeros(3, np.float32)}
    matrix = write_imatrix(
        tmp_path / "any-name.gguf", entries, known.datasets, known.chunk_count, known.chunk_size or 0
    )
    code, said, report = audit(quantized(demo, matrix), "--source", generated)
    assert (code, statuses(report)) == (0, GOOD | {"coverage": "sample"}), said


def test_a_matrix_of_another_model_beside_it_is_not_held_against_it(
    audit: Audit, demo: Workplace, generated: Path, tmp_path: Path
) -> None:
    """llama-quantize would have refused it: made without a matrix, the quant is what it is."""
    quant = tmp_path / "Tiny-Qwen3-Q4_K_M.gguf"
    ran(TOOL, demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf", quant, "Q4_K_M", "2")
    foreign = Entry(np.ones((1, 99), np.float32), np.array([16], np.float32))
    write_imatrix(
        tmp_path / "imatrix.gguf",
        {"blk.0.attn_q.weight.in_sum2": foreign.in_sum2[0], "blk.0.attn_q.weight.counts": foreign.counts},
    )
    code, said, report = audit(quant, "--source", generated)
    assert (code, statuses(report), report["imatrix"]) == (0, GOOD | {"coverage": "sample"}, None), said
    code, said, report = audit(quant, "--source", generated, "--imatrix", tmp_path / "imatrix.gguf")
    assert (code, report["answers"]["weights"]["status"]) == (3, "unchecked"), said
