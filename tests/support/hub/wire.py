"""What passes between the socket and the protocols: requests, replies, byte ranges, the log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_SEVERAL = re.compile(r"bytes=\d+-\d+(?:,\d+-\d+)+")
BOUNDARY = "CloudFront:0123456789ABCDEF"


@dataclass(frozen=True)
class Request:
    """A request as the protocols see it. `raw_path` keeps its percent escapes: a quoted slash is no separator."""

    method: str
    target: str
    headers: Message  # looks names up whatever their case; clients differ
    body: bytes = b""

    @property
    def raw_path(self) -> str:
        return urlsplit(self.target).path

    @property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def text(self) -> str:
        """Path and query, unescaped: what the patterns of faults are matched against."""
        return unquote(self.target)

    @property
    def query(self) -> dict[str, str]:
        return {key: values[-1] for key, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode())

    @property
    def token(self) -> str | None:
        """The bearer token, or ModelScope's `m_session_id` cookie, which carries the same token."""
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and value:
            return value
        found = re.search(r"\bm_session_id=([^;\s]+)", self.headers.get("Cookie", ""))
        return found.group(1) if found else None


@dataclass(frozen=True)
class Reply:
    """An answer. A file body is streamed from disk; `ranges` says whether a Range header is honoured."""

    status: int = 200
    body: bytes | Path = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = False

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    @property
    def size(self) -> int:
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)

    def open(self) -> BinaryIO:
        return self.body.open("rb") if isinstance(self.body, Path) else BytesIO(self.body)


@dataclass
class Exchange:
    """One line of the request log. `sent` counts body bytes given to the socket and grows meanwhile."""

    method: str
    host: str
    path: str
    query: str
    range: str | None
    authorized: bool
    status: int = 0
    sent: int = 0


def read_body(stream: BinaryIO, headers: Message, stop: int | None = None) -> bytes | None:
    """What a client sends, announced or in chunks; None where it hangs up before the end, or at byte `stop` at the latest."""
    if headers.get("Transfer-Encoding", "").lower() != "chunked":
        length = int(headers.get("Content-Length", 0))
        body = stream.read(length if stop is None else min(stop, length))
        return body if len(body) == length else None
    found = b""
    while size := int(stream.readline() or b"-1", 16):
        if size < 0 or (stop is not None and len(found) >= stop):
            return None
        found += stream.read(size)
        stream.readline()
    stream.readline()
    return found


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte + 1 that a Range header asks for, None for all of it; ValueError means 416."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.group(0) == "bytes=-":
        return None  # RFC 9110: a range that is not understood (other units) is ignored
    first, last = found.groups()
    start, stop = (int(first), int(last) + 1 if last else size) if first else (max(size - int(last), 0), size)
    if start >= size or stop <= start:
        raise ValueError(f"{header} of {size} bytes")
    return start, min(stop, size)


def byte_ranges(header: str | None) -> list[tuple[int, int]]:
    """The first byte and the last + 1 of each of several ranges; none where a header asks for one, or differently."""
    if header is None or not _SEVERAL.fullmatch(header):
        return []
    pairs = (each.split("-") for each in header.removeprefix("bytes=").split(","))
    return [(int(first), int(last) + 1) for first, last in pairs]


def in_parts(reply: Reply, ranges: list[tuple[int, int]]) -> Reply:
    """Several ranges as CloudFront gives them: multipart/byteranges, one part for each."""
    kind, size = reply.headers.get("Content-Type", "application/octet-stream"), reply.size
    body = bytearray()
    with reply.open() as stream:
        for start, stop in ranges:
            head = f"--{BOUNDARY}\r\nContent-Type: {kind}\r\nContent-Range: bytes {start}-{stop - 1}/{size}\r\n\r\n"
            stream.seek(start)
            body += head.encode() + stream.read(stop - start) + b"\r\n"
    body += f"--{BOUNDARY}--\r\n".encode()
    return Reply(206, bytes(body), {**reply.headers, "Content-Type": f"multipart/byteranges; boundary={BOUNDARY}"})
