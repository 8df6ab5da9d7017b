"""requant.audit.subject.model_file: which GGUF of a place is meant, what is said where several could be, and what is no model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from requant.audit.named_weights import open_weights
from requant.audit.subject.model_file import MOST_SHOWN, model_file, require_model
from requant.audit.subject.subject import open_subject
from requant.ground.errors import PlaceError, UnsupportedError
from requant.ground.exit_codes import ExitCode, exit_code
from requant.places.place import LocalPlace, Place, open_place
from support.gguf_files import gguf_bytes, pair, parse, string, write_imatrix
from support.hub import LoopbackHub

QUANTS = [
    "M-Q4_K_M.gguf",
    "M-Q5_K_M.gguf",
    "UD/M-UD-Q4_K_XL-00001-of-00002.gguf",
    "UD/M-UD-Q4_K_XL-00002-of-00002.gguf",
]
BESIDE = ["README.md", "imatrix.gguf", "mmproj-F16.gguf", "M-calibrated.gguf"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Quants, one of them split, and what lies beside them: a matrix that is not called so among it."""
    root = tmp_path / "M-GGUF"
    for name in (*QUANTS, *BESIDE):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        kind = "imatrix" if name in ("imatrix.gguf", "M-calibrated.gguf") else "model"
        (root / name).write_bytes(gguf_bytes([pair("general.type", 8, string(kind))]))
    return root


@pytest.fixture
def place(folder: Path) -> Iterator[Place]:
    with LocalPlace(folder, "M-GGUF") as found:
        yield found


TAGS = {
    "Q4_K_M": "M-Q4_K_M.gguf", "q5_k_m": "M-Q5_K_M.gguf", "UD-Q4_K_XL": QUANTS[2], "Q4_K_XL": QUANTS[2],
}  # fmt: skip


@pytest.mark.parametrize(("tag", "name"), TAGS.items(), ids=list(TAGS))
def test_a_quant_by_its_name(place: Place, tag: str, name: str) -> None:
    place.quant = tag
    assert model_file(place) == name


LISTED = "M-Q4_K_M.gguf, M-Q5_K_M.gguf, UD/M-UD-Q4_K_XL-00001-of-00002.gguf"
UNCLEAR = {
    None: f"M-GGUF holds 3 quants ({LISTED}): name the file, such as ./M-GGUF/M-Q4_K_M.gguf",
    "Q4_K": f"M-GGUF holds 0 quants called Q4_K, only ({LISTED.replace('UD', 'M-calibrated.gguf, UD', 1)}): name the file, such",
    "M": f"M-GGUF holds 3 quants called M ({LISTED}): name the file",
}


@pytest.mark.parametrize(("tag", "said"), UNCLEAR.items(), ids=map(str, UNCLEAR))
def test_all_are_listed_where_several_could_be_meant(place: Place, tag: str | None, said: str) -> None:
    place.quant = tag
    with pytest.raises(PlaceError, match=re.escape(said)):
        model_file(place)


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    for number in range(MOST_SHOWN + 9):
        (tmp_path / f"M{number:02}.gguf").touch()
    with LocalPlace(tmp_path, "here") as place, pytest.raises(PlaceError, match=r"M23\.gguf and 9 more\)"):
        model_file(place)


KINDS = {
    "mmproj": ([pair("general.type", 8, string("mmproj"))], "the part of a model that sees or hears (mmproj)"),
    "mmproj of old": ([pair("general.architecture", 8, string("clip"))], "sees or hears (mmproj)"),
    "adapter": ([pair("general.type", 8, string("adapter"))], "an adapter (LoRA)"),
}  # fmt: skip


@pytest.mark.parametrize(("pairs", "said"), KINDS.values(), ids=list(KINDS))
def test_what_is_no_language_model_is_unchecked(tmp_path: Path, pairs: list[bytes], said: str) -> None:
    """Named for what it is: no evidence against anything."""
    (tmp_path / "part.gguf").write_bytes(gguf_bytes(pairs))
    with pytest.raises(UnsupportedError, match=re.escape(said)) as caught:
        open_subject(f"{tmp_path}/part.gguf")
    assert exit_code(caught.value) is ExitCode.UNCHECKED
    assert str(caught.value).endswith("which is not checked: name the language model beside it")


@pytest.mark.parametrize(("pairs", "said"), KINDS.values(), ids=list(KINDS))
def test_what_is_no_language_model_is_no_weights(tmp_path: Path, pairs: list[bytes], said: str) -> None:
    """Everything would be a mismatch with it."""
    (tmp_path / "x.gguf").write_bytes(gguf_bytes(pairs))
    with pytest.raises(UnsupportedError, match=re.escape(said)):
        open_weights(str(tmp_path / "x.gguf"))


def test_an_importance_matrix_is_no_weights(tmp_path: Path) -> None:
    write_imatrix(tmp_path / "imatrix.gguf", {}, ["x.txt"], 1, 512)
    with pytest.raises(PlaceError, match=r"imatrix\.gguf is an importance matrix and no weights: name a checkpoint"):
        open_weights(str(tmp_path / "imatrix.gguf"))


@pytest.mark.parametrize("pairs", [[], [pair("general.type", 8, string("model"))], [pair("general.type", 4, bytes(4))]])
def test_a_language_model_is_one(pairs: list[bytes]) -> None:
    require_model(parse(gguf_bytes(pairs)))


def test_names_of_a_repository(folder: Path, clients: LoopbackHub) -> None:
    """As a page, a command of other programs, or a bare name spells it."""
    commit = clients.add_model("some/M-GGUF", folder).commit
    for text in ("hf://some/M-GGUF:Q5_K_M", f"hf://some/M-GGUF@{commit}:Q5_K_M"):
        with open_place(text) as place:
            assert (place.quant, place.file, model_file(place)) == ("Q5_K_M", None, "M-Q5_K_M.gguf")
    with open_place("hf://some/M-GGUF@main") as place, pytest.raises(PlaceError) as caught:
        model_file(place)
    assert str(caught.value).endswith(f"name the file, such as hf://some/M-GGUF@{commit}/M-Q4_K_M.gguf")
    subject = open_subject("some/M-GGUF:Q4_K_M")
    with subject.place:
        assert (subject.names, subject.place.revision) == (("M-Q4_K_M.gguf",), commit)
