"""The small parts that documents are made of: a file, a tensor, a step; each as JSON writes it and as a value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from requant.documents.records import file_entry
from requant.formats.weights_root import TensorEntry
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


def tensors(entries: Iterable[Mapping[str, Any]]) -> tuple[TensorEntry, ...]:
    """Tensors in the order of their entries."""
    return tuple(map(TensorEntry.of, entries))


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
