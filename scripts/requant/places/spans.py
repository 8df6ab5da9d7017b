"""Byte ranges as requests: what lies close comes in one, what is scattered in few, what is large in several."""

from collections.abc import Sequence

Span = tuple[int, int]
"""The first byte, and the one behind the last."""

GAP = 1 << 16
"""Ranges that lie no further apart come as one: at 100 Mbit/s, shared by 16 connections, these bytes take as long as a
round trip of 80 ms. In files of gigabytes few of the rows that are drawn lie so close."""
MAX_REQUEST = 1 << 23
MAX_SPANS = 64
"""Spans that one request asks for: 24 characters each where a file is large, and servers take headers of 8 kB. Some
servers (Apache) take no more than 200."""


def merged(ranges: Sequence[tuple[int, int]]) -> list[Span]:
    """Join ranges ``(offset, length)`` that lie close together to spans, sorted and apart."""
    spans: list[Span] = []
    for offset, length in sorted(ranges):
        if not length:
            continue
        if spans and offset <= spans[-1][1] + GAP:
            spans[-1] = (spans[-1][0], max(spans[-1][1], offset + length))
        else:
            spans.append((offset, offset + length))
    return spans


def cut(start: int, stop: int) -> list[Span]:
    """Cut a span into pieces of at most ``MAX_REQUEST`` bytes."""
    return [(at, min(at + MAX_REQUEST, stop)) for at in range(start, stop, MAX_REQUEST)]


def packed(spans: Sequence[Span], most: int) -> list[list[Span]]:
    """Divide sorted spans among requests: at most ``most`` and ``MAX_REQUEST`` bytes in each, in the same order."""
    packs: list[list[Span]] = []
    size = 0
    for start, stop in (piece for span in spans for piece in cut(*span)):
        size += stop - start
        if not packs or len(packs[-1]) == most or size > MAX_REQUEST:
            packs.append([])
            size = stop - start
        packs[-1].append((start, stop))
    return packs
