"""Snakemake asked for its plans, where no network can be reached; and a recipe whose weights are a small file here."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from requant.ground.digests import digest_file
from support.checkout import PLACE, ROOT, alone

SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")
NOWHERE = dict.fromkeys(("HF_ENDPOINT", "MODELSCOPE_ENDPOINT", "PIP_INDEX_URL", "HTTPS_PROXY"), "http://127.0.0.1:9")
HERE = ("--snakefile", str(ROOT / "Snakefile"))
"""Options that name this checkout's workflow."""


def snakemake(*arguments: str, cwd: Path, by: Sequence[str] = (), **env: str) -> subprocess.CompletedProcess[str]:
    """What a run says; ``by`` is a program that starts it, and under what rights."""
    command = [*by, SNAKEMAKE, "--cores", "2", *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **NOWHERE, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def planned(*arguments: str, cwd: Path, **env: str) -> dict[str, int]:
    """How many jobs of each rule a dry run plans, which must succeed."""
    done = snakemake("--dry-run", *arguments, cwd=cwd, **env)
    assert done.returncode == 0, done.stdout
    _, _, table = done.stdout.partition("\nJob stats:\n")
    rows = [line.split() for line in table.splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit() and row[0] != "total"}


def slurm_plugin() -> str:
    """A folder with Snakemake's plugin for Slurm and what it imports, as ``make setup-slurm`` installs them.

    Not in the tests' own environment: every start of Snakemake would import it, and pandas with it.
    """
    folder, lock = PLACE / "slurm", ROOT / "envs" / "slurm.lock"
    installed = folder / lock.name
    with alone():
        if not installed.exists() or installed.read_bytes() != lock.read_bytes():
            shutil.rmtree(folder, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
            options = ["--require-hashes", "--no-deps", "--target", str(folder), "-r", str(lock)]
            subprocess.run([*pip, *options], check=True)
            shutil.copyfile(lock, installed)
    return str(folder)


def write_small_recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    """Write ``recipe.yaml``, ``pins.yaml`` and the folder ``weights``: fetching them is a matter of a copy."""
    weights = folder / "weights" / "model.safetensors"
    weights.parent.mkdir(exist_ok=True)
    weights.write_bytes(b"not really")
    digest = digest_file(weights)
    pins = yaml.safe_load((ROOT / "config" / "pins.yaml").read_text())
    known = {"size": digest.size, "sha256": digest.sha256}
    pins["models"]["Small"] = {
        "repo": "nobody/small", "revision": "1" * 40, "licence": "none", "files": {weights.name: known},
    }  # fmt: skip
    write_yaml(folder / "pins.yaml", pins)
    recipe = copy.deepcopy(yaml.safe_load((ROOT / "config" / "smollm2.yaml").read_text()))
    recipe.pop("evaluation", None)
    recipe |= {"name": "Small", "model": {"pin": "Small"}, "pins": "pins.yaml", "source": "weights", **changes}
    write_yaml(folder / "recipe.yaml", recipe)
    return recipe


def write_yaml(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(document), allow_unicode=True), encoding="utf-8")
