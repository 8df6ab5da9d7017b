"""Reading importance matrices in the format that llama-imatrix wrote before August 2025, ``imatrix.dat``.

Format: ``save_imatrix_legacy`` in llama.cpp's ``tools/imatrix/imatrix.cpp``, read by ``common_imatrix_load_legacy`` in
``common/imatrix-loader.cpp``. All numbers are little-endian and 32 bits wide: the number of entries; of each the length
of its name, the name, ``ncall``, the number of values, and these as float32; then, but for the oldest files, how many
chunks were run, and the length and the name of the text. The importance of a column is ``value / ncall`` in float32.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn, TypeAlias

import numpy as np

from requant.ground.errors import FormatError

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

LONGEST_NAME = 255
"""Bytes of a weight's name; ggml allows 63."""
MOST_ENTRIES = 1 << 20
SMALLEST = 4 + 1 + 4 + 4 + 4
"""Bytes of an entry with one letter and one value."""
START = 8 + LONGEST_NAME
"""Bytes by which such a file is known."""


@dataclass(frozen=True, eq=False)
class LegacyEntry:
    """One weight: read-only ``values``, flat, experts one after the other; they are divided by ``calls``."""

    name: str
    calls: int
    values: Floats


@dataclass(frozen=True, eq=False)
class LegacyImatrix:
    """Entries in the order of the file; ``chunks`` is 0 and ``dataset`` is ``None`` where the file does not say."""

    entries: tuple[LegacyEntry, ...]
    chunks: int
    dataset: str | None


def is_legacy(start: bytes) -> bool:
    """Whether a file that begins so, with ``START`` bytes if it has as many, can be such a matrix: it has no magic.

    >>> is_legacy(bytes([1, 0, 0, 0, 5, 0, 0, 0]) + b"blk.0..."), is_legacy(b"GGUF" + bytes(20))
    (True, False)
    """
    count, length = (int.from_bytes(start[at : at + 4], "little") for at in (0, 4))
    name = start[8 : 8 + length]
    if not (1 <= count <= MOST_ENTRIES and 1 <= length <= LONGEST_NAME and len(name) == length):
        return False
    return name.isascii() and name.decode("ascii").isprintable()


def read_legacy(file: BinaryIO, size: int, name: str) -> LegacyImatrix:
    """Read such a matrix from the beginning.

    Args:
        file: where it lies; nothing is allocated that it is too short for.
        size: its bytes.
        name: what messages call it.

    Raises:
        FormatError: naming the entry, if it is cut off, names a weight twice, or holds a number that is negative or not
            finite.
    """
    reader = _Reader(file, size, name)
    file.seek(0)
    count = reader.number("the number of entries")
    if not 1 <= count <= min(MOST_ENTRIES, reader.left // SMALLEST):
        reader.fail(f"claims {count:,} entries in {size:,} bytes")
    entries: dict[str, LegacyEntry] = {}
    for number in range(1, count + 1):
        entry = _read_entry(reader, f"entry {number:,}")
        if entry.name in entries:
            reader.fail(f"has two entries for {entry.name!r}")
        entries[entry.name] = entry
    chunks = reader.number("the number of chunks") if reader.left else 0
    dataset = reader.text("the name of the text", reader.left) if reader.left else None
    if chunks < 0:
        reader.fail(f"counts {chunks:,} chunks")
    if reader.left:
        reader.fail(f"goes on for {reader.left:,} bytes after its end")
    return LegacyImatrix(tuple(entries.values()), chunks, dataset or None)


class _Reader:
    """A cursor that knows how many bytes are left; every failure names the file."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self.left, self._file, self._name = size, file, name

    def fail(self, sentence: str) -> NoReturn:
        raise FormatError(f"{self._name}, an importance matrix in the old format, {sentence}: it is damaged")

    def take(self, count: int, what: str) -> bytes:
        """Consume ``count`` bytes."""
        if not 0 <= count <= self.left:
            self.fail(f"has {self.left:,} bytes left for {what}, which takes {count:,}")
        data = self._file.read(count)
        if len(data) != count:
            self.fail(f"ends inside {what}")
        self.left -= count
        return data

    def number(self, what: str) -> int:
        """Consume a signed number."""
        return int.from_bytes(self.take(4, what), "little", signed=True)

    def text(self, what: str, longest: int) -> str:
        """Consume a string."""
        length = self.number(f"the length of {what}")
        if not 0 <= length <= longest:
            self.fail(f"has {length:,} bytes in {what}")
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError:
            self.fail(f"has something else than UTF-8 in {what}")


def _read_entry(reader: _Reader, what: str) -> LegacyEntry:
    name = reader.text(f"the name of {what}", LONGEST_NAME)
    if not name.isprintable() or not name:
        reader.fail(f"has no printable name in {what}")
    calls, count = (reader.number(f"{part} of {name!r}") for part in ("the calls", "the number of values"))
    if count < 1:
        reader.fail(f"has {count:,} values for {name!r}")
    values: Floats = np.frombuffer(reader.take(4 * count, f"the values of {name!r}"), np.dtype("<f4"))
    if not np.isfinite(values).all() or values.min() < 0:
        reader.fail(f"has a value for {name!r} that is negative or not finite")
    return LegacyEntry(name, calls, values)
