"""What a run of the workflow uses, looked at from outside: disk, and the lives of llama.cpp's programs."""

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

PERIOD = 0.25
TOOL = "llama-"


@dataclass
class Sampler:
    """Samples from ``with`` on until its end.

    ``disk`` is the most that ``folder`` took, in bytes, a file with several names counted once. ``tools`` are the lives
    of programs of llama.cpp that this process's descendants started: when they were seen first and last. ``loads`` are
    the system's load averages: of more than there are cores, something else was at work.
    """

    folder: Path
    disk: int = 0
    tools: dict[int, tuple[float, float]] = field(default_factory=dict)
    loads: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PERIOD):
            self.disk = max(self.disk, disk_used(self.folder))
            self.loads.append(os.getloadavg()[0])
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.name().startswith(TOOL):
                        now = time.time()
                        self.tools[process.pid] = (self.tools.get(process.pid, (now, now))[0], now)
                except psutil.Error:
                    continue  # it ended meanwhile

    def tool_seconds(self, begin: float, end: float) -> float:
        """How long programs of llama.cpp ran that were seen first between these two times."""
        return sum(last - first for first, last in self.tools.values() if begin <= first < end)


def disk_used(folder: Path) -> int:
    """What the files below ``folder`` take on the disk, in bytes; links to elsewhere are not followed."""
    found: dict[int, int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                status = Path(place, name).lstat()
            except FileNotFoundError:
                continue  # a file of a step at work
            found[status.st_ino] = 512 * status.st_blocks
    return sum(found.values())
