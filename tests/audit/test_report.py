"""An audit's report: what four answers make together, for machines and for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from requant.audit.answers import Coverage, MetadataAnswer
from requant.audit.forms.content import MOST
from requant.audit.metadata.comparison import Grade
from requant.audit.recipe.imatrix import ImatrixReport, Plausibility
from requant.audit.recipe.mix import RecipeAnswer, with_findings
from requant.audit.recipe.sanity import Sanity, sanity_of
from requant.audit.render import rendered
from requant.audit.report import Report
from requant.audit.status import Mix, Namer
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Tensor
from requant.ground.canonical import canonical, parse
from requant.ground.markdown import inert
from requant.quantization.verdict import Verdict
from support.reports import CONSISTENT, CUSTOM, EVIL, EXACT, MISMATCH, NEAR, STOCK, UNCHECKED, finding, tensors


def found(*verdicts: Verdict, missing: tuple[str, ...] = ()) -> Callable[[Report], Report]:
    return lambda report: replace(report, sweep=replace(report.sweep, tensors=tensors(*verdicts), missing=missing))


def told(*grades: Grade, allowed: frozenset[str] = frozenset(), why: str | None = None) -> Callable[[Report], Report]:
    """With such findings about metadata."""
    return lambda report: replace(report, metadata=MetadataAnswer(tuple(map(finding, grades)), why, allowed))


def recipe(answer: RecipeAnswer, *grades: Grade) -> Callable[[Report], Report]:
    """With such an answer, and findings about the making."""
    return lambda report: replace(report, recipe=with_findings(answer, None, tuple(map(finding, grades))))


def asked(**changes: Any) -> Callable[[Report], Report]:
    return lambda report: replace(report, **changes)


def both(*changes: Callable[[Report], Report]) -> Callable[[Report], Report]:
    return lambda report: reduce(lambda found, change: change(found), changes, report)


HARMLESS, SERIOUS, OPEN = Grade.HARMLESS, Grade.SERIOUS, Grade.UNCHECKED
NAME = frozenset({"general.name"})
CLEAN = {"weights": "exact", "recipe": "stock", "metadata": "equal", "coverage": "full"}
OUTCOMES: dict[str, tuple[Callable[[Report], Report], dict[str, str], int]] = {
    "nothing": (asked(), {}, 0),
    "another compiler": (found(EXACT, NEAR), {"weights": "near"}, 0),
    "another compiler, where only exact passes": (both(found(EXACT, NEAR), asked(exact=True)), {"weights": "near"}, 1),
    "exact, where only that passes": (asked(exact=True), {}, 0),
    "one of an unknown matrix": (found(EXACT, NEAR, CONSISTENT), {"weights": "consistent"}, 3),
    "one unchecked": (found(EXACT, NEAR, UNCHECKED), {"weights": "unchecked"}, 3),
    "one mismatch": (found(UNCHECKED, EXACT, MISMATCH, NEAR), {"weights": "mismatch"}, 1),
    "a tensor less": (found(EXACT, missing=("b.weight",)), {"weights": "mismatch"}, 1),
    "no scaling of positions": (found(EXACT, missing=("rope_freqs.weight",)), {"weights": "unchecked"}, 3),
    "a tensor less, and no scaling": (found(EXACT, missing=("b.weight", "rope_freqs.weight")), {"weights": "mismatch"}, 1),
    "no tensor at all": (found(), {"weights": "unchecked"}, 3),
    "a sample": (asked(coverage=Coverage(7, {}, 1, 2)), {"coverage": "sample"}, 0),
    "harmless metadata": (told(HARMLESS), {"metadata": "harmless"}, 0),
    "changed metadata": (told(HARMLESS, SERIOUS, OPEN), {"metadata": "changed"}, 1),
    "a key unchecked": (told(HARMLESS, OPEN), {"metadata": "unchecked"}, 3),
    "a key unchecked, as was allowed": (told(OPEN, allowed=NAME), {"metadata": "harmless"}, 0),
    "another key was allowed": (told(OPEN, allowed=frozenset({"x"})), {"metadata": "unchecked"}, 3),
    "changed, and allowed": (told(SERIOUS, allowed=NAME), {"metadata": "changed"}, 1),
    "no metadata to compare": (told(why="there is no tokenizer"), {"metadata": "unchecked"}, 3),
    "a custom mix": (recipe(CUSTOM), {"recipe": "custom"}, 0),
    "an unknown mix": (recipe(RecipeAnswer(Mix.UNCHECKED, "not known")), {"recipe": "unchecked"}, 3),
    "a false word about the making": (recipe(CUSTOM, SERIOUS), {"recipe": "contradicted"}, 1),
    "a word that could not be checked": (recipe(CUSTOM, OPEN), {"recipe": "unchecked"}, 3),
    "weights of the subject": (asked(named=False), {}, 3),
    "weights of the subject, trusted": (asked(named=False, trusted=True), {}, 0),
    "weights of the subject, and a mismatch": (both(found(MISMATCH), asked(named=False)), {"weights": "mismatch"}, 1),
    "all at once": (
        both(found(MISMATCH), told(OPEN), recipe(CUSTOM)), {"weights": "mismatch", "metadata": "unchecked", "recipe": "custom"}, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words", "code"), OUTCOMES.values(), ids=OUTCOMES)
def test_outcomes(report: Report, change: Callable[[Report], Report], words: dict[str, str], code: int) -> None:
    """Each answer stands for itself, the worst is the exit code, and every form says the same."""
    changed = change(report)
    answers = {answer.question: answer.word for answer in changed.answers}
    assert (answers, changed.exit_code) == (CLEAN | words, code)
    shown = rendered(changed)
    document = shown.document
    sentence = document["headline"]
    assert sentence.startswith("quant.gguf: ") and sentence.isprintable()
    assert {question: found["status"] for question, found in document["answers"].items()} == answers
    assert document["exit_code"] == code
    assert "".join(shown.text.split()).startswith("".join(sentence.split()))
    assert shown.markdown is not None and shown.markdown.splitlines()[0] == f"**{inert(sentence)}**"
    for question, found in document["answers"].items():
        assert f"| {question} | {found['status']} | {inert(found['sentence'])} |" in shown.markdown
    assert parse(canonical(document), "report.json") == document


def test_the_headline_begins_with_what_fails(report: Report) -> None:
    parts = [
        "the metadata is changed: general.name is not what the named weights give",
        "a custom mix; general.name differs",
        f"every tensor derives exactly from {report.weights.place.shown} (fused arithmetic)",
        "all 1 row was read",
    ]
    changed = both(told(SERIOUS), recipe(CUSTOM, OPEN))(report)
    assert rendered(changed).document["headline"] == f"quant.gguf: {'; '.join(parts)}"


@pytest.mark.parametrize(("trusted", "place"), [(False, 0), (True, -1)])
def test_the_headline_says_that_nobody_named_the_weights(report: Report, trusted: bool, place: int) -> None:
    how = "trusted with --trust-subject" if trusted else "which proves nothing: name them with --source"
    shown = rendered(replace(report, named=False, trusted=trusted))
    headline = shown.document["headline"].removeprefix("quant.gguf: ").split("; ")
    assert headline[place] == f"the weights are named by the subject itself, {how}"
    assert shown.document["source"]["named_by"] == ("subject, trusted" if trusted else "subject")


SENTENCES: dict[str, tuple[Callable[[Report], Report], str, str]] = {
    "one of two": (found(MISMATCH, EXACT), "weights", "1 of 2 tensors does not derive from {}: a.weight"),
    "one of one": (found(MISMATCH), "weights", "1 of 1 tensor does not derive from {}: a.weight"),
    "many": (found(*[MISMATCH] * 5), "weights", "5 of 5 tensors do not derive from {}: a.weight, a.weight, a.weight and 2 more"),
    "missing": (found(EXACT, missing=("b.weight",)), "weights", "1 tensor of {} is missing: b.weight"),
    "more missing": (found(EXACT, missing=("b", "c")), "weights", "2 tensors of {} are missing: b, c"),
    "consistent": (found(EXACT, CONSISTENT), "weights", "1 of 2 tensors follow from {} as far as can be told without the importance matrix that it was made with: a.weight; what it decides, the scales, is not checked"),
    "near": (found(NEAR), "weights", "every tensor derives from {}, some as another compiler rounds"),
    "near refused": (both(found(NEAR), asked(exact=True)), "weights", "every tensor derives from {}, some as another compiler rounds, which --exact refuses"),
    "a sample": (asked(coverage=Coverage(7, {}, 1, 2)), "weights", "every row that was read derives exactly from {} (fused arithmetic)"),
    "nothing": (found(), "weights", "no tensor was looked at"),
    "one change": (told(SERIOUS), "metadata", "the metadata is changed: general.name is not what the named weights give"),
    "changes": (told(SERIOUS, SERIOUS), "metadata", "the metadata is changed: general.name, general.name are not what the named weights give"),
    "equal": (told(), "metadata", "the metadata is what the named weights give"),
    "one harmless": (told(HARMLESS), "metadata", "the metadata is what the named weights give, but for 1 harmless difference"),
    "two harmless": (told(HARMLESS, HARMLESS), "metadata", "the metadata is what the named weights give, but for 2 harmless differences"),
    "open": (told(OPEN), "metadata", "general.name could not be checked; the rest of the metadata is what the named weights give"),
    "allowed": (told(OPEN, allowed=NAME), "metadata", "the metadata is what the named weights give; general.name could not be checked, as was allowed"),
    "unknown": (told(why="there is no tokenizer"), "metadata", "the metadata could not be checked: there is no tokenizer"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "question", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_sentences(report: Report, change: Callable[[Report], Report], question: str, sentence: str) -> None:
    [answer] = [each for each in change(report).answers if each.question == question]
    assert answer.sentence == sentence.format(report.weights.place.shown)


def test_one_reason_for_many_tensors_is_said_once(report: Report) -> None:
    audits = tuple(replace(audit, reason="was not at hand") for audit in tensors(*[UNCHECKED] * 5))
    shown = rendered(replace(report, sweep=replace(report.sweep, tensors=audits)))
    sentence = shown.document["answers"]["weights"]["sentence"]
    assert sentence.startswith("5 of 5 tensors could not be checked against ")
    assert sentence.endswith(": a.weight, a.weight, a.weight and 2 more (was not at hand)")
    assert shown.markdown is not None
    row = "| `a.weight, a.weight, a.weight and 2 more` | `Q4_1` | unchecked | was not at hand |"
    assert shown.markdown.count("was not at hand") == 3 and row in shown.markdown


def test_words_of_the_document_are_plain(report: Report) -> None:
    """A reader's error text quotes them as they stand."""
    document = rendered(found(*Verdict)(report)).document
    words = [document["arithmetic"], *(each["verdict"] for each in document["tensors"])]
    words += [answer["status"] for answer in document["answers"].values()]
    assert {type(word) for word in (*words, *document["counts"])} == {str}
    assert type(document["exit_code"]) is int
    assert document["counts"] == {"exact": 1, "near": 1, "consistent": 1, "mismatch": 1, "unchecked": 1}


