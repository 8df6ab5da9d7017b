"""The forms of an audit's report: all say what the document says, and text of strangers does nothing in any of them."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from requant.audit.answers import Coverage, MetadataAnswer
from requant.audit.forms.content import digest
from requant.audit.forms.page import as_page
from requant.audit.forms.quotation import as_markdown
from requant.audit.forms.terminal import as_text
from requant.audit.limits import Limit
from requant.audit.metadata.comparison import Grade, MetadataFinding
from requant.audit.question import Question, audit
from requant.audit.recipe.sanity import Sanity, sanity_of
from requant.audit.render import Rendered, rendered
from requant.audit.report import Report
from requant.audit.subject.identity import FileIdentity, Identity
from requant.ground.canonical import canonical, parse
from requant.quantization.verdict import Verdict
from support.command import run
from support.gguf_files import write_model
from support.html import Node, Tree
from support.reports import CONSISTENT, CUSTOM, EVIL, EXACT, MISMATCH, NEAR, UNCHECKED, finding, tensors

SAMPLE = Coverage(7, {}, 1, 2)


def with_tensors(
    *verdicts: Verdict, name: str = "blk.0.attn_q.weight", reason: str | None = None
) -> Callable[[Report], Report]:
    def change(report: Report) -> Report:
        audits = tuple(replace(audit, reason=reason) for audit in tensors(*verdicts, name=name))
        return replace(report, sweep=replace(report.sweep, tensors=audits))

    return change


def everything(report: Report) -> Report:
    """With something to say in every place where a form says something."""
    changed = with_tensors(*Verdict)(report)
    findings = tuple(finding(grade, f"general.{grade}") for grade in Grade)
    return replace(
        changed, sweep=replace(changed.sweep, missing=("blk.1.attn_q.weight", "rope_freqs.weight")), recipe=CUSTOM,
        metadata=MetadataAnswer(findings, None, frozenset({"general.unchecked"})), coverage=SAMPLE, named=False,
        identity=Identity((FileIdentity("x.gguf", 1, None, {"the hub": "1" * 64, "the manifest": "2" * 64}),)), inferred=("it was quantized as Q4_1",),
    )  # fmt: skip


REPORTS: dict[str, Callable[[Report], Report]] = {
    "nothing found": lambda report: report,
    "everything": everything,
    "a mismatch": with_tensors(MISMATCH, EXACT),
    "no tensor": with_tensors(),
}


def words_of(page: str) -> str:
    return Tree(page).root.words("en")


@pytest.mark.parametrize("change", REPORTS.values(), ids=REPORTS)
def test_every_form_says_what_the_document_says(report: Report, change: Callable[[Report], Report]) -> None:
    shown = rendered(change(report))
    assert shown.markdown is not None and shown.page is not None
    document, said = shown.document, words_of(shown.page)
    sentences = [document["headline"], *(each["sentence"] for each in document["answers"].values())]
    assert [sentence for sentence in sentences if sentence not in said] == []
    limits = [each["sentence"] for each in document["limits"]]
    assert [sentence for sentence in limits if sentence not in said or sentence not in shown.markdown] == []
    for text in (document["subject"]["address"], document["source"]["address"], shlex.join(document["command"])):
        assert text in said and text in shown.markdown and text in "".join(shown.text.split("\n"))
    assert "2026-11-28 14:21:37 UTC" in said and "2026-11-28 14:21:37 UTC" in shown.markdown


@pytest.mark.parametrize("change", REPORTS.values(), ids=REPORTS)
def test_a_stored_document_gives_the_same_forms(report: Report, change: Callable[[Report], Report]) -> None:
    """Whatever the order of its keys."""
    shown = rendered(change(report))
    stored = parse(canonical(shown.document), "report.json")
    assert [*stored] != [*shown.document]
    assert (as_text(stored), as_markdown(stored), as_page(stored)) == (shown.text, shown.markdown, shown.page)


LIVE = re.compile(r"https?:|www\.|ftp:|\S@\S|(?<!\w)@\w|#\d|mailto:|xmpp:|\b[0-9a-f]{40}\b", re.IGNORECASE)
"""What GitHub and Hugging Face make a link, a mention or a reference, outside code."""
TRAPS = (
    "@someone", "see https://evil.example/a_b", "www.evil.example", "mail a@evil.example", "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>", "[x](http://evil.example)", "![x](//evil.example/p.png)", "owner/name#12", "GH-1",
    "ftp://evil.example", "`@someone`", "a|@someone|", "\\@someone", "<https://evil.example>", "{{ 7 * 7 }}", "c0ffee00" * 5,
    "\u202e@eno\u202c", "x\n\n# @heading", '"><b onclick="x">', "&lt;b&gt;", "</span><a href='//evil.example'>x</a>", EVIL,
)  # fmt: skip


def trapped(report: Report, text: str) -> Rendered:
    """With the text wherever a stranger's may stand."""
    changed = with_tensors(MISMATCH, UNCHECKED, NEAR, name=text, reason=text)(report)
    findings = tuple(MetadataFinding(text, grade, text, text, text) for grade in Grade)
    shown = rendered(
        replace(
            changed, sweep=replace(changed.sweep, missing=(text,)), metadata=MetadataAnswer(findings), inferred=(text,)
        )
    )
    document: dict[str, Any] = shown.document
    document["subject"] |= {"name": text, "address": f"./{text}", "type": text}
    numbers = {"sentence": text, "dead": {"tensor": text, "value": "0.97"}}
    document["imatrix"], document["source"]["address"] = {"name": text, "sha256": "0" * 64, **numbers}, text
    document["headline"] = f"{text}: {document['headline']}"
    document["command"][2], document["mix"]["command"] = text, ["llama-quantize", text]
    return Rendered(as_text(document), document, as_markdown(document))


