"""requant.places.remote against the loopback Hub: the bytes that were asked for, or one sentence, whatever the server does."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from requant.formats.ranged import Ranged
from requant.ground.errors import FormatError, SourceError
from requant.places import remote, retry, spans
from requant.places.addresses import Address
from requant.places.byteranges import MOST_HEAD
from requant.places.remote import Connections, Network, RemoteFile
from support.hub import Fault, LoopbackHub, Snapshot
from support.hub.wire import Reply, Request

SHARD = "model.safetensors"
DATA = random.Random(0).randbytes(1 << 18)
MIB = 1 << 20


@pytest.fixture
def tiny(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / SHARD).write_bytes(DATA)
    (tmp_path / "tiny" / "empty.bin").touch()
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return hub.add_model("Qwen/Tiny", tmp_path / "tiny")


@pytest.fixture
def connections() -> Iterator[Connections]:
    made = Connections()
    yield made
    made.close()
    made.close()


@pytest.fixture
def url(hub: LoopbackHub, tiny: Snapshot) -> str:
    return f"{hub.cdn_url}/cdn/models/Qwen/Tiny/{tiny.commit}/{SHARD}"


@pytest.fixture
def file(url: str, connections: Connections) -> RemoteFile:
    return RemoteFile("x.bin", lambda: Address(url), connections, len(DATA))


def test_it_is_ranged(file: RemoteFile) -> None:
    ranged: Ranged = file
    assert (ranged.name, ranged.size) == ("x.bin", len(DATA))


def test_the_server_tells_the_size(url: str, connections: Connections) -> None:
    assert RemoteFile("x.bin", lambda: Address(url), connections).size == len(DATA)
    assert connections.traffic.fetched == 1
    empty = RemoteFile("empty", lambda: Address(url.replace(SHARD, "empty.bin")), connections)
    assert empty.size == 0
    assert empty.read(0, 0) == b""


def test_close_ranges_come_together(
    file: RemoteFile, hub: LoopbackHub, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "GAP", 4096)
    asked = [(9000, 100), (0, 10), (10, 20), (4126, 4), (9050, 100), (100_000, 5), (7, 0)]
    assert file.read_many(asked) == [DATA[offset : offset + length] for offset, length in asked]
    assert [each.range for each in hub.seen()] == ["bytes=0-4129,9000-9149,100000-100004"]
    assert 0 < connections.traffic.fetched - (4130 + 150 + 5) < 4 * MOST_HEAD and connections.traffic.requests == 1


def test_large_ranges_come_in_pieces(file: RemoteFile, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "MAX_REQUEST", 1 << 16)
    assert file.read(5, 200_000) == DATA[5:200_005]
    assert len(hub.seen()) == 4


def test_many_scattered_ranges(
    url: str, hub: LoopbackHub, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, as from a server that does not give several at a time."""
    monkeypatch.setattr(spans, "GAP", 4096)
    monkeypatch.setattr(remote, "MAX_SPANS", 1)
    file = RemoteFile("x.bin", lambda: Address(url), connections, len(DATA))
    asked = [(at, 16) for at in range(0, len(DATA), 8192)]
    random.Random(1).shuffle(asked)
    assert file.read_many(asked) == [DATA[offset : offset + length] for offset, length in asked]
    assert connections.traffic.requests == len(hub.seen()) == len(asked)
    assert connections.traffic.fetched == 16 * len(asked)
    # The hub notes what it has sent only after the last byte has gone.
    deadline = time.monotonic() + 10
    while sum(each.sent for each in hub.seen()) < 16 * len(asked) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sum(each.sent for each in hub.seen()) == 16 * len(asked)


def test_nothing_outside_is_asked_for(file: RemoteFile, hub: LoopbackHub) -> None:
    for asked in [(len(DATA), 1), (-1, 1), (0, 1 << 62), (5, -5)]:
        with pytest.raises(FormatError, match="truncated or damaged"):
            file.read_many([(0, 1), asked])
    assert not hub.seen()


def lie(**headers: str) -> Fault:
    return Fault("/cdn/*", "lie", headers={name.replace("_", "-"): value for name, value in headers.items()})


def led(location: str) -> Fault:
    return Fault("/cdn/*", status=302, headers={"Location": location})


