"""requant.formats.safetensors: reads what safetensors writes, exactly, and refuses everything else in one sentence."""

import contextlib
import json
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from requant.formats import safetensors as checkpoint
from requant.formats.safetensors import INDEX, SINGLE, read_checkpoint, read_safetensors, rows_as_float32
from requant.ground.errors import FormatError, RequantError, SourceError
from requant.places.place import open_place
from support.memory_file import Memory

RANDOM = np.random.default_rng(0)
HALVES = np.arange(1 << 16, dtype=np.uint16)
SINGLES = RANDOM.integers(0, 1 << 32, (40, 7), dtype=np.uint64).astype(np.uint32).view(np.float32)


def built(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Put a file together from a header, an object or bytes; ``length`` is what it claims of the header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (2, 3), span: Any = (0, 24), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": span, **more}


def parsed(data: bytes) -> dict[str, checkpoint.StoredTensor]:
    return read_safetensors(Memory(data))


@dataclass
class Folder:
    """Files in memory, as a place."""

    files: dict[str, bytes]
    shown: str = "org/weights"
    opened: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return sorted(self.files)

    def open(self, name: str) -> Memory:
        self.opened.append(name)
        found = Memory(self.files[name])
        found.name = name
        return found


# ---- one file


def test_what_safetensors_writes() -> None:
    arrays = {
        "a.weight": SINGLES,
        "b": np.zeros((2, 0, 3), np.float16),
        "s": np.array(2.5, np.float32),
        "i": np.arange(3),
    }
    tensors = parsed(save(arrays, metadata={"format": "pt"}))
    assert {name: (each.dtype, each.shape) for name, each in tensors.items()} == {
        "a.weight": ("F32", (40, 7)),
        "b": ("F16", (2, 0, 3)),
        "s": ("F32", ()),
        "i": ("I64", (3,)),
    }
    assert (tensors["a.weight"].rows, tensors["a.weight"].columns, tensors["a.weight"].nbytes) == (40, 7, 1120)
    assert rows_as_float32(tensors["s"], [0]).tolist() == [[2.5]]
    assert rows_as_float32(tensors["b"], slice(None)).shape == (0, 3)
    assert tensors["i"].unchecked == "i is stored as I64: only BF16, F16, F32 can be read"
    with pytest.raises(FormatError, match=r"x\.bin cannot be compared: i is stored as I64"):
        rows_as_float32(tensors["i"], [0])


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_half_is_read_exactly(dtype: str) -> None:
    file = built({"a": entry(dtype, [256, 256], [0, 1 << 17])}, HALVES.tobytes())
    found = rows_as_float32(parsed(file)["a"], slice(None))
    if dtype == "BF16":
        assert np.array_equal(found.view(np.uint32).ravel(), HALVES.astype(np.uint32) << 16)
    else:
        assert np.array_equal(found.ravel(), HALVES.view(np.float16).astype(np.float64), equal_nan=True)
    assert found.dtype == np.float32 and found.shape == (256, 256)


ROWS: dict[str, tuple[Any, list[tuple[int, int]]]] = {
    "one": ([7], [(7, 1)]),
    "none": ([], []),
    "a run": ([3, 4, 5], [(3, 3)]),
    "runs, mixed up": ([9, 3, 0, 8, 4, 39], [(0, 1), (3, 2), (8, 2), (39, 1)]),
    "twice": ([5, 5, 4], [(4, 2)]),
    "an array": (np.array([1, 0], np.uint8), [(0, 2)]),
    "a slice": (slice(10, 20), [(10, 10)]),
    "from the start": (slice(None, 4), [(0, 4)]),
    "an empty slice": (slice(4, 4), []),
    "all": (slice(None), [(0, 40)]),
}


@pytest.mark.parametrize(("rows", "reads"), ROWS.values(), ids=list(ROWS))
def test_rows(rows: Any, reads: list[tuple[int, int]]) -> None:
    stored = parsed(save({"a": SINGLES}))["a"]
    before = len(stored.file.reads)
    found = rows_as_float32(stored, rows)
    assert found.dtype == np.float32
    assert (
        np.array_equal(found.view(np.uint32), SINGLES[rows].reshape(-1, 7).view(np.uint32)) if len(found) else not reads
    )
    assert stored.file.reads[before:] == [(stored.offset + first * 28, count * 28) for first, count in reads]


def test_vectors_and_experts() -> None:
    stored = parsed(save({"v": SINGLES[0], "e": SINGLES.reshape(4, 10, 7)}))
    assert np.array_equal(rows_as_float32(stored["v"], [0]).view(np.uint32), SINGLES[:1].view(np.uint32))
    assert stored["e"].rows == 40
    assert np.array_equal(rows_as_float32(stored["e"], [25]).view(np.uint32), SINGLES[25:26].view(np.uint32))


@pytest.mark.parametrize("rows", [[40], [-1], [0, 1 << 40], slice(30, 41), slice(-2, 3), slice(39, 1 << 50)], ids=str)
def test_rows_that_do_not_exist(rows: Any) -> None:
    stored = parsed(save({"a": SINGLES}))["a"]
    before = len(stored.file.reads)
    with pytest.raises(FormatError, match=r"^x\.bin has 40 rows in 'a', so not all of .*: compare the shapes first$"):
        rows_as_float32(stored, rows)
    assert len(stored.file.reads) == before


GOOD, DATA = {"a": entry()}, bytes(24)
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "has 0 bytes: it is truncated"),
    "seven bytes": (bytes(7), "has 7 bytes"),
    "an empty header": (bytes(8), "is not valid JSON"),
    "a header beyond the file": (built(GOOD, DATA, 1000), "claims a header of 1,000 bytes but has"),
    "a huge header": (built(GOOD, DATA, 33_554_433), "claims a header of 33,554,433 bytes, more than 33,554,432"),
    "the hugest header": (built(GOOD, DATA, (1 << 64) - 1), "more than 33,554,432"),
    "a GGUF": (b"GGUF\3\0\0\0" + bytes(100), "more than 33,554,432: it is damaged, or no safetensors"),
    "no JSON": (built(b"{]"), "is not valid JSON"),
    "not UTF-8": (built(b'{"\xff": 1}'), "is not valid JSON"),
    "a list": (built([]), "holds JSON that is no object"),
    "nested too deep": (built(b"[" * 100_000), "is not valid JSON"),
    "NaN": (built(b'{"a": NaN}'), "NaN is not a JSON number"),
    "a key twice": (built(b'{"a": 1, "a": 1}'), "a key stands twice"),
    "a dtype twice": (built(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "a key stands twice"),
    "too many digits": (built(b'{"a": ' + b"9" * 5000 + b"}"), "is not valid JSON"),
    "too many values": (built(b"[" + b"0," * (1 << 22) + b"0]"), "holds more than 3,145,728 JSON values"),
    "metadata no object": (built({"__metadata__": [], **GOOD}, DATA), "__metadata__ that is no object of texts"),
    "metadata no text": (built({"__metadata__": {"a": 1}, **GOOD}, DATA), "__metadata__ that is no object of texts"),
    "no name": (built({"": entry()}, DATA), "has a tensor named ''"),
    "a long name": (built({"a" * 257: entry()}, DATA), "names must be printable, with 1 to 256 characters"),
    "an escape": (built({"a\x1b[2J": entry()}, DATA), r"has a tensor named 'a\x1b[2J'"),
    "half a character": (built(b'{"\\ud800": {}}', DATA), r"has a tensor named '\ud800'"),
    "a number": (built({"a": 1}, DATA), "describes tensor 'a' otherwise than by dtype"),
    "no dtype": (built({"a": {"shape": [], "data_offsets": [0, 0]}}), "otherwise than by dtype, shape and data_offsets"),
    "too much said": (built({"a": entry(file="x")}, DATA), "otherwise than by dtype, shape and data_offsets"),
    "dtype no text": (built({"a": entry(1)}, DATA), "gives tensor 'a' no dtype"),
    "dtype unprintable": (built({"a": entry("\n")}, DATA), "gives tensor 'a' no dtype"),
    "a negative dimension": (built({"a": entry(shape=[-2, -3])}, DATA), "impossible shape"),
    "half a dimension": (built({"a": entry(shape=[2.0, 3])}, DATA), "impossible shape"),
    "a true dimension": (built({"a": entry(shape=[True, 6])}, DATA), "impossible shape"),
    "shape no list": (built({"a": entry(shape=6)}, DATA), "impossible shape"),
    "a dimension of 2**63": (built({"a": entry(shape=[1 << 63, 0])}, DATA), "impossible shape"),
    "a product of 2**64": (built({"a": entry(shape=[1 << 32, 1 << 32])}, DATA), "impossible shape"),
    "a product of 2**64, and 0": (built({"a": entry(shape=[1 << 32, 1 << 32, 0])}, DATA), "impossible shape"),
    "a dimension of 2**61, and 0": (built({"a": entry(shape=[1 << 61, 0])}, DATA), "impossible shape"),
    "too many dimensions": (built({"a": entry(shape=[1] * 9)}, DATA), "impossible shape"),
    "one offset": (built({"a": entry(span=[24])}, DATA), "outside its 24 bytes of data"),
    "three offsets": (built({"a": entry(span=[0, 24, 24])}, DATA), "outside its 24 bytes"),
    "backwards": (built({"a": entry(span=[24, 0])}, DATA), "outside its 24 bytes"),
    "a negative offset": (built({"a": entry(span=[-24, 0])}, DATA), "outside its 24 bytes"),
    "an offset of 2**63": (built({"a": entry(span=[0, 1 << 63])}, DATA), "outside its 24 bytes"),
    "beyond the file": (built(GOOD, DATA[1:]), "outside its 23 bytes of data: it is truncated"),
    "another length": (built({"a": entry(span=[0, 20])}, DATA[:20]), "gives tensor 'a' 20 bytes, not those of F32 [2, 3]"),
    "bytes behind": (built(GOOD, DATA + b"x"), "but its tensors end at"),
    "bytes without a tensor": (built({}, DATA), "but its tensors end at"),
    "a gap before": (built({"a": entry(span=[1, 25])}, DATA + b"x"), "puts tensor 'a' at byte"),
    "a gap between": (built({**GOOD, "b": entry(span=[25, 49])}, bytes(49)), "puts tensor 'b' at byte"),
    "shared bytes": (built({**GOOD, "b": entry(span=[20, 44])}, bytes(44)), "puts tensor 'b' at byte"),
    "the same bytes": (built({**GOOD, "b": entry()}, DATA), "puts tensor 'b' at byte"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), BAD.values(), ids=list(BAD))
