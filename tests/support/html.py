"""HTML as a tree, strictly: every end tag is there, and no attribute twice."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "input", "link", "br", "img", "hr"}


@dataclass
class Node:
    """An element, or with an empty name some text."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    text: str = ""
    children: list["Node"] = field(default_factory=list)

    def all(self, name: str = "") -> Iterator["Node"]:
        for child in self.children:
            if child.name and name in ("", child.name):
                yield child
            yield from child.all(name)

    def words(self, language: str | None = None) -> str:
        """The text of it, in one language or all."""
        if language and self.name != "html" and self.attributes.get("lang") not in (None, language):
            return ""
        return self.text + "".join(child.words(language) for child in self.children)


class Tree(HTMLParser):
    """Builds the tree, and wants every end tag to be there."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Node("page")
        self.open = [self.root]
        self.feed(page)
        self.close()
        assert self.open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs))
        assert len(attrs) == len(node.attributes), f"{tag} has an attribute twice"
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(Node("", text=data))
