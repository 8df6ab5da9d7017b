"""What Linux lets a container have of the machine: its share of the processors, and its memory.

Both versions of control groups are read, https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1. A limit
holds for all groups below, so the least of a group's and those above it counts.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("proc/self/cgroup")
MOUNTS = Path("sys/fs/cgroup")
ROOT = Path("/")
UNLIMITED = 1 << 60
"""From here on, version 1 means no limit with its number of bytes."""


def cpu_quota(root: Path = ROOT) -> float | None:
    """How many processors' time this process may use; ``None`` where nothing but the machine limits it."""
    found = list[float]()
    for folder in _folders(root, "cpu"):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            found.append(int(quota) / int(period))
        with suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{part}_us").read_text() for part in ("quota", "period"))
            found.append(int(quota) / int(period))
    return min((share for share in found if share > 0), default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """How many bytes this process and its like may use; ``None`` where nothing but the machine limits it."""
    found = list[int]()
    for folder in _folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                found.append(int((folder / name).read_text()))
    return min((size for size in found if 0 < size < UNLIMITED), default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups that may limit it, and those above; a container sees the end of its own."""
    with suppress(OSError):
        for line in (root / GROUPS).read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            group = Path(path.lstrip("/"))
            for mount in (MOUNTS / controllers, MOUNTS) if controllers else (MOUNTS, MOUNTS / "unified"):
                yield from (root / mount / folder for folder in (group, *group.parents))
