"""Who may work where: locks that end with the process that holds them, on this machine's disk and on shared ones."""

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from requant.ground.errors import DiskError

logger = logging.getLogger(__name__)
WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What Lustre says when it is mounted without locks, and NFS without its lock service."""


def hold(file: int, path: Path, *, wait: bool) -> bool:
    """Lock the open ``file`` at ``path`` until its last descriptor closes, in children too; false if another has it.

    The kernel lets go of it however the process ends. NFS and cluster file systems hold it for all their machines, and
    let go when a machine has been silent for a while.

    Raises:
        DiskError: when the file system has no locks.
    """
    # Windows has none, and nothing is locked there.
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT:
            raise
        raise DiskError(
            f"the file system of {path} has no locks ({error.strerror}), so two jobs could write one file: mount it "
            "with them (Lustre: -o flock; NFS: with lockd), or work on another one"
        ) from error
    return True


@contextmanager
def in_turn(path: Path) -> Iterator[int]:
    """Work at ``path`` while no other does: the others wait. Gives the descriptor of the lock, a file beside it.

    Raises:
        DiskError: when nothing can be written there, or the file system has no locks.
    """
    lock_path = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = lock_path.open("w")
    except OSError as error:
        raise DiskError(
            f"{lock_path} cannot be written ({error.strerror}): check that folder and your rights"
        ) from error
    with file as lock:
        if not hold(lock.fileno(), lock_path, wait=False):
            logger.info("waiting for another run that still works at %s", path)
            hold(lock.fileno(), lock_path, wait=True)
        yield lock.fileno()


def make_once(record: Path, make: Callable[[], None]) -> None:
    """Let ``make`` write ``record`` where it is missing. Of several at a time one makes it, the others find it made.

    Raises:
        DiskError: when the file system has no locks.
    """
    if record.exists():
        return
    with in_turn(record):
        if not record.exists():
            make()
