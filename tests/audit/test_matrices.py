"""requant.audit.recipe.matrices: which importance matrix lies beside a quant, whatever it is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from requant.audit.recipe.imatrix import read_hashed
from requant.audit.recipe.matrices import MOST_LOOKED_AT, only_matrix
from requant.audit.subject.subject import open_subject
from requant.formats.ggml import GGMLType as T
from requant.ground.errors import FormatError, PlaceError
from requant.places.place import open_place
from support.gguf_files import gguf_bytes, legacy_imatrix, pair, string, tensor, write_imatrix

NAME, COLUMNS = "blk.0.attn_q.weight", 256
QUANT = "Model-Q4_1.gguf"


def matrix(path: Path, columns: int = COLUMNS, name: str = NAME) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    squares = np.arange(1, columns + 1, dtype=np.float32)
    if path.suffix == ".gguf":
        write_imatrix(path, {f"{name}.in_sum2": squares, f"{name}.counts": np.array([16], np.float32)})
    else:
        path.write_bytes(legacy_imatrix({name: (2, squares)}, 2, "x.txt"))


def quant(path: Path, said: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    keys = [] if said is None else [pair("quantize.imatrix.file", 8, string(said))]
    path.write_bytes(gguf_bytes(keys, [tensor(NAME, (COLUMNS, 1), T.Q4_1)], bytes(160)))
    return path


def beside(named: Path | str) -> list[str]:
    """The matrices found for a subject, by the ends of their names."""
    subject = open_subject(str(named))
    try:
        return [file.name.rpartition("/")[2] for file in subject.matrices()]
    finally:
        subject.place.close()


FOUND: dict[str, tuple[list[str], str | None, list[str]]] = {
    # matrices, what the header calls its own, and those that are found
    "our own name": (["imatrix.gguf"], None, ["imatrix.gguf"]),
    "the model's name": (["Model-imatrix.gguf"], None, ["Model-imatrix.gguf"]),
    "other publishers' names": (["Model.imatrix", "Model.imatrix.gguf"], None, ["Model.imatrix", "Model.imatrix.gguf"]),
    "the old format": (["imatrix.dat"], None, ["imatrix.dat"]),
    "our own name comes first": (["a-imatrix.gguf", "imatrix.gguf"], None, ["imatrix.gguf", "a-imatrix.gguf"]),
    "what the header names comes first": (["imatrix.gguf", "b.dat"], "C:\\x\\b.dat", ["b.dat", "imatrix.gguf"]),
    "what is called alike comes first": (["A-imatrix.gguf", "Model-imatrix.gguf"], None, ["Model-imatrix.gguf", "A-imatrix.gguf"]),
    "any name, where the header speaks of one": (["calibration.gguf"], "gone.gguf", ["calibration.gguf"]),
    "any name, where it does not": (["calibration.gguf"], None, []),
    "none": ([], "imatrix.gguf", []),
}  # fmt: skip


@pytest.mark.parametrize("as_file", [True, False], ids=["file", "folder"])
@pytest.mark.parametrize(("names", "said", "found"), FOUND.values(), ids=FOUND)
def test_what_lies_beside(tmp_path: Path, names: list[str], said: str | None, found: list[str], as_file: bool) -> None:
    file = quant(tmp_path / QUANT, said)
    for name in names:
        matrix(tmp_path / name)
    (tmp_path / "imatrix-notes.dat").write_text("no matrix")
    assert beside(file if as_file else tmp_path) == found


def test_above_the_quant_but_not_below(tmp_path: Path) -> None:
    quant(tmp_path / "Q4_1" / QUANT)
    for place in ("imatrix.gguf", "Q4_1/deeper/imatrix.gguf", "Q8_0/imatrix.gguf"):
        matrix(tmp_path / place)
    assert beside(tmp_path) == ["imatrix.gguf"]


def test_no_more_files_than_a_few_are_looked_into(tmp_path: Path) -> None:
    file = quant(tmp_path / QUANT)
    for number in range(MOST_LOOKED_AT):
        (tmp_path / f"Model-imatrix-{number}.dat").write_text("no matrix")
    matrix(tmp_path / "Other-imatrix.gguf")
    assert beside(file) == []


@pytest.mark.parametrize(
    ("columns", "name", "fits"), [(COLUMNS, NAME, True), (512, NAME, False), (COLUMNS, "x", False)]
)
@pytest.mark.parametrize("kind", ["gguf", "dat"])
def test_a_matrix_of_another_model_does_not_fit(tmp_path: Path, columns: int, name: str, fits: bool, kind: str) -> None:
    matrix(tmp_path / f"imatrix.{kind}", columns, name)
    subject = open_subject(str(quant(tmp_path / QUANT)))
    [file] = subject.matrices()
    assert read_hashed(file).fits(subject.header) is fits
    subject.place.close()


@pytest.mark.parametrize("name", ["imatrix.gguf", "any.gguf", "any.dat"])
def test_a_matrix_alone_is_a_subject(tmp_path: Path, name: str) -> None:
    matrix(tmp_path / name)
    subject = open_subject(str(tmp_path / name))
    assert subject.is_imatrix
    assert subject.header.tensors == () or subject.header.size == (tmp_path / name).stat().st_size
    subject.place.close()


def test_a_folder_is_named_as_a_matrix(tmp_path: Path) -> None:
    quant(tmp_path / QUANT)
    with pytest.raises(PlaceError, match=r"holds 0 importance matrices: name the file that is meant"):
        only_matrix(open_place(str(tmp_path)))
    matrix(tmp_path / "Model.imatrix")
    assert only_matrix(open_place(str(tmp_path))).name.endswith("Model.imatrix")
    matrix(tmp_path / "B-imatrix.gguf")
    with pytest.raises(PlaceError, match=r"holds 2 importance matrices"):
        only_matrix(open_place(str(tmp_path)))
    matrix(tmp_path / "imatrix.gguf")
    assert only_matrix(open_place(str(tmp_path))).name.endswith("/imatrix.gguf")


def test_a_damaged_matrix_is_named(tmp_path: Path) -> None:
    (tmp_path / "imatrix.dat").write_bytes(legacy_imatrix({NAME: (2, np.ones(COLUMNS))}, 2, "x")[:-10])
    with pytest.raises(FormatError, match=r"imatrix\.dat, an importance matrix in the old format, has"):
        read_hashed(only_matrix(open_place(str(tmp_path / "imatrix.dat"))))
