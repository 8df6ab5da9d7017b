"""requant.formats.imatrix: reads importance matrices and says what is wrong with others."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from requant.formats.imatrix import check_counts, check_run, read_imatrix
from requant.ground.errors import FormatError
from support.gguf_files import array, gguf_bytes, pair, string, tensor, write_imatrix

TOKENS = 16  # two chunks of eight


def tensors() -> dict[str, np.ndarray]:
    """One dense weight, and four experts of whom each token takes two; as numpy shapes, slowest first."""
    return {
        "blk.0.attn_q.weight.in_sum2": np.arange(5, dtype=np.float32),
        "blk.0.attn_q.weight.counts": np.array([TOKENS], np.float32),
        "blk.0.ffn_up_exps.weight.in_sum2": np.arange(12, dtype=np.float32).reshape(4, 3),
        "blk.0.ffn_up_exps.weight.counts": np.array([[16], [10], [6], [0]], np.float32),
    }


def test_entries_come_back(tmp_path: Path) -> None:
    imatrix = read_imatrix(write_imatrix(tmp_path / "imatrix.gguf", tensors(), ["a.txt", "b.txt"]))
    assert (imatrix.name, imatrix.chunk_count, imatrix.chunk_size) == ("imatrix.gguf", 2, 8)
    assert imatrix.datasets == ["a.txt", "b.txt"]
    assert list(imatrix.entries) == ["blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight"]
    dense, experts = imatrix.entries.values()
    assert dense.in_sum2.tolist() == [[0, 1, 2, 3, 4]]
    assert dense.counts.tolist() == [TOKENS]
    assert experts.in_sum2.tolist() == np.arange(12).reshape(4, 3).tolist()
    assert experts.counts.tolist() == [16, 10, 6, 0]
    assert imatrix.unseen == {"blk.0.ffn_up_exps.weight": 1}
    assert dense.in_sum2.dtype == np.float32
    assert not dense.in_sum2.flags.writeable


def test_what_quantization_does_not_use_is_passed_over(tmp_path: Path) -> None:
    """llama-quantize takes such files too: ``tests/e2e/test_matrices.py``."""
    others = {
        f"{DENSE}.in_sum": np.full(5, -1, np.float32),
        f"{DENSE}.stats": np.zeros(3),
        "notes": np.zeros(2, np.int32),
    }
    found = read_imatrix(write_imatrix(tmp_path / "x.gguf", tensors() | others)).entries
    assert [*found] == [DENSE, EXPERTS]


DENSE = "blk.0.attn_q.weight"
EXPERTS = "blk.0.ffn_up_exps.weight"
BROKEN = {
    "no counts": ({f"{DENSE}.counts": None}, f"has no tensor '{DENSE}.counts'"),
    "no squares": ({f"{DENSE}.in_sum2": None}, f"has no tensor '{DENSE}.in_sum2'"),
    "float16": ({f"{DENSE}.in_sum2": np.zeros(5, np.float16)}, f"'{DENSE}.in_sum2' as F16"),
    "float64 counts": ({f"{DENSE}.counts": np.ones(1)}, f"'{DENSE}.counts' as F64"),
    "NaN": ({f"{DENSE}.in_sum2": np.array([1, np.nan], np.float32)}, f"'{DENSE}.in_sum2' that is negative or not"),
    "infinite": ({f"{EXPERTS}.counts": np.full((4, 1), np.inf, np.float32)}, f"'{EXPERTS}.counts' that is negative or"),
    "negative": ({f"{DENSE}.in_sum2": np.array([1, -1], np.float32)}, f"'{DENSE}.in_sum2' that is negative"),
    "negative count": ({f"{DENSE}.counts": np.array([-1], np.float32)}, f"'{DENSE}.counts' that is negative"),
    "half a token": ({f"{DENSE}.counts": np.array([0.5], np.float32)}, "is not a whole number"),
    "fewer counts": ({f"{EXPERTS}.counts": np.ones((3, 1), np.float32)}, f"'{EXPERTS}.in_sum2' of shape"),
    "counts transposed": ({f"{EXPERTS}.counts": np.ones((1, 4), np.float32)}, f"'{EXPERTS}.in_sum2' of shape"),
    "three dimensions": ({f"{DENSE}.in_sum2": np.ones((2, 1, 4), np.float32)}, f"'{DENSE}.in_sum2' of shape"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_tensors_are_named(tmp_path: Path, case: str) -> None:
    changes, expected = BROKEN[case]
    entries = {name: data for name, data in (tensors() | changes).items() if data is not None}
    with pytest.raises(FormatError, match=expected) as caught:
        read_imatrix(write_imatrix(tmp_path / "x.gguf", entries))
    assert str(caught.value).startswith("x.gguf ")


KEYS = {
    "general.type": pair("general.type", 8, string("imatrix")),
    "imatrix.datasets": pair("imatrix.datasets", 9, array(8, 1, string("a.txt"))),
    "imatrix.chunk_count": pair("imatrix.chunk_count", 4, bytes(4)),
    "imatrix.chunk_size": pair("imatrix.chunk_size", 4, bytes(4)),
}


def with_pairs(pairs: Iterable[bytes]) -> bytes:
    """Put a matrix of one weight behind arbitrary metadata."""
    infos = [tensor("a.in_sum2", [8]), tensor("a.counts", [1], 0, 32)]
    return gguf_bytes(list(pairs), infos, bytes(64))


@pytest.mark.parametrize("key", KEYS)
def test_missing_and_mistyped_keys_are_named(tmp_path: Path, key: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(with_pairs(KEYS.values()))
    read_imatrix(path)
    path.write_bytes(with_pairs(data for name, data in KEYS.items() if name != key))
    with pytest.raises(FormatError, match=f"has no {key}"):
        read_imatrix(path)
    path.write_bytes(with_pairs((KEYS | {key: pair(key, 1, bytes(1))}).values()))
    with pytest.raises(FormatError, match=f"has a {key} that is not of type"):
        read_imatrix(path)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (KEYS | {"general.type": pair("general.type", 8, string("model"))}, "has general.type 'model'"),
        (KEYS | {"imatrix.datasets": pair("imatrix.datasets", 9, array(8, 1, string(b"\xff")))}, "not UTF-8"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, pairs: dict[str, bytes], expected: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(with_pairs(pairs.values()))
    with pytest.raises(FormatError, match=expected):
        read_imatrix(path)


def test_models_and_empty_matrices_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_bytes(list(KEYS.values())))
    with pytest.raises(FormatError, match="holds no importances"):
        read_imatrix(path)
    path.write_bytes(b"\x04\0\0\0some other file")
    with pytest.raises(FormatError, match="is not a GGUF file"):
        read_imatrix(path)


def test_the_run_that_was_asked_for_passes(tmp_path: Path) -> None:
    check_run(read_imatrix(write_imatrix(tmp_path / "x.gguf", tensors())), 2, 8, "calibration.txt")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ((3, 8, "calibration.txt"), r"imatrix\.chunk_count 2, expected 3"),
        ((2, 4, "calibration.txt"), r"imatrix\.chunk_size 8, expected 4"),
        ((2, 8, "other.txt"), r"imatrix\.datasets \['calibration\.txt'\], expected \['other\.txt'\]"),
    ],
)
def test_another_run_is_named(tmp_path: Path, asked: tuple[int, int, str], expected: str) -> None:
    imatrix = read_imatrix(write_imatrix(tmp_path / "x.gguf", tensors()))
    with pytest.raises(FormatError, match=expected):
        check_run(imatrix, *asked)


@pytest.mark.parametrize(
    ("name", "counts", "expected"),
    [
        (DENSE, [8], f"counts 8 tokens for '{DENSE}', expected 16"),
        (DENSE, [0], f"counts 0 tokens for '{DENSE}', expected 16"),
        (EXPERTS, [[16], [10], [5], [0]], f"counts 31 tokens for the experts of '{EXPERTS}'"),
        (EXPERTS, [[17], [15], [0], [0]], "17 for one of them, expected a multiple of 16"),
        (EXPERTS, [[0], [0], [0], [0]], "counts 0 tokens for the experts"),
    ],
)
def test_other_counts_are_named(tmp_path: Path, name: str, counts: list, expected: str) -> None:
    entries = tensors() | {f"{name}.counts": np.array(counts, np.float32)}
    imatrix = read_imatrix(write_imatrix(tmp_path / "x.gguf", entries))
    with pytest.raises(FormatError, match=expected):
        check_run(imatrix, 2, 8, "calibration.txt")


def test_a_sum_of_shards_names_its_text_for_each(tmp_path: Path) -> None:
    imatrix = read_imatrix(write_imatrix(tmp_path / "x.gguf", tensors(), ["calibration.txt"] * 3))
    check_run(imatrix, 2, 8, "calibration.txt", shards=3)
    with pytest.raises(FormatError, match=r"has imatrix\.datasets .* it comes from another run"):
        check_run(imatrix, 2, 8, "calibration.txt", shards=2)


def test_importances_that_are_all_zero_are_refused(tmp_path: Path) -> None:
    """llama-quantize would make a tensor of zeros from them, and say nothing."""
    dead = tensors()
    dead[f"{DENSE}.in_sum2"] = np.zeros_like(dead[f"{DENSE}.in_sum2"])
    imatrix = read_imatrix(write_imatrix(tmp_path / "x.gguf", dead))
    with pytest.raises(FormatError, match=f"has no importance but zero for '{DENSE}': something before it gives zeros"):
        check_run(imatrix, 2, 8, "calibration.txt")
    # Of a shard they may be: the others decide.
    check_counts(imatrix, 2, 8, "calibration.txt")
