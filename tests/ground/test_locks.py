"""requant.ground.locks: one holder at a time, however it ends; a file system that cannot do it is named."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from requant.ground.errors import DiskError
from requant.ground.locks import WITHOUT, hold, in_turn, make_once
from support.command import PYTHONPATH

HOLDER = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"
MAKER = """
import sys, time
from pathlib import Path
from requant.ground.locks import make_once
record, made = map(Path, sys.argv[1:])

def make():
    with made.open("a") as file:
        file.write("made\\n")
    time.sleep(0.5)
    record.touch()

make_once(record, make)
assert record.exists()
"""


def test_a_lock_ends_with_the_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder,
        path.open("w") as file,
    ):
        assert holder.stdout and holder.stdout.readline()
        assert not hold(file.fileno(), path, wait=False)
        holder.kill()
        holder.wait()
        assert hold(file.fileno(), path, wait=False)
        assert hold(file.fileno(), path, wait=True)


@pytest.mark.parametrize("number", WITHOUT, ids=errno.errorcode.get)
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        (tmp_path / "lock").open("w") as file,
        pytest.raises(DiskError, match=r"lock has no locks \(.+\), so two jobs"),
    ):
        hold(file.fileno(), tmp_path / "lock", wait=False)


def test_of_many_at_a_time_one_makes_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKER, str(tmp_path / "new" / "record.json"), str(tmp_path / "made")]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    makers = [subprocess.Popen(command, env=environment) for _ in range(4)]
    assert [maker.wait() for maker in makers] == [0] * 4
    assert (tmp_path / "made").read_text() == "made\n"


def test_what_fails_is_tried_again(tmp_path: Path) -> None:
    def fail() -> None:
        raise DiskError("full")

    record = tmp_path / "record.json"
    with pytest.raises(DiskError, match="full"):
        make_once(record, fail)
    make_once(record, record.touch)
    assert record.exists()


def test_what_else_the_system_refuses_is_said_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        number = file.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        hold(number, tmp_path / "lock", wait=True)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DiskError, match=r"/file/\.record\.lock cannot be written \(.*\): check that folder"),
        in_turn(tmp_path / "file" / "record"),
    ):
        pass
