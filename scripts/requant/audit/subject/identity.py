"""What the audited bytes are: the SHA-256 of each file, as it was read and as others say it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FileIdentity:
    """One of the subject's files: its SHA-256, if all bytes were read, and what others ``said`` that it is, by who."""

    name: str
    size: int
    sha256: str | None = None
    said: Mapping[str, str] = field(default_factory=dict)

    @property
    def contradictions(self) -> list[str]:
        """Who says something else than what was read, in words."""
        return [
            f"{who} gives SHA-256 {said}, and the bytes that were read have {self.sha256}"
            for who, said in self.said.items()
            if self.sha256 not in (None, said)
        ]

    def document(self) -> dict[str, Any]:
        """A part of a split model for canonical JSON."""
        recorded = dict(sorted(self.said.items()))
        return {"name": self.name, "size": self.size, "sha256": self.sha256, "recorded": recorded}


@dataclass(frozen=True)
class Identity:
    """The subject's files: one, or the parts of a split model."""

    files: tuple[FileIdentity, ...]

    @property
    def sha256(self) -> str | None:
        """That of the one file; ``None`` where there are several, or not all was read."""
        return self.files[0].sha256 if len(self.files) == 1 else None

    @property
    def is_read(self) -> bool:
        """Whether every byte of every file was."""
        return all(file.sha256 for file in self.files)

    @property
    def contradictions(self) -> list[str]:
        """Of all files."""
        if len(self.files) == 1:
            return self.files[0].contradictions
        return [f"of {file.name}, {sentence}" for file in self.files for sentence in file.contradictions]
