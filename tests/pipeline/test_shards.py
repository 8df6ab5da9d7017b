"""requant.pipeline.shards and merge_shards: who reads which chunks, and shards that do not belong together."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from requant.documents.records import Product, file_entry, read_record, step, write_record
from requant.ground.digests import digest_bytes, digest_file
from requant.ground.errors import StaleError
from requant.ground.programs import Run
from requant.pipeline.merge_shards import merge_shards
from requant.pipeline.settings import Calibration
from requant.pipeline.shards import batches, split

SETTINGS = Calibration("native", 10, 512, 512, 512, False, shards=2)


def test_nothing_is_split_where_no_shards_are_asked_for() -> None:
    assert split(Calibration("portable", 10, 512, 512, 512, False)) == {}


def test_every_chunk_is_read_once_and_no_batch_is_cut() -> None:
    """Law: the shards are the text's chunks in their order, cut between batches, and none is longer by two batches."""
    draw = random.Random(18)
    for _ in range(500):
        context = draw.choice((64, 512))
        together = draw.randint(1, 8)
        settings = Calibration("portable", draw.randint(1, 200), context, together * context, context, False)
        most = batches(settings)
        settings = Calibration(**{**vars(settings), "shards": draw.choice((1, most, draw.randint(1, most)))})
        shards = [*split(settings).values()]
        read = [chunk for shard in shards for chunk in range(shard.first, shard.first + shard.chunks)]
        assert read == [*range(settings.chunks)]
        assert len(shards) == settings.shards and min(shard.chunks for shard in shards) >= 1
        assert not any(shard.first % together for shard in shards)
        sizes = [-(-shard.chunks // together) for shard in shards]
        assert all(0 <= one - next_one <= 1 for one, next_one in pairwise(sizes)) and sizes[0] - sizes[-1] <= 1
        assert [*split(settings)] == [shard.name for shard in shards]


@pytest.fixture
def shards(tmp_path: Path) -> list[Product]:
    """Two shards as their jobs leave them, of a processor with AVX2."""
    made = []
    materials = {name: digest_bytes(name.encode()) for name in ("model.gguf", "text.txt")}
    for name in split(SETTINGS):
        product = Product(tmp_path / f"{name}.gguf", tmp_path / f"{name}.json")
        product.file.write_bytes(name.encode())
        digest = digest_file(product.file)
        write_record(
            product.record,
            {
                "file": file_entry(product.file.name, digest),
                "settings": SETTINGS.as_recipe(),
                "features": ["AVX2"],
                "step": step(f"calibrate {name}", ["llama-imatrix"], materials, {product.file.name: digest}),
            },
        )
        made.append(product)
    return made


def change(shard: Product, **entries: Any) -> None:
    write_record(shard.record, {**read_record(shard.record), **entries})


def copied(shards: list[Product]) -> None:
    shards[1].file.write_bytes(shards[0].file.read_bytes())
    shards[1].record.write_bytes(shards[0].record.read_bytes())


APART: dict[str, tuple[Callable[[list[Product]], object], str]] = {
    "other bytes": (lambda shards: shards[1].file.write_bytes(b"other"), "is not the file that its record describes"),
    "other chunks": (
        lambda shards: change(shards[1], settings={**SETTINGS.as_recipe(), "chunks": 11}), "is another shard than the recipe asks for"),
    "the first one twice": (copied, "is another shard than the recipe asks for"),
    "another model": (
        lambda shards: change(shards[1], step=step("calibrate", [], {}, {})), "was computed from another model or text than"),
    "another kind of processor": (
        lambda shards: change(shards[1], features=["AVX512"]), "was computed by another kind of processor than"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), APART.values(), ids=list(APART))
def test_what_does_not_belong_together_is_not_added_up(
    shards: list[Product], tmp_path: Path, spoil: Callable[[list[Product]], object], words: str
) -> None:
    spoil(shards)
    out = Product(tmp_path / "out" / "imatrix.gguf", tmp_path / "out" / "imatrix.json")
    with pytest.raises(StaleError) as error:
        merge_shards(shards, "text.txt", tmp_path / "no-tool.json", SETTINGS, out, Run(1, tmp_path / "log"))
    assert f"{shards[1].file} {words}" in str(error.value)
    assert f"remove {shards[1].record} and run again" in str(error.value)
    assert not out.file.parent.exists()


def test_portable_shards_of_other_processors_belong_together(shards: list[Product], tmp_path: Path) -> None:
    portable = replace(SETTINGS, variant="portable")
    for shard, feature in zip(shards, ("AVX2", "NEON"), strict=True):
        change(shard, settings=portable.as_recipe(), features=[feature])
    out = Product(tmp_path / "out" / "imatrix.gguf", tmp_path / "out.json")
    with pytest.raises(FileNotFoundError, match=r"no-tool\.json"):
        merge_shards(shards, "text.txt", tmp_path / "no-tool.json", portable, out, Run(1, tmp_path / "log"))


def test_what_is_done_with_unseen_experts_makes_no_shard_anew(shards: list[Product], tmp_path: Path) -> None:
    """They belong together as before: what stops this is the tool, which is missing."""
    out, refusing = (
        Product(tmp_path / "out" / "imatrix.gguf", tmp_path / "out.json"),
        replace(SETTINGS, unseen="refuse"),
    )
    with pytest.raises(FileNotFoundError, match=r"no-tool\.json"):
        merge_shards(shards, "text.txt", tmp_path / "no-tool.json", refusing, out, Run(1, tmp_path / "log"))
