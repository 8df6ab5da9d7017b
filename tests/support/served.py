"""``requant serve`` in a process of its own, as a person starts it; and servers that are waited for and always stopped."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

from requant.documents.records import read_record, write_record
from requant.ground.digests import digest_file
from support.command import CODE, PYTHONPATH

LAST_LINE = "Ctrl-C ends it."
BRIEF = "LLAMA_ARG_N_PREDICT"
"""How many tokens llama-server answers with where a request says nothing of it."""


@dataclass
class Serving:
    """A server that answers: what was said until then, and the process that the person started."""

    process: subprocess.Popen[str]
    said: str

    def fact(self, name: str) -> str:
        """What stands behind a word such as ``model`` at the beginning of a line."""
        [line] = [line for line in self.said.splitlines() if line.startswith(f"{name} ")]
        return line.removeprefix(name).strip()

    @property
    def url(self) -> str:
        return self.fact("base URL")

    @property
    def blocks(self) -> list[str]:
        """What may be copied: the command for a shell, and the Python program."""
        curl, _, python = self.said.partition("\n\ncurl ")[2].partition("\n\n")
        return [f"curl {curl}", python.removesuffix(LAST_LINE + "\n")]

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; exit code, and what was said since."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        return self.process.returncode, rest


@contextlib.contextmanager
def serving(*arguments: str | Path, cwd: Path, temporary: Path, port: int = 0) -> Iterator[Serving]:
    """Run ``requant serve`` until it answers; its temporary files lie below ``temporary``."""
    with started("serve", *arguments, "--port", str(port), cwd=cwd, temporary=temporary) as process:
        said = ""
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if line.rstrip() == LAST_LINE:
                break
        assert said.endswith(f"{LAST_LINE}\n"), said
        yield Serving(process, said)


@contextlib.contextmanager
def started(*arguments: str | Path, cwd: Path, temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """Run requant in a process and a group of its own, which is gone afterwards."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([PYTHONPATH, *sys.path]), "TMPDIR": str(temporary)}
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    with running(command, cwd, environment) as process:
        yield process


@contextlib.contextmanager
def running(command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a group of its own, which is gone afterwards."""
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def brief(folder: Path, built: Path) -> Path:
    """A folder with a toolchain whose llama-server ends an answer after a few tokens where a request says nothing of it.

    A random model would go on until there is no room for more.
    """
    record = built / "strict" / "bin" / "llama-server.json"
    toolchain = folder / "results" / "toolchains" / built.name
    program = toolchain / "strict" / "bin" / "llama-server"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\n{BRIEF}=16 exec {shlex.quote(str(record.with_suffix("")))} "$@"\n')
    program.chmod(0o755)
    binaries = {program.name: vars(digest_file(program))}
    write_record(program.with_suffix(".json"), {**read_record(record), "binaries": binaries})
    (toolchain / "native").symlink_to(built / "native")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a server is there, loaded or not."""
    try:
        return httpx2.get(url, timeout=10, trust_env=False).status_code > 0
    except httpx2.TransportError:
        return False


def wait_until_healthy(url: str, process: subprocess.Popen[str]) -> None:
    while httpx2.get(f"{url}/health", trust_env=False).status_code != 200 if answers(url) else True:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def gone(url: str, seconds: float = 10) -> bool:
    """Whether nobody answers there any more, soon."""
    deadline = time.monotonic() + seconds
    while answers(url):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def ended(pid: int, seconds: float = 10) -> bool:
    """Whether a process ends soon; one that nobody has waited for yet has ended."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    return True
