"""A new entry of the pin table: every file of a checkpoint, or one GGUF, with its size and digest; nobody types those.

Digests come from the hub's record where it has a SHA-256. Smaller files are read, and must have the git id recorded.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from requant.conversion.files import DESCRIPTION, checkpoint_files, shards_of
from requant.documents.licences import pinned_licence
from requant.documents.pins import read_pins
from requant.documents.yaml_text import yaml_of
from requant.formats.ranged import Ranged, read_whole
from requant.formats.safetensors import INDEX, MAX_INDEX, SUFFIX
from requant.ground.digests import CHUNK, Digest, named_when_whole
from requant.ground.errors import PinnedBytesError, PlaceError, RecipeError
from requant.ground.progress import progress
from requant.places.pages import spelled
from requant.places.place import Place, RepositoryPlace, named, open_place
from requant.places.repository import NAME

MODELS = re.compile(r"^models:[ \t]*(#[^\r\n]*)?(?=\r?$)", re.MULTILINE)
FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
README_LIMIT = 4_000_000


@dataclass(frozen=True)
class NewPin:
    """An entry of the pin table under ``models``: its ``name``, its YAML, two spaces deep, and its number of files."""

    name: str
    text: str
    files: int


def add_pin(weights: str, table: Path, name: str | None = None, licence: str | None = None) -> NewPin:
    """Look at a checkpoint or a GGUF, and write all that a pin of it says into a pin table, first among its models.

    Every other line of the table stays as it is.

    Args:
        weights: a folder, ``owner/name[@revision]`` on the Hub, or one of the forms in ``requant.places.place``.
        table: the pin table.
        name: what the pin is called; by default as the repository or the folder.
        licence: an SPDX expression; by default what the README.md says.

    Raises:
        SourceError, PlaceError: when the weights cannot be had, or are none that can be converted.
        RecipeError: when no licence is named, or the table has such an entry, or no models.
    """
    weights = spelled(weights)
    called = name or Path(weights.partition("://")[2] or Path(weights).resolve()).name.partition("@")[0]
    if called in read_pins(table).models:
        raise RecipeError(f"{table} has models.{called} already: remove it first, or give another --name")
    text = table.read_bytes().decode()
    end = "\r\n" if "\r\n" in text else "\n"
    found = MODELS.search(text)
    if found is None:
        raise RecipeError(f"{table} has no line that is models: and nothing else: write one")
    pin = _look(weights, called, licence)
    written = pin.text.rstrip().replace("\n", end)
    # Where a link leads to: the link itself stays one.
    with named_when_whole(table.resolve()) as temporary:
        temporary.write_bytes(f"{text[: found.end()]}{end}{written}{text[found.end() :]}".encode())
        read_pins(temporary, str(table))
    return pin


def _look(weights: str, name: str, licence: str | None) -> NewPin:
    weights = named(weights)
    with open_place(weights) as place:
        names = _chosen(place)
        entry = _origin(place, weights) | {"licence": licence or _licence(place)}
        total = sum(place.open(file).size for file in names if place.is_local)
        with progress(total or None, "reading the files", "B", scale=True) as bar:
            entry["files"] = {file: _known(place, file, bar.update) for file in names}
    return NewPin(name, _as_yaml(name, entry), len(names))


def _chosen(place: Place) -> list[str]:
    """The files to pin."""
    if place.quant is not None:
        raise PlaceError(f"{place.shown} is pinned by its files, not as {place.quant}: write {place.pinned('FILE')}")
    if place.file is not None:
        return [place.file]
    names = checkpoint_files(place.names)
    if INDEX in names:
        index = read_whole(place.open(INDEX), MAX_INDEX, "an index")
        texts = [name for name in names if not name.endswith(SUFFIX)]
        names = sorted([*texts, *shards_of(index, f"{INDEX} of {place.shown}")])
    if any(name.endswith(SUFFIX) for name in names):
        if lost := next((name for name in names if name not in place.names), None):
            raise PlaceError(f"{place.shown} lacks {lost}, which {INDEX} names: get all of it")
        return names
    ggufs = [name for name in place.names if name.endswith(".gguf")]
    if len(ggufs) == 1:
        return ggufs
    wanted = "name the file of the one GGUF that is meant" if ggufs else "name one that has"
    raise PlaceError(f"{place.shown} holds no weights as safetensors (model*{SUFFIX}): {wanted}")


def _origin(place: Place, weights: str) -> dict[str, Any]:
    if not isinstance(place, RepositoryPlace):
        if not place.is_local:
            raise PlaceError(
                f"{place.shown} is one file on a server, which no pin can name: download it, pin its folder"
            )
        return {"public": False}
    kind, _, rest = weights.partition("://")
    found = NAME.match(rest)
    repo = found["repo"] if found else rest
    if kind == "hf":
        return {"repo": repo, "revision": place.revision}
    # ModelScope does not tell which commit a branch is; the digests alone prove the files then.
    revision = {"revision": place.revision} if place.revision else {}
    return {"repo": repo, "modelscope": {"repo": repo, **revision}}


def _licence(place: Place) -> str:
    front = None
    if DESCRIPTION in place.names and place.file is None:
        text = read_whole(place.open(DESCRIPTION), README_LIMIT, "a README.md").decode(errors="replace")
        if match := FRONT_MATTER.match(text):
            try:
                front = yaml_of(match[1])
            except yaml.YAMLError:
                front = None
    front = front if isinstance(front, dict) else {}
    found = front.get("license")
    found = front.get("license_name", found) if found == "other" else found
    if not isinstance(found, str) or not found:
        raise RecipeError(
            f"{place.shown} names no licence in a {DESCRIPTION}: give it with --licence, as SPDX writes it"
        )
    return pinned_licence(found)


def _known(place: Place, name: str, advance: Any) -> dict[str, Any]:
    expected = place.expected(name)
    if expected is not None and expected.sha256 is not None and expected.size is not None:
        return {"size": expected.size, "sha256": expected.sha256}
    file = place.open(name)
    found, git_blob = _digest(file, advance)
    if expected is not None and expected.git_blob not in (None, git_blob):
        raise PinnedBytesError(f"{file.name} has git blob id {git_blob}, recorded is {expected.git_blob}: try again")
    return {"size": found.size, "sha256": found.sha256}


def _digest(file: Ranged, advance: Any) -> tuple[Digest, str]:
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    for offset in range(0, file.size, CHUNK):
        piece = file.read(offset, min(CHUNK, file.size - offset))
        sha256.update(piece)
        blob.update(piece)
        advance(len(piece))
    return Digest(file.size, sha256.hexdigest()), blob.hexdigest()


def _as_yaml(name: str, entry: dict[str, Any]) -> str:
    """In the form that the table has: a file a line."""
    lines = [f"  {_scalar(name)}:"]
    for key, value in entry.items():
        if key == "files":
            lines += ["    files:", *_file_lines(value.items())]
        elif isinstance(value, dict):
            lines.append(f"    {key}: {{{', '.join(f'{part}: {_scalar(text)}' for part, text in value.items())}}}")
        else:
            lines.append(f"    {key}: {_scalar(value)}")
    return "\n".join(lines) + "\n"


def _file_lines(files: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    return [f"      {_scalar(name)}: {{size: {known['size']}, sha256: {known['sha256']}}}" for name, known in files]


def _scalar(value: object) -> str:
    """One value as YAML; quoted where it would be read as something else."""
    return yaml.safe_dump(value, default_flow_style=True, width=1 << 20).removesuffix("\n...\n").strip()
