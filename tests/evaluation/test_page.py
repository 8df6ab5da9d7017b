"""The report: the same numbers in figures and tables, both languages everywhere, and safe whatever the files say."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

import requant
from requant.documents.bilingual import Bilingual
from requant.documents.evaluation import STREAMS
from requant.evaluation.page.canvas import translations
from requant.evaluation.page.figures import draw_figures
from requant.evaluation.page.page import write_report
from requant.evaluation.page.words import word
from requant.ground.canonical import canonical
from requant.ground.errors import FormatError
from support.html import Node, Tree
from support.measured import evaluation
from support.small_release import write_release

Document = dict[str, Any]
SCRIPTS = str(Path(requant.__file__).parents[1])
FIGURES = {"perplexity", "tradeoff", "divergence", "rates", "streams", "behaviour", "error-0", "importance"}
TIMES = "step\tseconds\tpeak_memory_mb\ncalibrate\t69.2\t779.5\nplace_imatrix\t0.3\tNA\n"


@pytest.fixture
def manifest(tmp_path: Path) -> Document:
    found: Document = json.loads((write_release(tmp_path / "release") / "manifest.json").read_text())
    return found


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Write a report; what was written once is not drawn again."""
    folder = tmp_path_factory.mktemp("report")

    @cache
    def write(made: bytes, measured: bytes, times: str | None) -> str:
        paths = [folder / name for name in ("manifest.json", "evaluation.json", "run.tsv")]
        for path, data in zip(paths, (made, measured, (times or "").encode()), strict=True):
            path.write_bytes(data)
        write_report(paths[0], paths[1], paths[2] if times else None, folder / "report.html")
        return (folder / "report.html").read_text()

    return lambda made, measured, times=TIMES: write(canonical(made), canonical(measured), times)


def with_importance(manifest: Document) -> Document:
    """The sample, in which tensors differ and have an importance."""
    measured = evaluation(manifest)
    for number, tensor in enumerate(measured["tensors"][0]["tensors"]):
        tensor |= {"plain": f"0.0{number + 1}", "weighted": f"0.1{number}", "importance": f"{number + 1}.5"}
    return measured


def without_anything(manifest: Document) -> Document:
    return {**evaluation(manifest), "fidelity": None, "speed": None, "tensors": [], "behaviour": None}


def cells(node: Node) -> list[list[str]]:
    return [[cell.words("en") for cell in row.children if cell.name in ("th", "td")] for row in node.all("tr")]


def test_every_figure_is_described_in_both_languages_and_has_a_table(
    manifest: Document, render: Callable[..., str]
) -> None:
    page = Tree(render(manifest, with_importance(manifest))).root
    by_id = {node.attributes["id"]: node for node in page.all() if "id" in node.attributes}
    figures = list(page.all("figure"))
    assert len(figures) == len(list(page.all("svg"))) == len(FIGURES)
    for figure in figures:
        [svg] = figure.all("svg")
        caption = by_id[svg.attributes["aria-labelledby"]]
        assert svg.attributes["role"] == "img" and caption.name == "figcaption"
        assert len(caption.words("en")) > 40 and re.search("[\u4e00-\u9fff]{4}", caption.words("zh"))
        assert not re.search("[\u4e00-\u9fff]", caption.words("en"))
        [details] = figure.all("details")
        widths = {len(row) for row in cells(details)}
        assert len(list(details.all("table"))) == 1 and len(widths) == 1 and len(cells(details)) > 1


def test_tables_hold_the_numbers_of_the_evaluation(manifest: Document, render: Callable[..., str]) -> None:
    measured = with_importance(manifest)
    fidelity, speed = measured["fidelity"], measured["speed"]
    fidelity["quants"][0]["perplexity"]["value"] = "9.9555"
    fidelity["quants"][1]["divergence"]["quantiles"]["q99.9"] = "0.777"
    speed["models"][1]["decode"]["mean"] = "234.5"
    measured["behaviour"]["suites"][1]["models"][0] |= {"score": None, "interval": {"low": "0", "high": "1"}}
    page = Tree(render(manifest, measured)).root
    tables = {
        str(next(figure.all("svg")).attributes["aria-labelledby"])[:-4]: cells(figure) for figure in page.all("figure")
    }
    assert set(tables) == FIGURES
    assert [row[1] for row in tables["perplexity"][1:]] == ["9.8765 ± 0.01", "9.9555 ± 0.01", "9.9012 ± 0.01"]
    assert tables["divergence"][2][0] == "Q4_K_M, without importance matrix"
    assert tables["divergence"][2][1:] == [
        "0.0123 ± 0.01", *(f"0.00{number:02}" for number in range(1, 10)), "0.777", "0.0011"
    ]  # fmt: skip
    assert [row[3] for row in tables["tradeoff"][1:]] == ["123.4", "234.5", "–"]
    assert [row[2] for row in tables["rates"][1:]] == ["123.4 ± 1.5", "234.5 ± 1.5"]
    assert [row[1:4] for row in tables["streams"][1:]] == [["40.1", "60.2", "61.3"]] * 2
    assert [row[7:] for row in tables["behaviour"][2:4]] == [
        ["0.7333", "0.4805 – 0.8910", "2", "1", "1.0000"],
        ["–", "0 – 1", "–", "–", "–"],
    ]
    tensors = measured["tensors"][0]["tensors"]
    assert [row[3:] for row in tables["error-0"][1:]] == [[entry["plain"], entry["weighted"]] for entry in tensors]
    assert tables["importance"][1:] == [[entry["name"], entry["importance"]] for entry in tensors]


