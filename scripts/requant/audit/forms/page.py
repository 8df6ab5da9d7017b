"""An audit's outcome as one HTML page in English and Chinese that loads nothing and runs nothing.

Rendered by ``workflow/templates/audit.html.j2`` from the document alone, so a stored one gives the same page. All text
in it is untrusted: the template escapes it for HTML. Everything that the audit says is in both languages.
"""

from collections import Counter
from functools import cache

from jinja2 import Environment

from requant.audit.forms.content import QUESTIONS, Document, answers, commands, date, listings
from requant.audit.forms.spoken import spoken
from requant.audit.forms.tensor_map import draw_map
from requant.audit.metadata.comparison import Grade
from requant.documents.bilingual import bilingual_words
from requant.documents.templates import environment
from requant.ground.exit_codes import ExitCode
from requant.ground.text import plain
from requant.quantization.verdict import Verdict

TONES = {ExitCode.OK: "good", ExitCode.AGAINST: "against", ExitCode.UNCHECKED: "open"}
"""What an exit code looks like."""
GRADES = (Grade.SERIOUS, Grade.UNCHECKED, Grade.HARMLESS)
MARKS = {"exact": "✓", "near": "≈", "consistent": "∼", "mismatch": "✕", "unchecked": "?", "missing": "–"}
"""What a cell of the map shows besides its colour."""


def as_page(document: Document) -> str:
    """The page; the same document gives the same text."""
    document = plain(document)
    graded = Counter((each["question"], each["grade"]) for each in document["findings"])
    return _environment().get_template("audit.html.j2").render(
        audit=document,
        answers=dict(answers(document)),
        commands=dict(commands(document)),
        counts={verdict: document["counts"][verdict] for verdict in Verdict} | {"missing": len(document["missing"])},
        date=date(document),
        differences={
            question: {grade: count for grade in GRADES if (count := graded[question, grade])} for question in QUESTIONS
        },
        harmless=[each for each in document["findings"] if each["grade"] == Grade.HARMLESS],
        listings={"tensors": [], "findings": []} | {listing.name: listing.rows for listing in listings(document)},
        map=draw_map(document),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    found = environment(html=True)
    found.filters["share"] = lambda part: f"{100 * float(part):.3g} %"
    found.globals |= {"words": bilingual_words("audit"), "tones": TONES, "marks": MARKS, "spoken": spoken}
    return found
