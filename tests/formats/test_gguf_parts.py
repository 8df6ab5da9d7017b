"""requant.formats.gguf_parts: a model in several files is one, whoever split it; parts of others are told in a sentence."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from requant.formats.gguf import Header, read_header
from requant.formats.gguf_parts import MAX_PARTS, Joined, files_of, models, part_names, read_gguf
from requant.ground.errors import FormatError
from requant.places.place import LocalPlace
from support.gguf_files import gguf_bytes, pair, string, tensor
from support.memory_file import Memory
from support.splits import split, split_keys

VALUES = {f"t{index}": np.full((index + 1, 3), index, np.float32) for index in range(5)}


def write(path: Path, limit: int = 0, small_first: bool = False) -> Path:
    """Let gguf-py write a model, split by itself where there is a limit."""
    writer = GGUFWriter(path, "llama", split_max_tensors=limit, small_first_shard=small_first)
    writer.add_name("A model")
    for name, values in VALUES.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def opened(folder: Path, name: str) -> tuple[Header, dict[str, bytes]]:
    """The header of a model in a folder, and the bytes of its tensors."""
    with LocalPlace(folder, "here") as place:
        file, header = read_gguf(place, name)
        assert file.size == header.size == sum(part.size for _, part in files_of(header))
        pieces = file.read_many([(each.offset, each.nbytes) for each in header.tensors])
        return header, dict(zip((each.name for each in header.tensors), pieces, strict=True))


WANTED = {name: values.tobytes() for name, values in VALUES.items()}
WRITTEN: dict[str, Callable[[Path], object]] = {
    "by gguf-py": lambda folder: write(folder / "M.gguf", 2),
    "by gguf-py, the first without tensors": lambda folder: write(folder / "M.gguf", 2, small_first=True),
    "by hand": lambda folder: split(write(folder / "M.gguf"), folder, [2, 2, 1]),
    "by hand, the first without tensors": lambda folder: split(write(folder / "M.gguf"), folder, [0, 4, 1]),
}


@pytest.mark.parametrize("made", WRITTEN.values(), ids=list(WRITTEN))
def test_any_part_names_them_all(tmp_path: Path, made: Callable[[Path], object]) -> None:
    made(tmp_path)
    whole = write(tmp_path / "whole.gguf")
    names = sorted(path.name for path in tmp_path.glob("M-*"))
    assert len(names) in (3, 4) and [part_names(name) for name in names] == [names] * len(names)
    for name in names:
        header, found = opened(tmp_path, name)
        assert found == WANTED
        assert header.name == f"here/{names[0]} ({len(names)} parts)"
        assert [part.name for part in header.parts] == [f"here/{name}" for name in names]
        keys = {key: value for key, value in header.metadata.items() if not key.startswith("split.")}
        assert keys == read_header(whole).metadata
    # What was cut by hand is what the gguf package reads.
    theirs = [each for name in names for each in GGUFReader(tmp_path / name).tensors]
    assert {each.name: each.data.tobytes() for each in theirs} == WANTED


def test_a_whole_model_has_one_file(tmp_path: Path) -> None:
    write(tmp_path / "M.gguf")
    header, found = opened(tmp_path, "M.gguf")
    assert (found, header.parts, [*files_of(header)]) == (WANTED, (), [(0, header)])


def test_models_of_a_listing() -> None:
    split_ones = [f"b/M-0000{number}-of-00003.gguf" for number in (2, 3)]
    odd = ["N-00002-of-00001.gguf", f"N-00001-of-{MAX_PARTS + 1:05}.gguf", "README.md", "x.gguf"]
    assert models([*split_ones, *odd]) == [odd[1], odd[0], split_ones[0], "x.gguf"]


INFOS, DATA = [tensor("t9", [8])], bytes(32)


def again(part: Path, pairs: list[bytes], infos: list[bytes] = INFOS) -> None:
    part.write_bytes(gguf_bytes(pairs, infos, DATA if infos else b""))


KEYS = split_keys(1, 3, 5)
WRONG: dict[str, tuple[Callable[[list[Path]], object], str]] = {
    "a missing part": (lambda parts: parts[1].unlink(), "is one of 3 parts, of which 1 is missing (M-00002-of-00003.gguf): get all of them"),
    "no first part": (lambda parts: parts[0].unlink(), "is one of 3 parts, of which 1 is missing (M-00001-of-00003.gguf): get all of them"),
    "another part under its name": (lambda parts: parts[1].write_bytes(parts[2].read_bytes()), "M-00002-of-00003.gguf has split.no 2, expected 1: it is no part of here/M-00001-of-00003.gguf"),
    "another first": (lambda parts: parts[0].write_bytes(parts[2].read_bytes()), "M-00001-of-00003.gguf has split.no 2, expected 0"),
    "a part of more": (lambda parts: again(parts[1], split_keys(1, 4, 5)), "M-00002-of-00003.gguf has split.count 4, expected 3"),
    "a part of another model": (lambda parts: again(parts[1], split_keys(1, 3, 6)), "has split.tensors.count 6, expected 5"),
    "no part at all": (lambda parts: again(parts[1], []), "M-00002-of-00003.gguf has split.no None, expected 1"),
    "a tensor less": (lambda parts: again(parts[1], KEYS), "speaks of 5 tensors, and its parts hold 4: get all of them again"),
    "a tensor twice": (lambda parts: again(parts[1], KEYS, [tensor("t4", [8])]), "M-00003-of-00003.gguf holds the tensor 't4' once more: it is a part of another model"),
    "a key of its own": (lambda parts: again(parts[1], [*KEYS, pair("tokenizer.chat_template", 8, string("x"))]), "holds the key 'tokenizer.chat_template', which here/M-00001-of-00003.gguf has not so"),
    "another name": (lambda parts: again(parts[1], [*KEYS, pair("general.name", 8, string("B"))]), "holds the key 'general.name'"),
    "a text for a number": (lambda parts: again(parts[1], [pair("split.no", 8, string("1"))]), "has a split.no that is no number of things: it is damaged"),
    "a long header": (lambda parts: again(parts[1], [*KEYS, pair("split.x", 8, string("x" * (1 << 21)))]), "has a header of 2,097,"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_missing_and_foreign_parts_are_one_sentence(tmp_path: Path, case: str) -> None:
    change, said = WRONG[case]
    parts = split(write(tmp_path / "M.gguf"), tmp_path, [2, 2, 1])
    change(parts)
    last = parts[-1].name
    with pytest.raises(FormatError, match=re.escape(said)) as caught:
        opened(tmp_path, last)
    assert str(caught.value).startswith("here/M-0000") and str(caught.value).isprintable()


NAMES: dict[str, tuple[int, str, str]] = {
    "no part's name": (0, "M.gguf", "is one of 3 parts by its header, and not by its name: give it the form NAME-00001-of-00003.gguf"),
    "a part of fewer": (2, "N-00002-of-00002.gguf", "is one of 3 parts by its header, and not by its name"),
}  # fmt: skip


@pytest.mark.parametrize(("number", "name", "said"), NAMES.values(), ids=list(NAMES))
def test_a_part_under_another_name(tmp_path: Path, number: int, name: str, said: str) -> None:
    parts = split(write(tmp_path / "whole.gguf"), tmp_path, [2, 2, 1], "M")
    parts[number].rename(tmp_path / name)
    with pytest.raises(FormatError, match=re.escape(said)):
        opened(tmp_path, name)


def test_a_whole_model_under_a_parts_name(tmp_path: Path) -> None:
    write(tmp_path / "M-00001-of-00002.gguf")
    said = "is a whole model by its header, and not by its name: give it the form NAME.gguf"
    with pytest.raises(FormatError, match=re.escape(said)):
        opened(tmp_path, "M-00001-of-00002.gguf")
    write(tmp_path / "M-00001-of-00001.gguf")
    assert opened(tmp_path, "M-00001-of-00001.gguf")[1] == WANTED


@pytest.mark.parametrize("sizes", [(7,), (3, 0, 4), (1, 1, 1, 1), (0, 5)])
def test_any_range_of_files_on_end(sizes: tuple[int, ...]) -> None:
    """Every range, in one request of every file that has a part of it."""
    data = bytes(range(1, sum(sizes) + 1))
    cuts = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
    files = [Memory(data[start:stop]) for start, stop in pairwise(cuts)]
    joined = Joined(files)
    every = [(start, length) for start in range(len(data) + 1) for length in range(len(data) + 1 - start)]
    assert joined.read_many(every) == [data[start : start + length] for start, length in every]
    assert all(joined.read(start, length) == data[start : start + length] for start, length in every)
    for start, length in ((0, len(data) + 1), (-1, 1), (len(data), 1)):
        with pytest.raises(FormatError, match="truncated or damaged"):
            joined.read(start, length)


def test_places_count_from_the_first_file_on(tmp_path: Path) -> None:
    parts = split(write(tmp_path / "M.gguf"), tmp_path, [0, 4, 1])
    header, _ = opened(tmp_path, parts[0].name)
    data = b"".join(part.read_bytes() for part in parts)
    for start, part in files_of(header):
        own = [replace(each, offset=start + each.offset) for each in part.tensors]
        assert own == [each for each in header.tensors if start <= each.offset < start + part.size]
        assert data[start : start + 4] == b"GGUF" and struct.unpack_from("<I", data, start + 4) == (3,)
