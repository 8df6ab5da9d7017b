"""Which importance matrix lies beside a quant: in its folder or above, whatever it is called.

What a file holds decides, not its name: ``general.type`` of a GGUF, or the form of the old format. Names only say
where to look first.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path, PurePosixPath

from requant.documents.file_names import IMATRIX
from requant.formats.gguf import read_header
from requant.formats.imatrix import is_imatrix, starts_as_legacy
from requant.formats.ranged import LocalFile, Ranged, as_file
from requant.ground.errors import FormatError, PlaceError
from requant.places.place import Place

MOST_LOOKED_AT = 8
"""Files whose first bytes are read to find out what they are."""
ENDINGS = (".gguf", ".dat", ".imatrix")


def holds_matrix(file: Ranged) -> bool:
    """Whether a file says that it is an importance matrix, or has the old format of one.

    Raises:
        SourceError: when it cannot be read.
    """
    if starts_as_legacy(as_file(file)):
        return True
    try:
        return is_imatrix(read_header(as_file(file), file.name))
    except FormatError:
        return False


def matrices_beside(place: Place, path: str, quant: Ranged, said: str | None, thorough: bool) -> Iterator[Ranged]:
    """Importance matrices beside a quant, the likeliest first.

    Args:
        place: where both lie.
        path: the quant's name there.
        quant: the quant.
        said: what its header calls its matrix, if anything.
        thorough: whether to look into files too whose names do not say that they hold one.

    Raises:
        SourceError: when a file cannot be read.
    """
    called = re.split(r"[\\/]", said or "")[-1]
    own = PurePosixPath(path).name.lower()

    def rank(name: str) -> tuple[bool, bool, bool, int, str]:
        plain = PurePosixPath(name).name
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(plain.lower(), own, strict=False)))
        return plain != called, plain != IMATRIX, not _says_so(plain), -alike, name

    near = {name: opens for name, opens in _near(place, path, quant).items() if name != path}
    named = {name for name in near if _says_so(name) or PurePosixPath(name).name == called}
    others = {name for name in near if name.endswith(ENDINGS)} - named if thorough else set()
    found = False
    for name in [*sorted(named, key=rank)[:MOST_LOOKED_AT], *sorted(others, key=rank)[:MOST_LOOKED_AT]]:
        if found and name in others:
            return
        try:
            file = near[name]()
        except PlaceError:
            continue
        if holds_matrix(file):
            found = True
            yield file


def only_matrix(place: Place) -> Ranged:
    """The file that was named as an importance matrix, or the one in a folder or repository that holds one.

    Raises:
        PlaceError: when there is none, or several.
        SourceError: when a file cannot be read.
    """
    if place.file is not None or IMATRIX in place.names:
        return place.open(place.file or IMATRIX)
    named = [name for name in place.names if _says_so(PurePosixPath(name).name)][:MOST_LOOKED_AT]
    found = [file for file in map(place.open, named) if holds_matrix(file)]
    if len(found) != 1:
        raise PlaceError(f"{place.shown} holds {len(found):,} importance matrices: name the file that is meant")
    return found[0]


def _says_so(name: str) -> bool:
    return "imatrix" in name.lower() and name.endswith(ENDINGS)


def _near(place: Place, path: str, quant: Ranged) -> dict[str, Callable[[], Ranged]]:
    """Files in the quant's folder and those above, and how to open them."""
    folder = PurePosixPath(path).parent
    around = {folder, *folder.parents}
    near: dict[str, Callable[[], Ranged]] = {
        name: partial(place.open, name) for name in place.names if PurePosixPath(name).parent in around
    }
    if place.file is not None and isinstance(quant, LocalFile):
        near |= {each.name: partial(_kept, place, each) for each in _listed(quant.path.parent)}
    return near


def _kept(place: Place, path: Path) -> LocalFile:
    return place.keep(LocalFile(path))


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if each.name.endswith(ENDINGS) and each.name.isprintable())
    except OSError:
        return []
