"""Several ranges of a file in one answer: ``multipart/byteranges`` (RFC 9110, 14.6; RFC 2046, 5.1)."""

import re
from collections.abc import Iterator

from requant.places.spans import Span

KIND = re.compile(
    r'multipart/byteranges\s*;\s*boundary=(?:"([\x20-\x7e]{1,70})"|([^\s;"]{1,70}))\s*', re.IGNORECASE | re.ASCII
)
CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:(\d{1,19})|\*)", re.ASCII | re.IGNORECASE)
MOST_HEAD = 1 << 10
"""Bytes between two parts: a boundary, and the few lines that say what comes."""


def boundary(content_type: str) -> bytes | None:
    """What stands between the parts, or ``None`` where an answer of such a type has no parts."""
    found = KIND.fullmatch(content_type)
    return (found[1] or found[2]).encode("ascii", "replace") if found else None


def total(found: re.Match[str]) -> int | None:
    """The size of the whole file, as a ``CONTENT_RANGE`` says it; servers may leave it open."""
    return int(found[3]) if found[3] else None


def parts(body: bytes, between: bytes) -> Iterator[tuple[Span, int | None, bytes]]:
    """The parts of a body in its order: the span, the size of the whole file if it is said, and the bytes.

    No part is looked for: each is as long as its head says, so what is in its bytes can mislead nobody.

    Raises:
        ValueError: where the body is made otherwise.
    """
    mark = b"--" + between
    at = body.find(mark, 0, MOST_HEAD)
    while at >= 0 and body.startswith(mark, at):
        at += len(mark)
        if body.startswith(b"--", at):
            return
        end = body.find(b"\r\n\r\n", at, at + MOST_HEAD)
        span, whole = _head(body[at:end]) if end >= 0 else ((0, 0), None)
        start, stop = end + 4, end + 4 + span[1] - span[0]
        if span[0] >= span[1] or body[stop : stop + 2] != b"\r\n":
            break
        yield span, whole, body[start:stop]
        at = stop + 2
    raise ValueError("not made of parts")


def _head(lines: bytes) -> tuple[Span, int | None]:
    """What a part's lines say; an empty span where they do not."""
    for line in lines.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-range" and (found := CONTENT_RANGE.fullmatch(value.strip())):
            return (int(found[1]), int(found[2]) + 1), total(found)
    return (0, 0), None