def test_bad_files(data: bytes, words: str) -> None:
    with pytest.raises(FormatError) as found:
        parsed(data)
    assert str(found.value).startswith("x.bin ") and words in str(found.value)
    assert str(found.value).isprintable()


VALID = built({"__metadata__": {"format": "pt"}, "a": entry(), "b": entry("BF16", [4], [24, 32])}, bytes(32))


def test_truncated_anywhere() -> None:
    assert list(parsed(VALID)) == ["a", "b"]
    for end in range(len(VALID)):
        with pytest.raises(FormatError):
            parsed(VALID[:end])


def survives(data: bytes) -> None:
    """Whatever it holds, it is read, or refused in one sentence, and nothing is read or allocated beyond its size."""
    with contextlib.suppress(RequantError):
        for stored in parsed(data).values():
            assert stored.offset + stored.nbytes <= len(data)
            if not stored.unchecked:
                rows_as_float32(stored, slice(None))


@given(st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=8))
def test_changed_anywhere(at: int, change: bytes) -> None:
    survives(VALID[:at] + change + VALID[at + len(change) :])


NUMBERS = st.integers(-1, 40) | st.sampled_from([(1 << 63) - 1, 1 << 63, 1 << 64, 1 << 200])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
LIKE = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "F16", "F8_E4M3", "F4", "new"]) | JSON,
        "shape": st.lists(NUMBERS, max_size=3) | JSON,
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2) | JSON,
    }
)


