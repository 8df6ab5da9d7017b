"""An audit's report: what four answers make together, for machines and for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from requant.audit.answers import Coverage, MetadataAnswer, RecipeAnswer
from requant.audit.imatrix import ImatrixReport, Plausibility
from requant.audit.judgement import TensorAudit
from requant.audit.metadata import Grade, MetadataFinding
from requant.audit.named_weights import open_weights
from requant.audit.render import MOST, rendered
from requant.audit.report import Identity, Report
from requant.audit.subject import open_subject
from requant.audit.sweep import Sweep
from requant.documents.pins import TABLE, read_pins
from requant.formats.ggml import Arithmetic
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Tensor
from requant.ground.canonical import canonical, parse
from requant.places.remote import Traffic
from requant.quantization.derivation import Odd, Tally
from requant.quantization.verdict import Verdict
from support.quants import written

EXACT, NEAR, MISMATCH, UNCHECKED = Verdict
EVIL = "[bold]<b>*a*|`x`</b>.weight"


def tensors(*verdicts: Verdict, name: str = "a.weight") -> tuple[TensorAudit, ...]:
    """Tensors with these verdicts, and as many odd blocks as they ask for."""
    tallies = {
        EXACT: Tally(1, 8), NEAR: Tally(1, 8, 1, 0, 1, 0, 2.0**-23, 1.5, 1.0), UNCHECKED: Tally(),
        MISMATCH: Tally(1, 8, 2, 0, 0, 2, 0, 3.0, 1.0, [Odd(3, 32, 1, 20, 3.0)]),
    }  # fmt: skip
    return tuple(
        TensorAudit(Tensor(name, (256, 1), T.Q4_1, 0, 160), tally=tallies[verdict], verdict=verdict)
        for verdict in verdicts
    )


def finding(grade: Grade, key: str = "general.name") -> MetadataFinding:
    return MetadataFinding(key, grade, "a", "b", f"{key} differs")


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Report]:
    """A full audit that found nothing, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    subject = open_subject(str(written(tmp_path / "quant.gguf", {"a.weight": (T.Q4_1, (256, 1), bytes(160))})))
    weights = open_weights(str(written(tmp_path / "f32.gguf", {"a.weight": (T.F32, (256, 1), bytes(1024))})))
    yield Report(
        subject=subject,
        weights=weights,
        toolchain=next(iter(read_pins(TABLE).toolchains.values())),
        sweep=Sweep(tensors(EXACT), Arithmetic.FUSED, T.F32, (), 8, 0),
        recipe=RecipeAnswer(None, (), ()),
        metadata=MetadataAnswer(()),
        coverage=Coverage(None, None, 1, 1),
        identity=Identity("0" * 64),
        inferred=(),
        exact=False,
        traffic=Traffic(),
        seconds=1.25,
    )
    subject.place.close()
    weights.place.close()


def found(*verdicts: Verdict, missing: tuple[str, ...] = ()) -> Callable[[Report], Report]:
    return lambda report: replace(report, sweep=replace(report.sweep, tensors=tensors(*verdicts), missing=missing))


def undrawn(report: Report) -> Report:
    audits = tuple(replace(audit, selected=np.arange(0)) for audit in tensors(UNCHECKED, UNCHECKED))
    return replace(report, sweep=replace(report.sweep, tensors=audits))


OUTCOMES: dict[str, tuple[Callable[[Report], Report], Verdict, int]] = {
    "nothing": (lambda report: report, EXACT, 0),
    "another compiler": (found(EXACT, NEAR), NEAR, 0),
    "another compiler, where only exact passes": (lambda report: replace(found(EXACT, NEAR)(report), exact=True), NEAR, 1),
    "exact, where only that passes": (lambda report: replace(report, exact=True), EXACT, 0),
    "one unchecked": (found(EXACT, NEAR, UNCHECKED), UNCHECKED, 3),
    "one mismatch": (found(UNCHECKED, EXACT, MISMATCH, NEAR), MISMATCH, 1),
    "a tensor less": (found(EXACT, missing=("b.weight",)), MISMATCH, 1),
    "no tensor at all": (found(), UNCHECKED, 3),
    "none drawn": (undrawn, UNCHECKED, 3),
    "harmless metadata": (lambda report: replace(report, metadata=MetadataAnswer((finding(Grade.HARMLESS),))), EXACT, 0),
    "changed metadata": (lambda report: replace(report, metadata=MetadataAnswer((finding(Grade.SERIOUS),))), MISMATCH, 1),
    "metadata unchecked": (lambda report: replace(report, metadata=MetadataAnswer((), "was not checked")), UNCHECKED, 3),
    "another matrix": (lambda report: replace(report, recipe=RecipeAnswer(None, (finding(Grade.SERIOUS),), ())), MISMATCH, 1),
    "another mix": (lambda report: replace(report, recipe=RecipeAnswer(None, (), (finding(Grade.SERIOUS),))), MISMATCH, 1),
}  # fmt: skip


