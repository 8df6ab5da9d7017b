"""requant.places.place: what a place may be, against the loopback Hub with the real clients."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from requant.formats.ranged import LocalFile, read_whole
from requant.formats.safetensors import read_checkpoint, rows_as_float32
from requant.ground.digests import Known
from requant.ground.errors import PlaceError, SourceError
from requant.places.place import named, open_place
from requant.places.remote import Network
from support.files import DEEP_CONFIG as CONFIG
from support.files import DEEP_DATA as DATA
from support.files import DEEP_SHARD as SHARD
from support.files import write_deep
from support.hub import Fault, LoopbackHub, Snapshot
from support.hub.wire import Reply

NAMES = [CONFIG, SHARD]
NOBODY, NOWHERE = "0" * 40, "http://127.0.0.1:9"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_deep(tmp_path / "tiny")


@pytest.fixture
def tiny(clients: LoopbackHub, folder: Path) -> Snapshot:
    return clients.add_model("Qwen/Tiny", folder)


# ---- this machine


def test_a_folder(folder: Path) -> None:
    (folder / "blob").write_bytes(b"x")
    (folder / "link").symlink_to(folder / "blob")
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    with open_place(str(folder)) as place:
        assert place.names == ["blob", CONFIG, "link", SHARD]
        assert (place.file, place.revision, place.is_local, place.expected(SHARD)) == (None, None, True, None)
        shard = place.open(SHARD)
        assert isinstance(shard, LocalFile)
        assert (shard.name, shard.path, shard.read(1, 2)) == (f"tiny/{SHARD}", folder / SHARD, b"\1\2")
        assert place.open(SHARD) is shard
    with pytest.raises(SourceError, match="cannot be read"):
        shard.read(0, 1)


def test_weights_by_owner_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that the subject brings along must not stand in for the repository that was meant."""
    monkeypatch.chdir(tmp_path)
    assert named("Qwen/Qwen3-4B@main") == "hf://Qwen/Qwen3-4B@main"
    (tmp_path / "Qwen" / "Qwen3-4B").mkdir(parents=True)
    with pytest.raises(PlaceError, match=r"write hf://Qwen/Qwen3-4B or \./Qwen/Qwen3-4B"):
        named("Qwen/Qwen3-4B")
    assert named("Qwen/Qwen3-4B-GGUF:Q4_K_M") == "hf://Qwen/Qwen3-4B-GGUF:Q4_K_M"
    (tmp_path / "Qwen" / "matrix.dat").touch()
    here = str(tmp_path / "Qwen" / "Qwen3-4B")
    for plain in ("Qwen/matrix.dat", "Qwen/no.gguf", "./Qwen/Qwen3-4B", "Qwen/Qwen3-4B/", here, "Qwen", "ms://a/b"):
        assert named(plain) == plain


def test_a_file(folder: Path) -> None:
    with open_place(f"{folder}/{SHARD}") as place:
        assert (place.names, place.file, place.is_local) == ([SHARD], SHARD, True)
        assert place.open(SHARD).size == len(DATA)


def test_names_of_a_folder_are_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a\nb").touch()
    with pytest.raises(SourceError, match=r"lists a file named 'a\\nb': names must be relative, printable and plain"):
        open_place(str(folder))
    (folder / "a\nb").unlink()
    monkeypatch.setattr("requant.places.place.MAX_FILES", 1)
    with pytest.raises(SourceError, match="holds more than 1 files: name the folder of one model"):
        open_place(str(folder))


