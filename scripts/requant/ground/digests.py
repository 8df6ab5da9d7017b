"""Digests of files, and files that only get their name once they are whole.

The three digests met on model hubs are SHA-256 (LFS objects and everything of ours), the git blob
id of small files, and sizes. See https://git-scm.com/book/en/v2/Git-Internals-Git-Objects for the
blob id: SHA-1 of ``blob <size>\\0`` followed by the content.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from requant.ground.errors import DiskError, FormatError, PinnedBytesError

CHUNK = 1 << 20
SHA256 = re.compile("[0-9a-f]{64}")
GIT_ID = re.compile("[0-9a-f]{40}")
"""What a commit, a tree or a blob is called, here and on hubs."""


@dataclass(frozen=True, order=True)
class Digest:
    """Size in bytes and lower-case hex SHA-256 of some bytes."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Known:
    """What is known of a file beforehand; ``None`` where nothing is known.

    ``git_blob`` is the 40-digit git blob id, the only digest hubs keep for files outside LFS.
    """

    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None

    @property
    def proves_content(self) -> bool:
        """Whether a match says anything about the content."""
        return self.sha256 is not None or self.git_blob is not None


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of ``file`` in pieces of at most 1 MiB.

    Raises:
        OSError: naming the file, which the system does not when a disk fails to read.
    """
    try:
        while chunk := file.read(CHUNK):
            yield chunk
    except OSError as error:
        error.filename = error.filename or getattr(file, "name", None)
        raise


def read_small(path: Path, longest: int) -> bytes:
    """Read a file from outside whole, if it is a file of at most ``longest`` bytes.

    Raises:
        FormatError: naming the file, if it is missing, no file or longer.
    """
    try:
        # A pipe or a device would be waited for, or never end.
        if not path.is_file():
            raise FormatError(f"{path} is not a file that can be read: check the path")
        with path.open("rb") as file:
            data = file.read(longest + 1)
    except OSError as error:
        raise FormatError(f"{path} cannot be read ({error.strerror or error}): check the path") from error
    if len(data) > longest:
        raise FormatError(f"{path} has more than the {longest:,} bytes allowed: get the file again")
    return data


def digest_bytes(data: bytes) -> Digest:
    """Digest bytes that are already in memory."""
    return Digest(len(data), hashlib.sha256(data).hexdigest())


def digest_file(path: Path, advance: Callable[[int], object] | None = None) -> Digest:
    """Digest one file in a single read; ``advance`` is called with the number of bytes read since its last call."""
    sha256 = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        for chunk in read_chunks(file):
            sha256.update(chunk)
            size += len(chunk)
            if advance:
                advance(len(chunk))
    return Digest(size, sha256.hexdigest())


def git_blob(path: Path) -> str:
    """What git, and a hub outside LFS, calls the content of a file: its blob id."""
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        for chunk in read_chunks(file):
            blob.update(chunk)
    return blob.hexdigest()


def check_file(path: Path, expected: Known, name: str | None = None) -> Digest:
    """Read ``path`` once, compare it with everything pinned of it and return its digest.

    Raises:
        PinnedBytesError: naming the file (or ``name``), what was expected and what was found.
    """
    name = name or path.name
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        raise PinnedBytesError(
            f"{name} has {size:,} bytes, expected {expected.size:,}: it is truncated or another file"
        )
    sha256 = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        for chunk in read_chunks(file):
            sha256.update(chunk)
            if expected.git_blob:
                blob.update(chunk)
    for kind, found, wanted in (
        ("SHA-256", sha256.hexdigest(), expected.sha256),
        ("git blob id", blob.hexdigest(), expected.git_blob),
    ):
        if wanted is not None and found != wanted:
            raise PinnedBytesError(f"{name} has {kind} {found}, expected {wanted}: these are not the pinned bytes")
    return Digest(size, sha256.hexdigest())


def sync(path: Path) -> None:
    """Flush one file or folder to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows flushes files alone, and those for who may write them
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all() -> None:
    """Flush all that was written: for folders of thousands of files, before a record says that they are there."""
    if hasattr(os, "sync"):
        os.sync()


def publish(temporary: Path, final: Path) -> None:
    """Give a finished file its name: flush, rename, flush the folder. Both must lie on one file system."""
    sync(temporary)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(final)
    sync(final.parent)


@contextmanager
def named_when_whole(final: Path) -> Iterator[Path]:
    """Give a temporary path near ``final`` to write to; it takes the name ``final`` only on success."""
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = final.with_name(f".{final.name}.part")
    _remove(folder)
    # A folder of our own, made by this call or not at all: nobody else can lay a link where we are about to write.
    folder.mkdir(mode=0o700)
    try:
        yield folder / final.name
        publish(folder / final.name, final)
    finally:
        _remove(folder)


def _remove(path: Path) -> None:
    """Remove what a killed run left, or somebody else put there: a folder, a file or a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_partial(path: Path, *, anew: bool = False) -> BinaryIO:
    """Open a file that may have begun to be written to, to go on at its end or ``anew``; its folder is made.

    Raises:
        DiskError: when it is a link, which leads who knows where.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_TRUNC if anew else os.O_APPEND)
    try:
        return os.fdopen(os.open(path, flags, 0o666), "wb" if anew else "ab")
    except OSError as error:
        if path.is_symlink():
            raise DiskError(f"{path} is a link, and nothing is written through links: remove it") from error
        raise


def write_bytes(final: Path, data: bytes) -> None:
    """Write a small file whole or not at all."""
    with named_when_whole(final) as temporary:
        temporary.write_bytes(data)
