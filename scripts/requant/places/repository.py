"""Repositories of files under one name and at one commit: on a hub, on another, or as a folder on this machine.

``HubRepository`` and ``ModelScopeRepository`` stand in modules of their own, which are imported only where a hub is
named: each needs its hub's client. What all of them say when something goes wrong is put into words here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from requant.ground.digests import Known
from requant.ground.errors import SourceError
from requant.ground.text import first_line
from requant.places.addresses import Address, Label

# No hub takes a name that begins or ends otherwise, or has two dashes or dots on end, and the Hub none over 96 letters.
_PART = r"\w(?:(?:(?!--|\.\.)[\w.-]){0,94}\w)?"
_ID = f"{_PART}/{_PART}"
# With a slash only where the Hub itself makes such.
_REVISION = r"refs/(?:pr|convert)/[\w.-]+|[\w-][\w.-]*"
ID = re.compile(_ID, re.ASCII)
"""``owner/name``, as both hubs allow it."""
_QUANT = r":(?P<quant>[\w.-]+)"
NAME = re.compile(rf"(?P<repo>{_ID})(?:@(?P<revision>{_REVISION})(?:/(?P<file>.+))?)?(?:{_QUANT})?", re.ASCII)
"""``owner/name[@revision[/file]]``, or with ``:quant`` at the end, as other programs name a quant of a repository."""
PATH = re.compile(rf"(?P<repo>{_ID})(?:@(?P<revision>{_REVISION}))?(?:{_QUANT}|/(?P<file>.+))?", re.ASCII)
"""``owner/name[@revision][/file]`` or ``owner/name[@revision]:quant``, as it follows ``hf://`` or ``ms://``; alone it
could be a path on this machine."""
RECORDED_ID = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
"""``owner/name`` as pins and manifests may hold it, more than an ``ID``: what a card once linked, it links for ever."""


class Repository(Protocol):
    """Files under one name at one commit."""

    @property
    def shown(self) -> Label:
        """What messages call it."""
        ...

    def record(self, names: Sequence[str]) -> dict[str, Known]:
        """What it knows of these files; a file that it lacks is left out.

        Raises:
            SourceError: when it cannot be asked.
        """
        ...

    def names(self) -> list[str] | None:
        """All its files; ``None`` where nobody can be asked.

        Raises:
            SourceError: when it cannot be asked though it should.
        """
        ...

    def cached(self, name: str) -> Path | None:
        """A copy that is already on this machine."""
        ...

    def fetch(self, name: str, part: Path) -> None:
        """Put one file at ``part``; an interrupted call may leave a beginning there for the next one.

        Raises:
            SourceError: when the file cannot be had.
        """
        ...


class Commit(NamedTuple):
    """One commit of a repository: its full id, and the day of it as ``YYYY-MM-DD``."""

    id: str
    day: str


class RemoteRepository(Repository, Protocol):
    """A repository whose files can be read in ranges where they lie: ``scheme://repo`` is how it is named."""

    scheme: ClassVar[str]

    @property
    def repo(self) -> str:
        """``owner/name``."""
        ...

    @property
    def revision(self) -> str | None:
        """A commit, or a branch."""
        ...

    def address(self, name: str) -> Address:
        """Where one file can be read just now.

        Raises:
            SourceError: when it cannot be asked.
        """
        ...

    def history(self) -> list[Commit]:
        """The commits before and after this one, newest first; none where the hub does not tell.

        Raises:
            SourceError: when it cannot be asked.
        """
        ...

    def at(self, commit: str) -> "Snapshot":
        """The same repository at another commit.

        Raises:
            SourceError: when it cannot be asked.
        """
        ...


class Snapshot(NamedTuple):
    """All that a repository holds at one commit: ``commit`` is its full id, if the hub tells it."""

    repository: RemoteRepository
    commit: str | None
    files: Mapping[str, Known]


class FolderRepository:
    """A folder on this machine, which proves nothing of what it holds."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.shown = folder, Label(f"the folder {folder}")

    def record(self, names: Sequence[str]) -> dict[str, Known]:
        """Sizes only."""
        present = [name for name in names if (self.folder / name).is_file()]
        return {name: Known((self.folder / name).stat().st_size) for name in present}

    def names(self) -> list[str]:
        """All files below it."""
        return [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]

    def cached(self, name: str) -> Path | None:
        """The file itself."""
        return self.folder / name

    def fetch(self, name: str, part: Path) -> None:  # noqa: ARG002 - the protocol's argument
        """Never needed: every file is ``cached``."""
        raise AssertionError(name)


class Advice(NamedTuple):
    """What a repository was named by, such as ``the pin``, and where else its files may come from."""

    named_by: str
    elsewhere: str


@dataclass(frozen=True)
class Sentence:
    """What to say of some errors of a hub's client: it follows the repository's name, and says what to do.

    ``words`` may hold ``{named_by}`` and ``{elsewhere}`` of an ``Advice``, ``{status}`` (of HTTP) and ``{reason}`` (the
    client's own words). ``statuses`` and ``containing`` (words of the client) narrow down which errors are meant.
    """

    errors: type[Exception] | tuple[type[Exception], ...]
    words: str
    raised: type[SourceError] = SourceError
    statuses: tuple[int, ...] = ()
    containing: str = ""

    def fits(self, error: Exception) -> bool:
        """Whether it can be said of this error."""
        answered = not self.statuses or _status(error) in self.statuses
        return isinstance(error, self.errors) and answered and self.containing in str(error)


def explained(error: Exception, advice: Advice, shown: str, sentences: Sequence[Sentence]) -> SourceError | None:
    """An error of a hub's client as one sentence, the first that fits; ``None`` where none does."""
    for sentence in sentences:
        if sentence.fits(error):
            words = sentence.words.format(**advice._asdict(), status=_status(error), reason=first_line(error))
            return sentence.raised(f"{shown} {words}")
    return None


@contextmanager
def explaining(advice: Advice, shown: str, sentences: Sequence[Sentence]) -> Iterator[None]:
    """Raise what is ``explained`` of an error in its place."""
    try:
        yield
    except Exception as error:
        found = explained(error, advice, shown, sentences)
        if found is None:
            raise
        raise found from error


def _status(error: Exception) -> int:
    """The status of the HTTP answer that an error is about, 0 if there was none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))
