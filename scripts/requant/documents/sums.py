"""SHA256SUMS: the digest of every file of a release, as coreutils reads it."""

import re
from collections.abc import Mapping
from pathlib import Path

from requant.documents.file_names import SUMS
from requant.ground.digests import SHA256
from requant.ground.errors import FormatError

LINE = re.compile(f"({SHA256.pattern})  (.+)")

# A release is a handful of files; this is room for thousands.
LONGEST = 1 << 20

LONGEST_NAME = 255
"""Bytes; no usual file system keeps longer names, and asking for one is an error."""


def sums_text(sums: Mapping[str, str]) -> str:
    """The lines of ``SHA256SUMS`` for files by name, in their order; ``read_sums`` reads them back."""
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sums.items())


def read_sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file that ``SHA256SUMS`` names, in its order; the files themselves are not read.

    Raises:
        FormatError: when the folder is no release or a line is not of the form ``<sha256>  <name>``.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise FormatError(f"{folder} holds no {SUMS}: it is not a finished release")
    if sums.stat().st_size > LONGEST:
        raise FormatError(f"{sums} is too long for a release: get the file again")
    lines = sums.read_bytes().decode(errors="replace").removesuffix("\n").split("\n")
    if lines == [""]:
        raise FormatError(f"{sums} names no file: get the file again")
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        sha256, name = match.groups() if (match := LINE.fullmatch(line)) else ("", "")
        # Not printable: a name must not move the cursor of whoever lists the release.
        if (
            Path(name).name != name
            or name in ("", ".", "..")
            or not name.isprintable()
            or len(name.encode()) > LONGEST_NAME
        ):
            raise FormatError(f"{sums} line {number} is not '<sha256>  <name>': get the file again")
        if name in found:
            raise FormatError(f"{sums} line {number} names {name} again: get the file again")
        found[name] = sha256
    return found