def test_figures_show_what_the_tables_say(manifest: Document) -> None:
    figures = draw_figures(with_importance(manifest))
    assert set(figures) == FIGURES
    texts = {name: {node.words("en") for node in Tree(svg).root.all("text")} for name, svg in figures.items()}
    assert {"BF16", "Q4_K_M", "123.4"} <= texts["rates"]
    assert {"40.1", "60.2", "61.3", "1 stream"} <= texts["streams"]
    assert {"Q4_K_M, 123.4 t/s", "BF16, 123.4 t/s"} <= texts["tradeoff"]
    assert {"attn_q", "token_embd", "0", "–"} <= texts["error-0"]


def test_every_word_in_a_figure_is_there_in_both_languages(manifest: Document) -> None:
    names = {"BF16", "Q4_K_M", "attn_q", "token_embd", "output_norm", "tool_calls", "my_own"}
    chinese_of, used = translations(), set()
    for svg in draw_figures(with_importance(manifest)).values():
        for text in Tree(svg).root.all("text"):
            english, chinese = text.words("en"), text.words("zh")
            assert chinese_of.get(english, english) == chinese
            used.add(english)
            if english == chinese:
                assert english in names or not re.search("[A-Za-z]{2}", re.sub("(Q4_K_M|BF16), ", "", english)), english
    assert {text for text in chinese_of if not text.startswith("File size")} <= used


def test_a_text_in_two_languages() -> None:
    tools, strange = Bilingual(", ", "、").join(["a", "<b>"]), "<i>&"
    text = Bilingual("{tools} & {what}'s", "{what}：{tools}").format(tools=tools, what=strange)
    assert escape(text) == (
        '<span lang="en">a, &lt;b&gt; &amp; &lt;i&gt;&amp;&#39;s</span>'
        '<span lang="zh">&lt;i&gt;&amp;：a、&lt;b&gt;</span>'
    )  # fmt: skip


def test_the_caption_of_the_streams_tells_how_many() -> None:
    caption = word("speed.streams.caption")
    few = [str(count) for count in STREAMS]
    assert f"{', '.join(few[:-1])} and {few[-1]} questions" in caption.en and f"{'、'.join(few)} 个问题" in caption.zh


def test_ids_are_unique_and_references_known(manifest: Document, render: Callable[..., str]) -> None:
    page = render(manifest, with_importance(manifest))
    nodes = list(Tree(page).root.all())
    ids = [node.attributes["id"] for node in nodes if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    used = {match for pair in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page) for match in pair if match}
    assert used <= set(ids)
    assert all(node.attributes.get("aria-labelledby", ids[0]) in ids for node in nodes)


