"""Progress on the terminal: how far, how fast, how long still."""

import sys
from typing import Any, TextIO

from tqdm import tqdm

RARELY = 60.0
"""Seconds between two lines where nobody watches."""


class _WholeLines:
    """What a log wants: every state on a line of its own, without carriage returns."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            self._file.write(f"{line}\n")

    def flush(self) -> None:
        self._file.flush()


def progress(total: int | None, what: str, unit: str, *, scale: bool = False) -> "tqdm[Any]":
    """Open a progress bar on standard error, gone when it ends; a file or pipe gets a line a minute.

    ``scale`` shows thousands as k, M, G (for bytes). ``total`` is in ``unit``; None where it is not known.
    """
    watched = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=scale,
        file=sys.stderr if watched else _WholeLines(sys.stderr),
        mininterval=0.5 if watched else RARELY,
        delay=0 if watched else RARELY,
        dynamic_ncols=watched,
        leave=not watched,
    )
