"""Who may work where: locks that end with the process that holds them, on this machine's disk and on shared ones."""

import errno
from pathlib import Path

from requant.ground.errors import DiskError

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
