"""Signals that end a program, held back where ending would leave something half made."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Windows has not all of them."""


@contextmanager
def held() -> Iterator[None]:
    """Do the body as a whole: a signal that comes meanwhile is handled after it, also where it fails.

    Only the main thread gets any.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in ENDS}
    # Whoever ignores a signal, or leaves it to the system, wants nothing else.
    ours = [number for number, handler in before.items() if callable(handler)]
    for number in ours:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        for number in came:
            signal.raise_signal(number)
