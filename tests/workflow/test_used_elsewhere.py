"""The workflow where users of Snakemake use workflows: as a module, deployed, in another folder, and by the catalog."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from support.checkout import ROOT
from support.linked import linked_environment
from support.plans import HERE, NOWHERE, planned, snakemake, write_small_recipe, write_yaml

TINY = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())
WHOLE = {"fetch_toolchain", "fetch_corpus", "calibrate", "quantize", "write_card", "write_report", "write_sums"}
DEPLOYED = ("Snakefile", "LICENSE", "README.md", "config", "envs", "profiles", "scripts", "suites", "workflow")
"""What of a checkout its users need."""


# As a module.


def use_as_module(folder: Path, recipe: dict[str, Any]) -> None:
    """Write a Snakefile with the workflow as a module, and a config file that holds the recipe among other things."""
    write_yaml(folder / "all.yaml", {"other": 1, "release": recipe})
    (folder / "Snakefile").write_text(f"""
configfile: "all.yaml"

onstart:
    print("this is mine")

module requant:
    snakefile: "{ROOT}/workflow/Snakefile"
    config: config["release"]

use rule * from requant as requant_*
""")


def test_as_a_module(tmp_path: Path) -> None:
    use_as_module(tmp_path, TINY)
    assert {f"requant_{name}" for name in WHOLE} <= planned(cwd=tmp_path).keys()
    done = snakemake("--filegraph", cwd=tmp_path)
    for file in ("workflow/templates/card.md.j2", "suites/forced.jsonl"):
        assert f"{ROOT}/{file}" in done.stdout


def test_a_module_runs_its_scripts(tmp_path: Path) -> None:
    use_as_module(tmp_path, write_small_recipe(tmp_path))
    done = snakemake("requant_fetch_model", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "this is mine" in done.stdout
    require_fetched(tmp_path)


def require_fetched(folder: Path) -> None:
    """The weights are there, and Snakemake has read the environment that their rule names."""
    assert (folder / "results/Small/source/model.safetensors").is_file()
    [record, _] = (json.loads(path.read_text()) for path in (folder / ".snakemake" / "metadata").iterdir())
    # From git it comes without its last line end.
    assert base64.b64decode(record["conda_env"]).strip() == (ROOT / "envs" / "workflow.yaml").read_bytes().strip()


def test_a_module_refuses_a_wrong_recipe_in_one_sentence(tmp_path: Path) -> None:
    use_as_module(tmp_path, TINY | {"quantz": []})
    done = snakemake("--dry-run", cwd=tmp_path)
    assert done.returncode != 0
    assert "quantz is not a known key (did you mean quants?)" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_module_takes_the_lock_too(tmp_path: Path) -> None:
    use_as_module(tmp_path, write_small_recipe(tmp_path))
    (tmp_path / "results").mkdir()
    with (tmp_path / "results" / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = snakemake("requant_fetch_model", cwd=tmp_path)
    assert done.returncode != 0
    assert f"another run is working in {tmp_path}" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "results" / "Small" / "source").exists()


# Deployed.


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a world in which github.com/requant/requant is a clone on this disk, with the tag v1."""
    clone = tmp_path_factory.mktemp("upstream")
    for name in DEPLOYED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, clone / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(ROOT / name, clone / name)
    author = ["-c", "commit.gpgsign=false", "-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        [*author, "commit", "--quiet", "--message=all"],
        ["tag", "v1"],
    ):
        subprocess.run(["git", *command], cwd=clone, check=True)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{clone}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/requant/requant",
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
    }


@pytest.fixture
def deployed(upstream: dict[str, str], tmp_path: Path) -> Path:
    """What snakedeploy makes of it. (Of a plain path it makes a Snakefile that names itself, whatever the workflow.)"""
    snakedeploy = Path(sys.executable).with_name("snakedeploy")
    command = [
        snakedeploy,
        "deploy-workflow",
        "https://github.com/requant/requant",
        tmp_path / "deployed",
        "--tag",
        "v1",
    ]
    subprocess.run(command, env={**os.environ, **upstream}, check=True)
    return tmp_path / "deployed"


