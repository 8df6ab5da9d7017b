"""Which GGUF of a place is meant: the one that was named, or the only one that holds a model; and that it does."""

import re
from pathlib import PurePosixPath

from requant.audit.recipe.matrices import MOST_LOOKED_AT, holds_matrix
from requant.formats.gguf import Header
from requant.formats.gguf_parts import models
from requant.ground.errors import PlaceError, UnsupportedError
from requant.ground.text import counted
from requant.places.place import Place

OTHERS = ("imatrix", "mmproj")
"""GGUFs whose names begin so hold no language model."""
MOST_SHOWN = 24

KINDS = {
    "mmproj": "the part of a model that sees or hears (mmproj)",
    "adapter": "an adapter (LoRA)",
    "clip-vision": "the part of a model that sees (mmproj)",
    "vocab": "a vocabulary",
}
"""``general.type`` of GGUFs without a language model, but for importance matrices."""
CLIP = "clip"
"""``general.architecture`` of every mmproj; those of before 2025 have no ``general.type`` that says it."""


def model_file(place: Place) -> str:
    """The GGUF that is meant; of a split model its first part.

    Raises:
        PlaceError: when there is none, or several: all of them, and how one is named.
    """
    if place.file is not None:
        return place.file
    names = models(place.names)
    if not names:
        raise PlaceError(f"{place.shown} holds no GGUF file: name the folder, repository or file of a quant")
    found = candidates = [name for name in names if not PurePosixPath(name).name.lower().startswith(OTHERS)]
    if place.quant is not None:
        called = re.compile(rf"(?<![A-Za-z0-9]){re.escape(place.quant)}(?![A-Za-z0-9_])", re.IGNORECASE)
        found = [name for name in found if called.search(name)]
    if 1 < len(found) <= MOST_LOOKED_AT:
        found = [name for name in found if not holds_matrix(place.open(name))]
    if len(found) == 1:
        return found[0]
    listed = found or candidates or names
    shown = ", ".join(listed[:MOST_SHOWN]) + (f" and {len(listed) - MOST_SHOWN:,} more" * (len(listed) > MOST_SHOWN))
    called_so = f" called {place.quant}" if place.quant is not None else ""
    count = f"{counted(len(found), 'quant')}{called_so}" + ("" if found else ", only")
    raise PlaceError(f"{place.shown} holds {count} ({shown}): name the file, such as {place.pinned(listed[0])}")


def require_model(header: Header) -> None:
    """Refuse to audit what says that it is no language model.

    Raises:
        UnsupportedError: saying what it is.
    """
    values = {
        key: field.value for key, field in header.metadata.items() if key in ("general.type", "general.architecture")
    }
    kind = values.get("general.type")
    said = KINDS.get(kind) if isinstance(kind, str) else None
    if values.get("general.architecture") == CLIP:
        said = KINDS["mmproj"]
    if said is not None:
        raise UnsupportedError(f"{header.name} is {said}, which is not checked: name the language model beside it")
