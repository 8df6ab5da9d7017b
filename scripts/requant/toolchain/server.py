"""A ``llama-server`` on a free loopback port: started, waited for, and always stopped."""

import ctypes
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from requant.formats.gguf_parts import part_names
from requant.ground.errors import SourceError, ToolError
from requant.ground.interrupts import held
from requant.ground.programs import TAIL, WorkFolder, clean_environment, last_words, work_folder
from requant.ground.progress import progress
from requant.toolchain.backend import Backend
from requant.toolchain.instrument import Instrument
from requant.toolchain.serving import SERVER, serving_flags

LISTENING = re.compile(r"listening on (http://127\.0\.0\.1:\d+)")
SAYS_NO_REASON = re.compile("exiting due to|cleaning up before exit")
"""Its last words, whatever the reason was that it said before."""
SILENCE_SECONDS = 600.0
"""A server that is still loading says something more often than this."""
STOP_SECONDS = 10.0
LONGEST_LOG = 1 << 26
"""Characters of what it says that are kept: some 2,500 a question."""
DYING_SECONDS = 0.2
"""A process of many threads that was killed is not gone at once."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Server:
    """A server that is ready: its address, the seconds from its start until then, and the processor's ``features``."""

    url: str
    load_seconds: float
    features: list[str]
    process: "subprocess.Popen[str]"


@contextmanager
def serve(
    model: Path, instrument: Instrument, context: int, *, port: int = 0, alias: str | None = None
) -> Iterator[Server]:
    """Serve a model with the card's flags on llama-server, the ``instrument``.

    It ends with the thread that called this, however that ends: where nobody stops it any more, the kernel does
    (PR_SET_PDEATHSIG).

    Args:
        model: a GGUF; of a split one the first part, beside the others.
        instrument: the server, its backend, and where its log goes.
        context: the card's, in tokens.
        port: on the loopback interface; 0 is any free one.
        alias: what requests may call the model, without commas.

    Raises:
        ToolError: when the server ends, hangs, or runs on another backend.
    """
    log = instrument.run.log
    with work_folder(log.parent / f"work-{log.stem}") as work:
        names = [model.name] if len(part_names(model.name)) > 1 else ["model.gguf"]
        for name, part in zip(part_names(names[0]), part_names(model.name), strict=True):
            work.link(model.with_name(part), name)
        instrument.backend.link(work)
        program = str((instrument.program.folder / SERVER).resolve())
        command = [
            program, "-lv", "4", "-m", names[0], *serving_flags(context), "--host", "127.0.0.1", "--port", str(port),
            "--threads", str(instrument.run.threads), "--no-webui", *(("--alias", alias) if alias else ()),
        ]  # fmt: skip
        begun = time.monotonic()
        with ExitStack() as stopping:
            with held():
                process = _start(command, work)
                said = _Listener(process, log)
                # Whatever else may hold the other end of its pipe is not waited for.
                stopping.callback(said.join, STOP_SECONDS)
                stopping.callback(_stop, process)
                loading = progress(None, f"loading {model.name}", "s")
            with loading as bar:
                url = said.address(bar.update)
                _wait_until_healthy(url, process, said)
            said.backend.prove(SERVER, instrument.backend, work.path)
            with _while_it_runs(process, log):
                yield Server(url, time.monotonic() - begun, said.backend.features, process)


class _Listener(threading.Thread):
    """Reads what the server says, as long as it runs."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        super().__init__(daemon=True)
        self.backend = Backend()
        self.spoke = time.monotonic()
        self._process, self._log = process, log
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._known = threading.Event()
        self._url: str | None = None
        self.start()

    def run(self) -> None:
        try:
            self._follow()
        except OSError as error:
            # Nobody would read what it says any more, and a full pipe would stop it.
            self._tail.append(f"error: the log cannot be written ({error.strerror})")
            self._process.kill()
        finally:
            self._known.set()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        written = 0
        with self._log.open("a", encoding="utf-8") as file:
            for line in self._process.stdout:
                self.spoke = time.monotonic()
                if written < LONGEST_LOG:
                    written += file.write(line)
                    file.write("what follows is not kept\n" * (written >= LONGEST_LOG))
                    file.flush()
                self.backend.watch(line.rstrip("\n"))
                if not SAYS_NO_REASON.search(line):
                    self._tail.append(line)
                if match := LISTENING.search(line):
                    self._url = match[1]
                    self._known.set()

    def address(self, each_second: Callable[[], object]) -> str:
        """Where the server listens; waits until it says so, which is when it has loaded the model."""
        while not self._known.wait(1):
            each_second()
            self.require_speaking()
        if self._url is None:
            raise self.ended("before it served anything")
        return self._url

    def require_speaking(self) -> None:
        """Raise ``ToolError`` where it said nothing for long, though it has not loaded the model yet."""
        if time.monotonic() - self.spoke > SILENCE_SECONDS:
            raise ToolError(f"{SERVER} hangs while it loads the model; its log is {self._log}")

    def ended(self, when: str) -> ToolError:
        """That it ended, and what it said last."""
        self.join(STOP_SECONDS)
        return ToolError(f"{SERVER} ended {when}{last_words(self._tail)}; its log is {self._log}")


def _start(command: Sequence[str], work: WorkFolder) -> "subprocess.Popen[str]":
    owner = os.getpid()

    def die_with_owner() -> None:
        # Nobody would ever stop a server whose owner was killed; it may be that already.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != owner:
            os._exit(1)

    try:
        return subprocess.Popen(
            list(command), cwd=work.path, env=clean_environment({}), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", pass_fds=(work.lock,),
            # A group of its own: what a terminal sends is for the owner, who stops it in good order.
            preexec_fn=die_with_owner, process_group=0,
        )  # fmt: skip
    except OSError as error:
        raise ToolError(f"{command[0]} cannot be started ({error.strerror}): build it again") from error


def _wait_until_healthy(url: str, process: "subprocess.Popen[str]", said: _Listener) -> None:
    with httpx2.Client(timeout=10, trust_env=False) as client:
        while True:
            if process.poll() is not None:
                raise said.ended("while it loaded the model")
            try:
                if client.get(f"{url}/health").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            said.require_speaking()
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
    try:
        process.terminate()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Also where a second signal ends the wait. Nothing is sent to one that has ended.
        process.kill()
        process.wait()
