"""Quants of models with experts by llama-quantize's options: exact, and the printed command makes the same bytes again."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from requant.audit.question import Question
from requant.audit.question import audit as carry_out
from requant.audit.recipe.imatrix import ImatrixReport
from requant.audit.report import as_document
from support.checkout import shared_cache
from support.hollow import TOOL
from support.quants import contents
from support.workplace import Workplace
from support.zoo import ALL, MIXED, Zoo, fill, write_matrix, write_zoo

MODELS = {
    "eight experts": Zoo("llama", 3, (MIXED,), experts=8),
    "a hybrid of sixteen, tied": Zoo("llama", 4, ALL, experts=16, tied=True),
}
CASES: dict[str, tuple[str, str, list[str], str]] = {
    "experts alone": ("eight experts", "Q4_K_M", ["--tensor-type", "ffn_.*_exps=q5_k"], "custom"),
    "a value of one layer": (
        "a hybrid of sixteen, tied", "Q4_K_M", ["--tensor-type", r"blk\.1\.attn_v=q8_0", "--token-embedding-type", "q5_k"], "custom",
    ),
    "importances kept from some": ("eight experts", "Q4_K_M", ["--exclude-weights", "blk.1.", "--exclude-weights", "attn_q"], "stock"),
    "importances kept from all but some": ("a hybrid of sixteen, tied", "Q4_K_S", ["--include-weights", "ffn_down_exps"], "stock"),
    "both": (
        "a hybrid of sixteen, tied", "Q3_K_M", ["--exclude-weights", "ffn_up_exps", "--tensor-type", "ffn_up_exps=q4_k"], "custom",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def works(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each model a folder in which the printed command runs as it stands."""
    found = {name: tmp_path_factory.mktemp("work") for name in MODELS}
    for name, work in found.items():
        fill(write_zoo(work / "weights.gguf", MODELS[name]), 1)
        write_matrix(work / "imatrix.gguf", MODELS[name], 2)
    return found


def quantize(work: Path, command: list[str]) -> None:
    done = subprocess.run([str(TOOL), *command, "2"], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def audited(work: Path, name: str) -> dict[str, Any]:
    report = carry_out(Question(str(work / name), str(work / "weights.gguf"), rows=None))
    assert not isinstance(report, ImatrixReport)
    return as_document(report)


@pytest.mark.parametrize("case", CASES)
def test_the_printed_command_makes_it_again(works: dict[str, Path], monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache()))
    model, base, options, word = CASES[case]
    work = works[model]
    quantize(work, ["--imatrix", "imatrix.gguf", *options, "weights.gguf", f"Small-{base}.gguf", base])
    found = audited(work, f"Small-{base}.gguf")
    answers = {question: answer["status"] for question, answer in found["answers"].items()}
    expected = {"weights": "exact", "recipe": word, "metadata": "equal", "coverage": "full"}
    assert (found["exit_code"], answers) == (0, expected), found["headline"]
    program, *command = found["mix"]["command"]
    assert (program, command[-1]) == ("llama-quantize", base)
    quantize(work, command)
    assert contents(work / "quant.gguf") == contents(work / f"Small-{base}.gguf")
    kept = found["imatrix"]["excluded"]
    assert bool(kept) == any("clude-weights" in option for option in options)
    assert ("which it was not given though the matrix has some" in found["answers"]["recipe"]["sentence"]) == bool(kept)
