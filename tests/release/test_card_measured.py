"""The model card's measurements: what was measured stands in both languages, and what was not says so."""

from collections.abc import Callable

import pytest

from support.cards import halves, render, tables
from support.manifests import KINDS, Manifest, hub_model
from support.measured import evaluation

every_kind = pytest.mark.parametrize("kind", KINDS)


def test_nothing_claims_to_be_measured() -> None:
    chinese, english = halves(render(hub_model()))
    assert chinese.count("| 未测：配方未启用 |") == english.count("| not run: the recipe does not ask for it |") == 7


@every_kind
def test_what_was_measured_stands_in_both_halves(kind: Callable[[], Manifest]) -> None:
    document = kind()
    measured = evaluation(document)
    card = render(document, measured)
    for half in halves(card):
        for fact in (
            "9.8765 ± 0.0100",
            "9.9012",
            "0.01230 ± 0.01000",
            "95.50 ± 0.01 %",
            "2.1 [2, 2.2]",
            "40.1 / 60.2 / 61.3",
        ):
            assert fact in half, fact
        assert "123.46 MB" in half and "A \\| processor" in half and "`evaluation.json`" in half
    chinese, english = halves(card)
    assert (chinese.count("| 已完成 |"), chinese.count("| 未测：")) == (4, 3)
    assert (english.count("| done |"), english.count("| not run: ")) == (4, 3)
    assert "| GPQA-Diamond | 未测：the data set is gated |" in chinese
    assert "| GPQA-Diamond | not run: the data set is gated |" in english
    shapes = [[[len(row) for row in table] for table in tables(half)] for half in halves(card)]
    assert shapes[0] == shapes[1] and all(len(set(widths)) == 1 for widths in shapes[0])


def test_a_suite_that_was_asked_in_part() -> None:
    measured = evaluation(hub_model())
    for model in measured["behaviour"]["suites"][0]["models"]:
        model.update(items=5, errors=1)
    chinese, english = halves(render(hub_model(), measured))
    assert "| Tool calls | partial 4/15 |" in english and "| 工具调用 | 部分 4/15 |" in chinese


@pytest.mark.parametrize("part", ["fidelity", "speed", "behaviour"])
def test_one_part_may_be_missing(part: str) -> None:
    document = hub_model()
    card = render(document, {**evaluation(document), part: None})
    assert ("KLD is" in card) == (part != "fidelity") and ("× BF16 is the median" in card) == (part != "speed")
    assert ("Wilson's" in card) == (part != "behaviour")
    assert card.count("| not run: ") == (5 if part == "fidelity" else 4)
