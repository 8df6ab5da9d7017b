"""An audit's sentences in both languages, found by their forms.

A report holds sentences in English. ``workflow/templates/sentences.words.*.yaml`` has the form of each in both
languages, with places for what is told, and what stood in the places goes into the other form. So a page is made of
the report alone, and one of an older day speaks Chinese too. What has no form stays as it is.

Text of strangers may stand in a place. It is looked for from the left, once, without going back: no text takes long.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from string import Formatter
from typing import Self

from requant.documents.bilingual import Bilingual
from requant.documents.templates import read_words

EITHER = re.compile(r"\(([^(){}|]*(?:\|[^(){}|]*)+)\)")
NUMBERS = frozenset({"count", "all", "read", "left", "least", "known", "off", "quants", "seed", "row", "column"})
"""Places that hold a whole number and nothing else."""
NUMBER = re.compile(r"[\d,]+")
SENTENCES = frozenset({"why", "bound", "what"})
"""Places that hold what has a form of its own."""
MORE = re.compile(r" and ([\d,]+) more$")
BREAK = "; "
MOST_JOINED = 2
"""Parts between semicolons that one form has at most."""
MOST_SAID = 64
"""Parts that are looked for; what a stranger lets follow stays as it is."""


@dataclass(frozen=True)
class Form:
    """One way to say a sentence in English, with what stands around its ``places``; and the sentence in Chinese."""

    literals: tuple[str, ...]
    places: tuple[str, ...]
    zh: str

    @classmethod
    def of(cls, en: str, zh: str) -> Iterator[Self]:
        """All ways to say it: ``(is|are)`` stands for either."""
        parts = EITHER.split(en)
        for chosen in product(*(part.split("|") for part in parts[1::2])):
            text = "".join(f"{plain}{word}" for plain, word in zip(parts[::2], (*chosen, ""), strict=True))
            pieces = [(literal, place) for literal, place, _, _ in Formatter().parse(text)]
            places = tuple(place for _, place in pieces if place is not None)
            literals = [literal for literal, _ in pieces]
            yield cls(tuple(literals if len(literals) > len(places) else [*literals, ""]), places, zh)

    def values(self, text: str) -> Mapping[str, str] | None:
        """What stands in the places, if ``text`` has this form."""
        first, *others = self.literals
        if not others:
            return {} if text == first else None
        if not text.startswith(first) or not text.endswith(others[-1]):
            return None
        found: dict[str, str] = {}
        at, end = len(first), len(text) - len(others[-1])
        for place, literal in zip(self.places, others, strict=True):
            last = len(found) == len(others) - 1
            stop = end if last else text.find(literal, at + 1, end)
            value = text[at:stop]
            if stop <= at or BREAK in value or (place in NUMBERS and not NUMBER.fullmatch(value)):
                return None
            found[place] = value
            at = stop + len(literal)
        return found


@cache
def forms() -> tuple[Form, ...]:
    """All of them, those that say most first."""
    en, zh = (read_words("sentences", language) for language in ("en", "zh"))
    found = [
        form for section, texts in en.items() for key, text in texts.items() for form in Form.of(text, zh[section][key])
    ]
    return tuple(sorted(found, key=lambda form: -sum(map(len, form.literals))))


def spoken(text: str, subject: str | None = None) -> Bilingual:
    """A sentence in both languages, or several with semicolons; of a headline ``subject`` is who it begins with."""
    start = f"{subject}: "
    if subject is not None and text.startswith(start):
        return Bilingual(text, f"{subject}：{_said(text.removeprefix(start))}")
    return Bilingual(text, _said(text))


def _said(text: str) -> str:
    try:
        return _chinese(text)
    except RecursionError:  # nobody says that
        return text


def _chinese(text: str) -> str:
    *parts, rest = [*text.split(BREAK, MOST_SAID), ""][: MOST_SAID + 1]
    said: list[str] = []
    while parts:
        count, found = next(
            (
                (count, whole)
                for count in range(min(MOST_JOINED, len(parts)), 0, -1)
                if (whole := _whole(BREAK.join(parts[:count]))) is not None
            ),
            (1, parts[0]),
        )
        said.append(found)
        parts = parts[count:]
    return "；".join([*said, rest] if rest else said)


@lru_cache(1 << 12)
def _whole(text: str) -> str | None:
    """The sentence, if it has a form."""
    for form in forms():
        values = form.values(text)
        if values is not None:
            return form.zh.format(**{place: _told(place, value) for place, value in values.items()})
    return None


def _told(place: str, value: str) -> str:
    if place in SENTENCES:
        return _chinese(value)
    return MORE.sub(r" 及另外 \1 个", value) if place == "names" else value
