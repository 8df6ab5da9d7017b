"""A quant's bytes, all of them, once and in order: what is derived from is what was hashed, and nothing is left out.

A digest speaks only of bytes that passed here. Whoever looks at a piece gets the very buffer that was hashed.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from requant.formats.gguf import Header, Tensor, read_header
from requant.formats.gguf_parts import files_of
from requant.formats.gguf_regions import gaps, regions, spare
from requant.formats.ranged import Ranged, as_file
from requant.ground.digests import CHUNK
from requant.ground.errors import FormatError

AHEAD = 4
"""Pieces that are read ahead of the one that is hashed, at least: over a network most of the time goes into waiting."""

WINDOW, DRAWN = 4096, 16
"""Bytes of a piece of padding that a sample looks at, and how many are drawn of a long range."""


@dataclass(frozen=True)
class Padding:
    """What lies between the tensors: bytes read, those that are not zero, and bytes that no alignment asks for."""

    size: int = 0
    hidden: int = 0
    spare: int = 0


@dataclass
class Passage:
    """The way through a quant's files; whole once ``pieces`` has ended.

    ``sha256s`` are the digests of the files, ``digests`` those of all tensors, each of its own bytes.
    """

    file: Ranged
    header: Header
    sha256s: tuple[str, ...] = ()
    digests: dict[str, str] = field(default_factory=dict)
    padding: Padding = Padding()
    _tensors: dict[str, "hashlib._Hash"] = field(default_factory=dict)

    def pieces(self, step: Callable[[Tensor], int], jobs: int) -> Iterator[tuple[Tensor, int, bytes]]:
        """Read every file once: every tensor piece by piece, with the byte of the tensor that each begins with.

        Args:
            step: how many bytes of a tensor are wanted at once.
            jobs: how many pieces may be read at a time.

        Raises:
            FormatError, SourceError: when it cannot be read; FormatError also when a header is no longer the one that
                was parsed.
        """
        self.padding = Padding(spare=_spare(self.header))
        self._tensors = {tensor.name: hashlib.sha256() for tensor in self.header.tensors}
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for offset, part in files_of(self.header):
                    sha256, head = hashlib.sha256(), bytearray()
                    for start, tensor, data in self._read(pool, offset, part, step, jobs):
                        sha256.update(data)
                        if tensor is not None:
                            self._tensors[tensor.name].update(data)
                            yield tensor, start - tensor.offset, data
                        elif start < part.data_offset:
                            head += data
                        else:
                            self._add_padding(data)
                    self._require_header(offset, part, bytes(head))
                    self.sha256s += (sha256.hexdigest(),)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        self.digests = {tensor.name: self.passed(tensor.name) for tensor in self.header.tensors}

    def passed(self, name: str) -> str:
        """The digest of what has come of a tensor so far."""
        return self._tensors[name].hexdigest()

    def _read(
        self, pool: ThreadPoolExecutor, offset: int, part: Header, step: Callable[[Tensor], int], jobs: int
    ) -> Iterator[tuple[int, Tensor | None, bytes]]:
        """One file from its first byte to its last, some pieces ahead; ``offset`` is where it begins in all bytes."""
        waiting: deque[tuple[int, Tensor | None, Future[bytes]]] = deque()

        def come(most: int) -> Iterator[tuple[int, Tensor | None, bytes]]:
            while len(waiting) > most:
                start, tensor, reading = waiting.popleft()
                yield start, tensor, reading.result()

        for first, last, tensor in regions(part):
            size = step(tensor) if tensor else CHUNK
            for start in range(first, last, size):
                reading = pool.submit(self.file.read, offset + start, min(size, last - start))
                waiting.append((start, tensor, reading))
                yield from come(max(AHEAD, jobs))
        yield from come(0)

    def _add_padding(self, data: bytes) -> None:
        found = self.padding
        hidden = found.hidden + int(np.count_nonzero(np.frombuffer(data, np.uint8)))
        self.padding = replace(found, size=found.size + len(data), hidden=hidden)

    def _require_header(self, offset: int, part: Header, head: bytes) -> None:
        again = read_header(as_file(_Remembered(self.file, offset, part.size, head)), part.name)
        if again != part:
            raise changed_meanwhile(self.file.name)


def look_between(file: Ranged, header: Header, seed: int) -> Padding:
    """What a sample sees of the padding: all of it where there is little, else places that ``seed`` draws.

    Raises:
        FormatError, SourceError: when it cannot be read.
    """
    between = [(offset + start, offset + stop) for offset, part in files_of(header) for start, stop in gaps(part)]
    windows = [window for gap in between for window in _windows(*gap, seed)]
    pieces = file.read_many([(start, stop - start) for start, stop in windows])
    hidden = sum(int(np.count_nonzero(np.frombuffer(piece, np.uint8))) for piece in pieces)
    return Padding(sum(map(len, pieces)), hidden, _spare(header))


def _spare(header: Header) -> int:
    return sum(spare(part) for _, part in files_of(header))


def _windows(start: int, stop: int, seed: int) -> list[tuple[int, int]]:
    """All of a short range, or the first, the last and some drawn pieces of a long one."""
    if stop - start <= (DRAWN + 2) * WINDOW:
        return [(start, stop)]
    # As whole numbers: of a list numpy makes floats once the seed is 2**63 or more, and many seeds are one.
    key = np.array([seed, start], np.uint64)
    drawn = np.random.Philox(key=key).random_raw(DRAWN) % np.uint64(stop - start - WINDOW)
    starts = sorted({start, stop - WINDOW, *(start + int(place) for place in drawn)})
    return [(place, place + WINDOW) for place in starts]


@dataclass(frozen=True)
class _Remembered:
    """The ``size`` bytes of a file from ``offset`` on, of which the first are those that were read before."""

    file: Ranged
    offset: int
    size: int
    head: bytes

    @property
    def name(self) -> str:
        return self.file.name

    def read(self, offset: int, length: int) -> bytes:
        known = self.head[offset : offset + length]
        at = offset + len(known)
        return known if len(known) == length else known + self.file.read(self.offset + at, length - len(known))

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [self.read(offset, length) for offset, length in ranges]


def changed_meanwhile(name: str) -> FormatError:
    """What to raise where bytes are no longer those that were seen before."""
    return FormatError(f"{name} changed while it was read: leave it alone and try again")
