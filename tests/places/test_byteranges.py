"""Several ranges in one answer: every byte that was asked for, whatever a server makes of such a question."""

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import get_args

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.ground.errors import SourceError
from requant.places import remote, retry, spans
from requant.places.addresses import Address
from requant.places.byteranges import MOST_HEAD, boundary, parts
from requant.places.place import open_place
from requant.places.remote import Connections, Network, RemoteFile
from requant.places.spans import MAX_SPANS
from support.hub import Fault, LoopbackHub, Snapshot
from support.hub.server import Several
from support.hub.wire import BOUNDARY, Reply, in_parts

SHARD = "model.safetensors"
DATA = random.Random(1).randbytes(1 << 20)
ASKED = [(at, 16) for at in range(0, len(DATA), 4096)]
WANTED = [DATA[offset : offset + length] for offset, length in ASKED]
PACKS = len(ASKED) // MAX_SPANS


@pytest.fixture
def tiny(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / SHARD).write_bytes(DATA)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(spans, "GAP", 0)
    return hub.add_model("Qwen/Tiny", tmp_path / "tiny")


@pytest.fixture
def connections() -> Iterator[Connections]:
    made = Connections()
    yield made
    made.close()


@pytest.fixture
def file(hub: LoopbackHub, tiny: Snapshot, connections: Connections) -> RemoteFile:
    url = f"{hub.cdn_url}/cdn/models/Qwen/Tiny/{tiny.commit}/{SHARD}"
    return RemoteFile("x.bin", lambda: Address(url), connections, len(DATA))


@pytest.mark.parametrize("several", get_args(Several))
def test_the_bytes_are_the_same_from_every_server(file: RemoteFile, hub: LoopbackHub, several: Several) -> None:
    hub.several = several
    assert file.read_many(ASKED) == WANTED
    asked = len(hub.seen())
    if several == "parts":
        assert asked == PACKS
    else:
        # Of what is asked for at the same time each may be answered otherwise; a refusal is asked about once more.
        assert len(ASKED) < asked <= len(ASKED) + 2 * PACKS
        hub.requests.clear()
        assert file.read_many(ASKED) == WANTED
        assert len(hub.seen()) == len(ASKED), "and it is remembered"


def test_signed_addresses_that_run_out_are_asked_for_again(
    clients: LoopbackHub, hub: LoopbackHub, tiny: Snapshot
) -> None:
    """Over and over, and several ranges still come together: a refusal of an old address is none of the question."""
    hub.signing.uses = 3
    network = Network(jobs=1)
    with open_place(f"hf://Qwen/Tiny/{SHARD}", network) as place:
        file = place.open(SHARD)
        for _ in range(5):
            assert file.read_many(ASKED) == WANTED
    answered = [each for each in hub.seen("/cdn/*") if each.status == 206]
    assert len(answered) == 5 * PACKS and all("," in (each.range or "") for each in answered)
    # Of three uses the first may be the client's own look.
    assert 5 * PACKS / 3 <= hub.signing.given <= 5 * PACKS / 2 + 1
    assert len(hub.seen("/Qwen/*", "HEAD")) == hub.signing.given