FAULTS: dict[str, tuple[Fault, str]] = {
    "ignores ranges": (
        Fault("/cdn/*", "unranged"),
        "lies on a server that does not serve ranges: download the file and audit it locally",
    ),
    "another range": (lie(Content_Range="bytes 0-99/262144"), "comes with other bytes than were asked for"),
    "no range": (lie(Content_Range=""), "comes with other bytes than were asked for"),
    "a huge size": (lie(Content_Range=f"bytes 100-199/{'9' * 5000}"), "comes with other bytes than were asked for"),
    "another size": (lie(Content_Range="bytes 100-199/262145"), "changed on the server: start again"),
    "another ETag": (lie(ETag='"other"'), "changed on the server: start again"),
    "another weak ETag": (lie(ETag='W/"other"'), "changed on the server: start again"),
    "compressed": (lie(Content_Encoding="gzip"), "comes compressed ('gzip'), unasked"),
    "endless": (Fault("/cdn/*", "endless"), "comes with more bytes than were asked for"),
    "too long": (lie(Content_Length="101"), "comes with other bytes than were asked for"),
    "too short": (lie(Content_Length="99"), "comes with other bytes than were asked for"),
    "no number": (lie(Content_Length="x"), "breaks off or does not speak HTTP"),
    "broken off": (Fault("/cdn/*", "truncate", after=50), "breaks off or does not speak HTTP"),
    "a loop": (led(""), "is redirected more than 5 times"),
    "to plain http": (
        led("http://example.com/x"),
        "would come over plain http, where anybody can change it: use https",
    ),
    "to another protocol": (led("ftp://127.0.0.1/x"), "has no usable address"),
    "to a file": (led("file:///etc/passwd"), "has no usable address"),
    "to nowhere": (led("http://[::1"), "is redirected to no usable address"),
    "to no port": (led("http://127.0.0.1:99999/"), "has no usable address"),
    "to nobody": (led("http://127.0.0.1:9/"), "cannot be reached: check its address and the network"),
    "refused": (Fault("/cdn/*", status=403), "may not be read (403): name a token, or another source"),
    "missing": (Fault("/cdn/*", status=404), "does not exist (404): correct its address"),
    "a range too many": (Fault("/cdn/*", status=416), "changed on the server"),
    "busy": (Fault("/cdn/*", status=503), "answers 503, again and again: try later"),
    "a teapot": (Fault("/cdn/*", status=418), "the server answers 418"),
    "silent": (Fault("/cdn/*", "slow", rate=0.01), "does not answer in time"),
    "slow": (Fault("/cdn/*", "slow", rate=10), "comes too slowly to be read"),
}


