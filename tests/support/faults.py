"""What is done to runs of the workflow, and what becomes of the run after it: kills, power cuts, and the book of them.

A run is the real one: Snakemake, llama.cpp's tools, in a folder of its own. What was made before a fault is compared, byte
by byte, with what a run made that nothing was done to.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from requant.ground.digests import digest_file
from support.workplace import Workplace, tiny_recipe

SEED = 18
UNLIKE = ("logs", "benchmarks", "run.json", "run.tsv", "report.html")
"""What two runs have differently: words, times."""
UNFINISHED = ("work", "convert", "generate", "download")
"""How folders of steps begin that are not done; what lies in them has no name yet."""
BEFORE = "in the first seconds of a run"
ERROR = "error: "
LIMIT = 600
"""Seconds after which a run hangs, and does not only take long."""


def smallest_recipe(**changes: Any) -> dict[str, Any]:
    """The tiny recipe with one narrow block, two short chunks, and its fidelity measured: every kind of step, once."""
    recipe = tiny_recipe(**changes)
    if "generate" in recipe["model"]:
        recipe["model"]["generate"] |= {"ffn": 256, "heads": 2, "kv_heads": 1, "head_dim": 128}
    recipe["calibration"] |= {"context": 128, "batch": 128, "ubatch": 128}
    recipe["evaluation"] = {"fidelity": {"arithmetic": "portable", "chunks": 2, "context": 128}}
    return recipe


# What was made.


def products(results: Path) -> dict[str, Path]:
    """The files of a recipe's folder that have their final names, by these."""
    found = {}
    for path in sorted(results.rglob("*")):
        parts = path.relative_to(results).parts
        passing = any(part.startswith(".") or part.split("-")[0] in UNFINISHED for part in parts)
        if path.is_file() and not passing and parts[0] not in UNLIKE:
            found["/".join(parts)] = path
    return found


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing was done to: what it made, and its steps in the order of their last words, with their seconds."""

    files: Mapping[str, tuple[int, str]]
    steps: Mapping[str, float]

    @classmethod
    def of(cls, workplace: Workplace) -> Undisturbed:
        logs = sorted((workplace.results / "logs").glob("*.log"), key=lambda path: path.stat().st_ctime_ns)
        measured = {path.stem: path for path in (workplace.results / "benchmarks").glob("*.jsonl")}
        seconds = {
            log.stem: float(json.loads(measured[log.stem].read_text().splitlines()[-1])["s"])
            for log in logs
            if log.stem in measured
        }
        files = {
            name: (path.stat().st_size, digest_file(path).sha256) for name, path in products(workplace.results).items()
        }
        return cls(files, seconds)

    def unlike(self, workplace: Workplace) -> list[str]:
        """What has its final name and other bytes: a step that was broken off must leave nothing of the kind."""
        found = products(workplace.results)
        return [
            name for name in self.files.keys() & found.keys() if digest_file(found[name]).sha256 != self.files[name][1]
        ]

    def lost(self, workplace: Workplace) -> int:
        """Bytes that are missing, or other ones, where a run has ended well."""
        lacking = self.files.keys() - products(workplace.results).keys()
        return sum(self.files[name][0] for name in {*lacking, *self.unlike(workplace)})


# The book.


@dataclass
class Book:
    """How often each fault was injected, and what became of it.

    A fault is *recovered* from where a plain rerun made every byte of the undisturbed run, and *stopped* where a run ended
    with one sentence and, after what it says to do, the next one made every byte.
    """

    rows: dict[str, list[int]] = field(default_factory=dict)

    def note(self, fault: str, *, stopped: bool = False, lost: int = 0) -> None:
        row = self.rows.setdefault(fault, [0, 0, 0, 0])
        row[0] += 1
        row[2 if stopped else 1] += 1
        row[3] += lost

    def __str__(self) -> str:
        total = [sum(column) for column in zip(*self.rows.values(), strict=True)]
        lines = ["| fault | injected | recovered | stopped | bytes lost |", "|---|---|---|---|---|"]
        rows = [*sorted(self.rows.items()), ("all", total)]
        return "\n".join([*lines, *(f"| {name} | {' | '.join(f'{n:,}' for n in row)} |" for name, row in rows)])


def sentences(output: str) -> list[str]:
    """What a failed run says: errors in one sentence, and nothing that only its authors could read."""
    assert "Traceback" not in output, output
    return sorted({line for line in output.splitlines() if line.startswith(ERROR)})


# Kills.


def kill_in(workplace: Workplace, steps: Sequence[str], delay: float, **env: str) -> str | None:
    """Start a run and SIGKILL it with all that it started, ``delay`` seconds after one of ``steps`` began; which it was.

    ``None`` where the run made its release before. Without steps, the delay counts from the start of the run.
    """
    since = time.time_ns()
    with workplace.start(**env) as process:
        try:
            hit, limit = None, time.monotonic() + LIMIT
            while hit is None and process.poll() is None:
                assert time.monotonic() < limit, "no step began"
                hit = begun(workplace, steps, since) if steps else BEFORE
                time.sleep(0.02)
            deadline = time.monotonic() + delay
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            ended = process.poll()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    assert ended in (None, 0), output
    return hit if ended is None else None


def begun(workplace: Workplace, steps: Sequence[str], since: int) -> str | None:
    """A step begins with an empty log."""
    for step in steps:
        log = workplace.results / "logs" / f"{step}.log"
        if log.exists() and log.stat().st_mtime_ns >= since:
            return step
    return None


def kill_often(workplace: Workplace, undisturbed: Undisturbed, random: Random, most: int, **env: str) -> list[str]:
    """Kill runs in one folder, one after another, in every step once or twice; each run goes on from the one before.

    Nothing that looks finished may be anything but what the undisturbed run made. Gives the steps that were hit.
    """
    hits: list[str] = []
    steps = [*undisturbed.steps]
    for at, step in enumerate(steps):
        for _ in range(random.choice((1, 1, 2))):
            if len(hits) == most:
                return hits
            before = random.random() < 0.1
            delay = random.uniform(0, 4 if before else undisturbed.steps[step])
            hit = kill_in(workplace, [] if before else steps[at:], delay, **env)
            if hit is None:
                return hits
            hits.append(hit)
            assert not undisturbed.unlike(workplace), (hit, delay)
    return hits


# Power cuts.

JOURNAL = '''
import hashlib, os
_fsync = os.fsync

def _note(line):
    with open(os.environ["REQUANT_SYNCED"], "a") as journal:
        journal.write(line + "\\n")

def fsync(descriptor):
    """As ever, and note what the disk has now."""
    _fsync(descriptor)
    if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
        with open(f"/proc/self/fd/{descriptor}", "rb") as file:
            _note(f"{os.fstat(descriptor).st_ino} {hashlib.file_digest(file, 'sha256').hexdigest()}")

os.fsync = fsync
'''
"""What Python loads at its start, from ``sitecustomize``. No program but Python's flushes anything here."""


