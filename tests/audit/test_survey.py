"""Surveys of small files: what a list may say, what is asked again, and that no line of it ends or spoils the others."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from requant.audit.forms.content import QUESTIONS
from requant.audit.question import Question
from requant.audit.survey import asking
from requant.audit.survey.asking import Row, report_stem, survey
from requant.audit.survey.listed import FORM, LONGEST, Entry, read_list
from requant.audit.survey.table import SAID, WORST_FIRST, as_document
from requant.audit.survey.written import LOOKS, NAMES, as_markdown, as_page, as_text, write_table
from requant.documents.schemas import fault
from requant.documents.templates import read_words
from requant.ground.canonical import canonical, parse
from requant.ground.errors import DiskError, FormatError
from requant.ground.exit_codes import ExitCode
from support.gguf_files import write_imatrix, write_model

BEGUN = datetime(2026, 11, 28, 14, 21, 37, tzinfo=UTC)
ASKED = Question("", rows=4, seed=1)
Document = dict[str, Any]


def entries(text: str | bytes, folder: Path) -> list[Entry]:
    listed = folder / "quants.txt"
    listed.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_list(listed)


# ---- the list

LINES: dict[str, tuple[str, tuple[str, str | None]]] = {
    "a quant": ("o/n:Q4_K_M", ("o/n:Q4_K_M", None)),
    "with its weights": ("o/n:Q4_K_M org/n@0123abc", ("o/n:Q4_K_M", "org/n@0123abc")),
    "any white space": ("\t o/n \t org/n  \r", ("o/n", "org/n")),
    "a comment behind it": ("o/n org/n # as of today", ("o/n", "org/n")),
    "a comment without a space": ("o/n #org/n", ("o/n", None)),
    "a hash in an address": ("https://h/x.gguf#part org/n", ("https://h/x.gguf#part", "org/n")),
    "names with spaces": ('"my quants/x y.gguf" "./my weights/"', ("my quants/x y.gguf", "./my weights/")),
    "a quotation mark inside": ('a"b.gguf', ('a"b.gguf', None)),
    "any language": ("./模型.gguf ./权重/", ("./模型.gguf", "./权重/")),
}
NO_NAME = "double quotes enclose no name in this line of the list: "
NO_LINES = {
    "three names": ("a b c", "3 names stand in this line of the list: "),
    "an open quotation mark": ('"a b', NO_NAME),
    "something behind a quotation mark": ('"a b"c', NO_NAME),
    "nothing between them": ('"" x', NO_NAME),
}


@pytest.mark.parametrize(("line", "expected"), LINES.values(), ids=LINES)
def test_a_line(tmp_path: Path, line: str, expected: tuple[str, str | None]) -> None:
    assert entries(f"# a list\n\n{line}\n", tmp_path) == [Entry(3, *expected)]


@pytest.mark.parametrize(("line", "said"), NO_LINES.values(), ids=NO_LINES)
def test_what_is_no_line_is_an_entry_all_the_same(tmp_path: Path, line: str, said: str) -> None:
    assert entries(f"{line}\no/n", tmp_path) == [Entry(1, line, fault=said + FORM), Entry(2, "o/n")]


def test_a_list_of_another_system(tmp_path: Path) -> None:
    """A mark at the beginning, line ends of two characters, none at the end; and bytes that are no text."""
    assert entries(b"\xef\xbb\xbfa\r\n\r\nb c\r\n\xff", tmp_path) == [Entry(1, "a"), Entry(3, "b", "c"), Entry(4, "�")]


@pytest.mark.parametrize("text", [b"", b"\n# nothing\n", b"x" * (LONGEST + 1)], ids=["empty", "comments", "too long"])
def test_what_is_no_list(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(FormatError, match=r"quants\.txt (names no quant: write one|has more than the 1,048,576 bytes)"):
        entries(text, tmp_path)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FormatError, match="is not a file that can be read"):
            read_list(path)


# ---- the names of reports

OTHERS: dict[str, Question] = {
    "subject": replace(ASKED, subject="o/m"),
    "weights": replace(ASKED, subject="o/n", weights="org/m"),
    "no weights": replace(ASKED, subject="o/n", weights=None),
    **{
        name: replace(ASKED, subject="o/n", weights="org/n", **{name: value})
        for name, value in {
            "rows": 5, "seed": None, "exact": True, "trust_subject": True, "allowed": frozenset({"x"}), "converter": True,
        }.items()
    },
}  # fmt: skip


def test_another_question_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(ASKED, subject="o/n", weights="org/n")
    names = {report_stem(each) for each in (asked, *OTHERS.values(), replace(asked, rows=None))}
    monkeypatch.setattr(asking, "__version__", "another")
    assert len(names | {report_stem(asked)}) == len(OTHERS) + 3


def test_what_an_address_asks_for_is_part_of_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of one file is none of another, whatever is shown of their addresses; nor is one of another site's."""
    texts = (
        "https://host/x.gguf?id=1",
        "https://host/x.gguf?id=2",
        "https://u:p/1@host/x.gguf",
        "https://u:p/2@h/y.gguf",
    )
    names = {report_stem(replace(ASKED, subject=text)) for text in (*texts, "ms://o/n")}
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "https://www.modelscope.ai")
    assert len(names | {report_stem(replace(ASKED, subject="ms://o/n"))}) == 6


