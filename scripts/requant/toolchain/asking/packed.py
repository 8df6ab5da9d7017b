"""What is stored packed: labels for blocks of MXFP4, which upstream moves bit by bit, and the scales of FP8.

Upstream multiplies FP8 with scales before it does anything else. Which number goes with which row and column is seen
where ones are stored and scales are labels; rows themselves are followed with scales of one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .labels import FIELDS, KEYS, NARROW, WIDE_KEY, Checkpoint, Stored, decoded, label, mixed, unmixed

FP8 = ("F8_E4M3", "F8_E5M2")
SCALES = ("BF16", "F16", "F32")
"""What their scales come in; others are not read."""
BLOCKS, CODES = 8, 16
"""Blocks of a row that get labels, and the bytes of a block without its scale."""
SCALE_KEY = 0xA0761D6478BD642F


def block_labels(each: Stored, run: int) -> Any:
    """Labels in place of the blocks of MXFP4, uint8 ``[..., rows, 8, 16]``, or of their scales, ``[..., rows, 8]``.

    ``None`` for what is stored in another way.
    """
    if each.dtype != "U8" or len(each.shape) < 3:
        return None
    coded = len(each.shape) > 3 and each.shape[-1] == CODES
    leading = each.shape[:-2] if coded else each.shape[:-1]
    count = int(np.prod(leading, dtype=np.int64))
    starts = each.base + np.arange(count, dtype=np.int64) * (each.size // max(count, 1))
    if not coded:
        return mixed(starts, SCALE_KEY ^ run).view(np.uint8).reshape(*leading, BLOCKS)
    numbers = starts[:, None] * BLOCKS + np.arange(BLOCKS)
    both = np.stack([mixed(numbers, key ^ run) for key in KEYS], -1)
    return both.view(np.uint8).reshape(*leading, BLOCKS, CODES)


def unpacked(found: Any) -> tuple[Any, Any] | None:
    """Where each row of MXFP4 in ggml's order starts, and where its scales do; ``None`` if they are no labels."""
    if found.shape[-1] != BLOCKS * (CODES + 1):
        return None
    rows = found.reshape(-1, BLOCKS, CODES + 1)
    scales = unmixed(np.ascontiguousarray(rows[..., 0]).view(np.uint64)[:, 0], SCALE_KEY)
    elements = np.concatenate([rows[..., 1:] & 15, rows[..., 1:] >> 4], -1)
    codes = np.ascontiguousarray(elements[..., ::2] | elements[..., 1::2] << 4).view(np.uint64)
    numbers = [unmixed(codes[..., part], key) for part, key in enumerate(KEYS)]
    starts = numbers[0][:, :1] // np.uint64(BLOCKS)
    wanted = starts * np.uint64(BLOCKS) + np.arange(BLOCKS, dtype=np.uint64)
    if not all(np.array_equal(each, wanted) for each in numbers):
        return None
    return starts[:, 0].astype(np.int64), scales.astype(np.int64)


class Scales:
    """The question which scales upstream multiplies stored FP8 with; ``give`` makes the tensor of a number."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._shape: tuple[int, ...] = ()
        self._part, self._by_rows, self._used = 0, True, [0]
        self._known: dict[Any, tuple[int, int, int] | None] = {}

    def give(self, number: int) -> Any:
        """Ones for FP8, labels for anything else, as far as the question needs it."""
        import torch

        each = self._checkpoint.stored[number]
        if each.dtype in FP8:
            return torch.ones(self._shape)
        self._used.append(number)
        found = self._checkpoint.elements(number, self._part)
        if found.ndim > 1:
            found = found[..., :1] if self._by_rows else found[(slice(1),) * (found.ndim - 1)]
        return torch.from_numpy(np.ascontiguousarray(found))

    def of(self, number: int, make: Callable[[], Any]) -> tuple[int, int, int] | None:
        """The number of the scales, and for how many rows and columns each is; ``None`` if it is not so simple."""
        each = self._checkpoint.stored[number]
        try:
            first = self._ask(make, each, 0)
            [used] = set(self._used)
            scales = self._checkpoint.stored[used]
            key = each.shape, scales.shape
            if key not in self._known:
                self._known[key] = self._structure(make, each, scales)
            known = self._known[key]
        except Exception:  # noqa: BLE001 - whatever a class does otherwise
            return None
        if known is None or scales.dtype not in SCALES:
            return None
        rows, apart, columns = known
        if scales.size != -(-len(first) // rows) * -(-each.columns // columns):
            # Upstream cuts off scales that belong to nothing, which a layout does not say.
            return None
        elements = scales.base + np.arange(len(first)) // rows * apart
        return (used, rows, columns) if (first == label(elements, 0, WIDE_KEY)[:, None]).all() else None

    def _ask(self, make: Callable[[], Any], each: Stored, part: int, by_rows: bool = True) -> Any:
        self._part, self._by_rows, self._used = part, by_rows, []
        self._shape = (*each.shape[:-1], NARROW) if by_rows else (*[1] * (len(each.shape) - 1), each.columns)
        found = make().numpy()
        if found.shape != self._shape:
            raise ValueError("other numbers of rows or columns")
        return found.reshape(-1, self._shape[-1])

    def _structure(self, make: Callable[[], Any], each: Stored, scales: Stored) -> tuple[int, int, int] | None:
        """Rows with the same scales, numbers from one such to the next, and columns with the same scale."""
        total = self._checkpoint.total
        down = (
            decoded([self._ask(make, each, part)[:, 0] for part in range(len(FIELDS))], WIDE_KEY, total) - scales.base
        )
        rows = _run(down)
        apart = int(down[rows]) if rows < len(down) else scales.size
        columns = each.columns
        if apart > 1:
            parts = [self._ask(make, each, part, by_rows=False)[0] for part in range(len(FIELDS))]
            across = decoded(parts, WIDE_KEY, total) - scales.base
            columns = _run(across)
            if not np.array_equal(across, np.arange(len(across)) // columns) or across[-1] != apart - 1:
                return None
        return (rows, apart, columns) if np.array_equal(down, np.arange(len(down)) // rows * apart) else None


def _run(numbers: Any) -> int:
    """How many of the first numbers are equal."""
    changes = np.flatnonzero(np.diff(numbers))
    return int(changes[0]) + 1 if len(changes) else len(numbers)
