"""Weights that lie packed beside their scales, through the layouts that upstream's converter leads to."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.conversion.asked import layout_of, small_values
from requant.conversion.weights import CheckpointWeights
from requant.formats.ggml import GGMLType as T
from requant.formats.packed import FP8, mxfp4_values, pack_mxfp4
from requant.formats.safetensors import Checkpoint, read_checkpoint
from requant.ground.errors import FormatError
from requant.places import spans
from requant.places.place import LocalPlace, open_place
from requant.toolchain.asking import labels, packed
from support.hub import LoopbackHub

RANDOM = np.random.default_rng(5)
STORED: dict[str, tuple[str, np.ndarray[Any, Any]]] = {
    "x.weight": ("F8_E4M3", RANDOM.integers(0, 126, (50, 30), np.uint8)),
    "x.weight_scale_inv": ("F32", RANDOM.standard_normal((3, 2), np.float32)),
    "rows.weight": ("F8_E5M2", RANDOM.integers(0, 123, (50, 30), np.uint8)),
    "rows.weight_scale": ("F32", RANDOM.standard_normal((50, 1), np.float32)),
    "experts_blocks": ("U8", RANDOM.integers(0, 256, (2, 6, 3, 16), np.uint8)),
    "experts_scales": ("U8", RANDOM.integers(100, 140, (2, 6, 3), np.uint8)),
}
EIGHTS = [f"{expert}.weight" for expert in range(6)]
"""Experts in FP8, each stored beside its own scales."""
for name in EIGHTS:
    STORED[name] = "F8_E4M3", RANDOM.integers(0, 126, (50, 30), np.uint8)
    STORED[f"{name}_scale_inv"] = "BF16", RANDOM.integers(0x3F00, 0x4000, (3, 2), np.uint16)
NUMBERS = {name: number for number, name in enumerate(STORED)}
BLOCKS, EXPERTS = NUMBERS["experts_blocks"], NUMBERS["experts_scales"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    write(tmp_path)
    return read_checkpoint(LocalPlace(tmp_path, "the checkpoint"))


def write(folder: Path) -> None:
    header, data = {}, b""
    for name, (dtype, values) in STORED.items():
        header[name] = {
            "dtype": dtype,
            "shape": values.shape,
            "data_offsets": [len(data), len(data) + values.nbytes],
        }
        data += values.tobytes()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def weights(
    checkpoint: Checkpoint, said: dict[str, Any], runs: list[list[int]], **scales: list[int]
) -> CheckpointWeights:
    numbers = {str(NUMBERS[f"{name}.weight" if name in ("x", "rows") else name]): each for name, each in scales.items()}
    arrays = {"runs": np.array(runs), "within": np.array(said.pop("order", [0]))}
    return CheckpointWeights(checkpoint, layout_of(checkpoint, {"y": {"runs": "runs", **said}}, arrays, numbers), 0.5)


def test_fp8_is_multiplied_with_the_scale_of_its_block(checkpoint: Checkpoint) -> None:
    """Blocks of 20 rows and 16 columns, which are cut at the edges; one number for each row; columns turned around."""
    codes, scale = STORED["x.weight"][1], STORED["x.weight_scale_inv"][1]
    whole = FP8["F8_E4M3"][codes] * np.kron(scale, np.ones((20, 16), np.float32))[:50, :30]
    said = {"shape": [30, 50], "type": "BF16"}
    found = weights(checkpoint, {**said}, [[NUMBERS["x.weight"], 0, 50, 30]], x=[NUMBERS["x.weight_scale_inv"], 20, 16])
    for rows in (np.arange(50), np.array([49, 3, 20])):
        assert np.array_equal(found.rows("y", rows), whole[rows])
    assert (found.unchecked("y"), found.plain("y"), found.vias[0]) == (None, T.F32, T.BF16)
    turned = {**said, "within": "within", "order": [*reversed(range(30))]}
    found = weights(checkpoint, turned, [[NUMBERS["x.weight"], 0, 50, 30]], x=[NUMBERS["x.weight_scale_inv"], 20, 16])
    assert np.array_equal(found.rows("y", np.array([7, 41])), whole[[7, 41], ::-1])
    codes, scale = STORED["rows.weight"][1], STORED["rows.weight_scale"][1]
    found = weights(
        checkpoint, {**said}, [[NUMBERS["rows.weight"], 0, 50, 30]], rows=[NUMBERS["rows.weight_scale"], 1, 30]
    )
    assert np.array_equal(found.rows("y", np.arange(50)), FP8["F8_E5M2"][codes] * scale)


def test_experts_come_together_with_their_scales(
    clients: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a network in one request, however many there are and wherever in the file they lie; so do blocks of MXFP4."""
    monkeypatch.setattr(spans, "GAP", 0)
    (tmp_path / "org").mkdir()
    write(tmp_path / "org")
    clients.add_model("org/Eights", tmp_path / "org")
    wanted = []
    for name in EIGHTS:
        halves = (STORED[f"{name}_scale_inv"][1].astype(np.uint32) << 16).view(np.float32)
        scale = np.kron(halves, np.ones((20, 16), np.float32))[:50, :30]
        wanted.append(FP8["F8_E4M3"][STORED[name][1]] * scale)
    runs = np.array([[NUMBERS[name], 0, 50, 30] for name in EIGHTS])
    blocks = {"shape": [96, 6, 2], "type": "MXFP4", "runs": "blocks"}
    said = {"y": {"shape": [30, 50, len(EIGHTS)], "type": "BF16", "runs": "runs"}, "z": blocks}
    scales = {str(NUMBERS[name]): [NUMBERS[f"{name}_scale_inv"], 20, 16] for name in EIGHTS}
    arrays = {"runs": runs, "blocks": np.array([[BLOCKS, 0, 12, 48]])}
    with open_place("hf://org/Eights") as place:
        remote = read_checkpoint(place)
        layout = layout_of(remote, said, arrays, scales | {str(BLOCKS): [EXPERTS, 1, 16]})
        found = CheckpointWeights(remote, layout, 0.5)
        for rows in (np.arange(300), np.array([7, 30, 61, 140, 299])):
            clients.requests.clear()
            assert np.array_equal(found.rows("y", rows), np.concatenate(wanted)[rows])
            assert len(clients.seen("*.safetensors")) == 1
        clients.requests.clear()
        codes, exponents = (STORED[f"experts_{part}"][1].reshape(12, 3, -1)[[1, 9]] for part in ("blocks", "scales"))
        assert np.array_equal(found.packed("z", np.array([1, 9])), pack_mxfp4(codes, exponents[..., 0]))
        assert len(clients.seen("*.safetensors")) == 1