def test_findings_of_both_answers_in_their_order(report: Report) -> None:
    keys = ("general.file_type", "general.name")
    label, name = (finding(Grade.SERIOUS, key) for key in keys)
    changed = replace(report, recipe=with_findings(STOCK, None, (label,)), metadata=MetadataAnswer((name,)))
    assert tuple(each["key"] for each in rendered(changed).document["findings"]) == keys


def test_what_was_let_pass_is_told(report: Report) -> None:
    """Only what was needed, of both answers."""
    keys = frozenset({"general.name", "quantize.imatrix.chunks_count", "never.there"})
    chunks = finding(OPEN, "quantize.imatrix.chunks_count")
    changed = replace(told(OPEN, allowed=keys)(report), recipe=with_findings(STOCK, None, (chunks,), keys))
    document = rendered(changed).document
    assert (document["exit_code"], document["allowed"]) == (0, ["general.name", "quantize.imatrix.chunks_count"])
    assert document["headline"].count("as was allowed") == 2


def test_a_custom_mix_shows_its_command(report: Report) -> None:
    shown = rendered(recipe(CUSTOM)(report))
    assert shown.document["mix"] == {
        "name": "Q4_1", "bits": "5.5000", "stock_bits": "5.0000", "command": ["llama-quantize", "--tensor-type", "a|b=q8_0"],
    }  # fmt: skip
    assert "llama-quantize --tensor-type 'a|b=q8_0'" in shown.text
    assert shown.markdown is not None and "```sh\nllama-quantize --tensor-type 'a|b=q8_0'\n```" in shown.markdown


