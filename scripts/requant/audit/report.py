"""An audit's outcome for machines (JSON), for a discussion (Markdown) and for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from requant.audit.metadata import Finding, Grade
from requant.audit.question import Report
from requant.audit.sample import caught
from requant.audit.sweep import (
    EXACT,
    MISMATCH,
    NEAR,
    NEAR_LEAST,
    NEAR_MOST,
    UNCHECKED,
    TensorAudit,
)
from requant.ground.markdown import code, escaped
from requant.ground.text import in_units
from requant.quantization.witnesses import EPSILONS

SCHEMA = "requant/audit/v1"
CHANCE = 0.01
"""Chance of missing an alteration, for which the bound is given."""
MOST = 20
"""Tensors and findings that are shown to people; machines get all of them."""

WORDS = {
    EXACT: "a derivation of the named weights, byte for byte",
    NEAR: "a derivation of the named weights by another compiler's arithmetic",
    MISMATCH: "NOT a derivation of the named weights",
    UNCHECKED: "not proven: something could not be checked",
}


def exit_code(report: Report, *, exact: bool) -> int:
    """0: everything checked is exact (or near, unless ``exact``); 1: a mismatch; 3: something could not be checked."""
    if report.verdict == NEAR:
        return 1 if exact else 0
    return {EXACT: 0, MISMATCH: 1, UNCHECKED: 3}[report.verdict]


def headline(report: Report) -> str:
    """The verdict in one line."""
    name = report.subject.name
    how = f" ({report.outcome.arithmetic})" if report.verdict == EXACT else ""
    checked = "" if report.seed is None else f", judged by {report.rows:,} of {report.drawn:,} rows"
    return f"{report.verdict}{how}: {name} is {WORDS[report.verdict]}{checked}"


def bound(report: Report) -> str:
    """What a sample can say, in one sentence; a full audit says it all."""
    if report.seed is None:
        return "every row of every tensor that can be checked was derived again"
    fraction = caught(CHANCE, report.rows)
    return (
        f"an alteration of {100 * fraction:.3g} % of all rows or more would have been missed with probability "
        f"below {CHANCE:g} (seed {report.seed})"
    )


def as_document(report: Report) -> dict[str, Any]:
    """The outcome for canonical JSON: no floats, numbers that are none are text; ``run`` differs between two runs."""
    subject, outcome = report.subject, report.outcome
    return {
        "schema": SCHEMA,
        "verdict": report.verdict,
        "mode": "full" if report.seed is None else "sample",
        "seed": report.seed,
        "rows": report.rows,
        "rows_in_all": report.drawn,
        "bound": bound(report),
        "subject": {
            "name": subject.name.rpartition("/")[2],
            "size": subject.file.size,
            "sha256": report.sha256,
            "sha256_from": None if report.sha256 is None else "hub" if report.recorded else "read",
            "revision": subject.place.revision,
            "type": subject.inferred.file_type_name,
        },
        "source": {
            "name": report.source.place.shown if not report.source.place.is_local else report.source.kind,
            "revision": report.source.place.revision,
            "rounded_through": outcome.via.name,
        },
        "imatrix": None if report.imatrix is None else {"sha256": report.imatrix[1]},
        "toolchain": {"name": report.toolchain.name, "commit": report.toolchain.commit},
        "arithmetic": outcome.arithmetic,
        "counts": counts(report),
        "blocks": {"searched": outcome.blocks, "differing": outcome.differing},
        "missing": list(outcome.missing),
        "tensors": [_tensor(audit) for audit in outcome.tensors],
        "findings": [
            {"key": each.key, "grade": str(each.grade), "expected": each.expected, "actual": each.actual,
             "sentence": each.sentence}
            for each in report.findings
        ],
        "inferred": report.inferred,
        "notes": report.notes,
        "run": {
            "seconds": f"{report.seconds:.3f}",
            "bytes_fetched": report.traffic.fetched,
            "requests": report.traffic.requests,
        },
    }  # fmt: skip


def counts(report: Report) -> dict[str, int]:
    """Tensors by verdict; those of which no row was drawn stand apart."""
    found = dict.fromkeys((EXACT, NEAR, MISMATCH, UNCHECKED, "undrawn"), 0)
    for audit in report.outcome.tensors:
        found["undrawn" if audit.undrawn else audit.verdict] += 1
    return found


def _tensor(audit: TensorAudit) -> dict[str, Any]:
    tally = audit.tally
    return {
        "name": audit.tensor.name,
        "type": audit.tensor.type.name,
        "shape": list(audit.tensor.shape),
        "verdict": audit.verdict,
        "reason": audit.reason,
        "rows": tally.rows,
        "rows_in_all": audit.rows,
        "blocks": tally.blocks,
        "differing": tally.differing,
        "other_arithmetic": tally.other,
        "witnessed": tally.witnessed,
        "unexplained": tally.unexplained,
        "epsilon": f"{tally.epsilon:.3g}",
        "error_ratio": ratio(audit),
        "examples": [
            {"row": odd.row, "column": odd.column, "bytes": odd.differing, "of": odd.size, "ratio": f"{odd.ratio:.6g}"}
            for odd in tally.odd
        ],
    }


def ratio(audit: TensorAudit) -> str | None:
    """Weighted squared error of the differing blocks over that of the derived ones."""
    tally = audit.tally
    return f"{tally.error / tally.derived_error:.6g}" if tally.derived_error else None


def explained(audit: TensorAudit) -> str:
    """What there is to say about one tensor that is not exact."""
    tally = audit.tally
    if not tally.differing:
        return audit.reason or ""
    parts = [f"{tally.differing:,} of {tally.blocks:,} blocks differ"]
    if tally.unexplained:
        parts.append(f"{tally.unexplained:,} without explanation")
    if tally.witnessed or tally.other:
        parts.append(f"{tally.witnessed + tally.other:,} as rounding would (changes up to {tally.epsilon:.2g})")
    if (share := ratio(audit)) is not None:
        parts.append(f"their error is {float(share):.4g} of the derived")
    parts += [f"first at row {odd.row:,}, column {odd.column:,}" for odd in tally.odd[:1]]
    return "; ".join(parts + ([audit.reason] if audit.reason else []))


def notable(report: Report) -> list[TensorAudit]:
    """Tensors that are not exact, the worst first."""
    order = {MISMATCH: 0, UNCHECKED: 1, NEAR: 2}
    odd = [audit for audit in report.outcome.tensors if audit.verdict != EXACT and not audit.undrawn]
    return sorted(odd, key=lambda audit: order[audit.verdict])


def ordered(report: Report) -> list[Finding]:
    """Findings, the serious ones first; the harmless ones are left to machines."""
    grades = (Grade.SERIOUS, Grade.UNCHECKED)
    return sorted((each for each in report.findings if each.grade in grades), key=lambda each: grades.index(each.grade))


def facts(report: Report) -> Iterator[tuple[str, str]]:
    """What was checked against what, by name and value."""
    subject, outcome = report.subject, report.outcome
    digest = "" if report.sha256 is None else f", SHA-256 {report.sha256}{' (the hub says)' if report.recorded else ''}"
    yield "subject", f"{subject.file.name}, {in_units(subject.file.size)}{digest}"
    yield "weights", f"{report.source.place.shown} ({report.source.kind})"
    yield "imatrix", "none" if report.imatrix is None else f"{report.imatrix[0]}, SHA-256 {report.imatrix[1]}"
    yield "llama.cpp", f"{report.toolchain.commit[:12]}, arithmetic {outcome.arithmetic}"
    yield "tensors", ", ".join(f"{count:,} {verdict}" for verdict, count in counts(report).items() if count)
    yield "bound", bound(report)
    if any(audit.verdict == NEAR for audit in outcome.tensors):
        yield "near", near_bound(report)
    fetched = f", {in_units(report.traffic.fetched)} fetched in {report.traffic.requests:,} requests"
    yield "cost", f"{report.seconds:.1f} s{fetched if report.traffic.requests else ''}"


def near_bound(report: Report) -> str:
    """What ``near`` means here, in numbers."""
    blocks, differing = report.outcome.blocks, report.outcome.differing
    used = max(audit.tally.epsilon for audit in report.outcome.tensors)
    return (
        f"{differing:,} of {blocks:,} blocks differ, {100 * differing / max(blocks, 1):.3g} % "
        f"({100 * NEAR_LEAST:g} to {100 * NEAR_MOST:g} % allowed), each as llama.cpp's own search makes it "
        f"of numbers changed by at most {used:.2g} of themselves ({EPSILONS[-1]:.2g} allowed)"
    )


def remarks(report: Report) -> list[str]:
    """Everything else that was inferred or left out."""
    return [*report.inferred, *report.notes, *(f"the tensor {name} is missing" for name in report.outcome.missing)]


def as_markdown(report: Report) -> str:
    """The outcome for a model's discussion page."""
    lines = [f"**{escaped(headline(report))}**", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {escaped(value)} |" for name, value in facts(report)]
    if odd := notable(report):
        lines += ["", "| tensor | type | verdict | what |", "|---|---|---|---|"]
        lines += [
            f"| {code(each.tensor.name)} | {each.tensor.type.name} | {each.verdict} | {escaped(explained(each))} |"
            for each in odd[:MOST]
        ]
        lines += [f"| {len(odd) - MOST:,} more | | | |"] if len(odd) > MOST else []
    if found := ordered(report):
        lines += ["", "| metadata | grade | expected | found |", "|---|---|---|---|"]
        lines += [
            f"| {code(each.key)} | {each.grade} | {code(each.expected)} | {code(each.actual)} |"
            for each in found[:MOST]
        ]
        lines += [f"| {len(found) - MOST:,} more | | | |"] if len(found) > MOST else []
    lines += ["", *(f"- {escaped(text)}" for text in remarks(report))] if remarks(report) else []
    return "\n".join(lines) + "\n"


def as_text(report: Report, width: int | None = None) -> None:
    """Print the outcome to standard output: the verdict, then what matters."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=width, highlight=False)
    colours: Mapping[str, str] = {EXACT: "bold green", NEAR: "bold green", MISMATCH: "bold red"}
    console.print(Text(headline(report), colours.get(report.verdict, "bold yellow")))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts(report):
        table.add_row(name, Text(value))
    console.print(table)
    odd, found = notable(report), ordered(report)
    if odd:
        rows = [(each.tensor.name, each.tensor.type.name, each.verdict, explained(each)) for each in odd]
        console.print(_table(("tensor", "type", "verdict", "what"), rows))
    if found:
        rows = [(each.key, str(each.grade), each.expected, each.actual) for each in found]
        console.print(_table(("metadata", "grade", "expected", "found"), rows))
    for text in remarks(report):
        console.print(Text(f"note: {text}"))


def _table(head: tuple[str, ...], rows: list[tuple[str, str, str, str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, pad_edge=False)
    for row in rows[:MOST]:
        # As text, not as markup: names come from the file.
        table.add_row(*map(Text, row))
    if len(rows) > MOST:
        table.add_row(f"and {len(rows) - MOST:,} more", "", "", "")
    return table
