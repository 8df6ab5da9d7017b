"""requant.pipeline.layout: where documents and users look for what a run makes, and that the rules ask nobody else."""

import re

from requant.documents.file_names import BILL_OF_MATERIALS, EVALUATION
from requant.pipeline import layout
from support.checkout import ROOT

PATHS = {
    "results/Tiny": layout.results("Tiny"),
    "results/Tiny/source": layout.source("Tiny"),
    "results/Tiny/generated": layout.generated("Tiny"),
    "results/Tiny/bf16": layout.bf16("Tiny"),
    "results/Tiny/corpus": layout.corpus("Tiny", "Tiny", ["docs", "train", "test"]),
    "results/Tiny/release": layout.release("Tiny"),
    "results/Tiny/logs": layout.logs(layout.results("Tiny")),
    "results/Tiny/benchmarks": layout.benchmarks(layout.results("Tiny")),
    "results/Tiny/evaluation/behaviour/BF16": layout.answers("Tiny", "BF16"),
    "results/toolchains/llama.cpp-1/strict/bin/llama-quantize.json": layout.tool("llama.cpp-1", "llama-quantize"),
    "results/toolchains/llama.cpp-1/benchmarks": layout.benchmarks(layout.toolchain("llama.cpp-1")),
    "results/suites": layout.SUITES,
    "results/.lock": layout.LOCK,
}


def test_paths() -> None:
    assert list(PATHS) == list(PATHS.values())


def test_shared_folders_are_no_recipe_s() -> None:
    assert {layout.TOOLCHAINS, layout.SUITES} == {layout.results(name) for name in layout.SHARED}


def test_files_of_a_release() -> None:
    files = ["T-Q4_K_M.gguf", "T-Q8_0.gguf", "imatrix.gguf", "manifest.json", "README.md", "SHA256SUMS"]
    assert layout.release_files("T", ("Q4_K_M", "Q8_0"), False, False) == files
    assert layout.release_files("T", ("Q4_K_M", "Q8_0"), True, False) == [*files, EVALUATION]
    assert layout.release_files("T", ("Q4_K_M", "Q8_0"), False, True) == [*files, BILL_OF_MATERIALS]


def test_rules_spell_no_path_below_results() -> None:
    for path in [ROOT / "workflow" / "Snakefile", *(ROOT / "workflow" / "rules").iterdir()]:
        assert not re.findall(r'"results/.*"', path.read_text()), path
