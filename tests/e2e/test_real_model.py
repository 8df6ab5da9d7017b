"""A real model, from a GGUF in a package to an answer, and audits of its quants; in full, ``make demo-real``, in make test-long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from requant.documents.evaluation import read_evaluation
from requant.release.verify import verify_release
from support.checkout import PLACE, ROOT, TOOLCHAINS, alone
from support.workplace import TOOLCHAIN, Workplace

RESULTS = PLACE / "results" / "SmolLM2-135M-Instruct"
QUICK = PLACE / "results" / "SmolLM2-quick"
MODEL = RESULTS / "bf16" / "expanded" / "SmolLM2-135M-Instruct.gguf"
TOOL = TOOLCHAINS / TOOLCHAIN / "strict" / "bin" / "llama-quantize"
REQUANT = str(Path(sys.executable).parent / "requant")


@pytest.fixture(scope="module")
def answer(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the quant of a release says when it is asked; it is hardly calibrated, and nothing is measured."""
    recipe = yaml.safe_load((ROOT / "config" / "smollm2.yaml").read_text())
    del recipe["evaluation"]
    recipe["calibration"]["chunks"] = 2
    # Beside the whole release, with the same weights.
    recipe |= {"name": QUICK.name, "model": {**recipe["model"], "name": RESULTS.name}}
    named = tmp_path_factory.mktemp("recipe") / "smollm2.yaml"
    named.write_text(yaml.safe_dump(recipe, allow_unicode=True))
    with alone():
        Workplace(PLACE, named).run("--", "answer_question")
    return (QUICK / "evaluation" / "answer.txt").read_text()


@pytest.fixture(scope="module")
def said(demo: Workplace) -> str:
    with alone():
        command = ["make", "--no-print-directory", "demo-real", f"FOLDER={PLACE}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_answers(answer: str) -> None:
    assert "Paris" in answer


@pytest.mark.long
def test_the_release_is_listed_and_answers(said: str) -> None:
    assert "SmolLM2-135M-Instruct-Q4_K_M.gguf" in said
    assert "Paris" in said.splitlines()[-1]


@pytest.mark.long
def test_the_card_names_the_source_type_and_every_fallback(said: str) -> None:
    manifest = json.loads((RESULTS / "release" / "manifest.json").read_text())
    assert manifest["model"]["expanded_from"] == "Q4_1, Q8_0"
    [quant] = manifest["quants"]
    types = {tensor["name"]: (tensor["type"], tensor["shape"][0]) for tensor in quant["tensors"]}
    fallen = {entry["name"] for entry in quant["fallbacks"]}
    assert fallen == {name for name, (kind, row) in types.items() if kind not in ("F32", "BF16") and row % 256}
    assert len(fallen) > 100
    card = (RESULTS / "release" / "README.md").read_text()
    for half in card.split("## English"):
        assert "Q4_1" in half
        assert f"{len(fallen)}" in half


@pytest.mark.long
def test_it_was_measured(said: str) -> None:
    found = read_evaluation(RESULTS / "release" / "evaluation.json")
    bf16, quant = (
        float(model["perplexity"]["value"]) for model in (found["fidelity"]["baseline"], found["fidelity"]["quants"][0])
    )
    # A model that knows something: far below the size of its vocabulary, and the quant near to it.
    assert 5 < bf16 < 50
    assert quant == pytest.approx(bf16, rel=0.05)
    assert float(found["fidelity"]["quants"][0]["divergence"]["same_top"]["value"]) > 80
    for suite in found["behaviour"]["suites"]:
        for model in suite["models"]:
            assert (model["items"], model["errors"]) == (4, 0)
            assert model["passed"] + model["failed"] + model["truncated"] == 4
    assert verify_release(RESULTS / "release").verdict == "agrees"
    assert "SmolLM2" in (RESULTS / "report.html").read_text()


QUANTS = {"Q8_0": False, "Q6_K": True, "Q5_K_M": True, "IQ4_XS": True, "Q3_K_M": False, "Q4_0": False}
FAIR = ("Q3_K_M",)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in FAIR else pytest.mark.long) for kind in QUANTS]
)
def test_its_quants_are_audited(answer: str, cache: Path, tmp_path: Path, kind: str) -> None:
    """Weights that nobody here made, as source of quants by llama-quantize; most types fall back, as rows are short."""
    imatrix = ["--imatrix", str(QUICK / "release" / "imatrix.gguf")] if QUANTS[kind] else []
    quant = tmp_path / f"SmolLM2-{kind}.gguf"
    made = subprocess.run([TOOL, *imatrix, MODEL, quant, kind, "2"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    command = [REQUANT, "audit", quant, "--source", MODEL, *imatrix, "--full"]
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{quant.name}: every tensor derives exactly from ")
    assert f"stock mix {kind}" in " ".join(done.stdout.split())
