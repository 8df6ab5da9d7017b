"""Where something is kept between runs, and whether one may write there and has room, before anything is written."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from requant.ground.errors import DiskError
from requant.ground.text import in_units

# Logs, metadata and the file system itself.
RESERVE = 64 << 20


def kept(name: str) -> Path:
    """The folder of this name in the user's cache (``XDG_CACHE_HOME``); it need not exist yet.

    Raises:
        DiskError: when there is no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "requant" / name
    except RuntimeError as error:
        raise DiskError(f"there is no home folder to keep {name} in: set HOME, or XDG_CACHE_HOME") from error


def at_home(name: str) -> Path:
    """A path that may begin with ``~``; the home of somebody unknown stays as it is, and is not found."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - pathlib's raises RuntimeError


def require_space(folder: Path, needed: int, what: str) -> None:
    """Check that the disk of ``folder`` (which need not exist yet) has ``needed`` bytes and a small reserve.

    Raises:
        DiskError: naming what is to be written, what is needed and what is free.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + RESERVE:
        raise DiskError(
            f"{what} needs {in_units(needed + RESERVE)} on the disk of {existing}, but {in_units(free)} are free: "
            "make room, or run in a folder on a larger disk (snakemake --directory)"
        )


def require_own(folder: Path) -> None:
    """Check that one may read and write in ``folder``, where it exists; others may have made it, or it is read-only.

    Raises:
        DiskError: naming it and whose it is.
    """
    if os.access(folder, os.F_OK) and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        try:
            owner = folder.owner()
        except (KeyError, OSError):
            owner = f"user {folder.stat().st_uid}"
        raise DiskError(
            f"{folder.absolute()}, which belongs to {owner}, cannot be written here: run in a folder of your own "
            "(snakemake --directory), or let its owner share it (chmod)"
        )


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files in a folder, without following links out of it."""
    return sum(_sizes(path))


def _sizes(path: Path) -> Iterator[int]:
    if path.is_file() and not path.is_symlink():
        yield path.stat().st_size
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                found = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - of a hundred thousand files
            except OSError:
                continue  # gone meanwhile
            if stat.S_ISREG(found.st_mode):
                yield found.st_size
