"""Carrying a survey out: one quant at a time, each report written when it is whole, so that a killed survey goes on.

A report's name holds a digest of what was asked. Who asks the same again finds it; another question has another name.
"""

import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from requant import __version__
from requant.audit.forms.content import QUESTIONS
from requant.audit.forms.page import as_page
from requant.audit.question import Question, audit
from requant.audit.report import Report, as_document
from requant.audit.survey.listed import Entry, path_of, shown
from requant.documents.reports import write_text
from requant.documents.schemas import fault
from requant.ground.canonical import canonical, parse
from requant.ground.digests import digest_bytes, read_small
from requant.ground.errors import FormatError, UnsupportedError, sentence
from requant.ground.exit_codes import ExitCode, exit_code
from requant.ground.progress import progress
from requant.ground.text import plain, printable, without_secrets
from requant.places.addresses import Label
from requant.places.pages import HUGGING_FACE, MODELSCOPE
from requant.places.place import last_part

REPORTS = "reports"
"""The folder beside the table that holds a report and a page of every quant."""
LONGEST_REPORT = 1 << 28
USER = re.compile("//[^/]*@")
LONGEST_STEM = 60
WHEN = "%Y-%m-%dT%H:%M:%SZ"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """What came of one line of the list.

    ``answers`` are those of the report, by question; ``None`` where there is none, and ``said`` is the sentence that
    the audit ended with. ``address`` and ``weights`` are the places that were read, at their commits. ``asked`` is
    when, and ``kept`` whether an earlier survey did it. ``stem`` is the name of the report's files.
    """

    entry: Entry
    exit_code: int
    said: str
    asked: str
    kept: bool = False
    answers: Mapping[str, Mapping[str, Any]] | None = None
    address: str | None = None
    weights: str | None = None
    stem: str | None = None

    @classmethod
    def of(cls, entry: Entry, document: Mapping[str, Any], stem: str, *, kept: bool) -> "Row":
        """Of a report; the rest of it, which is long, is left in its file."""
        answers = {
            question: {key: document["answers"][question][key] for key in ("status", "exit_code")}
            for question in QUESTIONS
        }
        return cls(
            entry, document["exit_code"], document["headline"], document["run"]["begun"], kept, answers,
            document["subject"]["address"], document["source"]["address"], stem,
        )  # fmt: skip

    @property
    def brief(self) -> str:
        """All of it on one line of a terminal."""
        if self.answers is None:
            return printable(plain(f"{self.entry.shown}: {self.said}"))
        words = ", ".join(f"{question} {answer['status']}" for question, answer in self.answers.items())
        earlier = f", as asked on {self.asked[:10]}" if self.kept else ""
        return printable(plain(f"{self.entry.shown}: {words}{earlier}"))


def survey(entries: Sequence[Entry], asked: Question, folder: Path) -> list[Row]:
    """Ask about every entry, in the list's order; what ``folder`` holds a report of is not asked again.

    Args:
        entries: what is asked about.
        asked: how; its subject and weights do not count.
        folder: where reports are written, below ``REPORTS``.

    Raises:
        DiskError: when a report cannot be written. What is wrong with an entry is said in its row.
    """
    rows = []
    with progress(len(entries), "survey", "quant") as bar:
        for number, entry in enumerate(entries, 1):
            rows.append(_row(entry, replace(asked, subject=entry.subject, weights=entry.source), folder / REPORTS))
            bar.clear()
            logger.info("%d/%d %s (exit code %d)", number, len(entries), rows[-1].brief, rows[-1].exit_code)
            bar.update()
    return rows


def _row(entry: Entry, question: Question, folder: Path) -> Row:
    begun = datetime.now(UTC).strftime(WHEN)
    if entry.fault is not None:
        return Row(entry, ExitCode.USAGE, entry.fault, begun)
    stem = report_stem(question)
    report, page = (folder / f"{stem}.{form}" for form in ("json", "html"))
    kept = _kept(report)
    try:
        document = kept or _document(question)
        forms = {} if kept and page.exists() else {page: as_page(document)}
        forms |= {} if kept else {report: canonical(document).decode()}
    except Exception as error:  # noqa: BLE001 - one quant, whatever its audit runs into, ends no survey
        return Row(entry, exit_code(error), _said(error, entry, folder / f"{stem}.txt"), begun)
    # The page first: what has a report is done.
    for path, text in forms.items():
        write_text(path, text)
    return Row.of(entry, document, stem, kept=kept is not None)


def _document(question: Question) -> dict[str, Any]:
    report = audit(question)
    if not isinstance(report, Report):
        raise UnsupportedError(f"{report.name} is an importance matrix and no quant: requant audit looks at one alone")
    return as_document(report)


def _kept(path: Path) -> dict[str, Any] | None:
    """The report of an earlier survey, if it is there and whole."""
    if not path.exists():
        return None
    try:
        document = parse(read_small(path, LONGEST_REPORT), path.name)
    except FormatError:
        return None
    return document if isinstance(document, dict) and fault(document, "audit", path.name) is None else None


def _said(error: Exception, entry: Entry, kept: Path) -> str:
    """The sentence that an audit ended with, for a table: of paths on this machine it has the last names."""
    said = sentence(error)
    if said is None:
        write_text(kept, without_secrets("".join(traceback.format_exception(error))))
        return f"this is a bug in requant: report it with {REPORTS}/{kept.name}"
    named = (text for text in (entry.subject, entry.source) if text is not None)
    for text, path in ((text, path) for text in named if (path := path_of(text)) is not None):
        for spelling in (str(path), text, str(Path(text))):
            # What has no folder in it shows none.
            if "/" in spelling.strip("./"):
                said = said.replace(spelling, last_part(path))
    return said


def report_stem(question: Question) -> str:
    """What a question's report is called: for people the quant, and a digest of all that the answers depend on.

    Whose password an address holds moves no answer. Its query may: an address that is signed anew is asked anew.
    """
    texts = (question.subject, question.weights)
    said = {
        "places": [None if text is None else ascii(str(path_of(text) or USER.sub("//", text))) for text in texts],
        "sites": [Label(site.endpoint) for site in (HUGGING_FACE, MODELSCOPE)],
        "rows": question.rows, "seed": question.seed, "exact": question.exact, "trust_subject": question.trust_subject,
        "allowed": sorted(question.allowed), "converter": question.converter, "requant": __version__,
    }  # fmt: skip
    name = re.sub("[^a-z0-9]+", "-", shown(question.subject).lower())[:LONGEST_STEM].strip("-")
    return "-".join([*([name] if name else []), digest_bytes(canonical(said)).sha256[:16]])
