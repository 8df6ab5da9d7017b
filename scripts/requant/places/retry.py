"""Trying again what failed for a passing reason."""

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from requant.ground.text import first_line

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)
T = TypeVar("T")

TRIES = 5
LONGEST = 300.0
"""Seconds that a server may ask to wait."""
USED_UP = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})(?!\d)", re.ASCII)


def retried(call: Callable[[], T], passes: Callable[[BaseException], bool]) -> T:
    """Call until it succeeds: five tries, with growing waits, as long as ``passes`` says of an error that it passes.

    What a server asks to wait is waited for, up to ``LONGEST`` seconds.

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
        before_sleep=_say,
        reraise=True,
    ):
        with attempt:
            return call()
    raise AssertionError("unreachable")


def _say(state: "RetryCallState") -> None:
    when = f" in {state.next_action.sleep:.0f} s" if state.next_action and state.next_action.sleep >= 1 else ""
    logger.warning("trying again%s: %s", when, first_line(state.outcome and state.outcome.exception()))


def _asked(error: BaseException | None) -> float:
    """Seconds that an answer asks to wait, 0 where it asks for nothing.

    Retry-After as a number (RFC 9110, 10.2.3), or, as the Hub writes it, when a used up quota begins anew
    (draft-ietf-httpapi-ratelimit-headers-09).
    """
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    found, quota = str(headers.get("Retry-After", "")), USED_UP.search(str(headers.get("RateLimit", "")))
    asked = found if found.isdecimal() else quota[1] if quota else "0"
    return min(float(asked), LONGEST)
