"""Every command in a document can be typed: made a dry run, read by the verb that it calls, or run by a test that is named."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest

from requant.cli.main import main
from support.checkout import ROOT
from support.plans import HERE, slurm_plugin, snakemake
from support.small_release import write_release

DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "README.zh-CN.md",
        "CONTRIBUTING.md",
        "config/README.md",
        "profiles/README.md",
        "envs/README.md",
    )
] + sorted(ROOT.glob("docs/*.md"))
BLOCK = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETTING = re.compile(r"[A-Z]\w*=\S*")
RUN_ELSEWHERE = {
    "(cd results/Tiny-Qwen3/release && sha256sum": "tests/e2e/test_tiny_release.py",
    "cp -r results/Tiny-Qwen3/release forged": "tests/e2e/test_documents.py",
    "printf ": "tests/e2e/test_documents.py",
    "python3 -m pip install .": "tests/e2e/test_standalone.py",
    "snakedeploy deploy-workflow": "tests/workflow/test_used_elsewhere.py",
    "sudo apt-get install": "tests/arm64/conftest.py",
    ".venv/bin/pre-commit install": "CONTRIBUTING.md",
    ".venv/bin/python -m pytest": ".ci/run",
}
"""How other commands begin, and who runs them, or cannot do without them."""
THERE = ("my-model.yaml", "qwen3-0.6b.yaml")
"""Recipes that a document has written before it names them."""


def commands() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for block in BLOCK.findall(document.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                yield document.relative_to(ROOT).as_posix(), line.strip()


COMMANDS = {line: document for document, line in sorted(commands(), reverse=True)}
"""What is typed, and the first document that says so."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a checkout after the demo, as far as plans look."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("config", "profiles", "suites", "workflow", "envs", "scripts", "Snakefile"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("my-model", "data/weights"):
        (folder / name).mkdir(parents=True)
    write_release(folder / "path" / "to" / "release")
    for name in THERE:
        shutil.copyfile(ROOT / "config" / "config.yaml", folder / name)
    return folder


def test_documents_have_commands() -> None:
    assert len(COMMANDS) > 40
    assert {document for document, _ in commands()} >= {
        "README.md",
        "README.zh-CN.md",
        "config/README.md",
        "docs/verdicts.md",
    }


@pytest.mark.parametrize("line", COMMANDS, ids=[f"{document}: {line}" for line, document in COMMANDS.items()])
def test_a_command(place: Path, line: str) -> None:
    words = shlex.split(line)
    settings = dict(word.split("=", 1) for word in takewhile(SETTING.fullmatch, words))
    words = words[len(settings) :]
    program = Path(words[0]).name
    if program == "make":
        done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif program == "snakemake":
        options = [word.replace("source=/data", f"source={place}/data") for word in words[1:]]
        if "profiles/slurm" in words:
            settings["PYTHONPATH"] = slurm_plugin()
        # Before the options that take many values.
        done_ = snakemake("--dry-run", *HERE, *options, cwd=place, **settings)
        assert done_.returncode == 0, done_.stdout
    elif program == "requant":
        verb = main.commands[words[1]]
        with verb.make_context(words[1], words[2:], parent=click.Context(main)):
            pass
    else:
        assert any(line.startswith(start) and (ROOT / where).exists() for start, where in RUN_ELSEWHERE.items()), line
