"""Every sentence that an audit can say has a form in both languages, and nobody's text makes another sentence of it."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path
from string import Formatter

import pytest

from requant.audit.forms import spoken as room
from requant.audit.forms.spoken import Form, forms, spoken
from requant.audit.limits import Limit
from requant.documents.templates import read_words
from support.checkout import ROOT

AUDIT = ROOT / "scripts" / "requant" / "audit"
ROOMS = (
    "answers.py", "report.py", "status.py", "metadata/history.py", "recipe/mix.py", "recipe/promises.py", "recipe/sanity.py",
    "subject/claims.py", "subject/identity.py", "subject/manifest.py", "weights/fused.py", "weights/judgement.py",
    "weights/preparation.py", "weights/sweep.py", "weights/tied.py", "weights/unknown_importances.py",
)  # fmt: skip
"""Where an audit says what stands in the answers, in a tensor's reason, or in the notes."""
UNSAID = {
    "which proves nothing: name them with --source", "trusted with --trust-subject",  # parts of a whole that is there
    "reading and comparing", "with importances", "no such tensor",  # of progress, and values in a table
    "named by the user", "the manifest's files of weights are not those that were found",  # no sentence, one of two
}  # fmt: skip
HARMLESS = ("is at hand, of which its header says nothing", "the manifest names other weights,")
"""Sentences of harmless findings are in the JSON alone."""
WORDS = re.compile(r"[A-Za-z][A-Za-z'.*_-]*(?: [A-Za-z0-9'.*_-]+)+")


def said(path: Path) -> list[str]:
    """Runs of two words and more in the texts of a module, but for what documents it, and what it raises."""
    tree = ast.parse(path.read_text())
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            silent |= {id(each) for each in ast.walk(node)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent
    ]
    return [run for text in texts for part in re.split(r"\{[^}]*\}|[:;,()]", text) for run in WORDS.findall(part)]


def test_a_digest_is_told_in_chinese() -> None:
    said = f"the hub gives SHA-256 {'ab' * 32}, and the bytes that were read have {'cd' * 32}"
    assert "而读到的字节为" in spoken(said).zh and "bytes" not in spoken(said).zh


@pytest.mark.parametrize("name", ROOMS)
def test_every_sentence_of_the_rooms_has_a_form(name: str) -> None:
    known = [" ".join(form.literals) for form in forms()]
    lost = [
        run for run in said(AUDIT / name)
        if not any(run in each for each in (*known, *UNSAID, *HARMLESS)) and run not in {*Limit}
    ]  # fmt: skip
    assert lost == []


@pytest.mark.parametrize("form", forms(), ids=lambda form: "…".join(form.literals)[:60])
def test_what_is_told_comes_out_in_chinese(form: Form) -> None:
    values = {
        place: "1,234" if place in room.NUMBERS else f"blk.{number}.x" for number, place in enumerate(form.places)
    }
    text = "".join(
        f"{literal}{values.get(place, '')}" for literal, place in zip(form.literals, (*form.places, ""), strict=True)
    )
    found = spoken(text)
    assert found.en == text
    assert all(value in found.zh for value in values.values()), found.zh
    assert re.search("[\u4e00-\u9fff]", found.zh)
    assert not re.search(r"[a-z]{3,} [a-z]{3,} [a-z]{3,}", found.zh), "and no English is left"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_words_are_sentences(language: str) -> None:
    for section, texts in read_words("sentences", language).items():
        for key, text in texts.items():
            assert (text.strip(), text.endswith(".")) == (text, False), f"{section}.{key}"
            assert all(place != "" for _, place, _, _ in Formatter().parse(text)), f"{section}.{key}"


def test_several_sentences_and_a_headline() -> None:
    found = spoken(
        "x.gguf: every row that was read derives exactly from W (strict arithmetic); what nobody knows; "
        "252 of 1,000 rows were read",
        "x.gguf",
    )
    assert (
        found.zh
        == "x.gguf：读到的每一行都由 W 精确推导得出（strict 运算方式）；what nobody knows；1,000 行中读取了 252 行"
    )


def test_what_stands_in_a_sentence_is_said_too() -> None:
    reason = "the file name says Q6_K, but inside the blocks the matrices have 2.96 bits per weight, Q6_K has 6.56"
    assert spoken(reason).zh == "文件名说是 Q6_K，但各层之内的矩阵每权重有 2.96 比特，Q6_K 为 6.56"
    several = "2 of 3 tensors could not be checked against W: a, b and 25 more (the named weights have no such tensor)"
    assert spoken(several).zh == "3 个张量中有 2 个无法与 W 对照：a, b 及另外 25 个（指定的权重没有这个张量）"


HOSTILE = (
    "; every tensor derives exactly from W", "{why}", "{0}", "}", "1 of 2 tensors does not derive from a: b: c: d", "",
    "；", "a and 3 more", "<b>", "%s", "(is|are)",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_no_sentence(name: str) -> None:
    """What accuses in English accuses in Chinese, whatever a tensor is called."""
    found = spoken(f"1 of 46 tensors does not derive from W: x{name}; all 5 rows were read")
    assert found.zh.startswith("46 个张量中有 1 个不能由 W 推导得出：x")
    assert "全部 5 行都已读取" in found.zh


def test_no_text_takes_long() -> None:
    start = time.process_time()
    for text in (
        "a; " * 50_000,
        "1 of 2 tensors does not derive from " * 20_000,
        "the manifest's " * 50_000,
        ": " * 90_000,
    ):
        assert spoken(text).en == text
    assert time.process_time() - start < 2
