"""Where files may lie that are looked at but not made here: a path, a hub's repository, an address.

    model.gguf · folder/ · hf://owner/name[@revision][/file] · ms://owner/name[@revision][/file] · https://host/file

``hf://owner/name:Q4_K_M`` is one of a repository's quants. The address of a page on which a hub shows a repository or
a file stands for it. Where one part of a split GGUF is named, its other parts are among the names. The clients of the
hubs are imported only where a hub is named, so files on this machine need none of them.
"""

import os
import re
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
from requant.places.addresses import Address, checked, without_secrets
from requant.places.pages import WEIGHTS, spelled
from requant.places.remote import Connections, Network, RemoteFile
from requant.places.repository import NAME, PATH, Snapshot

FORMS = "write a path, hf://owner/name[@revision][/file], ms://owner/name[@revision][/file] or https://host/file"
MAX_FILES = 100_000


class Place(ABC):
    """Files that belong together, and how to read them; to be closed, or used as a context manager.

    ``shown`` is for messages and holds no secrets. ``names`` are relative paths with slashes, sorted. ``file`` is the
    one that was named, if one was, ``quant`` what stood for one (such as Q4_K_M). ``revision`` is the full commit id
    that everything is read from, if one is known.
    """

    is_local = False
    revision: str | None = None
    quant: str | None = None

    def __init__(self, shown: str, names: list[str], file: str | None) -> None:
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

    def expected(self, name: str) -> Known | None:
        """What a hub records of a file: its size, and its SHA-256 or git blob id."""
        return self._recorded.get(name)

    def within(self, name: str) -> str:
        """How one of the files is named to a verb."""
        return f"{self.shown.rstrip('/')}/{name}"

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
                raise PlaceError(f"{shown} does not exist: {FORMS}")
            names = _plain(shown, _files_below(path, shown)) if is_folder else _parts_beside(path)
        except (OSError, ValueError) as error:
            raise PlaceError(f"{shown} cannot be read ({getattr(error, 'strerror', error)}): {FORMS}") from error
        super().__init__(shown, names, None if is_folder else path.name)
        self._path = path
        if self.file is not None:
            self.open(self.file)

    def _found(self, name: str) -> Ranged:
        if self.file is not None:
            return self.keep(LocalFile(self._path.with_name(name)))
        return self.keep(LocalFile(self._path / name, f"{self.shown.rstrip('/')}/{name}"))


class AddressPlace(Place):
    """One file on a web server."""

    def __init__(self, text: str, network: Network | None) -> None:
        shown = without_secrets(text)
        self._address = checked(Address(text), shown)
        path = shown.partition("://")[2].partition("/")[2]
        name = unquote(path).rpartition("/")[2]
        if not name:
            raise PlaceError(f"{shown} names no file: {FORMS}")
        super().__init__(shown, _plain(shown, part_names(name)), name)
        self._connections = Connections(network)
        self._closing.callback(self._connections.close)

    def _found(self, name: str) -> Ranged:
        if name == self.file:
            return RemoteFile(self.shown, lambda: self._address, self._connections)
        address = replace(self._address, url=_beside(self._address.url, name))
        return RemoteFile(_beside(self.shown, name), lambda: address, self._connections)


class RepositoryPlace(Place):
    """All files of a hub's repository at one commit, or one that was named among them."""

    def __init__(
        self, snapshot: Snapshot, base: str, file: str | None, quant: str | None, network: Network | None
    ) -> None:
        shown = snapshot.repository.shown
        super().__init__(shown, _plain(shown, snapshot.files), file)
        self.quant, self._base = quant, base
        self.revision, self._repository, self._recorded = snapshot.commit, snapshot.repository, snapshot.files
        for name in self.names:
            if not _is_possible(self._recorded[name]):
                raise SourceError(
                    f"{shown} lists {name!r} with an impossible size or digest: take it from another source"
                )
        if file is not None and file not in self.names:
            raise PlaceError(f"{shown} holds no {file[:256]!r}: correct the name")
        self._connections = Connections(network)
        self._closing.callback(self._connections.close)

    def within(self, name: str) -> str:
        """How one of the files is named to a verb."""
        return f"{self._base}/{name}"

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
    if not text or not text.isprintable():
        raise PlaceError(f"{text[:256]!r} names no place: {FORMS}")
    text = spelled(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return LocalPlace(Path(text), text)
    if scheme in ("http", "https"):
        return AddressPlace(text, network)
    if scheme not in ("hf", "ms"):
        raise PlaceError(f"{scheme[:16]}:// is no known kind of place: {FORMS}")
    found = PATH.fullmatch(rest)
    if not found:
        raise PlaceError(f"{re.split('[?#]', text, maxsplit=1)[0][:256]} names no repository: {FORMS}")
    if scheme == "hf":
        from requant.places.hub import snapshot
    else:
        from requant.places.modelscope import snapshot
    revision, quant = found["revision"], found["quant"]
    base = f"{scheme}://{found['repo']}{f'@{revision}' if revision else ''}"
    return RepositoryPlace(snapshot(found["repo"], revision), base, found["file"], quant, network)


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
