"""Where files may lie that are looked at but not made here: a path, a hub's repository, an address.

    model.gguf · folder/ · hf://owner/name[@revision][/file] · ms://owner/name[@revision][/file] · https://host/file

The clients of the hubs are imported only where a hub is named, so files on this machine need none of them.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from requant.formats.ranged import LocalFile, Ranged
from requant.ground.digests import GIT_ID, SHA256, Known
from requant.ground.errors import PlaceError, SourceError
from requant.places.addresses import Address, checked, without_secrets
from requant.places.remote import Connections, Network, RemoteFile

FORMS = "write a path, hf://owner/name[@revision][/file], ms://owner/name[@revision][/file] or https://host/file"
REPOSITORY = re.compile(
    # A name as both hubs allow it; a revision with a slash only where the Hub itself makes such.
    r"(?P<repo>\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?)(?:@(?P<revision>refs/(?:pr|convert)/[\w.-]+|[\w-][\w.-]*))?(?:/(?P<file>.+))?",
    re.ASCII,
)
MAX_FILES = 100_000


@dataclass(eq=False)
class Place:
    """Files that belong together, and how to read them; to be closed, or used as a context manager.

    ``shown`` is for messages and holds no secrets. ``names`` are relative paths with slashes, sorted. ``file`` is the
    one that was named, if one was. ``revision`` is the full commit id that everything is read from, if one is known.
    """

    shown: str
    names: list[str]
    file: str | None
    revision: str | None
    is_local: bool
    _opener: Callable[[str], Ranged] = field(repr=False)
    _expected: Mapping[str, Known] = field(default_factory=dict, repr=False)
    _opened: dict[str, Ranged] = field(default_factory=dict, repr=False)
    _closing: ExitStack = field(default_factory=ExitStack, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def open(self, name: str) -> Ranged:
        """Give one of the files; it stays open as long as the place.

        Raises:
            SourceError: when it is none of ``names``, or cannot be had.
        """
        if name not in self.names:
            raise PlaceError(f"{self.shown} holds no {name[:256]!r}: correct the name")
        with self._lock:
            if name not in self._opened:
                found = self._opener(name)
                if isinstance(found, LocalFile):
                    self._closing.callback(found.close)
                self._opened[name] = found
            return self._opened[name]

    def expected(self, name: str) -> Known | None:
        """What a hub records of a file: its size, and its SHA-256 or git blob id."""
        return self._expected.get(name)

    def keep(self, file: LocalFile) -> LocalFile:
        """Close a file from elsewhere together with this place."""
        self._closing.callback(file.close)
        return file

    def close(self) -> None:
        """Close all files and connections; may be called twice."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_place(text: str, network: Network | None = None) -> Place:
    """Find out what a place holds; a branch is resolved here, once, and everything is read from that commit.

    Args:
        text: a path, or one of the forms above.
        network: what is read over it is counted there, and it says how many connections there may be at a time.

    Raises:
        SourceError: one sentence, when ``text`` is none of the forms, or the place cannot be reached or read.
    """
    if not text or not text.isprintable():
        raise PlaceError(f"{text[:256]!r} names no place: {FORMS}")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _local(Path(text), text)
    if scheme in ("http", "https"):
        return _address(text, Connections(network))
    if scheme not in ("hf", "ms"):
        raise PlaceError(f"{scheme[:16]}:// is no known kind of place: {FORMS}")
    found = REPOSITORY.fullmatch(rest)
    if not found or any("--" in each or ".." in each for each in found["repo"].split("/")):
        raise PlaceError(f"{re.split('[?#]', text, maxsplit=1)[0][:256]} names no repository: {FORMS}")
    place = (_hugging_face if scheme == "hf" else _modelscope)(found, Connections(network))
    if place.file is not None and place.file not in place.names:
        place.close()
        raise PlaceError(f"{place.shown} holds no {place.file[:256]!r}: correct the name")
    return place


