"""The table of a survey in every form that it has, made of the document alone: names and sentences are strangers'."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from requant.audit.forms.content import MOST, QUESTIONS, date
from requant.audit.forms.page import TONES
from requant.audit.forms.spoken import spoken
from requant.audit.survey.table import WORDS, WORST_FIRST
from requant.documents.bilingual import bilingual_words
from requant.documents.reports import write_document, write_text
from requant.documents.templates import environment
from requant.ground.exit_codes import ExitCode
from requant.ground.markdown import inert
from requant.ground.text import counted, plain, printable

Document = Mapping[str, Any]
COMMIT = re.compile("(@[0-9a-f]{12})[0-9a-f]{28}")
NAMES = ("survey.html", "survey.md", "survey.json")
"""The page, the Markdown and the document: the last is there when all are."""
LOOKS = {**TONES, ExitCode.USAGE: "unread", ExitCode.BUG: "bug"}
"""What a row's exit code looks like."""


def write_table(folder: Path, document: Document) -> None:
    """Write all forms into a folder; raises DiskError when it cannot be written to."""
    page, markdown, machines = (folder / name for name in NAMES)
    write_text(page, as_page(document))
    write_text(markdown, as_markdown(document))
    write_document(machines, document)


def as_text(document: Document, folder: Path) -> str:
    """What stands on the terminal: counts, then what is not answered well, and where the table is."""
    document = plain(document)
    lines = [document["headline"], *(f"{name}: {_in_words(found)}" for name, found in counts(document).items())]
    odd = [row for row in document["rows"] if row["exit_code"] != ExitCode.OK]
    lines += [printable(f"{row['exit_code']}  {row['subject']}: {row['sentence']}") for row in odd[:MOST]]
    lines += [f"and {len(odd) - MOST:,} more"] if len(odd) > MOST else []
    return "\n".join([*lines, f"the table is {folder / NAMES[0]}"])


def counts(document: Document) -> dict[str, dict[str, int]]:
    """By question, how many quants each word answers it of: words and questions of which there are any, in order."""
    found = {question: document["counts"][question] for question in QUESTIONS}
    some = {name: {str(word): said[word] for word in WORDS[name] if said[word]} for name, said in found.items()}
    return {question: words for question, words in some.items() if words}


def _in_words(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in found.items())


def as_markdown(document: Document) -> str:
    """The table for a discussion page; no text of a subject does anything in it."""
    document = plain(document)
    drawn = document["asked"]["rows"]
    read = "every row" if drawn is None else f"a sample of {counted(drawn, 'row')}"
    lines = [f"**{inert(document['headline'])}**", "", "| question | quants |", "|---|---|"]
    lines += [f"| {question} | {_in_words(found)} |" for question, found in counts(document).items()]
    lines += ["", f"| quant | against | {' | '.join(QUESTIONS)} | exit code | what was found | asked |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for row in document["rows"]:
        words = [row["answers"][question]["status"] if row["answers"] else "–" for question in QUESTIONS]
        cells = [inert(row["address"] or row["subject"]), _weights(row), *words]
        day = f"[{row['asked'][:10]}]({row['page']})" if row["page"] else row["asked"][:10]
        lines.append(f"| {' | '.join([*cells, str(row['exit_code']), inert(row['sentence']), day])} |")
    lines += ["", f"Asked of {read} by requant {document['requant']}, {date(document)}."]
    return "\n".join(lines) + "\n"


def _weights(row: Document) -> str:
    """Which weights, and that nobody but the quant names them, in a cell."""
    if row["source"] is not None:
        return inert(row["weights"] or row["source"])
    return f"{inert(row['weights'])} (the quant's own word)" if row["weights"] else "–"


def as_page(document: Document) -> str:
    """One page in English and Chinese that loads nothing and runs nothing; the same document gives the same text."""
    document = plain(document)
    codes = {code: document["counts"]["exit_codes"][str(int(code))] for code in WORST_FIRST}
    return _environment().get_template("survey.html.j2").render(
        survey=document,
        codes={code: count for code, count in codes.items() if count},
        counts=counts(document),
        date=date(document),
        questions=QUESTIONS,
    )  # fmt: skip


@cache
def _environment() -> Environment:
    found = environment(html=True)
    audit = bilingual_words("audit")
    # Whole commits stand in survey.json and in the reports.
    found.filters["brief"] = lambda address: COMMIT.sub(r"\1", address)
    found.globals |= {
        "words": bilingual_words("survey"), "titles": audit["questions"], "terms": audit["statuses"], "looks": LOOKS,
        "spoken": spoken,
    }  # fmt: skip
    return found
