"""Where files may lie that are looked at but not made here: a path, a hub's repository, an address.

    model.gguf · folder/ · hf://owner/name[@revision][/file] · ms://owner/name[@revision][/file] · https://host/file

The address of a page on which a hub shows a repository or a file stands for it. The clients of the hubs are imported
only where a hub is named, so files on this machine need none of them.

``hf://owner/name:Q4_K_M`` is one of a repository's quants. Where one part of a split GGUF is named, its other parts are
among the names.
"""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from requant.formats.gguf_parts import part_names
from requant.formats.ranged import LocalFile, Ranged
from requant.ground.digests import GIT_ID, SHA256, Known
from requant.ground.errors import PlaceError, SourceError
from requant.places.addresses import Address, Label, checked
from requant.places.pages import HUBS, WEIGHTS, spelled
from requant.places.remote import Connections, Network, RemoteFile
from requant.places.repository import NAME, PATH, Commit, Snapshot

FORMS = "write a path, hf://owner/name[@revision][/file], ms://owner/name[@revision][/file] or https://host/file"
MAX_FILES = 100_000


class Place(ABC):
    """Files that belong together, and how to read them; to be closed, or used as a context manager.

    ``shown`` is for messages and reports: it holds no secrets, of a path on this machine only the end. ``names`` are
    relative paths with slashes, sorted. ``file`` is the one that was named, if one was, ``quant`` what stood for one.
    ``revision`` is the full commit id that everything is read from, if one is known; ``spelled`` is how the repository
    at that commit is named, if it is one.
    """

    is_local = False
    revision: str | None = None
    quant: str | None = None
    spelled: str | None = None

    def __init__(self, shown: Label, names: list[str], file: str | None) -> None:
        self.shown, self.names, self.file = shown, names, file
        self._recorded: Mapping[str, Known] = {}
        self._opened: dict[str, Ranged] = {}
        self._closing, self._lock = ExitStack(), threading.Lock()

    @abstractmethod
    def _found(self, name: str) -> Ranged:
        """One of ``names``, opened; what is to be closed is handed to ``_closing``."""

    def open(self, name: str) -> Ranged:
        """Give one of the files; it stays open as long as the place.

        Raises:
            SourceError: when it is none of ``names``, or cannot be had.
        """
        if name not in self.names:
            raise PlaceError(f"{self.shown} holds no {name[:256]!r}: correct the name")
        with self._lock:
            if name not in self._opened:
                self._opened[name] = self._found(name)
            return self._opened[name]

    @abstractmethod
    def pinned(self, name: str | None) -> str:
        """How anybody names one of the files, or with ``None`` the place, again: at its revision, without secrets."""

    def expected(self, name: str) -> Known | None:
        """What a hub records of a file: its size, and its SHA-256 or git blob id."""
        return self._recorded.get(name)

    def history(self) -> list[Commit]:
        """The commits before and after the one that everything is read from, newest first; none where none are known.

        Raises:
            SourceError: when the hub cannot be asked.
        """
        return []

    def at(self, commit: str) -> "Place":
        """The same repository at another commit of its ``history``, to be closed by itself.

        Raises:
            SourceError: when the hub cannot be asked.
        """
        raise AssertionError(commit)

    def keep(self, file: LocalFile) -> LocalFile:
        """Close a file of this machine together with this place."""
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


class LocalPlace(Place):
    """A folder or a file on this machine."""

    is_local = True

    def __init__(self, path: Path, shown: str) -> None:
        try:
            is_folder = path.is_dir()
            if not is_folder and not path.exists():
                raise PlaceError(f"{path} does not exist: {FORMS}")
            names = _plain(shown, _files_below(path, shown)) if is_folder else _parts_beside(path)
        except (OSError, ValueError) as error:
            raise PlaceError(f"{path} cannot be read ({getattr(error, 'strerror', error)}): {FORMS}") from error
        super().__init__(Label(shown), names, None if is_folder else path.name)
        self._path = path
        if self.file is not None:
            self.open(self.file)

    def pinned(self, name: str | None) -> str:
        """The end of the path: where it lies on this machine is nobody's business."""
        if self.file is not None:
            return f"./{name or self.file}"
        here = f"./{last_part(self._path)}"
        return here if name is None else f"{here}/{name}"

    def _found(self, name: str) -> Ranged:
        if self.file is not None:
            return self.keep(LocalFile(self._path.with_name(name)))
        return self.keep(LocalFile(self._path / name, f"{self.shown.rstrip('/')}/{name}"))


class AddressPlace(Place):
    """One file on a web server, or the parts of one."""

    def __init__(self, text: str, network: Network | None) -> None:
        shown = Label(text)
        self._address = checked(Address(text), shown)
        path = shown.partition("://")[2].partition("/")[2]
        name = unquote(path).rpartition("/")[2]
        if not name:
            raise PlaceError(f"{shown} names no file: {FORMS}")
        super().__init__(shown, _plain(shown, part_names(name)), name)
        self._connections = Connections(network)
        self._closing.callback(self._connections.close)

    def pinned(self, name: str | None) -> str:
        """The address, without what signs it."""
        return self.shown if name is None or name == self.file else _beside(self.shown, name)

    def _found(self, name: str) -> Ranged:
        if name == self.file:
            return RemoteFile(self.shown, lambda: self._address, self._connections)
        address = replace(self._address, url=_beside(self._address.url, name))
        return RemoteFile(self.pinned(name), lambda: address, self._connections)


