"""requant.formats.ranged: exactly the bytes that were asked for, or one sentence and nothing read."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.formats.gguf import read_header
from requant.formats.ranged import FIRST_WINDOW, LocalFile, as_file, read_whole
from requant.ground.errors import FormatError, SourceError
from support.gguf_files import gguf_bytes, pair, string, tensor
from support.memory_file import Memory

DATA = bytes(range(256)) * 4


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalFile]:
    path = tmp_path / "x.bin"
    path.write_bytes(DATA)
    with LocalFile(path) as file:
        yield file


def test_reads(local: LocalFile) -> None:
    assert (local.name, local.size, local.path.name) == ("x.bin", 1024, "x.bin")
    assert local.read(3, 5) == DATA[3:8]
    assert local.read(1024, 0) == b""
    assert local.read_many([(1000, 24), (0, 1), (1000, 24), (5, 0)]) == [DATA[1000:], b"\0", DATA[1000:], b""]


OUTSIDE = {
    "behind the end": (1024, 1),
    "over the end": (1000, 25),
    "before the start": (-1, 1),
    "less than nothing": (5, -1),
    "huge": (0, 1 << 62),
    "huge and far": (1 << 63, 1 << 63),
}


@pytest.mark.parametrize("asked", OUTSIDE.values(), ids=list(OUTSIDE))
def test_nothing_outside_is_read(local: LocalFile, asked: tuple[int, int]) -> None:
    with pytest.raises(FormatError, match=r"^x\.bin has 1,024 bytes, so not .*: it is truncated or damaged$"):
        local.read(*asked)
    with pytest.raises(FormatError, match="truncated or damaged"):
        local.read_many([(0, 1), asked])


def test_a_file_that_shrinks(local: LocalFile) -> None:
    os.truncate(local.path, 10)
    with pytest.raises(FormatError, match=r"^x\.bin shrank while it was read"):
        local.read(5, 10)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="pipe is no regular file"):
        LocalFile(tmp_path / "pipe")
    with pytest.raises(SourceError, match="absent cannot be opened"):
        LocalFile(tmp_path / "absent")
    with pytest.raises(SourceError, match="cannot be opened"):
        LocalFile(tmp_path / "nul\0")


def test_closing_twice(local: LocalFile) -> None:
    local.close()
    local.close()
    with pytest.raises(SourceError, match="cannot be read"):
        local.read(0, 1)


@given(st.lists(st.tuples(st.integers(0, 1100), st.integers(-1, 300)), max_size=20))
def test_as_file_reads_as_a_file_does(steps: list[tuple[int, int]]) -> None:
    file = as_file(Memory(DATA))
    for position, count in steps:
        assert file.seek(position) == position
        assert file.read(count) == DATA[position : position + count if count >= 0 else None]
    assert file.seek(0, os.SEEK_END) == 1024
    assert file.seek(-4, os.SEEK_CUR) == 1020
    assert file.read() == DATA[-4:]


def test_a_header_in_few_requests() -> None:
    """A vocabulary of 12 MB, string by string."""
    words = b"".join(string(f"{number:040d}") for number in range(250_000))
    array = (8).to_bytes(4, "little") + (250_000).to_bytes(8, "little") + words
    file = Memory(gguf_bytes([pair("tokens", 9, array)], [tensor("a", [32])], bytes(128)))
    header = read_header(as_file(file), file.name)
    assert len(header.metadata["tokens"].value) == 250_000
    assert header.name == "x.bin"
    assert len(file.reads) <= 8
    assert sum(length for _, length in file.reads) == file.size, "no byte twice"


def test_a_short_header_in_one_request() -> None:
    file = Memory(gguf_bytes([], [tensor("a", [1 << 20])], bytes(1 << 22)))
    read_header(as_file(file), file.name)
    assert file.reads == [(0, FIRST_WINDOW)]


def test_whole(local: LocalFile) -> None:
    assert read_whole(local, 1024, "an index") == DATA
    with pytest.raises(FormatError, match=r"has 1,024 bytes, more than the 1,023 that an index may have"):
        read_whole(local, 1023, "an index")
