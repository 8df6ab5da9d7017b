"""Labels that show where rows went, and the layouts that are read off them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from requant.conversion.asked import layout_of, small_values
from requant.conversion.sources import Layout
from requant.conversion.weights import CheckpointWeights
from requant.formats.ggml import GGMLType
from requant.formats.safetensors import Checkpoint, read_checkpoint
from requant.ground.errors import FormatError
from requant.places.place import LocalPlace
from requant.toolchain.asking import labels

SHAPES: dict[str, tuple[int, ...]] = {
    "a.weight": (8, 6), "b.weight": (8, 6), "experts.proj": (2, 4, 6), "norm.weight": (6,), "experts.bias": (2, 6), "none": (0, 6),
}  # fmt: skip


@pytest.fixture
def stored(tmp_path: Path) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(3)
    made = {name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    save_file(made, tmp_path / "model.safetensors")
    return made


@pytest.fixture
def checkpoint(stored: dict[str, Any], tmp_path: Path) -> Checkpoint:
    return read_checkpoint(LocalPlace(tmp_path, "the checkpoint"))


def test_labels_stand_for_elements_and_for_nothing_once_they_were_computed_with() -> None:
    numbers = np.random.default_rng(1).integers(0, 1 << 40, 1000)
    parts = [labels.label(numbers, part, 7) for part in range(3)]
    assert np.array_equal(labels.decoded(parts, 7, 1 << 40), numbers)
    assert (labels.decoded(parts, 8, 1 << 40) == -1).all()
    for change in (
        lambda x: x + 1,
        lambda x: -x,
        lambda x: x * 2,
        lambda x: np.nextafter(x, 9),
        lambda x: (x + x[::-1]) / 2,
    ):
        assert (labels.decoded([change(parts[0]), *parts[1:]], 7, 1 << 40) == -1).all()
    assert (labels.decoded(parts[::-1], 7, 1 << 40) == -1).all()


@pytest.mark.parametrize("seed", range(5))
def test_runs_are_the_rows(seed: int) -> None:
    random = np.random.default_rng(seed)
    owners = np.sort(random.integers(0, 3, 40)) if seed else np.zeros(1, np.int64)
    starts = random.permutation(1000)[: len(owners)] if seed % 2 else np.arange(len(owners)) * 6 % 90
    runs = labels.runs_of(starts, owners)
    again = [(owner, first + step * i) for owner, first, count, step in runs.tolist() for i in range(count)]
    assert again == [*zip(owners.tolist(), starts.tolist(), strict=True)]


def layout(checkpoint: Checkpoint, tensors: dict[str, Any], **arrays: list[Any]) -> Layout:
    found = {name: np.array(values) for name, values in arrays.items()}
    return layout_of(checkpoint, json.loads(json.dumps(tensors)), found)


def test_rows_come_from_where_they_are(stored: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Whole rows of several tensors, a stack of experts, its transpose, and columns in another order."""
    names = {name: number for number, name in enumerate(checkpoint.tensors)}
    a, b, experts = names["a.weight"], names["b.weight"], names["experts.proj"]
    found = layout(
        checkpoint,
        {
            "mixed": {"shape": [6, 3, 2], "type": "BF16", "runs": "mixed"},
            "turned": {"shape": [4, 6, 2], "type": "BF16", "runs": "turned", "within": "down"},
            "columns": {"shape": [6, 8], "type": "BF16", "runs": "whole", "within": "order"},
            "one": {"shape": [6], "type": "F32", "values": "one", "exact": True},
            "lost": {"shape": [6, 2], "type": "BF16", "unchecked": "nobody knows"},
            "rounded": {"shape": [2, 1], "type": "BF16", "values": "one", "exact": True},
        },
        mixed=[[b, 42, 3, -12], [a, 0, 2, 6], [experts, 30, 1, 0]],
        turned=[[experts, 0, 6, 1], [experts, 24, 6, 1]], down=[0, 6, 12, 18],
        whole=[[a, 0, 8, 6]], order=[5, 4, 3, 2, 1, 0],
        one=[1, 2, 3, 4, 5, 6],
    )  # fmt: skip
    weights = CheckpointWeights(checkpoint, found, 0.5)
    mixed = np.concatenate([stored["b.weight"][[7, 5, 3]], stored["a.weight"][:2], stored["experts.proj"][1, 1:2]])
    turned = stored["experts.proj"].transpose(0, 2, 1).reshape(12, 4)
    for name, expected in (("mixed", mixed), ("turned", turned), ("columns", stored["a.weight"][:, ::-1])):
        for rows in (np.arange(len(expected)), np.array([5, 1, 4]), np.array([2])):
            assert np.array_equal(weights.rows(name, rows), expected[rows]), name
    assert weights.rows("one", np.array([0])).tolist() == [[1, 2, 3, 4, 5, 6]]
    assert (weights.tolerance("one"), weights.shapes["turned"]) == (0.0, (4, 6, 2))
    assert weights.unchecked("lost") == "nobody knows"
    assert "stores it as BF16" in str(weights.unchecked("rounded"))
    assert found.tensors["mixed"].type is GGMLType.BF16


@pytest.mark.parametrize(
    "run",
    [[9, 0, 8, 6], [-1, 0, 8, 6], [0, -6, 8, 6], [0, 6, 8, 6], [0, 0, 8, 5], [0, 3, 8, 6], [0, 0, 7, 6], [0, 0, -8, 6]],
)
def test_rows_that_are_not_there_are_refused(checkpoint: Checkpoint, run: list[int]) -> None:
    tensors = {"x": {"shape": [6, 8], "type": "BF16", "runs": "x"}}
    with pytest.raises(FormatError, match="named rows that are not there"):
        layout(checkpoint, tensors, x=[run])
    with pytest.raises(FormatError, match="named rows that are not there"):
        layout(
            checkpoint,
            {"x": {**tensors["x"], "within": "within"}},
            x=[[0, 0, 8, 6]],
            within=[0, 1, 2, 3, 4, 6 + run[2]],
        )


def test_small_values_are_vectors_and_what_is_no_matrix(stored: dict[str, Any], checkpoint: Checkpoint) -> None:
    values = dict(small_values(checkpoint))
    assert values.keys() == {"norm.weight", "experts.bias"}
    assert all(np.array_equal(each, stored[name]) for name, each in values.items())