DRAWN = {"a.weight": np.arange(1000), "b.weight": np.arange(24)}
READ: dict[str, tuple[Coverage, str]] = {
    "all": (Coverage(None, None, 162_176, 162_176), "all 162,176 rows were read"),
    "a sample": (
        Coverage(7, {}, 1100, 162_176, drawn=DRAWN),
        ("1,100 of 162,176 rows were read, at least 8 of every matrix; a change to 0.449 % of the 162,176 would have been seen with 99 % certainty, "
        "smaller ones may be missed: --full reads all (seed 7)"),
    ),
    "a sample, and what could not be compared": (
        Coverage(7, {}, 1100, 162_176, 2_176, DRAWN),
        ("1,100 of 160,000 rows were read, 2,176 rows of tensors that could not be compared were not, at least 8 of every "
        "matrix; a change to 0.449 % of "
        "the 160,000 would have been seen with 99 % certainty, smaller ones may be missed: --full reads all (seed 7)"),
    ),
    "a sample of all": (Coverage(7, {}, 20, 20), "all 20 rows were read (seed 7)"),
    "one row": (Coverage(None, None, 1, 1), "all 1 row was read"),
    "not all": (
        Coverage(None, None, 5, 8, 3), "5 of 5 rows were read, 3 rows of tensors that could not be compared were not",
    ),
    "parts of a tensor": (Coverage(None, None, 5, 8), "5 of 8 rows were read"),
    "none": (Coverage(None, None, 0, 8, 8), "none of 8 rows was read, as their tensors could not be compared"),
    "no matrix": (Coverage(7, {}, 0, 0), "there are no matrices, all vectors were read (seed 7)"),
}  # fmt: skip


