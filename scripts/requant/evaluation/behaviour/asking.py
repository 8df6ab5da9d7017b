"""Ask a server every question of a suite, keep all that was said, and count.

The results file is JSONL: a header that says which suite, model and settings it is of, then one line an item, appended
and flushed when the item is done. A run that was stopped goes on where it was; items that ended in an ``error`` are
asked again, and the last line of an item counts. Two runs cannot write the same file at a time.
"""

import fcntl
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

from requant.difference.statistics import Interval, mcnemar, wilson
from requant.evaluation.behaviour import sandbox, verifiers
from requant.evaluation.behaviour.answer import (
    ERROR,
    OUTCOMES,
    PASSED,
    TRUNCATED,
)
from requant.evaluation.behaviour.endpoint import Endpoint, Settings, request_of
from requant.evaluation.behaviour.suite import Item, Suite
from requant.ground.canonical import parse
from requant.ground.digests import write_bytes
from requant.ground.errors import DiskError, FormatError, RecipeError
from requant.ground.progress import progress

VERSION = 1
MAX_LINE = 1 << 27
"""Bytes: eight times the longest answer, since JSON can write a character in six."""


@dataclass(frozen=True)
class Results:
    """A results file: its header, and the outcome of each item by id."""

    header: Mapping[str, Any]
    outcomes: Mapping[str, str]


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


@dataclass(frozen=True)
class Pair:
    """Two runs on the same suite: the ids that only one passed, and the exact McNemar p value of these flips.

    ``both`` items were judged in both; ``left_out`` were not, for an error or because one run lacks them.
    """

    both: int
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    left_out: int
    p: float


def run(
    suite: Suite, items: Sequence[Item], endpoint: Endpoint, settings: Settings, out: Path, parallel: int = 1
) -> Results:
    """Ask ``items`` of the suite, ``parallel`` at a time, except those that ``out`` holds already.

    Returns the outcomes of ``items`` alone.

    Raises:
        RecipeError: when ``out`` holds results of something else, or another run writes to it.
        FormatError: when ``out`` is damaged before its last line.
        DiskError: when ``out`` cannot be written.
        SourceError: when the server cannot be reached to begin with.
        UnsupportedError: when code is to be run and cannot be isolated here.
    """
    header = {"results": VERSION, "suite": suite.sha256, **asdict(settings)}
    if any(item.verify["kind"] == "code_executes" for item in items):
        sandbox.require_isolation()
    with _opened(out) as file:
        done = _resumed(file, header, out)
        left = [item for item in items if done.get(item.id, ERROR) == ERROR]
        if left:
            endpoint.require_reachable()
        with progress(len(items), "questions", "item") as bar:
            bar.update(len(items) - len(left))
            for line in _answered(left, endpoint, settings, parallel):
                _append(file, line, out)
                done[line["id"]] = line["outcome"]
                bar.update(1)
    return Results(header, {item.id: done[item.id] for item in items})


def ask(item: Item, endpoint: Endpoint, settings: Settings) -> dict[str, Any]:
    """One item: the line of the results file, which holds request, response, outcome and verdict."""
    request = request_of(item, settings)
    start = time.monotonic()
    exchange = endpoint.ask(request)
    line: dict[str, Any] = {"id": item.id, "request": request, "response": exchange.response}
    line["seconds"] = round(time.monotonic() - start, 3)
    failed = {"outcome": ERROR, "passed": False, "part": None}
    if exchange.answer is None:
        return {**line, **failed, "reason": exchange.error}
    outcome, verdict = verifiers.judge(item.verify, exchange.answer)
    line |= {"outcome": outcome, **asdict(verdict)}
    try:
        # What could not be read again would end the next run.
        parse(_encoded(line), "the line")
    except (FormatError, ValueError):
        unkept = {
            "request": None,
            "response": None,
            "reason": "the answer is too deep, or its numbers too large, to be kept",
        }
        return {**line, **failed, **unkept}
    return line


def _answered(items: Sequence[Item], endpoint: Endpoint, settings: Settings, parallel: int) -> Iterator[dict[str, Any]]:
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


def read_results(path: Path) -> Results:
    """Read a results file of this or another run.

    Raises:
        FormatError: naming the file and the line, when it is none.
    """
    try:
        with path.open("rb") as file:
            header, outcomes, _ = _read(file, path)
    except OSError as error:
        raise FormatError(f"{path} cannot be read ({error.strerror or error}): check the path") from error
    if header is None:
        raise FormatError(f"{path} holds no results: name a file that requant evaluate wrote")
    return Results(header, outcomes)


