"""Files behind HTTP servers that nobody vouches for, read in byte ranges.

``httpx2``, the transport of ``huggingface_hub``, is imported when the first request is made. Every answer is held
against what was asked: status 206, the very range, one size and one ETag for ever, no byte more than asked.
"""

import re
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from requant import __version__
from requant.formats.ranged import check_range
from requant.ground.errors import PlaceError, SourceError
from requant.places.addresses import Address, checked, redirected
from requant.places.retry import retried
from requant.places.spans import cut, merged

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
CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)


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
    """How files are read over the network: where that is counted, and how many connections a place may have."""

    traffic: Traffic = field(default_factory=Traffic)
    jobs: int = JOBS


class Connections:
    """Kept-alive connections and as many threads, shared by all files of one place; to be closed."""

    def __init__(self, network: Network | None = None) -> None:
        network = network or Network()
        self.traffic, self.jobs = network.traffic, network.jobs
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

    def map(self, read: Callable[[tuple[int, int]], bytes], spans: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Call ``read`` for every span, many at a time; the results come in order."""
        return map(read, spans) if len(spans) < 2 else self._threads.map(read, spans)

    def close(self) -> None:
        """End all connections; may be called twice."""
        self._threads.shutdown(cancel_futures=True)
        if self._client:
            self._client.close()


class _PassingError(Exception):
    """The server is busy, or broke off."""


class _RefusedError(Exception):
    """The server wants another address or a token."""


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
        if size is None:
            self._read((0, 1))

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
        pieces = [piece for span in spans for piece in cut(*span)]
        bodies = self._connections.map(self._read, pieces)
        blocks = [b"".join(next(bodies) for _ in cut(*span)) for span in spans]
        starts = [start for start, _ in spans]
        found = []
        for offset, length in ranges:
            at = bisect_right(starts, offset) - 1
            found.append(blocks[at][offset - starts[at] : offset - starts[at] + length] if length else b"")
        return found

    def _read(self, span: tuple[int, int]) -> bytes:
        """Read bytes ``start`` to ``stop`` in one request, however many tries that takes."""
        import httpx2

        def tried(address: Address) -> bytes:
            passing = (httpx2.TransportError, _PassingError)
            return retried(lambda: self._get(address, *span), lambda error: isinstance(error, passing))

        address = self._current(None)
        try:
            try:
                return tried(address)
            except _RefusedError:
                return tried(self._current(address))
        except _RefusedError as error:
            raise SourceError(f"{self.name} may not be read ({error}): name a token, or another source") from error
        except _PassingError as error:
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

    def _get(self, address: Address, start: int, stop: int) -> bytes:
        client, traffic = self._connections.client, self._connections.traffic
        hop = address
        for _ in range(MAX_REDIRECTS + 1):
            traffic.count(requests=1)
            headers = {**hop.headers, "Range": f"bytes={start}-{stop - 1}"}
            with client.stream("GET", hop.url, headers=headers) as answer:
                if answer.status_code in (401, 403) and address.headers and not hop.headers:
                    raise _RefusedError(f"{answer.status_code} by {answer.url.host}, where no token goes")
                if answer.status_code not in REDIRECTS:
                    body = self._body(answer, start, stop)
                    break
                hop = redirected(hop, answer.headers.get("Location", ""), self.name)
        else:
            raise SourceError(f"{self.name} is redirected more than {MAX_REDIRECTS} times: take it from another source")
        with self._lock:
            # Later reads go straight to where this one ended.
            if self._address is address:
                self._address = hop
        return body

    def _body(self, answer: "httpx2.Response", start: int, stop: int) -> bytes:
        """Check an answer, and read no more of its body than was asked for."""
        _require_success(answer.status_code, self.name)
        if answer.status_code == 416:
            if self._size is not None or answer.headers.get("Content-Range") != "bytes */0":
                raise SourceError(f"{self.name} changed on the server: start again, or name a fixed revision")
            self._size = 0
            return b""
        self._check(answer, start, stop)
        deadline = time.monotonic() + SILENCE_SECONDS + (stop - start) / SLOWEST
        body = bytearray()
        for chunk in answer.iter_raw():
            self._connections.traffic.count(fetched=len(chunk))
            body += chunk
            if len(body) > stop - start:
                raise SourceError(f"{self.name} comes with more bytes than were asked for: {BY_HAND}")
            if time.monotonic() > deadline:
                raise SourceError(f"{self.name} comes too slowly to be read: try later, or from another source")
        if len(body) < stop - start:
            raise _PassingError("sends less than was asked for")
        return bytes(body)

    def _check(self, answer: "httpx2.Response", start: int, stop: int) -> None:
        """Hold the head of an answer against what was asked and what was answered before."""
        if self._size is None and answer.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise PlaceError(f"{self.name} is a web page: name the file itself, as hubs do with /resolve/")
        encoding = answer.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise SourceError(f"{self.name} comes compressed ({encoding[:20]!r}), unasked: {BY_HAND}")
        total, length = stop, str(stop - start)
        if answer.status_code == 206:
            found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            given = answer.headers.get("Content-Length", length)
            if not found or (int(found[1]), int(found[2])) != (start, stop - 1) or given != length:
                raise SourceError(f"{self.name} comes with other bytes than were asked for: use another source")
            total = int(found[3])
        elif (answer.status_code, start, stop) != (200, 0, self._size):
            # 200 is right for all of a file; ModelScope answers so for small ones.
            raise SourceError(f"{self.name} lies on a server that does not serve ranges: {BY_HAND}")
        etag = answer.headers.get("ETag")
        with self._lock:
            self._size = total if self._size is None else self._size
            self._etag = self._etag or etag
            if total != self._size or etag not in (None, self._etag):
                raise SourceError(f"{self.name} changed on the server: start again, or name a fixed revision")


def _require_success(status: int, name: str) -> None:
    if status in (401, 403):
        raise _RefusedError(str(status))
    if status in (404, 410):
        raise SourceError(f"{name} does not exist ({status}): correct its address")
    if status in (408, 429) or status >= 500:
        raise _PassingError(f"answers {status}")
    if status not in (200, 206, 416):
        raise SourceError(f"{name} cannot be had, the server answers {status}: correct its address")