@settings(max_examples=300)
@given(st.dictionaries(st.text(max_size=4) | st.just("__metadata__"), LIKE | JSON, max_size=4), st.binary(max_size=40))
def test_any_header(header: dict[str, Any], data: bytes) -> None:
    survives(built(header, data))


def test_lengths_cost_no_memory() -> None:
    claims = [
        built({"a": entry(shape=[1 << 31, 1 << 31], span=[0, 1 << 62])}),
        built({}, length=33_554_431),
        built(b"[" + b"[]," * (1 << 21) + b"0]"),
    ]
    tracemalloc.start()
    for claim in claims:
        with pytest.raises(FormatError):
            parsed(claim)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20


# ---- folders


SHARDS = {
    "model-1.safetensors": save({"a": SINGLES, "b": SINGLES[:2]}),
    "model-2.safetensors": save({"c": SINGLES[:3]}),
}
MAP = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
TOTAL = 45 * 28


def sharded(index: Any = None, **files: bytes) -> Folder:
    document = {"metadata": {"total_size": TOTAL}, "weight_map": MAP} if index is None else index
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Folder({**SHARDS, INDEX: text, **files})


def test_one_file() -> None:
    found = read_checkpoint(Folder({SINGLE: save({"a": SINGLES}), "pytorch_model.bin": b"", "other.safetensors": b""}))
    assert (list(found.tensors), found.files) == (["a"], (SINGLE,))
    assert read_checkpoint(Folder({"only.safetensors": save({"a": SINGLES}), "x.bin": b""})).files == (
        "only.safetensors",
    )
    two = Folder({SINGLE: b"", "sub/other.safetensors": save({"b": SINGLES})})
    assert list(read_checkpoint(two, "sub/other.safetensors").tensors) == ["b"]


