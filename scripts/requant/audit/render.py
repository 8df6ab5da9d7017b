"""A report for people: on a terminal, and as Markdown for a discussion page."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from requant.audit import imatrix as matrices
from requant.audit.imatrix import ImatrixReport
from requant.audit.judgement import TensorAudit
from requant.audit.metadata import Grade, MetadataFinding
from requant.audit.report import Report, as_document, counts, headline, ratio
from requant.ground.exit_codes import ExitCode
from requant.ground.markdown import escaped, literal
from requant.ground.text import counted, in_units, listed
from requant.quantization.verdict import Verdict
from requant.quantization.witnesses import EPSILONS

MOST = 20
"""Tensors and findings that are shown to people; machines get all of them."""
COLOURS = {ExitCode.OK: "bold green", ExitCode.AGAINST: "bold red", ExitCode.UNCHECKED: "bold yellow"}


@dataclass(frozen=True)
class Rendered:
    """A report in every form that it has, the document for machines among them; a matrix alone has no Markdown."""

    text: str
    document: dict[str, Any]
    markdown: str | None = None


def rendered(report: Report | ImatrixReport) -> Rendered:
    """Show a report; the text is for the terminal that standard output is."""
    if isinstance(report, ImatrixReport):
        return Rendered(matrices.as_text(report), matrices.as_document(report))
    return Rendered(as_text(report), as_document(report), as_markdown(report))


def explained(audit: TensorAudit) -> str:
    """What there is to say about one tensor that is not exact."""
    tally = audit.tally
    if not tally.differing:
        return audit.reason or ""
    differ, their = ("differs", "its") if tally.differing == 1 else ("differ", "their")
    parts = [f"{tally.differing:,} of {counted(tally.blocks, 'block')} {differ}"]
    if tally.unexplained:
        parts.append(f"{tally.unexplained:,} without explanation")
    if tally.witnessed or tally.other:
        parts.append(f"{tally.witnessed + tally.other:,} as rounding would (changes up to {tally.epsilon:.2g})")
    if (share := ratio(audit)) is not None:
        parts.append(f"{their} error is {float(share):.4g} of the derived")
    parts += [f"first at row {odd.row:,}, column {odd.column:,}" for odd in tally.odd[:1]]
    return "; ".join(parts + ([audit.reason] if audit.reason else []))


def notable(report: Report) -> list[TensorAudit]:
    """Tensors that are not exact, the worst first."""
    order = (Verdict.MISMATCH, Verdict.UNCHECKED, Verdict.NEAR)
    odd = [audit for audit in report.sweep.tensors if audit.verdict is not Verdict.EXACT]
    return sorted(odd, key=lambda audit: order.index(audit.verdict))


def ordered(report: Report) -> list[MetadataFinding]:
    """Findings, the serious ones first; the harmless ones are left to machines."""
    grades = (Grade.SERIOUS, Grade.UNCHECKED)
    return sorted((each for each in report.findings if each.grade in grades), key=lambda each: grades.index(each.grade))


def facts(report: Report) -> Iterator[tuple[str, str]]:
    """What was checked against what, by name and value."""
    subject, sweep, imatrix = report.subject, report.sweep, report.recipe.imatrix
    if len(report.identity.files) > 1:
        yield "subject", f"{subject.file.name}, {in_units(subject.file.size)}"
    for file in report.identity.files:
        what, name = ("part", file.name) if len(report.identity.files) > 1 else ("subject", subject.file.name)
        digest = "" if file.sha256 is None else f", SHA-256 {file.sha256} (all of it was read)"
        yield what, f"{name}, {in_units(file.size)}{digest}"
        for who, said in file.said.items():
            yield who, f"says that the {what}'s SHA-256 is {said}" + ("" if file.sha256 else ", which was not checked")
    yield "weights", f"{report.weights.place.shown} ({report.weights.form}), {report.namer}"
    yield "imatrix", "none" if imatrix is None else f"{imatrix.name}, SHA-256 {imatrix.sha256}"
    yield "llama.cpp", f"{report.toolchain.commit[:12]}, arithmetic {sweep.arithmetic}"
    yield "tensors", ", ".join(f"{count:,} {verdict}" for verdict, count in counts(report).items() if count) or "none"
    if report.recipe.command:
        yield "command", shlex.join(report.recipe.command)
    if any(audit.verdict is Verdict.NEAR for audit in sweep.tensors):
        yield "near", near_bound(report)
    fetched = f", {in_units(report.traffic.fetched)} fetched in {report.traffic.requests:,} requests"
    yield "cost", f"{report.seconds:.1f} s{fetched if report.traffic.requests else ''}"


def near_bound(report: Report) -> str:
    """What ``near`` means here, in numbers."""
    blocks, differing = report.sweep.blocks, report.sweep.differing
    used = max(audit.tally.epsilon for audit in report.sweep.tensors)
    return (
        f"{differing:,} of {blocks:,} blocks differ, {100 * differing / max(blocks, 1):.3g} % (about as many as other "
        f"compilers' rounding makes, type by type), each as llama.cpp's own search makes it "
        f"of numbers changed by at most {used:.2g} of themselves ({EPSILONS[-1]:.2g} allowed)"
    )


def remarks(report: Report) -> list[str]:
    """Everything else that was inferred, or is missing."""
    return [*report.inferred, *(f"the tensor {name} is missing" for name in report.sweep.missing)]


@dataclass(frozen=True)
class Listing:
    """A table, of which people see the first ``MOST`` rows; ``cells`` say how Markdown writes each column."""

    head: tuple[str, ...]
    cells: tuple[Callable[[str], str], ...]
    rows: list[tuple[str, ...]]


def listings(report: Report) -> Iterator[Listing]:
    """What is not as it should be, if anything is: tensors and metadata."""
    if odd := notable(report):
        yield Listing(("tensor", "type", "verdict", "what"), (literal, str, str, escaped), _gathered(odd))
    if found := ordered(report):
        findings = [(each.key, str(each.grade), each.expected, each.actual) for each in found]
        yield Listing(("what is said", "grade", "expected", "found"), (literal, str, literal, literal), list(findings))


def _gathered(odd: list[TensorAudit]) -> list[tuple[str, ...]]:
    """A row for each tensor that was compared, and one for all of which the same is said instead."""
    groups: dict[tuple[str, str, str, int], list[str]] = {}
    for number, each in enumerate(odd):
        alone = number if each.tally.differing else -1
        same = (each.tensor.type.name, str(each.verdict), explained(each), alone)
        groups.setdefault(same, []).append(each.tensor.name)
    return [(listed(names), kind, verdict, what) for (kind, verdict, what, _), names in groups.items()]


def as_markdown(report: Report) -> str:
    """The outcome for a model's discussion page."""
    lines = [f"**{escaped(headline(report))}**", "", "| question | answer | |", "|---|---|---|"]
    lines += [f"| {each.question} | {each.word} | {escaped(each.sentence)} |" for each in report.answers]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| {name} | {escaped(value)} |" for name, value in facts(report)]
    for listing in listings(report):
        rows = [[write(cell) for write, cell in zip(listing.cells, row, strict=True)] for row in listing.rows[:MOST]]
        lines += ["", f"| {' | '.join(listing.head)} |", f"|{'---|' * len(listing.head)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        if len(listing.rows) > MOST:
            lines.append(f"| {len(listing.rows) - MOST:,} more {'| ' * (len(listing.head) - 1)}|")
    if found := remarks(report):
        lines += ["", *(f"- {escaped(text)}" for text in found)]
    return "\n".join(lines) + "\n"


def as_text(report: Report) -> str:
    """The outcome for the terminal that standard output is: the headline, then what matters."""
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(Text(headline(report), COLOURS[report.exit_code]))
        answers = Table(box=None, show_header=False, pad_edge=False)
        for each in report.answers:
            answers.add_row(each.question, Text(each.word, COLOURS[each.exit_code]), Text(each.sentence))
        console.print(answers)
        grid = Table(box=None, show_header=False, pad_edge=False)
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in facts(report):
            grid.add_row(name, Text(value))
        console.print(grid)
        for listing in listings(report):
            console.print(_table(listing))
        for text in remarks(report):
            console.print(Text(f"note: {text}"))
    return captured.get().removesuffix("\n")


def _table(listing: Listing) -> Table:
    table = Table(*listing.head, pad_edge=False)
    for row in listing.rows[:MOST]:
        # As text, not as markup: names come from the file.
        table.add_row(*map(Text, row))
    if len(listing.rows) > MOST:
        table.add_row(f"and {len(listing.rows) - MOST:,} more", *[""] * (len(listing.head) - 1))
    return table
