"""requant.difference.imatrices: how far apart two importance matrices are."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.difference.imatrices import as_document, as_text, compare, difference
from requant.documents.schemas import fault
from requant.ground.canonical import canonical
from requant.ground.digests import digest_file
from requant.ground.errors import FormatError
from support.gguf_files import legacy_imatrix, write_imatrix

DENSE = "blk.0.attn_q.weight"
EXPERTS = "blk.0.ffn_up_exps.weight"
WEIGHTS = (DENSE, EXPERTS)
floats = st.floats(0, 2.0**127, width=32)
pairs = st.lists(st.tuples(floats, floats), min_size=1, max_size=40)


def tensors() -> dict[str, np.ndarray]:
    """One dense weight of which column 0 is never used, and four experts; as numpy shapes, slowest first."""
    return {
        f"{DENSE}.in_sum2": np.arange(8, dtype=np.float32),
        f"{DENSE}.counts": np.array([16], np.float32),
        f"{EXPERTS}.in_sum2": np.arange(1, 13, dtype=np.float32).reshape(4, 3),
        f"{EXPERTS}.counts": np.array([[16], [10], [6], [2]], np.float32),
    }


def imatrix(path: Path, changes: Mapping[str, np.ndarray | None] | None = None, **options: Any) -> Path:
    entries = {name: data for name, data in (tensors() | dict(changes or {})).items() if data is not None}
    return write_imatrix(path, entries, **options)


def planted(name: str, index: tuple[int, ...], value: float) -> dict[str, np.ndarray]:
    """The tensor ``name`` with one value changed."""
    data = tensors()[name].copy()
    data[index] = value
    return {name: data}


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return imatrix(tmp_path / "a.gguf")


# Laws of the numbers.


@given(pairs)
def test_the_order_of_the_two_does_not_matter(values: list[tuple[float, float]]) -> None:
    one, other = np.array(values, np.float32).T
    assert difference("w", one, other, False) == difference("w", other, one, False)


@given(pairs)
def test_equal_importances_do_not_differ(values: list[tuple[float, float]]) -> None:
    same = np.array(values, np.float32).ravel()
    found = difference("w", same, same.copy(), True)
    assert (found.median, found.most, found.largest, found.cosine) == (0, 0, 0, 1)


@given(pairs)
def test_numbers_stay_in_their_ranges(values: list[tuple[float, float]]) -> None:
    one, other = np.array(values, np.float32).T
    found = difference("w", one, other, False)
    assert 0 <= found.median <= found.most <= found.largest <= 1
    assert 0 <= found.cosine <= 1
    assert (found.largest == 0) == np.array_equal(one, other)


@pytest.mark.parametrize(
    ("a", "b", "median", "most", "largest", "cosine"),
    [
        ([0], [0], 0, 0, 0, 1),
        ([0, 0], [0, 3], 0, 1, 1, 0),
        ([1, 0], [0, 2], 1, 1, 1, 0),
        ([4, 0], [4, 4], 0, 1, 1, math.sqrt(0.5)),
        ([3, 1], [6, 2], 0.5, 0.5, 0.5, 1),
        ([100] * 100, [100] * 98 + [50, 25], 0, 0.5, 0.75, 98.75 / math.sqrt(98.3125) / 10),
        ([1e-45], [3e-45], 0.5, 0.5, 0.5, 1),
        ([3.4e38, 3.4e38], [3.4e38, 1.7e38], 0, 0.5, 0.5, 3 / math.sqrt(10)),
    ],
)
def test_known_differences(a: list, b: list, median: float, most: float, largest: float, cosine: float) -> None:
    found = difference("w", np.array(a, np.float32), np.array(b, np.float32), False)
    expected = pytest.approx((median, most, largest, cosine), abs=1e-5)
    assert (found.median, found.most, found.largest, found.cosine) == expected


# Whole files.


def test_a_file_equals_itself(a: Path) -> None:
    found = compare(a, a)
    assert [row.name for row in found.weights] == list(WEIGHTS)
    for row in (*found.weights, found.total):
        assert (row.median, row.most, row.largest, row.cosine, row.same_bytes) == (0, 0, 0, 1, True)
    assert [row.columns for row in (*found.weights, found.total)] == [8, 12, 20]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("name", "index", "value", "weight", "size"),
    [
        (f"{DENSE}.in_sum2", (4,), 5, DENSE, 0.2),
        (f"{DENSE}.in_sum2", (0,), 1e-30, DENSE, 1),
        (f"{EXPERTS}.in_sum2", (3, 2), 9, EXPERTS, 0.25),
        (f"{EXPERTS}.counts", (1, 0), 8, EXPERTS, 0.2),
    ],
)
def test_a_planted_change_is_found_in_its_weight_alone(
    tmp_path: Path, a: Path, name: str, index: tuple[int, ...], value: float, weight: str, size: float
) -> None:
    b = imatrix(tmp_path / "b.gguf", planted(name, index, value))
    found = compare(a, b)
    for row in found.weights:
        assert row.largest == (pytest.approx(size, rel=1e-6) if row.name == weight else 0)
        assert row.same_bytes == (row.name != weight)
    assert found.total.largest == pytest.approx(size, rel=1e-6)
    assert not found.total.same_bytes
    turned = compare(b, a)
    assert (turned.weights, turned.total) == (found.weights, found.total)


def test_more_chunks_of_the_same_text_are_said_and_do_not_differ(tmp_path: Path, a: Path) -> None:
    twice = {name: 2 * data for name, data in tensors().items()}
    found = compare(a, imatrix(tmp_path / "b.gguf", twice, chunks=1, chunk_size=32, datasets=["b.txt"]))
    assert found.total.largest == 0
    assert not found.total.same_bytes
    assert found.notes == (
        "imatrix.chunk_count is 2 in A, 1 in B",
        "imatrix.chunk_size is 8 in A, 32 in B",
        "imatrix.datasets is ['calibration.txt'] in A, ['b.txt'] in B",
        f"other numbers of tokens were counted for {DENSE!r} and 1 more",
    )
    assert f"note: {found.notes[0]}\n" in as_text(found)


def test_an_expert_that_saw_no_token_has_importance_1(tmp_path: Path, a: Path) -> None:
    unseen = planted(f"{EXPERTS}.counts", (3, 0), 0) | planted(f"{EXPERTS}.in_sum2", (3, slice(None)), 0)
    found = compare(a, imatrix(tmp_path / "b.gguf", unseen))
    # In A the fourth expert's importances are 10 / 2, 11 / 2 and 12 / 2.
    assert found.weights[1].largest == pytest.approx(5 / 6)
    assert found.notes[1] == (
        f"in B an expert of {EXPERTS!r} saw no token: llama-quantize gives its columns importance 1"
    )


def test_the_order_in_the_file_does_not_matter(tmp_path: Path, a: Path) -> None:
    turned = write_imatrix(tmp_path / "b.gguf", dict(reversed(tensors().items())))
    assert compare(a, turned).total.same_bytes


def test_text_and_document_say_the_same(tmp_path: Path, a: Path) -> None:
    found = compare(a, imatrix(tmp_path / "b.gguf", planted(f"{DENSE}.in_sum2", (4,), 5)))
    first, second, head, *rows = as_text(found).splitlines()
    assert (first, second) == (f"A: {a}, 2 chunks of 8 tokens", f"B: {tmp_path / 'b.gguf'}, 2 chunks of 8 tokens")
    assert head.split()[-5:] == ["99", "%", "max", "cosine", "bytes"]
    assert [row.split()[0] for row in rows] == [*WEIGHTS, "total"]
    assert rows[0].split()[1:5] == ["8", "0", "0.2", "0.2"]
    assert len({len(line) for line in (head, *rows)}) == 1
    document = json.loads(canonical(as_document(found)))
    assert document["weights"][0] | {"cosine": ""} == {
        "name": DENSE, "columns": 8, "median": "0", "p99": "0.2", "max": "0.2", "cosine": "", "same_bytes": False
    }  # fmt: skip
    assert document["files"]["A"] == {
        "name": "a.gguf", "size": a.stat().st_size, "sha256": digest_file(a).sha256,
        "chunk_count": 2, "chunk_size": 8, "datasets": ["calibration.txt"],
    }  # fmt: skip


# Bad input.

MISSING = {f"{DENSE}.in_sum2": None, f"{DENSE}.counts": None}
BAD = {
    "absent": (None, "B: {b} cannot be read (No such file or directory): check the path"),
    "no GGUF": (b"legacy .dat file", "B: b.gguf is not a GGUF file: it starts with b'lega' instead of b'GGUF'"),
    "cut off": (b"GGUF\3\0", "B: b.gguf ends inside the version: it is truncated or damaged"),
    "a weight less": (MISSING, f"A holds {DENSE!r}, B does not: compare importance matrices of one model"),
    "weights more": (
        {f"{name}.{part}": np.ones(1, np.float32) for name in "yxz" for part in ("in_sum2", "counts")},
        "B holds 'x' and 2 more, A does not: compare importance matrices of one model",
    ),
    "more columns": (
        {f"{DENSE}.in_sum2": np.ones(9, np.float32)},
        f"{DENSE!r} has 1 x 8 columns in A, 1 x 9 in B: compare importance matrices of one model",
    ),
    "more experts": (
        {f"{EXPERTS}.in_sum2": np.ones((6, 2), np.float32), f"{EXPERTS}.counts": np.ones((6, 1), np.float32)},
        f"{EXPERTS!r} has 4 x 3 columns in A, 6 x 2 in B: compare importance matrices of one model",
    ),
    "NaN": (
        planted(f"{DENSE}.in_sum2", (1,), np.nan),
        f"B: b.gguf has a value in '{DENSE}.in_sum2' that is negative or not finite: it is damaged",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named(tmp_path: Path, a: Path, case: str) -> None:
    content, sentence = BAD[case]
    b = tmp_path / "b.gguf"
    if isinstance(content, bytes):
        b.write_bytes(content)
    elif content is not None:
        imatrix(b, content)
    with pytest.raises(FormatError) as caught:
        compare(a, b)
    assert str(caught.value) == sentence.replace("{b}", str(b))


def test_the_first_file_is_named_too(tmp_path: Path, a: Path) -> None:
    with pytest.raises(FormatError, match=r"^A: .* cannot be read \(Is a directory\): check the path$"):
        compare(tmp_path, a)


# The old format.


def old(path: Path, changes: Mapping[str, np.ndarray] | None = None) -> Path:
    """The same importances as of ``tensors``, divided by other numbers; experts lie one after the other."""
    found = tensors()
    squares = {name: found[f"{name}.in_sum2"] / found[f"{name}.counts"].reshape(-1, 1) for name in WEIGHTS}
    values = {name: 2 * each.ravel() for name, each in squares.items()} | dict(changes or {})
    path.write_bytes(legacy_imatrix({name: (2, each) for name, each in values.items()}, 2, "calibration.txt"))
    return path


def test_the_old_format_may_hold_the_same_importances(a: Path, tmp_path: Path) -> None:
    found = compare(a, old(tmp_path / "b.dat"))
    assert found.same
    assert {weight.same_bytes for weight in found.weights} == {True}
    assert found.notes == ("the old format of B has chunks where tokens are counted today: only importances compare",)
    assert "2 chunks of unknown length" in as_text(found)
    assert as_document(found)["files"]["B"]["chunk_size"] is None
    assert fault(as_document(found), "compare", "report.json") is None


def test_the_old_format_may_differ(a: Path, tmp_path: Path) -> None:
    found = compare(a, old(tmp_path / "b.dat", {DENSE: np.arange(1, 9, dtype=np.float32)}))
    assert {weight.name: weight.same_bytes for weight in found.weights} == {DENSE: False, EXPERTS: True}
    assert compare(old(tmp_path / "c.dat"), old(tmp_path / "d.dat")).same


def test_the_old_format_of_another_model_is_refused(a: Path, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="compare importance matrices of one model"):
        compare(a, old(tmp_path / "b.dat", {EXPERTS: np.ones(13, np.float32)}))
