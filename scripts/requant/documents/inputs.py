"""The inputs of a release: everything that came from outside, as it was fetched and proven.

A pin says what is wanted, an input what was had: of each pin in ``requant.documents.pins``, ``as_input`` gives the JSON
that is read here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from requant.documents.entries import File, files
from requant.ground.digests import Known


@dataclass(frozen=True)
class PackageInput:
    """A distribution on the package index."""

    project: str
    version: str
    size: int
    sha256: str

    @classmethod
    def of(cls, entry: Mapping[str, Any] | None) -> Self | None:
        """Read an entry; ``None`` where no package was used."""
        return None if entry is None else cls(entry["project"], entry["version"], entry["size"], entry["sha256"])


@dataclass(frozen=True)
class WeightsInput:
    """A checkpoint: at a hub, in a package, or generated from a shape and a seed."""

    name: str
    repo: str | None
    revision: str | None
    licence: str
    package: PackageInput | None
    generate: Mapping[str, int] | None
    files: tuple[File, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read ``inputs.model`` of a manifest."""
        return cls(
            entry["name"], entry["repo"], entry["revision"], entry["licence"], PackageInput.of(entry["package"]),
            entry.get("generate"), files(entry["files"]),
        )  # fmt: skip


@dataclass(frozen=True)
class CorpusInput:
    """Texts by their role, ``calibration`` or ``evaluation``, and the ``files`` of a data set that they come from."""

    name: str
    repo: str | None
    config: str | None
    revision: str | None
    licence: str
    files: Mapping[str, Known]
    texts: Mapping[str, File]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read ``inputs.corpus`` of a manifest."""
        return cls(
            entry["name"], entry["repo"], entry["config"], entry["revision"], entry["licence"],
            {file["name"]: Known(file["size"], file["sha256"]) for file in entry["files"]},
            {role: File.of(text) for role, text in entry["texts"].items()},
        )  # fmt: skip


@dataclass(frozen=True)
class ToolchainInput:
    """A llama.cpp commit, its tree, and the package that the source came in, if it came in one."""

    name: str
    commit: str
    tree: str
    sdist: PackageInput | None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read ``inputs.toolchain`` of a manifest."""
        return cls(entry["name"], entry["commit"], entry["tree"], PackageInput.of(entry["sdist"]))


@dataclass(frozen=True)
class Inputs:
    """All of them."""

    weights: WeightsInput
    corpus: CorpusInput
    toolchain: ToolchainInput

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read ``inputs`` of a manifest, where the weights are called ``model``."""
        return cls(
            WeightsInput.of(entry["model"]), CorpusInput.of(entry["corpus"]), ToolchainInput.of(entry["toolchain"])
        )
