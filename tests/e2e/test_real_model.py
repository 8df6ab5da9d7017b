"""A real model, from a GGUF in a package to an answer: ``make demo-real``."""

from __future__ import annotations

import json
import subprocess

import pytest

from checkout import ROOT, alone
from e2e.conftest import Workplace

RESULTS = ROOT / "results" / "SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def said(demo: Workplace) -> str:
    with alone():
        done = subprocess.run(["make", "--no-print-directory", "demo-real"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_release_is_listed_and_answers(said: str) -> None:
    assert "SmolLM2-135M-Instruct-Q4_K_M-imatrix.gguf" in said
    assert "Paris" in said.splitlines()[-1]


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
