"""A card, and what a Markdown reader makes of it."""

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from requant.ground.canonical import canonical, parse
from requant.release.card import render_card


def render(manifest: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None) -> str:
    """The card of a release, from its documents as files would hold them."""
    measured = None if evaluation is None else parse(canonical(evaluation), "evaluation.json")
    return render_card(parse(canonical(manifest), "manifest.json"), measured).decode()


def halves(card: str) -> list[str]:
    """What it says in Chinese, and in English."""
    _, chinese, english = re.split(r"^## (?:中文|English)$", card, flags=re.MULTILINE)
    return [chinese, english]


def blocks(half: str, heading: str) -> list[str]:
    """The commands that stand under a heading of one language, block by block."""
    section = half.split(f"\n### {heading}\n")[1].split("\n### ")[0]
    return re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def tables(card: str) -> list[list[list[str]]]:
    """Rows of cells of every table, as a Markdown reader sees them."""
    found: list[list[list[str]]] = []
    inside = False
    for token in markdown(card):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            inside = True
        elif inside and token.type == "inline":
            found[-1][-1].append(token.content)
            inside = False
    return found


def markdown(card: str) -> list[Any]:
    """Its tokens, without the front matter."""
    return (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(ModelCard(card, ignore_metadata_errors=False).text)
    )
