"""``pip install .`` and nothing else: audit and verify need no Snakemake and no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.checkout import ROOT
from support.workplace import QUANT, Workplace


def test_an_audit_from_a_wheel(demo: Workplace, cache: Path, tmp_path: Path) -> None:
    source = shutil.copytree(
        ROOT, tmp_path / "source", symlinks=True, ignore=shutil.ignore_patterns(".*", "results", "build")
    )
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    binaries = tmp_path / "venv" / "bin"
    subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", source], check=True)
    shutil.rmtree(source)
    assert not (binaries / "snakemake").exists()
    command = [binaries / "requant", "audit", demo.release, "--source", demo.results / "generated"]
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{QUANT}: every row that was read derives exactly from ")
    # It makes the card again, of which the wheel has the templates and the words.
    done = subprocess.run([binaries / "requant", "verify", demo.release], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
