"""What the card and the pages say: the same words in every language, each of them in use, and each said somewhere."""

import copy
import re
from collections.abc import Iterator
from string import Formatter
from typing import Any

import pytest

from requant.documents.templates import TEMPLATES, read_words
from requant.pipeline.suites import CARD_ROWS
from support.cards import halves, render
from support.checkout import ROOT
from support.manifests import generated_model, hub_model, local_model, packaged_model
from support.measured import evaluation

Document = dict[str, Any]
PAGE = ROOT / "scripts" / "requant" / "evaluation" / "page"
ATTRIBUTE = re.compile(r"\bwords((?:\.\w+)+)(\[?)")
"""``words.a.b`` in a template; before a bracket or ``.items`` a whole section, of which something else picks one."""
NAMED = re.compile(r'\b(word|label)\("([\w.]+)"')
"""``word("a.b")`` in Python, and ``label("b")`` for ``words.drawn.b``."""


def texts(words: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each text by its place, such as ``files.columns.0``."""
    if isinstance(words, str):
        yield path.removeprefix("."), words
        return
    for key, part in words.items() if isinstance(words, dict) else enumerate(words):
        yield from texts(part, f"{path}.{key}")


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def used(document: str) -> tuple[set[str], set[str]]:
    """Places of texts or lists of them, and of whole sections, that the templates (and the page's code) ask for."""
    asked, sections = set(), set()
    shared = () if document == "card" else TEMPLATES.glob("page.*.j2")
    for file in (*shared, *TEMPLATES.glob(f"{document}.*.j2")):
        for name, picked in ATTRIBUTE.findall(file.read_text()):
            path = re.sub(r"\.(format|join|items)$", "", name[1:])
            (sections if picked or name.endswith(".items") else asked).add(path)
    if document == "report":
        for file in PAGE.glob("*.py"):
            asked |= {f"drawn.{name}" if how == "label" else name for how, name in NAMED.findall(file.read_text())}
    return asked, sections


@pytest.mark.parametrize("document", ["card", "report", "audit", "sentences", "survey"])
def test_every_language_has_the_same_words_with_the_same_places(document: str) -> None:
    en, zh = (dict(texts(read_words(document, language))) for language in ("en", "zh"))
    assert [*en] == [*zh]
    assert {path: places(text) for path, text in en.items()} == {path: places(text) for path, text in zh.items()}
    assert [path for path, text in (*en.items(), *zh.items()) if not text] == []
    # An attribute of a mapping would be found before its key.
    assert [path for path in en if any(hasattr(dict, key) for key in path.split("."))] == []


@pytest.mark.parametrize("document", ["card", "report", "audit", "survey"])
def test_every_word_is_used_and_every_word_that_is_used_is_there(document: str) -> None:
    words, (asked, sections) = read_words(document, "en"), used(document)
    found = [path for path, _ in texts(words)]
    leaves = {re.sub(r"\.\d+$", "", path) for path in found}
    assert sorted(asked - leaves) == []
    assert [section for section in sections if not any(path.startswith(f"{section}.") for path in leaves)] == []
    unused = leaves - asked
    assert [path for path in sorted(unused) if not any(path.startswith(f"{section}.") for section in sections)] == []


def test_the_card_has_a_title_for_each_row() -> None:
    assert tuple(read_words("card", "en")["measured"]["suites"]) == CARD_ROWS


def with_card(manifest: Document, **changes: Any) -> Document:
    changed = copy.deepcopy(manifest)
    changed["recipe"]["document"]["card"] |= changes
    return changed


def changed(manifest: Document, place: str, value: Any) -> Document:
    found = copy.deepcopy(manifest)
    *folders, last = place.split("/")
    inner = found
    for folder in folders:
        inner = inner[folder]
    inner[last] = value
    return found


def asked_in_part(manifest: Document) -> Document:
    """One suite of which not every question was answered, and one that a harness asked."""
    measured = evaluation(manifest)
    tools, other = measured["behaviour"]["suites"]
    for model in tools["models"]:
        model.update(items=5, errors=1)
    other |= {"name": "mmlu", "harness": "EvalScope 1.14.1, zero-shot", "of": 15}
    return measured


FORMER = [changed(quant, "file/name", f"Big-{quant['type']}-imatrix.gguf") for quant in hub_model()["quants"]]
"""Quants as they were once called, of which llama.cpp has to be told the file."""
CARDS: dict[str, tuple[Document, Document | None]] = {
    "from a hub, several quants, CUDA, always thinking": (hub_model(), None),
    "generated, portable, thinking if asked": (generated_model(), None),
    "from a package, expanded, native, fallbacks, not thinking": (packaged_model(), None),
    "measured": (hub_model(), evaluation(hub_model())),
    "measured, not answered in full": (generated_model(), asked_in_part(generated_model())),
    "nothing measured": (packaged_model(), evaluation(packaged_model()) | {"fidelity": None, "speed": None, "behaviour": None}),
    "from a folder": (local_model(), None),
    "from ModelScope": (changed(hub_model(), "inputs/model/revision", None), None),
    "no source of llama.cpp": (changed(hub_model(), "inputs/toolchain/sdist", None), None),
    "with a bill of materials": (changed(hub_model(), "recipe/document/bill_of_materials", "cyclonedx"), None),
    "of a release with former names": (changed(hub_model(), "quants", FORMER), None),
    "no vendor's benchmarks": (with_card(hub_model(), vendor_benchmarks={"source": "none", "rows": []}), None),
}  # fmt: skip


def said(text: str) -> re.Pattern[str]:
    """The text with anything in its places."""
    return re.compile(".+?".join(re.escape(part) for part, *_ in Formatter().parse(text)), re.DOTALL)


@pytest.mark.parametrize("name", CARDS)
def test_a_card_in_both_languages(name: str) -> None:
    chinese, english = halves(render(*CARDS[name]))
    assert len(re.findall("^###", chinese, re.MULTILINE)) == len(re.findall("^###", english, re.MULTILINE))
    for language, half in (("zh", chinese), ("en", english)):
        words = read_words("card", language)
        sections = [text for path, text in texts(words) if path.endswith(".heading") and path != "thinking.heading"]
        assert [text for text in sections if f"\n### {text}\n" not in half] == []
        assert "{" not in re.sub(r"```.*?```|`\{threads\}`", "", half, flags=re.DOTALL)


@pytest.mark.parametrize(("language", "half"), [("zh", 0), ("en", 1)])
def test_every_word_of_the_card_is_said_by_some_card(language: str, half: int) -> None:
    everything = "\n".join(halves(render(*case))[half] for case in CARDS.values()).replace("\n> ", "\n")
    words = {path: text for path, text in texts(read_words("card", language)) if path != "name"}
    assert [path for path, text in words.items() if not said(text).search(everything)] == []
