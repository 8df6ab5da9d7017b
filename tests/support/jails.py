"""Programs in the sandbox, and a look at what is left of them when they are over."""

import contextlib
import os
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from requant.evaluation.behaviour.sandbox import Result, run

MARK = f"requant-jail-{os.getpid()}"
"""Stands in the command line of every process of a jail that the fixture ``jails`` made: others may run jails too."""
BODY = "import ctypes, os, socket, subprocess, sys, threading, time\n"


def attempt(program: str, tests: str = "", seconds: int = 3) -> Result:
    """Run a program that may use what ``BODY`` imports."""
    return run(BODY + textwrap.dedent(program), tests, seconds=seconds)


def jailed() -> set[str]:
    """Those of our processes that are in a jail, or build one: their ids and command lines."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            line = path.read_text(errors="replace")
            if MARK in line and path.parent.name != str(os.getpid()):
                found.add(f"{path.parent.name} {line}")
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> set[str]:
    """Wait until the condition holds, and give what is in a jail then."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return jailed()
