"""What README, tutorial and card say to type after ``make demo``, typed, beside the demo's results."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.checkout import ROOT
from support.workplace import Workplace, tiny_recipe

BIN = str(Path(sys.executable).parent)
REQUANT = f"{BIN}/requant"
Typed = Callable[[str], tuple[int, str]]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
CARD_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def typed(demo: Workplace, cache: Path, tmp_path: Path) -> Typed:
    """Run a block of a document in a folder of its own, where ``results`` are the demo's; gives code and output."""
    (tmp_path / "results").symlink_to(demo.folder / "results")

    def run(block: str) -> tuple[int, str]:
        command = block.replace(".venv/bin/requant", REQUANT)
        env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=env, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_readme(typed: Typed) -> None:
    text = (ROOT / "README.md").read_text()
    commands = [
        line for line in text.splitlines() if line.startswith((".venv/bin/requant audit", ".venv/bin/requant verify"))
    ]
    assert len(commands) == 2
    for command in commands:
        code, said = typed(command)
        assert code == 0, said


def test_the_tutorial(typed: Typed) -> None:
    english, chinese = ((ROOT / "docs" / name).read_text() for name in ("tutorial.md", "tutorial.zh-CN.md"))
    blocks = BLOCK.findall(english)
    assert blocks == BLOCK.findall(chinese)
    assert blocks[0] == "make demo\n"
    found = [typed(block) for block in blocks[1:]]
    assert [code for code, _ in found] == [0, 0, 0, 1, 1], "\n".join(said for _, said in found)
    verify, audit, _, forged, diff = (said for _, said in found)
    assert "agrees" in verify and "derives exactly from" in audit
    assert "mismatch" in forged and "token_embd.weight" in forged and "token_embd.weight" in diff


def card_commands(release: Path, heading: str) -> list[str]:
    """The lines of the blocks that stand under a heading of a card."""
    section = (release / "README.md").read_text().split(f"\n### {heading}\n")[1].split("\n### ")[0]
    return [line for block in CARD_BLOCK.findall(section) for line in block.replace("\\\n", "").splitlines()]


def test_the_cards_own_check(make_workplace: Callable[..., Workplace]) -> None:
    """A release with measurements, made again by what its own card says, is the same."""
    measured = {"fidelity": {"arithmetic": "native", "chunks": 4, "context": 512}}
    published, again = make_workplace("published", tiny_recipe(evaluation=measured)), make_workplace("again")
    published.run()
    lines = card_commands(published.release, "Verify")
    start = lines.index("make setup")
    [written, remade, compared] = lines[start + 1 :]
    snakemake = f"{BIN}/snakemake --snakefile {ROOT / 'Snakefile'}"
    script = "\n".join([written, remade.replace(".venv/bin/snakemake", snakemake), compared.replace(".venv/bin", BIN)])
    env = {**os.environ, "RELEASE": str(published.release)}
    done = subprocess.run(["bash", "-ec", script], cwd=again.folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nsame: the manifests are equal, and all that they describe" in f"\n{done.stdout}"
