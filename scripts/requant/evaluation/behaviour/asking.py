"""Ask a server every question of a suite, keep all that was said, and count.

A line is appended to the results file (``documents/results.py``) and flushed when its item is done. A run that was
stopped goes on where it was; items that ended in an ``error`` are asked again, after the others. Two runs cannot write
the same file at a time.

Where several items in a row get no answer, the server is asked something simple. If it answers that, these items are at
fault, and the run goes on; a server that answers nothing ends it.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

from requant.difference.statistics import Interval, wilson
from requant.documents.results import VERSION, Outcome, Results, encoded, read_lines
from requant.evaluation.behaviour import sandbox, verifiers
from requant.evaluation.behaviour.endpoint import Endpoint, Settings, request_of
from requant.evaluation.behaviour.suite import Item, Suite
from requant.ground.canonical import parse
from requant.ground.errors import DiskError, FormatError, RecipeError
from requant.ground.locks import hold
from requant.ground.progress import progress
from requant.ground.text import counted

logger = logging.getLogger(__name__)

PATIENCE = 3
"""Items in a row without an answer, after which it is asked whether the server answers anything."""


@dataclass(frozen=True)
class Summary:
    """Counts of items. ``score`` is passed / (items - errors), since an error says nothing of the model; None of none.

    ``interval`` is Wilson's, at 95 %.
    """

    items: int
    passed: int
    failed: int
    truncated: int
    errors: int
    score: float | None
    interval: Interval


def run(
    suite: Suite, items: Sequence[Item], endpoint: Endpoint, settings: Settings, out: Path, parallel: int = 1
) -> Results:
    """Ask ``items`` of the suite, ``parallel`` at a time, except those that ``out`` holds already.

    Returns the outcomes of ``items`` alone.

    Raises:
        RecipeError: when ``out`` holds results of something else, or another run writes to it.
        FormatError: when ``out`` is damaged before its last line.
        DiskError: when ``out`` cannot be written, or lies on a file system without locks.
        SourceError: when the server cannot be reached to begin with, or answers nothing any more.
        UnsupportedError: when code is to be run and cannot be isolated here.
    """
    header = {"results": VERSION, "suite": suite.sha256, **asdict(settings)}
    if any(item.verify["kind"] == "code_executes" for item in items):
        sandbox.require_isolation()
    with _opened(out) as file:
        done = _resumed(file, header, out)
        left = [item for item in items if done.get(item.id, Outcome.ERROR) == Outcome.ERROR]
        # Last what failed before: whatever it does to the server, every run comes further than the one before.
        left.sort(key=lambda item: item.id in done)
        if len(left) < len(items):
            # The header has the name that the user gave the model. Who answers to it, no server has to say.
            known = f"{out} holds answers to {len(items) - len(left):,} of {counted(len(items), 'item')}"
            logger.warning("%s, which are not asked again: they must be of this same server", known)
        if left:
            endpoint.require_reachable()
        unanswered, answered = 0, _answered(left, endpoint, settings, parallel)
        with closing(answered), progress(len(items), "questions", "item") as bar:
            bar.update(len(items) - len(left))
            for line in answered:
                _append(file, line, out)
                done[line["id"]] = line["outcome"]
                bar.update(1)
                unanswered = unanswered + 1 if line["response"] is None else 0
                if unanswered == min(PATIENCE, len(left)):
                    endpoint.require_answering(settings)
                    unanswered = 0
    return Results(header, {item.id: done[item.id] for item in items})


def ask(item: Item, endpoint: Endpoint, settings: Settings) -> dict[str, Any]:
    """One item: the line of the results file, which holds request, response, outcome and verdict."""
    request = request_of(item, settings)
    start = time.monotonic()
    exchange = endpoint.ask(request)
    line: dict[str, Any] = {"id": item.id, "request": request, "response": exchange.response}
    line["seconds"] = round(time.monotonic() - start, 3)
    failed = {"outcome": Outcome.ERROR, "passed": False, "part": None}
    if exchange.answer is None:
        return {**line, **failed, "reason": exchange.error}
    outcome, verdict = verifiers.judge(item.verify, exchange.answer)
    line |= {"outcome": outcome, **asdict(verdict)}
    try:
        # What could not be read again would end the next run.
        parse(encoded(line), "the line")
    except (FormatError, ValueError):
        unkept = {
            "request": None,
            "response": None,
            "reason": "the answer is too deep, or its numbers too large, to be kept",
        }
        return {**line, **failed, **unkept}
    return line


def _answered(
    items: Sequence[Item], endpoint: Endpoint, settings: Settings, parallel: int
) -> Generator[dict[str, Any]]:
    """The lines as they come. The threads are daemons: a run that is stopped does not wait for slow answers."""
    left, lock = deque(items), threading.Lock()
    lines: SimpleQueue[dict[str, Any] | BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            while True:
                with lock:
                    item = left.popleft() if left else None
                if item is None:
                    break
                lines.put(ask(item, endpoint, settings))
            lines.put(None)
        except BaseException as error:  # noqa: BLE001 - raised below, where somebody waits
            lines.put(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(parallel, len(items)))]
    for thread in threads:
        thread.start()
    working = len(threads)
    try:
        while working:
            line = lines.get()
            if isinstance(line, BaseException):
                raise line
            if line is None:
                working -= 1
            else:
                yield line
    finally:
        with lock:
            left.clear()


def summary(outcomes: Mapping[str, str]) -> Summary:
    """Count outcomes."""
    counts = [sum(found == outcome for found in outcomes.values()) for outcome in Outcome]
    passed, failed, truncated, errors = counts
    judged = len(outcomes) - errors
    score = passed / judged if judged else None
    return Summary(len(outcomes), passed, failed, truncated, errors, score, wilson(passed, judged))


@contextmanager
def _opened(out: Path) -> Iterator[BinaryIO]:
    """The results file, for this run alone. The kernel ends the lock however the run ends."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        file = out.open("a+b")
    except OSError as error:
        raise DiskError(f"{out} cannot be written ({error.strerror or error}): name another --out") from error
    with file:
        if not hold(file.fileno(), out, wait=False):
            raise RecipeError(f"{out} is in use by another run: wait for it, or name another --out")
        yield file


def _resumed(file: BinaryIO, header: Mapping[str, Any], out: Path) -> dict[str, str]:
    """What an earlier run finished; a new file gets its header, and half a line at the end is cut off."""
    found, outcomes, end = read_lines(file, out)
    if found is not None and found != header:
        differs = ", ".join(key for key in header if found.get(key) != header[key]) or "more than this run has"
        raise RecipeError(f"{out} holds results of another run (it differs in {differs}): name another --out")
    if found is None:
        _require_beginning(file, encoded(header), out)
    file.truncate(end)
    if found is None:
        _append(file, header, out)
    return outcomes


def _require_beginning(file: BinaryIO, header: bytes, out: Path) -> None:
    """Half a line may be of a run that was killed in its first one, or all of a file that is somebody's."""
    file.seek(0)
    if not header.startswith(file.read(len(header))):
        raise RecipeError(f"{out} holds something else than results: name another --out")


def _append(file: BinaryIO, line: Mapping[str, Any], out: Path) -> None:
    try:
        file.write(encoded(line))
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise DiskError(f"{out} cannot be written ({error.strerror or error}): make room, and run again") from error