class RepositoryPlace(Place):
    """All files of a hub's repository at one commit, or one that was named among them."""

    def __init__(self, snapshot: Snapshot, file: str | None, network: Network | None, quant: str | None = None) -> None:
        shown = snapshot.repository.shown
        super().__init__(shown, checked_names(shown, snapshot.files), file)
        self.quant = quant
        self.revision, self._repository, self._recorded = snapshot.commit, snapshot.repository, snapshot.files
        self.spelled = self.pinned(None)
        if file is not None and file not in self.names:
            raise PlaceError(f"{shown} holds no {file[:256]!r}: correct the name")
        self._network, self._connections = network, Connections(network)
        self._closing.callback(self._connections.close)

    def pinned(self, name: str | None) -> str:
        """Without the mirror; where the hub tells no commit, at the branch."""
        at, end = self._repository, "" if name is None else f"/{name}"
        return f"{at.scheme}://{at.repo}@{self.revision or at.revision}{end}"

    def history(self) -> list[Commit]:
        """What the hub tells."""
        return self._repository.history()

    def at(self, commit: str) -> "RepositoryPlace":
        """The whole repository, over the same network."""
        return RepositoryPlace(self._repository.at(commit), None, self._network)

    def _found(self, name: str) -> Ranged:
        locate = partial(self._repository.address, name)
        return RemoteFile(f"{name} of {self.shown}", locate, self._connections, self._recorded[name].size)


def open_place(text: str, network: Network | None = None) -> Place:
    """Find out what a place holds; a branch is resolved here, once, and everything is read from that commit.

    Args:
        text: a path, or one of the forms above.
        network: what is read over it is counted there, and it says how many connections there may be at a time.

    Raises:
        SourceError: one sentence, when ``text`` is none of the forms, or the place cannot be reached or read.
    """
    if not text.isprintable() and os.path.lexists(text):  # which fails at no name
        raise PlaceError(f"{text[:256]!r} has a name that does not print: rename it")
    if not text or not text.isprintable():
        raise PlaceError(f"{text[:256]!r} names no place: {FORMS}")
    text = spelled(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return LocalPlace(Path(text), last_part(Path(text)))
    if scheme in ("http", "https"):
        return AddressPlace(text, network)
    if scheme not in ("hf", "ms"):
        raise PlaceError(f"{scheme[:16]}:// is no known kind of place: {FORMS}")
    found = PATH.fullmatch(rest)
    if not found:
        raise PlaceError(f"{Label(text)[:256]} names no repository: {FORMS}")
    HUBS[scheme].require_endpoint()
    if scheme == "hf":
        from requant.places.hub import snapshot
    else:
        from requant.places.modelscope import snapshot
    return RepositoryPlace(snapshot(found["repo"], found["revision"]), found["file"], network, found["quant"])


def last_part(path: Path) -> str:
    """The name that a path ends in, however it is written."""
    return os.path.basename(os.path.abspath(path)) or "/"  # noqa: PTH100, PTH119 - resolve would follow links


def named(text: str) -> str:
    """How quants and weights are named: ``owner/name`` is a repository of the Hub, whatever folders there are here.

    What ends as a file of weights does, or is a file here, is a file.

    >>> named("Qwen/Qwen3-4B"), named("Qwen/Qwen3-4B-GGUF:Q4_K_M"), named("./model"), named("release/model.gguf")
    ('hf://Qwen/Qwen3-4B', 'hf://Qwen/Qwen3-4B-GGUF:Q4_K_M', './model', 'release/model.gguf')

    Raises:
        PlaceError: when something here is called so too.
    """
    if not NAME.fullmatch(text) or text.endswith(WEIGHTS) or Path(text).is_file():
        return text
    if Path(text).exists():
        raise PlaceError(f"{text} could be a repository of the Hub or what lies here: write hf://{text} or ./{text}")
    return f"hf://{text}"


def _parts_beside(path: Path) -> list[str]:
    """The name of a file, and those of the other parts that lie beside it, if it is one of several."""
    return [name for name in part_names(path.name) if name == path.name or path.with_name(name).is_file()]


def _beside(url: str, name: str) -> str:
    """The address of another file in the same folder."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rpartition('/')[0]}/{quote(name)}").geturl()


def _files_below(folder: Path, shown: str) -> list[str]:
    """All regular files, also behind links (caches of hubs are made of those), but no folders behind links."""
    found: list[str] = []
    for here, _, names in os.walk(folder):
        at = Path(here)
        found += [(at / name).relative_to(folder).as_posix() for name in names if (at / name).is_file()]
        if len(found) > MAX_FILES:
            raise PlaceError(f"{shown} holds more than {MAX_FILES:,} files: name the folder of one model")
    return found


def checked_names(shown: str, listing: Mapping[str, Known]) -> list[str]:
    """The names of a hub's listing, sorted; it holds whatever the hub answered.

    Raises:
        SourceError: for a name that leads out of it or does things to a terminal, or a record that cannot be.
    """
    names = _plain(shown, listing)
    for name in names:
        if not _is_possible(listing[name]):
            raise SourceError(f"{shown} lists {name!r} with an impossible size or digest: take it from another source")
    return names


def _is_possible(known: Known) -> bool:
    """Whether a hub's record, which is whatever its answer held, has the types that it should have."""
    size, digests = known.size, ((known.sha256, SHA256), (known.git_blob, GIT_ID))
    return (size is None or (type(size) is int and 0 <= size < 1 << 63)) and all(
        digest is None or (isinstance(digest, str) and form.fullmatch(digest)) for digest, form in digests
    )


def _plain(shown: str, names: Iterable[object]) -> list[str]:
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