def test_how_it_is_carried_out_is_no_part_of_the_question() -> None:
    assert report_stem(replace(ASKED, subject="o/n", jobs=3)) == report_stem(replace(ASKED, subject="o/n"))


def test_a_name_holds_no_secret_and_nothing_that_a_file_system_minds() -> None:
    signed = [replace(ASKED, subject=f"https://me:{key}@host/A b%20.gguf?key=x") for key in ("secret", "hidden")]
    names = {report_stem(each) for each in signed}
    assert len(names) == 1 and max(names).startswith("https-host-a-b-20-gguf-")
    assert report_stem(replace(ASKED, subject="../" * 99 + "权重")).count("/") == 0
    assert len(report_stem(replace(ASKED, subject=f"./{'x' * 200}.gguf"))) < 100


def test_a_path_is_meant_from_where_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    asked, names = replace(ASKED, subject="./x.gguf"), []
    for folder in (tmp_path, tmp_path / "a"):
        monkeypatch.chdir(folder)
        names.append(report_stem(asked))
    assert names[0] != names[1] == report_stem(replace(ASKED, subject=str(tmp_path / "a" / "x.gguf")))


# ---- asking


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of which nothing must be derived: weights, the same once more as a quant, and one with another tensor."""
    weights = {name: (np.ones((4, 256), np.float32), None) for name in ("a.weight", "b.weight")}
    write_model(tmp_path / "weights.gguf", weights)
    write_model(tmp_path / "same.gguf", weights)
    write_model(tmp_path / "other.gguf", {**weights, "b.weight": (np.zeros((4, 256), np.float32), None)})
    squares = {"a.weight.in_sum2": np.ones((1, 256), np.float32), "a.weight.counts": np.full((1, 1), 16, np.float32)}
    write_imatrix(tmp_path / "imatrix.gguf", squares)
    (tmp_path / "note.gguf").write_text("a note")
    monkeypatch.chdir(tmp_path)
    return tmp_path


MANY = """
./same.gguf ./weights.gguf
./other.gguf ./weights.gguf
./nothing.gguf ./weights.gguf
./note.gguf ./weights.gguf
./imatrix.gguf ./weights.gguf
./same.gguf
one two three
"""


def found(folder: Path, text: str = MANY, asked: Question = ASKED) -> tuple[list[Row], Document]:
    rows = survey(entries(text, folder), asked, folder / "found")
    document = as_document(rows, asked, BEGUN, 1.5)
    assert fault(document, "survey", "the table") is None
    return rows, document


def test_no_line_ends_the_others(scene: Path) -> None:
    rows, document = found(scene)
    assert [(row.entry.line, row.exit_code) for row in rows] == [(2, 0), (3, 1), (4, 2), (5, 2), (6, 3), (7, 2), (8, 2)]
    assert [row["line"] for row in document["rows"]] == [3, 5, 4, 8, 7, 6, 2]
    assert (document["exit_code"], document["counts"]["exit_codes"]) == (1, {"0": 1, "1": 1, "2": 4, "3": 1, "4": 0})
    assert document["headline"] == (
        "7 quants: 1 with evidence against, 4 that cannot be read, 1 not checked in full, 1 answered well"
    )
    by = {row.entry.line: row for row in rows}
    assert by[6].said == "imatrix.gguf is an importance matrix and no quant: requant audit looks at one alone"
    assert by[8].said == f"3 names stand in this line of the list: {FORM}"
    assert document["counts"]["weights"] == {"exact": 1, "near": 0, "consistent": 0, "mismatch": 1, "unchecked": 0}
    reports = sorted(path.name for path in (scene / "found" / "reports").iterdir())
    assert reports == sorted(f"{by[line].stem}.{end}" for line in (2, 3) for end in ("html", "json"))


def test_what_has_a_report_is_not_asked_again(scene: Path) -> None:
    """Neither is its file looked at; what had none is asked again, and so is another question."""
    before, first = found(scene)
    (scene / "other.gguf").unlink()
    write_model(scene / "nothing.gguf", {"a.weight": (np.ones((4, 256), np.float32), None)})
    after, second = found(scene)
    assert [(row.kept, row.exit_code) for row in after[:3]] == [(True, 0), (True, 1), (False, 1)]
    assert after[1] == replace(before[1], kept=True)
    assert (first["run"]["kept"], second["run"]["kept"]) == (0, 2)
    anew, _ = found(scene, asked=replace(ASKED, seed=2))
    assert [(row.kept, row.exit_code) for row in anew[:2]] == [(False, 0), (False, 2)]


SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[:-9],
    "another version": lambda data: data.replace(b"requant/audit/v2", b"requant/audit/v1"),
    "no JSON": lambda _: b"\xff",
}


def test_a_report_that_is_none_is_asked_again(scene: Path) -> None:
    [row], _ = found(scene, "./same.gguf ./weights.gguf")
    report = scene / "found" / "reports" / f"{row.stem}.json"
    whole = report.read_bytes()
    for name, spoil in SPOILED.items():
        report.write_bytes(spoil(whole))
        [row], _ = found(scene, "./same.gguf ./weights.gguf")
        assert (row.kept, report.read_bytes().count(b"\n")) == (False, whole.count(b"\n")), name


def test_a_page_that_is_gone_is_made_of_the_report(scene: Path) -> None:
    [row], _ = found(scene, "./same.gguf ./weights.gguf")
    page = scene / "found" / "reports" / f"{row.stem}.html"
    text = page.read_text()
    page.unlink()
    [row], _ = found(scene, "./same.gguf ./weights.gguf")
    assert row.kept and page.read_text() == text


def test_a_bug_is_a_row_with_its_traceback(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = asking.audit

    def audit(question: Question) -> Any:
        if question.subject == "./other.gguf":
            raise ValueError("at https://me:s3cret@host/x")
        return really(question)

    monkeypatch.setattr(asking, "audit", audit)
    rows, document = found(scene)
    assert [row.exit_code for row in rows] == [0, 4, 2, 2, 3, 2, 2]
    assert (document["exit_code"], document["rows"][0]["exit_code"]) == (4, 4)
    name = rows[1].said.removeprefix("this is a bug in requant: report it with ")
    assert "ValueError: at https://host/x" in (scene / "found" / name).read_text()


def test_whoever_interrupts_a_survey_ends_it(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def audit(_: Question) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(asking, "audit", audit)
    with pytest.raises(KeyboardInterrupt):
        found(scene)
    assert not (scene / "found").exists()


def test_a_folder_that_cannot_be_written_to_ends_it(scene: Path) -> None:
    (scene / "found").write_text("a file")
    with pytest.raises(DiskError, match="cannot be written"):
        found(scene)


# ---- what is shown

EVIL = '<script>alert(1)</script>|[x](http://evil.example) @me \x1b[2J "\u202e"'


def rows_of_strangers() -> list[Row]:
    """A report of strangers' words, a quant of which nobody named the weights, and what came to no report."""
    answers = {question: {"status": word, "exit_code": code} for question, (word, code) in zip(
        QUESTIONS, (("mismatch", 1), ("custom", 0), ("changed", 1), ("sample", 0)), strict=True)}  # fmt: skip
    good = {question: {"status": word, "exit_code": 0} for question, word in zip(
        QUESTIONS, ("exact", "stock", "equal", "full"), strict=True)}  # fmt: skip
    when, secret = "2026-11-28T14:21:37Z", "https://me:s3cret@host/x.gguf?key=s3cret"
    return [
        Row(Entry(1, f"./{EVIL}", "o/n"), ExitCode.AGAINST, EVIL, when, False, answers, f"./{EVIL}", "hf://o/n@main", "evil-0"),
        Row(Entry(2, "o/m"), ExitCode.OK, "m: fine", when, True, good, "hf://o/m@main/m.gguf", "hf://o/n@main", "o-m-0"),
        Row(Entry(3, secret, secret), ExitCode.UNCHECKED, "host cannot be reached", when),
        Row(Entry(4, "a b c", fault="no line"), ExitCode.USAGE, "no line", when),
        Row(Entry(5, "o/k"), ExitCode.BUG, "a bug", when),
    ]  # fmt: skip


