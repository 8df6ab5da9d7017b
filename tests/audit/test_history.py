"""requant.audit.metadata.history: which revision a changed key comes from, as the real client asks the loopback Hub."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from requant.audit.metadata.history import find_origins
from requant.conversion.metadata import TEXT_LIMIT
from requant.ground.digests import Known
from requant.places.repository import Commit
from support.checkpoints import Model, write_checkpoint
from support.hub import Fault, LoopbackHub, Snapshot
from support.small_checkpoint import CONFIG, GENERATION, SETTINGS, checkpoint, header

REPO = "Org/Small"
TINY = {**CONFIG, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "head_dim": 2}
FIRST = checkpoint(config__json=TINY, tokenizer_config__json=SETTINGS | {"chat_template": "first"})
SECOND = checkpoint(config__json=TINY, tokenizer_config__json=SETTINGS | {"chat_template": "second"})
HOTTER = SECOND | checkpoint(config__json=TINY, tokenizer_config__json=SETTINGS | {"chat_template": "second"}, generation_config__json=GENERATION | {"temperature": 1.5})  # fmt: skip
LAST = HOTTER | checkpoint(config__json=TINY, tokenizer_config__json=SETTINGS | {"chat_template": "last"}, generation_config__json=GENERATION | {"temperature": 0.1})  # fmt: skip
STRANGE = checkpoint(config__json=TINY, tokenizer_config__json=SETTINGS | {"chat_template": "strange"})
TELL = "support.asked_history.tell"
WHAT = "PlaceError: changed: the metadata is changed: {} not what the named weights give"

Ask = Callable[..., str]


@pytest.fixture
def commits(hub: LoopbackHub, tmp_path: Path) -> list[Snapshot]:
    """Five commits, a day each; the third changes nothing that the converter reads."""
    folder = tmp_path / "small"
    folder.mkdir()
    write_checkpoint(folder, Model(TINY))
    made = []
    for day, files in enumerate((FIRST, SECOND, SECOND | {"README.md": b"# Small\n"}, HOTTER, LAST), 1):
        for name, data in files.items():
            (folder / name).write_bytes(data)
        kept = tmp_path / f"day{day}"
        kept.mkdir()
        for path in folder.iterdir():
            (kept / path.name).write_bytes(path.read_bytes())
        made.append(hub.add_model(REPO, kept, date=f"2025-03-{day:02}T10:00:00.000Z"))
    return made


def equals(key: str, commit: Snapshot, day: int) -> str:
    return f"; {key} equals revision {commit.commit[:12]} (2025-03-{day:02})"


TEMPLATE, HEAT = "tokenizer.chat_template", "general.sampling.temp"


def test_a_key_comes_from_an_earlier_or_a_later_revision(commits: list[Snapshot], library: Ask) -> None:
    first, _, third, _, last = commits
    now, one = f"hf://{REPO}", WHAT.format(f"{TEMPLATE} is")
    told = library(TELL, now, FIRST)
    assert told == WHAT.format(f"{HEAT}, {TEMPLATE} are") + equals(HEAT, third, 3) + equals(TEMPLATE, first, 1)
    assert library(TELL, f"{now}@{third.commit}", FIRST) == one + equals(TEMPLATE, first, 1)
    told = library(TELL, f"{now}@{third.commit}", LAST)
    assert (
        told
        == WHAT.format(f"{HEAT}, {TEMPLATE} are")
        + f"; {HEAT}, {TEMPLATE} equal revision {last.commit[:12]} (2025-03-05)"
    )


def test_what_no_revision_gives(hub: LoopbackHub, commits: list[Snapshot], library: Ask) -> None:
    told = library(TELL, f"hf://{REPO}@{commits[0].commit}", STRANGE)
    assert told == WHAT.format(f"{TEMPLATE} is") + "; nor what any of 4 other revisions gives"
    read = [exchange.path for exchange in hub.seen("/*/resolve/*", "GET")]
    assert not any(path.endswith("safetensors") for path in read if commits[0].commit not in path)
    assert not any(commits[2].commit in path for path in read), "its files are those of the commit before"
    assert sum("tokenizer.json" in path for path in read) == 1, "what is the same is read once"


def test_nobody_is_asked_where_nothing_differs_or_the_weights_are_here(
    hub: LoopbackHub, commits: list[Snapshot], library: Ask, tmp_path: Path
) -> None:
    assert library(TELL, f"hf://{REPO}", LAST) == "PlaceError: equal: the metadata is what the named weights give"
    assert library(TELL, str(tmp_path / "day5"), FIRST) == WHAT.format(f"{HEAT}, {TEMPLATE} are")
    assert not hub.seen("*/commits/*")


def test_a_gguf_has_no_history_of_small_files(
    hub: LoopbackHub, library: Ask, tmp_path: Path, small_gguf: bytes
) -> None:
    for number, data in enumerate((b"one", b"two")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.gguf").write_bytes(small_gguf)
        (folder / "note.txt").write_bytes(data)
        hub.add_model(REPO, folder)
    told = library(TELL, f"hf://{REPO}", FIRST)
    assert told.startswith("PlaceError: changed")
    assert "revision" not in told and not hub.seen("*/commits/*")


def test_as_many_as_are_bearable(commits: list[Snapshot], library: Ask) -> None:
    told = library(TELL, f"hf://{REPO}", FIRST, most=1)
    assert told.endswith("; nor what the other revision gives")


@pytest.mark.parametrize("damage", [TEXT_LIMIT + 1, 7], ids=["far too long", "no JSON"])
def test_a_damaged_revision_gives_nothing(
    hub: LoopbackHub, commits: list[Snapshot], library: Ask, tmp_path: Path, damage: int
) -> None:
    """It lies between the named one and the one that gives the key."""
    for day in (6, 7):
        shutil.copytree(tmp_path / "day5", tmp_path / f"day{day}")
    os.truncate(tmp_path / "day6" / "tokenizer.json", damage)
    (tmp_path / "day7" / "README.md").write_text("mended")
    for day in (6, 7):
        hub.add_model(REPO, tmp_path / f"day{day}", date=f"2025-03-{day:02}T10:00:00.000Z")
    assert library(TELL, f"hf://{REPO}", FIRST).endswith(equals(TEMPLATE, commits[0], 1))


class LongHistory:
    """A place with more commits than anybody wants to look at; none of them changes a file."""

    names, revision = ("config.json",), "50"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def history(self) -> list[Commit]:
        return [Commit(str(number), "2025-03-01") for number in range(100)]

    @contextmanager
    def at(self, commit: str) -> Iterator["LongHistory"]:
        self.asked.append(int(commit))
        yield self

    def expected(self, name: str) -> Known:
        return Known(len(name), "0" * 64)


def test_32_revisions_are_looked_at_the_nearest_first() -> None:
    place = LongHistory()
    weights: Any = SimpleNamespace(place=place, texts={"config.json": b"{}"})
    found = find_origins([TEMPLATE], header({}), weights)
    assert (found.found, found.looked, found.trouble) == ({}, 32, None)
    assert place.asked == [50 + sign * far for far in range(1, 17) for sign in (-1, 1)]


def test_a_hub_that_does_not_tell(hub: LoopbackHub, commits: list[Snapshot], library: Ask) -> None:
    """The answer stands without it."""
    hub.faults.add(Fault("*/commits/*", kind="missing"))
    told = library(TELL, f"hf://{REPO}", FIRST)
    assert told.startswith(
        WHAT.format(f"{HEAT}, {TEMPLATE} are") + "; other revisions could not be looked at (Org/Small@"
    )
