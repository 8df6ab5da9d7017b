"""A clock that tests set: nothing is waited for, and how long it would have been is known. And one that they wait by."""

from __future__ import annotations

import time
from collections.abc import Callable

from requant.places.pace import Clock


class SetClock:
    """Time that passes only where somebody sleeps; ``slept`` are the waits."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    @property
    def clock(self) -> Clock:
        return Clock(self.now, self.sleep)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what another thread or process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
