"""Text for people: shown, escaped, in units, in tables; nothing that a terminal would obey."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://\S*?)([)>'\"`,.;:]*)(?!\S)")
"""An address in a sentence, and what follows it there."""
AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]*)(:\d*)?")
"""A host with its port, as RFC 3986 writes it behind the user."""

REVISED = ("hf", "ms")
"""Schemes of ours, whose addresses may name a revision behind an ``@``."""

_HIDDEN: set[str] = set()
"""Tokens that this process has in use."""

UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([TGMk]?B|)", re.ASCII | re.IGNORECASE)


def shown(value: object) -> str:
    """A value as one line of printable text, cut to a sane length.

    >>> shown(["a", {"name": "b", "size": 1000, "sha256": "0f..."}, None])
    'a, b (1,000 B, 0f...), nothing'
    """
    if isinstance(value, Mapping) and value.keys() == {"name", "size", "sha256"} and isinstance(value["size"], int):
        return printable(f"{value['name']} ({value['size']:,} B, {value['sha256']})")
    if isinstance(value, Sequence) and not isinstance(value, str):
        return printable(", ".join(map(shown, value)) or "nothing")
    return "nothing" if value is None else printable(str(value))


def printable(text: str) -> str:
    """Text from outside for messages: nothing that a terminal would obey, at most 300 characters.

    >>> print(printable("naïve 世界"), printable("a\\x1b[2J"))
    naïve 世界 'a\\x1b[2J'
    """
    text = text if len(text) <= 300 else f"{text[:300]}..."
    return text if text.isprintable() else repr(text)


def without_secrets(text: str) -> str:
    """A text with all its addresses bare: no user, no password, and no query, where signed ones carry their signature.

    What cannot be told from a password is left out.

    >>> without_secrets("see https://me:secret@example.com/x?key=1, or hf://owner/name@main/x.gguf")
    'see https://example.com/x, or hf://owner/name@main/x.gguf'
    """
    for secret in _HIDDEN:
        text = text.replace(secret, "...")
    return ADDRESS.sub(lambda found: bare(found[1]) + found[2], text)


def hide(secret: str | None) -> None:
    """Let ``without_secrets`` leave out this token from now on, whoever writes it, such as a hub that repeats it."""
    if secret:
        _HIDDEN.add(secret)


def bare(address: str) -> str:
    """One address without its secrets."""
    scheme, _, rest = address.partition("://")
    authority, slash, path = rest.partition("/")
    plain = re.split("[?#]", authority, maxsplit=1)[0]
    host = plain.rpartition("@")[2]
    found = AUTHORITY.fullmatch(host)
    # A password with a slash, a question mark or a hash in it looks like a path or a query, and a user like a host.
    if not found or "@" in authority[len(plain) :] or (found[2] and "@" in path):
        return f"{scheme}://..."
    shown_path = re.split("[?#]", slash + path, maxsplit=1)[0] if plain == authority else ""
    # An address in an address has secrets of its own.
    if "://" in shown_path or ("@" in shown_path and scheme not in REVISED):
        return f"{scheme}://{host}/..."
    return f"{scheme}://{host}{shown_path}"


def plain(value: Any) -> Any:
    """The document with ``�`` for each character that does not print, such as marks that turn a text around.

    >>> plain({"name": "a\\u202eb", "size": 7})
    {'name': 'a�b', 'size': 7}
    """
    if isinstance(value, str):
        return "".join(letter if letter.isprintable() else "�" for letter in value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, Sequence) else value


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Such as ``" (did you mean Q4_K_M?)"`` where ``word`` is almost one of ``known``, in any case; else nothing."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=1)
    return f" (did you mean {names[near[0]]}?)" if near else ""


def counted(count: int, noun: str) -> str:
    """Such as ``1 key`` and ``2 keys``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are.

    >>> listed(["a", "b"]), listed(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = len(names) - most
    return ", ".join(map(printable, names[:most])) + (f" and {more:,} more" if more > 0 else "")


def in_units(size: int) -> str:
    """A size for people, in decimal units.

    >>> in_units(2_497_281_152), in_units(999)
    ('2.5 GB', '999 B')
    """
    unit, scale = next((unit for unit in UNITS if size >= unit[1]), ("B", 1))
    return f"{size} B" if scale == 1 else f"{size / scale:.1f} {unit}"


def from_units(text: str) -> int | None:
    """A size as people write it, in decimal units; ``None`` where it is none.

    >>> from_units("2.5 MB"), from_units("500kB"), from_units("999"), from_units("fast")
    (2500000, 500000, 999, None)
    """
    found = SIZE.fullmatch(text)
    scales = {unit.lower(): scale for unit, scale in (*UNITS, ("B", 1), ("", 1))}
    return int(Decimal(found[1]) * scales[found[2].lower()]) if found else None


def on_one_line(value: Any) -> Any:
    """The document with every run of white space, line ends included, made one space.

    >>> on_one_line({"licence": "Apache\\n  2.0 ", "size": 7})
    {'licence': 'Apache 2.0', 'size': 7}
    """
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, dict):
        return {key: on_one_line(item) for key, item in value.items()}
    return [on_one_line(item) for item in value] if isinstance(value, list) else value


def digits(number: str, count: int) -> str:
    """A decimal text for people: so many digits behind the point, or in scientific form where that would show none.

    >>> digits("1234.5678", 2), digits("0.00012", 2), digits("0", 2)
    ('1,234.57', '1.2e-04', '0.00')
    """
    value = float(number)
    return f"{value:,.{count}f}" if value == 0 or abs(value) >= 10**-count else f"{value:.1e}"


def sized(size: int) -> str:
    """A size for people with its bytes; below 1 kB only these.

    >>> sized(2_497_281_152), sized(999)
    ('2.50 GB (2,497,281,152 B)', '999 B')
    """
    unit, scale = next((unit for unit in UNITS if size >= unit[1]), ("B", 1))
    return f"{size:,} B" if scale == 1 else f"{size / scale:.2f} {unit} ({size:,} B)"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose columns are as wide as they must be, all but the first aligned to the right.

    >>> print(*table(("tensor", "blocks"), [("output", "1,024"), ("token_embd", "7")]), sep="\\n")
    tensor      blocks
    output       1,024
    token_embd       7
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if index else f"{cell:<{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]


def first_line(error: object) -> str:
    """What an exception says, cut to one line, without the secrets that clients put into what they say."""
    return without_secrets((str(error).splitlines() or [type(error).__name__])[0])
