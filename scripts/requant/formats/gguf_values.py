"""Metadata values of GGUF files for people: shown, and shown where two of them differ."""

from collections.abc import Sequence

import numpy as np

from requant.formats.ggml import ValueType
from requant.formats.gguf import Array, Field

ABSENT = "(absent)"

WIDTH = 120
"""Characters of a value that are shown at most."""

MOST_PLACES = 1 << 21
"""Differing numbers of an array that are told one by one; no vocabulary has more tokens."""


def cut(text: str) -> str:
    """At most ``WIDTH`` characters of a text."""
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def shown(value: Field) -> str:
    """A value for people: printable, and never longer than ``WIDTH``.

    >>> shown(Field(ValueType.ARRAY, ["<s>", "</s>"], ValueType.STRING))
    '2 of STRING'
    >>> print(shown(Field(ValueType.STRING, "a\\x1b[2J")))
    'a\\x1b[2J'
    """
    if value.type is ValueType.ARRAY:
        assert not isinstance(value.value, (int, float)) and value.item is not None
        return f"{len(value.value):,} of {value.item.name}"
    return _plain(value.value)


def differing(expected: Field, actual: Field) -> tuple[str, str, set[int] | None]:
    """Show two unequal values where they first differ, and name all items that differ if they are equally long arrays.

    Returns:
        Both texts, as ``shown`` would make them, and the indices of the differing items.

    >>> a, b = (Field(ValueType.ARRAY, tokens, ValueType.STRING) for tokens in (["a", "b", "c"], ["a", "x", "y"]))
    >>> differing(a, b)
    ("item 1 of 3: 'b'", "item 1 of 3: 'x'", {1, 2})
    """
    if (expected.type, expected.item) != (actual.type, actual.item):
        return cut(f"{_kind(expected)} {shown(expected)}"), cut(f"{_kind(actual)} {shown(actual)}"), None
    one, other = expected.value, actual.value
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return _arrays(one, other)
    if isinstance(one, list) and isinstance(other, list):
        places = {index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b}
        if len(one) != len(other):
            first = min(places, default=min(len(one), len(other)))
            return _item(one, first), _item(other, first), None
        first = min(places, default=0)
        return _item(one, first), _item(other, first), places
    if isinstance(one, str) and isinstance(other, str) and ("\n" in one + other or len(one + other) > WIDTH):
        return _lines(one, other)
    return _plain(one), _plain(other), None


def _arrays(one: Array, other: Array) -> tuple[str, str, set[int] | None]:
    """As for lists, but never with a Python object for every number, of which there may be millions."""
    both = min(len(one), len(other))
    unequal = one[:both] != other[:both]
    count = np.count_nonzero(unequal)
    # NaN is like itself in its bits, so arrays that differ may have no place that does.
    first = int(unequal.argmax()) if count else 0 if len(one) == len(other) else both
    tell = len(one) == len(other) and count <= MOST_PLACES
    return _item(one, first), _item(other, first), set(np.flatnonzero(unequal).tolist()) if tell else None


def _lines(one: str, other: str) -> tuple[str, str, None]:
    """The first lines that differ; a text may be nothing but millions of line ends, so it is never split."""
    same = _common(one, other)
    number, begin = one.count("\n", 0, same) + 1, one.rfind("\n", 0, same) + 1
    a, b = (text[begin:].partition("\n")[0] for text in (one, other))
    if a != b:
        return _line(number, a, _common(a, b)), _line(number, b, _common(a, b)), None
    following = (text[begin:].partition("\n")[2] if "\n" in text[begin:] else None for text in (one, other))
    after = [None if text is None else text.partition("\n")[0] for text in following]
    return _line(number + 1, after[0], 0), _line(number + 1, after[1], 0), None


def _line(number: int, line: str | None, start: int) -> str:
    """One line of a text, from shortly before the first difference on."""
    if line is None:
        return f"line {number:,}: (the text has ended)"
    begin = max(0, start - 20) if start > 60 else 0
    return cut(f"line {number:,}: {'...' if begin else ''}{line[begin : begin + WIDTH]!r}")


def _common(one: str, other: str) -> int:
    """How many letters both begin with, found by halves."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _item(items: Sequence[object] | Array, index: int) -> str:
    if index >= len(items):
        return f"{len(items):,} items"
    item = items[index].item() if isinstance(items, np.ndarray) else items[index]
    return cut(f"item {index:,} of {len(items):,}: {_plain(item)}")


def _plain(value: object) -> str:
    if isinstance(value, Field):
        return shown(value)
    return cut(repr(value[:WIDTH] if isinstance(value, (str, bytes)) else value))


def _kind(value: Field) -> str:
    return value.type.name if value.item is None else f"array of {value.item.name},"
