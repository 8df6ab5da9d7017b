"""Calibration in shards: the same bytes whatever came first, and what a killed shard costs."""

from __future__ import annotations

import json
import subprocess
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from requant.formats.imatrix import read_imatrix
from requant.ground.digests import digest_file
from requant.release.verify import verify_release
from support.checkout import TOOLCHAINS
from support.workplace import TINY, TOOLCHAIN, Workplace, moved, tiny_recipe

SHARDS = [f"shard-{number}-of-3" for number in (1, 2, 3)]
SMALL = {"chunks": 5, "context": 64, "batch": 64, "ubatch": 64, "shards": 3}
MATRIX = "results/Tiny-Qwen3/calibration/imatrix.gguf"
PROGRAM = TOOLCHAINS / TOOLCHAIN / "strict" / "bin" / "llama-imatrix"


@pytest.fixture(scope="module")
def sharded(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A folder with the demo's model and texts, in which a run was killed with one shard made, and went on."""
    workplace = moved(demo, tmp_path_factory.mktemp("sharded") / "work", "generated", "bf16", "corpus")
    recipe = tiny_recipe(model=TINY["model"])
    workplace.write({**recipe, "calibration": {**recipe["calibration"], **SMALL}})
    place = workplace.results / "calibration" / "shards"
    workplace.kill_when(lambda: any(place.glob("*.json")) and any(place.glob("work-*/model.gguf")), MATRIX)
    kept = {path: path.stat().st_mtime_ns for path in place.glob("*.json")}
    assert 1 <= len(kept) < 3
    workplace.run(MATRIX)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}, "what was made before the kill"
    return workplace


def files(workplace: Workplace) -> list[Path]:
    return [workplace.results / "calibration" / "shards" / f"{name}.gguf" for name in SHARDS]


def test_the_matrix_is_the_sum_of_the_shards_in_their_order(sharded: Workplace) -> None:
    parts, found = [read_imatrix(path) for path in files(sharded)], read_imatrix(sharded.folder / MATRIX)
    assert [part.chunk_count for part in parts] == [2, 2, 1]
    assert (found.chunk_count, found.chunk_size, found.datasets) == (5, 64, ["docs.train.txt"] * 3)
    for name, entry in found.entries.items():
        sums = reduce(np.add, [part.entries[name].in_sum2 for part in parts])
        assert sums.dtype == np.float32 and np.array_equal(entry.in_sum2, sums), name
        assert entry.counts.tolist() == [5 * 64]


def test_no_chunk_is_read_twice_and_none_is_left_out(sharded: Workplace, tmp_path: Path) -> None:
    """Without shards the same chunks give the same sums, up to the last bits of float32."""
    command = json.loads(files(sharded)[0].with_suffix(".json").read_text())["step"]["command"]
    at = command.index("--chunk")
    whole = [*command[:at], "--chunks", "5", *command[at + 4 :]]
    backend = TOOLCHAINS / TOOLCHAIN / "portable"
    for source, name in (
        (sharded.results / "bf16" / "converted" / "Tiny-Qwen3.gguf", "model.gguf"),
        (sharded.results / "corpus" / "docs.train.txt", "docs.train.txt"),
        *((path, path.name) for path in backend.glob("*.so")),
    ):
        (tmp_path / name).symlink_to(source)
    arguments = ["2" if part == "{threads}" else part for part in whole[1:]]
    subprocess.run([PROGRAM, *arguments], cwd=tmp_path, check=True, capture_output=True)
    one, sums = read_imatrix(tmp_path / "shard-1-of-3.gguf"), read_imatrix(sharded.folder / MATRIX)
    for name, entry in one.entries.items():
        np.testing.assert_allclose(sums.entries[name].in_sum2, entry.in_sum2, rtol=1e-5)


def test_a_shard_made_last_gives_the_same_bytes(sharded: Workplace) -> None:
    place, digest = sharded.results / "calibration", digest_file(sharded.folder / MATRIX)
    first = files(sharded)[0]
    for lost in (first, first.with_suffix(".json"), place / "imatrix.gguf", place / "imatrix.json"):
        lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in files(sharded)[1:]}
    sharded.run(MATRIX, cores=2)
    assert digest_file(place / "imatrix.gguf") == digest
    assert kept == {path: path.stat().st_mtime_ns for path in kept}, "one shard was made again"


@pytest.mark.long
def test_the_papers_name_the_shards(sharded: Workplace) -> None:
    sharded.run()
    manifest = json.loads((sharded.release / "manifest.json").read_text())
    assert manifest["recipe"]["document"]["calibration"]["shards"] == 3
    made = [digest_file(path) for path in files(sharded)]
    named = [(each["name"], each["size"], each["sha256"]) for each in manifest["imatrix"]["shards"]]
    assert named == [(f"{name}.gguf", digest.size, digest.sha256) for name, digest in zip(SHARDS, made, strict=True)]
    steps = [step["name"] for step in manifest["steps"]]
    assert steps == ["convert", *(f"calibrate {name}" for name in SHARDS), "merge shards", "quantize Q4_K_M"]
    assert verify_release(sharded.release).verdict == "agrees"
    card = (sharded.release / "README.md").read_text()
    ranges = [" ".join(step["command"][step["command"].index("--chunk") :][:4]) for step in manifest["steps"][1:4]]
    assert ranges == ["--chunk 0 --chunks 2", "--chunk 2 --chunks 2", "--chunk 4 --chunks 1"]
    assert all(card.count(f"{each} ") == 2 for each in ranges), "in Chinese and in English"
    assert card.count("--in-file shard-1-of-3.gguf --in-file shard-2-of-3.gguf --in-file shard-3-of-3.gguf") == 2
