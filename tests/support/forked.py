"""Library calls in processes that know no other hub, each forked from one that has loaded what reads no environment.

The hubs' clients read endpoint, home and offline switches when they are imported, so every call gets a process of its
own. To start Python and to import everything else would take most of its time.
"""

import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from requant.ground.errors import RequantError

SECONDS = 60
"""How long a call may take."""
LOADED = ("numpy", "yaml", "jsonschema", "jinja2", "httpx2", "requests", "pandas", "pyarrow.parquet", "fsspec", "dill")
READ_THE_ENVIRONMENT = ("huggingface_hub", "modelscope_hub", "datasets", "tqdm")


class Call(NamedTuple):
    """``target`` is a function's full name; ``environment`` is all that its process has."""

    target: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    environment: Mapping[str, str]


class Forks:
    """The process that is forked from, and the way to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._calls, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, call: Call) -> str:
        """Make one call; ``<error class>: <sentence>`` where it ends in an error of ours, or nothing."""
        self._begin(call)
        assert self._calls.poll(SECONDS), f"{call.target} did not end within {SECONDS} seconds"
        as_meant, said = self._calls.recv()
        assert as_meant and "\n" not in said, said
        return str(said)

    def kill(self, call: Call, when: Callable[[], bool]) -> None:
        """Begin one call, and kill its process as soon as ``when`` says so."""
        pid = self._begin(call)
        deadline = time.monotonic() + SECONDS
        while not when() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        assert self._calls.recv() == (False, f"{call.target} was killed")

    def _begin(self, call: Call) -> int:
        self._calls.send(call)
        return int(self._calls.recv())

    def close(self) -> None:
        """End the process."""
        self._calls.close()
        self._process.join(1)
        self._process.kill()


def _serve(calls: Connection) -> None:
    """Answer call after call, until nobody can ask any more."""
    for name in LOADED:
        importlib.import_module(name)
    assert not sys.modules.keys() & {*READ_THE_ENVIRONMENT}, "these must be imported anew for every call"
    while True:
        try:
            call = calls.recv()
        except EOFError:
            return
        answers, answering = multiprocessing.Pipe(duplex=False)
        pid = os.fork()
        if not pid:
            _run(answering, call)
            os._exit(0)
        answering.close()
        calls.send(pid)
        try:
            outcome = answers.recv()
        except EOFError:
            outcome = False, f"{call.target} was killed"
        os.waitpid(pid, 0)
        calls.send(outcome)


def _run(answer: Connection, call: Call) -> None:
    os.environ.clear()
    os.environ.update(call.environment)
    nap = time.sleep
    time.sleep = lambda seconds: nap(min(seconds, 0.01))  # the clients wait long between two tries
    module, _, name = call.target.rpartition(".")
    try:
        getattr(importlib.import_module(module), name)(*call.arguments, **call.options)
        answer.send((True, ""))
    except RequantError as error:
        answer.send((True, f"{type(error).__name__}: {error}"))
    except BaseException:  # noqa: BLE001 - whatever it is, the test will show it
        answer.send((False, traceback.format_exc()))
