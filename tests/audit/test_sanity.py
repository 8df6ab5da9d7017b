"""requant.audit.recipe.sanity: how importances are distributed, what they did to weights, and what is beyond its bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from requant.audit.metadata.comparison import Grade
from requant.audit.recipe.sanity import (
    GROUP,
    LEAST,
    LOOKED,
    MATRIX,
    Sanity,
    Spread,
    Unweighted,
    look,
    sanity_of,
    spread_of,
)
from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.quantization.derivation import Rows
from support.pure_quantizer import PureQuantizer

COLUMNS = 256
RAMP = np.arange(COLUMNS, dtype=np.float32)


def one_in(many: int) -> Floats:
    return (RAMP % many == 0).astype(np.float32)


@pytest.mark.parametrize(
    ("importance", "expected"),
    [
        (np.ones(COLUMNS), Spread(0, 1, GROUP)),
        (np.full(COLUMNS, 1e30), Spread(0, 1, GROUP)),
        (np.zeros(COLUMNS), Spread(1, 1, 0)),
        (one_in(32), Spread(31 / 32, 1, 1)),
        (one_in(4), Spread(3 / 4, 1, 8)),
        (np.where(RAMP % 32 == 0, 1e7, 1), Spread(0, 1, 1)),
        (np.where(RAMP == 5, 1e7, 1), Spread(0, 1, GROUP)),
        (np.where(RAMP % 2, 100, 1), Spread(0, 100, 16.32)),
        (np.ones(40), Spread(0, 1, 20)),
    ],
    ids=[
        "alike", "alike and huge", "all dead", "1 in 32", "1 in 4", "1 in 32 outweighs", "one outweighs all", "every second",
        "a group cut off",
    ],
)  # fmt: skip
def test_how_importances_are_distributed(importance: Floats, expected: Spread) -> None:
    found = spread_of(importance.astype(np.float32))
    assert (found.dead, found.range, found.effective) == pytest.approx(
        (expected.dead, expected.range, expected.effective), rel=1e-3
    )


@dataclass(frozen=True)
class Careless(PureQuantizer):
    """A quantizer that loses the columns of the second group wherever there are importances."""

    def quantize(self, kind: T, weights: Floats, importance: Floats | None = None) -> Bytes:
        lost = weights.copy()
        if importance is not None:
            lost[:, GROUP : 2 * GROUP] = 0
        return super().quantize(kind, lost, importance)


def rows_of(count: int, quantizer: PureQuantizer, kind: T = T.Q4_1, importance: Floats | None = RAMP) -> Rows:
    weights = np.random.default_rng(7).standard_normal((count, COLUMNS)).astype(np.float32)
    return Rows(kind, weights, importance, quantizer.quantize(kind, weights, importance), np.arange(count))


PURE, CARELESS = PureQuantizer(Arithmetic.STRICT), Careless(Arithmetic.STRICT)


def test_the_worst_group_is_spared_and_no_more() -> None:
    rows = rows_of(8, CARELESS)
    found = look(PURE, rows, rows.indices)
    assert found.found[1] > 20 * found.without[1]
    assert found.ratio == 1
    worse = Unweighted(np.where(np.arange(8) < 2, found.without * 40, found.without), found.without)
    assert worse.ratio == pytest.approx(1 + 39 / 7, rel=0.2)


@pytest.mark.parametrize(("groups", "spared"), [(8, 1), (31, 1), (64, 2), (96, 3), (127, 3)])
def test_a_thirty_second_of_the_groups_is_spared(groups: int, spared: int) -> None:
    """So many may be ruined and nothing is said; one more is seen."""
    for ruined in (spared, spared + 1):
        found = Unweighted(np.where(np.arange(groups) < ruined, 1e6, 1.0), np.ones(groups))
        assert (found.ratio == 1) == (ruined == spared)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_batches_add_up_to_the_whole(batch: int) -> None:
    rows = rows_of(200, CARELESS)
    whole, parts = look(PURE, rows, rows.indices), Unweighted()
    for start in range(0, 200, batch):
        parts.add(look(PURE, rows.at(np.arange(start, min(start + batch, 200))), rows.indices))
    np.testing.assert_allclose(parts.found, whole.found)
    np.testing.assert_allclose(parts.without, whole.without)


@dataclass(frozen=True)
class Counting(PureQuantizer):
    """One that notes how many weights it was asked for."""

    asked: list[int]

    def quantize(self, kind: T, weights: Floats, importance: Floats | None = None) -> Bytes:
        self.asked.append(weights.size)
        return super().quantize(kind, weights, importance)


@pytest.mark.parametrize("count", [1, 5, 1000])
def test_few_rows_are_looked_at(count: int) -> None:
    rows, counting = rows_of(count, PURE), Counting(Arithmetic.STRICT, [])
    look(counting, rows, rows.indices)
    assert counting.asked == [min(count, max(LEAST, LOOKED // COLUMNS)) * COLUMNS]
    assert count < 1000 or counting.asked == [8192], "as docs/verdicts.md says"


@pytest.mark.parametrize(
    ("kind", "importance"), [(T.Q4_1, None), (T.Q8_0, RAMP), (T.F16, RAMP)], ids=["none", "Q8_0", "F16"]
)
def test_nothing_is_looked_at_where_importances_do_nothing(kind: T, importance: Floats | None) -> None:
    rows, counting = rows_of(4, PURE, kind, importance), Counting(Arithmetic.STRICT, [])
    assert look(counting, rows, rows.indices).ratio is None
    assert counting.asked == []


@pytest.mark.parametrize(
    ("found", "without", "ratio"),
    [([0, 0], [0, 0], 1), ([5, 5], [0, 0], math.inf), ([np.inf, np.inf], [1, 1], math.inf), ([2, 4], [2, 2], 1)],
)
def test_ratios_of_odd_errors(found: list[float], without: list[float], ratio: float) -> None:
    assert Unweighted(np.array(found, float), np.array(without, float)).ratio == ratio


HONEST = {"blk.0.attn_q.weight": 1 + RAMP, "blk.0.ffn_down.weight": np.exp(2 * np.sin(RAMP)).astype(np.float32)}
BEYOND: dict[str, tuple[dict[str, Floats], dict[str, float], str]] = {
    # importances, errors, and what is said
    "dead": ({"b": one_in(4)}, {}, "share of dead columns 0.75 in b (at most 0.25)"),
    "range": ({"b": np.where(RAMP < 128, 1, 1e7).astype(np.float32)}, {}, "dynamic range 1e+07 in b (at most 1e+06)"),
    "effective": ({"b": np.where(RAMP % 32 == 0, 1e5, 1).astype(np.float32)}, {}, "effective columns 1 of 32 in b (at least 1.5)"),
    "error": ({"b": RAMP + 1}, {"a": 2.4, "b": 2.6}, "unweighted error 2.6 times that without a matrix in b (at most 2.5)"),
    "damaged blocks": ({"b": RAMP + 1}, {"b": math.inf}, "unweighted error inf times that without a matrix in b (at most 2.5)"),
}  # fmt: skip


def test_honest_numbers_are_within() -> None:
    found = Sanity(2, sanity_of(HONEST, {"a": 2.4}))
    assert list(found.findings()) == []
    assert found.fact is None
    assert "effective columns" in found.sentence and "blk.0.ffn_down.weight" in found.sentence


@pytest.mark.parametrize(("importances", "errors", "words"), BEYOND.values(), ids=BEYOND)
def test_what_is_beyond_is_named_with_its_tensor(
    importances: dict[str, Floats], errors: dict[str, float], words: str
) -> None:
    [finding] = Sanity(3, sanity_of(HONEST | importances, errors)).findings()
    assert (finding.key, finding.grade) == (MATRIX, Grade.UNCHECKED)
    assert finding.sentence == f"the importance matrix is not like measured ones: {words}"


def test_many_tensors_are_told_in_few_words() -> None:
    everywhere = {f"blk.{layer}.attn_q.weight": one_in(32) for layer in range(30)}
    dead, effective = Sanity(30, sanity_of(everywhere, {})).findings()
    assert dead.sentence.endswith(
        "blk.0.attn_q.weight, blk.1.attn_q.weight, blk.10.attn_q.weight and 27 more (at most 0.25)"
    )
    assert effective.sentence.startswith("effective columns 1 of 32 in ")


def test_what_was_quantized_without_is_a_fact() -> None:
    one, more = (Sanity(3, (), names) for names in (("a",), ("a", "b", "c", "d")))
    assert one.fact == "1 matrix is quantized without importances, as llama-quantize was given none: a"
    assert (
        more.fact
        == "4 matrices are quantized without importances, as llama-quantize was given none: a, b, c and 1 more"
    )


def test_what_was_kept_from_its_importances_is_another() -> None:
    both = Sanity(3, (), ("a",), ("b", "c"))
    assert both.fact is not None and both.fact.endswith(
        ": a; 2 matrices are quantized without importances, which it was not given though the matrix has some, as by "
        "--exclude-weights: b, c"
    )
    assert both.document()["excluded"] == ["b", "c"]


def test_the_document_has_the_worst_of_each() -> None:
    found = Sanity(2, sanity_of(HONEST, {"a": 1.25, "b": 1.5}), ("c",)).document()
    assert (found["entries"], found["left_out"], found["error"]) == (2, ["c"], {"tensor": "b", "value": "1.5"})
    assert found["dead"]["value"] == "0"
    assert Sanity(0, sanity_of({}, {})).document()["dead"] is None
