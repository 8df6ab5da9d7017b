"""requant.difference.diff: what differs between two of a kind is named and measured, and nothing else is."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.difference.diff import as_document, as_text, diff
from requant.difference.ggufs import GGUFDiff
from requant.difference.releases import ReleaseDiff, changes
from requant.formats.ggml import GGMLType
from requant.ground.canonical import canonical
from requant.ground.errors import FormatError, RequantError, ToolError
from support.gguf_files import array, gguf_bytes, pair, string, tensor
from support.small_release import QUANT, resum, write_release

F32, F16, Q8_0, BF16, Q8_1, F64 = 0, 1, 8, 30, 9, 28
MODEL, NAME = pair("general.architecture", 8, string("qwen3")), pair("general.name", 8, string("x"))


class Q8:
    """Dequantizes Q8_0 as llama.cpp does, and counts how often it was opened."""

    opened = 0

    def open(self) -> Any:
        self.opened += 1
        return self

    def dequantize(self, kind: GGMLType, data: np.ndarray, columns: int) -> np.ndarray:
        assert kind is GGMLType.Q8_0
        blocks = data.reshape(-1, 34)
        scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        return (blocks[:, 2:].view(np.int8) * scales).reshape(1, columns)


def never() -> Any:
    raise AssertionError("no quantized tensor differs")


def q8(*blocks: tuple[float, int]) -> bytes:
    """Blocks of a scale and one value for all 32 weights."""
    return b"".join(np.float16(scale).tobytes() + np.full(32, value, np.int8).tobytes() for scale, value in blocks)


def write(
    path: Path,
    tensors: Sequence[tuple[str, Sequence[int], int, bytes]],
    pairs: Sequence[bytes] = (MODEL,),
    **options: Any,
) -> Path:
    infos, data = [], b""
    for name, shape, kind, values in tensors:
        infos.append(tensor(name, shape, kind, len(data)))
        data += values + bytes(-len(values) % 32)
    path.write_bytes(gguf_bytes(pairs, infos, data, **options))
    return path


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


ONE = ("one", [4], F32, floats(1, 2, 3, 4))
BLOCKS = ("q", [32, 2], Q8_0, q8((1, 3), (1, 4)))


def found(a: Path, b: Path, quantizer: Any = never) -> GGUFDiff:
    outcome = diff(a, b, quantizer)
    canonical(as_document(outcome))
    assert as_text(outcome).splitlines()[-1].startswith("same: " if outcome.same else "they differ in ")
    assert isinstance(outcome.found, GGUFDiff)
    return outcome.found


def test_a_file_and_itself(tmp_path: Path) -> None:
    a, b = (write(tmp_path / name, [ONE, BLOCKS]) for name in "ab")
    outcome = found(a, b)
    assert (outcome.same, outcome.equal) == (True, 2)


def test_keys_are_added_removed_and_changed(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [ONE], [MODEL, NAME, pair("n", 9, array(4, 2, bytes([1, 0, 0, 0, 2, 0, 0, 0])))])
    b = write(
        tmp_path / "b",
        [ONE],
        [pair("x.y", 4, bytes(4)), MODEL, pair("n", 9, array(4, 2, bytes([1, 0, 0, 0, 3, 0, 0, 0])))],
    )
    assert [(change.place, change.a, change.b) for change in found(a, b).keys] == [
        ("general.name", "'x'", "(absent)"),
        ("n", "item 1 of 2: 2", "item 1 of 2: 3"),
        ("x.y", "(absent)", "0"),
    ]


LAYOUTS = {
    "order of the keys": ([ONE], [MODEL, NAME], [NAME, MODEL], {}, {}),
    "GGUF version": ([ONE], [MODEL], [MODEL], {"version": 2}, {}),
}


@pytest.mark.parametrize("place", LAYOUTS)
def test_how_files_are_put_together(tmp_path: Path, place: str) -> None:
    tensors, pairs_a, pairs_b, options_a, options_b = LAYOUTS[place]
    outcome = found(
        write(tmp_path / "a", tensors, pairs_a, **options_a), write(tmp_path / "b", tensors, pairs_b, **options_b)
    )
    assert [change.place for change in outcome.layout] == [place]
    assert not outcome.same
    assert not outcome.keys


def test_tensors_that_are_elsewhere(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [ONE, BLOCKS])
    assert [change.place for change in found(a, write(tmp_path / "b", [BLOCKS, ONE])).layout] == [
        "order of the tensors",
        "place of one",
    ]
    # The same order in the header, the data exchanged.
    infos = [tensor("one", [4], F32, 96), tensor("q", [32, 2], Q8_0, 0)]
    c = tmp_path / "c"
    c.write_bytes(gguf_bytes([MODEL], infos, BLOCKS[3] + bytes(28) + ONE[3] + bytes(16)))
    assert [change.place for change in found(a, c).layout] == ["place of one"]


def test_tensors_of_one_file_or_another_shape(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [ONE, ("two", [2], F32, floats(1, 2)), BLOCKS])
    b = write(tmp_path / "b", [("one", [2, 2], F32, ONE[3]), BLOCKS, ("new", [2], F16, bytes(4))])
    assert [(change.place, change.a, change.b) for change in found(a, b).unmatched] == [
        ("one", "F32 [4]", "F32 [2, 2]"),
        ("two", "F32 [2]", "(absent)"),
        ("new", "(absent)", "F16 [2]"),
    ]


def test_plain_weights_are_measured_without_a_library(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [ONE])
    b = write(tmp_path / "b", [("one", [4], F32, floats(1, 2, 3, 7))])
    [row] = found(a, b).tensors
    assert (row.blocks, row.of_blocks, row.of_bytes) == (1, 4, 16)
    assert row.largest == 3
    assert row.relative == pytest.approx(3 / np.sqrt(1 + 4 + 9 + 49))
    assert found(b, a).tensors == (row,)


def test_blocks_are_counted_and_measured(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [ONE, BLOCKS])
    b = write(tmp_path / "b", [ONE, ("q", [32, 2], Q8_0, q8((1, 3), (1, 5)))])
    library = Q8()
    outcome = found(a, b, library.open)
    [row] = outcome.tensors
    assert (row.name, row.blocks, row.of_blocks, row.bytes, row.of_bytes) == ("q", 1, 2, 32, 68)
    assert row.relative == pytest.approx(np.sqrt(32 / (32 * 9 + 32 * 25)))
    assert (row.largest, outcome.equal, library.opened) == (1, 1, 1)


def test_other_types_of_one_shape(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [("w", [32], Q8_0, q8((0.5, 4)))])
    b = write(tmp_path / "b", [("w", [32], BF16, np.full(32, 0x4000, "<u2").tobytes())])
    [row] = found(a, b, Q8().open).tensors
    assert (row.types, row.relative, row.largest) == ((GGMLType.Q8_0, GGMLType.BF16), 0, 0)
    assert row.blocks is row.bytes is None


def test_what_has_no_number(tmp_path: Path) -> None:
    """NaN, numbers whose squares are infinite, and types that cannot be read."""
    values = {
        F64: (np.array([1e200, 1], "<f8"), np.array([1, 1], "<f8")),
        F16: (np.array([np.nan, 1], "<f2"), np.array([1, 1], "<f2")),
    }
    for kind, (one, other) in values.items():
        a, b = (write(tmp_path / name, [("w", [2], kind, data.tobytes())]) for name, data in (("a", one), ("b", other)))
        [row] = found(a, b).tensors
        assert row.relative is not None and not np.isfinite(row.relative)
    a, b = (write(tmp_path / name, [("w", [32], Q8_1, bytes([number]) * 40)]) for name, number in (("a", 1), ("b", 2)))
    [row] = found(a, b).tensors
    assert (row.bytes, row.relative) == (40, None)


def test_pieces_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = write(tmp_path / "a", [("w", [32, 8], Q8_0, q8(*((0.25, n) for n in range(8))))])
    b = write(tmp_path / "b", [("w", [32, 8], Q8_0, q8(*((0.25, n if n % 3 else 9) for n in range(8))))])
    whole = found(a, b, Q8().open)
    monkeypatch.setattr("requant.difference.ggufs.PIECE", 64)
    assert found(a, b, Q8().open) == whole


def test_bytes_that_hide_between_tensors(tmp_path: Path) -> None:
    infos = [tensor("one", [4], F32), tensor("two", [4], F32, 64)]
    (tmp_path / "a").write_bytes(gguf_bytes([MODEL], infos, bytes(32) + b"hi" + bytes(62)))
    with pytest.raises(FormatError, match=r"^A: a has bytes other than zero"):
        diff(tmp_path / "a", tmp_path / "a", never)


BAD = {
    "missing": (lambda folder: folder / "none", "neither a file nor a folder"),
    "another kind": (lambda folder: folder, "/a) is a GGUF file and B ("),
    "no GGUF": (lambda folder: Path(__file__), "B: test_diff.py is not a GGUF file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(tmp_path: Path, name: str) -> None:
    make, words = BAD[name]
    with pytest.raises(RequantError) as error:
        diff(write(tmp_path / "a", [ONE]), make(tmp_path), never)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


# Release folders.


@pytest.fixture
def releases(tmp_path: Path) -> tuple[Path, Path]:
    a = write_release(tmp_path / "a")
    return a, Path(shutil.copytree(a, tmp_path / "b"))


def compared(a: Path, b: Path, quantizer: Any = never) -> ReleaseDiff:
    outcome = diff(a, b, quantizer)
    canonical(as_document(outcome))
    assert isinstance(outcome.found, ReleaseDiff)
    return outcome.found


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_release_and_its_copy(releases: tuple[Path, Path]) -> None:
    (releases[1] / ".cache").mkdir()
    outcome = compared(*releases)
    assert (outcome.same, outcome.files, outcome.equal) == (True, (), 5)


def test_a_tampered_quant_is_looked_into(releases: tuple[Path, Path]) -> None:
    flip(releases[1] / QUANT, -300)
    outcome = compared(*releases)
    [file] = outcome.files
    assert (outcome.same, file.name, file.matters) == (False, QUANT, True)
    assert isinstance(file.detail, GGUFDiff)
    assert [row.name for row in file.detail.tensors] == ["blk.0.attn_q.weight"]
    assert "blk.0.attn_q.weight" in as_text(diff(*releases, never))


def test_a_damaged_file_is_a_difference(releases: tuple[Path, Path]) -> None:
    (releases[1] / QUANT).write_bytes(b"GGUF")
    (releases[1] / "imatrix.gguf").unlink()
    damaged, gone = sorted(compared(*releases).files, key=lambda file: file.name)
    assert damaged.problem is not None and damaged.problem.startswith(f"B: {QUANT} ends inside")
    assert (gone.name, gone.digests[1], gone.matters) == ("imatrix.gguf", None, True)


def test_the_card_is_not_what_makes_a_release(releases: tuple[Path, Path]) -> None:
    (releases[1] / "README.md").write_text("another card")
    resum(releases[1])
    outcome = compared(*releases)
    assert outcome.same
    assert {file.name: file.matters for file in outcome.files} == {"README.md": False, "SHA256SUMS": False}


# Files that only one folder has, and whether the releases are the same all the same.
UNDECLARED = {
    "model-Q8_0.gguf": False,
    "other/model-Q8_0.gguf": False,
    "other/README.md": False,
    "other/.hidden": False,
    "LICENSE": False,
    "configuration.json": True,
    ".gitattributes": True,
    ".cache/huggingface/README.md.metadata": True,
    "attestation.intoto.json": True,
    "model.sig": True,
    "evaluation.json": True,
    "bom.cdx.json": True,
}


@pytest.mark.parametrize(("name", "same"), UNDECLARED.items())
@pytest.mark.parametrize("side", [0, 1])
def test_a_file_that_no_manifest_describes(releases: tuple[Path, Path], name: str, same: bool, side: int) -> None:
    (releases[side] / name).parent.mkdir(parents=True, exist_ok=True)
    (releases[side] / name).write_bytes(b"planted")
    outcome = compared(*releases)
    assert outcome.same == same
    assert {(file.name, file.described, file.matters) for file in outcome.files} <= {(name, False, not same)}


def test_a_link_to_a_folder_is_not_followed(releases: tuple[Path, Path]) -> None:
    (releases[0] / "again").symlink_to(releases[0])
    outcome = compared(*releases)
    assert ([file.name for file in outcome.files], outcome.same) == (["again"], False)


def test_the_manifest_key_by_key(releases: tuple[Path, Path]) -> None:
    path = releases[1] / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["quants"][0]["tensors"][1]["sha256"] = "0" * 64
    path.write_bytes(canonical(manifest))
    outcome = compared(*releases)
    assert [change.place for change in outcome.manifest] == ["quants[Q4_K_M].tensors[blk.0.attn_q.weight].sha256"]
    assert not outcome.same


def test_without_a_compiler_tensors_are_named_all_the_same(tmp_path: Path) -> None:
    from requant.difference.releases import _look_inside

    def missing() -> Any:
        raise ToolError("no compiler: install one")

    a = write(tmp_path / "a.gguf", [BLOCKS])
    b = write(tmp_path / "b.gguf", [("q", [32, 2], Q8_0, q8((1, 3), (1, 5)))])
    detail, problem = _look_inside(a, b, missing)
    assert isinstance(detail, GGUFDiff)
    assert [(row.name, row.blocks, row.relative) for row in detail.tensors] == [("q", 1, None)]
    assert problem == "the weights cannot be compared: no compiler: install one"


def test_changes_of_documents() -> None:
    a = {"n": 1, "list": [1, 2], "named": [{"name": "x", "v": 1}, {"name": "y", "v": 2}], "gone": None}
    b = {"n": True, "list": [1, 3, 4], "named": [{"name": "y", "v": 2}, {"name": "x", "v": 5}]}
    assert [(change.place, change.a, change.b) for change in changes(a, b)] == [
        ("gone", "null", "(absent)"),
        ("list[1]", "2", "3"),
        ("list[2]", "(absent)", "4"),
        ("n", "1", "true"),
        ("named, the order", '["x", "y"]', '["y", "x"]'),
        ("named[x].v", "1", "5"),
    ]
    assert list(changes(a, a)) == []


def test_a_folder_that_is_no_release(tmp_path: Path, releases: tuple[Path, Path]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match=r"^B: .*manifest\.json is not a file"):
        diff(releases[0], tmp_path / "empty", never)
