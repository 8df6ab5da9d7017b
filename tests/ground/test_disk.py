"""requant.ground.disk: no room is noticed before the first byte, and said in units for people."""

import re
from pathlib import Path

import pytest

from requant.ground.disk import at_home, require_space
from requant.ground.errors import DiskError
from requant.ground.text import in_units


def test_homes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name, path in (("~/a", "/home/me/a"), ("~nobody-at-all/a", "~nobody-at-all/a"), ("a/~", "a/~"), ("", ".")):
        assert at_home(name) == Path(path)


def test_enough_room(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "there" / "yet", 1, "a test")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, relative: bool) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("results/x") if relative else tmp_path / "results" / "x"
    with pytest.raises(DiskError) as error:
        require_space(folder, 10**21, "the weights")
    said = str(error.value)
    assert said.startswith("the weights needs 1000000000.0 TB on the disk of ")
    assert re.search(r", but [\d.]+ [kMGT]?B are free: make room, or run in a folder on a larger disk", said)
    assert str(tmp_path) in said


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2_497_281_152, "2.5 GB"),
        (10**12, "1.0 TB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_units(size: int, words: str) -> None:
    assert in_units(size) == words
