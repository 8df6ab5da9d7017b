"""The draw: every row with the same chance, the same on every machine; and what a sample has missed."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from requant.audit.answers import cover
from requant.audit.question import ROWS as DEFAULT
from requant.audit.weights.sample import LEAST, caught, draw, runs
from support.checkout import ROOT
from support.small_checkpoint import header

ROWS = {"embedding": 151_936, "attn_q": 256, "ffn_up": 768, "one": 1, "ffn_down": 256}


@pytest.mark.parametrize("count", [0, 1, 7, 4096, 100_000])
@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_rows_are_different_and_sorted(count: int, seed: int) -> None:
    drawn = draw(ROWS, count, seed)
    assert sum(map(len, drawn.values())) == count
    for name, rows in drawn.items():
        assert len(rows) > 0
        assert (np.diff(rows) > 0).all()
        assert 0 <= rows[0] <= rows[-1] < ROWS[name]
    assert list(drawn) == [name for name in ROWS if name in drawn]


@pytest.mark.parametrize("more", [0, 1, 10**9])
def test_no_more_rows_than_there_are(more: int) -> None:
    rows = {"a": 3, "b": 5}
    assert {name: drawn.tolist() for name, drawn in draw(rows, 8 + more, 1).items()} == {
        "a": [0, 1, 2], "b": [0, 1, 2, 3, 4],
    }  # fmt: skip
    assert draw({}, 5, 1) == {}


def test_one_row_less_than_all() -> None:
    """The slowest draw still ends, and leaves out one row only."""
    assert sum(map(len, draw({"a": 30, "b": 50}, 79, 1).values())) == 79


def test_every_row_has_the_same_chance() -> None:
    """Also in small tensors, and at the borders."""
    rows, count, seeds = {"a": 3, "b": 12, "c": 1, "d": 4}, 5, 6000
    ends = dict(zip(rows, np.cumsum([0, *rows.values()]), strict=False))
    hits = np.zeros(20)
    for seed in range(seeds):
        for name, drawn in draw(rows, count, seed).items():
            hits[ends[name] + drawn] += 1
    expected = seeds * count / 20
    # Draws without replacement vary less: chi-squared with 19 degrees of freedom after this correction.
    chi = ((hits - expected) ** 2).sum() / (expected * (1 - count / 20)) * 19 / 20
    assert chi < 43.8, "happens once in a thousand times, were the rows drawn fairly"


def test_pairs_are_drawn_independently() -> None:
    """Neighbours come together no more often than others."""
    together = sum(
        {0, 1} <= set(draw({"a": 10, "b": 10}, 6, seed).get("a", np.array([])).tolist()) for seed in range(4000)
    )
    expected = 4000 * comb(18, 4) / comb(20, 6)
    assert abs(together - expected) < 4 * expected**0.5


def test_the_seed_decides() -> None:
    def said(seed: int, names: dict[str, int] = ROWS) -> list[list[int]]:
        return [rows.tolist() for rows in draw(names, 200, seed).values()]

    assert said(5) == said(5)
    assert len({str(said(seed)) for seed in range(50)}) == 50
    assert said(5) == said(5, {f"other.{name}": rows for name, rows in ROWS.items()})


def test_without_a_seed_it_is_fresh_each_time() -> None:
    """A publisher cannot prepare for it; whoever names it reads the same rows again."""
    found = [cover(header({}), 4, None) for _ in range(20)]
    assert len({each.seed for each in found}) == 20
    assert all(each.seed is not None and 0 <= each.seed < 2**64 for each in found)
    assert max(each.seed or 0 for each in found) > 2**48, "all of its bits are drawn"
    again = cover(header({}), 4, found[0].seed)
    assert {name: rows.tolist() for name, rows in (again.selected or {}).items()} == {
        name: rows.tolist() for name, rows in (found[0].selected or {}).items()
    }


def test_what_the_documents_say_of_a_sample() -> None:
    """docs/verdicts.md: 1,024 rows by default, eight of every matrix besides, and what so many miss."""
    assert (DEFAULT, LEAST) == (1024, 8)
    said = f"1,024 rows: {100 * caught(0.01, 1024):.2f} %; 4,096 rows: {100 * caught(0.01, 4096):.2f} %."
    assert said in (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("seed", [0, 3, 2**64 - 1])
def test_more_rows_are_the_same_and_others(seed: int) -> None:
    """Whoever draws more with the same seed looks at everything again that was looked at before."""
    before: dict[str, set[int]] = {}
    for count in (0, 1, 2, 50, 1024, 1025, 100_000, sum(ROWS.values()) - 1, sum(ROWS.values())):
        drawn = {name: set(rows.tolist()) for name, rows in draw(ROWS, count, seed).items()}
        assert all(rows <= drawn[name] for name, rows in before.items()), count
        before = drawn


def test_every_machine_draws_these() -> None:
    """Written down once: a change here would make every seed in a report mean something else."""
    assert {name: rows.tolist() for name, rows in draw({"a": 1000, "b": 20, "c": 300}, 8, 2507).items()} == {
        "a": [10, 136, 183, 321, 343, 346, 969], "c": [101],
    }  # fmt: skip


def missed(fraction: float, count: int) -> float:
    """Chance that ``count`` rows show nothing of an alteration that touches this fraction of all rows, at most."""
    return float((1 - fraction) ** count)


@pytest.mark.parametrize(("altered", "count"), [(0.001, 400), (0.01, 10), (0.01, 100), (0.1, 10), (0.5, 3)])
def test_an_alteration_is_caught_as_often_as_is_said(altered: float, count: int) -> None:
    """Altered rows all over, or all in one tensor: 1 - (1 - f)**n is what is promised at least."""
    rows, starts, seeds = {"a": 3000, "b": 500, "c": 1500}, {"a": 0, "b": 3000, "c": 3500}, 2000
    number = int(altered * 5000)
    spread = np.random.default_rng(1).choice(5000, number, replace=False)
    promised = 1 - missed(altered, count)
    # Without replacement it is a little more often; that is known exactly.
    true = 1 - comb(5000 - number, count) / comb(5000, count)
    assert true >= promised
    for where in (spread, np.arange(number)):
        hits = 0
        for seed in range(seeds):
            taken = np.concatenate([drawn + starts[name] for name, drawn in draw(rows, count, seed).items()])
            hits += bool(np.isin(taken, where).any())
        error = (true * (1 - true) / seeds) ** 0.5
        assert abs(hits / seeds - true) <= 4 * error + 1e-9
        assert hits / seeds >= promised - 4 * error


@pytest.mark.parametrize("altered", [0.02, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("pattern", ["first", "last", "neighbours", "spread"])
def test_a_run_sees_a_change_as_often_as_one_row(pattern: str, altered: float) -> None:
    """Wherever the changed rows of a tensor lie: the bound of a tensor counts its run as one row."""
    size, seeds = 400, 2000
    number = int(altered * size)
    where = {
        "first": np.arange(number), "last": np.arange(size - number, size), "neighbours": np.arange(number) + 3,
        "spread": np.random.default_rng(1).choice(size, number, replace=False),
    }[pattern]  # fmt: skip
    hits = sum(bool(np.isin(runs({"a": size}, seed)["a"], where).any()) for seed in range(seeds))
    assert hits / seeds >= altered - 4 * (altered * (1 - altered) / seeds) ** 0.5


@pytest.mark.parametrize("chance", [0.5, 0.05, 0.01, 1e-6])
@pytest.mark.parametrize("count", [1, 20, 1024, 10**6])
def test_what_a_sample_catches(chance: float, count: int) -> None:
    fraction = caught(chance, count)
    assert 0 < fraction < 1
    assert missed(fraction, count) == pytest.approx(chance, rel=1e-6)
    assert missed(fraction * 1.01, count) < chance < missed(fraction * 0.99, count)


def test_nothing_looked_at_catches_nothing() -> None:
    assert caught(0.05, 0) == 1


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_a_run_of_every_tensor(seed: int) -> None:
    found = runs(ROWS, seed)
    assert list(found) == list(ROWS)
    for name, rows in found.items():
        assert len(rows) == min(LEAST, ROWS[name])
        assert (np.diff(rows) == 1).all()
        assert 0 <= rows[0] <= rows[-1] < ROWS[name]
    assert {name: rows.tolist() for name, rows in runs(ROWS, seed).items()} == {
        name: rows.tolist() for name, rows in found.items()
    }
    assert runs({}, seed) == {}


def test_runs_begin_anywhere() -> None:
    begins = [int(runs({"a": 12}, seed)["a"][0]) for seed in range(500)]
    assert {begins.count(begin) // 50 for begin in range(5)} <= {1, 2}, begins
    assert set(begins) == set(range(5))
