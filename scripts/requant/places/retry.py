"""Trying again what failed for a passing reason."""

import logging
from collections.abc import Callable
from typing import TypeVar

from requant.ground.text import first_line

logger = logging.getLogger(__name__)
T = TypeVar("T")

TRIES = 5
LONGEST = 300.0
"""Seconds that a server may ask to wait."""


def retried(call: Callable[[], T], passes: Callable[[BaseException], bool]) -> T:
    """Call until it succeeds: five tries, with growing waits, as long as ``passes`` says of an error that it passes.

    A server's Retry-After is waited for, up to ``LONGEST`` seconds.

    Raises:
        Exception: whatever the last call raised.
    """
    from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

    growing = wait_exponential(multiplier=0.5, max=20)

    def wait(state: RetryCallState) -> float:
        return max(growing(state), _asked(state.outcome.exception() if state.outcome else None))

    for attempt in Retrying(
        stop=stop_after_attempt(TRIES),
        wait=wait,
        retry=retry_if_exception(passes),
        before_sleep=lambda state: logger.warning(
            "trying again: %s", first_line(state.outcome and state.outcome.exception())
        ),
        reraise=True,
    ):
        with attempt:
            return call()
    raise AssertionError("unreachable")


def _asked(error: BaseException | None) -> float:
    """Seconds that an answer asks to wait, as a number (RFC 9110, 10.2.3); 0 where it asks for nothing."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    found = str(headers.get("Retry-After", ""))
    return min(float(found), LONGEST) if found.isdecimal() else 0.0
