"""What is audited, and what it says of its own making: the quant, our manifest if there is one, and the imatrix.

A subject with our manifest names its weights, its importance matrix and its llama.cpp. For any other the GGUF's own
header is asked, and what was inferred from it is said.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

from requant.audit.claims import Inferred, infer
from requant.documents.file_names import IMATRIX, MANIFEST
from requant.documents.manifest import LONGEST, SCHEMAS, Manifest, require_form
from requant.formats.gguf import Header, read_header
from requant.formats.imatrix import is_imatrix
from requant.formats.ranged import LocalFile, Ranged, as_file, read_whole
from requant.ground.canonical import parse
from requant.ground.errors import FormatError, PlaceError, UnsupportedError
from requant.places.place import Place, open_place
from requant.places.remote import Network

NOT_QUANTS = ("imatrix", "mmproj")
"""GGUFs whose names begin so hold no language model."""
MOST_LOOKED_AT = 8
"""GGUFs of a folder whose headers are read to find out what they are."""


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

    @property
    def matrix(self) -> Ranged | None:
        """The importance matrix beside it, if there is one: called so, or some other GGUF that says that it is one."""
        if found := _sibling(self.place, self.file, self.name, IMATRIX):
            return found
        folder = PurePosixPath(self.name).parent
        others = [
            name
            for name in self.place.names
            if name.endswith(".gguf") and "imatrix" in name.lower() and PurePosixPath(name).parent == folder
        ]
        files = [self.place.open(name) for name in others[:MOST_LOOKED_AT] if name != self.name]
        return next((file for file in files if _holds_imatrix(file)), None)


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
        header = read_header(as_file(file), file.name)
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
        quants = [name for name in quants if not _holds_imatrix(place.open(name))]
    if not names:
        raise PlaceError(f"{place.shown} holds no GGUF file: name the folder, repository or file of a quant")
    if len(quants) != 1:
        shown = ", ".join(quants[:3]) or names[0]
        raise PlaceError(f"{place.shown} holds {len(quants):,} quants ({shown}): name the file that is meant")
    return quants[0]


def _holds_imatrix(file: Ranged) -> bool:
    """Whether a GGUF says that it is an importance matrix, however it is called."""
    try:
        return is_imatrix(read_header(as_file(file), file.name))
    except FormatError:
        return False


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