def forms(asked: Question = ASKED) -> dict[str, str]:
    document = as_document(rows_of_strangers(), asked, BEGUN, 1.5)
    assert fault(document, "survey", "the table") is None
    return {
        "page": as_page(document), "markdown": as_markdown(document), "text": as_text(document, Path("found")),
        "document": canonical(document).decode(),
    }  # fmt: skip


def test_strangers_words_do_nothing() -> None:
    shown = forms()
    assert "<script" not in shown["page"] and "&lt;script&gt;alert(1)&lt;/script&gt;" in shown["page"]
    rendered = MarkdownIt("commonmark").enable("table").enable("linkify", ignoreInvalid=True).render(shown["markdown"])
    assert "<script" not in rendered and rendered.count("<table>") == 2 and rendered.count("<tr>") == 6 + 5
    assert [part.partition('"')[0] for part in rendered.split('href="')[1:]] == [
        "reports/evil-0.html",
        "reports/o-m-0.html",
    ]
    for form in ("page", "markdown", "text"):
        assert not {"\x1b", "\u202e"} & set(shown[form]), form


def test_no_form_holds_a_secret() -> None:
    assert [form for form, text in forms().items() if "s3cret" in text] == []
    assert [form for form, text in forms().items() if "https://host/x.gguf" not in text] == []


