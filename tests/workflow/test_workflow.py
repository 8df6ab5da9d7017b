"""The workflow before it runs: plans without a network, and recipes that are refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.checkout import ROOT
from support.hub import TOKEN, LoopbackHub
from support.hub.clients import Client
from support.plans import HERE, planned, snakemake, write_small_recipe, write_yaml
from support.small_release import write_release

PLANS = {
    "config": {"fetch_model", "convert_checkpoint", "build_datasets"},
    "tiny": {"generate_model", "convert_checkpoint"},
    "smollm2": {"fetch_model", "expand_gguf"},
}


@pytest.mark.parametrize("name", PLANS)
def test_plans_need_no_network(name: str, tmp_path: Path) -> None:
    jobs = planned(*HERE, "--configfile", str(ROOT / "config" / f"{name}.yaml"), cwd=tmp_path)
    assert PLANS[name] | {"fetch_corpus", "fetch_toolchain", "calibrate", "quantize", "write_sums"} <= jobs.keys()


@pytest.mark.parametrize("name", ["tiny", "smollm2"])
def test_what_reads_data_sets_is_installed_for_nobody_else(name: str, tmp_path: Path) -> None:
    assert "build_datasets" not in planned(*HERE, "--configfile", str(ROOT / "config" / f"{name}.yaml"), cwd=tmp_path)


def test_what_reads_data_sets_is_installed_for_mmlu(tmp_path: Path) -> None:
    asked = {"arithmetic": "native", "suites": ["mmlu"], "thinking": "default", "items": 2, "max_tokens": 8}
    write_small_recipe(tmp_path, evaluation={"behaviour": asked})
    jobs = planned(*HERE, "--configfile", "recipe.yaml", cwd=tmp_path)
    assert jobs["build_datasets"] == jobs["fetch_knowledge"] == 1


DEFAULT = "results/Qwen3-4B-Thinking-2507/release/Qwen3-4B-Thinking-2507-Q4_K_M.gguf"


def test_the_release_recipe_is_the_default() -> None:
    """In the root of the checkout, where the profile is loaded by itself too."""
    done = snakemake("-n", cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert DEFAULT in done.stdout
    assert "Using workflow specific profile profiles/default" in done.stdout


def test_the_other_name_of_a_rebuild(tmp_path: Path) -> None:
    write_release(tmp_path / "release")
    options = (
        *HERE,
        "--configfile",
        str(ROOT / "config/tiny.yaml"),
        "--config",
        f"audited={tmp_path / 'release'}",
        "--",
    )
    assert planned(*options, "rebuild", cwd=tmp_path) == {"rebuild": 1}
    done = snakemake("--dry-run", *options, "audit", cwd=tmp_path)
    assert "the target audit is called rebuild now" in done.stdout


def test_another_pin_fetches_again_another_mirror_or_quant_does_not(tmp_path: Path) -> None:
    write_small_recipe(tmp_path)
    fetched = (*HERE, "--configfile", "recipe.yaml", "--config", "source=weights", "--", "fetch_model")
    done = snakemake(*fetched, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    (tmp_path / "elsewhere").mkdir()
    for source in ("source=elsewhere", "source=huggingface"):
        assert planned(*(source if option == "source=weights" else option for option in fetched), cwd=tmp_path) == {}
    write_small_recipe(tmp_path, quants=["Q8_0", "Q6_K"])
    assert planned(*fetched, cwd=tmp_path) == {}
    # Another revision of the same files is another pin.
    pins = yaml.safe_load((tmp_path / "pins.yaml").read_text())
    pins["models"]["Small"]["revision"] = "2" * 40
    write_yaml(tmp_path / "pins.yaml", pins)
    assert planned(*fetched, cwd=tmp_path) == {"fetch_model": 1}
    pins["models"]["Small"]["revision"] = "1" * 40
    write_yaml(tmp_path / "pins.yaml", pins)
    assert planned(*fetched, cwd=tmp_path) == {}
    # It would be seen: one file more is fetched.
    pins = yaml.safe_load((tmp_path / "pins.yaml").read_text())
    pins["models"]["Small"]["files"]["config.json"] = {"size": 1, "sha256": "1" * 64}
    write_yaml(tmp_path / "pins.yaml", pins)
    assert planned(*fetched, cwd=tmp_path) == {"fetch_model": 1}


def test_a_stale_installation_is_passed_over(tmp_path: Path) -> None:
    """The rules and their scripts belong together; both take the package beside them."""
    stale = tmp_path / "stale" / "requant" / "__init__.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("raise ImportError('stale')\n")
    write_small_recipe(tmp_path)
    search = str(stale.parents[1])
    done = snakemake(*HERE, "--configfile", "recipe.yaml", "--", "fetch_model", cwd=tmp_path, PYTHONPATH=search)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "results/Small/source/model.safetensors").read_bytes() == b"not really"


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
    done = snakemake(*HERE, "--configfile", "recipe.yaml", "--until", "fetch_model", cwd=tmp_path)
    output = done.stdout
    assert done.returncode == 1, output
    assert "Traceback" not in output
    assert any(all(word in line for word in words) for line in output.splitlines()), output


TO = "publish=[huggingface:somebody/Tiny-GGUF, modelscope:somebody/Tiny-MS]"


def test_a_release_is_published_where_the_target_is_named_and_nowhere_else(
    writing: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the hubs' real clients in the rule's own process; nothing but the release is read, so it is all that is here."""
    write_release(tmp_path / "results" / "Tiny-Qwen3" / "release")
    recipe = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())
    del recipe["evaluation"]
    write_yaml(tmp_path / "recipe.yaml", recipe)
    options = (*HERE, "--configfile", "recipe.yaml", "--config", TO)
    everything = planned(*options, "bill_of_materials=cyclonedx", "--", "all", cwd=tmp_path)
    assert "write_bill" in everything and "publish" not in everything
    here = Client(writing, tmp_path / "home").environment(HF_TOKEN="", MODELSCOPE_API_TOKEN="", HF_HUB_DISABLE_XET="1")
    done = snakemake(*options, "--", "publish", cwd=tmp_path, **here)
    assert done.returncode == 1 and "Traceback" not in done.stdout, done.stdout
    assert "type hf auth login" in done.stdout and "failed: publishing Tiny-Qwen3 to huggingface:" in done.stdout
    assert {entry.method for entry in writing.requests} <= {"GET", "POST"} and not writing.repos
    known = {**here, "HF_TOKEN": TOKEN, "MODELSCOPE_API_TOKEN": TOKEN}
    done = snakemake(*options, "--", "publish", cwd=tmp_path, **known)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("complete: ") == 2 and TOKEN not in done.stdout
    record = json.loads((tmp_path / "results" / "Tiny-Qwen3" / "published.json").read_bytes())
    assert [(place["hub"], place["complete"]) for place in record["places"]] == [
        ("huggingface", True), ("modelscope", True),
    ]  # fmt: skip


