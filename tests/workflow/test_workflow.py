"""The workflow before it runs: plans without a network, and recipes that are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.checkout import ROOT

SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")
NOWHERE = dict.fromkeys(("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "PIP_INDEX_URL", "HTTPS_PROXY"), "http://127.0.0.1:9")


def snakemake(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [SNAKEMAKE, "--snakefile", str(ROOT / "Snakefile"), "--cores", "2", *arguments]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **NOWHERE}, capture_output=True, text=True)


PLANS = {
    "config": {"fetch_model", "convert_checkpoint"},
    "tiny": {"generate_model", "convert_checkpoint"},
    "smollm2": {"fetch_model", "expand_gguf"},
}


@pytest.mark.parametrize("name", PLANS)
def test_plans_need_no_network(name: str, tmp_path: Path) -> None:
    done = snakemake("-n", "--quiet", "rules", "--configfile", str(ROOT / "config" / f"{name}.yaml"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = {line.split()[0] for line in (done.stdout + done.stderr).splitlines() if line.strip()}
    assert PLANS[name] | {"fetch_corpus", "fetch_toolchain", "calibrate", "quantize", "write_sums"} <= jobs


def test_the_release_recipe_is_the_default() -> None:
    done = snakemake("-n", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "results/Qwen3-4B-Thinking-2507/release/Qwen3-4B-Thinking-2507-Q4_K_M-imatrix.gguf" in done.stdout + done.stderr
    )


def test_another_mirror_or_quant_downloads_nothing_again(tmp_path: Path) -> None:
    """Only what the pin says may make Snakemake fetch weights again."""
    rules = (ROOT / "workflow" / "rules" / "sources.smk").read_text()
    fetch = rules[rules.index("rule fetch_model") : rules.index("rule generate_model")]
    assert "recipe.quants" not in fetch
    assert "recipe.source" not in fetch


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown key": ({"quantz": ["Q4_K_M"]}, ("quantz", "did you mean quants")),
    "wrong type": ({"quants": "Q4_K_M"}, ("quants", "write a list")),
    "unknown quant": ({"quants": ["Q4_K_X"]}, ("Q4_K_X", "did you mean")),
    "missing pin": ({"toolchain": "llama.cpp-main"}, ("toolchain", "llama.cpp-0c1e57098bba")),
    "source that is no folder": ({"source": "/nowhere"}, ("/nowhere", "folder")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_recipe_is_one_sentence(name: str, tmp_path: Path) -> None:
    change, words = REFUSED[name]
    recipe = yaml.safe_load((ROOT / "config" / "smollm2.yaml").read_text()) | change
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = snakemake("--configfile", "recipe.yaml", "--until", "fetch_model", cwd=tmp_path)
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    assert "Traceback" not in output
    assert any(all(word in line for word in words) for line in output.splitlines()), output


def test_python_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    real = sys.executable
    old.write_text(f'#!/bin/sh\nexec {real} -c "import sys; sys.version_info = (3, 9, 0); exec(sys.argv[1])" "$2"\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "setup", f"PYTHON={old}", f"VENV={tmp_path}/venv"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "older than Python 3.11" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_below_a_folder_with_a_space_the_environment_lies_elsewhere(tmp_path: Path) -> None:
    folder, cache = tmp_path / "a folder", tmp_path / "cache"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "envs"):
        (folder / name).symlink_to(ROOT / name)
    command = ["make", "--no-print-directory", "--dry-run", "setup", f"XDG_CACHE_HOME={cache}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    [made] = [line for line in done.stdout.splitlines() if " -m venv " in line]
    assert made.split(" -m venv ")[1].startswith(f"{cache}/requant/"), done.stdout + done.stderr


def test_conda_repeats_the_direct_requirements() -> None:
    environment = yaml.safe_load((ROOT / "envs" / "workflow.yaml").read_text())
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == (ROOT / "envs" / "workflow.in").read_text().split()


def test_every_rule_leaves_a_log_and_times() -> None:
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        text = path.read_text()
        rules = text.count("\nrule ") + text.count("\nuse rule ") + text.startswith("rule ")
        # A benchmark is an output for Snakemake, and an audit must have none: it is never up to date.
        audits = text.count("\nrule audit:")
        assert text.count("    log:\n") == text.count("    benchmark:\n") + audits == rules, path