@pytest.mark.parametrize(("change", "verdict", "code"), OUTCOMES.values(), ids=OUTCOMES)
def test_outcomes(report: Report, change: Callable[[Report], Report], verdict: Verdict, code: int) -> None:
    """The worst of all answers decides; and every form says the same."""
    changed = change(report)
    assert (changed.verdict, changed.exit_code) == (verdict, code)
    shown = rendered(changed)
    how = " (fused)" if verdict is EXACT else ""
    sentence = f"{verdict}{how}: quant.gguf is {verdict.words}"
    assert shown.text.splitlines()[0] == sentence
    assert shown.markdown is not None and shown.markdown.splitlines()[0] == f"**{sentence}**"
    assert shown.document["verdict"] == verdict
    assert parse(canonical(shown.document), "report.json") == shown.document


def test_words_of_the_document_are_plain(report: Report) -> None:
    """A reader's error text quotes them as they stand."""
    document = rendered(found(*Verdict)(report)).document
    words = [document["verdict"], document["arithmetic"], *(each["verdict"] for each in document["tensors"])]
    assert {type(word) for word in (*words, *document["counts"])} == {str}
    assert document["counts"] == {"exact": 1, "near": 1, "mismatch": 1, "unchecked": 1, "undrawn": 0}


def test_findings_of_all_answers_in_their_order(report: Report) -> None:
    keys = ("imatrix.gguf", "general.name", "a.weight")
    matrix, name, kind = (finding(Grade.SERIOUS, key) for key in keys)
    changed = replace(report, recipe=RecipeAnswer(None, (matrix,), (kind,)), metadata=MetadataAnswer((name,)))
    assert tuple(each["key"] for each in rendered(changed).document["findings"]) == keys


def test_how_much_a_sample_has_seen(report: Report) -> None:
    sample = replace(report, coverage=Coverage(7, {}, 1024, 162_176))
    shown = rendered(sample)
    assert shown.text.splitlines()[0].endswith("byte for byte, judged by 1,024 of 162,176 rows")
    assert (shown.document["mode"], shown.document["seed"]) == ("sample", 7)
    assert (shown.document["rows"], shown.document["rows_in_all"]) == (1024, 162_176)
    assert (
        "0.449 % of all rows or more would have been missed with probability below 0.01 (seed 7)"
        in shown.document["bound"]
    )


def test_text_of_strangers_does_nothing(report: Report) -> None:
    audits = tensors(MISMATCH, name=EVIL)
    shown = rendered(replace(report, sweep=replace(report.sweep, tensors=audits, missing=(EVIL,)), inferred=(EVIL,)))
    assert shown.text.count(EVIL) == 3, "rich takes what stands in brackets for markup"
    assert "\x1b" not in shown.text, "standard output is no terminal here"
    assert shown.markdown is not None
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(shown.markdown)
    assert "<b>" not in html and "<em>" not in html and "<script" not in html
    assert html.count("<table>") == 2, "of facts, and of tensors: no name ends a cell or a table"


@pytest.mark.parametrize("more", [0, 1, 2345])
def test_people_see_the_first_and_how_many_more(report: Report, more: int) -> None:
    shown = rendered(found(*[MISMATCH] * (MOST + more))(report))
    assert shown.markdown is not None
    assert shown.text.count("Q4_1") == shown.markdown.count("Q4_1") == MOST
    assert (f"and {more:,} more" in shown.text, f"| {more:,} more | | | |" in shown.markdown) == (more > 0,) * 2
    assert len(shown.document["tensors"]) == MOST + more


@pytest.mark.parametrize(("grade", "verdict", "code"), [
    (Grade.HARMLESS, Plausibility.PLAUSIBLE, 0), (Grade.UNCHECKED, Plausibility.PLAUSIBLE, 0),
    (Grade.SERIOUS, Plausibility.MISMATCH, 1),
])  # fmt: skip
def test_a_matrix_alone(grade: Grade, verdict: Plausibility, code: int) -> None:
    report = ImatrixReport("imatrix.gguf", "0" * 64, "weights", (finding(grade),))
    shown = rendered(report)
    assert (report.verdict, report.exit_code, shown.markdown) == (verdict, code, None)
    assert shown.text.splitlines()[0] == f"{verdict}: imatrix.gguf {verdict.words} on weights"
    assert parse(canonical(shown.document), "report.json") == shown.document
