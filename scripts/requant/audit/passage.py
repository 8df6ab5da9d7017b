"""A file's bytes, all of them, once and in order: what is derived from is what was hashed, and nothing is left out.

A digest speaks only of bytes that passed here. Whoever looks at a piece gets the very buffer that was hashed.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from requant.formats.gguf import Header, Tensor, read_header
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
    """The way through a file; ``sha256``, ``padding`` and the ``digests`` of all tensors, each of its own bytes,
    are whole when ``pieces`` has ended.
    """

    file: Ranged
    header: Header
    sha256: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    padding: Padding = Padding()
    _head: list[bytes] = field(default_factory=list)

    def pieces(self, step: Callable[[Tensor], int], jobs: int) -> Iterator[tuple[Tensor, int, bytes]]:
        """Read the file once: every tensor piece by piece, with the byte of the tensor that each begins with.

        Args:
            step: how many bytes of a tensor are wanted at once.
            jobs: how many pieces may be read at a time.

        Raises:
            FormatError, SourceError: when it cannot be read; FormatError also when its header is no longer the one
                that was parsed.
        """
        sha256, parts = hashlib.sha256(), {tensor.name: hashlib.sha256() for tensor in self.header.tensors}
        with ThreadPoolExecutor(jobs) as pool:
            waiting: deque[tuple[int, Tensor | None, Future[bytes]]] = deque()
            plan = self._plan(step)
            try:
                for start, stop, tensor in plan:
                    waiting.append((start, tensor, pool.submit(self.file.read, start, stop - start)))
                    if len(waiting) > max(AHEAD, jobs):
                        yield from self._passed(*waiting.popleft(), sha256, parts)
                while waiting:
                    yield from self._passed(*waiting.popleft(), sha256, parts)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        self._require_header()
        self.sha256 = sha256.hexdigest()
        self.digests = {name: part.hexdigest() for name, part in parts.items()}

    def _plan(self, step: Callable[[Tensor], int]) -> Iterator[tuple[int, int, Tensor | None]]:
        for start, stop, tensor in regions(self.header):
            size = step(tensor) if tensor else CHUNK
            for position in range(start, stop, size):
                yield position, min(position + size, stop), tensor

    def _passed(
        self, start: int, tensor: Tensor | None, reading: "Future[bytes]", sha256: "hashlib._Hash",
        parts: "dict[str, hashlib._Hash]",
    ) -> Iterator[tuple[Tensor, int, bytes]]:  # fmt: skip
        data = reading.result()
        sha256.update(data)
        if tensor is not None:
            parts[tensor.name].update(data)
            yield tensor, start - tensor.offset, data
        elif start < self.header.data_offset:
            self._head.append(data)
        else:
            found = self.padding
            hidden = found.hidden + int(np.count_nonzero(np.frombuffer(data, np.uint8)))
            self.padding = Padding(found.size + len(data), hidden, spare(self.header))

    def _require_header(self) -> None:
        head, self._head = b"".join(self._head), []
        again = read_header(as_file(_Remembered(self.file, head)), self.file.name)
        if again != self.header:
            raise changed_meanwhile(self.file.name)


def look_between(file: Ranged, header: Header, seed: int) -> Padding:
    """What a sample sees of the padding: all of it where there is little, else places that ``seed`` draws.

    Raises:
        FormatError, SourceError: when it cannot be read.
    """
    windows = [window for gap in gaps(header) for window in _windows(*gap, seed)]
    pieces = file.read_many([(start, stop - start) for start, stop in windows])
    hidden = sum(int(np.count_nonzero(np.frombuffer(piece, np.uint8))) for piece in pieces)
    return Padding(sum(map(len, pieces)), hidden, spare(header))


def _windows(start: int, stop: int, seed: int) -> list[tuple[int, int]]:
    """All of a short range, or the first, the last and some drawn pieces of a long one."""
    if stop - start <= (DRAWN + 2) * WINDOW:
        return [(start, stop)]
    drawn = np.random.Philox(key=[seed, start]).random_raw(DRAWN) % np.uint64(stop - start - WINDOW)
    starts = sorted({start, stop - WINDOW, *(start + int(place) for place in drawn)})
    return [(place, place + WINDOW) for place in starts]


@dataclass(frozen=True)
class _Remembered:
    """A file whose first bytes are those that were read before."""

    file: Ranged
    head: bytes

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def size(self) -> int:
        return self.file.size

    def read(self, offset: int, length: int) -> bytes:
        known = self.head[offset : offset + length]
        return known if len(known) == length else known + self.file.read(offset + len(known), length - len(known))

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [self.read(offset, length) for offset, length in ranges]


def changed_meanwhile(name: str) -> FormatError:
    """What to raise where bytes are no longer those that were seen before."""
    return FormatError(f"{name} changed while it was read: leave it alone and try again")
