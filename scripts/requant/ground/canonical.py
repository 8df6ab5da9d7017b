"""Canonical JSON: one text for one document; and JSON from outside.

Canonical here: sorted keys, two spaces, UTF-8, no floats, no NaN, one newline at the end. Equal
documents have equal bytes, so a manifest can be compared by digest.
"""

import json
from io import BytesIO
from typing import Any

from requant.ground.errors import FormatError

# Deeper than any document of ours or of a hub, and far from where Python's own recursion ends.
DEEPEST = 64
MAX_VALUES = 3 << 20
"""Keys and values in one document, each of which costs far more memory than its bytes in the file.

Chosen, not measured: the largest tokenizer.json in use is believed to hold about two million.
"""
LONGEST_PLACE = 256
ENCODER = json.JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)


def canonical(document: Any) -> bytes:
    """The one serialization of ``document`` (law: ``parse(canonical(d)) == d``).

    >>> canonical({"b": [], "a": "é"}).decode()
    '{\\n  "a": "é",\\n  "b": []\\n}\\n'

    Raises:
        FormatError: when the document holds a float, whose text form is not the same everywhere, or no text at all.
    """
    _refuse_floats(document, ())
    found = BytesIO()
    try:
        # Piece by piece: as one text it would take four times the room if a single letter is wide.
        for piece in ENCODER.iterencode(document):
            found.write(piece.encode())
    except UnicodeEncodeError as error:
        raise FormatError(
            f"the document holds text that is not Unicode ({error.object[error.start]!r}): remove it"
        ) from error
    found.write(b"\n")
    return found.getvalue()


def parse(data: bytes, name: str, infinite: bool = False) -> Any:
    """Parse JSON from outside.

    Args:
        data: the bytes.
        name: how errors call the file.
        infinite: take ``Infinity`` and ``-Infinity`` for numbers, which Python writes and JSON does not know.

    Raises:
        FormatError: naming the file, for anything that is not one JSON document with unique keys, is nested more than
            ``DEEPEST`` levels deep, or would fill the memory.
    """
    if sum(map(data.count, (b",", b":", b"[", b"{"))) > MAX_VALUES:
        raise FormatError(f"{name} holds more than {MAX_VALUES:,} JSON values: it is damaged or hostile")
    try:
        constant = _infinity if infinite else _refuse_constant
        document = json.loads(data, object_pairs_hook=_unique, parse_constant=constant)
        if _deeper(document, DEEPEST):
            raise ValueError(f"nested more than {DEEPEST} levels deep")
        return document
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name} is not valid JSON ({error}): get the file again") from error


def _deeper(value: Any, levels: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    # Vocabularies hold so many leaves that each must cost little.
    return levels < 0 or any(_deeper(item, levels - 1) for item in items if isinstance(item, dict | list))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _infinity(name: str) -> float:
    return float(name) if name.endswith("Infinity") else _refuse_constant(name)


def _refuse_floats(value: Any, where: tuple[str | int, ...]) -> None:
    if isinstance(value, float):
        raise FormatError(f"{_place(where) or 'the document'} is the float {value!r}; write an integer or text")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise FormatError(f"the key {key!r} is not text; write it in quotes")
            _refuse_floats(item, (*where, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_floats(item, (*where, index))


def _place(where: tuple[str | int, ...]) -> str:
    """Such as ``a.b[0]``. Keys come from outside: they may be long, or move a cursor."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).removeprefix(".")
    return text if text.isprintable() and len(text) <= LONGEST_PLACE else repr(text[:LONGEST_PLACE])
