"""What lies on this machine that no release needs, why, and how much it is: ``requant gc``.

Only what can be named is found: toolchains that nothing names any more, what killed runs left unfinished, objects of
builds that are done, and audits that were broken off long ago. What a step made, under its final name, stays.
"""

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from requant.documents.file_names import MANIFEST
from requant.documents.inputs import ToolchainInput
from requant.documents.manifest import read_manifest
from requant.documents.pins import TABLE, read_pins
from requant.documents.records import read_record
from requant.ground.disk import kept, size_of
from requant.ground.errors import DiskError, RequantError, StaleError
from requant.ground.text import in_units
from requant.pipeline import layout
from requant.pipeline.recipe import DEFAULT_PINS
from requant.toolchain.quantizers import toolchains

UNFINISHED = re.compile(r"work(-.*)?|convert|expand|generate|unpack|install|download-.*|.*\.download")
"""Folders in which a step works, with a lock beside them; a download and a build go on in theirs, which stay."""
PART = re.compile(r"\..+\.part")
"""Where a file is written until it gets its name."""
BROKEN_OFF = 30
"""Days after which nobody goes on with an audit."""
DAY = 86400.0


@dataclass(frozen=True)
class Leftover:
    """Something that may go: where it is, how many bytes, and why no release needs it."""

    path: Path
    size: int
    why: str


def leftovers() -> list[Leftover]:
    """Look through this folder's results and the user's cache, for what no release needs; nothing is changed.

    Raises:
        DiskError: when a run is working here: what it has not finished yet is nobody's leftover.
    """
    with _alone():
        return _found()


def free() -> list[Leftover]:
    """Remove what ``leftovers`` finds, and say what it was; raises as it does."""
    with _alone():
        found = _found()
        for each in found:
            if each.path.is_dir():
                shutil.rmtree(each.path)
            else:
                each.path.unlink()
        return found


def as_text(found: Sequence[Leftover], deleted: bool) -> str:
    """A line for each, and one for all."""
    if not found:
        return "nothing is here that no release needs"
    sizes = [in_units(each.size) for each in found]
    width, total = max(map(len, sizes)), in_units(sum(each.size for each in found))
    lines = [f"{size:>{width}}  {each.path}: {each.why}" for size, each in zip(sizes, found, strict=True)]
    return "\n".join([*lines, f"freed {total}" if deleted else f"{total} in all: requant gc --delete frees it"])


@contextmanager
def _alone() -> Iterator[None]:
    """Keep runs out of this folder's results meanwhile."""
    lock = Path(layout.LOCK)
    if not lock.exists():
        yield
        return
    with lock.open("rb") as file:
        if not _mine(file):
            raise DiskError(f"a run is working in {Path.cwd()}: wait for its end")
        yield


def _found() -> list[Leftover]:
    results, cached = Path(layout.RESULTS), toolchains()
    found = [*_toolchains(), *_unfinished(results), *_objects(Path(layout.TOOLCHAINS)), *_unpinned(cached)]
    found += [*_unfinished(cached), *_broken_off(kept("audits"))]
    # What lies in a folder that goes anyway is part of it.
    whole = {each.path for each in found}
    return [each for each in found if not whole & {*each.path.parents}]


def _toolchains() -> Iterator[Leftover]:
    """Of this folder: what neither the pin table nor a release here names."""
    needed = _pinned()
    for folder in _folders(Path(layout.RESULTS)):
        if folder.name in layout.SHARED:
            continue
        try:
            needed.add(read_manifest(folder / "release" / MANIFEST).inputs.toolchain.commit)
        except (RequantError, OSError):
            return  # not released yet: which llama.cpp it needs is not known
    yield from _other_than(needed, Path(layout.TOOLCHAINS), "neither a pin nor a release here names this llama.cpp")


def _unpinned(cached: Path) -> Iterator[Leftover]:
    """Of audits: what the pin table does not name."""
    return _other_than(_pinned(), cached, "no audit of this requant derives with it: no pin names this llama.cpp")


def _pinned() -> set[str]:
    """The commits of the pin tables: the package's, and this folder's."""
    tables = [read_pins(TABLE, "the pin table")]
    if Path(DEFAULT_PINS).is_file():
        tables.append(read_pins(Path(DEFAULT_PINS), DEFAULT_PINS))
    return {pin.commit for table in tables for pin in table.toolchains.values()}


def _other_than(needed: set[str], folder: Path, why: str) -> Iterator[Leftover]:
    for found in _folders(folder):
        record = found / "source.json"
        try:
            commit = ToolchainInput.of(read_record(record)).commit
        except (StaleError, OSError, KeyError):
            continue  # no toolchain, or none of this version's
        if commit not in needed:
            yield Leftover(found, size_of(found), why)


def _unfinished(folder: Path) -> Iterator[Leftover]:
    """What killed runs left: folders that nobody works in, and files that never got their names."""
    for path in _below(folder):
        lock = path.with_name(f".{path.name}.lock")
        if PART.fullmatch(path.name) and not _recent(path):
            yield Leftover(path, size_of(path), "a file that never got its name, of a run that was killed")
        elif UNFINISHED.fullmatch(path.name) and lock.exists() and not _held(lock):
            yield Leftover(path, size_of(path), "the work of a step that was killed, which begins anew")


def _objects(folder: Path) -> Iterator[Leftover]:
    for path in _below(folder):
        lock, beside = path.with_name(f".{path.name}.lock"), path.parent
        done = (beside / "build.json").exists() or any(beside.glob("bin/*.json"))
        if path.name == "build" and done and lock.exists() and not _held(lock):
            yield Leftover(path, size_of(path), "objects of a build that is done, which only another tool would use")


def _broken_off(folder: Path) -> Iterator[Leftover]:
    for path in sorted(folder.glob("*.jsonl")):
        days = int((time.time() - path.stat().st_mtime) / DAY)
        if days >= BROKEN_OFF:
            yield Leftover(path, path.stat().st_size, f"of an audit that was broken off {days} days ago")


def _folders(folder: Path) -> list[Path]:
    """Those in a folder, without links: what lies elsewhere is not this folder's."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def _below(folder: Path) -> Iterator[Path]:
    """All folders below, without links; sources and environments hold none of ours, and many files."""
    for path in _folders(folder):
        yield path
        if path.name not in ("source", "environment", "packages"):
            yield from _below(path)


def _held(lock: Path) -> bool:
    """Whether a process works in the folder of this lock."""
    with lock.open("rb") as file:
        return not _mine(file)


def _mine(file: BinaryIO) -> bool:
    """Whether a lock could be had; it is held until the file is closed."""
    # Windows has none, and no run.
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _recent(path: Path) -> bool:
    """Whether somebody may be writing there still, such as an audit to the cache."""
    return time.time() - path.stat().st_mtime < DAY
