"""The small parts that documents are made of: a file, a tensor, a step; each as JSON writes it and as a value."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from requant.documents.records import file_entry
from requant.ground.canonical import canonical
from requant.ground.digests import Digest


@dataclass(frozen=True)
class File:
    """One file by its name, size in bytes and SHA-256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read it as ``requant.documents.records.file_entry`` writes it."""
        return cls(entry["name"], entry["size"], entry["sha256"])

    @property
    def digest(self) -> Digest:
        """The file without its name."""
        return Digest(self.size, self.sha256)

    @property
    def entry(self) -> dict[str, Any]:
        """As documents write it."""
        return file_entry(self.name, self.digest)


def files(entries: Iterable[Mapping[str, Any]]) -> tuple[File, ...]:
    """Files in the order of their entries."""
    return tuple(map(File.of, entries))


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a GGUF: the length of a row stands first in ``shape``, the digest is that of the tensor's bytes."""

    name: str
    type: str
    shape: tuple[int, ...]
    sha256: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read it as ``requant.pipeline.describe.tensor_entries`` writes it."""
        return cls(entry["name"], entry["type"], tuple(entry["shape"]), entry["sha256"])

    @property
    def entry(self) -> dict[str, Any]:
        """As documents write it."""
        return {"name": self.name, "type": self.type, "shape": list(self.shape), "sha256": self.sha256}


def tensors(entries: Iterable[Mapping[str, Any]]) -> tuple[TensorEntry, ...]:
    """Tensors in the order of their entries."""
    return tuple(map(TensorEntry.of, entries))


def weights_root(found: Iterable[TensorEntry]) -> str:
    """One SHA-256 for all tensors of a GGUF, whatever its metadata and the order of its tensors.

    It is that of the canonical JSON of their entries in the order of their names: docs/attestation.md.

    >>> weights_root([])
    '37517e5f3dc66819f61f5a7bb8ace1921282415f10551d2defa5c3eb0985b570'
    """
    entries = [tensor.entry for tensor in sorted(found, key=lambda tensor: tensor.name)]
    return hashlib.sha256(canonical(entries)).hexdigest()


@dataclass(frozen=True)
class Step:
    """What was run, what went in and what came out."""

    name: str
    command: tuple[str, ...]
    materials: tuple[File, ...]
    products: tuple[File, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read it as ``requant.documents.records.step`` writes it."""
        return cls(entry["name"], tuple(entry["command"]), files(entry["materials"]), files(entry["products"]))
