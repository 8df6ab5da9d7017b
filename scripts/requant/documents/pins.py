"""The pin table: every external thing by name, revision, size and digest (``config/pins.yaml``).

A pin says what is wanted, ``requant.documents.inputs`` what was had. ``as_input`` is what a pin knows of the latter, as
records and manifests write it: ``size`` or ``sha256`` is ``None`` where the pin leaves it open, and ways to get the
bytes (a folder in a package, a mirror, a git address) are left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from requant import DATA
from requant.documents.schemas import fault, read_yaml
from requant.formats.pickles import is_pickle
from requant.ground.digests import Known
from requant.ground.errors import RecipeError

WEIGHTS = (".safetensors", ".gguf")
"""How the names of files with weights end."""
PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
TABLE = DATA / "pins.yaml"
"""The table that comes with requant, config/pins.yaml."""


@dataclass(frozen=True)
class PackagePin:
    """A distribution on the package index; ``folder`` is the part of it that is used."""

    project: str
    version: str
    expected: Known
    folder: str

    def as_input(self) -> dict[str, Any]:
        """The distribution, as ``PackageInput`` reads it."""
        return {"project": self.project, "version": self.version, **_known(self.expected)}


@dataclass(frozen=True)
class ModelPin:
    """A model's files: from a hub repository at a commit, from a package, or (``repo`` is None) from a folder.

    ``public`` is false where a manifest shall not say from where.
    """

    name: str
    repo: str | None
    revision: str | None
    licence: str
    package: PackagePin | None
    modelscope: Mapping[str, str] | None
    files: Mapping[str, Known]
    public: bool = True

    @property
    def is_gguf(self) -> bool:
        """Whether the pin is one GGUF file instead of a checkpoint."""
        return all(name.endswith(".gguf") for name in self.files)

    def as_input(self) -> dict[str, Any]:
        """The weights, as ``WeightsInput`` reads them."""
        return {
            "name": self.name,
            "repo": self.repo if self.public else None,
            "revision": self.revision if self.public else None,
            "licence": self.licence,
            "package": self.package and self.package.as_input(),
            "files": _known_files(self.files),
        }


@dataclass(frozen=True)
class TextPin:
    """One text of a corpus: rows of a data set's split, or files of the llama.cpp tree."""

    name: str
    split: str | None
    paths: tuple[str, ...]
    expected: Known


@dataclass(frozen=True)
class CorpusPin:
    """A data set at a commit, or (``repo`` is None) text from the llama.cpp source tree."""

    name: str
    repo: str | None
    revision: str | None
    config: str | None
    licence: str
    files: Mapping[str, Known]
    texts: Mapping[str, TextPin]

    def as_input(self, texts: Mapping[str, TextPin]) -> dict[str, Any]:
        """The corpus with some of its ``texts`` by their role in a recipe, as ``CorpusInput`` reads it."""
        return {
            "name": self.name,
            "repo": self.repo,
            "config": self.config,
            "revision": self.revision,
            "licence": self.licence,
            "files": _known_files(self.files),
            "texts": {role: {"name": text.name, **_known(text.expected)} for role, text in texts.items()},
        }


@dataclass(frozen=True)
class ToolchainPin:
    """A llama.cpp commit, its tree, and one way to get it."""

    name: str
    commit: str
    tree: str
    sdist: PackagePin | None
    git: str | None
    checkout: str | None

    def as_input(self) -> dict[str, Any]:
        """The llama.cpp source, as ``ToolchainInput`` reads it."""
        sdist = self.sdist and self.sdist.as_input()
        return {"name": self.name, "commit": self.commit, "tree": self.tree, "sdist": sdist}


@dataclass(frozen=True)
class SuitePin:
    """A set of questions: in a package, or (``package`` is None) the files of a data set on the Hub at a commit."""

    name: str
    repo: str | None
    revision: str | None
    licence: str
    package: PackagePin | None
    files: Mapping[str, Known]


@dataclass(frozen=True)
class Pins:
    """The whole table."""

    path: str
    models: Mapping[str, ModelPin]
    corpora: Mapping[str, CorpusPin]
    toolchains: Mapping[str, ToolchainPin]
    suites: Mapping[str, SuitePin]


def _known(expected: Known) -> dict[str, Any]:
    return {"size": expected.size, "sha256": expected.sha256}


def _known_files(files: Mapping[str, Known]) -> list[dict[str, Any]]:
    return [{"name": name, **_known(expected)} for name, expected in files.items()]


def read_pins(path: Path, shown: str | None = None) -> Pins:
    """Read and check a pin table; ``shown`` is how errors name it.

    Raises:
        RecipeError: one sentence naming the key, what was found and what to write.
    """
    where = shown or str(path)
    document = read_yaml(path)
    if wrong := fault(document, "pins", where):
        raise RecipeError(wrong)
    models = {name: _model(name, entry, where) for name, entry in document["models"].items()}
    corpora = {name: _corpus(name, entry, where) for name, entry in document["corpora"].items()}
    toolchains = {name: _toolchain(name, entry, where) for name, entry in document["toolchains"].items()}
    suites = {name: _suite(name, entry, where) for name, entry in document.get("suites", {}).items()}
    return Pins(where, models, corpora, toolchains, suites)


