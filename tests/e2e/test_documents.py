"""What README and tutorials say to type after ``make demo``, typed, beside the demo's results."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.checkout import ROOT
from support.hub import LoopbackHub
from support.workplace import Workplace

BIN = str(Path(sys.executable).parent)
REQUANT = f"{BIN}/requant"
Typed = Callable[[str], tuple[int, str]]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


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
    # How the answers of the last one begin stands on the page about audits.
    [shown] = re.findall(
        r"^```text\n(.*?)^```", (ROOT / "docs" / "audit-a-quant.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert " ".join(shown.split()) in " ".join(said.split())


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


def test_the_audit_of_somebody_else_s_quant(demo: Workplace, cache: Path, hub: LoopbackHub, tmp_path: Path) -> None:
    """On a hub that has the demo's files under the names of the published ones, and the weights at the commit it gives them."""
    page = (ROOT / "docs" / "audit-a-quant.md").read_text()
    [(weights, named)] = set(re.findall(r"--source (\S+)@([0-9a-f]{40})", page))
    [quant] = set(re.findall(r"requant audit (\w\S+/\S+)", page)) - {"ms://Merkyor/Qwen3-4B-Thinking-2507-GGUF-imatrix"}
    served = hub.add_model(weights, demo.results / "generated")
    for name in (quant, quant.replace("nerkyor", "Merkyor")):
        hub.add_model(name, demo.release)
    env = {**os.environ, "XDG_CACHE_HOME": str(cache), "HF_HOME": str(tmp_path / "hf")}
    env |= {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url}
    [mine] = re.findall(r"requant audit \./(\S+)", page)
    [made] = demo.release.glob("*-Q4_K_M.gguf")
    shutil.copyfile(made, tmp_path / mine)
    shutil.copyfile(demo.release / "imatrix.gguf", tmp_path / "imatrix.gguf")
    blocks = BLOCK.findall(page)
    assert len(blocks) == 4
    for block in blocks:
        command = block.replace("requant audit", f"{REQUANT} audit").replace(named, served.commit)
        done = subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert {"audit.md", "audit.html", "audit.json"} <= {path.name for path in tmp_path.iterdir()}