@pytest.mark.parametrize(("coverage", "sentence"), READ.values(), ids=READ)
def test_how_much_was_read(report: Report, coverage: Coverage, sentence: str) -> None:
    document = rendered(replace(report, coverage=coverage)).document
    status = "sample" if coverage.seed else "full"
    assert document["answers"]["coverage"] == {"status": status, "exit_code": 0, "sentence": sentence}
    assert (document["seed"], document["rows"], document["rows_in_all"]) == (
        coverage.seed, coverage.rows_read, coverage.rows_in_all,
    )  # fmt: skip


def test_only_rows_that_were_compared_were_read(report: Report) -> None:
    """What a sample draws of a tensor that cannot be compared is not looked at."""
    exact, lost = (replace(audit, selected=np.arange(1)) for audit in tensors(EXACT, UNCHECKED))
    vector = replace(exact, tensor=Tensor("norm.weight", (256,), T.F32, 0, 0))
    coverage = Coverage(7, {}, 2, 3).after(replace(report.sweep, tensors=(exact, lost, vector)))
    assert (coverage.rows_read, coverage.rows_left, coverage.rows_in_all) == (1, 1, 3)


def test_text_of_strangers_does_nothing(report: Report) -> None:
    audits = tensors(MISMATCH, name=EVIL)
    shown = rendered(replace(report, sweep=replace(report.sweep, tensors=audits, missing=(EVIL,)), inferred=(EVIL,)))
    assert shown.text.count(EVIL) == 5, "rich takes what stands in brackets for markup"
    assert "\x1b" not in shown.text, "standard output is no terminal here"
    assert shown.markdown is not None
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(shown.markdown)
    assert "<b>" not in html and "<em>" not in html and "<script" not in html
    assert html.count("<table>") == 3, "of answers, facts and tensors: no name ends a cell or a table"


def test_what_is_said_of_a_tensor_agrees_in_number(report: Report) -> None:
    shown = rendered(found(MISMATCH, NEAR)(report)).text
    assert "2 of 8 blocks differ; 2 without explanation; their error is 3 of the derived; first at row 3" in shown
    assert (
        "1 of 8 blocks differs; 1 as rounding would (changes up to 1.2e-07); its error is 1.5 of the derived" in shown
    )


@pytest.mark.parametrize("more", [0, 1, 2345])
def test_people_see_the_first_and_how_many_more(report: Report, more: int) -> None:
    shown = rendered(found(*[MISMATCH] * (MOST + more))(report))
    assert shown.markdown is not None
    assert shown.text.count("without explanation") == shown.markdown.count("without explanation") == MOST
    assert (f"and {more:,} more" in shown.text, f"| {more:,} more | | | |" in shown.markdown) == (more > 0,) * 2
    assert len(shown.document["tensors"]) == MOST + more


@pytest.mark.parametrize(("grade", "namer", "verdict", "code"), [
    (Grade.HARMLESS, Namer.USER, Plausibility.PLAUSIBLE, 0), (Grade.HARMLESS, Namer.TRUSTED, Plausibility.PLAUSIBLE, 0),
    (Grade.HARMLESS, Namer.SUBJECT, Plausibility.PLAUSIBLE, 3),
    (Grade.UNCHECKED, Namer.USER, Plausibility.UNCHECKED, 3), (Grade.SERIOUS, Namer.USER, Plausibility.MISMATCH, 1),
    (Grade.SERIOUS, Namer.SUBJECT, Plausibility.MISMATCH, 1),
])  # fmt: skip
def test_a_matrix_alone(grade: Grade, namer: Namer, verdict: Plausibility, code: int) -> None:
    numbers = Sanity(1, sanity_of({"a.weight": np.ones(64, np.float32)}, {}))
    report = ImatrixReport("imatrix.gguf", "0" * 64, "weights", namer, (finding(grade),), numbers)
    shown = rendered(report)
    assert (report.verdict, report.exit_code, shown.markdown) == (verdict, code, None)
    first, second, *_ = shown.text.splitlines()
    assert first == f"{verdict}: imatrix.gguf {verdict.words} on weights"
    assert second == f"the weights are {namer.words}"
    assert (shown.document["exit_code"], shown.document["source"]["named_by"]) == (code, str(namer))
    assert "effective columns 32 of 32 (a.weight)" in shown.text
    assert parse(canonical(shown.document), "report.json") == shown.document
