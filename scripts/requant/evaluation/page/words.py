"""What the report of a release says, in English and Chinese."""

from typing import Any

from requant.documents.bilingual import Bilingual, bilingual_words


def page_words() -> dict[str, Any]:
    """Everything that the report says, in its sections."""
    return bilingual_words("report")


def word(path: str) -> Bilingual:
    """One text of it, such as ``glance.note``."""
    found: Any = page_words()
    for key in path.split("."):
        found = found[key]
    text: Bilingual = found
    return text