@pytest.mark.parametrize(("fault", "words"), FAULTS.values(), ids=list(FAULTS))
def test_faults(
    file: RemoteFile,
    hub: LoopbackHub,
    connections: Connections,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    words: str,
) -> None:
    monkeypatch.setattr(remote, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(retry, "TRIES", 2)
    assert file.read(0, 1) == DATA[:1]
    hub.faults.add(fault)
    with pytest.raises(SourceError) as found:
        file.read(100, 100)
    assert str(found.value).startswith("x.bin ") and words in str(found.value)
    assert "\n" not in str(found.value) and "127.0.0.1" not in str(found.value)
    assert connections.traffic.fetched < MIB, "an endless body is not read to the end"


HONEST: dict[str, dict[str, str]] = {
    "a size that is known already": {"Content-Range": "bytes 100-199/*"},
    "a unit in another case": {"Content-Range": f"Bytes 100-199/{len(DATA)}"},
    "not compressed, in another case": {"Content-Encoding": "Identity"},
    "a weak ETag": {"ETag": 'W/"x"'},
}


@pytest.mark.parametrize("headers", HONEST.values(), ids=list(HONEST))
def test_what_servers_may_say_too(file: RemoteFile, hub: LoopbackHub, headers: dict[str, str]) -> None:
    hub.faults.add(Fault("/cdn/*", "lie", headers={"ETag": '"x"'}, times=1))
    assert file.read(0, 1) == DATA[:1]
    hub.faults.add(Fault("/cdn/*", "lie", headers={"ETag": '"x"'} | headers, times=1))
    assert file.read(100, 100) == DATA[100:200]


def test_a_size_that_nobody_tells(url: str, hub: LoopbackHub, connections: Connections) -> None:
    hub.faults.add(lie(Content_Range="bytes 0-0/*"))
    with pytest.raises(SourceError, match=r"^x\.bin comes without its size: download the file and audit it locally$"):
        RemoteFile("x.bin", lambda: Address(url), connections)


def test_less_than_asked_without_a_length(file: RemoteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(206, headers={"Content-Range": f"bytes 0-9/{len(DATA)}"}, content=iter([DATA[:4]]))

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    monkeypatch.setattr(Connections, "client", client)
    with client, pytest.raises(SourceError, match="sends less than was asked for, again and again"):
        file.read(0, 10)


PASSING = {
    "busy": Fault("/cdn/*", status=503, times=4),
    "too many": Fault("/cdn/*", status=429, times=1),
    "broken off": Fault("/cdn/*", "truncate", after=50, times=2),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=list(PASSING))
def test_what_passes_is_tried_again(file: RemoteFile, hub: LoopbackHub, fault: Fault) -> None:
    hub.faults.add(fault)
    assert file.read(100, 100) == DATA[100:200]
    assert len(hub.seen()) == (fault.times or 0) + 1


def test_a_whole_small_file_may_come_without_a_range(file: RemoteFile, hub: LoopbackHub) -> None:
    """As ModelScope sends what is not in LFS."""
    hub.faults.add(Fault("/cdn/*", "unranged"))
    assert file.read(0, len(DATA)) == DATA


def test_an_address_that_runs_out_is_asked_for_again(url: str, hub: LoopbackHub, connections: Connections) -> None:
    addresses = [f"{url}?signature={number}" for number in range(3)]
    file = RemoteFile("x.bin", lambda: Address(addresses.pop(0)), connections, len(DATA))
    assert file.read(0, 9) == DATA[:9]
    hub.faults.add(Fault("*signature=0", status=403))
    asked = [(at, 16) for at in range(0, len(DATA), 8192)]
    assert file.read_many(asked) == [DATA[offset : offset + length] for offset, length in asked]
    assert len(addresses) == 1, "once for all threads"
    hub.faults.add(Fault("*signature=1", status=403))
    hub.faults.add(Fault("*signature=2", status=401))
    with pytest.raises(SourceError, match=r"^x\.bin may not be read \(401\)"):
        file.read(0, 9)


def test_a_redirect_is_followed_once(hub: LoopbackHub, tiny: Snapshot, connections: Connections) -> None:
    """And the token does not go along."""
    address = Address(f"{hub.url}/Qwen/Tiny/resolve/main/{SHARD}", {"Authorization": "Bearer hf_owner"})
    file = RemoteFile("x.bin", lambda: address, connections, len(DATA))
    assert file.read(0, 9) + file.read(9, 9) == DATA[:18]
    assert [(each.path[:5], each.authorized) for each in hub.seen()] == [
        ("/Qwen", True),
        ("/cdn/", False),
        ("/cdn/", False),
    ]
    assert "hf_owner" not in repr(address)


@pytest.mark.parametrize("jobs", [1, 3])
def test_no_more_connections_at_a_time_than_jobs(
    url: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    network, truth, lock, waiting = Network(jobs=jobs), hub.answer, threading.Lock(), threading.Event()
    now, most = 0, 0

    def answer(request: Request) -> Reply:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        waiting.wait(0.02)
        with lock:
            now -= 1
        return truth(request)

    monkeypatch.setattr(hub, "answer", answer)
    monkeypatch.setattr(spans, "GAP", 0)
    monkeypatch.setattr(remote, "MAX_SPANS", 1)
    connections = Connections(network)
    file = RemoteFile("x.bin", lambda: Address(url), connections, len(DATA))
    file.read_many([(at, 16) for at in range(0, 12 * 64, 64)])
    connections.close()
    assert most <= jobs and network.traffic.requests == 12


def test_connections_are_kept(file: RemoteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    connect = httpx2.HTTPTransport.handle_request
    monkeypatch.setattr(
        httpx2.HTTPTransport,
        "handle_request",
        lambda self, request: (made.append(self._pool.connections), connect(self, request))[1],
    )
    for at in range(5):
        file.read(at, 1)
    assert [len(each) for each in made] == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_an_impossible_proxy(
    url: str, connections: Connections, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "nonsense://x")
    with pytest.raises(SourceError, match="proxy or certificates are unusable"):
        RemoteFile("x.bin", lambda: Address(url), connections)


def test_the_call_that_fails_ends_the_others(file: RemoteFile, hub: LoopbackHub) -> None:
    hub.faults.add(Fault("/cdn/*", status=404))
    with pytest.raises(SourceError, match="does not exist"):
        file.read_many([(at, 1) for at in range(0, len(DATA), 8192)])
