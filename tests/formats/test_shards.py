"""Shards without an index, which upstream's converter reads as it reads others."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from requant.formats.safetensors import INDEX, Checkpoint, read_checkpoint
from requant.ground.errors import FormatError
from requant.places.place import LocalPlace

ONE, TWO = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
NUMBERS = np.arange(4, dtype=np.float32)
SHARDS = {ONE: save({"a": NUMBERS, "b": NUMBERS[:2]}), TWO: save({"c": NUMBERS[:3]})}


def read(folder: Path, files: dict[str, bytes]) -> Checkpoint:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with LocalPlace(folder, "org/weights") as place:
        return read_checkpoint(place)


def test_shards_without_an_index(tmp_path: Path) -> None:
    """What does not begin with model is nothing to the converter."""
    found = read(tmp_path / "two", {**SHARDS, "adapter.safetensors": b""})
    assert {name: Path(each.file.name).name for name, each in found.tensors.items()} == {"a": ONE, "b": ONE, "c": TWO}
    assert (found.files, found.notes, found.unnamed) == ((ONE, TWO), (), ())
    whole = "model-00001-of-00001.safetensors"
    assert read(tmp_path / "one", {whole: save({"a": NUMBERS})}).files == (whole,)


FOLDERS = {
    "two series": ({**SHARDS, "model-b-00001-of-00001.safetensors": b""}, f"holds 3 safetensors files and no {INDEX}"),
    "one and another": ({**SHARDS, "model-b.safetensors": b""}, f"holds 3 safetensors files and no {INDEX}"),
    "missing": ({TWO: b""}, f"org/weights lacks {ONE} of 2 files of weights: get all of them"),
    "none of it": ({"model-00001-of-00000.safetensors": b""}, "model-00001-of-00000.safetensors has 0 bytes"),
    "number 0": ({**SHARDS, "model-00000-of-00002.safetensors": b""}, f"holds 3 safetensors files and no {INDEX}"),
    "far too many": ({"model-00001-of-99999.safetensors": b""}, "one of more than 1,024 files"),
    "a tensor twice": (
        {ONE: SHARDS[ONE], TWO: save({"a": NUMBERS})},
        f"{TWO} holds 'a', which org/weights/{ONE} has too: get both",
    ),
    "damaged": ({ONE: SHARDS[ONE], TWO: b"x"}, f"{TWO} has 1 bytes"),
}


@pytest.mark.parametrize(("files", "words"), FOLDERS.values(), ids=list(FOLDERS))
def test_bad_series(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    with pytest.raises(FormatError) as found:
        read(tmp_path / "folder", files)
    assert words in str(found.value)
