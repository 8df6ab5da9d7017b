"""Files that are read in pieces, wherever they lie: here on the disk, over HTTP in ``requant.places.remote``.

Whoever parses a file sees only ``Ranged``, so a check works on a published file as it does on a local one.
"""

import io
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, cast

from requant.ground.errors import FormatError, PlaceError, SourceError

FIRST_WINDOW = 1 << 18
LAST_WINDOW = 1 << 23
"""Bytes that ``as_file`` reads at once: few at first, most headers are short, then twice as many each time."""
# A pipe without a writer would block for ever, were it opened first and looked at then. No system has all three.
OPENING = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


class Ranged(Protocol):
    """A file of known size that gives out byte ranges.

    ``name`` is what messages call it, ``size`` is in bytes.
    """

    @property
    def name(self) -> str:
        """What messages call the file."""
        ...

    @property
    def size(self) -> int:
        """Bytes in the whole file."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Give exactly ``length`` bytes from byte ``offset`` on.

        Raises:
            FormatError: when these bytes lie outside the file (nothing is read then), or the file shrank.
            SourceError: when they cannot be had.
        """
        ...

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Give the bytes of several ``(offset, length)``, in the order asked; raises as ``read`` does."""
        ...


class Files(Protocol):
    """Named files, such as ``requant.places.place.Place``."""

    @property
    def shown(self) -> str:
        """What messages call all of them."""
        ...

    @property
    def names(self) -> list[str]:
        """Relative paths with slashes."""
        ...

    def open(self, name: str) -> Ranged:
        """Give one of them."""
        ...


def check_range(file: Ranged, offset: int, length: int) -> None:
    """Refuse a range that does not lie in the file, before anything is asked for or allocated.

    Raises:
        FormatError: naming the file and the range.
    """
    if offset < 0 or length < 0 or offset + length > file.size:
        raise FormatError(
            f"{file.name} has {file.size:,} bytes, so not {length:,} from byte {offset:,} on: "
            "it is truncated or damaged"
        )


class LocalFile:
    """A file on this machine; threads may share it. Use it as a context manager, or close it."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path, self.name = path, name or path.name
        self._descriptor, self._seeking = -1, threading.Lock()
        try:
            self._descriptor = os.open(path, OPENING)
            found = os.fstat(self._descriptor)
        except (OSError, ValueError) as error:
            self.close()
            reason = getattr(error, "strerror", None) or error
            raise PlaceError(f"{self.name} cannot be opened ({reason}): name a file that may be read") from error
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise PlaceError(f"{self.name} is no regular file: name one that can be read in pieces")
        self.size = found.st_size

    def read(self, offset: int, length: int) -> bytes:
        """Give exactly ``length`` bytes from byte ``offset`` on; raises as ``Ranged.read``."""
        check_range(self, offset, length)
        pieces = []
        while length:
            try:
                piece = self._piece(length, offset)
            except OSError as error:
                raise SourceError(f"{self.name} cannot be read ({error.strerror}): check the disk") from error
            if not piece:
                raise FormatError(f"{self.name} shrank while it was read: leave it alone and try again")
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, length: int, offset: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, length, offset)
        with self._seeking:  # on Windows, where a file has one position for all threads
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, min(length, 1 << 30))

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Give the bytes of several ``(offset, length)``; raises as ``Ranged.read_many``."""
        for offset, length in ranges:
            check_range(self, offset, length)
        return [self.read(offset, length) for offset, length in ranges]

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Adapter(io.RawIOBase):
    """A read-only file object over a ``Ranged``, with a window that grows while somebody reads on and on."""

    def __init__(self, file: Ranged) -> None:
        self.name = file.name
        self._file, self._position = file, 0
        self._window, self._start, self._next = b"", 0, FIRST_WINDOW

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise ValueError(f"there is no byte {base + offset} in a file")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        at = self._position - self._start
        if not 0 <= at < len(self._window):
            wanted = min(max(len(buffer), self._next), max(self._file.size - self._position, 0))
            self._window = self._file.read(self._position, wanted) if wanted else b""
            self._next = min(2 * self._next, LAST_WINDOW)
            self._start, at = self._position, 0
        piece = self._window[at : at + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


def as_file(file: Ranged) -> BinaryIO:
    """Give ``file`` as a seekable binary file that reads ahead, for parsers such as ``formats.gguf.read_header``."""
    return cast(BinaryIO, _Adapter(file))


def read_whole(file: Ranged, limit: int, what: str) -> bytes:
    """Read a small file whole; ``what`` says for messages what it should be, such as ``an index``.

    Raises:
        FormatError: when it has more than ``limit`` bytes; nothing is read then.
    """
    if file.size > limit:
        raise FormatError(f"{file.name} has {file.size:,} bytes, more than the {limit:,} that {what} may have")
    return file.read(0, file.size)
