"""What is audited, and what it says of its own making: the quant, our manifest if there is one, and the imatrix.

A subject with our manifest names its weights, its importance matrix and its llama.cpp. For any other the GGUF's own
header is asked, and what was inferred from it is said.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from requant.audit.recipe.matrices import matrices_beside
from requant.audit.subject.claims import Inferred, infer
from requant.audit.subject.model_file import model_file, require_model
from requant.documents.file_names import MANIFEST
from requant.documents.manifest import LONGEST, Manifest, own_manifest
from requant.formats.gguf import Header
from requant.formats.gguf_parts import part_names, read_gguf
from requant.formats.imatrix import is_imatrix, legacy_header, starts_as_legacy
from requant.formats.ranged import LocalFile, Ranged, as_file, read_whole
from requant.places.place import Place, named, open_place
from requant.places.remote import Network


@dataclass(frozen=True)
class Subject:
    """One GGUF, opened.

    ``names`` are those of its files: one, or all parts. ``manifest`` is our manifest beside it if there is one that
    describes this file.
    """

    place: Place
    file: Ranged
    names: tuple[str, ...]
    header: Header
    inferred: Inferred
    manifest: Manifest | None

    @property
    def name(self) -> str:
        """That of its file, of the first one if there are several."""
        return self.names[0]

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
        file, said = self.place.open(self.name), self.inferred.imatrix_file
        return matrices_beside(self.place, self.name, file, said, self.with_imatrix)


def open_subject(text: str, network: Network | None = None) -> Subject:
    """Open what is to be audited, all parts of it; close its ``place`` afterwards.

    Raises:
        SourceError: when it cannot be found or reached.
        FormatError: when it is no GGUF, a part of it is missing or another's, or its manifest is damaged.
        UnsupportedError: when it says that it is no language model, or its manifest is of a later version.
    """
    place = open_place(named(text), network)
    try:
        path = model_file(place)
        file = place.open(path)
        if starts_as_legacy(as_file(file)):
            header = legacy_header(file.name, file.size)
        else:
            file, header = read_gguf(place, path)
        require_model(header)
        names = tuple(part_names(path)) if header.parts else (path,)
        manifest = _manifest(_sibling(place, names[0], MANIFEST))
        name = PurePosixPath(names[0]).name
        described = manifest is not None and any(quant.file.name == name for quant in manifest.quants)
        return Subject(place, file, names, header, infer(header), manifest if described else None)
    except BaseException:
        place.close()
        raise


def _sibling(place: Place, path: str, name: str) -> Ranged | None:
    beside, file = PurePosixPath(path).with_name(name).as_posix(), place.open(path)
    if beside in place.names:
        return place.open(beside)
    if isinstance(file, LocalFile) and place.file is not None:
        found = file.path.with_name(name)
        return place.keep(LocalFile(found)) if found.is_file() else None
    return None


def _manifest(file: Ranged | None) -> Manifest | None:
    """Our manifest, which is never longer; one of somebody else's making under the same name is passed over."""
    if file is None or file.size > LONGEST:
        return None
    return own_manifest(read_whole(file, LONGEST, "a manifest"))
