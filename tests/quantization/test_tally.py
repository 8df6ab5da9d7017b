"""Laws of tallies: batches of a tensor may be added in any order and grouping."""

from collections import Counter
from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from requant.formats.ggml import PLAIN, Arithmetic
from requant.quantization.derivation import MOST_EXAMPLES, Making, Odd, Tally

# Eighths of small numbers add up without rounding, as counts do; errors of real blocks do only nearly.
numbers, errors = st.integers(0, 1 << 40), st.integers(0, 1 << 20).map(lambda eighths: eighths / 8)
odds = st.builds(Odd, st.integers(0, 99), st.integers(0, 9), st.integers(1, 34), st.just(34), errors)
makings = st.builds(Making, st.sampled_from(Arithmetic), st.sampled_from(PLAIN))
tallies = st.builds(
    Tally, *[numbers] * 6, epsilon=errors, error=errors, derived_error=errors,
    others=st.dictionaries(makings, st.integers(1, 1 << 40)).map(Counter),
    odd=st.lists(odds, max_size=MOST_EXAMPLES, unique_by=lambda odd: (odd.row, odd.column)).map(
        lambda found: sorted(found, key=lambda odd: (odd.row, odd.column))
    ),
)  # fmt: skip


def added(*parts: Tally) -> Tally:
    whole = Tally()
    for part in parts:
        whole.add(part)
    return whole


def counts(tally: Tally) -> dict[str, object]:
    """Everything but the examples: of two batches that hold the same row, which never happens, either could be named."""
    return {name: value for name, value in vars(tally).items() if name != "odd"}


@given(tallies, tallies, tallies)
def test_any_order_and_grouping(one: Tally, other: Tally, third: Tally) -> None:
    before = deepcopy((one, other, third))
    assert counts(added(one, other)) == counts(added(other, one))
    assert counts(added(added(one, other), third)) == counts(added(one, added(other, third)))
    assert added(one) == one, "nothing is nothing"
    assert (one, other, third) == before, "what is added stays as it is"


@given(st.lists(odds, max_size=20, unique_by=lambda odd: (odd.row, odd.column)).flatmap(st.permutations))
def test_the_first_examples_are_kept(found: list[Odd]) -> None:
    """Of however many batches, the first blocks of the tensor, in their order."""
    first = sorted(found, key=lambda odd: (odd.row, odd.column))[:MOST_EXAMPLES]
    assert added(*(Tally(odd=[odd]) for odd in found)).odd == first
