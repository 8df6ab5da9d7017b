"""requant.places.retry: a server that asks to wait is waited for."""

from types import SimpleNamespace

import pytest

from requant.places.retry import LONGEST, TRIES, retried


class BusyError(Exception):
    """An answer that asks to come back later."""

    def __init__(self, asked: str) -> None:
        super().__init__("busy")
        self.response = SimpleNamespace(headers={"Retry-After": asked})


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("20", 20, 20), ("100000", LONGEST, LONGEST), ("Wed, 21 Oct 2026 07:28:00 GMT", 0, 8), ("", 0, 8), ("-1", 0, 8)],
)
def test_what_is_asked_for_is_waited(monkeypatch: pytest.MonkeyPatch, asked: str, least: float, most: float) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)

    def call() -> None:
        raise BusyError(asked)

    with pytest.raises(BusyError):
        retried(call, lambda error: isinstance(error, BusyError))
    assert len(waits) == TRIES - 1
    assert all(least <= wait <= most for wait in waits), waits
