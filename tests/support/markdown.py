"""What stands in a Markdown page."""

from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token


def tokens(path: Path) -> list[Token]:
    """Every Markdown token of a page, inline ones included."""
    return parsed(path.read_text(encoding="utf-8"))


def parsed(text: str) -> list[Token]:
    """As ``tokens``, of a text."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        found += [token, *(token.children or [])]
    return found


def fences(path: Path) -> list[tuple[str, str]]:
    """The language and the text of every fenced block."""
    return [(token.info, token.content) for token in tokens(path) if token.type == "fence"]