@pytest.mark.parametrize("text", TRAPS)
def test_text_of_strangers_does_nothing_in_markdown(report: Report, text: str) -> None:
    markdown = trapped(report, text).markdown
    assert markdown is not None
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)
    page = Tree(html).root
    kinds = {"p", "strong", "table", "thead", "tbody", "tr", "th", "td", "code", "ul", "li", "pre"}
    assert {node.name for node in page.all()} <= kinds
    assert len([*page.all("table")]) == 4, "answers, facts, tensors, metadata"
    for code in (*page.all("code"), *page.all("pre")):
        code.text, code.children = "", []
    assert LIVE.search(page.words()) is None


@pytest.mark.parametrize("text", TRAPS)
def test_text_of_strangers_does_nothing_in_the_page(report: Report, text: str) -> None:
    page = trapped(report, text).page
    harmless = rendered(everything(report)).page
    assert page is not None and harmless is not None
    nodes, known = [*Tree(page).root.all()], {node.name for node in Tree(harmless).root.all()}
    assert {node.name for node in nodes} <= known and "script" not in known and "img" not in known
    attributes = {name for node in nodes for name in node.attributes}
    assert not any(name.startswith("on") or name in ("src", "action", "formaction") for name in attributes)
    assert all((node.attributes.get("href") or "#").startswith("#") for node in nodes)
    [policy] = [node.attributes["content"] for node in nodes if node.attributes.get("http-equiv")]
    assert policy is not None and policy.startswith("default-src 'none'")
    assert not any("\u202e" in part for part in page)


def test_how_a_matrix_looks_is_shown(report: Report) -> None:
    document = rendered(report).document
    numbers = Sanity(1, sanity_of({"blk.7.x.weight": np.ones(64, np.float32)}, {"blk.8.y.weight": 1.25}))
    document["imatrix"] = {"name": "imatrix.gguf", "sha256": "0" * 64, **numbers.document()}
    for shown in (as_text(document), as_markdown(document)):
        assert re.search(r"effective columns 32 of 32 .*7.*x.*unweighted error 1.25 times", " ".join(shown.split()))
    page = as_page(document)
    for words in (
        "effective columns: 32 of 32",
        "有效列：32 列中的 32 列",
        "unweighted error: 1.25 times",
        "的 1.25 倍",
    ):
        assert words in page


