"""A figure of matplotlib as SVG in an HTML page: its ids unique, its ink the page's, its words in two languages."""

import re
from collections.abc import Mapping
from xml.etree import ElementTree

INK = "#123456"
"""What is drawn in this colour takes the colour of the text around the figure, by day and by night."""
REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")
FONT_FAMILY = re.compile(r" *font-family: [^;]*;?")
DECIMAL = re.compile(r"-?\d+\.\d+")


def inline(svg: bytes, name: str, chinese: Mapping[str, str]) -> str:
    """Turn a whole SVG file into one element for an HTML page.

    ``name`` begins every id, so it must be unique in the page; the caption there has the id ``<name>-alt``. Words in
    ``chinese`` appear in English and in Chinese, each marked with its language; all other text is in no language.
    """
    root = ElementTree.fromstring(svg)  # noqa: S314 (what matplotlib wrote a moment ago)
    _drop_extras(root)
    used = {found for element in root.iter() for value in element.attrib.values() for found in _references(value)}
    for element in list(root.iter()):
        element.tag = _local(element.tag)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        if attributes.get("id") not in used:
            attributes.pop("id", None)
        element.attrib.clear()
        element.attrib.update({key: _attribute(key, value, name) for key, value in attributes.items()})
        if element.attrib.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if element.tag != "text":
            element.text = element.tail = None
        elif element.text and element.text in chinese:
            _say_twice(element, chinese[element.text])
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-labelledby": f"{name}-alt"})
    return ElementTree.tostring(root, encoding="unicode")


def _drop_extras(root: ElementTree.Element) -> None:
    """Metadata, and a style sheet that would hold for the whole page."""
    for child in list(root):
        if _local(child.tag) == "metadata" or [_local(part.tag) for part in child] == ["style"]:
            root.remove(child)


def _local(name: str) -> str:
    """Without its namespace: HTML knows SVG by itself."""
    return name.rpartition("}")[2]


def _references(value: str) -> list[str]:
    return [match[1] or match[2] for match in REFERENCE.finditer(value)]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    value = REFERENCE.sub(lambda match: f"url(#{name}-{match[1]})" if match[1] else f"#{name}-{match[2]}", value)
    if key == "style":
        return FONT_FAMILY.sub("", value).replace(INK, "currentColor").strip()
    # A hundredth of a unit is below what a screen shows.
    return DECIMAL.sub(lambda match: f"{float(match[0]):.2f}", value).replace("\n", "").strip()


def _say_twice(text: ElementTree.Element, chinese: str) -> None:
    for language, words in (("en", text.text), ("zh", chinese)):
        part = ElementTree.SubElement(text, "tspan", {"lang": language})
        part.text = words
    text.text = None
