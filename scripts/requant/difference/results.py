"""What differs between two runs on the same suite: the questions that only one of them passed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from requant.difference.ggufs import Change
from requant.difference.releases import changes
from requant.difference.statistics import mcnemar
from requant.difference.summary import summed_up
from requant.documents.results import Outcome, Results, read_results
from requant.ground.errors import FormatError, naming
from requant.ground.text import counted, printable, table

MOST_SHOWN = 20
"""Questions of one kind that people are shown; the JSON holds all."""


@dataclass(frozen=True)
class Pair:
    """Two runs on the same suite: the ids that only one passed, and the exact McNemar p value of these flips.

    ``both`` items were judged in both; ``left_out`` were not, for an error or because one run lacks them. ``settings``
    is what of the model and of how it was asked is not the same.
    """

    both: int
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    left_out: int
    p: float
    settings: tuple[Change, ...]

    @property
    def asked_otherwise(self) -> int:
        """How many settings differ beside the model's name, of which two are what is mostly compared."""
        return sum(change.place != "model" for change in self.settings)

    @property
    def same(self) -> bool:
        """Whether all questions were judged in both, and alike, and asked in the same way."""
        return not (self.only_a or self.only_b or self.left_out or self.asked_otherwise)

    @property
    def summary(self) -> str:
        """One sentence: the same, or in what they differ."""
        flips, items = len(self.only_a) + len(self.only_b), counted(self.both, "item")
        left_out = counted(self.left_out, "item")
        asked = counted(self.asked_otherwise, "setting")
        parts = (
            (flips, f"{flips:,} of {items}"),
            (self.left_out, f"{left_out} not judged in both"),
            (self.asked_otherwise, asked),
        )
        return summed_up(self.same, f"{items} judged alike", parts)


def compare_results(a: Path, b: Path) -> Pair:
    """Compare two results files.

    Raises:
        FormatError: when one of them cannot be read (which of them is said), or as ``paired``, or when no item was
            judged in both.
    """
    sides = []
    for label, path in (("A", a), ("B", b)):
        with naming(label, path):
            sides.append(read_results(path))
    found = paired(*sides)
    if not found.both:
        raise FormatError("A and B have no judged item in common: run both on the same items")
    return found


def paired(a: Results, b: Results) -> Pair:
    """Compare two runs item by item. A truncated answer has not passed; an item with an error is left out.

    Raises:
        FormatError: when they are of different suites.
    """
    if a.header["suite"] != b.header["suite"]:
        raise FormatError("A and B are results of different suites: compare runs of the same file")
    judged = [
        item
        for item, outcome in a.outcomes.items()
        if Outcome.ERROR not in (outcome, b.outcomes.get(item, Outcome.ERROR))
    ]
    passed_a, passed_b = ({item for item in judged if run.outcomes[item] == Outcome.PASSED} for run in (a, b))
    only_a, only_b = tuple(sorted(passed_a - passed_b)), tuple(sorted(passed_b - passed_a))
    left_out = len({*a.outcomes, *b.outcomes}) - len(judged)
    settings = tuple(changes(a.header, b.header))
    return Pair(len(judged), only_a, only_b, left_out, mcnemar(len(only_a), len(only_b)), settings)


def as_text(found: Pair) -> str:
    """The comparison for people: how many, which, and how likely flips so one-sided are if both are equally good."""
    counts = (
        ("judged in both", found.both),
        ("only A passed", len(found.only_a)),
        ("only B passed", len(found.only_b)),
        ("left out", found.left_out),
    )
    lines = [line for each in found.settings for line in (f"setting: {each.place}", f"  A {each.a}", f"  B {each.b}")]
    lines += table(("", "items"), [(name, f"{count:,}") for name, count in counts])
    lines += [*_flips("A", found.only_a), *_flips("B", found.only_b)]
    return "\n".join([*lines, f"exact McNemar p value: {found.p:.3g}"])


def _flips(label: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        more = f" and {len(items) - MOST_SHOWN:,} more" if len(items) > MOST_SHOWN else ""
        yield f"only {label}: {', '.join(map(printable, items[:MOST_SHOWN]))}{more}"


def as_document(found: Pair) -> dict[str, Any]:
    """The comparison for canonical JSON, which holds no floats."""
    return {
        "both": found.both,
        "only_a": list(found.only_a),
        "only_b": list(found.only_b),
        "left_out": found.left_out,
        "p": f"{found.p:.9g}",
        "settings": [asdict(change) for change in found.settings],
    }
