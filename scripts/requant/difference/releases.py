"""What differs between two release folders: file by file, and inside each file that both have.

Two releases are the same when their manifests are equal, and every file that the manifests describe, and neither holds
anything else. Papers follow from these and from the version of requant that wrote them, or are made later, and hubs add
files of their own: a difference in those is only told.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from requant.difference.ggufs import Change, GGUFDiff, Open, diff_gguf
from requant.difference.imatrices import Comparison, compare
from requant.difference.summary import summed_up
from requant.documents.file_names import (
    BILL_OF_MATERIALS,
    CARD,
    EVALUATION,
    IMATRIX,
    LEFT_BY_HUBS,
    MANIFEST,
    SIGNATURES,
    SUMS,
)
from requant.documents.manifest import alike, read_manifest
from requant.formats.gguf_values import ABSENT
from requant.ground.digests import Digest, digest_file
from requant.ground.errors import DiskError, FormatError, SourceError, StaleError, ToolError, naming
from requant.ground.text import counted, printable

LONGEST = 120
"""Characters of a manifest's value that are shown at most."""
ONLY_TOLD = frozenset((CARD, MANIFEST, SUMS, *SIGNATURES, EVALUATION, BILL_OF_MATERIALS, *LEFT_BY_HUBS))
"""Files of the folder itself that may differ between equal releases; what manifests say is compared key by key."""


@dataclass(frozen=True)
class FileDiff:
    """One file that is not the same in both folders.

    ``digests`` are those in A and B, ``None`` where the folder has no such file. ``detail`` is what differs inside it,
    where requant can tell; ``problem`` is one sentence on what cannot be told. ``described`` is whether a manifest
    describes the file.
    """

    name: str
    digests: tuple[Digest | None, Digest | None]
    detail: GGUFDiff | Comparison | None
    problem: str | None
    described: bool

    @property
    def matters(self) -> bool:
        """Whether releases that differ in the file are not the same."""
        return self.described or self.name not in ONLY_TOLD


@dataclass(frozen=True)
class ReleaseDiff:
    """Two release folders A and B: ``manifest`` key by key, the ``files`` that differ, and how many are equal."""

    manifest: tuple[Change, ...]
    files: tuple[FileDiff, ...]
    equal: int

    @property
    def same(self) -> bool:
        """Whether the manifests are equal, and all that they describe, and there is nothing else."""
        return not self.manifest and not any(file.matters for file in self.files)

    @property
    def summary(self) -> str:
        """One sentence: the same, or in what they differ."""
        files, places = len(self.files), counted(len(self.manifest), "place")
        others = f"; {counted(files, 'file')} that the manifest does not describe differ" if files else ""
        parts = (
            (len(self.manifest), f"{places} of the manifest"),
            (files, f"{files:,} of {counted(files + self.equal, 'file')}"),
        )
        return summed_up(self.same, f"the manifests are equal, and all that they describe{others}", parts)


def diff_releases(a: Path, b: Path, quantizer: Open) -> ReleaseDiff:
    """Find everything that differs between two release folders. Files that differ are read twice, others once.

    Raises:
        FormatError: when a folder or its manifest cannot be read (which of them is said).
        UnsupportedError: when a manifest has a schema that this version does not know.

    What ``quantizer`` raises because there is no network, room or compiler becomes a ``problem`` of the file.
    """
    manifests = []
    for label, folder in (("A", a), ("B", b)):
        with naming(label, folder):
            manifests.append(read_manifest(folder / MANIFEST))
    described = {name for manifest in manifests for name in manifest.files}
    found, equal = [], 0
    for name in sorted({*_names("A", a), *_names("B", b), *described}):
        digests = (_digest("A", a / name), _digest("B", b / name))
        # What is no file in either was listed, or is described, and cannot be compared.
        if digests[0] != digests[1] or digests[0] is None:
            detail, problem = _look_inside(a / name, b / name, quantizer) if all(digests) else (None, None)
            found.append(FileDiff(name, digests, detail, problem, name in described))
        else:
            equal += 1
    return ReleaseDiff(tuple(changes(*alike(*manifests))), tuple(found), equal)


def _names(label: str, folder: Path) -> list[str]:
    """Whatever lies in the folder and below it but folders; hubs and their clients leave hidden ones at its top."""
    with naming(label, folder):
        names = (path.relative_to(folder) for path in _everything(folder))
        return [name.as_posix() for name in names if not name.parts[0].startswith(".")]


def _everything(folder: Path) -> Iterator[Path]:
    """Links to folders are not followed, as they may lead back."""
    for inner, folders, files in os.walk(folder, onerror=_fail):
        here = Path(inner)
        if here == folder:
            folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (here / name for name in files)
        yield from (here / name for name in folders if (here / name).is_symlink())


def _fail(error: OSError) -> NoReturn:
    raise error


def _digest(label: str, path: Path) -> Digest | None:
    with naming(label, path):
        return digest_file(path) if path.is_file() else None


def _look_inside(a: Path, b: Path, quantizer: Open) -> tuple[GGUFDiff | Comparison | None, str | None]:
    """What differs inside two files, or why that cannot be told: a damaged file is a difference, not the end."""
    if a.suffix != ".gguf":
        return None, None
    try:
        try:
            return (compare(a, b) if a.name == IMATRIX else diff_gguf(a, b, quantizer)), None
        except (SourceError, ToolError, StaleError, DiskError) as error:
            return diff_gguf(a, b, None), printable(f"the weights cannot be compared: {error}")
    except FormatError as error:
        return None, printable(str(error))


def changes(a: Any, b: Any, place: str = "") -> Iterator[Change]:
    """Every place where two JSON documents differ.

    Items of lists are told apart by their ``name`` or ``type`` where all have one that is theirs alone, else by their
    number.
    """
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted(a.keys() | b.keys()):
            inner = f"{place}.{key}" if place else str(key)
            yield from _below(a, b, key, inner)
    elif isinstance(a, list) and isinstance(b, list):
        one, other = (_labelled(items) for items in (a, b))
        if one is None or other is None:
            one, other = ({str(index): item for index, item in enumerate(items)} for items in (a, b))
        elif one.keys() == other.keys() and [*one] != [*other]:
            yield Change(printable(f"{place}, the order"), *(_shown([*items]) for items in (one, other)))
        for label in [*one, *(label for label in other if label not in one)]:
            yield from _below(one, other, label, f"{place}[{label}]")
    # True is 1 in Python, not in JSON.
    elif a != b or type(a) is not type(b):
        yield Change(printable(place), _shown(a), _shown(b))


def _below(a: Mapping[str, Any], b: Mapping[str, Any], key: str, place: str) -> Iterator[Change]:
    if key in a and key in b:
        yield from changes(a[key], b[key], place)
    else:
        yield Change(printable(place), *(_shown(side[key]) if key in side else ABSENT for side in (a, b)))


def _labelled(items: Sequence[Any]) -> dict[str, Any] | None:
    """The items by their names, if these tell them apart."""
    for key in ("name", "type"):
        if all(isinstance(item, Mapping) and isinstance(item.get(key), str) for item in items):
            found = {item[key]: item for item in items}
            if len(found) == len(items):
                return found
    return None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}...")
