"""requant.difference.statistics against published and independently computed values."""

from fractions import Fraction
from math import comb

import pytest

from requant.difference.statistics import mcnemar, wilson


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 1, 0.0, 0.7935),
        (1, 1, 0.2065, 1.0),
        (20, 20, 0.8389, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson(passed: int, total: int, low: float, high: float) -> None:
    found = wilson(passed, total)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_holds_the_score_and_is_symmetric() -> None:
    for total in (1, 7, 100):
        for passed in range(total + 1):
            found, mirrored = wilson(passed, total), wilson(total - passed, total)
            assert 0 <= found.low <= passed / total <= found.high <= 1
            assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)


@pytest.mark.parametrize(("passed", "total"), [(-1, 3), (4, 3), (0, -1)])
def test_wilson_refuses_what_cannot_be(passed: int, total: int) -> None:
    with pytest.raises(ValueError, match=" of "):
        wilson(passed, total)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (6, 0, 0.03125),
        (0, 10, 0.001953125),
        (10, 2, 0.03857421875),
        (2, 8, 0.109375),
        (12, 5, 0.143463134765625),
    ],
)
def test_mcnemar(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a) == p


def test_mcnemar_is_the_two_sided_binomial_test() -> None:
    for flips in range(1, 30):
        for only_a in range(flips + 1):
            tail = sum(comb(flips, index) for index in range(min(only_a, flips - only_a) + 1))
            assert mcnemar(only_a, flips - only_a) == min(1.0, float(Fraction(2 * tail, 2**flips)))


def test_mcnemar_of_many() -> None:
    assert 0 < mcnemar(1000, 0) < 1e-300
    assert mcnemar(100_000, 0) == 0
    assert mcnemar(20_000, 20_000) == 1
    with pytest.raises(ValueError, match="-1"):
        mcnemar(-1, 3)
