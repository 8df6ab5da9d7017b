"""requant.places.retry: a server that asks to wait is waited for."""

from types import SimpleNamespace

import pytest

from requant.places.retry import LONGEST, TRIES, retried


class BusyError(Exception):
    """An answer that asks to come back later."""

    def __init__(self, header: str, asked: str) -> None:
        super().__init__("busy")
        self.response = SimpleNamespace(headers={header: asked})


AFTER, QUOTA = "Retry-After", "RateLimit"


@pytest.mark.parametrize(
    ("header", "asked", "least", "most"),
    [
        (AFTER, "20", 20, 20),
        (AFTER, "100000", LONGEST, LONGEST),
        (AFTER, "Wed, 21 Oct 2026 07:28:00 GMT", 0, 8),
        (AFTER, "", 0, 8),
        (AFTER, "-1", 0, 8),
        (QUOTA, '"resolvers";r=0;t=55', 55, 55),
        (QUOTA, '"resolvers";r=17;t=55', 0, 8),
        (QUOTA, '"resolvers";r=0;t=99999999999', 0, 8),
    ],
)
def test_what_is_asked_for_is_waited(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    header: str,
    asked: str,
    least: float,
    most: float,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)

    def call() -> None:
        raise BusyError(header, asked)

    with pytest.raises(BusyError):
        retried(call, lambda error: isinstance(error, BusyError))
    assert len(waits) == TRIES - 1
    assert all(least <= wait <= most for wait in waits), waits
    assert f"trying again in {waits[-1]:.0f} s: busy" in caplog.text
