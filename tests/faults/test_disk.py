"""A disk that is full, in every step."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from support.faults import LIMIT, SEED, Book, Undisturbed, begun, sentences, smallest_recipe
from support.workplace import Workplace, prepare

SIZE = 800 << 20


@pytest.fixture
def small(demo: Workplace, tmp_path: Path) -> Iterator[Workplace]:
    """A folder on a disk of its own, in memory."""
    disk = tmp_path / "small"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here (make test-faults may): {done.stderr}")
    yield prepare(disk / "work", smallest_recipe())
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(ballast: Path, leave: int) -> None:
    """Take all the room but ``leave`` bytes, as a neighbour may."""
    free = os.statvfs(ballast.parent)
    more = free.f_bavail * free.f_frsize - leave
    if more > 0:
        with ballast.open("ab") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), file.tell(), more)


def test_a_full_disk_in_every_step(small: Workplace, undisturbed: Undisturbed, book: Book) -> None:
    random, steps, ballast = Random(SEED), [*undisturbed.steps], small.folder / "ballast"
    for at, step in enumerate(steps):
        since, leave = time.time_ns(), random.choice((0, 4096, 1 << 20, 16 << 20))
        delay = random.choice((0, random.uniform(0, undisturbed.steps[step])))
        with small.start() as process:
            try:
                hit, limit = None, time.monotonic() + LIMIT
                while process.poll() is None:
                    assert time.monotonic() < limit, "the run hangs"
                    if hit is None and (hit := begun(small, steps[at:], since)):
                        time.sleep(delay)
                    if hit:
                        fill(ballast, leave)
                    time.sleep(0.02)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate(timeout=60)
        ballast.unlink(missing_ok=True)
        assert not undisturbed.unlike(small)
        if process.returncode:
            assert sentences(output), output
        if hit:
            book.note(f"full disk: {hit}", stopped=process.returncode != 0)
        if not process.returncode:
            # What is left was enough: once more from the start, to be hit in the steps that follow.
            shutil.rmtree(small.results)
    small.run()
    assert not undisturbed.lost(small)
