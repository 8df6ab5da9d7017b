"""Progress on the terminal: how far, how fast, how long still."""

import sys
from typing import Any

from tqdm import tqdm


def progress(total: int | None, what: str, unit: str, *, scale: bool = False) -> "tqdm[Any]":
    """Open a progress bar on standard error; on a file or pipe it speaks every 15 seconds only.

    ``scale`` shows thousands as k, M, G (for bytes). ``total`` is in ``unit``; None where it is not known.
    """
    quiet = not sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=scale,
        file=sys.stderr,
        mininterval=15 if quiet else 0.5,
        dynamic_ncols=not quiet,
        leave=True,
    )
