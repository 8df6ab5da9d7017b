"""Which NVIDIA GPUs this machine shows, as ``nvidia-smi`` tells, which comes with the driver."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from requant.ground.errors import ToolError
from requant.ground.programs import capture

PROGRAM = "nvidia-smi"
QUERY = ("--query-gpu=name,compute_cap,memory.total", "--format=csv,noheader,nounits")
LINE = re.compile(r"(?P<name>.+), (?P<capability>[0-9]+\.[0-9]+), (?P<memory>.+)")
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
    """Every GPU that may be used; none where there is no driver, or ``CUDA_VISIBLE_DEVICES`` hides all.

    Raises:
        ToolError: when there is a driver that does not tell.
    """
    if shutil.which(PROGRAM) is None or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return []
    said = capture([PROGRAM, *QUERY], Path.cwd(), seconds=SECONDS).splitlines()
    found = [match for line in said if (match := LINE.fullmatch(line.strip()))]
    if len(found) < len(said):
        raise ToolError(f"{PROGRAM} tells of no compute capability: update the NVIDIA driver")
    return [GPU(match["name"], match["capability"], _mebibytes(match["memory"])) for match in found]


def _mebibytes(text: str) -> int | None:
    return int(text) << 20 if text.isascii() and text.isdigit() else None
