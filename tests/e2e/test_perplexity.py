"""Portable inference is as good as native: the perplexity of a real model, on the same text, by the evaluation's code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from requant.documents.records import Product
from requant.evaluation.fidelity.predictions import Means, measure_baseline
from requant.ground.programs import Run
from requant.pipeline.settings import Fidelity
from requant.toolchain.instrument import Instrument
from support.checkout import PLACE, ROOT, alone
from support.workplace import TOOLCHAIN, Workplace

BUILT = f"results/toolchains/{TOOLCHAIN}"
BF16 = "results/SmolLM2-135M-Instruct/bf16/expanded"
MODEL, RECORD = f"{BF16}/SmolLM2-135M-Instruct.gguf", f"{BF16}/model.json"
TEXT = "results/SmolLM2-135M-Instruct/corpus/docs.test.txt"
TOOL = f"{BUILT}/strict/bin/llama-perplexity.json"
TARGETS = (TOOL, f"{BUILT}/native/build.json", f"{BUILT}/portable/build.json")


def perplexity(variant: str, folder: Path) -> float:
    run = Run(2, folder / f"{variant}.log")
    instrument = Instrument.open(PLACE / TOOL, PLACE / BUILT / variant / "build.json", run)
    means = Means(PLACE / TEXT, instrument, Fidelity(variant, chunks=4, context=512))
    record = folder / f"{variant}.json"
    measure_baseline(Product(PLACE / MODEL, PLACE / RECORD), means, Product(folder / f"{variant}.bin", record))
    return float(json.loads(record.read_text())["perplexity"]["value"])


@pytest.mark.long
def test_perplexity_of_portable_and_native(demo: Workplace, tmp_path: Path) -> None:
    with alone():
        Workplace(PLACE, ROOT / "config" / "smollm2.yaml").run("--", *TARGETS, MODEL, TEXT)
    portable, native = (perplexity(variant, tmp_path) for variant in ("portable", "native"))
    print(f"perplexity: portable {portable}, native {native}")
    assert portable == pytest.approx(native, rel=0.0005)
