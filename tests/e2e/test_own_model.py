"""From a folder with a checkpoint of one's own to a release, by the commands of config/README.md, keeping nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from support.checkout import ROOT
from support.workplace import Workplace, tiny_recipe

BLOCK = re.compile(r"^### Weights of your own$.*?^```sh$\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BIN = str(Path(sys.executable).parent)


def commands() -> list[str]:
    found = BLOCK.search((ROOT / "config" / "README.md").read_text())
    assert found, "the section has a block of commands"
    return found[1].splitlines()


def smaller(recipe: Path) -> None:
    """What needs a network, or an hour, in the size of the tests; and no large file stays beside the release."""
    document = yaml.safe_load(recipe.read_text())
    small = tiny_recipe()
    del document["evaluation"]
    recipe.write_text(yaml.safe_dump(document | {key: small[key] for key in ("corpus", "calibration")} | {"keep": []}))


def write_other_card(recipe: Path) -> None:
    document = yaml.safe_load(recipe.read_text())
    document["card"]["summary"]["en"] = "Another text."
    document["source"] = "my-model"
    recipe.write_text(yaml.safe_dump(document))


def say(line: str, folder: Path) -> str:
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_from_a_folder_to_a_release(demo: Workplace, workplace: Workplace) -> None:
    folder = workplace.folder / "my-model"
    shutil.copytree(demo.results / "generated", folder)
    (folder / "source.json").unlink()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    (workplace.folder / "config").mkdir()
    shutil.copyfile(ROOT / "config" / "pins.yaml", workplace.folder / "config" / "pins.yaml")
    pin, recipe, run = (line.replace(".venv/bin", BIN) for line in commands())
    run = run.replace("snakemake ", f"snakemake --snakefile {ROOT / 'Snakefile'} ").replace("--cores 8", "--cores 2")
    say(pin, workplace.folder)
    say(recipe, workplace.folder)
    smaller(workplace.folder / "my-model.yaml")
    say(run, workplace.folder)
    release = workplace.folder / "results" / "my-model" / "release"
    manifest = json.loads((release / "manifest.json").read_text())
    weights = manifest["inputs"]["model"]
    assert (weights["repo"], weights["revision"], weights["licence"]) == (None, None, "MIT")
    card = (release / "README.md").read_text()
    assert "`my-model`, not public" in card
    assert "`my-model`，未公开" in card
    assert "base_model" not in card.split("---")[1]
    requant = Path(BIN) / "requant"
    say(f"{requant} verify results/my-model/release", workplace.folder)
    say(f"{requant} audit results/my-model/release --source ./my-model --full", workplace.folder)
    results = release.parent
    large = [path for kind in ("*.safetensors", "*.gguf") for path in results.rglob(kind) if path.parent != release]
    assert large == [results / "calibration" / "imatrix.gguf"]
    assert "Nothing to be done" in say(f"{run} --dry-run", workplace.folder)
    write_other_card(workplace.folder / "my-model.yaml")
    # With the folder in the recipe, no command names it.
    plain = run.replace(" --config source=my-model", "")
    assert plain != run
    plan = say(f"{plain} --dry-run", workplace.folder)
    assert "write_card" in plan
    assert not re.search("fetch_model|convert_checkpoint|calibrate|quantize", plan)