def test_nothing_is_loaded_and_nothing_runs(manifest: Document, render: Callable[..., str]) -> None:
    page = render(manifest, with_importance(manifest))
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    nodes = list(Tree(page).root.all())
    assert not {node.name for node in nodes} & {"script", "link", "img", "iframe", "object", "image", "foreignobject"}
    assert not [key for node in nodes for key in node.attributes if key.startswith("on") or key in ("src", "srcset")]
    [policy] = [node.attributes["content"] for node in nodes if "http-equiv" in node.attributes]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_every_sentence_has_its_pair(manifest: Document, render: Callable[..., str]) -> None:
    page = Tree(render(manifest, with_importance(manifest))).root
    for parent in [page, *page.all()]:
        languages = [child.attributes.get("lang") for child in parent.children if child.name and child.name != "html"]
        marked = [language for language in languages if language]
        assert marked == ["en", "zh"] * (len(marked) // 2)
    assert next(page.all("html")).attributes["lang"] == "en"


def test_same_bytes_every_time(manifest: Document, render: Callable[..., str], tmp_path: Path) -> None:
    measured = with_importance(manifest)
    (tmp_path / "manifest.json").write_bytes(canonical(manifest))
    (tmp_path / "evaluation.json").write_bytes(canonical(measured))
    (tmp_path / "run.tsv").write_text(TIMES)
    write_report(*(tmp_path / name for name in ("manifest.json", "evaluation.json", "run.tsv", "report.html")))
    page = (tmp_path / "report.html").read_text()
    assert page == render(manifest, measured)
    assert page.startswith("<!DOCTYPE html>\n") and page.endswith("</html>\n")


MISSING = {"fidelity": {"perplexity", "tradeoff", "divergence"}, "speed": {"rates", "streams"},
           "behaviour": {"behaviour"}, "tensors": {"error-0", "importance"}}  # fmt: skip


@pytest.mark.parametrize("part", MISSING)
def test_what_was_not_run_says_so(part: str, manifest: Document, render: Callable[..., str]) -> None:
    measured = {**with_importance(manifest), part: [] if part == "tensors" else None}
    page = Tree(render(manifest, measured)).root
    found = {str(svg.attributes["aria-labelledby"])[:-4] for svg in page.all("svg")}
    assert found == FIGURES - MISSING[part]
    [section] = [node for node in page.all("section") if node.attributes["id"] == part]
    assert "Not run: " in section.words("en") and "未测：" in section.words("zh")


def test_without_anything_there_is_still_a_page(manifest: Document, render: Callable[..., str]) -> None:
    page = Tree(render(manifest, without_anything(manifest), None)).root
    assert not list(page.all("svg"))
    assert "Not recorded." in page.words("en") and "没有记录。" in page.words("zh")
    assert manifest["quants"][0]["file"]["sha256"] in page.words("en")


def test_no_quants_were_measured(manifest: Document) -> None:
    measured = evaluation(manifest)
    measured["fidelity"]["quants"] = []
    measured["tensors"][0]["tensors"] = []
    assert set(draw_figures(measured)) == {"perplexity", "rates", "streams", "behaviour"}


def test_provenance_and_times(manifest: Document, render: Callable[..., str]) -> None:
    words = Tree(render(manifest, evaluation(manifest))).root.words("en")
    files = [*(quant["file"] for quant in manifest["quants"]), manifest["imatrix"]["file"], manifest["model"]["file"]]
    facts = [file["sha256"] for file in files] + [manifest["recipe"]["sha256"], "c" * 40, "d" * 40]
    assert [fact for fact in facts if fact not in words] == []
    assert "calibrate69.2779.5" in words and "place_imatrix0.3NA" in words


def test_another_release_is_refused(manifest: Document, render: Callable[..., str]) -> None:
    measured = evaluation(manifest)
    measured["speed"]["models"][1]["file"]["sha256"] = "0" * 64
    with pytest.raises(FormatError, match=r"speed Q4_K_M is .*: measure this release"):
        render(manifest, measured)


@pytest.mark.parametrize("times", ["step\tseconds\nx\t1\n", TIMES + "x\t1\n", "\n"])
def test_other_tables_of_times_are_refused(times: str, manifest: Document, render: Callable[..., str]) -> None:
    with pytest.raises(FormatError, match=r"run\.tsv is no table of step, seconds, peak_memory_mb"):
        render(manifest, without_anything(manifest), times)


HOSTILE = [
    "<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "</style></svg><b>", "<!--", "]]>", "&lt;&#0;&",
    "{{ 7 * 7 }}{% raw %}", "$\\frac{1}{$", "a\x00b\x1b[31m\u202edcba\ufeff", "$$", "url(#a)", "#123456", "items", "0",
    "x" * 200, "多" * 200, "__class__",
]  # fmt: skip


Structure = list[tuple[str, list[str]]]


def structure(page: str) -> Structure:
    """The elements around the figures; what a figure draws moves with its texts."""
    page = re.sub("<svg.*?</svg>", "<svg></svg>", page, flags=re.DOTALL)
    return [(node.name, sorted(node.attributes)) for node in Tree(page).root.all()]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_text_changes_no_structure(value: str, manifest: Document, render: Callable[..., str]) -> None:
    """With the few figures that BF16 alone has, and then all at once with every figure."""
    measured = evaluation(manifest)
    measured["fidelity"]["quants"], measured["speed"]["models"][1:] = [], []
    measured |= {"tensors": [], "behaviour": None}
    require_harmless(render, manifest, measured, [value])


def test_hostile_text_in_every_figure(manifest: Document, render: Callable[..., str]) -> None:
    require_harmless(render, manifest, evaluation(manifest), HOSTILE)


