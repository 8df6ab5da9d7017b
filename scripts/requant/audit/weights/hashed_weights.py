"""The named weights, hashed as they are derived from: a statement about weights speaks of what was read of them.

A whole file of weights never passes in order, so each tensor is hashed by itself, in the form that a GGUF gives it
without loss: rows in the order and under the name of the GGUF, a vector as F32, a matrix in the type that it is stored
in. So a BF16 checkpoint and the BF16 GGUF that the converter makes of it have the same digests.
"""

import hashlib
import threading
from dataclasses import dataclass, field, replace

import numpy as np

from requant.audit.weights.tied import EMBEDDING, OUTPUT, TiedWeights
from requant.conversion.weights import Weights, as_float32
from requant.formats.ggml import COPIED, Bytes, Floats, GGMLType, Indices
from requant.formats.weights_root import TensorEntry, weights_root


@dataclass
class _Stream:
    """One tensor so far: ``next`` is the row that is to be hashed next, ``waiting`` are later ones by their first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    next: int = 0
    waiting: dict[int, tuple[int, bytes]] = field(default_factory=dict)


class HashedWeights:
    """Weights of which every row is read once; several threads may read, in any order, what lies close together."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.shown, self.shapes, self.vias = weights.shown, weights.shapes, weights.vias
        self._streams = {name: _Stream() for name in weights.shapes}
        again = {weights.again} if isinstance(weights, TiedWeights) else set()
        self._stored = {name for name in weights.shapes if not weights.tolerance(name)} - again

    def unchecked(self, name: str) -> str | None:
        """As of the weights."""
        return self._weights.unchecked(name)

    def tolerance(self, name: str) -> float:
        """As of the weights."""
        return self._weights.tolerance(name)

    def plain(self, name: str) -> GGMLType:
        """As of the weights."""
        return self._weights.plain(name)

    def rows(self, name: str, indices: Indices) -> Floats:
        """Consecutive rows, which are hashed as soon as all before them are."""
        if (kind := self.plain(name)) in COPIED:
            return as_float32(kind, self.packed(name, indices))
        found = self._weights.rows(name, indices)
        self._hash(name, indices, without_loss(kind, found))
        return found

    def packed(self, name: str, indices: Indices) -> Bytes:
        """The same of rows that are not read as numbers."""
        found = self._weights.packed(name, indices)
        self._hash(name, indices, found.tobytes())
        return found

    def _hash(self, name: str, indices: Indices, data: bytes) -> None:
        stream, first = self._streams[name], int(indices[0])
        with stream.lock:
            stream.waiting[first] = len(indices), data
            while (ready := stream.waiting.pop(stream.next, None)) is not None:
                stream.sha256.update(ready[1])
                stream.next += ready[0]

    def passed(self, name: str) -> str:
        """The digest of the rows of a tensor that were hashed so far."""
        return self._streams[name].sha256.hexdigest()

    @property
    def entries(self) -> tuple[TensorEntry, ...]:
        """The tensors that were read whole, sorted.

        What is computed from a config.json is no part of the weights, nor is the embedding where it is read again. An
        output layer that was found to be the embedding has its bytes.
        """
        found = [
            TensorEntry(name, self.plain(name).name, self.shapes[name], stream.sha256.hexdigest())
            for name, stream in self._streams.items()
            if stream.next == _rows(self.shapes[name]) and name in self._stored
        ]
        tied = self._weights
        if isinstance(tied, TiedWeights) and tied.again is None and tied.compared and not tied.differs:
            found += [replace(each, name=OUTPUT) for each in found if each.name == EMBEDDING]
        return tuple(sorted(found, key=lambda each: each.name))

    @property
    def root(self) -> str | None:
        """One digest for all of them; ``None`` if not all were read."""
        found, tied = self.entries, self._weights
        wanted = self._stored | ({OUTPUT} if isinstance(tied, TiedWeights) and tied.again is None else set())
        return weights_root(found) if wanted == {entry.name for entry in found} else None


def without_loss(kind: GGMLType, rows: Floats) -> bytes:
    """Rows of such a type, read as float32, as they are stored."""
    if kind is GGMLType.BF16:
        return (np.ascontiguousarray(rows).view(np.uint32) >> np.uint32(16)).astype("<u2").tobytes()
    return rows.astype("<f2" if kind is GGMLType.F16 else "<f4", copy=False).tobytes()


def _rows(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[1:], dtype=np.int64))
