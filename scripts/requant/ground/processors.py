"""What Linux tells of the processor, in one place for all that name it."""

import platform
from pathlib import Path
from typing import NamedTuple

from requant.ground.errors import ToolError
from requant.ground.programs import capture

CPUINFO = Path("/proc/cpuinfo")


class Processor(NamedTuple):
    """Its name, ``unknown`` where nobody tells; and what it can do, by the names of /proc/cpuinfo."""

    name: str
    flags: frozenset[str]


def read_processor(cpuinfo: Path = CPUINFO) -> Processor:
    """The first processor that is told of; all of a machine are taken for alike."""
    known = read_facts(cpuinfo)
    name = known.get("model name") or _by_lscpu() or platform.processor() or "unknown"
    return Processor(name, frozenset(known.get("flags", known.get("Features", "")).split()))


def _by_lscpu() -> str:
    """The name where /proc has numbers alone, as on ARM64: lscpu knows what they stand for."""
    try:
        return _facts(capture(["lscpu"], Path.cwd())).get("Model name", "")
    except ToolError:
        return ""


def read_facts(path: Path) -> dict[str, str]:
    """The first value of each key of a file in /proc; nothing where there is no such file."""
    try:
        return _facts(path.read_text(errors="replace"))
    except OSError:
        return {}


def _facts(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, colon, value in (line.partition(":") for line in text.splitlines()):
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found
