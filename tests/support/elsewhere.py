"""A program by itself: `requant` where Python has nothing but what it has on every system, Windows among them.

python elsewhere.py ARGUMENTS
"""

import os
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

MODULES = frozenset({"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix_ipc", "syslog", "readline"})
NAMES = (
    "pread", "preadv", "pwrite", "sched_getaffinity", "O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "statvfs",
    "fork", "getuid", "geteuid", "getgid", "getloadavg", "killpg", "setsid", "uname", "mkfifo", "sync", "wait4",
    "posix_fallocate", "posix_fadvise", "sendfile", "fchmod", "chown", "lchown",
)  # fmt: skip
LOADED = (
    "shutil",
    "subprocess",
    "tempfile",
    "numpy",
    "click",
    "rich.console",
    "tqdm",
    "jsonschema",
    "yaml",
    "wasmtime",
)


class Missing(MetaPathFinder):
    """Finds none of these modules."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> None:
        """Refuse what only POSIX has."""
        if name in MODULES:
            raise ImportError(f"{name} is not on every system")


def main() -> None:
    """Take away what only POSIX has, then run the command."""
    # Python's own modules and other people's packages have their own ways on other systems: they come first.
    for name in LOADED:
        import_module(name)
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Missing())
    for name in NAMES:
        if hasattr(os, name):
            delattr(os, name)
    from requant.cli.main import main as command

    command(prog_name="requant")


if __name__ == "__main__":
    main()
