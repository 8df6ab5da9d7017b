"""How fast servers are asked: no more bytes in a second than the user allows, no more requests than a hub grants.

The Hugging Face Hub counts the requests of every caller for addresses with ``/resolve/`` in them, in windows of five
minutes; what it redirects to, a storage, is not counted (https://huggingface.co/docs/hub/rate-limits). What its mirrors
and other hubs grant they say when it is used up: ``retry`` waits then.
"""

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)

GRANTED, WINDOW = 3000, 300.0
"""Requests, and the seconds they are counted in, of who gives no token; with one they are more."""
HUB = ("huggingface.co", "hf.co")
COUNTED = "/resolve/"
BURST = 1.0
"""Seconds: what was not used in them may be used later."""
WORTH_SAYING = 10.0


@dataclass(frozen=True)
class Clock:
    """What time it is, in seconds from somewhere on, and how to let some pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = lambda seconds: time.sleep(seconds)


class Rate:
    """So many bytes per second, for all threads together: a bucket that holds those of ``BURST`` seconds."""

    def __init__(self, most: int, clock: Clock | None = None) -> None:
        self.most, self._clock = most, clock or Clock()
        self._lock, self._paid = threading.Lock(), float("-inf")

    def wait(self, size: int) -> float:
        """Wait as long as ``size`` bytes, which have come, take at this rate; gives the seconds waited."""
        with self._lock:
            now = self._clock.now()
            self._paid = max(self._paid, now - BURST) + size / self.most
            seconds = max(self._paid - now, 0.0)
        if seconds:
            self._clock.sleep(seconds)
        return seconds


class Grants:
    """Requests that this process has sent of late: ``granted`` in ``WINDOW`` seconds to each of ``hosts``."""

    def __init__(self, granted: int = GRANTED, hosts: Sequence[str] = HUB, clock: Clock | None = None) -> None:
        self.granted, self.hosts, self._clock = granted, hosts, clock or Clock()
        self._lock = threading.Lock()
        self._asked: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=granted))
        self._said = float("-inf")

    def wait(self, url: str) -> None:
        """Wait until one more request for an address may be sent; says so where that takes long."""
        host = next((each for each in self.hosts if _is_of(url, each)), None)
        if host is None:
            return
        with self._lock:
            asked, now = self._asked[host], self._clock.now()
            at = max(now, asked[0] + WINDOW) if len(asked) == self.granted else now
            asked.append(at)
            say = at - now > 1 and at - self._said > WORTH_SAYING
            self._said = at if say else self._said
        if say:
            logger.warning(
                "%s grants %s requests in %.0f minutes, which are used up: going on in %.0f seconds",
                host, f"{self.granted:,}", WINDOW / 60, at - now,
            )  # fmt: skip
        if at > now:
            self._clock.sleep(at - now)


def _is_of(url: str, host: str) -> bool:
    """Whether an address has this host, and the counted part in its path."""
    with suppress(ValueError):  # no address: whoever asks for it says so
        parts = urlsplit(url)
        return parts.hostname == host and COUNTED in parts.path
    return False


GRANTS = Grants()
"""A hub counts callers, not audits: one for all that this process asks for."""