def test_without_scales_it_is_unchecked(checkpoint: Checkpoint) -> None:
    found = weights(checkpoint, {"shape": [30, 50], "type": "BF16"}, [[NUMBERS["x.weight"], 0, 50, 30]])
    assert "x.weight is stored as F8_E4M3" in str(found.unchecked("y"))


def test_mxfp4_is_copied(checkpoint: Checkpoint) -> None:
    """Every second row of both experts, as gpt-oss has its gates between other rows."""
    runs = [[BLOCKS, 0, 3, 2 * 48], [BLOCKS, 6 * 48, 3, 2 * 48]]
    found = weights(checkpoint, {"shape": [96, 3, 2], "type": "MXFP4"}, runs, experts_blocks=[EXPERTS, 1, 16])
    wanted = [
        pack_mxfp4(*(STORED[f"experts_{part}"][1][expert, ::2] for part in ("blocks", "scales"))) for expert in (0, 1)
    ]
    assert (found.unchecked("y"), found.plain("y")) == (None, T.MXFP4)
    for rows in (np.arange(6), np.array([5, 0])):
        assert np.array_equal(found.packed("y", rows), np.concatenate(wanted)[rows])
        assert np.array_equal(found.rows("y", rows), mxfp4_values(np.concatenate(wanted)[rows]))


@pytest.mark.parametrize(
    "scale", [[1, 25, 16], [1, 0, 16], [99, 20, 16], [-1, 20, 16], [EXPERTS, 20, 16], [1, 20, -16]]
)
def test_scales_that_cannot_be_are_refused(checkpoint: Checkpoint, scale: list[int]) -> None:
    with pytest.raises(FormatError, match="named others than a tensor can have"):
        weights(checkpoint, {"shape": [30, 50], "type": "BF16"}, [[0, 0, 50, 30]], x=scale)


@pytest.mark.parametrize(
    ("kind", "run", "scale"),
    [
        ("MXFP4", [BLOCKS, 0, 6, 48], [BLOCKS, 1, 16]), ("MXFP4", [BLOCKS, 0, 6, 48], [EXPERTS, 2, 16]),
        ("MXFP4", [BLOCKS, 0, 6, 48], []), ("MXFP4", [BLOCKS, 16, 6, 48], [EXPERTS, 1, 16]),
        ("MXFP4", [BLOCKS, 0, 13, 48], [EXPERTS, 1, 16]), ("BF16", [BLOCKS, 0, 6, 48], [EXPERTS, 1, 16]),
    ],
)  # fmt: skip
def test_blocks_that_are_not_there_are_refused(
    checkpoint: Checkpoint, kind: str, run: list[int], scale: list[int]
) -> None:
    scales = {"experts_blocks": scale} if scale else {}
    with pytest.raises(FormatError, match=r"named (others|rows|other scales)"):
        weights(checkpoint, {"shape": [96, run[2]], "type": kind}, [run], **scales)


def test_scales_are_no_small_values(checkpoint: Checkpoint) -> None:
    """They are many, and upstream is asked without them."""
    assert [*small_values(checkpoint)] == []


def test_labels_of_blocks_show_where_they_are() -> None:
    codes, scales = labels.Stored("codes", "U8", (2, 6, 3, 16), 100), labels.Stored("scales", "U8", (2, 6, 3), 9000)
    made = [packed.block_labels(each, 0) for each in (codes, scales)]
    order = np.random.default_rng(0).permutation(12)
    rows = pack_mxfp4(*(each.reshape(12, *each.shape[2:])[order] for each in made))
    found = packed.unpacked(rows)
    assert found is not None
    assert np.array_equal(found[0], 100 + 48 * order) and np.array_equal(found[1], 9000 + 3 * order)
    for place in (1, 30, 135):
        other = rows.copy()
        other[3, place] ^= 16
        assert packed.unpacked(other) is None
    swapped = rows.copy()
    swapped[0, :17], swapped[0, 17:34] = rows[0, 17:34], rows[0, :17]
    assert packed.unpacked(swapped) is None
    assert packed.unpacked(rows[:, :-1]) is None
    assert not np.array_equal(packed.block_labels(codes, 1), made[0])


@pytest.mark.parametrize(("dtype", "shape"), [("U8", (8, 16)), ("I8", (2, 6, 3, 16)), ("F8_E4M3", (4, 4, 4))])
def test_nothing_else_gets_labels_of_blocks(dtype: str, shape: tuple[int, ...]) -> None:
    assert packed.block_labels(labels.Stored("x", dtype, shape, 0), 0) is None
