"""The list of a survey: a text file with a quant a line, and behind it, if they are to be named, its weights.

    # SUBJECT                         [SOURCE]
    some/Model-GGUF:Q4_K_M            org/Model@COMMIT
    "my quants/Model-Q8_0.gguf"       ./Model/     # names with spaces stand in double quotes

A line that is none is no reason not to ask about the others: it is a row of the table.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from requant.ground.digests import read_small
from requant.ground.errors import FormatError, PlaceError, RequantError
from requant.places.addresses import Label
from requant.places.pages import spelled
from requant.places.place import last_part, named

LONGEST = 1 << 20
"""Bytes of a list: more quants than anybody can ask about in a year."""
FIELD = re.compile(r'"([^"]+)"(?!\S)|([^"\s]\S*)')
FORM = "write SUBJECT or SUBJECT SOURCE, a name with spaces in double quotes"


@dataclass(frozen=True)
class Entry:
    """A line of the list by its number, from 1: the quant, and its weights if they are named, as they are written.

    ``fault`` says why the line is none; ``subject`` is then what stands there.
    """

    line: int
    subject: str
    source: str | None = None
    fault: str | None = None

    @property
    def shown(self) -> str:
        """The quant as a table shows it, or the words of a line that is none."""
        return shown(self.subject) if self.fault is None else " ".join(map(shown, self.subject.split()))


def read_list(path: Path) -> list[Entry]:
    """Read a list; what follows a ``#`` at the beginning of a word is a comment.

    Raises:
        FormatError: when it cannot be read, is longer than 1 MiB, or names nothing.
    """
    text = read_small(path, LONGEST).decode("utf-8-sig", errors="replace")
    found = [entry for number, line in enumerate(text.split("\n"), 1) for entry in _entries(number, line)]
    if not found:
        raise FormatError(f"{path} names no quant: write one a line, SUBJECT or SUBJECT SOURCE")
    return found


def _entries(number: int, line: str) -> Iterator[Entry]:
    """The entry of a line, if it has one."""
    try:
        names = list(_names(line))
    except PlaceError as error:
        yield Entry(number, line.strip(), fault=str(error))
        return
    if len(names) > 2:
        yield Entry(number, line.strip(), fault=f"{len(names)} names stand in this line of the list: {FORM}")
    elif names:
        yield Entry(number, *names)


def _names(line: str) -> Iterator[str]:
    rest = line.strip()
    while rest and not rest.startswith("#"):
        match = FIELD.match(rest)
        if match is None:
            raise PlaceError(f"double quotes enclose no name in this line of the list: {FORM}")
        yield match[1] or match[2]
        rest = rest[match.end() :].lstrip()


def shown(text: str) -> str:
    """A place as a table shows it: an address without its secrets, of a path on this machine the last name."""
    path = path_of(text)
    return Label(text) if path is None else last_part(path)


def path_of(text: str) -> Path | None:
    """The file or folder on this machine that a text names; ``None`` where it lies elsewhere, or nobody can tell."""
    try:
        return None if "://" in spelled(named(text)) else Path(text).absolute()
    except (RequantError, OSError, ValueError):
        return None