def test_a_busy_server_is_waited_for(file: RemoteFile, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    hub.faults.add(Fault("/cdn/*", status=429, times=2, headers={"Retry-After": "20"}))
    assert file.read_many(ASKED[:2]) == WANTED[:2]
    assert waits == [20, 20]
    hub.faults.add(Fault("/cdn/*", status=429, times=1, headers={"RateLimit": '"resolvers";r=0;t=55'}))
    assert file.read(5, 5) == DATA[5:10]
    assert waits[2:] == [55]


def part(span: str, data: bytes, size: int = len(DATA)) -> bytes:
    return f"\r\n--b\r\nContent-Range: bytes {span}/{size}\r\n\r\n".encode() + data


GOOD = part("0-3", DATA[:4]) + part("100-103", DATA[100:104]) + b"\r\n--b--\r\n"
BODIES = {
    "as it should be": GOOD,
    "in another order": part("100-103", DATA[100:104]) + part("0-3", DATA[:4]) + b"\r\n--b--",
    "with lines of all kinds": GOOD.replace(b"Content-R", b"X-A: --b\r\ncOnTeNt-Type: a/b; boundary=b\r\ncontent-r"),
    "with words before and after": b"hello" + GOOD + b"bye",
    "one part less": part("0-3", DATA[:4]) + b"\r\n--b--\r\n",
    "one part more": part("50-53", DATA[50:54]) + GOOD,
    "other parts": GOOD.replace(b"100-103", b"101-104"),
    "a longer part": GOOD.replace(b"bytes 0-3", b"bytes 0-9"),
    "an empty part": GOOD.replace(b"bytes 0-3", b"bytes 3-0"),
    "no range": GOOD.replace(b"Content-Range: bytes 0-3", b"Content-Rage: bytes 0-3"),
    "cut in the bytes": GOOD[:60],
    "cut in the head": GOOD[:12],
    "no end": GOOD.removesuffix(b"--b--\r\n"),
    "another boundary": GOOD.replace(b"--b", b"--c"),
    "an endless head": b"\r\n--b\r\n" + b"a" * (1 << 20),
    "nothing": b"",
}


def one_range(asked: str) -> httpx2.Response:
    """The answer to ``FIRST-LAST``."""
    start, last = map(int, asked.split("-"))
    found = {"Content-Range": f"bytes {asked}/{len(DATA)}"}
    return httpx2.Response(206, headers=found, content=iter([DATA[start : last + 1]]))


@pytest.mark.parametrize("body", BODIES.values(), ids=list(BODIES))
def test_what_is_no_such_answer_is_asked_for_one_by_one(
    file: RemoteFile, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    sent = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked = request.headers["Range"].removeprefix("bytes=")
        sent.append(asked)
        if "," in asked:
            return httpx2.Response(
                206, headers={"Content-Type": "multipart/byteranges; boundary=b"}, content=iter([body])
            )
        return one_range(asked)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        monkeypatch.setattr(Connections, "client", client)
        assert file.read_many([(0, 4), (100, 4)]) == [DATA[:4], DATA[100:104]]
    good = list(BODIES.values()).index(body) < 4
    assert sent == ["0-3,100-103"] + ([] if good else ["0-3", "100-103"])


@pytest.mark.parametrize("status", [200, 400, 405, 413, 416, 431, 500, 501])
def test_a_server_that_dislikes_the_question_is_asked_otherwise(
    file: RemoteFile, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        asked = request.headers["Range"].removeprefix("bytes=")
        return httpx2.Response(status, content=iter([b"no"])) if "," in asked else one_range(asked)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        monkeypatch.setattr(Connections, "client", client)
        assert file.read_many([(0, 4), (100, 4)]) == [DATA[:4], DATA[100:104]]


CHANGED = {
    "another size": (GOOD.replace(b"/1048576", b"/1048577"), {}),
    "another ETag": (GOOD, {"ETag": '"other"'}),
}


@pytest.mark.parametrize(("body", "more"), CHANGED.values(), ids=list(CHANGED))
def test_a_file_that_changed_is_an_error(
    file: RemoteFile, monkeypatch: pytest.MonkeyPatch, body: bytes, more: dict[str, str]
) -> None:
    assert file.read(0, 1) == DATA[:1]
    kind = {"Content-Type": 'multipart/byteranges; boundary="b"'}
    reply = httpx2.Response(206, headers=kind | more, content=iter([body]))
    with httpx2.Client(transport=httpx2.MockTransport(lambda request: reply)) as client:
        monkeypatch.setattr(Connections, "client", client)
        with pytest.raises(SourceError, match="changed on the server"):
            file.read_many([(0, 4), (100, 4)])


FAULTS = {
    "missing": (Fault("/cdn/*", status=404), "does not exist"),
    "busy": (Fault("/cdn/*", status=503), "answers 503, again and again"),
    "refused": (Fault("/cdn/*", status=403), "may not be read"),
    "broken off": (Fault("/cdn/*", "truncate", after=50), "breaks off"),
    "slow": (Fault("/cdn/*", "slow", rate=10), "comes too slowly"),
    "compressed": (Fault("/cdn/*", "lie", headers={"Content-Encoding": "gzip"}), "comes compressed"),
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
    monkeypatch.setattr(remote, "SLOWEST", 1 << 20)
    monkeypatch.setattr(retry, "TRIES", 2)
    hub.faults.add(fault)
    with pytest.raises(SourceError, match=words):
        file.read_many(ASKED[:8])
    assert connections.traffic.fetched < 1 << 20


def test_what_follows_the_parts_is_not_read_to_the_end(
    file: RemoteFile, hub: LoopbackHub, connections: Connections
) -> None:
    hub.faults.add(Fault("/cdn/*", "endless"))
    assert file.read_many(ASKED[:8]) == WANTED[:8]
    assert connections.traffic.fetched < 1 << 20


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 9)), max_size=9), st.binary(min_size=108, max_size=108))
def test_parts_are_read_as_they_were_written(ranges: list[tuple[int, int]], data: bytes) -> None:
    reply = in_parts(Reply(200, data), [(start, start + length) for start, length in ranges])
    assert isinstance(reply.body, bytes)
    between = boundary(reply.headers["Content-Type"])
    assert between == BOUNDARY.encode()
    wanted = [((start, start + length), len(data), data[start : start + length]) for start, length in ranges]
    if ranges:
        assert list(parts(reply.body, between)) == wanted
    assert len(reply.body) < sum(length for _, length in ranges) + (len(ranges) + 1) * MOST_HEAD


@given(st.binary(max_size=300))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    with suppress(ValueError):
        assert all(stop - start == len(data) for (start, stop), _, data in parts(b"--b" + body, b"b"))


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("multipart/byteranges; boundary=CloudFront:8C17", b"CloudFront:8C17"),
        ('Multipart/ByteRanges;boundary="a b"', b"a b"),
        ("multipart/byteranges", None),
        ("multipart/mixed; boundary=a", None),
        ("text/html", None),
        ("", None),
    ],
)
def test_boundaries(kind: str, found: bytes | None) -> None:
    assert boundary(kind) == found
