"""requant.difference.results: two runs on one suite, question by question."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.difference.results import as_document, as_text, compare_results, paired
from requant.documents.results import Outcome, Results
from requant.ground.canonical import canonical
from requant.ground.errors import FormatError
from support.results_file import results_file

runs = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([*Outcome]))


def results(outcomes: dict[str, str], suite: str = "s") -> Results:
    return Results({"suite": suite}, outcomes)


def test_paired() -> None:
    a = results(
        {"1": "passed", "2": "passed", "3": "failed", "4": "truncated", "5": "error", "6": "passed", "7": "passed"}
    )
    b = results(
        {"7": "truncated", "1": "passed", "2": "failed", "3": "passed", "4": "failed", "5": "passed", "8": "passed"}
    )
    found = paired(a, b)
    assert (found.both, found.only_a, found.only_b, found.left_out) == (5, ("2", "7"), ("3",), 3)
    assert found.p == 1.0
    one_sided = paired(results({str(n): "passed" for n in range(6)}), results({str(n): "failed" for n in range(6)}))
    assert one_sided.p == 0.03125
    assert paired(a, results({"5": "passed"})).both == 0
    with pytest.raises(FormatError, match="different suites"):
        paired(a, results({}, "t"))


@given(runs, runs)
def test_the_two_sides_are_mirrored(one: dict[str, str], other: dict[str, str]) -> None:
    found, turned = paired(results(one), results(other)), paired(results(other), results(one))
    assert (found.both, found.left_out, found.p) == (turned.both, turned.left_out, turned.p)
    assert (found.only_a, found.only_b) == (turned.only_b, turned.only_a)
    canonical(as_document(found))


@given(runs)
def test_a_run_and_itself(one: dict[str, str]) -> None:
    found = paired(results(one), results(one))
    assert found.same == (Outcome.ERROR not in one.values())
    assert not (found.only_a or found.only_b)


def test_people_are_shown_the_flips(tmp_path: Path) -> None:
    many = {f"q{number:02}": "passed" for number in range(25)}
    a = results_file(tmp_path / "a", {**many, "x\x1b[2J": "failed", "y": "error"})
    b = results_file(tmp_path / "b", {**dict.fromkeys(many, "failed"), "x\x1b[2J": "passed", "y": "passed"})
    lines = as_text(compare_results(a, b)).splitlines()
    assert [line.split() for line in lines[1:5]] == [
        ["judged", "in", "both", "26"],
        ["only", "A", "passed", "25"],
        ["only", "B", "passed", "1"],
        ["left", "out", "1"],
    ]
    assert lines[5].startswith("only A: q00, q01, ") and lines[5].endswith("q19 and 5 more")
    assert lines[6] == "only B: 'x\\x1b[2J'"
    assert lines[7] == "exact McNemar p value: 8.05e-07"


SETTINGS = {"model": "a", "thinking": "on", "temperature": 0, "seed": 0}
ASKED: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "alike": ({}, {}, True),
    "another model": ({}, {"model": "b"}, True),
    "thinking": ({}, {"thinking": "off"}, False),
    "temperature": ({}, {"temperature": 1}, False),
    "seed": ({}, {"seed": 1}, False),
    "a harness": ({}, {"harness": "evalscope 1"}, False),
    "another harness": ({"harness": "evalscope 1"}, {"harness": "evalscope 2"}, False),
    "model and seed": ({}, {"model": "b", "seed": 1}, False),
}


@pytest.mark.parametrize(("one", "other", "same"), ASKED.values(), ids=ASKED)
def test_how_both_were_asked(tmp_path: Path, one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    a, b = {**SETTINGS, **one}, {**SETTINGS, **other}
    found = compare_results(
        *(results_file(tmp_path / name, {"q": "passed"}, **side) for name, side in (("a", a), ("b", b)))
    )
    differing = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
    assert (found.same, [change.place for change in found.settings]) == (same, differing)
    assert [entry["place"] for entry in as_document(found)["settings"]] == differing
    text = as_text(found).splitlines()
    assert [line.removeprefix("setting: ") for line in text if line.startswith("setting: ")] == differing
    assert found.summary == ("same: 1 item judged alike" if same else "they differ in 1 setting")


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no such file": ("none", {}, "B: .*none cannot be read"),
    "another suite": ("b", {"suite": "t"}, "A and B are results of different suites"),
    "nothing in common": ("b", {"outcomes": {"z": "passed"}}, "no judged item in common"),
}


@pytest.mark.parametrize(("name", "changes", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_compared(tmp_path: Path, name: str, changes: dict[str, Any], words: str) -> None:
    a = results_file(tmp_path / "a", {"q": "passed"})
    results_file(tmp_path / "b", **{"outcomes": {"q": "passed"}, **changes})
    with pytest.raises(FormatError, match=words):
        compare_results(a, tmp_path / name)
