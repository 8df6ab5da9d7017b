"""What a run says on the terminal: a line for each step, the sentence that a run failed with, and what to do next.

Snakemake logs events (``snakemake_interface_logger_plugins.common.LogEvent``) as attributes of records of the standard
library. Its own handler stays, with a formatter and a filter of ours; the complete log below ``.snakemake/log`` is as
ever. Only the standard library is imported, since rules load this.
"""

import logging
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SNAKEMAKE, HANDLER = "snakemake.logging", "DefaultStreamHandler"
# What speaks of Snakemake and not of this run; the first words of messages without an event.
SILENT = (
    "Assuming unrestricted", "Using workflow specific profile", "Building DAG", "Using shell", "Conda environments",
    "Group jobs", "Select jobs", "Updating checkpoint", "Shutting down", "Exiting because", "Complete log",
    "Elapsed time", "RuleException", "WorkflowError:\nAt least one job", "At least one job", "DAG of jobs will be",
    "Removing temporary output", "MinJobAge", "Cleaning up SLURM log",
)  # fmt: skip
NO_SPACE = "[Errno 28]"
FULL_DISK = "error: there is no room left on the disk for what is noted of this run: make room, and run again"
"""In place of Snakemake's own advice, which is to look at permissions; and where a step could not say why it ended."""
SILENCE = ("it ended without a sentence", "it left no log")
ROOM = 1 << 20
"""Bytes of a disk that count as none left."""
TARGET = "all"
"""What Snakemake counts as a step, though nothing is done in it."""


class Lines(logging.Formatter):
    """One line a step, when it has ended: how many are done, at what time, what it was, and how long it took.

    ``title`` is the first line, ``recipes`` are those whose rules bear their names. ``failed`` are the steps that
    failed, with their logs.
    """

    def __init__(self, title: str, recipes: Sequence[str] = ()) -> None:
        super().__init__()
        self.title, self._recipes, self._begun = title, recipes, time.monotonic()
        self._running: dict[int, tuple[str, float]] = {}
        self._ended: list[int] = []
        self.failed: list[tuple[str, list[str]]] = []

    @property
    def elapsed(self) -> str:
        """How long the run has taken, in words."""
        return duration(time.monotonic() - self._begun)

    def shows(self, record: Any) -> bool:
        """Note what a record says of a step; whether it is for the terminal."""
        event = str(getattr(record, "event", None) or "")
        if event == "job_info":
            self._running[record.jobid] = (self._what(record), time.monotonic())
        elif event == "job_finished":
            self._ended.append(record.job_id)
        elif event == "job_error":
            self.failed.append((self._running.get(record.jobid, (record.rule_name, 0))[0], [*record.log]))
        elif event in ("workflow_started", "run_info", "progress"):
            return True
        return event in ("", "error") and not str(record.msg or "").strip().startswith(SILENT)

    def _what(self, record: Any) -> str:
        """What a step does, and for which of several recipes."""
        said = str(record.rule_msg or record.rule_name)
        whose = [name for name in self._recipes if record.rule_name.startswith(f"{name}_")]
        return said if not whose or max(whose, key=len) in said else f"{max(whose, key=len)}: {said}"

    def format(self, record: Any) -> str:
        """The line of a record; empty where there is none."""
        event = str(getattr(record, "event", None) or "")
        if event == "workflow_started":
            return self.title
        if event == "run_info":
            total = record.stats["total"]
            return "1 step" if total == 1 else f"{total} steps"
        said = self._steps(record) if event == "progress" else str(record.msg or "").strip()
        return FULL_DISK if NO_SPACE in said else said

    def _steps(self, record: Any) -> str:
        lines = []
        for job in self._ended:
            what, begun = self._running.pop(job, (TARGET, time.monotonic()))
            if what == TARGET:
                continue
            count = f"[{record.done:>{len(str(record.total))}}/{record.total}]"
            lines.append(f"{count} {time.strftime('%H:%M')} {what}, {duration(time.monotonic() - begun)}")
        self._ended.clear()
        return "\n".join(lines)


def take_over(title: str, recipes: Sequence[str] = ()) -> Lines | None:
    """Let Snakemake's terminal handler speak in lines; ``None`` where there is none, as with a logger plugin.

    Of several modules in one run the first that asks is heard.
    """
    for handler in logging.getLogger(SNAKEMAKE).handlers:
        if handler.name == HANDLER:
            if isinstance(handler.formatter, Lines):
                return handler.formatter
            lines = Lines(title, recipes)
            handler.setFormatter(lines)
            handler.addFilter(lines.shows)
            return lines
    return None


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(3.4), duration(75), duration(7325)
    ('3 s', '1 min 15 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def say_done(lines: Lines | None, made: Sequence[tuple[str, str]]) -> None:
    """Say where everything lies that a run made (releases and their reports), and what to type next."""
    if lines is None:
        return
    _say(f"Done in {lines.elapsed}.")
    done = [(release, report) for release, report in made if Path(release, "SHA256SUMS").exists()]
    for release, report in done:
        _say(f"Release: {release}" + (f"; report: {report}" if Path(report).exists() else ""))
    if done:
        release = done[0][0] if len(done) == 1 else "RELEASE"
        _say(f"Next: requant verify {release}")
        _say(f"Then: requant publish {release} --to huggingface:OWNER/NAME, which shows first what it would change")


def say_failed(lines: Lines | None) -> None:
    """Say what failed and why, last of all."""
    full = shutil.disk_usage(Path()).free < ROOM
    for step, logs in lines.failed if lines else ():
        why = _why(logs)
        if why.startswith(SILENCE) and full:
            _say(FULL_DISK)
            why = "it could not say why"
        _say(f"failed: {step}: {why}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _why(logs: Iterable[str]) -> str:
    """The sentence that a step ended with, from its log, or where to look."""
    for log in filter(Path.is_file, map(Path, logs)):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return f"{said[-1]} (log: {log})" if said else f"{SILENCE[0]}; its log is {log}"
    return f"{SILENCE[1]}: the system may have killed it"