def test_a_target_publish_without_places_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    done = snakemake(*HERE, "--configfile", str(ROOT / "config" / "tiny.yaml"), "--", "publish", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert "the target publish needs places in the recipe; write publish: [huggingface:OWNER/NAME]" in done.stdout
    assert not (tmp_path / "results" / "Tiny-Qwen3" / "generated").exists()


STEP = """
rule all:
    output: "x"
    log: "log"
    script: "step.py"
"""
FAILING = """
from requant.ground.errors import StaleError
from requant.pipeline.job import job
with job(snakemake.log[0]):
    raise StaleError("x was changed: remove it")
"""


def test_snakemake_shows_the_code_of_a_step_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(STEP)
    (tmp_path / "step.py").write_text(FAILING)
    done = snakemake("--cores", "1", cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert "returned non-zero exit status 3." in done.stdout
    assert "\nerror: x was changed: remove it\n" in done.stdout


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


def included(name: str) -> set[str]:
    """The templates that one is made of, itself among them."""
    text = (ROOT / "workflow" / "templates" / name).read_text()
    parts = re.findall(r'{% (?:include|from|extends) "([^"]+)"', text)
    return {name}.union(*map(included, parts))


@pytest.mark.parametrize(("rule", "template"), [("write_card", "card.md.j2"), ("write_report", "report.html.j2")])
def test_a_changed_template_makes_its_page_again(rule: str, template: str) -> None:
    """Whichever part of it was changed."""
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    [inputs] = re.findall(rf"^rule {rule}:\n    input:\n(.*?)^    output:", rules, re.DOTALL | re.MULTILINE)
    patterns = re.findall(r'"(?:workflow/templates/)?(\w+\.\*)"', inputs)
    missing = {name for name in included(template) if not any(fnmatch(name, pattern) for pattern in patterns)}
    assert patterns and not missing


def test_every_rule_leaves_a_log_and_times() -> None:
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        _, *rules = re.split(r"^(?:use )?rule ", path.read_text(), flags=re.MULTILINE)
        for rule in rules:
            # Snakemake takes a benchmark for an output, and these must have none: they are never up to date.
            fresh = {"rebuild:": ["log"], "rebuild as audit with:": [], "publish:": ["log"]}
            wanted = fresh.get(rule.splitlines()[0], ["log", "benchmark"])
            assert re.findall(r"^    (log|benchmark):$", rule, re.MULTILINE) == wanted, f"{path}: {rule}"


def test_a_folder_whose_name_the_shell_would_read(tmp_path: Path) -> None:
    """Snakemake hands the interpreter's path to the shell without quotes."""
    venv.create(tmp_path / "a(b" / ".venv", symlinks=True)
    python = tmp_path / "a(b" / ".venv" / "bin" / "python"
    packages = sysconfig.get_paths()["purelib"]
    command = [python, "-m", "snakemake", *HERE, "--dry-run", "--configfile", str(ROOT / "config" / "tiny.yaml")]
    env = {**os.environ, "PYTHONPATH": packages}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        f"{tmp_path}/a(b has ( in its name, which the shell would read: rename the folder" in done.stdout + done.stderr
    )
