"""requant.formats.gguf: whatever is no GGUF file in order is refused in one sentence, before it costs anything."""

import contextlib
import io
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requant.formats import gguf
from requant.formats.gguf import read_header
from requant.formats.gguf_regions import gaps, regions, spare
from requant.ground.errors import FormatError
from support.gguf_files import array, gguf_bytes, pair, parse, string, tensor


def test_truncation_at_every_byte(small_gguf: bytes) -> None:
    last = max(parse(small_gguf).tensors, key=lambda each: each.offset)
    for length in range(last.offset + last.nbytes):
        with pytest.raises(FormatError, match=r"^x\.gguf [^\n]+: [^\n]+$"):
            parse(small_gguf[:length])


@pytest.mark.parametrize("size", range(36, 65))
def test_the_last_padding_may_be_missing(size: int) -> None:
    """llama.cpp asks that the last tensor is there, and nothing of what is behind it."""
    header = parse(gguf_bytes([], [tensor("a", [9])], bytes(size)))
    end = header.data_offset + 36
    assert [*regions(header)][-1] == (end, header.data_offset + size, None)
    assert gaps(header) == ([(end, header.size)] if size > 36 else []) and spare(header) == 0


GOOD = tensor("a", [8])
HOSTILE = {
    "empty": (b"", "ends inside the first 4 bytes"),
    "magic": (gguf_bytes(magic=b"GGML"), "is not a GGUF file"),
    "swapped magic": (gguf_bytes(magic=b"FUGG"), "byte-swapped"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is a big-endian GGUF file"),
    "version 0": (gguf_bytes(version=0), "is GGUF version 0"),
    "version 1": (gguf_bytes(version=1), "is GGUF version 1"),
    "version 4": (gguf_bytes(version=4), "is GGUF version 4"),
    "2**63 tensors": (gguf_bytes(counts=(2**63, 0)), "claims 9,223,372,036,854,775,808 tensors"),
    "2**63 keys": (gguf_bytes(counts=(0, 2**63)), "claims 9,223,372,036,854,775,808 metadata keys"),
    "more tensors than bytes": (gguf_bytes(counts=(1000, 0)), "claims 1,000 tensors but has only"),
    "more keys than bytes": (gguf_bytes(counts=(0, 1000)), "claims 1,000 metadata keys but has only"),
    "missing tensor": (gguf_bytes([], [GOOD], bytes(32), counts=(2, 0)), "has tensor 1 named b''"),
    "key too long": (gguf_bytes([pair("k" * 65536, 0, b"\0")]), "65,536 bytes in metadata key 0"),
    "key of 2**64-1": (gguf_bytes([struct.pack("<Q", 2**64 - 1) + bytes(9)]), "bytes in metadata key 0"),
    "key empty": (gguf_bytes([pair("", 0, b"\0")]), "must be printable ASCII"),
    "key not ASCII": (gguf_bytes([pair("ä", 0, b"\0")]), "must be printable ASCII"),
    "key with escape": (gguf_bytes([pair("a\x1b[2J", 0, b"\0")]), "must be printable ASCII"),
    "key twice": (gguf_bytes([pair("k", 0, b"\0"), pair("k", 0, b"\1")]), "has metadata key 'k' twice"),
    "value type": (gguf_bytes([pair("k", 13, bytes(99))]), "unknown value type 13"),
    "item type": (gguf_bytes([pair("k", 9, array(99, 0, b""))]), "unknown value type 99"),
    "bool of 2": (gguf_bytes([pair("k", 7, b"\2")]), "neither 0 nor 1"),
    "bools of 2": (gguf_bytes([pair("k", 9, array(7, 3, b"\0\1\2"))]), "neither 0 nor 1"),
    "string of 2**63": (gguf_bytes([pair("k", 8, struct.pack("<Q", 2**63))]), "in the value of 'k'"),
    "string past the end": (gguf_bytes([pair("k", 8, struct.pack("<Q", 1000))]), "ends inside the value of 'k'"),
    "array of 2**63": (gguf_bytes([pair("k", 9, array(4, 2**63, b""))]), "elements in the value of 'k'"),
    "array past the end": (gguf_bytes([pair("k", 9, array(12, 100, b""))]), "claims 100 elements"),
    "strings past the end": (gguf_bytes([pair("k", 9, array(8, 100, b""))]), "claims 100 elements"),
    "nested too deep": (gguf_bytes([pair("k", 9, array(9, 1, b"") * 40)]), "nested more than 4 deep"),
    "nested 2**40 wide": (gguf_bytes([pair("k", 9, array(9, 2**40, b""))]), "elements in the value of 'k'"),
    "alignment 0": (gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 0))]), "general.alignment 0"),
    "alignment 4": (gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 4))]), "power of two"),
    "alignment 24": (gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 24))]), "power of two"),
    "alignment 2**31": (gguf_bytes([pair("general.alignment", 4, struct.pack("<I", 2**31))]), "power of two"),
    "alignment text": (gguf_bytes([pair("general.alignment", 8, string("32"))]), "type STRING"),
    "alignment u64": (gguf_bytes([pair("general.alignment", 10, struct.pack("<Q", 32))]), "type UINT64"),
    "tensor name empty": (gguf_bytes([], [tensor("", [8])], bytes(32)), "must be printable UTF-8"),
    "tensor name cut": (gguf_bytes([], [tensor(b"a\xe6", [8])], bytes(32)), "must be printable UTF-8"),
    "tensor name with NUL": (gguf_bytes([], [tensor("a\0b", [8])], bytes(32)), "must be printable UTF-8"),
    "tensor name too long": (gguf_bytes([], [tensor("a" * 65, [8])], bytes(32)), "65 bytes in the name of tensor 0"),
    "tensor twice": (gguf_bytes([], [GOOD, tensor("a", [8], 0, 32)], bytes(64)), "two tensors named 'a'"),
    "no dimensions": (gguf_bytes([], [tensor("a", []) + bytes(8)], bytes(32)), "0 dimensions"),
    "five dimensions": (gguf_bytes([], [tensor("a", [1] * 5)], bytes(32)), "5 dimensions"),
    "2**32-1 dimensions": (gguf_bytes([], [string("a") + b"\xff" * 32], bytes(32)), "4,294,967,295 dimensions"),
    "zero columns": (gguf_bytes([], [tensor("a", [0, 8])], bytes(32)), "impossible shape"),
    "zero rows": (gguf_bytes([], [tensor("a", [8, 0])], bytes(32)), "impossible shape"),
    "elements overflow": (gguf_bytes([], [tensor("a", [2**32, 2**31])], bytes(32)), "impossible shape"),
    "elements wrap to 1": (gguf_bytes([], [tensor("a", [2**63 + 1, 2])], bytes(32)), "impossible shape"),
    "bytes overflow": (gguf_bytes([], [tensor("a", [2**61])], bytes(32)), "impossible shape"),
    "unknown type, nothing left": (gguf_bytes([], [GOOD, tensor("b", [8], 99, 32)], bytes(32)), "'b' ends at byte"),
    "unknown type, past the end": (gguf_bytes([], [GOOD, tensor("b", [8], 99, 64)], bytes(32)), "'b' ends at byte"),
    "unknown type, same place": (
        gguf_bytes([], [tensor("a", [8], 4), tensor("b", [8])], bytes(32)),
        "inside the tensor",
    ),
    "unknown type, misaligned": (gguf_bytes([], [tensor("a", [8], 99, 16)], bytes(64)), "not a multiple of its"),
    "unknown type, no columns": (gguf_bytes([], [tensor("a", [0], 2**32 - 1)], bytes(32)), "impossible shape"),
    "part of a block": (gguf_bytes([], [tensor("a", [128, 2], 12)], bytes(144)), "rows of 128, not a multiple of Q4_K"),
    "misaligned": (gguf_bytes([], [tensor("a", [8], 0, 16)], bytes(64)), "not a multiple of its alignment"),
    "past the end": (gguf_bytes([], [tensor("a", [9])], bytes(32)), "'a' ends at byte"),
    "offset 2**64-32": (gguf_bytes([], [tensor("a", [8], 0, 2**64 - 32)], bytes(32)), "'a' ends at byte"),
    "overlap": (gguf_bytes([], [tensor("a", [16]), tensor("b", [8], 0, 32)], bytes(64)), "inside the tensor before it"),
    "same place": (gguf_bytes([], [GOOD, tensor("b", [8])], bytes(32)), "inside the tensor before it"),
    "tensor cut": (gguf_bytes([], [tensor("a", [9])], bytes(35)), "'a' ends at byte"),
    "padding and a byte": (gguf_bytes([], [tensor("a", [9])], bytes(65)), "its last tensor with padding ends"),
    "trailing byte": (gguf_bytes([], [GOOD], bytes(33)), "its last tensor with padding ends"),
    "trailing bytes, no tensors": (gguf_bytes([], [], bytes(33)), "although it holds no tensors"),
    "hidden before the data": (gguf_bytes([], [GOOD + b"x"], bytes(32)), "other than zero in its padding"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_get_one_sentence(case: str) -> None:
    data, expected = HOSTILE[case]
    with pytest.raises(FormatError, match=expected) as caught:
        parse(data)
    message = str(caught.value)
    assert message.startswith("x.gguf ")
    assert message.isprintable()
    assert len(message) < 300


class Vast(io.BytesIO):
    """A short header in front of a terabyte of zeros."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 1 << 40 if whence == io.SEEK_END else super().seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size).ljust(size or 0, b"\0")


def nested(count: int) -> bytes:
    """A pair with an array of empty arrays, which are held against the number of items all the same."""
    return pair("nested", 9, array(9, count, array(0, 0, b"") * count))


MOST = gguf.MAX_ITEMS // gguf.NESTED_ARRAY_ITEMS
BOMBS = {
    "numbers": (pair("k", 9, array(0, 1 << 39, b"")), "claims 549,755,813,888 elements in the value of 'k'"),
    "strings": (pair("k", 9, array(8, 1 << 36, b"")), "claims 68,719,476,736 elements in the value of 'k'"),
    "arrays": (pair("k", 9, array(9, 1 << 36, b"")), "claims 68,719,476,736 elements in the value of 'k'"),
    "arrays, one too many": (nested(MOST + 1), "claims 32,769 elements in the value of 'nested', more than the 32,768"),
    "one string": (
        pair("k", 8, struct.pack("<Q", 1 << 39)),
        "has 549,755,813,888 bytes in the value of 'k', more than",
    ),
    "a long header": (pair("k", 8, struct.pack("<Q", 1 << 26)), "has a header of more than 67,108,864 bytes"),
}


@pytest.mark.parametrize(("pairs", "words"), BOMBS.values(), ids=list(BOMBS))
def test_bombs_are_refused_before_memory_is_spent(pairs: bytes, words: str) -> None:
    head = gguf_bytes([pairs], counts=(0, 2))
    tracemalloc.start()
    with pytest.raises(FormatError, match=words):
        read_header(Vast(head), "x.gguf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(("tensors", "keys"), [(1 << 34, 0), (0, 1 << 34)])
def test_counts_that_no_file_has(tensors: int, keys: int) -> None:
    with pytest.raises(FormatError, match=r"claims 17,179,869,184 .* more than the"):
        read_header(Vast(gguf_bytes(counts=(tensors, keys))), "x.gguf")


def test_items_of_all_arrays_are_counted_together() -> None:
    begun = nested(MOST - 1)
    parse(gguf_bytes([begun, pair("k", 9, array(8, 64, string("") * 64))]))
    with pytest.raises(FormatError, match="claims 65 elements in the value of 'k', more than the 64 allowed"):
        parse(gguf_bytes([begun, pair("k", 9, array(8, 65, string("") * 65))]))


@given(st.data())
@settings(max_examples=500, deadline=2000, derandomize=True, database=None)
def test_flipped_bytes_give_a_header_or_a_format_error(small_gguf: bytes, data: st.DataObject) -> None:
    mutated = bytearray(small_gguf)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(small_gguf) - 1))
        mutated[at : at + data.draw(st.sampled_from([0, 1, 1, 1, 8]))] = data.draw(st.binary(min_size=1, max_size=8))
    try:
        header = parse(bytes(mutated))
    except FormatError:
        return
    assert all(tensor.offset + tensor.nbytes <= len(mutated) for tensor in header.tensors)


@given(st.binary(max_size=400), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=500, deadline=2000, derandomize=True, database=None)
def test_garbage_gives_a_header_or_a_format_error(garbage: bytes, tensors: int, keys: int) -> None:
    for head in (b"", b"GGUF", b"GGUF" + struct.pack("<IQQ", 3, tensors, keys)):
        with contextlib.suppress(FormatError):
            parse(head + garbage)
