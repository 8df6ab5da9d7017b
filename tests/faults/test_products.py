"""What a step made is cut short, or one bit of it changed, before the next step reads it; the file's time is as it was."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from support.faults import ERROR, SEED, Book, Undisturbed, damage, sentences, smallest_recipe
from support.workplace import QUANT, Workplace, prepare

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
MADE = {
    "generate_model": (*SHARDS, "config.json", "source.json"),
    "fetch_corpus": ("docs.train.txt", "docs.test.txt", "corpus.json"),
    "choose_converter": ("converter.json",),
    "convert_checkpoint": ("Tiny-Qwen3.gguf", "model.json"),
    "calibrate": ("imatrix.gguf", "imatrix.json"),
    "quantize": (QUANT, "Q4_K_M.json"),
    "measure_baseline": ("logits.bin", "BF16.json"),
}
"""The files of each step, in the order of the run."""
REMOVE = re.compile(r"remove (\S+) and run again$")


@pytest.fixture(scope="module")
def stages(undisturbed: Undisturbed, demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workplace]:
    """A folder for each step, in which it is the last one that was run."""
    folder, found = tmp_path_factory.mktemp("stages"), {}
    going = prepare(folder / "going", smallest_recipe())
    for step in MADE:
        going.run("--until", step)
        found[step] = copied(going, folder / step)
    return found


def copied(workplace: Workplace, folder: Path) -> Workplace:
    shutil.copytree(workplace.folder, folder, symlinks=True)
    return replace(workplace, folder=folder)


@pytest.mark.parametrize("how", ["truncated", "changed"])
@pytest.mark.parametrize(("step", "name"), [(step, name) for step, names in MADE.items() for name in names])
def test_a_damaged_product(
    stages: dict[str, Workplace], undisturbed: Undisturbed, book: Book, tmp_path: Path, step: str, name: str, how: str
) -> None:
    workplace, random = copied(stages[step], tmp_path / "work"), Random(f"{SEED} {name} {how}")
    [path] = [path for path in workplace.results.rglob(name) if path.is_file()]
    damage(path, random, how)
    with workplace.start() as process:
        output, _ = process.communicate(timeout=600)
    if stopped := process.returncode != 0:
        found = sentences(output)
        assert len(found) == 1, output
        advised = REMOVE.search(found[0])
        assert advised, found
        named = found[0].removeprefix(ERROR).split()[0] if advised[1] == "it" else advised[1]
        (workplace.folder / named).unlink()
        workplace.run()
    lost = undisturbed.lost(workplace)
    book.note(f"{how}: {name}", stopped=stopped, lost=lost)
    assert not lost
    shutil.rmtree(workplace.folder)