@dataclass(frozen=True)
class Power:
    """A machine whose power can be cut: names are on the disk, as a file system with a journal has them, and of what files
    hold, only what was flushed (fsync); all other files are empty afterwards.
    """

    folder: Path

    @classmethod
    def on(cls, folder: Path) -> Power:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(JOURNAL)
        return cls(folder)

    @property
    def env(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")]))
        return {"PYTHONPATH": path, "REQUANT_SYNCED": str(self.folder / "journal")}

    def cut(self, workplace: Workplace) -> int:
        """Empty every file that a run wrote and did not flush; how many there were."""
        journal = self.folder / "journal"
        synced = {*journal.read_text().splitlines()} if journal.exists() else set[str]()
        emptied = 0
        for root in (workplace.results, workplace.folder / ".snakemake"):
            for path in (path for path in root.rglob("*") if path.is_file() and not path.is_symlink()):
                found = path.stat()
                if found.st_size and f"{found.st_ino} {digest_file(path).sha256}" not in synced:
                    os.truncate(path, 0)
                    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
                    emptied += 1
        return emptied


# What is broken by hand.


def damage(path: Path, random: Random, how: str) -> None:
    """Cut a file short or change one byte of it, and let its time be as it was."""
    found, data = path.stat(), bytearray(path.read_bytes())
    at = random.randrange(len(data))
    if how == "truncated":
        del data[at:]
    else:
        data[at] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
