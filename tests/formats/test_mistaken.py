"""requant.formats.mistaken: what people take for a model is called by its name."""

from pathlib import Path

import pytest

from requant.formats.gguf import read_header
from requant.formats.ranged import LocalFile
from requant.formats.safetensors import read_safetensors
from requant.ground.errors import FormatError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
MISTAKEN = {
    "a pointer": (POINTER, "is a Git LFS pointer, not the file itself: get it with git lfs pull"),
    "a page": (b"<!DOCTYPE html><html>", "is a web page, not the file itself: download the file"),
    "another page": (b"<html>\n<head>", "is a web page, not the file itself: download the file"),
    "a pickle": (b"PK\x03\x04" + bytes(30), "is a ZIP archive or a pickle"),
}


@pytest.mark.parametrize(("data", "words"), MISTAKEN.values(), ids=list(MISTAKEN))
def test_it_is_called_by_its_name(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=f"^model {words}"):
        read_header(path)
    with LocalFile(path) as file, pytest.raises(FormatError, match=f"^model {words}"):
        read_safetensors(file)
