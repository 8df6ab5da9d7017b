"""The record that each step leaves beside its product, in the manner of an in-toto link.

A record holds digests and the exact command, and nothing that differs between two machines. Threads
are written as ``{threads}``, programs by their bare name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from requant.formats.ggml import GGMLType
from requant.ground.canonical import canonical, parse
from requant.ground.digests import Digest, digest_file, write_bytes
from requant.ground.errors import FormatError, StaleError

THREADS = "{threads}"
# Raised when a record changes its form, so that results of an older checkout are made again instead of misread.
VERSION = 2


@dataclass(frozen=True)
class Product:
    """A file that a step made, and the record that the step left beside it."""

    file: Path
    record: Path

    def read(self) -> dict[str, Any]:
        """The record, after a look at the file: a step uses only what the step before it made.

        Raises:
            StaleError: as ``read_record``, or when the file has other bytes than its record says.
        """
        document = read_record(self.record)
        if digest_file(self.file) != file_digest(document["file"]):
            raise StaleError(
                f"{self.file} is not the file that its record describes: remove {self.record} and run again"
            )
        return document


def file_entry(name: str, digest: Digest) -> dict[str, Any]:
    """One file as records and manifests write it."""
    return {"name": name, "size": digest.size, "sha256": digest.sha256}


def file_digest(entry: Mapping[str, Any]) -> Digest:
    """The digest in such an entry."""
    return Digest(entry["size"], entry["sha256"])


def step(
    name: str, command: Sequence[str], materials: Mapping[str, Digest], products: Mapping[str, Digest]
) -> dict[str, Any]:
    """One step: what went in, what was run, what came out; files sorted by name."""
    return {
        "name": name,
        "command": list(command),
        "materials": [file_entry(file, digest) for file, digest in sorted(materials.items())],
        "products": [file_entry(file, digest) for file, digest in sorted(products.items())],
    }


def elements(tensors: Iterable[Mapping[str, Any]]) -> int:
    """Weights in such entries."""
    return sum(prod(tensor["shape"]) for tensor in tensors)


def bits_per_weight(tensors: Sequence[Mapping[str, Any]]) -> str:
    """Bits of such entries for each of their weights."""
    bits = 0
    for tensor in tensors:
        kind = GGMLType[tensor["type"]]
        bits += 8 * elements([tensor]) // kind.block_size * kind.type_size
    return f"{bits / elements(tensors):.2f}"


def write_record(path: Path, document: Mapping[str, Any]) -> None:
    """Write one record, canonical and whole."""
    write_bytes(path, canonical({**document, "record": VERSION}))


def read_record(path: Path) -> dict[str, Any]:
    """Read a record that an earlier step of this workflow wrote.

    Raises:
        StaleError: when the file is damaged, no record, or one of another form than this code writes.
    """
    try:
        document = parse(path.read_bytes(), str(path))
    except FormatError as error:
        raise StaleError(f"{path} is no record that requant wrote ({error}): remove it and run again") from error
    if not isinstance(document, dict) or document.pop("record", None) != VERSION:
        raise StaleError(f"{path} was written by another version of requant: remove it and run again")
    return document