def test_the_files_of_the_weights_are_shown_with_whose_word_their_digests_are(report: Report) -> None:
    document = rendered(report).document
    files = [("config.json", "a" * 64, None), ("a.safetensors", None, "b" * 64), ("b.safetensors", None, None)]
    document["source"] |= {
        "weights_root": "c" * 64,
        "files": [{"name": name, "size": 9, "sha256": read, "recorded": said} for name, read, said in files],
    }
    quoted = as_markdown(document)
    for said in ("(read)", "(only recorded by the hub)", "SHA-256 not computed", "a" * 64, "b" * 64, "c" * 64):
        assert said in quoted
    assert "c" * 64 in "".join(as_text(document).split()), "the rest is too long for a terminal"
    page = as_page(document)
    for said in ("a" * 64, "b" * 64, "c" * 64, "only recorded by the hub", "未计算 SHA-256"):
        assert said in page


DIGESTS: dict[str, tuple[str | None, dict[str, str], str]] = {
    "read": ("a", {}, "SHA-256 a (all of it was read)"),
    "read, and as others say": ("a", {"the hub": "a", "the manifest": "a"}, "SHA-256 a (all of it was read)"),
    "read, and another says otherwise": ("a", {"the hub": "b"}, "SHA-256 a (all of it was read), SHA-256 b by the hub, which is not that of what was read"),
    "recorded": (None, {"the hub": "b", "the manifest": "b"}, "SHA-256 b by the hub and the manifest, only recorded, not computed here"),
    "nobody knows": (None, {}, "its SHA-256 is not known"),
}  # fmt: skip


@pytest.mark.parametrize(("sha256", "recorded", "said"), DIGESTS.values(), ids=DIGESTS)
def test_whose_word_a_digest_is(sha256: str | None, recorded: dict[str, str], said: str) -> None:
    assert digest({"sha256": sha256, "recorded": recorded}) == said


@pytest.mark.parametrize(("verdicts", "known"), [
    ((EXACT, UNCHECKED), True), ((NEAR,), True), ((MISMATCH, MISMATCH), False), ((UNCHECKED,), False), ((), False),
])  # fmt: skip
def test_no_arithmetic_where_nothing_fits(report: Report, verdicts: tuple[Verdict, ...], known: bool) -> None:
    shown = rendered(with_tensors(*verdicts)(report))
    assert shown.document["arithmetic"] == ("fused" if known else None)
    for form in (shown.text, shown.markdown, words_of(str(shown.page))):
        assert ("fused" in str(form)) is known


def test_one_reason_is_said_once_whatever_the_numbers(report: Report) -> None:
    """Counts are those of all tensors together, and of all types."""
    shown = rendered(with_tensors(*[MISMATCH] * 25, reason="the weights are others")(report))
    assert shown.markdown is not None
    assert shown.text.count("the weights are others") == shown.markdown.count("the weights are others") == 1
    assert "50 of 200 blocks differ; 50 without explanation; the weights are others" in shown.markdown
    assert "and 22 more" in shown.markdown


def test_what_an_outcome_does_not_say(report: Report) -> None:
    about = [each["about"] for each in rendered(everything(report)).document["limits"]]
    assert about == [limit for limit in Limit if limit is not Limit.NEAR]
    said = rendered(with_tensors(CONSISTENT)(report)).document["limits"]
    assert [each["about"] for each in said] == ["unchecked", "consistent", "good"]
    assert [each["about"] for each in rendered(with_tensors(NEAR)(report)).document["limits"]] == ["near", "good"]
    assert [each["about"] for each in rendered(report).document["limits"]] == ["good"]


