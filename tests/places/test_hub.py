"""requant.places.hub beyond what downloads and places go through: what is tried again, what is explained, what is not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from requant.ground.digests import Known
from requant.ground.errors import SourceError
from requant.places.hub import HubRepository, retried
from support.hub import Fault, LoopbackHub, Snapshot

SHARD = "model.safetensors"
DATA = bytes(range(256)) * 64


@pytest.fixture
def tiny(clients: LoopbackHub, tmp_path: Path) -> Snapshot:
    folder = tmp_path / "tiny"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "config.json").write_text("{}\n")
    (folder / SHARD).write_bytes(DATA)
    return clients.add_model("Qwen/Tiny", folder)


@pytest.fixture
def repository(tiny: Snapshot) -> HubRepository:
    return HubRepository("Qwen/Tiny", tiny.commit)


def test_the_record(repository: HubRepository, tiny: Snapshot) -> None:
    """LFS files by SHA-256, small ones by git blob id; a folder is no file, and what is not there is left out."""
    config = tiny.files["deep/config.json"]
    assert repository.record([SHARD, "deep/config.json", "deep", "absent"]) == {
        SHARD: Known(len(DATA), sha256=tiny.files[SHARD].sha256),
        "deep/config.json": Known(config.size, git_blob=config.blob_id),
    }


PARTS: dict[str, tuple[bytes | None, list[str | None]]] = {
    "nothing": (None, [None]),
    "an empty file": (b"", [None]),
    "a beginning": (DATA[:1000], ["bytes=1000-"]),
    "everything": (DATA, []),
    "too much": (DATA + b"x", [None]),
}


@pytest.mark.parametrize(("part", "ranges"), PARTS.values(), ids=list(PARTS))
def test_going_on_from(
    repository: HubRepository, hub: LoopbackHub, tmp_path: Path, part: bytes | None, ranges: list[str | None]
) -> None:
    path = tmp_path / "download" / SHARD
    if part is not None:
        path.parent.mkdir()
        path.write_bytes(part)
    repository.fetch(SHARD, path)
    assert path.read_bytes() == DATA
    assert [each.range for each in hub.seen("/cdn/*", "GET")] == ranges


def test_a_server_that_ignores_ranges(
    repository: HubRepository, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some mirrors answer 200 with everything: the beginning must not stand there twice."""
    truth = hub.answer
    monkeypatch.setattr(hub, "answer", lambda request: replace(truth(request), ranges=False))
    path = tmp_path / SHARD
    path.write_bytes(DATA[:1000])
    repository.fetch(SHARD, path)
    assert [(each.range, each.status) for each in hub.seen("/cdn/*", "GET")] == [("bytes=1000-", 200)]
    assert path.read_bytes() == DATA


def test_what_was_fetched_stays_for_the_next_try(repository: HubRepository, hub: LoopbackHub, tmp_path: Path) -> None:
    path = tmp_path / SHARD
    path.write_bytes(DATA[:1000])
    hub.faults.add(Fault("/cdn/*", status=403))
    with pytest.raises(SourceError, match=r"refuses access: set HF_TOKEN to a token that may read it \(403\)"):
        repository.fetch(SHARD, path)
    assert path.read_bytes() == DATA[:1000]


def test_offline(repository: HubRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE is set"):
        repository.fetch(SHARD, tmp_path / SHARD)
    assert not (tmp_path / SHARD).exists()


def failing(error: Exception, times: int) -> tuple[Callable[[], str], list[int]]:
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "done"

    return call, calls


BROKEN = OSError("Consistency check failed: file should be of size 2 but has size 1")


def test_what_passes_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    call, calls = failing(BROKEN, 2)
    assert retried(call) == "done"
    assert len(calls) == 3
    call, calls = failing(BROKEN, 9)
    with pytest.raises(OSError, match="Consistency check"):
        retried(call)
    assert len(calls) == 5
    assert waits == sorted(waits[:2]) + sorted(waits[2:]), "every wait is longer than the last"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a bug")], ids=repr)
def test_what_does_not_pass_is_not(error: Exception) -> None:
    call, calls = failing(error, 9)
    with pytest.raises(type(error)):
        retried(call)
    assert len(calls) == 1
    with pytest.raises(type(error)), HubRepository("x/y", "main").explaining():
        raise error


EXPLAINED: dict[str, tuple[Exception, str]] = {
    "too early": (BROKEN, "closed the connection too early, again and again: run again to go on"),
    "offline": (OfflineModeIsEnabled("offline"), "is needed, but HF_HUB_OFFLINE is set: unset it, or fetch"),
}


@pytest.mark.parametrize(("error", "words"), EXPLAINED.values(), ids=list(EXPLAINED))
def test_explained(error: Exception, words: str) -> None:
    repository = HubRepository("x/y", "main")
    with pytest.raises(SourceError) as found, repository.explaining():
        raise error
    assert str(found.value).startswith(f"{repository.shown} {words}")
    assert found.value.__cause__ is error