NO_PLACES = {
    "nothing": ("", "'' names no place: write a path, hf://"),
    "unprintable": ("hf://a/b\x1b[2J", r"'hf://a/b\x1b[2J' names no place"),
    "NUL": ("a\0b", "names no place"),
    "an absent file": ("/absent/x.gguf", "/absent/x.gguf does not exist: write a path, hf://"),
    "too long a path": ("a" * 5000, "cannot be read (File name too long)"),
    "a device": ("/dev/null", "null is no regular file"),
    "another scheme": ("s3://key:secret@bucket/x", "s3:// is no known kind of place"),
    "a data set": ("hf://datasets", "hf://datasets names no repository"),
    "one name": ("hf://gpt2", "hf://gpt2 names no repository"),
    "no name": ("hf://", "hf:// names no repository"),
    "a query": ("hf://a/b?token=secret", "hf://a/b names no repository"),
    "names above": ("hf://../..", "names no repository"),
    "a name that starts with a dot": ("ms://a/.b", "names no repository"),
    "a name that ends in a dash": ("hf://a/b-", "names no repository"),
    "dots inside": ("hf://a/b..c", "names no repository"),
    "an empty revision": ("hf://a/b@", "names no repository"),
    "an empty file": ("hf://a/b/", "names no repository"),
    "plain http": ("http://user:secret@example.com/x?secret", "http://example.com/x would come over plain http"),
    "no file": ("https://example.com/", "https://example.com/ names no file"),
    "no host": ("https:///x", "has no usable address"),
    "half a host": ("https://[::1/x", "has no usable address"),
    "a name too long for the Hub": (f"hf://a/{'b' * 97}", "names no repository"),
    "two dashes": ("hf://a/b--c", "names no repository"),
    "a name above": ("https://example.com/a/%2e%2e", "lists a file named '..'"),
    "a slash in a name": ("https://example.com/a%2fb%00", "lists a file named 'b\\x00'"),
}


@pytest.mark.parametrize(("text", "words"), NO_PLACES.values(), ids=list(NO_PLACES))
def test_no_places(text: str, words: str) -> None:
    with pytest.raises(SourceError) as found:
        open_place(text)
    assert words in str(found.value)
    assert "secret" not in str(found.value) and str(found.value).isprintable()


# ---- an address


def test_an_address(hub: LoopbackHub, tiny: Snapshot) -> None:
    network = Network()
    text = f"{hub.url}/Qwen/Tiny/resolve/main/{SHARD}?download=secret"
    with open_place(text, network) as place:
        assert place.shown == text.partition("?")[0]
        assert (place.names, place.file, place.is_local, place.revision) == ([SHARD], SHARD, False, None)
        assert not hub.seen(), "nothing is asked before it is opened"
        file = place.open(SHARD)
        assert (file.name, file.size, file.read(5, 3)) == (place.shown, len(DATA), b"\5\6\7")
    assert network.traffic.fetched == 4
    with (
        open_place(text.replace("main", "other")) as place,
        pytest.raises(SourceError, match=r"does not exist \(404\)"),
    ):
        place.open(SHARD)


def test_an_address_of_a_web_page(hub: LoopbackHub, tiny: Snapshot) -> None:
    hub.faults.add(Fault("*", "lie", headers={"Content-Type": "text/html; charset=utf-8"}))
    with open_place(f"{hub.url}/Qwen/Tiny/resolve/main/{SHARD}") as place, pytest.raises(PlaceError) as found:
        place.open(SHARD)
    assert str(found.value).endswith(
        "/model.safetensors is a web page: name the file itself, as hubs do with /resolve/"
    )


# ---- the Hub


FORMS: dict[str, str | None] = {
    "hf://Qwen/Tiny": None,
    "hf://Qwen/Tiny@main": None,
    "hf://Qwen/Tiny@COMMIT": None,
    f"hf://Qwen/Tiny/{SHARD}": SHARD,
    f"hf://Qwen/Tiny@main/{CONFIG}": CONFIG,
}


@pytest.mark.parametrize(("text", "file"), FORMS.items(), ids=list(FORMS))
def test_the_hub(hub: LoopbackHub, tiny: Snapshot, text: str, file: str | None) -> None:
    config = tiny.files[CONFIG]
    with open_place(text.replace("COMMIT", tiny.commit)) as place:
        assert place.shown == f"Qwen/Tiny@{tiny.commit[:12]} on {hub.url}"
        assert (place.names, place.file, place.revision, place.is_local) == (NAMES, file, tiny.commit, False)
        assert place.expected(SHARD) == Known(len(DATA), sha256=tiny.files[SHARD].sha256)
        assert place.expected(CONFIG) == Known(config.size, git_blob=config.blob_id)
        assert place.open(SHARD).read_many([(300, 2), (0, 2)]) == [b"\x2c\x2d", b"\0\1"]
        assert read_whole(place.open(CONFIG), 100, "a config") == b"{}\n"
        assert place.open(SHARD).name == f"{SHARD} of {place.shown}"


