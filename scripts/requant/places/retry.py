"""Trying again what failed for a passing reason."""

import logging
from collections.abc import Callable
from typing import TypeVar

from requant.ground.text import first_line

logger = logging.getLogger(__name__)
T = TypeVar("T")

TRIES = 5


def retried(call: Callable[[], T], passes: Callable[[BaseException], bool]) -> T:
    """Call until it succeeds: five tries, with growing waits, as long as ``passes`` says of an error that it passes.

    Raises:
        Exception: whatever the last call raised.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

    for attempt in Retrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(multiplier=0.5, max=20),
        retry=retry_if_exception(passes),
        before_sleep=lambda state: logger.info(
            "trying again: %s", first_line(state.outcome and state.outcome.exception())
        ),
        reraise=True,
    ):
        with attempt:
            return call()
    raise AssertionError("unreachable")
