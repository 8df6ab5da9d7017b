"""Is an importance matrix like one that was measured: by its own numbers, and by what it did to the weights.

A tensor that derives exactly from weights and matrix may still be ruined by the matrix: columns that it calls worthless
are rounded anyhow. Only its effect can tell, as nobody but who measures again knows the activations. Beyond the bounds
here, which honest matrices were seen to keep (docs/verdicts.md has the numbers), a matrix is unchecked, no evidence:
there are models with dead columns, and texts that wake few of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from requant.audit.metadata.comparison import Grade, MetadataFinding
from requant.formats.ggml import NEEDS_IMPORTANCE, PLAIN, Bytes, Floats, GGMLType, Indices
from requant.ground.text import listed, printable
from requant.quantization.derivation import Rows
from requant.quantization.quantizer import Quantizer

Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

MATRIX = "imatrix"
"""The key of all that is said here."""
GROUP = 32
"""Columns that share a scale or less than one: importances matter beside those of the same group only."""
LOOKED, LEAST = 1 << 13, 2
"""Weights of a tensor that are derived without importances too, and rows at least."""
SPARED = 1 / 32
"""Share of the groups, at least one, whose error is passed over: a few columns of any model outweigh all others by
millions ("Massive activations in large language models", Sun et al. 2024), and ruin the 31 beside them."""
MOST_DEAD, MOST_RANGE, LEAST_EFFECTIVE, MOST_ERROR = 0.25, 1e6, 1.5, 2.5


@dataclass(frozen=True)
class Spread:
    """How a tensor's importances are distributed.

    ``dead`` is the share of columns of importance zero. ``range`` is the 95th over the 5th percentile of the others.
    ``effective`` says how many columns of a group count, in the middle group: (sum w)^2 / sum w^2, Kish's effective
    sample size ("Survey Sampling", 1965), which is 32 where all are alike and 1 where one outweighs all others.
    """

    dead: float
    range: float
    effective: float


def spread_of(importance: Floats) -> Spread:
    """How importances are distributed, finite and none negative; float32 of shape ``[columns]``."""
    values = importance.astype(np.float64)
    live = values[values > 0]
    low, high = np.quantile(live, (0.05, 0.95)) if live.size else (1.0, 1.0)
    sums, squares = _by_group(values), _by_group(values * values)
    counts = np.divide(sums * sums, squares, out=np.zeros_like(sums), where=squares > 0)
    return Spread(1 - live.size / values.size, float(high / low), float(np.median(counts)))


@dataclass
class Unweighted:
    """Squared errors that no importance weighs, of some rows, summed by group of columns; they add up.

    ``found`` are those of the bytes that there are, ``without`` of those derived without importances.
    """

    found: Doubles = field(default_factory=lambda: np.zeros(0))
    without: Doubles = field(default_factory=lambda: np.zeros(0))

    def add(self, more: "Unweighted") -> None:
        """Add other rows of the same tensor."""
        if more.found.size:
            known = bool(self.found.size)
            self.found = self.found + more.found if known else more.found
            self.without = self.without + more.without if known else more.without

    @property
    def ratio(self) -> float | None:
        """The error over that without importances, but for the worst groups; ``None`` where nothing was looked at."""
        if not self.found.size:
            return None
        # NaN, which only a damaged block stands for, is sorted behind everything: it is spared last.
        spared = np.argsort(self.without - self.found)[: max(1, int(SPARED * self.found.size))]
        found, without = (float(np.delete(each, spared).sum()) for each in (self.found, self.without))
        return found / without if without else 1.0 if not found else np.inf


def look(quantizer: Quantizer, rows: Rows, among: Indices) -> Unweighted:
    """Derive some rows without importances, and sum up the errors.

    Types that need importances are derived with all alike, as llama-quantize does for experts that saw no token.

    Args:
        quantizer: derives them.
        rows: some rows of a tensor, with the importances that it was made with.
        among: all rows of it that are read: the few to look at are spread over them.
    """
    columns, kind = rows.weights.shape[1], rows.type
    if rows.importance is None or kind in (*PLAIN, GGMLType.Q8_0) or not among.size:
        return Unweighted()
    count = min(max(LEAST, LOOKED // columns), among.size)
    chosen = among[np.linspace(0, among.size - 1, count).astype(np.int64)]
    places = np.flatnonzero(np.isin(rows.indices, chosen))
    if not places.size:
        return Unweighted()
    some = rows.at(places)
    alike = np.ones(columns, np.float32) if kind in NEEDS_IMPORTANCE else None
    plain = quantizer.quantize(kind, some.weights, alike)
    return Unweighted(*(_errors(quantizer, some, data) for data in (some.actual, plain)))


def _errors(quantizer: Quantizer, rows: Rows, data: Bytes) -> Doubles:
    values = quantizer.dequantize(rows.type, data, rows.weights.shape[1]).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return _by_group(((values - rows.weights) ** 2).sum(0))


def _by_group(values: Doubles) -> Doubles:
    sums: Doubles = np.add.reduceat(values, np.arange(0, values.size, GROUP))
    return sums


@dataclass(frozen=True)
class Measure:
    """One number of every tensor that importances touched, and the bound that honest matrices keep.

    ``name`` is for machines, ``form`` says it to people, with a place for a number. ``values`` are by tensor; ``least``
    says that they may not be less than ``bound``, instead of more.
    """

    name: str
    form: str
    values: Mapping[str, float]
    bound: float
    least: bool = False

    @property
    def extreme(self) -> tuple[str, float] | None:
        """The tensor that comes nearest to its bound, or goes farthest beyond, and its value; None without tensors."""
        name = min(self.values, key=self._rank, default=None)
        return None if name is None else (name, self.values[name])

    @property
    def beyond(self) -> list[str]:
        """The tensors beyond their bounds, the worst first."""
        return sorted((name for name in self.values if self._strain(name) > 1), key=self._rank)

    def _rank(self, name: str) -> tuple[float, str]:
        return -self._strain(name), name

    def _strain(self, name: str) -> float:
        """How far the value is on its way to the bound: more than 1 is beyond."""
        value = self.values[name]
        if self.least:
            return self.bound / value if value else np.inf
        return value / self.bound


@dataclass(frozen=True)
class Sanity:
    """How an importance matrix looks: the worst of its numbers, and the tensors that it has no entry for.

    ``entries`` counts what the matrix holds. ``left_out`` were quantized as without a matrix, and so were ``excluded``,
    of which it has entries.
    """

    entries: int
    measures: tuple[Measure, ...]
    left_out: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def findings(self) -> Iterator[MetadataFinding]:
        """What is beyond its bound."""
        start = "the importance matrix is not like measured ones: "
        for each in self.measures:
            if beyond := each.beyond:
                actual = each.form.format(each.values[beyond[0]])
                expected = f"at {'least' if each.least else 'most'} {each.bound:g}"
                yield MetadataFinding(
                    MATRIX, Grade.UNCHECKED, expected, actual, f"{start}{actual} in {listed(beyond)} ({expected})"
                )
                start = ""

    def document(self) -> dict[str, Any]:
        """The numbers for canonical JSON."""
        extremes = {each.name: each.extreme for each in self.measures}
        numbers = {
            name: None if found is None else {"tensor": printable(found[0]), "value": f"{found[1]:.4g}"}
            for name, found in extremes.items()
        }
        lists = {"left_out": list(self.left_out), "excluded": list(self.excluded)}
        return {"entries": self.entries, **lists, **numbers, "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """The numbers, for people: of each the worst."""
        found = [(each.form, *each.extreme) for each in self.measures if each.extreme]
        return ", ".join(f"{form.format(value)} ({name})" for form, name, value in found)

    @property
    def fact(self) -> str | None:
        """What there is to say of tensors that were made without importances."""
        given = "as llama-quantize was given none"
        kept = "which it was not given though the matrix has some, as by --exclude-weights"
        facts = ((self.left_out, given), (self.excluded, kept))
        said = [
            f"{'1 matrix is' if len(names) == 1 else f'{len(names):,} matrices are'} quantized without importances, "
            f"{why}: {listed(names)}"
            for names, why in facts
            if names
        ]
        return "; ".join(said) or None


def sanity_of(importances: Mapping[str, Floats], errors: Mapping[str, float]) -> tuple[Measure, ...]:
    """The numbers by which an importance matrix is looked at.

    Args:
        importances: of the tensors to look at, float32, the columns last.
        errors: ``Unweighted.ratio`` of those that were looked at in a quant.
    """
    spreads = {name: spread_of(values.ravel()) for name, values in importances.items()}
    dead, wide, middle = (
        {name: getattr(each, what) for name, each in spreads.items()} for what in ("dead", "range", "effective")
    )
    return (
        Measure("dead", "share of dead columns {:.3g}", dead, MOST_DEAD),
        Measure("range", "dynamic range {:,.4g}", wide, MOST_RANGE),
        Measure("effective", f"effective columns {{:.3g}} of {GROUP}", middle, LEAST_EFFECTIVE, least=True),
        Measure("error", "unweighted error {:,.4g} times that without a matrix", errors, MOST_ERROR),
    )
