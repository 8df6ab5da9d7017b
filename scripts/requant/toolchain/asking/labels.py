"""Labels: numbers that stand for elements of a checkpoint, and show where these went.

A label has 64 bits, in three float32 parts from 1 up to 2. What is not exactly a label stands for nothing, so a row
that was added to, scaled or cut is not taken for one that was moved.
"""

from typing import Any, NamedTuple

import numpy as np

NARROW = 3
"""Columns of a row's label: a prime, so that no class splits or pairs them unseen."""
FIELDS = ((0, 22), (22, 21), (43, 21))
"""Shift and bits of the parts of a label."""
KEYS = (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03)
"""Of rows' labels, in two runs: what depends on no label is the same in both."""
WIDE_KEY = 0xDA942042E4DD58B5
"""Of elements' labels."""
STEP = 1 << 22
"""Elements that are worked on at a time."""


class Stored(NamedTuple):
    """A stored tensor: ``base`` is the number of its first element, all tensors' taken together."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    base: int

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def columns(self) -> int:
        """Elements of a row; a scalar is one row of one."""
        return self.shape[-1] if self.shape else 1


def mixed(numbers: Any, key: int) -> Any:
    """64 bits that stand for each number: the finalizer of splitmix64, which is a permutation."""
    x = numbers.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31)) ^ np.uint64(key)


def unmixed(x: Any, key: int) -> Any:
    """The numbers that ``mixed`` gives these bits for."""
    x = x ^ np.uint64(key)
    x = (x ^ (x >> np.uint64(31)) ^ (x >> np.uint64(62))) * np.uint64(0x319642B2D24D8EC3)
    x = (x ^ (x >> np.uint64(27)) ^ (x >> np.uint64(54))) * np.uint64(0x96DE1B173F119089)
    return x ^ (x >> np.uint64(30)) ^ (x >> np.uint64(60))


def label(numbers: Any, part: int, key: int) -> Any:
    """One part of the labels of some elements, as float32."""
    shift, bits = FIELDS[part]
    field = (mixed(numbers, key) >> np.uint64(shift)) & np.uint64((1 << bits) - 1)
    return (field.astype(np.uint32) | np.uint32(0x3F800000)).view(np.float32)


def decoded(parts: list[Any], key: int, total: int) -> Any:
    """The elements that three parts stand for, -1 where they stand for none; int64."""
    whole = np.zeros(parts[0].shape, np.uint64)
    good = np.ones(parts[0].shape, np.bool_)
    for part, (shift, bits) in zip(parts, FIELDS, strict=True):
        raw = np.ascontiguousarray(part, np.float32).view(np.uint32)
        field = raw & np.uint32(0x7FFFFF)
        good &= (raw >> np.uint32(23) == 127) & (field < (1 << bits))
        whole |= field.astype(np.uint64) << np.uint64(shift)
    numbers = unmixed(whole, key)
    good &= numbers < np.uint64(total)
    return np.where(good, numbers, np.uint64(0)).astype(np.int64) - (~good).astype(np.int64)


class Checkpoint:
    """All stored tensors, and the real values of some."""

    def __init__(self, tensors: list[list[Any]], values: dict[int, Any]) -> None:
        self.stored: list[Stored] = []
        self.values, self.total = values, 0
        for name, dtype, shape in tensors:
            self.stored.append(Stored(name, dtype, tuple(shape), self.total))
            self.total += self.stored[-1].size
        self.bases = np.array([each.base for each in self.stored], np.int64)

    def owners(self, elements: Any) -> Any:
        """Which stored tensor each element belongs to; the last of those that begin there, as others are empty."""
        return np.searchsorted(self.bases, elements, "right") - 1

    def rows(self, number: int, run: int) -> Any:
        """The labels of a stored tensor's rows, in three columns; others in each run."""
        each = self.stored[number]
        starts = each.base + np.arange(each.size // each.columns, dtype=np.int64) * each.columns
        parts = [label(starts, part, KEYS[run]) for part in range(NARROW)]
        return np.stack(parts, -1).reshape(*each.shape[:-1], NARROW)

    def elements(self, number: int, part: int) -> Any:
        """One part of the labels of all elements of a stored tensor."""
        each = self.stored[number]
        found = np.empty(each.size, np.float32)
        for first in range(0, each.size, STEP):
            numbers = each.base + np.arange(first, min(first + STEP, each.size), dtype=np.int64)
            found[first : first + len(numbers)] = label(numbers, part, WIDE_KEY)
        return found.reshape(each.shape)


def runs_of(starts: Any, owners: Any) -> Any:
    """Rows that lie equally far apart in one stored tensor, taken together: owner, first element, count, step."""
    if len(starts) == 1:
        return np.array([[owners[0], starts[0], 1, 0]], np.int64)
    steps = np.diff(starts)
    broken = np.r_[True, owners[1:] != owners[:-1], True]
    firsts, at = [], 0
    change = np.flatnonzero(np.r_[False, steps[1:] != steps[:-1]])
    ends = np.flatnonzero(broken[1:]) + 1
    while at < len(starts):
        firsts.append(at)
        end = ends[np.searchsorted(ends, at, "right")]
        # The step may change where a row begins; the row before keeps its own.
        odd = np.searchsorted(change, at, "right")
        at = int(min(end, change[odd] + 1 if odd < len(change) else len(starts)))
    first = np.array(firsts)
    count = np.diff(np.r_[first, len(starts)])
    step = np.where(count > 1, steps[np.minimum(first, len(steps) - 1)], 0)
    return np.stack([owners[first], starts[first], count, step], 1).astype(np.int64)