def _expected(entry: Mapping[str, Any]) -> Known:
    return Known(size=entry.get("size"), sha256=entry.get("sha256"))


def _files(entry: Mapping[str, Any]) -> dict[str, Known]:
    return {name: _expected(known) for name, known in sorted(entry.get("files", {}).items())}


def _package(entry: Mapping[str, Any], key: str) -> PackagePin:
    folder = PurePosixPath(entry["folder"])
    if folder.is_absolute() or ".." in folder.parts:
        raise RecipeError(f"{key}.folder is {entry['folder']!r}; write a path inside the distribution")
    return PackagePin(entry["project"], entry["version"], _expected(entry), entry["folder"])


def _model(name: str, entry: Mapping[str, Any], where: str) -> ModelPin:
    key = f"{where}: models.{name}"
    files = _files(entry)
    for file in files:
        if is_pickle(file):
            raise RecipeError(
                f"{key}.files.{file} is a pickle, which can run code when read; pin safetensors or GGUF files instead"
            )
        if file.endswith(".py"):
            raise RecipeError(f"{key}.files.{file} is code from a model repository, which is never run; leave it out")
    if not any(file.endswith(WEIGHTS) for file in files):
        raise RecipeError(f"{key}.files names no weights; list its .safetensors files or one .gguf file")
    if any(file.endswith(".gguf") for file in files) and len(files) > 1:
        raise RecipeError(f"{key}.files lists more than one .gguf file; list exactly one, and nothing beside it")
    part = next(filter(PART.search, files), None)
    if part is not None:
        raise RecipeError(
            f"{key}.files.{part} is one part of a split GGUF; join them (llama-gguf-split --merge), pin the whole"
        )
    undigested = [file for file, known in files.items() if known.sha256 is None]
    _require_origin(entry, key, undigested)
    if entry.get("package") is not None and undigested:
        raise RecipeError(f"{key}.files.{undigested[0]}.sha256 is missing; write the SHA-256 of the packaged file")
    package = _package(entry["package"], f"{key}.package") if entry.get("package") is not None else None
    return ModelPin(
        name, entry.get("repo"), entry.get("revision"), entry["licence"], package,
        entry.get("modelscope"), files, entry.get("public", True),
    )  # fmt: skip


def _require_origin(entry: Mapping[str, Any], key: str, undigested: Sequence[str]) -> None:
    """Somebody must be able to prove every file: a hub at a commit, or the pin by its digests."""
    if "repo" not in entry:
        if entry.get("public", True):
            raise RecipeError(f"{key}.repo is missing; write owner/name, or public: false for weights in a folder")
        if undigested:
            raise RecipeError(
                f"{key}.files.{undigested[0]}.sha256 is missing; let requant pin write the entry of a folder"
            )
    elif entry.get("revision") is None and entry.get("package") is None and (undigested or "modelscope" not in entry):
        raise RecipeError(f"{key}.revision is missing; write a full commit id of {entry['repo']}, or a package")


def _corpus(name: str, entry: Mapping[str, Any], where: str) -> CorpusPin:
    key = f"{where}: corpora.{name}"
    needed = "split" if "repo" in entry else "paths"
    for missing in [part for part in ("revision", "config", "files") if "repo" in entry and part not in entry]:
        raise RecipeError(f"{key}.{missing} is missing; a data set needs repo, revision, config and files")
    files = _files(entry)
    for file, known in files.items():
        # The clients that read data sets check no digests, so the Hub's own record is not asked for them.
        if known.sha256 is None:
            raise RecipeError(f"{key}.files.{file}.sha256 is missing; write the SHA-256 of the data file")
    texts = {}
    for role, text in entry["texts"].items():
        if needed not in text:
            raise RecipeError(f"{key}.texts.{role}.{needed} is missing; write where the text comes from")
        paths = tuple(text.get("paths", ()))
        texts[role] = TextPin(text["name"], text.get("split"), paths, _expected(text))
    return CorpusPin(
        name, entry.get("repo"), entry.get("revision"), entry.get("config"), entry["licence"], files, texts
    )


def _suite(name: str, entry: Mapping[str, Any], where: str) -> SuitePin:
    key = f"{where}: suites.{name}"
    if ("package" in entry) == ("repo" in entry):
        found = "both package and repo" if "repo" in entry else "neither package nor repo"
        raise RecipeError(f"{key} has {found}; write one of them")
    for missing in [part for part in ("revision", "files") if "repo" in entry and part not in entry]:
        raise RecipeError(f"{key}.{missing} is missing; a data set needs repo, revision and files")
    package = _package(entry["package"], f"{key}.package") if "package" in entry else None
    return SuitePin(name, entry.get("repo"), entry.get("revision"), entry["licence"], package, _files(entry))


def _toolchain(name: str, entry: Mapping[str, Any], where: str) -> ToolchainPin:
    ways = [way for way in ("sdist", "git", "checkout") if way in entry]
    if len(ways) != 1:
        found = " and ".join(ways) or "none"
        raise RecipeError(f"{where}: toolchains.{name} has {found}; write exactly one of sdist, git or checkout")
    sdist = _package(entry["sdist"], f"{where}: toolchains.{name}.sdist") if "sdist" in entry else None
    return ToolchainPin(name, entry["commit"], entry["tree"], sdist, entry.get("git"), entry.get("checkout"))
