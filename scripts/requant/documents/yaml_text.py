"""The plain data in a YAML text that anybody may have written: what PyYAML lets through otherwise is refused here."""

from itertools import chain
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

MOST_VALUES = 1 << 17
"""Of a document, where what an alias stands for counts each time: aliases of aliases of aliases fill any memory."""


def yaml_of(text: str) -> Any:
    """Read plain data, no tags.

    Raises:
        yaml.YAMLError: where it is none, where an alias stands for what holds it, or for too much.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a safe one
    except (RecursionError, ValueError, OverflowError) as error:
        # Thousands of brackets, or digits in a version, or a sign beyond Unicode.
        raise yaml.YAMLError("nobody can read it") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's own, which knows neither bounds nor that a 30th of February is a mistake of the text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Count what each node holds."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if not isinstance(event, yaml.AliasEvent):
            self._values[node] = 1 + sum(self._values[each] for each in _held(node))
        if self._values.get(node, MOST_VALUES) >= MOST_VALUES:
            raise ComposerError(None, None, "it holds itself, or too much", event.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Refuse what Python cannot make of a text (a 30th of February, ``!!bool x``), or could not write again."""
        try:
            found = super().construct_object(node, deep)
            if isinstance(found, str | int):
                str(found).encode()  # half a character, 5,000 hexadecimal digits
        except (ValueError, LookupError, AttributeError) as error:
            raise ConstructorError(None, None, str(error), node.start_mark) from error
        return found


def _held(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return chain.from_iterable(node.value)
    return node.value if isinstance(node, yaml.SequenceNode) else ()
