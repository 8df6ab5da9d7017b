"""Texts of a page in English and Chinese: both stand in it, and a switch there shows one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from markupsafe import Markup, escape

from requant.documents.templates import read_words


@dataclass(frozen=True)
class Bilingual:
    """The same text in two languages; a template writes both, each marked with its language."""

    en: str
    zh: str

    def __html__(self) -> str:
        return Markup('<span lang="en">{}</span><span lang="zh">{}</span>').format(self.en, self.zh)

    def format(self, **values: object) -> "Bilingual":
        """Fill the places in it: of a bilingual value with its part in the same language. All becomes HTML, escaped."""

        def filled(language: str) -> Markup:
            own = {
                key: getattr(each, language) if isinstance(each, Bilingual) else each for key, each in values.items()
            }
            return escape(getattr(self, language)).format(**own)

        return Bilingual(filled("en"), filled("zh"))

    def join(self, items: Sequence[str]) -> "Bilingual":
        """The items with this text between them, as HTML."""
        return Bilingual(escape(self.en).join(items), escape(self.zh).join(items))


@cache
def bilingual_words(document: str) -> dict[str, Any]:
    """Everything that the page ``document`` (``report``, ``audit``) says, in its sections."""
    paired: dict[str, Any] = _paired(read_words(document, "en"), read_words(document, "zh"))
    return paired


def _paired(en: Any, zh: Any) -> Any:
    return {key: _paired(en[key], zh[key]) for key in en} if isinstance(en, dict) else Bilingual(en, zh)
