"""One target in a process of its own that may take so much time and memory, and no more."""

import multiprocessing
import os
import resource
import signal
import sys
import traceback
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

from fuzz.seeds import seeds
from fuzz.targets import TARGETS

MEMORY = 512 << 20
"""Bytes beyond what the process, with the input in it, took at its start."""
SECONDS = 10
CEILING = 4 << 30
"""Bytes of addresses beyond the start, so that no bomb fills the machine; threads reserve some that they never use."""

# A process without the leavings of other tests, whose free memory would hide what is taken.
SERVER = multiprocessing.get_context("forkserver")


# Done once in the server: what is imported or kept at the first use of a target is no part of what an input costs.
for name, function in TARGETS.items():
    function(seeds(name)[0])


def limited(target: str, data: bytes) -> tuple[str, float, int]:
    """Run ``target`` on ``data``: what went wrong, the seconds of processor time, and the peak of memory in bytes."""
    # Before Python 3.14 the server does not look where this process finds its modules.
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.set_forkserver_preload(["fuzz.targets", "fuzz.limits"])
        forkserver.ensure_running()
    ours, theirs = SERVER.Pipe(duplex=False)
    child = SERVER.Process(target=_run, args=(theirs, target, data), daemon=True)
    child.start()
    theirs.close()
    try:
        problem, seconds, peak = ours.recv()
    except EOFError:
        child.join()
        how = signal.Signals(-child.exitcode).name if (child.exitcode or 0) < 0 else child.exitcode
        problem, seconds, peak = f"the process ended: {how}", float(SECONDS), MEMORY
    child.join()
    ours.close()
    return problem, seconds, peak


def _run(answer: Connection, target: str, data: bytes) -> None:
    addresses, resident = (
        int(pages) * resource.getpagesize() for pages in Path("/proc/self/statm").read_text().split()[:2]
    )
    resource.setrlimit(resource.RLIMIT_AS, (addresses + CEILING, resource.RLIM_INFINITY))
    before = _seconds()
    resource.setrlimit(resource.RLIMIT_CPU, (int(before) + SECONDS + 1, resource.RLIM_INFINITY))
    problem = ""
    try:
        TARGETS[target](data)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test will show it
        problem = "".join(traceback.format_exception(error))[-2000:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - resident
    answer.send((problem, _seconds() - before, peak))


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