def require_harmless(render: Callable[..., str], made: Document, measured: Document, values: list[str]) -> None:
    times = TIMES.replace("calibrate", values[0].replace("\x00", ""))
    page = render(*poison(made, measured, values), times)
    plain = render(*poison(made, measured, [f"plain {number}" for number in range(len(values))]))
    assert structure(page) == structure(plain)
    for svg in Tree(page).root.all("svg"):
        kinds = {node.name for node in svg.all()}
        assert kinds <= {"g", "path", "text", "tspan", "use", "defs", "clippath", "rect"}
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\ufeff]", page)
    words = Tree(page).root.words()
    for value in values:
        assert "".join(letter if letter.isprintable() else "�" for letter in value) in words


def poison(manifest: Document, measured: Document, values: list[str]) -> tuple[Document, Document]:
    """Put the values wherever the schemas leave the text free and the report shows it, all where there is a list."""
    made, measured = copy.deepcopy((manifest, measured))
    made["inputs"]["model"]["licence"] = made["inputs"]["corpus"]["licence"] = values[0]
    made["model"]["architecture"] = values[0]
    how = measured["speed"]["protocol"]
    how["processor"], how["tools"], how["flags"], how["features"] = values[0], values, values, values
    measured["fidelity"]["protocol"]["tool"] = values[0]
    for quant in [each for each in measured["fidelity"]["quants"] if not each["imatrix"]]:
        measured["fidelity"]["quants"].remove(quant)
        measured["fidelity"]["quants"] += [{**quant, "type": value} for value in values]
    for file in measured["tensors"]:
        file["tensors"] = [{**file["tensors"][0], "name": value, "type": value} for value in values]
    return made, measured


NUMBERS = ["0", "-1", "1e-300", "-1e29", "1e29", "1e-29", "1e-12", "0.1"]


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.filterwarnings("error")
def test_strange_numbers_are_drawn(value: str, manifest: Document) -> None:
    measured = with_importance(manifest)
    assert set(draw_figures(_with_numbers(measured, value))) == FIGURES


@pytest.mark.parametrize("value", ["1e31", "-1e31", "1e999"])
def test_numbers_beyond_all_measure_are_refused(value: str, manifest: Document) -> None:
    with pytest.raises(FormatError, match=f"holds the number {value}, which is too large to draw"):
        draw_figures(_with_numbers(with_importance(manifest), value))


def _with_numbers(value: Any, number: str) -> Any:
    """The document with every decimal text made this one."""
    if isinstance(value, dict):
        return {key: _with_numbers(item, number) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item, number) for item in value]
    return number if isinstance(value, str) and re.fullmatch(r"[0-9.]+", value) else value


def test_more_than_a_figure_holds_is_refused(manifest: Document) -> None:
    measured = evaluation(manifest)
    tensor = measured["tensors"][0]["tensors"][0]
    many = [{**tensor, "name": f"blk.{number}.kind_{number}.weight"} for number in range(150)]
    with pytest.raises(FormatError, match="150 kinds of tensors in 150 layers: too many to draw"):
        draw_figures({**measured, "tensors": [{**measured["tensors"][0], "tensors": many}]})
    with pytest.raises(FormatError, match="measures 101 models, and a figure has room for 100"):
        draw_figures({**measured, "tensors": measured["tensors"] * 101})


def test_an_audit_does_not_load_the_library_that_draws() -> None:
    code = "import sys, requant.cli.main; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": SCRIPTS}).returncode == 0


def test_seven_quants_get_labels_that_do_not_touch(manifest: Document) -> None:
    """Labels lie at least a line apart, or beside each other."""
    measured = evaluation(manifest)
    quants = measured["fidelity"]["quants"]
    measured["fidelity"]["quants"] = [
        {**quants[0], "type": f"Q{number}", "file": {**quants[0]["file"], "size": 2 * 10**9 + number * 10**7}}
        for number in range(7)
    ]
    texts = [
        node for node in Tree(draw_figures(measured)["tradeoff"]).root.all("text") if re.match("Q[0-9]$", node.words())
    ]
    places = [(float(str(node.attributes["x"])), float(str(node.attributes["y"]))) for node in texts]
    assert len(places) == 7
    for number, (x, y) in enumerate(places):
        assert all(abs(x - a) > 12 or abs(y - b) > 9 for a, b in places[:number])


def test_a_suite_that_was_asked_in_part_says_so(manifest: Document, render: Callable[..., str]) -> None:
    text = render(manifest, evaluation(manifest))
    assert '<span lang="en">partial</span><span lang="zh">部分</span> 15/35' in text
    assert "15/15</td>" not in text.split('id="fidelity"')[0]
