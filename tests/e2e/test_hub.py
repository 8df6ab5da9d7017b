"""The rules of the real recipe, against a loopback Hub: the tiny model and a wikitext-shaped data set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.checkout import ROOT
from support.hub import Fault, LoopbackHub, Snapshot
from support.linked import linked_environment, locked
from support.wikitext import add_wikitext, wikitext_pin
from support.workplace import Workplace, digests, tiny_recipe

SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def model(hub: LoopbackHub, demo: Workplace, tmp_path: Path) -> Snapshot:
    folder = tmp_path / "served"
    shutil.copytree(demo.results / "generated", folder, ignore=shutil.ignore_patterns("source.json"))
    (folder / "README.md").write_text("not needed, not fetched\n")
    return hub.add_model("Qwen/Tiny", folder)


@pytest.fixture
def dataset(hub: LoopbackHub, demo: Workplace, tmp_path: Path) -> tuple[Snapshot, dict[str, bytes]]:
    corpus = demo.results / "corpus"
    texts = {"train": corpus / "docs.train.txt", "test": corpus / "docs.test.txt"}
    return add_wikitext(hub, tmp_path / "wikitext", texts)


def pins(model: Snapshot, dataset: tuple[Snapshot, dict[str, bytes]], *, digested: bool) -> dict[str, Any]:
    """A pin table for the loopback Hub; the weights' digests are left to the Hub's record unless ``digested``."""
    table = yaml.safe_load((ROOT / "config" / "pins.yaml").read_text())
    known = {
        name: {"size": file.size, "sha256": file.sha256} for name, file in model.files.items() if name != "README.md"
    }
    table["models"] = {
        "tiny": {
            "repo": "Qwen/Tiny",
            "revision": model.commit,
            "licence": "Apache-2.0",
            "files": {name: entry if digested else {} for name, entry in known.items()},
        }
    }
    table["corpora"] = {"wikitext": wikitext_pin(*dataset)}
    return table


@pytest.fixture
def on_hub(
    make_workplace: Callable[..., Workplace], model: Snapshot, dataset: tuple[Snapshot, dict[str, bytes]]
) -> Workplace:
    corpus = {"pin": "wikitext", "calibration": "train", "evaluation": "test"}
    workplace = make_workplace(recipe=tiny_recipe(model={"pin": "tiny"}, corpus=corpus))
    set_pins(workplace, pins(model, dataset, digested=False))
    return workplace


def set_pins(workplace: Workplace, table: dict[str, Any]) -> None:
    path = workplace.folder / "pins.yaml"
    path.write_text(yaml.safe_dump(table))
    recipe = yaml.safe_load((workplace.folder / "recipe.yaml").read_text())
    workplace.write({**recipe, "pins": str(path)})


def environment(hub: LoopbackHub, workplace: Workplace) -> dict[str, str]:
    home = str(workplace.folder / "home")
    return {"HF_ENDPOINT": hub.url, "HF_HOME": home, "TQDM_DISABLE": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "5"}


@pytest.fixture
def as_set_up(on_hub: Workplace, packages: Path, tmp_path: Path) -> Workplace:
    """The recipe, to be run by what ``make setup`` installs; the tests' own environment could read data sets by itself."""
    python = linked_environment(tmp_path / "python", [*locked("workflow.lock"), "pip"])
    asked = subprocess.run([python, "-c", "import datasets"], cwd=tmp_path, capture_output=True, text=True)
    assert "No module named 'datasets'" in asked.stderr
    return replace(on_hub, snakemake=(str(python), "-m", "snakemake"))


def test_release_from_the_hub(
    hub: LoopbackHub, as_set_up: Workplace, demo: Workplace, model: Snapshot, packages: Path
) -> None:
    on_hub = as_set_up
    on_hub.run(**environment(hub, on_hub))
    manifest = json.loads((on_hub.release / "manifest.json").read_text())
    fetched = {entry["name"]: entry["sha256"] for entry in manifest["inputs"]["model"]["files"]}
    assert fetched == {name: file.sha256 for name, file in model.files.items() if name != "README.md"}
    assert manifest["inputs"]["model"]["revision"] == model.commit
    assert not hub.seen("*/Tiny/*README.md"), "only the pinned files are fetched"
    # The same weights under the same name: the same BF16 GGUF as the demo's.
    converted = "bf16/converted/Tiny-Qwen3.gguf"
    assert (on_hub.results / converted).read_bytes() == (demo.results / converted).read_bytes()
    assert "build_datasets" in json.loads((on_hub.results / "run.json").read_text())["steps"]
    # Packages that were installed anew are no reason to read the data set again, and to do what follows from it.
    os.utime(packages)
    by_time = ("--dry-run", "--max-checksum-file-size", "0")
    assert "Nothing to be done" in on_hub.run(*by_time)


def test_a_killed_download_goes_on(hub: LoopbackHub, on_hub: Workplace, model: Snapshot) -> None:
    env = environment(hub, on_hub)
    fault = hub.faults.add(Fault("/cdn/*", "slow", rate=24 << 20))
    part = on_hub.results / "download" / SHARD
    on_hub.kill_when(lambda: part.exists() and part.stat().st_size > 20 << 20, "-U", "fetch_model", **env)
    hub.faults.clear()
    assert fault.hits
    on_hub.run("-U", "fetch_model", **env)
    ranges = [entry.range for entry in hub.seen("/cdn/*", "GET") if entry.range]
    assert ranges, "the second run goes on where the first was killed"
    found = digests(on_hub.results / "source")
    assert {name: found[name] for name in found if name != "source.json"} == {
        name: file.sha256 for name, file in model.files.items() if name != "README.md"
    }


def test_a_hub_that_gives_wrong_bytes_is_one_sentence(hub: LoopbackHub, on_hub: Workplace) -> None:
    """What else a hub may do is in tests/places and tests/pipeline."""
    hub.faults.add(Fault("/cdn/*", "corrupt", after=1000))
    output = on_hub.run("-U", "fetch_model", ok=False, **environment(hub, on_hub))
    [error] = {line for line in output.splitlines() if line.startswith("error: ")}
    assert "SHA-256" in error and "not the pinned bytes" in error
    assert "Traceback" not in output
    assert not (on_hub.results / "source").exists() or not any((on_hub.results / "source").iterdir())
    hub.faults.clear()
    on_hub.run("-U", "fetch_model", **environment(hub, on_hub))
