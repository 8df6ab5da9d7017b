"""``pip install .`` and nothing else: audit and verify need no Snakemake, no checkout, and no compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.checkout import ROOT
from support.workplace import QUANT, Workplace


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that was empty; the sources from which it was installed are gone."""
    folder = tmp_path_factory.mktemp("standalone")
    source = shutil.copytree(
        ROOT, folder / "source", symlinks=True, ignore=shutil.ignore_patterns(".*", "results", "build")
    )
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    binaries = folder / "venv" / "bin"
    subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", source], check=True)
    shutil.rmtree(source)
    assert not (binaries / "snakemake").exists()
    return binaries


def test_an_audit_from_a_wheel(binaries: Path, demo: Workplace, cache: Path, tmp_path: Path) -> None:
    command = [binaries / "requant", "audit", demo.release, "--source", demo.results / "generated"]
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{QUANT}: every row that was read derives exactly from ")
    # It makes the card again, of which the wheel has the templates and the words.
    done = subprocess.run([binaries / "requant", "verify", demo.release], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_audit_without_a_compiler(binaries: Path, demo: Workplace, tmp_path: Path) -> None:
    """Nothing is on the PATH, nothing lies in the cache, no package index answers: all of the file is checked all the same."""
    (tmp_path / "path").mkdir()
    env = {
        "PATH": str(tmp_path / "path"), "HOME": str(tmp_path / "home"), "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9",
    }  # fmt: skip
    command = [binaries / "requant", "audit", demo.release, "--source", demo.results / "generated", "--full"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{QUANT}: every tensor derives exactly from "), done.stdout
    assert not (tmp_path / "home").exists()
