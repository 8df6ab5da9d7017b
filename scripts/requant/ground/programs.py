"""Run external programs in a fixed world: one work folder, relative names, a cleaned environment.

Tools write their arguments into their output (``quantize.imatrix.file``, ``imatrix.datasets``), so
every command is built from names inside the work folder and never from absolute paths.
"""

import io
import logging
import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from requant.ground.errors import ToolError
from requant.ground.locks import in_turn
from requant.ground.text import printable

logger = logging.getLogger(__name__)
# Machine facts that a tool may need and that move no byte of its output.
KEPT = (
    "PATH",
    "CUDACXX",
    "CUDAToolkit_ROOT",
    "HOME",
    "TMPDIR",
    "CC",
    "CXX",
    "CMAKE_TOOLCHAIN_FILE",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "CCACHE_DIR",
    "REQUANT_LEVEL",
    "SYSTEMROOT",
)
KEPT_FOR_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
TAIL = 40
LONGEST_QUOTE = 300


@dataclass(frozen=True)
class Run:
    """What a job may use, and where it speaks: threads for its tools, and the log that their words are appended to."""

    threads: int
    log: Path


@dataclass(frozen=True)
class WorkFolder:
    """A folder that one job works in, and the lock that says so."""

    path: Path
    lock: int

    def run(
        self,
        command: Sequence[str],
        log: Path,
        *,
        watch: Callable[[str], bool | None] | None = None,
        env: Mapping[str, str] | None = None,
        explain: Callable[[str], str | None] | None = None,
    ) -> int:
        """Run ``command`` in this folder and append what it prints to ``log``.

        ``watch`` sees every line as it comes and returns True to keep a line out of the log; it may raise to stop the
        tool. ``explain`` turns the last lines of a failed tool into a sentence for people.

        Returns:
            the tool's peak memory (resident), in bytes, as of its last line; 0 where the system does not tell.

        Raises:
            ToolError: when the program is missing or exits with a status other than 0.
        """
        tail: deque[str] = deque(maxlen=TAIL)
        peak = 0
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            process = self._start(command, env or {})
            try:
                for line in _lines(process):
                    peak = max(peak, _peak_memory(process.pid))
                    if not (watch and watch(line)):
                        file.write(line + "\n")
                        tail.append(line)
                status = process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if status != 0:
            said = "\n".join(tail)
            last = last_words(tail)
            name = Path(command[0]).name
            if status == -signal.SIGILL:
                where = "remove results/toolchains and run again"
                raise ToolError(f"{name} or a library of its was built for another processor: {where}")
            raise ToolError((explain and explain(said)) or f"{name} ended with status {status}{last}; its log is {log}")
        return peak

    def _start(self, command: Sequence[str], env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                list(command),
                cwd=self.path,
                env=clean_environment(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # The tool holds the lock too: if this process is killed, a rerun waits for the orphan.
                pass_fds=(self.lock,),
            )
        except OSError as error:
            raise ToolError(
                f"{command[0]} cannot be started ({error.strerror}): install it or build it again"
            ) from error

    def link(self, target: Path, name: str) -> None:
        """Give a file or folder from elsewhere a fixed name in this folder."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).symlink_to(target.resolve())


@contextmanager
def work_folder(path: Path, *, keep: bool = False) -> Iterator[WorkFolder]:
    """Open a work folder, empty and removed afterwards unless ``keep`` (for build folders).

    A lock beside it makes two jobs, or a rerun and the orphaned tool of a killed run, take turns.
    """
    with in_turn(path) as lock:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True, exist_ok=True)
        try:
            yield WorkFolder(path, lock)
        finally:
            if not keep:
                shutil.rmtree(path, ignore_errors=True)


def clean_environment(extra: Mapping[str, str], *, network: bool = False) -> dict[str, str]:
    """The environment that tools see: a few machine facts, a fixed locale, and ``extra``."""
    names = KEPT + (tuple(KEPT_FOR_NETWORK) + tuple(name.lower() for name in KEPT_FOR_NETWORK) if network else ())
    kept = {name: os.environ[name] for name in names if name in os.environ}
    if network:
        kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return kept | {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"} | dict(extra)


def capture(
    command: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None, seconds: float | None = None
) -> str:
    """Run a short command and return its standard output, without the white space at its end.

    Raises:
        ToolError: naming the command and its last line of output, or that it took longer than ``seconds``.
    """
    try:
        done = subprocess.run(
            list(command),
            cwd=cwd,
            env=clean_environment(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{command[0]} took more than {seconds:,} seconds: run it by hand to see why") from error
    except OSError as error:
        raise ToolError(f"{command[0]} cannot be started ({error.strerror}): install it") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        raise ToolError(f"{' '.join(command[:3])} failed: {said[-1]}")
    return done.stdout.decode(errors="replace").rstrip()


def last_words(tail: Iterable[str]) -> str:
    """What a failed tool said of it: its last line that speaks of an error, or else its last line.

    >>> last_words(["a.c:1: error: no", "ninja: build stopped."]), last_words([])
    (': a.c:1: error: no', '')
    """
    lines = [line.strip() for line in tail if line.strip()]
    telling = [line for line in lines if re.search("error|exception|fatal|cannot|couldn't", line, re.IGNORECASE)]
    words = (telling or lines)[-1:]
    return "".join(f": {printable(line[:LONGEST_QUOTE])}" for line in words)


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[str]:
    """Yield lines that end in a newline or a carriage return, as progress bars write them."""
    assert isinstance(process.stdout, io.BufferedReader)
    rest = b""
    while data := process.stdout.read1(65536):
        *whole, rest = re.split(rb"[\r\n]+", rest + data)
        yield from (line.decode(errors="replace") for line in whole if line)
    if rest:
        yield rest.decode(errors="replace")


def _peak_memory(process: int) -> int:
    """Linux' VmHWM. What wait4 tells includes the memory of this process, from which the other one was forked."""
    try:
        lines = Path("/proc", str(process), "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
