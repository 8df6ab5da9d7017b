"""requant convert as a user runs it: the demo's model, and models that are refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requant.ground.digests import digest_file
from support.checkout import ROOT
from support.checkpoints import MODELS, write_checkpoint
from support.workplace import Workplace

REQUANT = str(Path(sys.executable).parent / "requant")


def convert(cache: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [REQUANT, "convert", folder.name, f"{folder.name}.gguf"]
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, cwd=folder.parent, env=env, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_demos_model(demo: Workplace, cache: Path, tmp_path: Path) -> None:
    """The example of the verb's help, which is also the command that the demo's manifest records."""
    folder = tmp_path / "Tiny-Qwen3"
    shutil.copytree(demo.results / "generated", folder)
    (folder / "source.json").unlink()
    done = convert(cache, folder)
    assert done.returncode == 0, done.stderr
    golden = json.loads((ROOT / "tests" / "golden" / "tiny.json").read_text())["model.gguf"]
    assert golden in done.stdout
    assert digest_file(tmp_path / "Tiny-Qwen3.gguf").sha256 == golden
    assert {path.name for path in tmp_path.iterdir()} == {"Tiny-Qwen3", "Tiny-Qwen3.gguf"}


def another_architecture(config: dict[str, Any]) -> None:
    config["architectures"] = ["FantasyForCausalLM"]


def one_token_more(config: dict[str, Any]) -> None:
    config["vocab_size"] += 1


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], None], int, tuple[str, ...]]] = {
    "unknown architecture": (another_architecture, 3, ("FantasyForCausalLM", "Qwen3ForCausalLM")),
    "a vocabulary larger than the embedding": (one_token_more, 2, ("[151936, 32]", "[151937, 32]", "model.embed_tokens.weight")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(cache: Path, tmp_path: Path, name: str) -> None:
    change, code, words = REFUSED[name]
    folder = tmp_path / "model"
    folder.mkdir()
    write_checkpoint(folder, MODELS["Qwen3"])
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    (folder / "vocab.json").write_text('{"a": 0}')
    (folder / "merges.txt").write_text("")
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    done = convert(cache, folder)
    assert done.returncode == code, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
