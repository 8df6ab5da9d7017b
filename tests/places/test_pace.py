"""requant.places.pace: no more bytes and requests than are allowed, over any stretch of time, by a clock that tests set."""

from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.places import hub_client, remote
from requant.places.pace import BURST, GRANTED, WINDOW, Clock, Grants, Rate
from requant.places.place import open_place
from requant.places.remote import Network
from support.clocks import SetClock
from support.hub import LoopbackHub

HUB = "https://huggingface.co/Qwen/Tiny/resolve/main/model.safetensors"


@given(
    st.integers(1, 10**9),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.floats(0, 5)), min_size=1, max_size=60),
)
def test_no_stretch_of_time_carries_more(most: int, steps: list[tuple[int, float]]) -> None:
    """Bytes come when they come, and the next ones only after the wait."""
    clock = SetClock()
    rate, came = Rate(most, clock.clock), []
    for size, pause in steps:
        clock.time += pause
        came.append((clock.time, size))
        rate.wait(size)
    for first, (begin, _) in enumerate(came):
        total = 0
        for end, size in came[first:]:
            # The piece that came last has not been waited for yet.
            assert total <= most * (end - begin + BURST) + most * 1e-6 * (end - begin + 1)
            total += size


def test_a_long_transfer_takes_as_long_as_it_may() -> None:
    clock = SetClock()
    rate = Rate(2_500_000, clock.clock)
    waited = sum(rate.wait(1 << 16) for _ in range(4000))
    assert waited == clock.time - 1000 == pytest.approx(4000 * (1 << 16) / 2_500_000 - BURST)
    clock.time += 3600
    assert rate.wait(2_500_000) == 0, "an idle hour is worth no more than a second"
    assert rate.wait(2_500_000) == pytest.approx(1)


def test_no_window_holds_more_requests_than_a_hub_grants() -> None:
    clock = SetClock()
    grants, asked = Grants(clock=clock.clock), []
    for number in range(3 * GRANTED + 7):
        clock.time += 0.01 * (number % 3)
        grants.wait(f"{HUB}?part={number}")
        asked.append(clock.time)
    for at, begin in enumerate(asked):
        assert bisect_left(asked, begin + WINDOW) - at <= GRANTED
    assert asked[-1] - asked[0] < 3 * WINDOW + 1, "and no slower than it must be"


def test_what_is_waited_for_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = SetClock()
    grants = Grants(10, clock=clock.clock)
    for _ in range(20):
        grants.wait(HUB)
    assert caplog.messages == [
        "huggingface.co grants 10 requests in 5 minutes, which are used up: going on in 300 seconds"
    ]
    assert clock.slept == [WINDOW]


@pytest.mark.parametrize(
    "url",
    [
        "https://hf.co/Qwen/Tiny/resolve/main/x",
        "https://huggingface.co/api/models/Qwen/Tiny?x=/resolve/",
        "https://cdn-lfs.huggingface.co/repos/1/resolve/2",
        "https://mirror.example/Qwen/Tiny/resolve/main/x",
        "http://[::1/resolve/",
    ],
)
def test_hosts_are_counted_apart_and_others_are_not(url: str) -> None:
    """Neither the Hub's storage, nor mirrors, of which nobody knows what they grant."""
    clock = SetClock()
    grants = Grants(10, clock=clock.clock)
    for _ in range(10):
        grants.wait(HUB)
        grants.wait(url)
    assert not clock.slept


def test_the_clock_is_the_real_one() -> None:
    clock = Clock()
    before = clock.now()
    clock.sleep(0.01)
    assert clock.now() - before >= 0.01


SHARD, CONFIG = "model.safetensors", "config.json"
DATA = bytes(range(256)) * 1024


@pytest.fixture
def tiny(clients: LoopbackHub, tmp_path: Path) -> LoopbackHub:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / SHARD).write_bytes(DATA)
    (tmp_path / "tiny" / CONFIG).write_bytes(b"{}")
    clients.add_model("Qwen/Tiny", tmp_path / "tiny")
    return clients


def test_waiting_for_the_rate_is_no_slow_server(tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1 kB/s, a sixteenth of what a server must give, all threads together."""
    clock = SetClock()
    monkeypatch.setattr(remote.time, "monotonic", clock.now)
    network = Network(jobs=1, rate=Rate(1000, clock.clock))
    with open_place(f"hf://Qwen/Tiny/{SHARD}", network) as place:
        assert place.open(SHARD).read(0, len(DATA)) == DATA
    assert sum(clock.slept) == pytest.approx(network.traffic.fetched / 1000 - BURST) and len(DATA) / 1000 > 200


def test_all_that_the_hub_is_asked_counts(
    tiny: LoopbackHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What its own client asks for and what is read in ranges, of all audits of this process; storage does not."""
    clock = SetClock()
    grants = Grants(5, ("127.0.0.1",), clock.clock)
    for room in (remote, hub_client):
        monkeypatch.setattr(room, "GRANTS", grants)
    for _ in range(6):
        with open_place("hf://Qwen/Tiny") as place:
            assert place.open(CONFIG).read(0, 2) == b"{}"
            assert place.open(SHARD).read(5, 300) + place.open(SHARD).read(9, 1) == DATA[5:305] + DATA[9:10]
    asked = len(tiny.seen("*/resolve/*"))
    assert asked == 6 * 3, "where each file lies, and one read"
    assert clock.slept == [WINDOW] * ((asked - 1) // 5)
    assert "127.0.0.1 grants 5 requests in 5 minutes, which are used up: going on in 300 seconds" in caplog.messages