def test_many_files() -> None:
    found = read_checkpoint(sharded())
    assert {name: each.file.name for name, each in found.tensors.items()} == MAP
    assert (found.shown, found.files) == ("org/weights", tuple(SHARDS))
    assert list(read_checkpoint(sharded({"weight_map": MAP})).tensors) == list(MAP), "a total need not be given"
    below = Folder({f"sub/{name}": data for name, data in sharded().files.items()})
    assert list(read_checkpoint(below, f"sub/{INDEX}").tensors) == list(MAP)


def test_what_an_index_says_beyond_its_map_is_noted() -> None:
    """The converter goes by names alone, and transformers by the map."""
    odd = {"metadata": {"total_size": TOTAL + 1}, "weight_map": {key: MAP[key] for key in list(MAP)[1:]}}
    found = read_checkpoint(sharded(odd))
    assert list(found.tensors) == list(MAP)
    assert found.unnamed == (next(iter(MAP)),)
    assert found.notes == (
        f"{INDEX} gives a total_size other than the 1,260 bytes of its tensors",
        f"{INDEX} does not name {next(iter(MAP))}, which its files hold",
    )
    for document in ({"metadata": 1, "weight_map": MAP}, {"metadata": {"total_size": TOTAL}, "weight_map": MAP}):
        assert read_checkpoint(sharded(document)).notes == ()


def mapped(**changes: Any) -> dict[str, Any]:
    return {"weight_map": {**MAP, **changes}}


