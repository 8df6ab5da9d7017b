"""requant.audit.weights.passage: every byte of a file passes once, in order; padding that hides something is seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from requant.audit.weights.passage import DRAWN, WINDOW, Padding, Passage, look_between
from requant.formats.gguf import Header, Tensor, read_header
from requant.formats.gguf_parts import read_gguf
from requant.formats.ranged import LocalFile
from requant.ground.digests import CHUNK
from requant.ground.errors import FormatError
from support.gguf_files import gguf_bytes, pair, parse, tensor
from support.memory_file import Memory
from support.splits import split_keys

U32 = 4


def file_with(gap: bytes, *, alignment: int = 32, first: int = 96) -> bytes:
    """Two F32 vectors, 24 and 8 numbers long, with something between them."""
    second = first + len(gap)
    infos = [tensor("a.weight", (first // 4,)), tensor("b.weight", (alignment // 4,), 0, second)]
    pairs = [pair("general.alignment", U32, alignment.to_bytes(4, "little"))] if alignment != 32 else []
    data = bytes(range(first)) + gap + b"\7" * alignment
    return gguf_bytes(pairs, infos, data, alignment=alignment)


def passed(data: bytes, step: int, jobs: int = 2) -> tuple[Passage, list[tuple[str, int, bytes]]]:
    passage = Passage(Memory(data), parse(data))
    return passage, [(found.name, start, piece) for found, start, piece in passage.pieces(lambda _: step, jobs)]


@pytest.mark.parametrize("step", [4, 20, 96, 1000])
@pytest.mark.parametrize("jobs", [1, 3])
def test_every_byte_once_and_in_order(step: int, jobs: int) -> None:
    data = file_with(bytes(32))
    passage, pieces = passed(data, step, jobs)
    assert passage.sha256s == (hashlib.sha256(data).hexdigest(),)
    for name, wanted in (("a.weight", bytes(range(96))), ("b.weight", b"\7" * 32)):
        mine = [(start, piece) for found, start, piece in pieces if found == name]
        assert b"".join(piece for _, piece in mine) == wanted
        assert [start for start, _ in mine] == list(range(0, len(wanted), step))
        assert passage.digests[name] == hashlib.sha256(wanted).hexdigest()
    assert passage.padding == Padding(32, 0, 32), "a gap of zeros that no alignment asks for"


def test_a_large_file_passes_in_pieces(tmp_path: Path) -> None:
    data = file_with(bytes(3 * CHUNK))
    (tmp_path / "x.gguf").write_bytes(data)
    with LocalFile(tmp_path / "x.gguf") as file:
        passage = Passage(file, parse(data))
        assert [found.name for found, _, _ in passage.pieces(lambda _: CHUNK, 2)] == ["a.weight", "b.weight"]
    assert (passage.sha256s, passage.padding.size) == ((hashlib.sha256(data).hexdigest(),), 3 * CHUNK)


@pytest.mark.parametrize(("gap", "alignment", "first"), [
    (b"\0" * 31 + b"x", 32, 96), (b"secret" + bytes(26), 32, 96), (b"\1" * 928, 1024, 96),
])  # fmt: skip
def test_what_hides_between_tensors_is_counted(gap: bytes, alignment: int, first: int) -> None:
    data = file_with(gap, alignment=alignment, first=first)
    hidden = len(gap.replace(b"\0", b""))
    assert passed(data, 4096)[0].padding.hidden == hidden
    assert look_between(Memory(data), parse(data), 1) == Padding(len(gap), hidden, 32 if alignment == 32 else 0)


def test_a_sample_looks_into_long_gaps_at_places_that_nobody_knows() -> None:
    gap = bytearray(1 << 20)
    header = parse(file_with(bytes(gap)))
    seeds, seen = (0, 1, (1 << 53) + 1, 1 << 63, (1 << 63) + 1, (1 << 64) - 2, (1 << 64) - 1), set()
    for seed in seeds:
        file = Memory(file_with(bytes(gap)))
        found = look_between(file, header, seed)
        assert (found.hidden, found.spare) == (0, 1 << 20)
        assert 2 * WINDOW <= found.size <= (DRAWN + 2) * WINDOW
        seen.add(tuple(file.reads))
    assert len(seen) == len(seeds)
    for place in (0, len(gap) - 1):
        full = bytearray(gap)
        full[place] = 1
        assert look_between(Memory(file_with(bytes(full))), header, 1).hidden == 1, "the ends are always read"


def test_where_a_seed_looks_never_changes() -> None:
    """A report names its seed, so that others see the same."""
    file = Memory(file_with(bytes(1 << 20)))
    look_between(file, parse(file_with(bytes(1 << 20))), 7)
    assert [start for start, _ in file.reads][:4] == [224, 40807, 116354, 206807]


class Parts:
    """Two parts of a model in memory; the second has something between its tensors."""

    shown = "here"
    names = ("M-00001-of-00002.gguf", "M-00002-of-00002.gguf")

    def __init__(self, gap: bytes) -> None:
        infos = [tensor("a.weight", (24,)), tensor("b.weight", (8,), 0, 96 + len(gap))]
        self.data = (
            gguf_bytes(split_keys(0, 2, 3), [tensor("c.weight", (9,))], b"\1" * 36 + bytes(28)),
            gguf_bytes(split_keys(1, 2, 3), infos, bytes(range(96)) + gap + b"\7" * 32),
        )

    def open(self, name: str) -> Memory:
        return Memory(self.data[self.names.index(name)])


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_part_has_a_digest_of_its_own(jobs: int) -> None:
    """And its own padding, none of which is looked over."""
    parts = Parts(b"x" + bytes(31))
    file, header = read_gguf(parts, parts.names[1])
    passage = Passage(file, header)
    found: dict[str, bytes] = {}
    for each, start, piece in passage.pieces(lambda _: 20, jobs):
        assert start == len(found.setdefault(each.name, b""))
        found[each.name] += piece
    assert found == {"c.weight": b"\1" * 36, "a.weight": bytes(range(96)), "b.weight": b"\7" * 32}
    assert passage.sha256s == tuple(hashlib.sha256(part).hexdigest() for part in parts.data)
    assert passage.padding == Padding(28 + 32, 1, 32) == look_between(file, header, 1)


def test_a_header_of_a_later_part_that_changed_is_noticed() -> None:
    parts = Parts(b"")
    file, header = read_gguf(parts, parts.names[0])
    later = b"".join(parts.data).replace(b"a.weight", b"d.weight")
    passage = Passage(Changing(b"".join(parts.data), later), header)
    with pytest.raises(FormatError, match="changed while it was read: leave it alone and try again"):
        list(passage.pieces(lambda _: 4096, 2))
    assert file.size == len(later)


class Changing(Memory):
    """A file that somebody overwrites in place once its header has been parsed."""

    def __init__(self, data: bytes, later: bytes) -> None:
        super().__init__(data)
        self.later = later

    def read(self, offset: int, length: int) -> bytes:
        return self.later[offset : offset + length]


def test_a_header_that_changed_is_noticed() -> None:
    data = file_with(bytes(32))
    later = data.replace(b"a.weight", b"c.weight")
    passage = Passage(Changing(data, later), parse(data))
    with pytest.raises(FormatError, match=r"x\.bin changed while it was read: leave it alone and try again"):
        list(passage.pieces(lambda _: 4096, 2))


def test_the_digest_is_that_of_the_bytes_that_were_handed_out() -> None:
    """Whatever the file holds afterwards: nothing is read a second time for it."""
    data = file_with(bytes(32))
    later = data[:-1] + b"\1"
    passage = Passage(Changing(data, later), parse(data))
    pieces = b"".join(piece for found, _, piece in passage.pieces(lambda _: 4096, 2) if found.name == "b.weight")
    assert (pieces, passage.sha256s) == (b"\7" * 31 + b"\1", (hashlib.sha256(later).hexdigest(),))


def test_a_file_that_shrinks_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(file_with(bytes(32)))
    with LocalFile(path) as file, path.open("rb") as again:
        header: Header = read_header(again, "x.gguf")
        path.write_bytes(path.read_bytes()[:-64])
        with pytest.raises(FormatError, match="shrank while it was read"):
            list(Passage(file, header).pieces(_whole, 2))


def _whole(found: Tensor) -> int:
    return found.nbytes


def test_padding_is_that_of_numpy() -> None:
    """A count of bytes, not of words: every value but zero counts, wherever it stands."""
    gap = np.random.default_rng(1).integers(0, 2, 4096).astype(np.uint8).tobytes()
    assert passed(file_with(gap), 4096)[0].padding.hidden == sum(gap)
