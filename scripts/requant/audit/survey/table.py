"""The table of a survey, as a document for machines: counts, then a row for each line of the list, the worst first."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from requant import __version__
from requant.audit.forms.content import QUESTIONS
from requant.audit.question import Question
from requant.audit.status import Metadata, Mix, Reading
from requant.audit.survey.asking import REPORTS, WHEN, Row
from requant.audit.survey.listed import shown
from requant.documents.reports import SURVEY
from requant.ground.exit_codes import ExitCode
from requant.ground.text import counted
from requant.quantization.verdict import Verdict

WORST_FIRST = (ExitCode.AGAINST, ExitCode.BUG, ExitCode.USAGE, ExitCode.UNCHECKED, ExitCode.OK)
"""The order of the rows; the first that any row has is the survey's exit code."""
WORDS: Mapping[str, Iterable[str]] = dict(zip(QUESTIONS, (Verdict, Mix, Metadata, Reading), strict=True))
SAID = {
    ExitCode.OK: "answered well",
    ExitCode.AGAINST: "with evidence against",
    ExitCode.UNCHECKED: "not checked in full",
    ExitCode.USAGE: "that cannot be read",
    ExitCode.BUG: "that requant failed at",
}
"""What the headline says of so many quants."""


def as_document(rows: Sequence[Row], asked: Question, begun: datetime, seconds: float) -> dict[str, Any]:
    """The table for canonical JSON; only ``run`` and the days differ between two surveys that find the same."""
    codes = Counter(row.exit_code for row in rows)
    code = next(code for code in WORST_FIRST if codes[code])
    parts = [f"{codes[each]:,} {SAID[each]}" for each in WORST_FIRST if codes[each]]
    ordered = sorted(rows, key=lambda row: (WORST_FIRST.index(row.exit_code), row.entry.shown, row.entry.line))
    return {
        "schema": SURVEY,
        "exit_code": int(code),
        "headline": f"{counted(len(rows), 'quant')}: {', '.join(parts)}",
        "asked": {
            "rows": asked.rows, "seed": asked.seed, "exact": asked.exact, "trust_subject": asked.trust_subject,
            "allow_unchecked": sorted(asked.allowed), "converter": asked.converter,
        },
        "counts": {
            "exit_codes": {str(int(each)): codes[each] for each in sorted(WORST_FIRST)},
            **{question: _counts(rows, question) for question in QUESTIONS},
        },
        "rows": [_row(row) for row in ordered],
        "requant": __version__,
        "run": {
            "begun": begun.strftime(WHEN),
            "seconds": f"{seconds:.3f}",
            "kept": sum(row.kept for row in rows),
        },
    }  # fmt: skip


def _counts(rows: Sequence[Row], question: str) -> dict[str, int]:
    """How often each word answers a question; of a quant without a report none does."""
    found = Counter(row.answers[question]["status"] for row in rows if row.answers is not None)
    return {str(word): found[str(word)] for word in WORDS[question]}


def _row(row: Row) -> dict[str, Any]:
    source = row.entry.source
    return {
        "line": row.entry.line,
        "subject": row.entry.shown,
        "source": None if source is None else shown(source),
        "address": row.address,
        "weights": row.weights,
        "exit_code": int(row.exit_code),
        "answers": row.answers and dict(row.answers),
        "sentence": row.said,
        "asked": row.asked,
        "report": row.stem and f"{REPORTS}/{row.stem}.json",
        "page": row.stem and f"{REPORTS}/{row.stem}.html",
    }
