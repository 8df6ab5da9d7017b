"""A split model where it lies: on both hubs and behind an address any part names all, and a missing one is one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from requant.formats.gguf_parts import read_gguf
from requant.ground.errors import FormatError, PlaceError, SourceError
from requant.places.place import Place, open_place
from requant.places.remote import Network
from support.gguf_files import write_model
from support.hub import LoopbackHub
from support.splits import split

VALUES = {f"t{index}.weight": (np.full((4, 64), index, np.float32), None) for index in range(5)}
NAMES = [f"M-0000{number}-of-00003.gguf" for number in (1, 2, 3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The parts in a folder of a repository, as hubs hold them; the first has no tensor."""
    split(write_model(tmp_path / "M.gguf", VALUES), tmp_path / "M-GGUF" / "BF16", [0, 2, 3])
    (tmp_path / "M-GGUF" / "README.md").write_text("a page\n")
    return tmp_path / "M-GGUF"


@pytest.mark.parametrize("name", NAMES)
def test_a_part_brings_the_others(tmp_path: Path, name: str) -> None:
    for part in (NAMES[0], NAMES[2], "other-00002-of-00003.gguf"):
        (tmp_path / part).write_bytes(part.encode())
    if name == NAMES[1]:
        with pytest.raises(PlaceError, match="does not exist"):
            open_place(f"{tmp_path}/{name}")
        return
    with open_place(f"{tmp_path}/{name}") as place:
        assert (place.names, place.file) == ([NAMES[0], NAMES[2]], name)
        for part in place.names:
            assert place.open(part).read(0, len(part)) == part.encode()


def read(place: Place, name: str) -> dict[str, bytes]:
    file, header = read_gguf(place, name)
    return {each.name: file.read(each.offset, each.nbytes) for each in header.tensors}


WANTED = {name: values.tobytes() for name, (values, _) in VALUES.items()}


@pytest.mark.parametrize("form", ["hf://some/M-GGUF/BF16/{}", "ms://some/M-GGUF/BF16/{}", "{url}/some/M-GGUF/resolve/main/BF16/{}"])  # fmt: skip
@pytest.mark.parametrize("name", NAMES)
def test_any_part(clients: LoopbackHub, folder: Path, form: str, name: str) -> None:
    clients.add_model("some/M-GGUF", folder)
    network = Network()
    with open_place(form.format(name, url=clients.url), network) as place:
        assert place.file is not None and place.file.endswith(name)
        assert read(place, place.file) == WANTED
    size = sum(path.stat().st_size for path in (folder / "BF16").iterdir())
    assert network.traffic.fetched < 3 * size, "headers, and what was asked for"


def test_a_missing_part(clients: LoopbackHub, folder: Path) -> None:
    (folder / "BF16" / NAMES[1]).unlink()
    clients.add_model("some/M-GGUF", folder)
    with (
        open_place(f"hf://some/M-GGUF/BF16/{NAMES[2]}") as place,
        pytest.raises(FormatError, match=rf"is one of 3 parts, of which 1 is missing \({NAMES[1]}\): get all of them"),
    ):
        read(place, f"BF16/{NAMES[2]}")
    with (
        open_place(f"{clients.url}/some/M-GGUF/resolve/main/BF16/{NAMES[2]}?download=true") as place,
        pytest.raises(SourceError, match=rf"/BF16/{NAMES[1]} does not exist \(404\): correct its address"),
    ):
        read(place, NAMES[2])
