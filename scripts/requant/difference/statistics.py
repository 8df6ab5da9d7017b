"""How sure a score is: Wilson's interval for one, McNemar's exact test for two on the same questions."""

import math
from dataclasses import dataclass

Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Interval:
    """Both ends, as parts of 1."""

    low: float
    high: float


def wilson(passed: int, total: int, z: float = Z95) -> Interval:
    """Wilson's score interval for ``passed`` of ``total`` (E. B. Wilson 1927, without continuity correction).

    Raises:
        ValueError: unless 0 <= passed <= total; with a total of 0 the interval is all of [0, 1].
    """
    if not 0 <= passed <= total:
        raise ValueError(f"{passed} of {total}")
    if total == 0:
        return Interval(0.0, 1.0)
    part = passed / total
    scale = 1 + z * z / total
    middle = (part + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(part * (1 - part) / total + z * z / (4 * total * total))
    # At the ends, rounding must not leave them.
    low = 0.0 if passed == 0 else max(0.0, middle - half)
    return Interval(low, 1.0 if passed == total else min(1.0, middle + half))


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p value: how likely flips are at least as one-sided as these if both were equally good.

    ``only_a`` and ``only_b`` count the questions that only one of the two answered rightly. Under the null hypothesis
    each flip goes either way with probability 1/2.

    Raises:
        ValueError: when a count is negative.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"{only_a} and {only_b}")
    flips = only_a + only_b
    term = tail = 1
    for index in range(min(only_a, only_b)):
        term = term * (flips - index) // (index + 1)
        tail += term
    # Whole numbers until here: floats would lose small p values.
    return min(1.0, 2 * tail / (1 << flips))
