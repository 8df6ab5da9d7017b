"""What is audited, and what it says of its own making: the quant, our manifest if there is one, and the imatrix.

A subject with our manifest names its weights, its importance matrix and its llama.cpp. For any other the GGUF's own
header is asked, and what was inferred from it is said.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from requant.audit.claims import Inferred, infer
from requant.audit.matrices import MOST_LOOKED_AT, holds_matrix, matrices_beside
from requant.documents.file_names import MANIFEST
from requant.documents.manifest import LONGEST, SCHEMAS, Manifest, require_form
from requant.formats.gguf import Header, read_header
from requant.formats.imatrix import is_imatrix, legacy_header, starts_as_legacy
from requant.formats.ranged import LocalFile, Ranged, as_file, read_whole
from requant.ground.canonical import parse
from requant.ground.errors import PlaceError, UnsupportedError
from requant.places.place import Place, open_place
from requant.places.remote import Network

NOT_QUANTS = ("imatrix", "mmproj")
"""GGUFs whose names begin so hold no language model."""


@dataclass(frozen=True)
class Subject:
    """One GGUF, opened.

    ``name`` is its file name, ``manifest`` our manifest beside it if there is one that describes this file.
    """

    place: Place
    file: Ranged
    name: str
    header: Header
    inferred: Inferred
    manifest: Manifest | None

    @property
    def is_imatrix(self) -> bool:
        """Whether it is an importance matrix and no model."""
        return is_imatrix(self.header)

    @property
    def with_imatrix(self) -> bool:
        """Whether it says that it was made with an importance matrix."""
        said = self.inferred
        return self.manifest is not None or said.imatrix_file is not None or said.imatrix_entries is not None

    @property
    def weights(self) -> str | None:
        """Where it says that its weights lie, as a place; ``None`` where it does not say."""
        if self.manifest is not None:
            return self.manifest.weights_source and f"hf://{self.manifest.weights_source}"
        repositories = [model.repository for model in self.inferred.base_models if model.repository]
        return f"hf://{repositories[0]}" if len(repositories) == 1 else None

    def matrices(self) -> Iterator[Ranged]:
        """The importance matrices beside it, the likeliest first.

        Raises:
            SourceError: when a file cannot be read.
        """
        return matrices_beside(self.place, self.name, self.file, self.inferred.imatrix_file, self.with_imatrix)


def open_subject(text: str, network: Network | None = None) -> Subject:
    """Open what is to be audited; close its ``place`` afterwards.

    Raises:
        SourceError: when it cannot be found or reached.
        FormatError: when it is no GGUF, or its manifest is damaged.
        UnsupportedError: when it is one part of several.
    """
    place = open_place(text, network)
    try:
        path = place.file or _only_quant(place)
        file = place.open(path)
        old = starts_as_legacy(as_file(file))
        header = legacy_header(file.name, file.size) if old else read_header(as_file(file), file.name)
        split = header.metadata.get("split.count")
        if split is not None and split.value not in (0, 1):
            raise UnsupportedError(f"{file.name} is one part of a split model: join it with llama-gguf-split --merge")
        manifest = _manifest(_sibling(place, file, path, MANIFEST))
        name = PurePosixPath(path).name
        described = manifest is not None and any(quant.file.name == name for quant in manifest.quants)
        return Subject(place, file, path, header, infer(header), manifest if described else None)
    except BaseException:
        place.close()
        raise


def _only_quant(place: Place) -> str:
    names = [name for name in place.names if name.endswith(".gguf")]
    quants = [name for name in names if not PurePosixPath(name).name.lower().startswith(NOT_QUANTS)]
    if 1 < len(quants) <= MOST_LOOKED_AT:
        quants = [name for name in quants if not holds_matrix(place.open(name))]
    if not names:
        raise PlaceError(f"{place.shown} holds no GGUF file: name the folder, repository or file of a quant")
    if len(quants) != 1:
        shown = ", ".join(quants[:3]) or names[0]
        raise PlaceError(f"{place.shown} holds {len(quants):,} quants ({shown}): name the file that is meant")
    return quants[0]


def _sibling(place: Place, file: Ranged, path: str, name: str) -> Ranged | None:
    beside = PurePosixPath(path).with_name(name).as_posix()
    if beside in place.names:
        return place.open(beside)
    if isinstance(file, LocalFile) and place.file is not None:
        found = file.path.with_name(name)
        return place.keep(LocalFile(found)) if found.is_file() else None
    return None


def _manifest(file: Ranged | None) -> Manifest | None:
    """Our manifest; one of somebody else's making under the same name is passed over."""
    if file is None:
        return None
    document = parse(read_whole(file, LONGEST, "a manifest"), file.name)
    if not isinstance(document, dict) or document.get("schema") not in SCHEMAS:
        return None
    require_form(document)
    return Manifest.of(document)
