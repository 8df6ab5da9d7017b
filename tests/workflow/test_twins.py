"""Pages in English and in Chinese keep step: the same parts in the same order, the same commands, names and numbers."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from markdown_it.token import Token

from support.checkout import ROOT
from support.markdown import fences, parsed

TWINS = [
    (page.with_name(page.name.replace(".zh-CN.", ".")), page)
    for page in sorted([*ROOT.glob("*.zh-CN.md"), *(ROOT / "docs").glob("*.zh-CN.md")])
]
VERDICTS = ROOT / "docs" / "verdicts.zh-CN.md"
WORDS = ROOT / "workflow" / "templates" / "audit.words.zh.yaml"
NUMBER = re.compile(r"(?<!Top-)\d++(?:[.,]\d++)*+(?! 月)")
"""English has words for months, and calls Top-1 the same top."""
IN_ENGLISH_ALONE = re.compile("<!-- begin lanes -->.*?<!-- end lanes -->", re.DOTALL)
"""What ``bench/lanes.py`` measures: the Chinese page leads to that table."""

each_pair = pytest.mark.parametrize("twins", TWINS, ids=lambda twins: twins[0].relative_to(ROOT).as_posix())


def parts(page: Path) -> list[Token]:
    """The page, inline parts included, without what has no twin."""
    return parsed(IN_ENGLISH_ALONE.sub("", page.read_text(encoding="utf-8")))


def rows(page: Path) -> list[tuple[list[str], list[str]]]:
    """What is code, and what are numbers, in each row of each table."""
    found: list[tuple[list[str], list[str]]] = []
    for before, token in pairwise(parts(page)):
        if token.type == "tr_open":
            found.append(([], []))
        elif token.type == "inline" and before.type in ("td_open", "th_open"):
            words, numbers = found[-1]
            words += re.findall(r"`[^`]+`", token.content)
            numbers += NUMBER.findall(re.sub(r"`[^`]+`|\]\([^)]*\)", "", token.content))
    return [(sorted(words), sorted(numbers)) for words, numbers in found]


@each_pair
def test_twins_name_each_other_in_the_first_line(twins: tuple[Path, Path]) -> None:
    for page, other in (twins, twins[::-1]):
        assert f"({other.name})" in page.read_text(encoding="utf-8").splitlines()[0]


@each_pair
def test_twins_have_the_same_parts_in_the_same_order(twins: tuple[Path, Path]) -> None:
    kinds = ("heading_open", "fence", "tr_open", "bullet_list_open", "ordered_list_open", "list_item_open")
    shapes = [[token.tag for token in parts(page) if token.type in kinds] for page in twins]
    assert shapes[0] == shapes[1]


@each_pair
def test_twins_have_the_same_commands(twins: tuple[Path, Path]) -> None:
    english, chinese = twins
    assert fences(english) == fences(chinese)


@each_pair
def test_tables_of_twins_have_the_same_names_and_numbers(twins: tuple[Path, Path]) -> None:
    english, chinese = (rows(page) for page in twins)
    assert [row for row in zip(english, chinese, strict=True) if row[0] != row[1]] == []


@each_pair
def test_twins_name_the_same_things(twins: tuple[Path, Path]) -> None:
    named = [{token.content for token in parts(page) if token.type == "code_inline"} for page in twins]
    assert named[0] ^ named[1] == set()


def test_words_are_explained_as_the_page_of_an_audit_shows_them() -> None:
    """Each row begins with the Chinese word for what stands in the JSON."""
    statuses = yaml.safe_load(WORDS.read_text(encoding="utf-8"))["statuses"]
    shown = {(word, said["term"]) for question in statuses.values() for word, said in question.items()}
    explained = re.findall(r"^\| `(\w+)` \| (.+?)[：，]", VERDICTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown - set(explained) == set()