def test_deployed(deployed: Path, upstream: dict[str, str]) -> None:
    assert (
        'github("requant/requant", path="workflow/Snakefile", tag="v1")'
        in (deployed / "workflow/Snakefile").read_text()
    )
    jobs = planned(cwd=deployed, **upstream)
    assert WHOLE | {"fetch_model"} <= jobs.keys()


def test_a_deployment_has_its_own_recipe_and_pins(deployed: Path, upstream: dict[str, str]) -> None:
    """Snakemake reads rules and scripts from the repository, one by one; the package comes with them."""
    recipe = write_small_recipe(deployed)
    (deployed / "pins.yaml").rename(deployed / "config" / "pins.yaml")
    del recipe["pins"]
    write_yaml(deployed / "config" / "config.yaml", recipe)
    done = snakemake("fetch_model", cwd=deployed, PYTHONPATH="", **upstream)
    assert done.returncode == 0, done.stdout
    require_fetched(deployed)


# In another folder.


def test_in_another_folder(tmp_path: Path) -> None:
    """The default recipe, and its suites and pins, come from the checkout."""
    done = snakemake("--dry-run", "--directory", str(tmp_path), cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "results/Qwen3-4B-Thinking-2507/release/README.md" in done.stdout
    assert planned(*HERE, "--configfile", str(ROOT / "config/tiny.yaml"), cwd=tmp_path).keys() >= WHOLE


def test_a_folder_of_one_s_own(tmp_path: Path) -> None:
    """What lies there comes before what lies in the checkout: recipe, pins and suites."""
    recipe = write_small_recipe(tmp_path, name="Mine")
    recipe["evaluation"] = {"behaviour": {**TINY["evaluation"]["behaviour"], "suites": ["suites/mine.jsonl"]}}
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "mine.jsonl").touch()
    write_yaml(tmp_path / "config" / "config.yaml", recipe)
    done = snakemake("--dry-run", *HERE, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "results/Mine/release/README.md" in done.stdout
    assert "suites/mine.jsonl" in done.stdout


# In the catalog, which lints a clone where Snakemake alone is installed.


@pytest.fixture(scope="module")
def snakemake_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with Snakemake and what it requires, and nothing else."""
    return linked_environment(tmp_path_factory.mktemp("alone"), required("snakemake"))


def required(name: str) -> set[str]:
    """A distribution and all that it requires here, without its extras."""
    found, left = set[str](), {name}
    while left:
        found |= left
        entries = [Requirement(entry) for each in left for entry in distribution(each).requires or ()]
        needed = [entry for entry in entries if entry.marker is None or entry.marker.evaluate({"extra": ""})]
        left = {entry.name for entry in needed} - found
    return found


def test_lint_where_snakemake_alone_is_installed(snakemake_alone: Path) -> None:
    env = {**os.environ, **NOWHERE, "PYTHONPATH": "", "PYTHONNOUSERSITE": "1"}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([snakemake_alone, *arguments], cwd=ROOT, env=env, capture_output=True, text=True)

    for name in ("requant", "numpy", "safetensors", "tqdm", "click", "huggingface_hub"):
        assert f"No module named '{name}'" in python("-c", f"import {name}").stderr
    done = python("-m", "snakemake", "--lint")
    assert done.returncode == 0, done.stderr
    assert "your workflow is in a good condition" in done.stderr
    done = python("-m", "snakemake", "--dry-run", "--configfile", "config/tiny.yaml")
    assert done.returncode == 0, done.stderr


def test_the_catalog_s_file() -> None:
    """https://snakemake.github.io/snakemake-workflow-catalog, "Standardized usage"."""
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["mandatory-flags"].keys() == {"desc", "flags"}
    assert usage["software-stack-deployment"].keys() == {"conda", "apptainer", "apptainer+conda"}
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert (ROOT / "config" / "README.md").is_file()
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