def write_results(header: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], out: Path) -> Results:
    """Write a results file of what somebody else asked and judged.

    Raises:
        DiskError: when ``out`` cannot be written.
    """
    header = {"results": VERSION, **header}
    try:
        write_bytes(out, b"".join(map(_encoded, [header, *lines])))
    except OSError as error:
        raise DiskError(f"{out} cannot be written ({error.strerror or error}): make room, and run again") from error
    return Results(header, {line["id"]: line["outcome"] for line in lines})


def summary(outcomes: Mapping[str, str]) -> Summary:
    """Count outcomes."""
    counts = {outcome: sum(found == outcome for found in outcomes.values()) for outcome in OUTCOMES}
    judged = len(outcomes) - counts[ERROR]
    score = counts[PASSED] / judged if judged else None
    interval = wilson(counts[PASSED], judged)
    return Summary(len(outcomes), counts[PASSED], counts["failed"], counts[TRUNCATED], counts[ERROR], score, interval)


def paired(a: Results, b: Results) -> Pair:
    """Compare two runs item by item. A truncated answer has not passed; an item with an error is left out.

    Raises:
        RecipeError: when they are of different suites, or have no item in common.
    """
    if a.header["suite"] != b.header["suite"]:
        raise RecipeError("A and B are results of different suites: compare runs of the same file")
    judged = [item for item, outcome in a.outcomes.items() if outcome != ERROR and b.outcomes.get(item, ERROR) != ERROR]
    if not judged:
        raise RecipeError("A and B have no judged item in common: run both on the same items")
    flips = [item for item in sorted(judged) if (a.outcomes[item] == PASSED) != (b.outcomes[item] == PASSED)]
    only_a = tuple(item for item in flips if a.outcomes[item] == PASSED)
    only_b = tuple(item for item in flips if b.outcomes[item] == PASSED)
    left_out = len({*a.outcomes, *b.outcomes}) - len(judged)
    return Pair(len(judged), only_a, only_b, left_out, mcnemar(len(only_a), len(only_b)))


@contextmanager
def _opened(out: Path) -> Iterator[BinaryIO]:
    """The results file, for this run alone. The kernel ends the lock however the run ends."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        file = out.open("a+b")
    except OSError as error:
        raise DiskError(f"{out} cannot be written ({error.strerror or error}): name another --out") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RecipeError(f"{out} is in use by another run: wait for it, or name another --out") from error
        yield file


def _resumed(file: BinaryIO, header: Mapping[str, Any], out: Path) -> dict[str, str]:
    """What an earlier run finished; a new file gets its header, and half a line at the end is cut off."""
    found, outcomes, end = _read(file, out)
    if found is not None and found != header:
        differs = ", ".join(key for key in header if found.get(key) != header[key]) or "more than this run has"
        raise RecipeError(f"{out} holds results of another run (it differs in {differs}): name another --out")
    file.truncate(end)
    if found is None:
        _append(file, header, out)
    return outcomes


def _read(file: BinaryIO, path: Path) -> tuple[Mapping[str, Any] | None, dict[str, str], int]:
    """Header, outcomes by id, and where the last whole line ends. Only outcomes are kept, answers are long."""
    header: Mapping[str, Any] | None = None
    outcomes: dict[str, str] = {}
    end = number = 0
    file.seek(0)
    while line := file.readline(MAX_LINE):
        number += 1
        if not line.endswith(b"\n"):
            if len(line) == MAX_LINE:
                raise FormatError(f"{path} line {number} is too long for results: name another file")
            break
        document = parse(line, f"{path} line {number}")
        if header is None:
            header = _header(document, path)
        else:
            if not isinstance(document, Mapping) or document.get("outcome") not in OUTCOMES:
                raise FormatError(f"{path} line {number} holds no result: remove the line")
            outcomes[str(document.get("id"))] = document["outcome"]
        end += len(line)
    return header, outcomes, end


def _header(document: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(document, Mapping) or document.get("results") != VERSION or "suite" not in document:
        raise FormatError(f"{path} holds no results: name a file that requant evaluate wrote")
    return document


def _encoded(line: Mapping[str, Any]) -> bytes:
    """One line of JSON; raises ValueError for numbers that JSON does not have."""
    try:
        return json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        # Half a character, which only escapes can write.
        return json.dumps(line, allow_nan=False).encode() + b"\n"


def _append(file: BinaryIO, line: Mapping[str, Any], out: Path) -> None:
    try:
        file.write(_encoded(line))
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise DiskError(f"{out} cannot be written ({error.strerror or error}): make room, and run again") from error
