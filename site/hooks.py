"""What the site's builder must know of documents that are written to be read on GitHub as well."""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

import jieba
from mkdocs.utils import get_relative_url
from pymdownx.slugs import slugify

TWIN = re.compile(r"\A(?:English · )?\[(?:English|简体中文)\]\([\w.-]+\)(?: · 简体中文)?\n")
"""The line with which a page leads to the same one in the other language; here a switch does that."""
LINK = re.compile(r"(?<=\]\()([\w./-]+\.md)(?=[)#])")

jieba.setLogLevel(logging.WARNING)


def on_config(config: Any) -> Any:
    """Name headings as GitHub does, so that links work in both places; keep jieba's dictionary beside the site."""
    config.mdx_configs["toc"] = {"permalink": True, "slugify": slugify(case="lower")}
    jieba.dt.tmp_dir = str(Path(config.site_dir).parent)
    return config


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """The page without that line; a link to the English page of a pair leads to that one in Chinese pages too."""

    def english(link: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), link[1]))
        target = files.get_file_from_path(place)
        if target is None or target.locale == "en" or target.src_uri == place:
            return link[1]
        return get_relative_url(target.alternates["en"].url, page.url)

    return LINK.sub(english, TWIN.sub("", markdown))


def on_page_context(context: Any, config: Any, **_: Any) -> Any:
    """The switch with relative addresses on the first pages too, so that the site may lie below any address."""
    for language in config.extra["alternate"]:
        language["link"] = language["link"].lstrip("/") or "."
    return context


def on_post_build(config: Any) -> None:
    """Without the map for search engines, which would need the address at which the site lies."""
    for name in ("sitemap.xml", "sitemap.xml.gz"):
        (Path(config.site_dir) / name).unlink(missing_ok=True)
