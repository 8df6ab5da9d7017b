"""A ``llama-server`` on a free loopback port: started, waited for, and always stopped."""

import ctypes
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from requant.ground.errors import SourceError, ToolError
from requant.ground.programs import WorkFolder, clean_environment, work_folder
from requant.toolchain.backend import Backend
from requant.toolchain.instrument import Instrument
from requant.toolchain.serving import SERVER, serving_flags

LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
SILENCE_SECONDS = 600.0
"""A server that is still loading says something more often than this."""
STOP_SECONDS = 10.0
DYING_SECONDS = 0.2
"""A process of many threads that was killed is not gone at once."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Server:
    """A server that is ready: its address, the seconds from its start until then, and the processor's ``features``."""

    url: str
    load_seconds: float
    features: list[str]


@contextmanager
def serve(model: Path, instrument: Instrument, context: int) -> Iterator[Server]:
    """Serve a model with the card's flags on llama-server, the ``instrument``; ``context`` is the card's, in tokens.

    Raises:
        ToolError: when the server ends, hangs, or runs on another backend.
    """
    log = instrument.run.log
    with work_folder(log.parent / f"work-{log.stem}") as work:
        work.link(model, "model.gguf")
        instrument.backend.link(work)
        program = str((instrument.program.folder / SERVER).resolve())
        command = [
            program, "-lv", "4", "-m", "model.gguf", *serving_flags(context), "--host", "127.0.0.1", "--port", "0",
            "--threads", str(instrument.run.threads), "--no-webui",
        ]  # fmt: skip
        begun = time.monotonic()
        process = _start(command, work)
        said = _Listener(process, log)
        try:
            url = said.address()
            _wait_until_healthy(url, process, said, log)
            said.backend.prove(SERVER, instrument.backend, work.path)
            with _while_it_runs(process, log):
                yield Server(url, time.monotonic() - begun, said.backend.features)
        finally:
            _stop(process)
            said.join()


class _Listener(threading.Thread):
    """Reads what the server says, as long as it runs."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        super().__init__(daemon=True)
        self.backend = Backend()
        self.spoke = time.monotonic()
        self._process, self._log = process, log
        self._known = threading.Event()
        self._url: str | None = None
        self.start()

    def run(self) -> None:
        assert self._process.stdout is not None
        with self._log.open("a", encoding="utf-8") as file:
            for line in self._process.stdout:
                self.spoke = time.monotonic()
                file.write(line)
                file.flush()
                self.backend.watch(line.rstrip("\n"))
                if match := LISTENING.search(line):
                    self._url = match[1]
                    self._known.set()
        self._known.set()

    def address(self) -> str:
        """Where the server listens; waits until it says so."""
        while not self._known.wait(1):
            if time.monotonic() - self.spoke > SILENCE_SECONDS:
                raise ToolError(f"{SERVER} hangs while it loads the model; its log is {self._log}")
        if self._url is None:
            raise ToolError(f"{SERVER} ended before it served anything; its log is {self._log}")
        return self._url


def _start(command: Sequence[str], work: WorkFolder) -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            list(command), cwd=work.path, env=clean_environment({}), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", pass_fds=(work.lock,),
            # Nobody would ever stop a server whose owner was killed.
            preexec_fn=_die_with_parent,
        )  # fmt: skip
    except OSError as error:
        raise ToolError(f"{command[0]} cannot be started ({error.strerror}): build it again") from error


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_until_healthy(url: str, process: "subprocess.Popen[str]", said: _Listener, log: Path) -> None:
    with httpx2.Client(timeout=10, trust_env=False) as client:
        while True:
            if process.poll() is not None:
                raise ToolError(f"{SERVER} ended while it loaded the model; its log is {log}")
            try:
                if client.get(f"{url}/health").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            if time.monotonic() - said.spoke > SILENCE_SECONDS:
                raise ToolError(f"{SERVER} hangs while it loads the model; its log is {log}")
            time.sleep(0.05)


@contextmanager
def _while_it_runs(process: "subprocess.Popen[str]", log: Path) -> Iterator[None]:
    """Raise that the server ended, if it did, in place of what that looked like to whoever asked it."""
    ended = ToolError(f"{SERVER} ended while it was asked; its log is {log}")
    try:
        yield
    except SourceError as error:
        if _ended(process):
            raise ended from error
        raise
    if _ended(process):
        raise ended


def _ended(process: "subprocess.Popen[str]") -> bool:
    try:
        process.wait(DYING_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
