"""Templates of the card and the pages, and beside them the words of each language.

A template is the shape of a document in every language; ``<document>.words.<language>.yaml`` holds what it says, with
``{places}`` where the template puts something. So the languages cannot drift apart in what they show.
"""

from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from requant import DATA
from requant.documents.schemas import read_yaml
from requant.ground.text import sized

TEMPLATES = DATA / "templates"
Words = dict[str, Any]
"""Texts and lists of texts in sections, the same ones in every language."""


def read_words(document: str, language: str) -> Words:
    """What ``document`` (``card``, ``report``, ``audit``) says in a language (``en``, ``zh``)."""
    words: Words = read_yaml(TEMPLATES / f"{document}.words.{language}.yaml")
    return words


def environment(*, html: bool) -> Environment:
    """Where templates are rendered: a name that is not there is an error; what is HTML is escaped by itself."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=html,  # noqa: S701
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    found.filters |= {"size": sized, "thousands": "{:,}".format}
    return found
