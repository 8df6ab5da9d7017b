"""Bad input that only shows when the real tools run: one sentence each, nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from support.checkout import ROOT, TOOLCHAINS
from support.workplace import TOOLCHAIN, Workplace, moved, tiny_recipe


def local_model(workplace: Workplace, demo: Workplace, change: Callable[[Path], None]) -> None:
    """Make the recipe take the tiny weights from a folder, after ``change`` was done to them."""
    folder = workplace.folder / "weights"
    shutil.copytree(demo.results / "generated", folder, ignore=shutil.ignore_patterns("source.json"))
    change(folder)
    table = yaml.safe_load((ROOT / "config" / "pins.yaml").read_text())
    table["models"]["local"] = {
        "repo": "nobody/local",
        "revision": "0" * 40,
        "licence": "MIT",
        "files": {path.name: pinned(path) for path in folder.iterdir()},
    }
    (workplace.folder / "pins.yaml").write_text(yaml.safe_dump(table))
    pins = str(workplace.folder / "pins.yaml")
    workplace.write(tiny_recipe(model={"pin": "local"}, pins=pins, source=str(folder)))


def pinned(path: Path) -> dict[str, Any]:
    from requant.ground.digests import digest_file

    digest = digest_file(path)
    return {"size": digest.size, "sha256": digest.sha256}


def plant_nan(folder: Path) -> None:
    """Set one BF16 weight in the last quarter of the first shard to NaN."""
    shard = folder / "model-00001-of-00002.safetensors"
    data = np.memmap(shard, dtype="<u2", mode="r+", offset=shard.stat().st_size % 2)
    data[len(data) * 3 // 4] = 0x7FC0
    data.flush()


def broken_shard(folder: Path) -> None:
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:1000])


def one_token_more(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] += 1
    (folder / "config.json").write_text(json.dumps(config))


CONVERSIONS = {
    "a vocabulary larger than the embedding": (
        one_token_more,
        ("151,937 tokens", "151,936 rows", "vocab_size"),
    ),
    "NaN in weights": (plant_nan, ("NaN or infinity", "token_embd.weight")),
    "broken shard": (broken_shard, ("converter refused the model",)),
}
LONG = ("a vocabulary larger than the embedding",)
"""By upstream's converter, which takes half a minute."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in LONG else ()) for name in CONVERSIONS]
)
def test_weights_that_cannot_be_converted(workplace: Workplace, demo: Workplace, name: str) -> None:
    change, words = CONVERSIONS[name]
    local_model(workplace, demo, change)
    output = workplace.run(ok=False)
    assert_one_sentence(output, *words)
    assert not list(workplace.results.glob("bf16/**/*.gguf"))


def test_a_choice_that_lost_its_end(demo: Workplace, tmp_path: Path) -> None:
    """As a disk leaves it that failed; Snakemake asks it what comes next, before any step could say so."""
    workplace = moved(demo, tmp_path / "work", "generated", "bf16")
    choice = workplace.results / "bf16" / "converter.json"
    choice.write_bytes(choice.read_bytes()[:30])
    output = workplace.run("convert_checkpoint", ok=False)
    assert_one_sentence(output, "converter.json is no record that requant wrote", "remove it and run again")


def test_corpus_too_short(workplace: Workplace) -> None:
    recipe = tiny_recipe()
    recipe["corpus"] |= {"calibration": "test", "evaluation": "train"}
    recipe["calibration"]["chunks"] = 40
    workplace.write(recipe)
    output = workplace.run(ok=False)
    assert_one_sentence(output, "docs.test.txt", "33 chunks", "40")
    assert not (workplace.results / "calibration" / "imatrix.gguf").exists()


def test_no_compiler(workplace: Workplace, tmp_path: Path) -> None:
    toolchain = workplace.folder / "results" / "toolchains"
    toolchain.unlink()
    (toolchain / TOOLCHAIN).mkdir(parents=True)
    for name in ("source", "source.json"):
        (toolchain / TOOLCHAIN / name).symlink_to(TOOLCHAINS / TOOLCHAIN / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "sh", "git", "python3", "env", "which"):
        (tools / name).symlink_to(shutil.which(name) or "")
    env = {"PATH": str(tools), "CC": "", "CXX": ""}
    output = workplace.run(f"results/toolchains/{TOOLCHAIN}/native/build.json", ok=False, **env)
    assert_one_sentence(output, "compiler", "install", "CC")


def test_no_room(workplace: Workplace) -> None:
    """A disk of its own, too small for the BF16 file, mounted where only this run sees it."""
    small = workplace.results / "bf16"
    small.mkdir(parents=True)
    mount = f"mount -t tmpfs -o size=16m tmpfs '{small}' && exec \"$@\""
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    done = subprocess.run([*unshare, *workplace.command()], capture_output=True, text=True)
    assert done.returncode != 0
    assert_one_sentence(done.stdout + done.stderr, "BF16 GGUF needs", "are free", "--directory")


def assert_one_sentence(output: str, *words: str) -> None:
    errors = {line for line in output.splitlines() if line.startswith("error: ")}
    assert len(errors) == 1, output
    [error] = errors
    assert all(word in error for word in words), error
    assert "Traceback" not in output, output
