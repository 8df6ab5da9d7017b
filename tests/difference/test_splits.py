"""requant diff of split models, and of tensors whose type llama.cpp does not have."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from requant.difference.diff import as_document, diff
from requant.difference.ggufs import GGUFDiff
from requant.formats.gguf import read_header
from requant.ground.errors import FormatError
from support.gguf_files import gguf_bytes, pair, string, tensor, write_model
from support.splits import split


def never() -> None:
    raise AssertionError("no quantized tensor differs")


def compared(a: Path, b: Path) -> GGUFDiff:
    found = diff(a, b, never)
    assert isinstance(found.found, GGUFDiff) and as_document(found)["same"] is found.same
    return found.found


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    tensors = {f"t{index}.weight": (np.full((4, 8), index, np.float32), None) for index in range(5)}
    return write_model(tmp_path / "whole.gguf", tensors)


def test_any_part_stands_for_all(whole: Path, tmp_path: Path) -> None:
    a, b = (split(whole, tmp_path / name, [0, 2, 3], "M") for name in "ab")
    assert compared(a[1], b[2]).same
    [place] = [each for each in read_header(b[2]).tensors if each.name == "t4.weight"]
    data = bytearray(b[2].read_bytes())
    data[place.offset + 9] ^= 1
    b[2].write_bytes(data)
    [changed] = compared(a[0], b[0]).tensors
    assert (changed.name, changed.bytes) == ("t4.weight", 1)


def test_a_split_model_against_the_whole(whole: Path, tmp_path: Path) -> None:
    """The same tensors in the same order; what splitting adds is told."""
    parts = split(whole, tmp_path / "a", [2, 3])
    found = compared(parts[0], whole)
    assert [(change.place, change.a, change.b) for change in found.layout] == [("number of files", "2", "1")]
    assert [change.place for change in found.keys] == ["split.no", "split.tensors.count", "split.count"]
    assert (found.tensors, found.unmatched, found.equal) == ((), (), 5)


def test_a_missing_part_is_said_of_its_side(whole: Path, tmp_path: Path) -> None:
    a, b = (split(whole, tmp_path / name, [2, 2, 1], "M") for name in "ab")
    b[1].unlink()
    said = "B: M-00003-of-00003.gguf is one of 3 parts, of which 1 is missing (M-00002-of-00003.gguf): get all of them"
    with pytest.raises(FormatError, match=re.escape(said)):
        diff(a[0], b[2], never)


def test_types_that_llama_cpp_does_not_have(tmp_path: Path) -> None:
    """Compared byte by byte, up to the next tensor."""
    keys, infos = [pair("general.architecture", 8, string("x"))], [tensor("a", [64], 144), tensor("b", [8], 0, 64)]
    data = bytes(range(64)) + bytes(32)
    a, b, c = (tmp_path / f"{name}.gguf" for name in "abc")
    a.write_bytes(gguf_bytes(keys, infos, data))
    b.write_bytes(gguf_bytes(keys, infos, b"\7\7" + data[2:]))
    c.write_bytes(gguf_bytes(keys, [tensor("a", [64], 145), infos[1]], data))
    assert compared(a, a).same
    [changed] = compared(a, b).tensors
    assert (changed.name, changed.bytes, changed.of_bytes, changed.relative) == ("a", 2, 64, None)
    [changed] = compared(a, c).tensors
    assert ([kind.name for kind in changed.types], changed.bytes) == (["TYPE_144", "TYPE_145"], None)
