"""The site in a real browser, served as any server would: on a telephone, by night, in both languages, and its search."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.browser import CHROMIUM, DARK, Browser
from support.pages import Served, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
PAGES = (
    "",
    "docs/",
    "docs/tutorial/",
    "docs/audit-a-quant/",
    "docs/faq/",
    "docs/verdicts/",
    "docs/forms/",
    "docs/architecture/",
)
# Pages one after the other in a frame, as no window is narrower than 500; what is seen is told to the server.
FRAME = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="favicon.svg"><iframe style="height: 1200px; border: 0"></iframe><script>
const frame = document.querySelector("iframe");
const later = (ready) => new Promise((done) => { const look = () => ready() ? done() : setTimeout(look, 50); look(); });
async function see({ page, width, search }) {
  frame.style.width = width + "px";
  await new Promise((done) => { frame.onload = done; frame.src = page; });
  const inside = frame.contentDocument, root = inside.documentElement;
  const seen = { page, inside: frame.contentWindow.innerWidth, width: root.scrollWidth, language: root.lang };
  seen.scheme = inside.body.dataset.mdColorScheme;
  seen.paper = frame.contentWindow.getComputedStyle(inside.body).backgroundColor;
  seen.switch = [...inside.querySelectorAll(".md-select__link")].map((link) => [link.hreflang, link.href]);
  if (search) {
    const box = inside.querySelector(".md-search__input");
    inside.querySelector("#__search").click();
    box.focus();
    box.value = search;
    await later(() => {
      box.dispatchEvent(new KeyboardEvent("keyup", { bubbles: true }));
      return inside.querySelector(".md-search-result__item");
    });
    seen.results = [...inside.querySelectorAll(".md-search-result__link")].map((link) => link.href);
  }
  return seen;
}
(async () => {
  const found = [];
  for (const asked of JSON.parse(decodeURIComponent(location.hash.slice(1)))) found.push(await see(asked));
  await new Promise((done) => setTimeout(done, 500));
  await fetch("/told", { method: "POST", body: JSON.stringify(found) });
})();
</script>"""
Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[Served]:
    (site / "frame.html").write_text(FRAME)
    with serving(site) as pages:
        yield pages
    # The theme looks for a map of the site when somebody changes the language, and does without.
    assert {path for path in pages.missing if not path.endswith("/sitemap.xml")} == set()


@pytest.fixture
def ask(browser: Browser, served: Served) -> Ask:
    """Open pages, each as wide as said, and search in them if anything is to be searched for."""

    def opened(pages: list[dict[str, Any]], *options: str) -> list[dict[str, Any]]:
        address = f"{served.url}/frame.html#{quote(json.dumps([{'width': 1280, **page} for page in pages]))}"
        with browser.opened(address, "--window-size=1400,1300", *options):
            found: list[dict[str, Any]] = json.loads(served.told.get(timeout=120))
        return found

    return opened


@pytest.mark.parametrize("language", ["", "zh-CN/"])
def test_pages_fit_and_ask_nothing_of_others(language: str, ask: Ask, served: Served) -> None:
    """What they would ask the policy forbids, and the browser would say so."""
    for seen in ask([{"page": f"/{language}{page}", "width": width} for page in PAGES for width in (360, 1280)]):
        assert seen["width"] <= seen["inside"], seen
        assert seen["language"] == ("zh" if language else "en")
        page = seen["page"].removeprefix(f"/{language}")
        assert seen["switch"] == [["en", f"{served.url}/{page}"], ["zh-CN", f"{served.url}/zh-CN/{page}"]], seen


def test_what_is_asked_of_another_server_is_seen(browser: Browser, served: Served, site: Path) -> None:
    bad = site / "bad.html"
    # What a page says comes to the browser by another way than what it fetches.
    told = 'setTimeout(() => fetch("/told", { method: "POST", body: "" }), 1000)'
    icon, image = '<link rel="icon" href="favicon.svg">', '<img src="http://other.invalid/image.png">'
    bad.write_text(f"{icon}{image}<script>{told}</script>")
    with pytest.raises(AssertionError, match="Content Security Policy"), browser.opened(f"{served.url}/bad.html"):
        served.told.get(timeout=120)
    bad.unlink()


def test_by_night_it_is_dark(ask: Ask) -> None:
    [light], [dark] = ask([{"page": "/docs/faq/"}]), ask([{"page": "/docs/faq/"}], DARK)
    assert (light["scheme"], dark["scheme"]) == ("default", "slate")
    assert light["paper"] != dark["paper"]


def test_the_search_finds(ask: Ask) -> None:
    """In Chinese by words in the middle of sentences, which have no blanks around them."""
    wanted = {
        ("/", "consistent"): "/docs/verdicts/",
        ("/", "wikitext"): "/docs/faq/",
        ("/zh-CN/", "重要性矩阵"): "/zh-CN/docs/faq/",
        ("/zh-CN/", "微调"): "/zh-CN/docs/add-a-model/",
    }
    found = ask([{"page": page, "search": words} for page, words in wanted])
    for seen, ((_, words), where) in zip(found, wanted.items(), strict=True):
        assert any(where in address for address in seen["results"]), (words, seen["results"])
