"""What every rule's script shares: its files by name, one log, and errors as one sentence instead of a traceback.

A job ends with a code of ``ExitCode``; Snakemake shows it and itself ends with 1.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from requant.ground.errors import BUG, sentence
from requant.ground.exit_codes import exit_code
from requant.ground.logs import log_to
from requant.ground.programs import Run


def paths(files: Any) -> SimpleNamespace:
    """The input or output of a rule as paths, by the names that the rule gives them; a list as a list of paths."""
    return SimpleNamespace(
        **{
            name: Path(value) if isinstance(value, str) else [Path(each) for each in value]
            for name, value in files.items()
        }
    )


@contextmanager
def job(log: str, threads: int = 1) -> Iterator[Run]:
    """Log the body to ``log``, and warnings to the terminal; what is raised ends the process with its code.

    An error is one sentence in both, a bug keeps its traceback.
    """
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    # The terminal has a line for the step already.
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING)
    # Appending, because tools write to the same file.
    handlers: list[logging.Handler] = [logging.FileHandler(path, mode="a", encoding="utf-8"), terminal]
    log_to(handlers)
    try:
        yield Run(threads, path)
    except Exception as error:
        said = sentence(error)
        logging.getLogger("requant").error("error: %s", said or BUG, exc_info=said is None)
        sys.exit(exit_code(error))
