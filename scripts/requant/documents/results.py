"""The results of asking a suite: which outcome each question had, and all that was said.

A results file is JSONL: a header that says which suite, model and settings it is of, then one line an item. The last
line of an item counts, and half a line at the end was never finished.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from requant.ground.canonical import parse
from requant.ground.digests import write_bytes
from requant.ground.errors import DiskError, FormatError
from requant.ground.text import printable

VERSION = 1
MAX_LINE = 1 << 27
"""Bytes: eight times the longest answer, since JSON can write a character in six."""


class Outcome(StrEnum):
    """How one question ended. A truncated answer has not passed; an error says nothing of the model."""

    PASSED = "passed"
    FAILED = "failed"
    TRUNCATED = "truncated"
    ERROR = "error"


OUTCOMES = tuple(Outcome)


@dataclass(frozen=True)
class Results:
    """A results file: its header, and the outcome of each item by id."""

    header: Mapping[str, Any]
    outcomes: Mapping[str, str]


def read_results(path: Path) -> Results:
    """Read a results file of this or another run.

    Raises:
        FormatError: naming the file and the line, when it is none.
    """
    try:
        with path.open("rb") as file:
            header, outcomes, _ = read_lines(file, path)
    except OSError as error:
        raise FormatError(f"{path} cannot be read ({error.strerror or error}): check the path") from error
    if header is None:
        raise FormatError(f"{path} holds no results: name a file that requant evaluate wrote")
    return Results(header, outcomes)


def write_results(header: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], out: Path) -> Results:
    """Write a results file of what somebody else asked and judged.

    Raises:
        DiskError: when ``out`` cannot be written.
    """
    header = {"results": VERSION, **header}
    try:
        write_bytes(out, b"".join(map(encoded, [header, *lines])))
    except OSError as error:
        raise DiskError(f"{out} cannot be written ({error.strerror or error}): make room, and run again") from error
    return Results(header, {line["id"]: line["outcome"] for line in lines})


def read_lines(file: BinaryIO, path: Path) -> tuple[Mapping[str, Any] | None, dict[str, str], int]:
    """Header, outcomes by id, and where the last whole line ends. Only outcomes are kept, answers are long.

    Raises:
        FormatError: naming the file and the line, when it is none.
    """
    header: Mapping[str, Any] | None = None
    outcomes: dict[str, str] = {}
    end = number = 0
    file.seek(0)
    while line := file.readline(MAX_LINE):
        number += 1
        if not line.endswith(b"\n"):
            if len(line) == MAX_LINE:
                raise FormatError(f"{path} line {number} is too long for results: name another file")
            break
        document = parse(line, f"{path} line {number}")
        if header is None:
            header = _header(document, path)
        else:
            if not isinstance(document, Mapping) or document.get("outcome") not in OUTCOMES:
                raise FormatError(f"{path} line {number} holds no result: remove the line")
            outcomes[_id(document, f"{path} line {number}")] = document["outcome"]
        end += len(line)
    return header, outcomes, end


def _header(document: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(document, Mapping) or document.get("results") != VERSION or "suite" not in document:
        raise FormatError(f"{path} holds no results: name a file that requant evaluate wrote")
    return document


def _id(document: Mapping[str, Any], where: str) -> str:
    found = str(document.get("id"))
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise FormatError(f"{where} has an id that is not Unicode ({printable(found)}): remove the line") from error
    return found


def encoded(line: Mapping[str, Any]) -> bytes:
    """One line of JSON; raises ValueError for numbers that JSON does not have."""
    try:
        return json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        # Half a character, which only escapes can write.
        return json.dumps(line, allow_nan=False).encode() + b"\n"