def test_one_snapshot(hub: LoopbackHub, tiny: Snapshot, folder: Path) -> None:
    """A branch that moves meanwhile changes nothing."""
    with open_place("hf://Qwen/Tiny@main") as place:
        (folder / "new").touch()
        moved = hub.add_model("Qwen/Tiny", folder)
        assert moved.commit != tiny.commit
        place.open(SHARD).read(0, 1)
        place.open(CONFIG).read(0, 1)
    assert all(tiny.commit in each.path for each in hub.seen("*resolve*") + hub.seen("/cdn/*"))


def test_a_pull_request(hub: LoopbackHub, tiny: Snapshot, folder: Path) -> None:
    (folder / "new").touch()
    asked = hub.add_model("Qwen/Tiny", folder, branch="refs/pr/1")
    with open_place(f"hf://Qwen/Tiny@refs/pr/1/{SHARD}") as place:
        assert (place.revision, place.file) == (asked.commit, SHARD)


def test_the_token_stays_with_the_hub(
    hub: LoopbackHub, tiny: Snapshot, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add_model("Qwen/Tiny", folder, token="hf_owner").commit
    monkeypatch.setenv("HF_TOKEN", "hf_owner")
    with open_place("hf://Qwen/Tiny") as place:
        place.open(SHARD).read(0, 9)
        place.open(CONFIG).read(0, 2)
        assert "hf_owner" not in place.shown
    assert all(each.authorized for each in hub.seen("*resolve*"))
    assert [each.authorized for each in hub.seen("/cdn/*")] == [False]
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(SourceError, match=r"is private or does not exist: set HF_TOKEN .*, or fix the address"):
        open_place(f"hf://Qwen/Tiny@{commit}")


def test_a_signed_location_runs_out(hub: LoopbackHub, tiny: Snapshot) -> None:
    with open_place("hf://Qwen/Tiny") as place:
        place.open(SHARD).read(0, 1)
        hub.faults.add(Fault("/cdn/*", status=403, times=1))
        assert place.open(SHARD).read(5, 1) == b"\5"
        assert len(hub.seen("*resolve*")) == 2
        hub.faults.add(Fault("/cdn/*", status=403))
        with pytest.raises(SourceError, match=r"may not be read \(403\)"):
            place.open(SHARD).read(5, 1)
        hub.faults.add(Fault("*resolve*", "forbidden"))
        with pytest.raises(SourceError, match="is gated: accept its terms on its page and set HF_TOKEN"):
            place.open(SHARD).read(5, 1)


REFUSALS: dict[str, tuple[str, Fault | None, str]] = {
    "hf no repository": ("hf://Qwen/Absent", None, "is private or does not exist"),
    "hf no revision": ("hf://Qwen/Tiny@absent", None, "does not exist at that commit: correct the address's revision"),
    "hf no commit": (f"hf://Qwen/Tiny@{NOBODY}", None, "does not exist at that commit: correct the address's revision"),
    "hf no file": ("hf://Qwen/Tiny/absent.gguf", None, "holds no 'absent.gguf': correct the name"),
    "hf busy": (
        "hf://Qwen/Tiny",
        Fault("/api/*"),
        "keeps answering 503: wait and run again, or name a mirror in HF_ENDPOINT",
    ),
    "hf broken off": ("hf://Qwen/Tiny", Fault("/api/*", "truncate", after=5), "cannot be reached: name a mirror"),
    "ms no repository": ("ms://Qwen/Absent", None, "lacks the repository or a file: correct the address (404)"),
    "ms no revision": ("ms://Qwen/Tiny@absent", None, "lacks the repository or a file: correct the address (404)"),
    "ms no file": ("ms://Qwen/Tiny/absent.gguf", None, "holds no 'absent.gguf': correct the name"),
    "ms broken off": (
        "ms://Qwen/Tiny",
        Fault("/api/*", "truncate", after=5),
        "cannot be reached: check the network, or name",
    ),
    "ms refused": ("ms://Qwen/Tiny", Fault("/api/*", status=401), "refuses access: set MODELSCOPE_API_TOKEN"),
}


@pytest.mark.parametrize(("text", "fault", "words"), REFUSALS.values(), ids=list(REFUSALS))
def test_a_hub_refuses(hub: LoopbackHub, tiny: Snapshot, text: str, fault: Fault | None, words: str) -> None:
    if fault:
        hub.faults.add(fault)
    with pytest.raises(SourceError) as found:
        open_place(text)
    assert words in str(found.value) and "pin" not in str(found.value)


def listing(*siblings: object, sha: object = NOBODY) -> object:
    return {"id": "Qwen/Tiny", "sha": sha, "siblings": list(siblings)}


def sibling(name: object, **more: object) -> dict[str, object]:
    return {"rfilename": name, "size": 5, "blobId": "a" * 40, **more}


HOSTILE: dict[str, tuple[object, str]] = {
    "a page": (b"<html>Welcome to the hotel</html>", "does not speak the Hub's protocol: correct HF_ENDPOINT"),
    "a list": ([], "does not speak"),
    "a text": ("x", "does not speak"),
    "files no list": ({"id": "Qwen/Tiny", "sha": NOBODY, "siblings": 5}, "does not speak"),
    "a file no object": (listing("x"), "does not speak"),
    "no commit": (listing(sha=None), "does not speak"),
    "a commit no text": (listing(sha=5), "does not speak"),
    "another commit": (listing(sha="b" * 40), f"was given for the commit {NOBODY}"),
    "a commit above": (listing(sha="../" * 13 + "x"), "does not speak"),
    "absolute": (listing(sibling("/etc/passwd")), "lists a file named '/etc/passwd': names must be relative"),
    "above": (listing(sibling("a/../../b")), "lists a file named 'a/../../b'"),
    "a backslash": (listing(sibling("..\\b")), r"lists a file named '..\\b'"),
    "an escape": (listing(sibling("\x1b[2J")), r"lists a file named '\x1b[2J'"),
    "no name": (listing(sibling("")), "lists a file named ''"),
    "a name no text": (listing(sibling(5)), "lists a file"),
    "a name no key": (listing(sibling([])), "does not speak"),
    "a size no number": (listing(sibling("a", size="5")), "lists 'a' with an impossible size"),
    "a negative size": (listing(sibling("a", size=-5)), "lists 'a' with an impossible size"),
    "LFS no object": (listing(sibling("a", lfs=5)), "does not speak"),
    "LFS of no digest": (listing(sibling("a", lfs={"sha256": "b", "size": 5, "pointerSize": 1})), "impossible size or d"),
    "a digest no text": (listing(sibling("a", blobId=5)), "lists 'a' with an impossible size or digest"),
    "LFS of no size": (listing(sibling("a", lfs={"sha256": "b" * 64, "size": None, "pointerSize": 1})), ""),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "words"), HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_listings(
    hub: LoopbackHub, tiny: Snapshot, monkeypatch: pytest.MonkeyPatch, answer: object, words: str
) -> None:
    reply = Reply(200, answer) if isinstance(answer, bytes) else Reply.json(answer)
    monkeypatch.setattr(hub, "answer", lambda request: reply)
    if not words:
        open_place(f"hf://Qwen/Tiny@{NOBODY}").close()
        return
    with pytest.raises(SourceError) as found:
        open_place(f"hf://Qwen/Tiny@{NOBODY}")
    assert words in str(found.value) and str(found.value).isprintable()


def test_a_file_of_another_size(hub: LoopbackHub, tiny: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_place("hf://Qwen/Tiny")
    truth = hub.answer
    monkeypatch.setattr(
        hub,
        "answer",
        lambda request: replace(truth(request), body=DATA + b"x") if "/cdn/" in request.path else truth(request),
    )
    with place, pytest.raises(SourceError, match=rf"^{SHARD} of Qwen/Tiny.* changed on the server"):
        place.open(SHARD).read(0, 5)


def test_the_environment(hub: LoopbackHub, tiny: Snapshot, folder: Path, library: Callable[..., str]) -> None:
    """In a process of its own, where the clients read it when they are imported."""
    hub.add_model("Qwen/Secret", folder, token="hf_owner")
    assert library("requant.places.place.open_place", "hf://Qwen/Tiny") == ""
    assert library("requant.places.place.open_place", "ms://Qwen/Tiny") == ""
    for scheme, token in (("hf", "HF_TOKEN"), ("ms", "MODELSCOPE_API_TOKEN")):
        assert library("requant.places.place.open_place", f"{scheme}://Qwen/Secret", env={token: "hf_owner"}) == ""
        assert "Error: Qwen/Secret@ma" in library("requant.places.place.open_place", f"{scheme}://Qwen/Secret")
    offline = library("requant.places.place.open_place", "hf://Qwen/Tiny", env={"HF_HUB_OFFLINE": "1"})
    assert "is needed, but HF_HUB_OFFLINE is set" in offline
    for scheme, variable in (("hf", "HF_ENDPOINT"), ("ms", "MODELSCOPE_ENDPOINT")):
        said = library("requant.places.place.open_place", f"{scheme}://Qwen/Tiny", env={variable: NOWHERE})
        assert "cannot be reached: " in said and "pin" not in said


# ---- ModelScope


def test_modelscope(hub: LoopbackHub, tiny: Snapshot, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_model("Qwen/Tiny", folder, token="ms_owner")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms_owner")
    with open_place(f"ms://Qwen/Tiny@{tiny.commit}/{SHARD}") as place:
        assert place.shown == f"Qwen/Tiny@{tiny.commit[:12]} on ModelScope"
        assert (place.names, place.file, place.revision) == (NAMES, SHARD, tiny.commit)
        assert place.expected(CONFIG) == Known(3, sha256=tiny.files[CONFIG].sha256)
        assert place.open(SHARD).read(300, 2) == b"\x2c\x2d"
        assert read_whole(place.open(CONFIG), 100, "a config") == b"{}\n", "although ModelScope gives no ranges of it"
        with pytest.raises(SourceError, match="does not serve ranges: download the file and audit it locally"):
            place.open(CONFIG).read(0, 1)
    assert all(each.authorized for each in hub.seen("/api/v1/models/*"))
    assert [each.authorized for each in hub.seen("/cdn/*")] == [False]


MS_HOSTILE: dict[str, tuple[object, str]] = {
    "a page": (b"<html>Welcome to the hotel</html>", "does not speak its protocol: correct MODELSCOPE_ENDPOINT"),
    "a list": ([5], "does not speak its protocol"),
    "a file no object": ({"Data": {"Files": [5]}}, "does not speak its protocol"),
    "above": ({"Data": {"Files": [{"Path": "../x", "Size": 5}]}}, "lists a file named '../x'"),
    "a negative size": ({"Data": {"Files": [{"Path": "x", "Size": -5}]}}, "lists 'x' with an impossible size"),
}


@pytest.mark.parametrize(("answer", "words"), MS_HOSTILE.values(), ids=list(MS_HOSTILE))
def test_hostile_listings_of_modelscope(
    hub: LoopbackHub, tiny: Snapshot, monkeypatch: pytest.MonkeyPatch, answer: object, words: str
) -> None:
    reply = Reply(200, answer) if isinstance(answer, bytes) else Reply.json(answer)
    monkeypatch.setattr(hub, "answer", lambda request: reply)
    with pytest.raises(SourceError) as found:
        open_place("ms://Qwen/Tiny")
    assert words in str(found.value)


# ---- size does not matter


def test_a_sample_of_a_giant(hub: LoopbackHub, tiny: Snapshot, tmp_path: Path) -> None:
    """4,096 rows of 5 KB out of 8 GB: what is fetched is the header and these rows."""
    rows, columns = 1 << 21, 2560
    chosen = np.random.default_rng(0).choice(rows, 4096, replace=False)
    header = json.dumps({"a": {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [0, rows * columns * 2]}})
    giant = tmp_path / "giant" / SHARD
    giant.parent.mkdir()
    with giant.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        data = file.tell()
        file.truncate(data + rows * columns * 2)
        file.seek(data + int(chosen[17]) * columns * 2)
        file.write(np.full(columns, 0x3F80, "<u2").tobytes())
    assert giant.stat().st_size > 8 << 30 and giant.stat().st_blocks * 512 < 1 << 20
    # Nobody reads 8 GB of zeros to learn their digest, so the hub is told one.
    hub.add_model("Qwen/Giant", giant.parent, digests={SHARD: hashlib.sha256(b"made up").hexdigest()})
    network = Network()
    with open_place("hf://Qwen/Giant", network) as place:
        found = rows_as_float32(read_checkpoint(place).tensors["a"], chosen)
    assert found.shape == (4096, columns)
    assert np.array_equal(np.flatnonzero(found.any(1)), [17]) and (found[17] == 1).all()
    # Some rows lie so close that one request brings both, and what is between them.
    assert 4096 * columns * 2 <= network.traffic.fetched <= 1.2 * 4096 * columns * 2
    assert network.traffic.requests <= 4097
