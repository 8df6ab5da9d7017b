"""What the site is built from, without building it (``make test-site`` does): every page has its place, in both languages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.checkout import ROOT

PAGES = ROOT / "site" / "pages"
CONFIG = yaml.safe_load((ROOT / "site" / "mkdocs.yml").read_text(encoding="utf-8"))
CHINESE = ".zh-CN.md"


def entries(nav: list[Any]) -> Iterator[tuple[str | None, str | None]]:
    """The name and the page of each entry; one of them may be missing."""
    for entry in nav:
        if isinstance(entry, str):
            yield None, entry
            continue
        for name, inside in entry.items():
            yield name, inside if isinstance(inside, str) else None
            if not isinstance(inside, str):
                yield from entries(inside)


def pages(folder: Path) -> Iterator[str]:
    """Markdown below a folder, links to folders included."""
    for path in folder.iterdir():
        if path.is_dir():
            yield from pages(path)
        elif path.suffix == ".md":
            yield path.relative_to(PAGES).as_posix()


def test_every_page_has_one_place() -> None:
    placed = [page for _, page in entries(CONFIG["nav"]) if page]
    assert len(placed) == len(set(placed))
    assert set(placed) == {page for page in pages(PAGES) if not page.endswith(CHINESE)}


def test_every_place_has_a_chinese_name() -> None:
    _, chinese = next(plugin["i18n"] for plugin in CONFIG["plugins"] if "i18n" in plugin)["languages"]
    names = {name for name, _ in entries(CONFIG["nav"]) if name}
    assert chinese["nav_translations"].keys() == names


def test_what_lies_elsewhere_is_linked_and_not_copied() -> None:
    own = {"favicon.svg", "site.css"}
    for path in (path for path in PAGES.rglob("*") if path.is_symlink() or path.is_file()):
        assert path.name in own or (path.is_symlink() and path.resolve().is_relative_to(ROOT) and path.exists()), path


@pytest.mark.parametrize("name", ["LICENSE", "CITATION.cff", "Containerfile", "action.yml"])
def test_files_to_which_pages_lead_are_there(name: str) -> None:
    assert (PAGES / name).resolve() == ROOT / name