FOLDERS: dict[str, tuple[Folder, str]] = {
    "nothing": (Folder({}), "org/weights holds no safetensors file"),
    "pickles": (Folder({"pytorch_model.bin": b"", "config.json": b""}), "org/weights holds its weights as pickles only"),
    "pickles by other names": (Folder({"weights.PICKLE": b""}), "org/weights holds its weights as pickles only"),
    "too many": (Folder(dict(SHARDS)), f"holds 2 safetensors files and no {INDEX}: name the one that is meant"),
    "no JSON": (sharded(b"{"), f"{INDEX} is not valid JSON"),
    "a list": (sharded([]), f"{INDEX} holds JSON that is no object"),
    "no map": (sharded({}), f"{INDEX} has no weight_map"),
    "an empty map": (sharded({"weight_map": {}}), f"{INDEX} has no weight_map"),
    "a map to numbers": (sharded(mapped(a=1)), f"{INDEX} has no weight_map"),
    "a file above": (sharded(mapped(a="../model-1.safetensors")), f"{INDEX} names the file '../model-1.safetensors'"),
    "a file elsewhere": (sharded(mapped(a="/etc/x.safetensors")), f"{INDEX} names the file '/etc/x.safetensors'"),
    "a folder": (sharded(mapped(a="."), ), f"{INDEX} names the file '.', which is no safetensors file"),
    "a pickle": (sharded(mapped(a="x.bin"), **{"x.bin": b""}), f"{INDEX} names the file 'x.bin'"),
    "a missing file": (sharded(mapped(a="model-3.safetensors")), f"{INDEX} names the file 'model-3.safetensors'"),
    "the wrong file": (sharded(mapped(a="model-2.safetensors")), f"model-1.safetensors holds 'a', which {INDEX} has elsewhere"),
    "a missing tensor": (sharded(mapped(d="model-2.safetensors")), f"model-2.safetensors lacks 'd', against {INDEX}"),
    "a tensor too many": (sharded({"weight_map": {**MAP, "c": "model-1.safetensors"}}), "model-1.safetensors lacks 'c'"),
    "twice": (sharded(**{"model-2.safetensors": save({"c": SINGLES, "a": SINGLES})}), "model-2.safetensors holds 'a'"),
    "a bad file": (sharded(**{"model-2.safetensors": b"x"}), "model-2.safetensors has 1 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("folder", "words"), FOLDERS.values(), ids=list(FOLDERS))
def test_bad_folders(folder: Folder, words: str) -> None:
    with pytest.raises(FormatError) as found:
        read_checkpoint(folder)
    assert words in str(found.value)
    assert not {"pytorch_model.bin", "x.bin"} & set(folder.opened), "pickles are never opened"


def test_a_named_pickle() -> None:
    with pytest.raises(FormatError, match=r"'x\.bin' as weights: only safetensors files can be read"):
        read_checkpoint(Folder({"x.bin": b""}), "x.bin")


def test_an_index_is_not_read_if_it_is_too_large() -> None:
    with pytest.raises(FormatError, match="more than the 33,554,432 that an index may have"):
        read_checkpoint(sharded(bytes(checkpoint.MAX_INDEX + 1)))


LOCAL = """
import sys
from requant.formats.safetensors import read_checkpoint, rows_as_float32
from requant.places.place import open_place
with open_place(sys.argv[1]) as place:
    tensors = read_checkpoint(place, place.file).tensors
    print(sorted(tensors), rows_as_float32(tensors["a"], [1]).shape)
needed = {"httpx2", "huggingface_hub", "modelscope_hub", "tenacity", "requests"} & sys.modules.keys()
assert not needed, needed
"""


def test_local_files_need_only_numpy(tmp_path: Path) -> None:
    for name, data in sharded().files.items():
        (tmp_path / name).write_bytes(data)
    library = str(Path(checkpoint.__file__).parents[1])
    command = [sys.executable, "-c", LOCAL, str(tmp_path)]
    ran = subprocess.run(command, env={"PYTHONPATH": library}, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("['a', 'b', 'c'] (1, 7)\n", "")


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    for name, data in sharded().files.items():
        (tmp_path / name).write_bytes(data)
    with open_place(str(tmp_path)) as place:
        (tmp_path / "model-2.safetensors").unlink()
        with pytest.raises(SourceError, match=r"model-2\.safetensors cannot be opened \(No such file or directory\)"):
            read_checkpoint(place)
