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
from requant.ground.digests import Digest, digest_bytes, digest_file, write_bytes
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
        require_recorded(self.file, document["file"], self.record)
        return document


def require_recorded(file: Path, entry: Mapping[str, Any], record: Path) -> Digest:
    """The digest of a file, after a look at all of it: it must be what the ``entry`` of its ``record`` tells of.

    Raises:
        StaleError: when it has other bytes.
    """
    found = digest_file(file)
    if found != file_digest(entry):
        raise StaleError(f"{file} is not the file that its record describes: remove {record} and run again")
    return found


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
    """Write one record, canonical and whole, sealed with the digest of all the rest of it."""
    write_bytes(path, canonical({**document, "record": _seal(document)}))


def _seal(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "record"}
    return f"{VERSION} {digest_bytes(canonical(rest)).sha256}"


def read_record(path: Path) -> dict[str, Any]:
    """Read a record that an earlier step of this workflow wrote.

    Raises:
        StaleError: when the file is damaged, no record, or one of another form than this code writes.
    """
    try:
        document = parse(path.read_bytes(), str(path))
        if not isinstance(document, dict):
            raise FormatError("it is a list or a value")
        sealed = _seal(document)
    except FormatError as error:
        raise StaleError(f"{path} is no record that requant wrote ({error}): remove it and run again") from error
    # Those of earlier versions have no digest: what a run took hours for is not made again for the lack of it.
    if document.pop("record", None) not in (VERSION, sealed):
        raise StaleError(f"{path} was changed since, or another version of requant wrote it: remove it and run again")
    return document