def test_a_stored_table_gives_the_same_forms() -> None:
    document = as_document(rows_of_strangers(), ASKED, BEGUN, 1.5)
    stored = parse(canonical(document), "survey.json")
    assert stored == document
    assert (as_page(stored), as_markdown(stored)) == (as_page(document), as_markdown(document))


def test_the_worst_comes_first() -> None:
    document = as_document(rows_of_strangers(), ASKED, BEGUN, 1.5)
    assert [row["exit_code"] for row in document["rows"]] == [1, 4, 2, 3, 0] == list(map(int, WORST_FIRST))
    for count, code in enumerate(reversed(WORST_FIRST), 1):
        some = [row for row in rows_of_strangers() if row.exit_code in WORST_FIRST[-count:]]
        assert as_document(some, ASKED, BEGUN, 1)["exit_code"] == code


def test_the_page_links_to_reports_and_says_who_named_the_weights() -> None:
    page = forms()["page"]
    assert page.count('<a href="reports/') == 2 and 'href="reports/o-m-0.html">o/m</a>' in page
    assert page.count("which nobody but the quant names") == 1 == page.count("（仅由量化文件自己指定）")
    assert "the quant's own word" in forms()["markdown"].splitlines()[-3]


def test_how_it_was_asked_is_said() -> None:
    asked = Question("", rows=None, exact=True, trust_subject=True, allowed=frozenset({"general.x"}), converter=True)
    both = [forms()["page"], forms(asked)["page"]]
    words = read_words("survey", "en")["asked"]
    for name in ("full", "exact", "trusted", "allowed", "converter", "seeds"):
        assert [html.escape(words[name], quote=True) in page.replace("&#39;", "&#x27;") for page in both] == [
            False,
            True,
        ], name
    assert "A sample: 4 rows drawn" in both[0] and "Seed 1." in both[0] and words["named"] in both[0]
    assert "of every row by" in forms(asked)["markdown"] and "a sample of 4 rows" in forms()["markdown"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_end_has_its_words(language: str) -> None:
    assert set(read_words("survey", language)["outcome"]) == {*LOOKS.values(), "code"}
    assert set(SAID) == set(LOOKS) == set(WORST_FIRST) == set(ExitCode) - {ExitCode.INTERRUPTED}


def test_of_paths_on_this_machine_the_last_names_are_shown(scene: Path) -> None:
    (scene / "private").mkdir()
    lines = [f"{scene}/private/nothing.gguf ./weights.gguf", "private/nothing.gguf", f"same.gguf {scene}/private/w.gguf",
             f"{scene}/note.gguf weights.gguf", f"{scene}/other.gguf {scene}/weights.gguf", ". weights.gguf"]  # fmt: skip
    _, document = found(scene, "\n".join(lines))
    write_table(scene / "found", document)
    for path in (scene / "found" / name for name in NAMES):
        text = path.read_text()
        assert "private" not in text and str(scene.parent) not in text, path
    assert "nothing.gguf does not exist" in text
    assert sorted(path.name for path in (scene / "found").iterdir()) == sorted(["reports", *NAMES])
