"""requant.places.spans: every byte that was asked for, few requests, and none too large."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from requant.places.spans import GAP, MAX_REQUEST, cut, merged, packed


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 14)), max_size=50))
def test_spans_cover_all_ranges_and_lie_apart(ranges: list[tuple[int, int]]) -> None:
    spans = merged(ranges)
    assert all(any(a <= offset and offset + length <= b for a, b in spans) for offset, length in ranges if length)
    assert all(b + GAP < c for (_, b), (c, _) in pairwise(spans))
    assert sum(b - a for a, b in spans) <= sum(length + GAP for _, length in ranges)


@given(st.integers(0, 1 << 40), st.integers(1, 5 * MAX_REQUEST))
def test_pieces_follow_one_another(start: int, length: int) -> None:
    pieces = cut(start, start + length)
    assert (pieces[0][0], pieces[-1][1]) == (start, start + length)
    assert all(one[1] == other[0] for one, other in pairwise(pieces))
    assert all(0 < stop - begin <= MAX_REQUEST for begin, stop in pieces)


@given(st.lists(st.tuples(st.integers(0, 1 << 34), st.integers(0, 3 * MAX_REQUEST)), max_size=20), st.integers(1, 5))
def test_packs_hold_all_spans_in_order(ranges: list[tuple[int, int]], most: int) -> None:
    spans = merged(ranges)
    packs = packed(spans, most)
    assert [piece for pack in packs for piece in pack] == [piece for span in spans for piece in cut(*span)]
    assert all(0 < len(pack) <= most and sum(b - a for a, b in pack) <= MAX_REQUEST for pack in packs)
    assert all(
        len(one) == most or sum(b - a for a, b in [*one, other[0]]) > MAX_REQUEST for one, other in pairwise(packs)
    )
