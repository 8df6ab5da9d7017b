"""Files behind HTTP servers that nobody vouches for, read in byte ranges.

``httpx2``, the transport of ``huggingface_hub``, is imported when the first request is made. Every answer is held
against what was asked: status 206, the very ranges, one size and one ETag for ever, no byte more than asked.

Scattered ranges are asked for many at a time, which the storage of the Hub answers. A server that does not is asked for
one after another.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from requant import __version__
from requant.formats.ranged import check_range
from requant.ground.errors import PlaceError, SourceError
from requant.places.addresses import Address, checked, redirected
from requant.places.byteranges import CONTENT_RANGE, MOST_HEAD, boundary, parts, total
from requant.places.pace import GRANTS, Rate
from requant.places.retry import retried
from requant.places.spans import MAX_SPANS, Span, cut, merged, packed

if TYPE_CHECKING:
    import httpx2

JOBS = 16
MAX_REDIRECTS = 5
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 30.0
SLOWEST = 1 << 14
"""Bytes per second that one connection must at least carry, beside ``SILENCE_SECONDS`` to begin with."""
BY_HAND = "download the file and audit it locally"
REDIRECTS = (301, 302, 303, 307, 308)
ALIKE = (206, 401, 403, 404, 408, 410, 429)
"""Answers that have nothing to do with how many ranges were asked for; any other may mean that one is enough."""


@dataclass
class Traffic:
    """What was transferred: ``fetched`` bytes of bodies in ``requests``. Threads may share it."""

    requests: int = 0
    fetched: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, requests: int = 0, fetched: int = 0) -> None:
        """Add to both."""
        with self._lock:
            self.requests += requests
            self.fetched += fetched


@dataclass(frozen=True)
class Network:
    """How files are read over the network: where that is counted, how many connections a place may have, how fast."""

    traffic: Traffic = field(default_factory=Traffic)
    jobs: int = JOBS
    rate: Rate | None = None


class Connections:
    """Kept-alive connections and as many threads, shared by all files of one place; to be closed."""

    def __init__(self, network: Network | None = None) -> None:
        network = network or Network()
        self.traffic, self.jobs, self.rate = network.traffic, network.jobs, network.rate
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        self._threads = ThreadPoolExecutor(self.jobs, "requant-read")

    @property
    def client(self) -> "httpx2.Client":
        """The HTTP client; raises SourceError where the environment makes that impossible."""
        with self._lock:
            self._client = self._client or self._connect()
            return self._client

    def _connect(self) -> "httpx2.Client":
        import httpx2

        try:
            return httpx2.Client(
                headers={"Accept-Encoding": "identity", "User-Agent": f"requant/{__version__}"},
                timeout=httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
                limits=httpx2.Limits(max_connections=self.jobs, max_keepalive_connections=self.jobs),
                follow_redirects=False,
            )
        except (OSError, ValueError, httpx2.InvalidURL) as error:
            raise SourceError(f"the environment's proxy or certificates are unusable ({error}): correct it") from error

    def map(self, read: Callable[[list[Span]], list[bytes]], packs: Sequence[list[Span]]) -> Iterator[list[bytes]]:
        """Call ``read`` for every pack of spans, many at a time; the results come in order."""
        return map(read, packs) if len(packs) < 2 else self._threads.map(read, packs)

    def took(self, size: int) -> float:
        """Count bytes that have come, and wait where they came faster than they may; gives the seconds waited."""
        self.traffic.count(fetched=size)
        return self.rate.wait(size) if self.rate else 0.0

    def close(self) -> None:
        """End all connections; may be called twice."""
        self._threads.shutdown(cancel_futures=True)
        if self._client:
            self._client.close()


class _PassingError(Exception):
    """The server is busy, or broke off; ``response`` may say how long to wait."""

    def __init__(self, said: str, response: "httpx2.Response | None" = None) -> None:
        super().__init__(said)
        self.response = response


class _RefusedError(Exception):
    """The server wants another address or a token."""


class _OneOnlyError(Exception):
    """The server does not give several ranges at a time."""


class RemoteFile:
    """A file behind HTTP, as ``requant.formats.ranged.Ranged``; threads may share it.

    ``locate`` tells where the file lies. It is asked before the first read, and again where that address is refused:
    signed ones run out. ``size`` is what a hub records; if it is ``None``, the server is asked at once.
    """

    def __init__(
        self, name: str, locate: Callable[[], Address], connections: Connections, size: int | None = None
    ) -> None:
        self.name = name
        self._locate, self._connections = locate, connections
        self._lock = threading.Lock()
        self._address: Address | None = None
        self._etag: str | None = None
        self._size = size
        self._at_once = MAX_SPANS
        if size is None:
            self._asked([(0, 1)])

    @property
    def size(self) -> int:
        """Bytes in the whole file, as the hub or the first answer said."""
        assert self._size is not None
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Give exactly ``length`` bytes from byte ``offset`` on.

        Raises:
            FormatError: when they lie outside the file.
            SourceError: when the server refuses, keeps failing, or does not give what was asked.
        """
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Give the bytes of several ``(offset, length)``, in the order asked and in as few requests as is sensible."""
        for offset, length in ranges:
            check_range(self, offset, length)
        spans = merged(ranges)
        bodies = chain.from_iterable(self._connections.map(self._read, packed(spans, self._at_once)))
        blocks = [b"".join(next(bodies) for _ in cut(*span)) for span in spans]
        starts = [start for start, _ in spans]
        found = []
        for offset, length in ranges:
            at = bisect_right(starts, offset) - 1
            found.append(blocks[at][offset - starts[at] : offset - starts[at] + length] if length else b"")
        return found

    def _read(self, pack: list[Span]) -> list[bytes]:
        """Read some spans in one request, or, where the server does not give several, each in its own."""
        if len(pack) > 1 and self._at_once > 1:
            try:
                return self._asked(pack)
            except _OneOnlyError:
                self._at_once = 1
        return [body for span in pack for body in self._asked([span])]

    def _asked(self, pack: list[Span]) -> list[bytes]:
        """Ask for some spans once, however many tries that takes."""
        import httpx2

        def tried(address: Address) -> list[bytes]:
            passing = (httpx2.TransportError, _PassingError)
            return retried(lambda: self._get(address, pack), lambda error: isinstance(error, passing))

        address = self._current(None)
        try:
            try:
                return tried(address)
            except _RefusedError:
                return tried(self._current(address))
        except _RefusedError as error:
            if len(pack) > 1:
                raise _OneOnlyError from error
            raise SourceError(f"{self.name} may not be read ({error}): name a token, or another source") from error
        except _PassingError as error:
            if len(pack) > 1 and error.response is not None and error.response.status_code >= 500:
                raise _OneOnlyError from error
            raise SourceError(f"{self.name} cannot be had, the server {error}, again and again: try later") from error
        except httpx2.RemoteProtocolError as error:
            raise SourceError(
                f"{self.name} cannot be had, the server breaks off or does not speak HTTP: try later"
            ) from error
        except httpx2.TimeoutException as error:
            raise SourceError(f"{self.name} cannot be had, the server does not answer in time: try later") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OverflowError) as error:
            raise SourceError(f"{self.name} cannot be reached: check its address and the network") from error

    def _current(self, refused: Address | None) -> Address:
        """The address in force; a new one where that is the one that was refused."""
        with self._lock:
            if self._address is None or self._address is refused:
                self._address = checked(self._locate(), self.name)
            return self._address

    def _get(self, address: Address, pack: list[Span]) -> list[bytes]:
        client, traffic = self._connections.client, self._connections.traffic
        asked = "bytes=" + ",".join(f"{start}-{stop - 1}" for start, stop in pack)
        hop = address
        for _ in range(MAX_REDIRECTS + 1):
            GRANTS.wait(hop.url)
            traffic.count(requests=1)
            with client.stream("GET", hop.url, headers={**hop.headers, "Range": asked}) as answer:
                if answer.status_code in (401, 403) and address.headers and not hop.headers:
                    raise _RefusedError(f"{answer.status_code} by {answer.url.host}, where no token goes")
                if answer.status_code not in REDIRECTS:
                    bodies = [self._body(answer, *pack[0])] if len(pack) == 1 else self._bodies(answer, pack)
                    break
                hop = redirected(hop, answer.headers.get("Location", ""), self.name)
        else:
            raise SourceError(f"{self.name} is redirected more than {MAX_REDIRECTS} times: take it from another source")
        with self._lock:
            # Later reads go straight to where this one ended.
            if self._address is address:
                self._address = hop
        return bodies

    def _body(self, answer: "httpx2.Response", start: int, stop: int) -> bytes:
        """Check an answer, and read no more of its body than was asked for."""
        _require_success(answer, self.name)
        if answer.status_code == 416:
            if self._size is not None or answer.headers.get("Content-Range", "").lower() != "bytes */0":
                raise SourceError(f"{self.name} changed on the server: start again, or name a fixed revision")
            self._size = 0
            return b""
        self._require_plain(answer)
        whole: int | None = stop
        length = str(stop - start)
        if answer.status_code == 206:
            found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            given = answer.headers.get("Content-Length", length)
            if not found or (int(found[1]), int(found[2])) != (start, stop - 1) or given != length:
                raise SourceError(f"{self.name} comes with other bytes than were asked for: use another source")
            whole = total(found)
        elif (answer.status_code, start, stop) != (200, 0, self._size):
            # 200 is right for all of a file; ModelScope answers so for small ones.
            raise SourceError(f"{self.name} lies on a server that does not serve ranges: {BY_HAND}")
        self._require_same(answer, whole)
        body = self._received(answer, stop - start)
        if len(body) > stop - start:
            raise SourceError(f"{self.name} comes with more bytes than were asked for: {BY_HAND}")
        if len(body) < stop - start:
            raise _PassingError("sends less than was asked for")
        return body

    def _bodies(self, answer: "httpx2.Response", pack: list[Span]) -> list[bytes]:
        """The same of several ranges, each in a part of the answer.

        Raises:
            _OneOnlyError: when it is anything but them: a server may give what it wants then, none is accused.
        """
        if answer.status_code == 501 or (answer.status_code < 500 and answer.status_code not in ALIKE):
            raise _OneOnlyError
        _require_success(answer, self.name)
        between = boundary(answer.headers.get("Content-Type", ""))
        if answer.status_code != 206 or between is None:
            raise _OneOnlyError
        self._require_plain(answer)
        most = sum(stop - start + MOST_HEAD for start, stop in pack) + MOST_HEAD
        try:
            found = {span: (whole, body) for span, whole, body in parts(self._received(answer, most), between)}
        except ValueError as error:
            raise _OneOnlyError from error
        if found.keys() != set(pack):
            raise _OneOnlyError
        for whole, _ in found.values():
            self._require_same(answer, whole)
        return [found[span][1] for span in pack]

    def _received(self, answer: "httpx2.Response", most: int) -> bytes:
        """A body; of one that is too long ``most`` bytes and some more."""
        deadline = time.monotonic() + SILENCE_SECONDS + most / SLOWEST
        body = bytearray()
        for chunk in answer.iter_raw():
            body += chunk
            # Waiting is our doing, not the server's.
            deadline += self._connections.took(len(chunk))
            if len(body) > most:
                break
            if time.monotonic() > deadline:
                raise SourceError(f"{self.name} comes too slowly to be read: try later, or from another source")
        return bytes(body)

    def _require_plain(self, answer: "httpx2.Response") -> None:
        """Refuse a page in place of a file, and what is compressed."""
        if self._size is None and answer.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise PlaceError(f"{self.name} is a web page: name the file itself, as hubs do with /resolve/")
        encoding = answer.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise SourceError(f"{self.name} comes compressed ({encoding[:20]!r}), unasked: {BY_HAND}")

    def _require_same(self, answer: "httpx2.Response", whole: int | None) -> None:
        """Hold the size of the file, where it is said, and its ETag against what was answered before."""
        # Caches of one server may differ in whether they call the same tag weak.
        etag = answer.headers.get("ETag", "").removeprefix("W/") or None
        with self._lock:
            self._size = whole if self._size is None else self._size
            if self._size is None:
                raise SourceError(f"{self.name} comes without its size: {BY_HAND}")
            self._etag = self._etag or etag
            if whole not in (None, self._size) or etag not in (None, self._etag):
                raise SourceError(f"{self.name} changed on the server: start again, or name a fixed revision")


def _require_success(answer: "httpx2.Response", name: str) -> None:
    status = answer.status_code
    if status in (401, 403):
        raise _RefusedError(str(status))
    if status in (404, 410):
        raise SourceError(f"{name} does not exist ({status}): correct its address")
    if status in (408, 429) or status >= 500:
        raise _PassingError(f"answers {status}", answer)
    if status not in (200, 206, 416):
        raise SourceError(f"{name} cannot be had, the server answers {status}: correct its address")
