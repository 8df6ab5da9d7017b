"""Comparing two importance matrices: how far apart are the numbers that llama-quantize takes from them.

The importance of a column is ``in_sum2 / counts`` in float32, as ``tools/quantize/quantize.cpp`` of llama.cpp computes
it; there all columns of an expert that saw no token have importance 1. The relative difference of a column is
``|a - b| / max(a, b)``, and 0 where both are 0. Every number is the same with A and B exchanged.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from requant.difference.summary import summed_up
from requant.documents.records import file_entry
from requant.documents.reports import COMPARE
from requant.formats.gguf import quoted
from requant.formats.imatrix import Entry, Floats, Imatrix, apart, importance, read_imatrix
from requant.ground.digests import Digest, digest_file
from requant.ground.errors import FormatError, naming
from requant.ground.text import counted, table

MOST = 0.99

Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Difference:
    """How far apart one weight's importances are, or those of all weights together.

    ``median``, ``most`` and ``largest`` are relative differences: half of the columns, 99 % of them and all of them
    differ by no more. ``cosine`` is the cosine of the angle between the two lists of importances. ``same_bytes`` says
    whether ``in_sum2`` and ``counts`` are equal, byte for byte; where the old format holds one side, the importances.
    """

    name: str
    columns: int
    median: float
    most: float
    largest: float
    cosine: float
    same_bytes: bool


@dataclass(frozen=True)
class Side:
    """One of the two files."""

    path: Path
    digest: Digest
    imatrix: Imatrix


@dataclass(frozen=True)
class Comparison:
    """Two importance matrices of one model, ``sides`` A and B.

    ``notes`` are sentences on what differs besides the numbers. ``weights`` are in the order of A; ``total`` looks at
    all their columns as if they were one weight's.
    """

    sides: Mapping[str, Side]
    notes: tuple[str, ...]
    weights: tuple[Difference, ...]
    total: Difference

    @property
    def same(self) -> bool:
        """Whether all that a matrix says is equal; two files may order it in other ways."""
        return self.total.same_bytes and not self.other_keys

    @property
    def summary(self) -> str:
        """One sentence: the same, or in what they differ."""
        differing, weights = (
            len([row for row in self.weights if not row.same_bytes]),
            counted(len(self.weights), "weight"),
        )
        keys = len(self.other_keys)
        parts = ((keys, counted(keys, "key")), (differing, f"{differing:,} of {weights}"))
        return summed_up(self.same, f"all numbers of {weights} are equal", parts)

    @property
    def other_keys(self) -> tuple[tuple[str, object, object], ...]:
        """Keys of the two runs that differ, each with what it is in A and in B."""
        a, b = (side.imatrix for side in self.sides.values())
        return tuple(_other_keys(a, b))


def compare(a: Path, b: Path) -> Comparison:
    """Compare two importance matrices.

    Raises:
        FormatError: when one of them cannot be read or is damaged (which of them is said), or when they do not hold the
            same weights with the same shapes.
    """
    sides = {}
    for label, path in (("A", a), ("B", b)):
        with naming(label, path):
            sides[label] = Side(path, digest_file(path), read_imatrix(path))
    one, other = (side.imatrix.entries for side in sides.values())
    one, other = _of_one_shape(one, other), _of_one_shape(other, one)
    _require_same_weights(one, other)
    importances = [(importance(one[name]), importance(other[name])) for name in one]
    # The old format holds other sums of the same importances.
    old = any(side.imatrix.legacy for side in sides.values())
    same = [
        a.tobytes() == b.tobytes() if old else _same_bytes(one[name], other[name])
        for name, (a, b) in zip(one, importances, strict=True)
    ]
    weights = [difference(name, *pair, equal) for name, pair, equal in zip(one, importances, same, strict=True)]
    all_a, all_b = (np.concatenate([values.ravel() for values in side]) for side in zip(*importances, strict=True))
    total = difference("total", all_a, all_b, all(same))
    return Comparison(sides, tuple(_notes(sides)), tuple(weights), total)


def difference(name: str, a: Floats, b: Floats, same_bytes: bool) -> Difference:
    """Compare importances of equal shape, none of them negative; see ``Difference``."""
    # In float64 neither the differences nor the squares of float32 numbers overflow or vanish.
    one, other = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    larger = np.maximum(one, other)
    relative = np.divide(np.abs(one - other), larger, out=np.zeros_like(larger), where=larger > 0)
    # This method picks a value that occurs, so the sentence "99 % differ by no more" is exact.
    median, most = np.quantile(relative, (0.5, MOST), method="inverted_cdf")
    cosine = _cosine(one, other)
    return Difference(name, relative.size, float(median), float(most), float(relative.max()), cosine, same_bytes)


def _cosine(a: Doubles, b: Doubles) -> float:
    """The cosine from the distance of the unit vectors: exactly 1 for equal ones, and precise near 1."""
    length_a, length_b = (float(np.sqrt(np.sum(values * values))) for values in (a, b))
    if not length_a or not length_b:
        return float(length_a == length_b)
    apart = a / length_a - b / length_b
    return max(0.0, 1 - float(np.sum(apart * apart)) / 2)


def _same_bytes(a: Entry, b: Entry) -> bool:
    return a.in_sum2.tobytes() == b.in_sum2.tobytes() and a.counts.tobytes() == b.counts.tobytes()


def _of_one_shape(side: Mapping[str, Entry], other: Mapping[str, Entry]) -> dict[str, Entry]:
    """Entries with experts apart where the other side has them so."""
    return {name: apart(entry, len(other[name].counts)) if name in other else entry for name, entry in side.items()}


def _require_same_weights(a: Mapping[str, Entry], b: Mapping[str, Entry]) -> None:
    for label, other, names in (("A", "B", [*(a.keys() - b.keys())]), ("B", "A", [*(b.keys() - a.keys())])):
        if names:
            raise FormatError(
                f"{label} holds {_listed(sorted(names))}, {other} does not: compare importance matrices of one model"
            )
    for name in a:
        (experts, columns), found = a[name].in_sum2.shape, b[name].in_sum2.shape
        if (experts, columns) != found:
            raise FormatError(
                f"{quoted(name)} has {experts} x {columns} columns in A, {found[0]} x {found[1]} in B: "
                "compare importance matrices of one model"
            )


def _listed(names: Sequence[str]) -> str:
    """The first name, and how many more there are."""
    return quoted(names[0]) + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def _notes(sides: Mapping[str, Side]) -> Iterator[str]:
    """What the two runs did differently, and where a measurement is missing."""
    a, b = (side.imatrix for side in sides.values())
    yield from (f"{key} is {one} in A, {other} in B" for key, one, other in _other_keys(a, b))
    counted = [name for name in a.entries if not np.array_equal(a.entries[name].counts, b.entries[name].counts)]
    if a.legacy or b.legacy:
        labels = " and ".join(label for label, side in sides.items() if side.imatrix.legacy)
        yield f"the old format of {labels} has chunks where tokens are counted today: only importances compare"
    elif counted:
        yield f"other numbers of tokens were counted for {_listed(counted)}"
    for label, side in sides.items():
        if side.imatrix.unseen:
            yield (
                f"in {label} an expert of {_listed(list(side.imatrix.unseen))} saw no token: "
                "llama-quantize gives its columns importance 1"
            )


def _other_keys(a: Imatrix, b: Imatrix) -> Iterator[tuple[str, object, object]]:
    for key in ("chunk_count", "chunk_size", "datasets"):
        one, other = getattr(a, key), getattr(b, key)
        if one != other and None not in (one, other):
            yield f"imatrix.{key}", one, other


def as_text(comparison: Comparison) -> str:
    """The comparison as a table for people."""
    lines = [f"{label}: {side.path}, {side.imatrix.run}" for label, side in comparison.sides.items()]
    rows = [
        (
            row.name, f"{row.columns:,}", f"{row.median:.3g}", f"{row.most:.3g}", f"{row.largest:.3g}",
            f"{row.cosine:.9f}", "same" if row.same_bytes else "differ",
        )
        for row in (*comparison.weights, comparison.total)
    ]  # fmt: skip
    head = ("relative difference of importance", "columns", "median", "99 %", "max", "cosine", "bytes")
    return "\n".join([*lines, *(f"note: {note}" for note in comparison.notes), *table(head, rows)])


def as_document(comparison: Comparison) -> dict[str, Any]:
    """The comparison for canonical JSON, which holds no floats: they are text, such as ``"1.5e-07"``."""
    return {
        "schema": COMPARE,
        "files": {
            label: {
                **file_entry(side.path.name, side.digest),
                "chunk_count": side.imatrix.chunk_count,
                "chunk_size": side.imatrix.chunk_size,
                "datasets": side.imatrix.datasets,
            }
            for label, side in comparison.sides.items()
        },
        "notes": list(comparison.notes),
        "weights": [_entry(row) for row in comparison.weights],
        "total": _entry(comparison.total),
    }


def _entry(row: Difference) -> dict[str, Any]:
    return {
        "name": row.name,
        "columns": row.columns,
        "median": f"{row.median:.9g}",
        "p99": f"{row.most:.9g}",
        "max": f"{row.largest:.9g}",
        "cosine": f"{row.cosine:.12f}",
        "same_bytes": row.same_bytes,
    }