def _local(path: Path, shown: str) -> Place:
    try:
        if path.is_dir():
            names = _checked(shown, _files_below(path, shown))
            return Place(
                shown, names, None, None, True, lambda name: LocalFile(path / name, f"{shown.rstrip('/')}/{name}")
            )
        if not path.exists():
            raise PlaceError(f"{shown} does not exist: {FORMS}")
    except (OSError, ValueError) as error:
        raise PlaceError(f"{shown} cannot be read ({getattr(error, 'strerror', error)}): {FORMS}") from error
    place = Place(shown, [path.name], path.name, None, True, lambda _: LocalFile(path))
    try:
        place.open(path.name)
    except SourceError:
        place.close()
        raise
    return place


def _files_below(folder: Path, shown: str) -> list[str]:
    """All regular files, also behind links (caches of hubs are made of those), but no folders behind links."""
    found: list[str] = []
    for here, _, names in os.walk(folder):
        at = Path(here)
        found += [(at / name).relative_to(folder).as_posix() for name in names if (at / name).is_file()]
        if len(found) > MAX_FILES:
            raise PlaceError(f"{shown} holds more than {MAX_FILES:,} files: name the folder of one model")
    return found


def _address(text: str, connections: Connections) -> Place:
    shown = without_secrets(text)
    name = unquote(urlsplit(shown).path).rpartition("/")[2]
    address = checked(Address(text), shown)
    if not name:
        raise PlaceError(f"{shown} names no file: {FORMS}")
    place = Place(
        shown, _checked(shown, [name]), name, None, False, lambda _: RemoteFile(shown, lambda: address, connections)
    )
    place._closing.callback(connections.close)
    return place


def _hugging_face(found: re.Match[str], connections: Connections) -> Place:
    from requant.places.hub import HubSource, list_commit

    commit, expected = list_commit(found["repo"], found["revision"])
    asked = found["revision"] or ""
    source = HubSource(found["repo"], commit)
    if GIT_ID.fullmatch(asked) and asked != commit:
        raise SourceError(f"{source.shown} was given for the commit {asked}: correct HF_ENDPOINT")
    return _repository(source.shown, found["file"], commit, expected, source.address, connections)


def _modelscope(found: re.Match[str], connections: Connections) -> Place:
    from requant.places.modelscope import ModelScopeSource

    asked = found["revision"]
    source = ModelScopeSource(found["repo"], asked, "the address", "name another source")
    # ModelScope does not tell which commit a branch stands for; sizes and ETags notice when it moves.
    commit = asked if asked and GIT_ID.fullmatch(asked) else None
    return _repository(source.shown, found["file"], commit, source.listing(), source.address, connections)


def _repository(
    shown: str,
    file: str | None,
    commit: str | None,
    expected: Mapping[str, Known],
    locate: Callable[[str], Address],
    connections: Connections,
) -> Place:
    def opener(name: str) -> Ranged:
        return RemoteFile(f"{name} of {shown}", partial(locate, name), connections, expected[name].size)

    names = _checked(shown, expected)
    for name in names:
        if not _is_possible(expected[name]):
            raise SourceError(f"{shown} lists {name!r} with an impossible size or digest: take it from another source")
    place = Place(shown, names, file, commit, False, opener, expected)
    place._closing.callback(connections.close)
    return place


def _is_possible(known: Known) -> bool:
    """Whether a hub's record, which is whatever its answer held, has the types that it should have."""
    size, digests = known.size, ((known.sha256, SHA256), (known.git_blob, GIT_ID))
    return (size is None or (type(size) is int and 0 <= size < 1 << 63)) and all(
        digest is None or (isinstance(digest, str) and form.fullmatch(digest)) for digest, form in digests
    )


def _checked(shown: str, names: Iterable[object]) -> list[str]:
    """Sort the names of a listing; refuse such as lead out of it, or do things to a terminal.

    Raises:
        SourceError: naming the first of them.
    """
    found = []
    for name in names:
        text = str(name)
        plain = text == name and text.isprintable() and "\\" not in text
        if not plain or any(part in ("", ".", "..") for part in text.split("/")):
            raise SourceError(f"{shown} lists a file named {text[:256]!r}: names must be relative, printable and plain")
        found.append(text)
    return sorted(found)
