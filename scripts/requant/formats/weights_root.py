"""Tensors by their digests, and one digest for all of them: what a GGUF weighs, whatever its metadata say."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from requant.ground.canonical import canonical


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


def weights_root(found: Iterable[TensorEntry]) -> str:
    """One SHA-256 for all tensors of a GGUF, whatever its metadata and the order of its tensors.

    It is that of the canonical JSON of their entries in the order of their names: docs/attestation.md.

    >>> weights_root([])
    '37517e5f3dc66819f61f5a7bb8ace1921282415f10551d2defa5c3eb0985b570'
    """
    entries = [tensor.entry for tensor in sorted(found, key=lambda tensor: tensor.name)]
    return hashlib.sha256(canonical(entries)).hexdigest()
