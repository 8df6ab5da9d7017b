"""The site's files: the same from every checkout, whole, and asking nothing of any other server."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

LOADED = {
    "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src",
    "object": "data", "form": "action", "link": "href", "base": "href",
}  # fmt: skip
"""What a browser fetches, or sends something to, by itself, and where it says from whom."""


class Page(HTMLParser):
    """A page: ``loads`` is what it fetches, ``links`` where it leads, ``names`` its places."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        self.names |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and given.get("rel") != "alternate" and (address := given.get(LOADED[tag])):
            self.loads.append(address)
        self.loads += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if path.name != "frame.html"  # of the tests in a browser
    }


def target(site: Path, page: str, address: str) -> str:
    """The file to which an address on a page of the site leads."""
    path = unquote(urlsplit(urljoin(f"http://site/{page}", address)).path).lstrip("/")
    return f"{path}index.html" if path == "" or path.endswith("/") else path


def test_a_build_elsewhere_is_the_same(site: Path, site_elsewhere: Path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in found.items() if name != "frame.html"}

    ours, theirs = files(site), files(site_elsewhere)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_nothing_is_fetched_from_another_server(site: Path, pages: dict[str, Page]) -> None:
    assert len(pages) > 80
    for name, page in pages.items():
        assert page.loads
        for address in page.loads:
            assert not urlsplit(address).netloc and urlsplit(address).scheme in ("", "data"), f"{name}: {address}"
            assert (site / target(site, name, address)).is_file(), f"{name}: {address}"
    for sheet in site.rglob("*.css"):
        for address in fetched_by(sheet.read_text(encoding="utf-8")):
            assert address.startswith(("data:", "#")), f"{sheet.name}: {address}"


def fetched_by(sheet: str) -> Iterator[str]:
    """What a style sheet fetches."""
    for match in re.finditer(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", sheet):
        yield match[1] or match[2]


def test_a_search_for_what_fetches_finds_it() -> None:
    page = Page(
        '<link rel="stylesheet" href="//a/b.css"><img srcset="https://c/d.png 2x"><script src="https://e/f.js"></script>'
    )
    assert page.loads == ["//a/b.css", "https://c/d.png", "https://e/f.js"]
    assert [*fetched_by("a{background:url('https://g/h')} @import \"https://i\";")] == ["https://g/h", "https://i"]


def test_links_lead_somewhere(site: Path, pages: dict[str, Page]) -> None:
    """Also to places on a page, in both languages."""
    inside = [
        (name, address)
        for name, page in pages.items()
        for address in page.links
        if not urlsplit(address).netloc and name != "404.html"
    ]
    assert len(inside) > 5000
    for name, address in inside:
        file, place = target(site, name, address), unquote(urlsplit(address).fragment)
        assert (site / file).is_file(), f"{name}: {address}"
        assert not place or file not in pages or place in pages[file].names, f"{name}: {address}"


def test_pages_with_a_twin_are_in_both_languages(site: Path, pages: dict[str, Page]) -> None:
    for name in pages.keys() - {"404.html"}:
        assert name.startswith("zh-CN/") or f"zh-CN/{name}" in pages
    for name in ("", "docs/", "docs/faq/", "docs/verdicts/"):
        english, chinese = ((site / part / name / "index.html").read_text(encoding="utf-8") for part in ("", "zh-CN"))
        assert len(re.findall("[一-鿿]", chinese)) > 10 * len(re.findall("[一-鿿]", english))
        # A switch leads from one to the other; the line that does it on GitHub is gone.
        assert "English · " not in english and ">English</a> · 简体中文" not in chinese
