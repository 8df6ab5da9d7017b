"""The manifest: what a release is made of, read from outside and seen as typed parts.

Two of its words have others in the code: ``model`` is the working GGUF (here ``bf16``), and ``inputs.model`` are the
weights (here ``inputs.weights``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from requant.documents.entries import File, Step, files, tensors
from requant.documents.file_names import MANIFEST
from requant.documents.inputs import Inputs
from requant.documents.schemas import fault
from requant.formats.weights_root import TensorEntry
from requant.ground.canonical import canonical, parse
from requant.ground.digests import Digest, read_small
from requant.ground.errors import FormatError, UnsupportedError
from requant.ground.text import printable

OURS = "requant/manifest/"
SCHEMA = f"{OURS}v2"
SCHEMAS = (f"{OURS}v1", SCHEMA)
"""All versions; every later requant reads each, so that old releases verify forever. The first has no weights root."""

LONGEST = 1 << 23
"""Bytes: room for thirty quants of a model with a thousand tensors."""


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe without machine facts, and the SHA-256 that is claimed of it."""

    document: Mapping[str, Any]
    sha256: str


@dataclass(frozen=True)
class WorkingGGUF:
    """The converted weights, which are not released; ``expanded_from`` are the types of weights that came quantized.

    ``rounded_from`` are types that hold more than BF16 does.
    """

    file: File
    architecture: str
    expanded_from: str | None
    rounded_from: str | None
    tensors: tuple[TensorEntry, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read ``model`` of a manifest."""
        return cls(
            File.of(entry["file"]), entry["architecture"], entry["expanded_from"], entry.get("rounded_from"),
            tensors(entry["tensors"]),
        )  # fmt: skip


@dataclass(frozen=True)
class ImatrixEntry:
    """The importance matrix: which variant computed it, from how many chunks of how many tokens, for how many weights.

    ``features`` are those of the processor, where they decide the bytes. ``shards`` are the matrices that were added up
    to it, in this order; none where it was computed at once. ``unseen`` are the weights of which some experts saw no
    token, and how many.
    """

    file: File
    variant: str
    features: tuple[str, ...]
    chunks: int
    chunk_size: int
    entries: int
    shards: tuple[File, ...]
    unseen: Mapping[str, int]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read ``imatrix`` of a manifest, where the variant is called ``arithmetic``."""
        return cls(
            File.of(entry["file"]), entry["arithmetic"], tuple(entry["features"]), entry["chunks"],
            entry["chunk_size"], entry["entries"], files(entry.get("shards", ())),
            {weight["name"]: weight["unseen"] for weight in entry.get("unseen", ())},
        )  # fmt: skip


@dataclass(frozen=True)
class QuantEntry:
    """One released GGUF: ``type`` is what llama-quantize was asked for, such as ``Q4_K_M``.

    ``fallbacks`` are the tensors that could not take the type meant for them. ``weights_root`` is one digest for all
    tensors, ``None`` in a manifest of version 1.
    """

    file: File
    type: str
    fallbacks: tuple[Mapping[str, Any], ...]
    tensors: tuple[TensorEntry, ...]
    weights_root: str | None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Read one of ``quants`` of a manifest."""
        return cls(
            File.of(entry["file"]), entry["type"], tuple(entry["fallbacks"]), tensors(entry["tensors"]),
            entry.get("weights_root"),
        )  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """A manifest; ``document`` is the JSON that its parts were read from.

    ``variants`` are builds of the toolchain by name; ``quants`` and ``steps`` are in the order of the recipe.
    """

    recipe: RecipeEntry
    inputs: Inputs
    variants: Mapping[str, Mapping[str, Any]]
    bf16: WorkingGGUF
    imatrix: ImatrixEntry
    quants: tuple[QuantEntry, ...]
    steps: tuple[Step, ...]
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """See a document that has the right form (law: ``Manifest.of(document).document is document``)."""
        return cls(
            RecipeEntry(document["recipe"]["document"], document["recipe"]["sha256"]),
            Inputs.of(document["inputs"]),
            document["variants"],
            WorkingGGUF.of(document["model"]),
            ImatrixEntry.of(document["imatrix"]),
            tuple(map(QuantEntry.of, document["quants"])),
            tuple(map(Step.of, document["steps"])),
            document,
        )

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.recipe.document["name"])

    @property
    def files(self) -> dict[str, Digest]:
        """The files of the release that are described here, by name: the importance matrix and the quants."""
        released = (self.imatrix.file, *(quant.file for quant in self.quants))
        return {file.name: file.digest for file in released}

    @property
    def outputs(self) -> tuple[File, ...]:
        """What the steps made, in order: the working GGUF, the importance matrix after its shards, the quants."""
        return self.bf16.file, *self.imatrix.shards, self.imatrix.file, *(quant.file for quant in self.quants)

    @property
    def weights_source(self) -> str | None:
        """The weights' ``repo@revision`` on a hub; ``None`` where no hub has them."""
        weights = self.inputs.weights
        return f"{weights.repo}@{weights.revision}" if weights.repo and weights.revision else None


def alike(a: Manifest, b: Manifest) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Both documents in one version, so that they can be compared: what a later one adds follows from the rest."""
    if a.document["schema"] == b.document["schema"]:
        return a.document, b.document
    return _first(a.document), _first(b.document)


def _first(document: Mapping[str, Any]) -> Mapping[str, Any]:
    quants = [{key: value for key, value in quant.items() if key != "weights_root"} for quant in document["quants"]]
    return {**document, "schema": SCHEMAS[0], "quants": quants}


def read_manifest(path: Path) -> Manifest:
    """Read a manifest from outside: at most ``LONGEST`` bytes, canonical, of a known version and in its form.

    Raises:
        FormatError: naming the file or the key.
        UnsupportedError: when its schema is none of ``SCHEMAS``.
    """
    data = read_small(path, LONGEST)
    document = parse(data, MANIFEST)
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str):
        raise FormatError(f"{MANIFEST} names no schema: get the file again")
    _require_known(schema)
    if canonical(document) != data:
        raise FormatError(f"{MANIFEST} is not canonical JSON: get the file again")
    require_form(document)
    return Manifest.of(document)


def own_manifest(data: bytes) -> Manifest | None:
    """A manifest that lies beside a GGUF; ``None`` of what is called so and is of somebody else's making.

    Many programs have a file of this name, some with comments or NaN in it, so it need not even be JSON.

    Raises:
        FormatError: when it is ours and damaged, naming the file or the key.
        UnsupportedError: when it is ours and its schema is none of ``SCHEMAS``.
    """
    if f'"{OURS}'.encode() not in data:
        return None
    document = parse(data, MANIFEST)
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or not schema.startswith(OURS):
        return None
    _require_known(schema)
    require_form(document)
    return Manifest.of(document)


def _require_known(schema: str) -> None:
    if schema not in SCHEMAS:
        raise UnsupportedError(f"{MANIFEST} has schema {printable(schema)}: install a requant that knows it")


def require_form(document: Any) -> None:
    """Check a manifest of any version, and the recipe in it, against their schemas.

    Raises:
        FormatError: one sentence naming the key.
    """
    wrong = fault(document, "manifest", MANIFEST) or fault(
        document["recipe"]["document"], "recipe", f"{MANIFEST}: recipe.document"
    )
    for number, quant in enumerate(() if wrong else document["quants"]):
        if ("weights_root" in quant) is not (document["schema"] == SCHEMA):
            wrong = f"{MANIFEST}: quants.{number}.weights_root stands in {SCHEMA} alone, and in every quant of it"
    if wrong:
        raise FormatError(printable(wrong))
