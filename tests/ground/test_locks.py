"""requant.ground.locks: one holder at a time, however it ends; a file system that cannot do it is named."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from requant.ground.errors import DiskError
from requant.ground.locks import WITHOUT, hold

HOLDER = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"


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


def test_what_else_the_system_refuses_is_said_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        number = file.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        hold(number, tmp_path / "lock", wait=True)
