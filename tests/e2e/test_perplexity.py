"""Portable inference is as good as native: the perplexity of a real model, on the same text, by llama-perplexity."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from checkout import ROOT, alone
from e2e.conftest import SNAKEMAKE, TOOLCHAIN, Workplace
from requant.build import open_built
from requant.records import THREADS
from requant.tools import work_folder

BUILT = f"results/toolchains/{TOOLCHAIN}"
MODEL = "results/SmolLM2-135M-Instruct/bf16/expanded/SmolLM2-135M-Instruct.gguf"
TEXT = "results/SmolLM2-135M-Instruct/corpus/docs.test.txt"
TARGETS = (f"{BUILT}/strict/bin/llama-perplexity.json", f"{BUILT}/native/build.json", f"{BUILT}/portable/build.json")
SETTINGS = ("-c", "512", "-b", "512", "-ub", "512", "-fa", "off", "--chunks", "8", "-fit", "off")
ESTIMATE = re.compile(r"Final estimate: PPL = ([0-9.]+)")


def perplexity(variant: str, folder: Path) -> float:
    tool, backend = open_built(ROOT / TARGETS[0]), open_built(ROOT / BUILT / variant / "build.json")
    with work_folder(folder / variant) as work:
        work.link(ROOT / MODEL, "model.gguf")
        work.link(ROOT / TEXT, "text.txt")
        for library in backend.files:
            work.link(backend.folder / library, library)
        command = ["llama-perplexity", "-m", "model.gguf", "-f", "text.txt", *SETTINGS, "-t", THREADS]
        tool.run(work, command, 2, folder / f"{variant}.log")
    found = ESTIMATE.search((folder / f"{variant}.log").read_text())
    assert found, "llama-perplexity gave no estimate"
    return float(found[1])


def test_perplexity_of_portable_and_native(demo: Workplace, tmp_path: Path) -> None:
    recipe = ["--configfile", "config/smollm2.yaml", "--cores", "2"]
    with alone():
        subprocess.run([SNAKEMAKE, *recipe, *TARGETS, MODEL, TEXT], cwd=ROOT, check=True)
    portable, native = (perplexity(variant, tmp_path) for variant in ("portable", "native"))
    print(f"perplexity: portable {portable}, native {native}")
    assert portable == pytest.approx(native, rel=0.0005)
