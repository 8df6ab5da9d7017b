"""Which NVIDIA GPUs this machine shows, as ``nvidia-smi`` tells, which comes with the driver."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from requant.ground.errors import ToolError
from requant.ground.programs import capture

PROGRAM = "nvidia-smi"
QUERY = ("--query-gpu=name,compute_cap,memory.total,uuid", "--format=csv,noheader,nounits")
LINE = re.compile(r"(?P<name>.+), (?P<capability>[0-9]+\.[0-9]+), (?P<memory>.+), (?P<uuid>[^,]+)")
VISIBLE = "CUDA_VISIBLE_DEVICES"
PART = "MIG-"
"""How a part of a GPU is named, of which ``nvidia-smi`` does not say here whose it is."""
SECONDS = 20.0
"""A driver that sleeps wakes up within these."""


@dataclass(frozen=True)
class GPU:
    """One GPU: its name, its compute capability such as ``8.9``, and its memory in bytes.

    ``memory`` is ``None`` where it has none of its own, as a GB10.
    """

    name: str
    capability: str
    memory: int | None

    @property
    def variant(self) -> str:
        """The variant of llama.cpp that is built for it.

        >>> GPU("NVIDIA GB10", "12.1", None).variant
        'cuda-sm121'
        """
        return f"cuda-sm{self.capability.replace('.', '')}"


def gpus() -> list[GPU]:
    """Every GPU that may be used, in the order of ``CUDA_VISIBLE_DEVICES``; none where there is no driver.

    Raises:
        ToolError: when there is a driver that does not tell.
    """
    if shutil.which(PROGRAM) is None:
        return []
    said = capture([PROGRAM, *QUERY], Path.cwd(), seconds=SECONDS).splitlines()
    found = [match for line in said if (match := LINE.fullmatch(line.strip()))]
    if len(found) < len(said):
        raise ToolError(f"{PROGRAM} tells of no compute capability: update the NVIDIA driver")
    shown = [GPU(match["name"], match["capability"], _mebibytes(match["memory"])) for match in found]
    return [shown[place] for place in visible(os.environ.get(VISIBLE), [match["uuid"] for match in found])]


def visible(asked: str | None, uuids: Sequence[str]) -> list[int]:
    """The places of the GPUs that CUDA shows, for a value of ``CUDA_VISIBLE_DEVICES``.

    An entry is a place, or the beginning of one UUID. An entry that names no GPU ends the list; one that stands there
    twice empties it. All are shown where a part of a GPU is named.

    >>> visible("1,GPU-a", ["GPU-ab", "GPU-cd"]), visible("0,7,1", ["GPU-ab", "GPU-cd"])
    ([1, 0], [0])
    """
    every = list(range(len(uuids)))
    if asked is None or asked.startswith(PART):
        return every
    found: list[int] = []
    for entry in asked.split(","):
        name = entry.strip()
        meant = [place for place in every if name == str(place) or (name and uuids[place].startswith(name))]
        if len(meant) != 1:
            break
        if meant[0] in found:
            return []
        found += meant
    return found


def _mebibytes(text: str) -> int | None:
    return int(text) << 20 if text.isascii() and text.isdigit() else None
