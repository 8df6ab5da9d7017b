"""What Linux tells of the processor in /proc, in one place for all that name it."""

import platform
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")


class Processor(NamedTuple):
    """Its name, ``unknown`` where nobody tells, as on ARM64; and what it can do, by the names of /proc/cpuinfo."""

    name: str
    flags: frozenset[str]


def read_processor(cpuinfo: Path = CPUINFO) -> Processor:
    """The first processor that is told of; all of a machine are taken for alike."""
    known = read_facts(cpuinfo)
    name = known.get("model name") or platform.processor() or "unknown"
    return Processor(name, frozenset(known.get("flags", known.get("Features", "")).split()))


def read_facts(path: Path) -> dict[str, str]:
    """The first value of each key of a file in /proc; nothing where there is no such file."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for key, colon, value in (line.partition(":") for line in lines):
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found
