"""How anybody names a place again that was read: at its revision, without secrets, and of local paths the end only."""

from pathlib import Path

import pytest

from requant.places.place import open_place
from support.files import SHARD
from support.hub import LoopbackHub, Snapshot


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "tiny"
    (found / "none").mkdir(parents=True)
    (found / SHARD).write_bytes(b"x")
    return found


@pytest.fixture
def tiny(clients: LoopbackHub, folder: Path) -> Snapshot:
    return clients.add_model("Qwen/Tiny", folder)


@pytest.mark.parametrize("text", [".", "..", "../tiny", "./", "none/..", "{}", "{}/"])
def test_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """However it was named; reports hold it."""
    monkeypatch.chdir(folder)
    with open_place(text.format(folder)) as place:
        last = folder.parent.name if text == ".." else "tiny"
        assert (place.shown, place.pinned(None)) == (last, f"./{last}")
        assert place.pinned(SHARD) == f"./{last}/{SHARD}"


@pytest.mark.parametrize("text", [SHARD, f"./none/../{SHARD}", "{}/" + SHARD])
def test_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(folder)
    with open_place(text.format(folder)) as place:
        assert place.shown == SHARD and place.pinned(None) == place.pinned(SHARD) == f"./{SHARD}"


@pytest.mark.parametrize("scheme", ["hf", "ms"])
@pytest.mark.parametrize("end", ["", f"/{SHARD}"])
def test_a_hub(tiny: Snapshot, scheme: str, end: str) -> None:
    """A file that was named is one of the repository's files."""
    with open_place(f"{scheme}://Qwen/Tiny@{tiny.commit}{end}") as place:
        here = f"{scheme}://Qwen/Tiny@{tiny.commit}"
        assert (place.pinned(None), place.pinned(SHARD)) == (here, f"{here}/{SHARD}")


@pytest.mark.parametrize(
    ("text", "named"), [("hf://Qwen/Tiny", "hf://Qwen/Tiny@COMMIT"), ("ms://Qwen/Tiny", "ms://Qwen/Tiny@master")]
)
def test_a_branch(tiny: Snapshot, text: str, named: str) -> None:
    """The Hub tells which commit it stands for, ModelScope does not."""
    with open_place(text) as place:
        assert place.pinned(None) == named.replace("COMMIT", tiny.commit)


def test_an_address(clients: LoopbackHub, tiny: Snapshot) -> None:
    address = f"{clients.url}/Qwen/Tiny/raw/{SHARD}"
    with open_place(f"{address}?token=secret") as place:
        assert place.pinned(None) == place.pinned(SHARD) == address
