"""What every destination of a release can do, and how one is named: ``huggingface:OWNER/NAME``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from requant.ground.digests import Digest, Known
from requant.ground.errors import PlaceError, StaleError
from requant.ground.text import did_you_mean, listed, printable
from requant.places.addresses import Label
from requant.places.pages import HUGGING_FACE, MODELSCOPE
from requant.places.repository import ID, Advice

HUBS = ("huggingface", "modelscope")
"""As recipes call them, too."""

NAMED = Advice("--to", "or try again later")


class Fate(StrEnum):
    """What becomes of one file at a destination."""

    NEW = "new"
    REPLACED = "replaced"
    SAME = "same"
    KEPT = "kept"
    DELETED = "deleted"


class Change(NamedTuple):
    """One file's name at a destination, and what becomes of it."""

    name: str
    fate: Fate


class Held(NamedTuple):
    """What a destination holds.

    ``exists`` says whether its repository does, as far as the token may know. ``revision`` is a branch, or a pull
    request, or ``None`` for one that is to be opened. ``commit`` is that of the branch, if the hub tells.
    """

    exists: bool
    revision: str | None
    commit: str | None
    files: Mapping[str, Known]


@dataclass(frozen=True)
class Wishes:
    """How a destination shall be changed.

    ``title`` names the commits, and the pull request that a ``review`` asks for. A repository that does not exist is
    made, ``private`` or not, under ``licence`` (an SPDX identifier) where the hub asks for one.
    """

    title: str
    licence: str | None
    review: bool = False
    private: bool = False


@dataclass(frozen=True)
class Contents:
    """The files of a verified release, by name, in the order in which they are brought."""

    folder: Path
    files: Mapping[str, Digest]


def changed(names: Sequence[str]) -> StaleError:
    """What to say of files that are not the verified ones any more."""
    return StaleError(f"{listed(names)} changed on this machine since the release was verified: run again")


class Destination(Protocol):
    """A repository on a hub, which may not exist yet."""

    hub: ClassVar[str]

    @property
    def repo(self) -> str:
        """``OWNER/NAME``."""
        ...

    @property
    def endpoint(self) -> Label:
        """The hub's address."""
        ...

    def held(self, wishes: Wishes) -> Held:
        """What is there now; a repository that does not exist holds nothing.

        Raises:
            SourceError: when the hub refuses or does not answer.
        """
        ...

    def change(self, release: Contents, changes: Sequence[Change], held: Held, wishes: Wishes) -> None:
        """Bring there what is new or replaced of ``release``, and delete what is to be deleted, in this order.

        Bytes that an earlier call brought are not sent again, and none are published that are not the verified ones.

        Raises:
            StaleError: when a file is not the verified one any more.
            SourceError: when the hub refuses or keeps failing; what came through until then stays.
        """
        ...


def destination(name: str) -> Destination:
    """The destination of a name such as ``huggingface:OWNER/NAME``.

    Raises:
        PlaceError: when it is no such name.
    """
    hub, colon, repo = name.partition(":")
    if not colon or hub not in HUBS:
        known = " or ".join(f"{each}:OWNER/NAME" for each in HUBS)
        raise PlaceError(f"--to {printable(name)} names no hub{did_you_mean(hub, HUBS)}: write {known}")
    if not ID.fullmatch(repo):
        raise PlaceError(f"--to {printable(name)} names no repository: write {hub}:OWNER/NAME")
    if hub == "huggingface":
        HUGGING_FACE.require_endpoint()
        from requant.places.destinations.huggingface import HubDestination

        return HubDestination(repo)
    MODELSCOPE.require_endpoint()
    from requant.places.destinations.modelscope import ModelScopeDestination

    return ModelScopeDestination(repo)
