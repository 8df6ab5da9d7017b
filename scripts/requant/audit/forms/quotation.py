"""An audit's outcome as Markdown for a discussion page: to be quoted, so with all that a reader needs to ask again."""

from requant.audit.forms.content import MOST, Document, answers, commands, facts, listings, remarks
from requant.ground.markdown import inert, literal, shell
from requant.ground.text import plain


def as_markdown(document: Document) -> str:
    """What others may copy; no text of the subject does anything in it."""
    document = plain(document)
    lines = [f"**{inert(document['headline'])}**", "", "| question | answer | |", "|---|---|---|"]
    lines += [f"| {question} | {each['status']} | {inert(each['sentence'])} |" for question, each in answers(document)]
    lines += ["", "| | |", "|---|---|"]
    lines += [f"| {name} | {inert(value)} |" for name, value in facts(document)]
    for listing in listings(document):
        lines += ["", f"| {' | '.join(listing.head)} |", f"|{'---|' * len(listing.head)}"]
        for row in listing.rows[:MOST]:
            cells = (literal(cell) if place in listing.code else inert(cell) for place, cell in enumerate(row))
            lines.append(f"| {' | '.join(cells)} |")
        if len(listing.rows) > MOST:
            lines.append(f"| {len(listing.rows) - MOST:,} more {'| ' * (len(listing.head) - 1)}|")
    if found := remarks(document):
        lines += ["", *(f"- {inert(text)}" for text in found)]
    for what, command in commands(document):
        lines += ["", f"This {what}:", "", *shell(command)]
    lines += ["", f"What this does not say: {' '.join(limit['sentence'] for limit in document['limits'])}"]
    return "\n".join(lines) + "\n"
