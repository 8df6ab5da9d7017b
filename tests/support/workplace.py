"""The real workflow, run as a user runs it. All folders share one built toolchain, that of ``build/tests``."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.checkout import ROOT, TOOLCHAINS

SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")
TINY = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())
TOOLCHAIN = TINY["toolchain"]
QUANT = f"{TINY['name']}-Q4_K_M.gguf"
TOOLS = ("llama-imatrix", "llama-quantize")
"""What makes a release's bytes, besides the converter."""


def tiny_recipe(**changes: Any) -> dict[str, Any]:
    """The tiny recipe, made smaller still: one block, two chunks, nothing measured."""
    recipe = copy.deepcopy(TINY)
    del recipe["evaluation"]
    recipe["model"]["generate"]["layers"] = 1
    recipe["calibration"]["chunks"] = 2
    return {**recipe, **changes}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@dataclass
class Workplace:
    """A folder to run the workflow in, with a recipe of its own unless another one is named.

    ``snakemake`` is the command that runs it. A run has one processor: two workers on two processors, each with two
    threads, would mostly wait for each other.
    """

    folder: Path
    named: Path | None = None
    snakemake: tuple[str, ...] = (SNAKEMAKE,)

    def command(self, *arguments: str, cores: int = 1) -> list[str]:
        recipe = ["--configfile", str(self.named or self.folder / "recipe.yaml")]
        snakefile = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder)]
        return [*self.snakemake, *recipe, *snakefile, "--cores", str(cores), *arguments]

    def write(self, recipe: dict[str, Any]) -> None:
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False))

    def start(self, *arguments: str, cores: int = 1, **env: str) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        # A session of its own, so that a test can kill the run with everything it started.
        return subprocess.Popen(
            self.command(*arguments, cores=cores), env={**os.environ, **env}, start_new_session=True, **pipes
        )

    def run(self, *arguments: str, cores: int = 1, ok: bool = True, **env: str) -> str:
        with self.start(*arguments, cores=cores, **env) as process:
            output, _ = process.communicate(timeout=1200)
        assert (process.returncode == 0) is ok, output
        return output

    def kill_when(self, reached: Callable[[], bool], *arguments: str, **env: str) -> None:
        """Start a run and SIGKILL it, with all its children, as soon as ``reached``."""
        with self.start(*arguments, **env) as process:
            deadline = time.monotonic() + 300
            try:
                while not reached():
                    assert process.poll() is None, process.communicate()[0]
                    assert time.monotonic() < deadline, "the point to kill at never came"
                    time.sleep(0.02)
            finally:
                # Also where the test fails: leaving the block waits for the process.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    @property
    def results(self) -> Path:
        return self.folder / "results" / "Tiny-Qwen3"

    @property
    def release(self) -> Path:
        return self.results / "release"


def prepare(folder: Path, recipe: dict[str, Any]) -> Workplace:
    """Make a folder with a recipe, which shares the tests' toolchains."""
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "toolchains").symlink_to(TOOLCHAINS)
    workplace = Workplace(folder)
    workplace.write(recipe)
    return workplace


def moved(demo: Workplace, folder: Path, *parts: str) -> Workplace:
    """The demo's folder elsewhere: these parts of its results, and what Snakemake remembers of them."""
    workplace = prepare(folder, TINY)
    for part in parts or ("",):
        shutil.copytree(demo.results / part, workplace.results / part)
    shutil.copytree(demo.folder / ".snakemake" / "metadata", folder / ".snakemake" / "metadata")
    return workplace