def test_a_consistent_tensor_is_told_in_numbers(report: Report) -> None:
    shown = rendered(with_tensors(EXACT, CONSISTENT, CONSISTENT)(report))
    for text in (shown.text, shown.markdown or ""):
        text = " ".join(text.split())
        assert "none of 512 quants contradicts its weight; squared errors are 1.12 to 1.12 times those" in text
        assert "in single blocks up to 1.75 times; parts of scale 0: 2" in text
        assert "error at most 1.125 of that without importances, 1.75 of it in one block" in text
    exact, consistent, _ = shown.document["tensors"]
    assert exact["consistency"] is None
    assert consistent["consistency"] == {
        "quants": 256, "off": 0, "contradicted": 0, "flat": 1, "error_ratio": "1.125", "worst_ratio": "1.75",
        "first_off": [],
    }  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with a quant in which nothing can be derived, so that nothing must be built, and its weights."""
    folder = tmp_path / "a secret folder" / "work"
    folder.mkdir(parents=True)
    write_model(
        folder / "weights.gguf", {name: (np.ones((4, 256), np.float32), None) for name in ("a.weight", "b.weight")}
    )
    write_model(folder / "it's a quant.gguf", {"a.weight": (np.ones((4, 512), np.float32), None)})
    return folder


@pytest.mark.parametrize("source", ["weights.gguf", "."])
def test_local_paths_stay_here(pair: Path, source: str) -> None:
    (pair / "it's a quant.gguf").rename(pair.parent / "it's a quant.gguf")
    found = audit(Question(str(pair.parent / "it's a quant.gguf"), str(pair / source), rows=4, seed=3))
    shown = rendered(found)
    for form in (shown.text, canonical(shown.document).decode(), shown.markdown, shown.page):
        assert "secret" not in "".join(str(form).split("\n"))
    assert shown.document["subject"]["address"] == "./it's a quant.gguf"
    assert shown.document["source"]["address"] == f"./{'work' if source == '.' else source}"


def test_the_command_asks_the_same_again(pair: Path) -> None:
    options = [
        "--rows",
        "4",
        "--exact",
        "--allow-unchecked",
        "general.name",
        "--json",
        "first.json",
        "--html",
        "page.html",
    ]
    code, _, error = run(
        "audit", str(pair / "it's a quant.gguf"), "--source", str(pair / "weights.gguf"), *options, cwd=pair
    )
    first = json.loads((pair / "first.json").read_text())
    assert code == first["exit_code"] == 1, error
    line = shlex.join(first["command"])
    assert line.startswith("requant audit './it'\"'\"'s a quant.gguf' --source ./weights.gguf --rows 4 --seed ")
    again, _, error = run(*shlex.split(line)[1:], "--json", "again.json", cwd=pair)
    second = json.loads((pair / "again.json").read_text())
    assert again == code, error
    assert {**second, "run": None} == {**first, "run": None}
    assert (pair / "page.html").read_text() == as_page(first)


def rows(page: str, section: str) -> list[list[str]]:
    """The cells of a section's tables."""
    [found] = [node for node in Tree(page).root.all("section") if node.attributes.get("id") == section]
    return [[cell.words("en") for cell in _cells(row)] for row in found.all("tr")]


def _cells(row: Node) -> list[Node]:
    return [node for node in row.children if node.name in ("th", "td")]


def test_counts_agree_with_what_is_listed(report: Report) -> None:
    """Findings are counted where they belong, tensors as often as they stand in a list, a map or a table."""
    both = replace(everything(report), recipe=replace(CUSTOM, findings=(finding(Grade.SERIOUS, "general.file_type"),)))
    shown = rendered(both)
    assert shown.page is not None and shown.markdown is not None
    _, recipe, metadata, _ = [node.words("en") for node in Tree(shown.page).root.all("article")]
    assert "1 serious" in recipe and "unchecked" not in recipe.replace("could not be", "")
    assert "1 serious · 1 unchecked · 1 harmless" in metadata
    assert "Harmless differences (1)" in words_of(shown.page)
    said = "1 exact, 1 near, 1 consistent, 1 mismatch, 1 unchecked, 2 missing"
    assert said in shown.text and said in shown.markdown
    assert "1 exact · 1 near · 1 consistent · 1 mismatch · 1 unchecked · 2 missing" in words_of(shown.page)
    signs = Counter(
        word
        for node in Tree(shown.page).root.all()
        if "cell" in (kinds := (node.attributes.get("class") or "").split())
        for word in kinds[1:]
    )
    assert signs == {"exact": 1, "near": 1, "consistent": 1, "mismatch": 1, "unchecked": 1, "missing": 2}


def test_tables_behind_the_picture(report: Report) -> None:
    """Every tensor in a row with all that its cell opens."""
    shown = rendered(everything(report))
    assert shown.page is not None
    head, *found = rows(shown.page, "tensors")
    assert [row[:2] for row in found] == [[each["name"], each["type"]] for each in shown.document["tensors"]]
    assert head[3] == "Verdict" and [row[3].split()[-1] for row in found] == [str(word) for word in Verdict]
    opened = [node for node in Tree(shown.page).root.all("div") if "popover" in node.attributes]
    assert len(opened) == len(found)
    for row, details in zip(found, opened, strict=True):
        assert row[4] in details.words("en") and row[9] in details.words("en")
