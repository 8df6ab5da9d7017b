"""Run a model's Python, and tests of it, where it can do no harm. ``docs/suites.md`` says against what, and what not.

Relied on are the Linux kernel (5.14 or newer) and nothing else: user, mount, process, network, IPC, host name and
cgroup namespaces, ``pivot_root``, resource limits and ``no_new_privs``, as ``jail.py`` sets them up. It works for every
user who may make user namespaces, and for root, whose programs run as nobody. Where the kernel, a container or a
security module forbids that, nothing is run.

In there the program sees the standard library of this Python and the system's shared libraries, read-only, and an
empty ``/tmp`` that is gone afterwards. It has no network, not even 127.0.0.1, no ``/proc``, no other programs, none of
the files, descriptors or environment variables of its user, and no rights. When it ends, so do all its children.
"""

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from requant.ground.errors import UnsupportedError

JAIL = Path(__file__).with_name("jail.py")
SECONDS = 10
"""Of wall time, and of processor time for each process."""
GRACE = 10
"""Seconds more for building the walls, after which all is killed from outside."""
MEMORY = 1 << 29
"""Bytes of address space for each process."""
PROCESSES = 8
"""At a time, threads included."""
FILE = 1 << 23
"""Bytes in the largest file."""
FOLDER = 1 << 24
"""Bytes in all files."""
OPEN_FILES = 64
OUTPUT = 1 << 16
"""Bytes of output; who writes more is killed."""
MAX_SOURCE = 1 << 20
"""Characters of a program."""


@dataclass(frozen=True)
class Result:
    """Whether the tests ran to their end, one line of why not, and the output (the model's words: never trust it)."""

    passed: bool
    reason: str
    output: str = ""


def run(program: str, tests: str, *, seconds: int = SECONDS) -> Result:
    """Run ``program`` and then ``tests``, which see its names; passed is what raises nothing and runs to the end.

    Raises:
        UnsupportedError: when this system cannot isolate it.
    """
    if sys.platform != "linux":
        raise UnsupportedError("code cannot be isolated on this system: evaluate suites with code_executes on Linux")
    if len(program) > MAX_SOURCE:
        return Result(False, f"the program has more than {MAX_SOURCE:,} characters")
    try:
        found, output = _watch(_order(program, tests, seconds), seconds + GRACE)
    except OSError as error:
        raise UnsupportedError(f"code cannot be run ({error.strerror or error}): make room, and run again") from error
    if "error" in found:
        raise UnsupportedError(
            f"code cannot be isolated here, there is {found['error']}: allow unprivileged user namespaces,"
            " or leave out items with code_executes"
        )
    text = output[:OUTPUT].decode(errors="replace")
    return Result(found.get("passed") is True, _reason(found, output, seconds, text), text)


@cache
def require_isolation() -> None:
    """Find out, once, whether code can be run.

    Raises:
        UnsupportedError: when this system cannot isolate it, or Python does not start in there.
    """
    result = run("", "")
    if not result.passed:
        raise UnsupportedError(
            f"this Python does not start in isolation ({result.reason}): use one that lies in a folder of its own"
        )


def _order(program: str, tests: str, seconds: int) -> dict[str, Any]:
    python = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    prefix = Path(sys.base_prefix).resolve()
    library = str(Path(os.__file__).resolve().parent)
    shown = {python, library, str(prefix / "lib"), str(prefix / "lib64")}
    shown |= {"/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64"}
    limits = {
        "RLIMIT_CPU": seconds,
        "RLIMIT_AS": MEMORY,
        # The builder and the keeper count too.
        "RLIMIT_NPROC": PROCESSES + 2,
        "RLIMIT_FSIZE": FILE,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }
    return {
        "program": program.encode(errors="replace").decode(),
        "tests": tests.encode(errors="replace").decode(),
        "python": python,
        # What holds another comes before it.
        "shown": sorted(shown, key=lambda path: (len(path), path)),
        "limits": limits,
        "seconds": seconds,
        "folder_size": FOLDER,
    }


def _watch(order: Mapping[str, Any], seconds: int) -> tuple[dict[str, Any], bytes]:
    """What the keeper reports, ``{}`` where it was killed, and what the program wrote (a byte more than it may)."""
    report, reporting = os.pipe()
    with tempfile.TemporaryFile() as asked, os.fdopen(report, "rb") as reports:
        asked.write(json.dumps(order).encode())
        asked.seek(0)
        try:
            launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", str(JAIL), str(reporting)],
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={},
                cwd="/",
                pass_fds=(reporting,),
                start_new_session=True,
            )
        finally:
            os.close(reporting)
        try:
            said, output = _listen(launcher, reports.fileno(), time.monotonic() + seconds)
        finally:
            # Its death is the death of all in there.
            launcher.kill()
            launcher.wait()
            if launcher.stdout:
                launcher.stdout.close()
    first = said.splitlines()[:1]
    return (json.loads(first[0]) if first else {}), output


def _listen(launcher: "subprocess.Popen[bytes]", report: int, deadline: float) -> tuple[bytes, bytes]:
    """Read report and output until both end, the time is over or there is too much output."""
    assert launcher.stdout is not None
    said = {report: b"", launcher.stdout.fileno(): b""}
    with selectors.DefaultSelector() as selector:
        for descriptor in said:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                data = os.read(key.fd, 1 << 16)
                said[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
            if len(said[launcher.stdout.fileno()]) > OUTPUT:
                break
    return said[report], said[launcher.stdout.fileno()]


def _reason(found: Mapping[str, Any], output: bytes, seconds: int, text: str) -> str:
    if len(output) > OUTPUT:
        return f"it wrote more than {OUTPUT:,} bytes"
    if found.get("passed"):
        return "the tests passed"
    if found.get("late") or not found:
        return f"it did not end within {seconds} seconds"
    lines = [line for line in text.splitlines() if line.strip()]
    if found["status"] == 0:
        return "it ended before the tests did"
    if found["status"] < 0:
        return f"it was killed (signal {-found['status']})"
    last = lines[-1] if lines else f"it ended with code {found['status']}"
    return "".join(letter if letter.isprintable() else "?" for letter in last[:200])
