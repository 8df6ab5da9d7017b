"""requant diff sees what A and B are, compares two of any kind, and refuses two of different kinds by name."""

import json
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.difference.diff import Kind, as_document, as_text, diff, kind_of
from requant.difference.imatrix_effect import Trial
from requant.ground.canonical import canonical
from requant.ground.errors import FormatError, RecipeError
from support.gguf_files import gguf_bytes, pair, string, tensor, write_imatrix
from support.results_file import results_file
from support.small_release import write_release

MODEL, NAME = pair("general.architecture", 8, string("qwen3")), pair("general.name", 8, string("x"))


def gguf(path: Path, values: Sequence[float] = (1, 2), pairs: Sequence[bytes] = (MODEL,), **options: Any) -> Path:
    """A GGUF of one-number tensors in F32."""
    infos = [tensor(f"t{number}", [1], 0, 32 * number) for number in range(len(values))]
    data = b"".join(np.array([value], "<f4").tobytes().ljust(32, b"\0") for value in values)
    path.write_bytes(gguf_bytes(pairs, infos, data, **options))
    return path


def matrix(path: Path, value: float = 1, chunks: int = 100) -> Path:
    tensors = {"w.in_sum2": np.full((1, 4), value, np.float32), "w.counts": np.full((1, 1), 8, np.float32)}
    return write_imatrix(path, tensors, ["text"], chunks, 512)


KINDS: dict[Kind, Callable[[Path], Path]] = {
    Kind.GGUF: lambda folder: gguf(folder / "x.gguf"),
    Kind.IMATRIX: lambda folder: matrix(folder / "imatrix"),
    Kind.RESULTS: lambda folder: results_file(folder / "x", {"q": "passed"}),
    Kind.RELEASE: lambda folder: write_release(folder / "release"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_a_kind_and_itself(tmp_path: Path, kind: Kind) -> None:
    path = KINDS[kind](tmp_path)
    assert kind_of(path) is kind
    outcome = diff(path, path)
    assert outcome.same
    assert as_text(outcome).splitlines()[-1].startswith("same: ")
    assert json.loads(canonical(as_document(outcome)))["same"] is True


@pytest.mark.parametrize(("kind", "other"), [*permutations(KINDS, 2)])
def test_two_kinds_are_both_named(tmp_path: Path, kind: Kind, other: Kind) -> None:
    a, b = KINDS[kind](tmp_path), KINDS[other](tmp_path)
    with pytest.raises(FormatError) as error:
        diff(a, b)
    assert str(error.value) == f"A ({a}) is {kind} and B ({b}) is {other}: name two of one kind"


SUMMARIES: dict[str, tuple[Callable[[Path], tuple[Path, Path]], str]] = {
    "a tensor": (
        lambda folder: (gguf(folder / "a"), gguf(folder / "b", (1, 3))),
        "they differ in 1 of 2 tensors",
    ),
    "a key": (
        lambda folder: (gguf(folder / "a"), gguf(folder / "b", pairs=[MODEL, NAME])),
        "they differ in 1 key",
    ),
    "all of it": (
        lambda folder: (gguf(folder / "a", (1,), [MODEL, NAME], version=2), gguf(folder / "b", (2, 3))),
        "they differ in how they are laid out and in 1 key and in 2 of 2 tensors",
    ),
    "importances": (
        lambda folder: (matrix(folder / "a"), matrix(folder / "b", 2)),
        "they differ in 1 of 1 weight",
    ),
    "chunks": (lambda folder: (matrix(folder / "a"), matrix(folder / "b", chunks=99)), "they differ in 1 key"),
    "answers": (
        lambda folder: (results_file(folder / "a", {"x": "passed", "y": "failed"}), results_file(folder / "b", {"x": "failed", "y": "failed"})),
        "they differ in 1 of 2 items",
    ),
    "a setting": (
        lambda folder: (results_file(folder / "a", {"x": "passed"}, seed=1), results_file(folder / "b", {"x": "passed"}, seed=2)),
        "they differ in 1 setting",
    ),
    "items": (
        lambda folder: (results_file(folder / "a", {"x": "passed"}), results_file(folder / "b", {"x": "passed", "y": "failed"})),
        "they differ in 1 item not judged in both",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "sentence"), SUMMARIES.values(), ids=SUMMARIES)
def test_the_last_line_counts_what_differs(
    tmp_path: Path, make: Callable[[Path], tuple[Path, Path]], sentence: str
) -> None:
    outcome = diff(*make(tmp_path))
    assert not outcome.same
    assert as_text(outcome).splitlines()[-1] == sentence


def test_documents_of_matrices_and_results(tmp_path: Path) -> None:
    matrices = as_document(diff(matrix(tmp_path / "a"), matrix(tmp_path / "b", 2)))
    assert matrices["schema"] == "requant/diff/v1"
    assert matrices["imatrix"]["total"]["max"] == "0.5"
    answers = as_document(
        diff(results_file(tmp_path / "x", {"q": "passed"}), results_file(tmp_path / "y", {"q": "failed"}))
    )
    assert answers["results"] == {"both": 1, "only_a": ["q"], "only_b": [], "left_out": 0, "p": "1", "settings": []}


def test_only_matrices_are_tried_on_a_model(tmp_path: Path) -> None:
    a, trial = gguf(tmp_path / "a"), Trial(tmp_path / "model", "Q4_K_M", tmp_path / "tool")
    with pytest.raises(RecipeError, match=r"^--quantize is for importance matrices, and A .* is a GGUF file: leave it"):
        diff(a, a, trial=trial)
