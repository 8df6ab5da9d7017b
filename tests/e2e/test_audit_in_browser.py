"""The page of an audit in a real browser: on a telephone, by night, in both languages, by keyboard, without scripts."""

from pathlib import Path

import pytest

from requant.audit.render import rendered
from support.browser import CHROMIUM, DARK, Browser, in_chinese
from support.reports import KINDS, good_report, large

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
# What a map adds to what a page is asked: how large its cells are, what one opens, and how its colours stand out.
MAP = """
const cells = [...document.querySelectorAll("table.map .cell")], style = getComputedStyle(document.documentElement);
found.cells = cells.length;
found.smallest = Math.min(...cells.flatMap((cell) => [cell.getBoundingClientRect().width, cell.getBoundingClientRect().height]));
found.named = cells.every((cell) => cell.getAttribute("aria-label"));
const odd = document.querySelector("table.map button.mismatch"), open = () => document.querySelectorAll(":popover-open");
odd.focus();
found.focused = document.activeElement === odd;
found.before = open().length;
odd.click();
found.opened = [...open()].map((node) => node.innerText);
const box = open()[0].getBoundingClientRect();
found.room = [box.left, width - box.right];
const light = (name) => style.getPropertyValue(name).trim().replace(/^#(.)(.)(.)$/, "#$1$1$2$2$3$3").match(/[0-9a-f]{2}/gi)
  .map((part) => parseInt(part, 16) / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
const contrast = (one, other) => (Math.max(light(one), light(other)) + 0.05) / (Math.min(light(one), light(other)) + 0.05);
const words = ["exact", "near", "consistent", "mismatch", "unchecked"].map((word) => ["--" + word, "--on-" + word]);
const inks = ["--ink", "--faint", "--accent", "--good", "--against", "--open"].flatMap((ink) => [[ink, "--page"], [ink, "--box"]]);
found.contrast = Math.min(...[...words, ...inks].map(([one, other]) => contrast(one, other)));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model with 36 layers in which something of every kind was found."""
    folder = tmp_path_factory.mktemp("audit")
    with good_report(folder) as report:
        text = rendered(large(report)).page
    assert text is not None
    (folder / "audit.html").write_text(text)
    return folder / "audit.html"


def test_nothing_to_complain_about(browser: Browser, page: Path) -> None:
    dom, complaints = browser.run(page, "--dump-dom", "--window-size=1280,3000")
    assert complaints == []
    assert dom.count(" popover=") == 36 * len(KINDS) + 1
    # The browser would say so if the page loaded or ran something.
    for bad in ('<img src="other.png">', "<script>1</script>"):
        page.with_name("bad.html").write_text(page.read_text().replace("</main>", f"{bad}</main>"))
        assert "Content Security Policy" in " ".join(browser.run(page.with_name("bad.html"), "--dump-dom")[1])


@pytest.mark.parametrize(
    ("language", "width", "options"), [("en", 360, ()), ("zh", 360, (DARK,)), ("zh", 1280, ()), ("en", 1280, (DARK,))]
)
def test_it_fits_and_a_cell_opens(
    browser: Browser, page: Path, language: str, width: int, options: tuple[str, ...]
) -> None:
    """With every table open, and one language only; a finger finds a cell, and an eye the words on it."""
    found = browser.measure(page, language, width, MAP, *options)
    assert found["page"] <= found["width"] == width and found["beyond"] == []
    assert found["shown"] == [language]
    assert (found["cells"], found["named"], found["focused"]) == (36 * len(KINDS), True, True)
    assert found["smallest"] >= 24
    [opened] = found["opened"]
    assert found["before"] == 0 and "blk.7.attn_k.weight" in opened and "2 / 8" in opened
    assert min(found["room"]) >= 0
    assert found["contrast"] >= 4.5


def test_by_night_it_is_dark(browser: Browser, page: Path) -> None:
    light, dark = browser.look(page, "light"), browser.look(page, "dark", DARK)
    assert light.mean() > 0.8 and dark.mean() < 0.3
    assert dark.max(axis=2).min() > 0.0


def test_a_page_in_chinese_looks_different(browser: Browser, page: Path) -> None:
    assert (browser.look(in_chinese(page), "chinese") != browser.look(page, "english")).any()
