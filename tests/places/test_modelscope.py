"""requant.places.modelscope beyond what downloads and places go through: its record, and an interrupted download that goes on."""

from pathlib import Path

import pytest

from requant.ground.digests import Known
from requant.ground.errors import SourceError
from requant.places.modelscope import ModelScopeRepository
from support.hub import Fault, LoopbackHub, Snapshot

SHARD = "model.safetensors"
MIB = 1 << 20


@pytest.fixture
def tiny(clients: LoopbackHub, tmp_path: Path) -> Snapshot:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text("{}\n")
    (folder / "README.md").write_text("not asked for\n")
    (folder / SHARD).write_bytes(bytes(range(256)) * 8192)
    return clients.add_model("Qwen/Tiny", folder)


def test_the_record(tiny: Snapshot) -> None:
    """ModelScope records a SHA-256 of every file."""
    found = ModelScopeRepository("Qwen/Tiny", tiny.commit).record(["config.json", SHARD, "absent"])
    assert found == {
        name: Known(tiny.files[name].size, sha256=tiny.files[name].sha256) for name in ("config.json", SHARD)
    }


def test_a_download_that_breaks_off_goes_on(hub: LoopbackHub, tiny: Snapshot, tmp_path: Path) -> None:
    part = tmp_path / "download" / SHARD
    hub.faults.add(Fault("/cdn/*", "truncate", times=1, after=MIB))
    ModelScopeRepository("Qwen/Tiny", tiny.commit).fetch(SHARD, part)
    assert part.read_bytes() == bytes(range(256)) * 8192
    assert [each.range for each in hub.seen("/cdn/*", "GET")] == [None, f"bytes={MIB}-"]


def test_no_such_file(tiny: Snapshot, tmp_path: Path) -> None:
    repository = ModelScopeRepository("Qwen/Tiny")
    assert repository.shown == "Qwen/Tiny@master on ModelScope"
    with pytest.raises(SourceError, match=r"on ModelScope lacks the repository or a file: correct the pin \(404\)"):
        repository.fetch("absent", tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
