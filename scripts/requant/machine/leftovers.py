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

from requant.documents.file_names import MANIFEST
from requant.documents.inputs import ToolchainInput
from requant.documents.manifest import read_manifest
from requant.documents.pins import TABLE, read_pins
from requant.documents.records import read_record
from requant.ground.disk import kept, size_of
from requant.ground.errors import DiskError, RequantError, StaleError
from requant.ground.locks import hold
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
    """Remove what ``leftovers`` finds, and say what it was.

    Raises:
        DiskError: as ``leftovers``; and when something cannot be removed.
    """
    with _alone():
        found = _found()
        for number, each in enumerate(found):
            try:
                _remove(each.path)
            except OSError as error:
                freed = in_units(sum(before.size for before in found[:number]))
                raise DiskError(
                    f"{each.path} cannot be removed ({error.strerror}); freed before it: {freed}"
                ) from error
        return found


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


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
    with lock.open("r+b") as file:
        if not hold(file.fileno(), lock, wait=False):
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
    results, needed, released = Path(layout.RESULTS), _pinned(), 0.0
    if results.is_symlink():
        return
    for folder in results.glob("*"):
        # A link is a recipe's folder too, even to a disk that is away just now.
        if folder.name in layout.SHARED or not (folder.is_dir() or folder.is_symlink()):
            continue
        try:
            manifest = folder / "release" / MANIFEST
            needed.add(read_manifest(manifest).inputs.toolchain.commit)
            released = max(released, manifest.stat().st_mtime)
        except (RequantError, OSError):
            return  # not released yet: which llama.cpp it needs is not known
    found = _other_than(needed, Path(layout.TOOLCHAINS), "neither a pin nor a release here names this llama.cpp")
    # What was fetched after the last release is what the next one is made with.
    yield from (each for each in found if (each.path / "source.json").stat().st_mtime <= released)


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
        if commit not in needed and not any(map(_worked_in, _below(found))):
            yield Leftover(found, size_of(found), why)


def _unfinished(folder: Path) -> Iterator[Leftover]:
    """What killed runs left: folders that nobody works in, and files that never got their names."""
    for path in _below(folder):
        if PART.fullmatch(path.name) and not _recent(path):
            yield Leftover(path, size_of(path), "a file that never got its name, of a run that was killed")
        elif UNFINISHED.fullmatch(path.name) and path.parent.name != "rebuild" and _worked_in(path) is False:
            yield Leftover(path, size_of(path), "the work of a step that was killed, which begins anew")


def _objects(folder: Path) -> Iterator[Leftover]:
    for path in _below(folder):
        records, log = [*path.parent.glob("build.json"), *path.parent.glob("bin/*.json")], path / "out" / ".ninja_log"
        begun = log.stat().st_mtime if log.exists() else 0
        done = any(record.stat().st_mtime >= begun for record in records)
        if path.name == "build" and done and _worked_in(path) is False:
            yield Leftover(path, size_of(path), "objects of a build that is done, which only another tool would use")


def _broken_off(folder: Path) -> Iterator[Leftover]:
    for path in sorted(folder.glob("*.jsonl")):
        try:
            known = path.stat()
        except FileNotFoundError:
            continue  # that audit has ended meanwhile
        if (days := int((time.time() - known.st_mtime) / DAY)) >= BROKEN_OFF:
            yield Leftover(path, known.st_size, f"of an audit that was broken off {days} days ago")


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


def _worked_in(path: Path) -> bool | None:
    """Whether a process works in a folder; ``None`` where no step ever did."""
    lock = path.with_name(f".{path.name}.lock")
    if not lock.exists():
        return None
    # NFS locks alone what may be written.
    with lock.open("r+b") as file:
        return not hold(file.fileno(), lock, wait=False)


def _recent(path: Path) -> bool:
    """Whether somebody may be writing there still, such as an audit to the cache."""
    return time.time() - path.stat().st_mtime < DAY
