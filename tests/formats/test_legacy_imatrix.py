"""Importance matrices in the old format: the numbers that llama-quantize takes from them, and what is refused.

That llama-quantize takes these is shown in ``tests/e2e/test_matrices.py``, with its own files and bytes.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from requant.formats.imatrix import Imatrix, apart, importance, read_imatrix, starts_as_legacy
from requant.ground.errors import FormatError
from support.gguf_files import legacy_imatrix

A, B = "blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight"
VALUES = np.array([3, 0, 1.5, 1e-3], np.float32)
ENTRIES = {A: (3, VALUES), B: (7, np.arange(8, dtype=np.float32))}


def read(data: bytes) -> Imatrix:
    return read_imatrix(io.BytesIO(data), "x.dat")


@pytest.mark.parametrize(
    ("chunks", "dataset", "said"),
    [(7, "text.txt", (7, ["text.txt"])), (7, "", (7, [])), (7, None, (7, [])), (None, None, (0, []))],
)
def test_what_every_age_of_it_says(chunks: int | None, dataset: str | None, said: tuple[int, list[str]]) -> None:
    found = read(legacy_imatrix(ENTRIES, chunks, dataset))
    assert (found.chunk_count, found.datasets, found.chunk_size, found.legacy) == (*said, None, True)
    assert list(found.entries) == [A, B]


@pytest.mark.parametrize("calls", [1, 3, 100, 2**24 + 1, 2**31 - 1])
def test_values_are_divided_as_float32(calls: int) -> None:
    """C++ turns the number of calls into a float before it divides."""
    found = importance(read(legacy_imatrix({A: (calls, VALUES)})).entries[A])
    assert found.tobytes() == (VALUES / np.float32(calls)).tobytes()


@pytest.mark.parametrize("calls", [0, -1])
def test_values_without_calls_are_taken_as_they_are(calls: int) -> None:
    assert importance(read(legacy_imatrix({A: (calls, VALUES)})).entries[A])[0].tobytes() == VALUES.tobytes()


def test_experts_lie_one_after_the_other() -> None:
    entry = read(legacy_imatrix(ENTRIES)).entries[B]
    assert entry.in_sum2.shape == (1, 8)
    assert apart(entry, 4).in_sum2.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert importance(apart(entry, 2)).tobytes() == importance(entry).tobytes()
    assert apart(entry, 3) is entry


def entry(
    name: bytes = b"a", calls: int = 1, count: int = 1, values: bytes = bytes(4), length: int | None = None
) -> bytes:
    head = struct.pack("<i", len(name) if length is None else length) + name
    return head + struct.pack("<ii", calls, count) + values


ONE, TWO = struct.pack("<i", 1), struct.pack("<i", 2)
NAN, MINUS = struct.pack("<f", float("nan")), struct.pack("<f", -1)
HOSTILE = {
    "more entries than fit": (struct.pack("<i", 9) + entry(), "claims 9 entries in 21 bytes"),
    "cut off inside an entry": (TWO + entry(b"abcd", count=2, values=bytes(8)) + entry(b"b")[:-5], "has 3 bytes left for the number of values of 'b', which takes 4"),
    "a name twice": (TWO + entry() + entry(), "has two entries for 'a'"),
    "a long name": (TWO + entry() + entry(length=1 << 30), r"has 1,073,741,824 bytes in the name of entry 2"),
    "a name of less than nothing": (TWO + entry() + entry(length=-1), "has -1 bytes in the name of entry 2"),
    "a name that is no text": (TWO + entry() + entry(b"\xff"), "something else than UTF-8 in the name of entry 2"),
    "a name that hides": (TWO + entry() + entry(b"b\0c"), "has no printable name in entry 2"),
    "an empty name": (TWO + entry() + entry(b"", values=bytes(8)), "has no printable name in entry 2"),
    "no values": (ONE + entry(count=0) + bytes(4), "has 0 values for 'a'"),
    "fewer than no values": (ONE + entry(count=-1), "has -1 values for 'a'"),
    "more values than there are": (ONE + entry(count=(1 << 31) - 1), "has 4 bytes left for the values of 'a', which takes 8,589,934,588"),
    "a negative value": (ONE + entry(values=MINUS), "has a value for 'a' that is negative or not finite"),
    "not a number": (ONE + entry(values=NAN), "has a value for 'a' that is negative or not finite"),
    "fewer than no chunks": (ONE + entry() + struct.pack("<i", -1), "counts -1 chunks"),
    "half a number of chunks": (ONE + entry() + bytes(3), "has 3 bytes left for the number of chunks"),
    "a text's name that goes on": (ONE + entry() + ONE + struct.pack("<i", 9) + b"x.txt", "has 5 bytes left for the name of the text, which takes 9"),
    "a text's name that is none": (ONE + entry() + ONE + ONE + b"\xff", "something else than UTF-8 in the name of the text"),
    "something behind its end": (ONE + entry() + ONE + ONE + b"xyz", "goes on for 2 bytes after its end"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_damaged_is_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words) as caught:
        read(data)
    assert str(caught.value).startswith("x.dat, an importance matrix in the old format, ")


@pytest.mark.parametrize(
    "data", [b"", b"GGUF", b"<!doctype html>", bytes(300), b"\x02\0\0\0\xff\xff\xff\xff", ONE + b"\x04\0\0\0\0\0\0\0"]
)
def test_what_is_none_at_all_is_judged_as_a_gguf(tmp_path: Path, data: bytes) -> None:
    """So the message says what it is instead."""
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    assert not starts_as_legacy(path)
    with pytest.raises(FormatError, match=r"not a GGUF|ends inside|web page"):
        read_imatrix(path)
