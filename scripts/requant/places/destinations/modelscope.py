"""A repository of ModelScope that a release is brought to.

Its client makes one commit for each file, so their order is what keeps a state in between from looking finished. Large
files go to storage first, under their SHA-256, and are not sent again when they are there.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from modelscope_hub.errors import (
    AlreadyExistsError,
    AuthenticationError,
    InvalidParameter,
    NetworkError,
    NotExistError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
)
from requests import RequestException, TooManyRedirects

from requant.ground.digests import digest_file
from requant.ground.errors import AccessError, SourceError, UnsupportedError
from requant.ground.text import hide
from requant.places import retry
from requant.places.addresses import Label
from requant.places.destinations.destination import NAMED, Change, Contents, Fate, Held, Wishes, changed
from requant.places.modelscope import SENTENCES, ModelScopeRepository, RefusedError, client
from requant.places.repository import Sentence, explaining

MASTER = "master"
PASSING = (NetworkError, ServerError, RateLimitError)

# In this order: the client's classes derive from one another.
WRITING = (
    Sentence(
        (AuthenticationError, PermissionDeniedError),
        "refuses to be written to: set MODELSCOPE_API_TOKEN to a token that may write there",
        AccessError,
    ),
    Sentence(QuotaExceededError, "has no more room for this account: ask ModelScope for more"),
    Sentence(RateLimitError, "wants fewer requests: wait and run again (429)"),
    Sentence(ServerError, "keeps failing: wait and run again"),
    Sentence(InvalidParameter, "refuses what is brought: {reason}"),
    *SENTENCES,
)


@dataclass(frozen=True)
class ModelScopeDestination:
    """A model repository of ModelScope."""

    hub: ClassVar[str] = "modelscope"
    repo: str

    @property
    def endpoint(self) -> Label:
        """The address of ModelScope, or of the mirror that MODELSCOPE_ENDPOINT names."""
        return Label(client().legacy.endpoint)

    def held(self, wishes: Wishes) -> Held:
        """What is on the master branch.

        Raises:
            SourceError: when ModelScope refuses or does not answer.
            UnsupportedError: when a review is asked for.
        """
        if wishes.review:
            raise UnsupportedError(
                "--review is for huggingface: ModelScope's client opens neither branches nor requests; leave it out"
            )
        hide(client().legacy.token)
        try:
            listing = ModelScopeRepository(self.repo, MASTER, NAMED).listing()
        except SourceError as error:
            if type(error.__cause__) is not NotExistError:
                raise
            return Held(False, MASTER, None, {})
        return Held(True, MASTER, None, listing)

    def change(self, release: Contents, changes: Sequence[Change], held: Held, wishes: Wishes) -> None:
        """Make one commit of each file, in this order; raises as the protocol says."""
        with self._explaining(), redirect_stdout(sys.stderr):  # the client tells on standard output what it does
            if not held.exists:
                self._make(wishes)
            for name, fate in changes:
                if fate in (Fate.NEW, Fate.REPLACED):
                    if digest_file(release.folder / name) != release.files[name]:
                        raise changed([name])
                    self._bring(release.folder / name, wishes)
                elif fate is Fate.DELETED:
                    self._delete(name, wishes)

    def _make(self, wishes: Wishes) -> None:
        """Make the repository; one that somebody has made meanwhile, or that was made unseen, is taken as it is."""
        visibility = "private" if wishes.private else "public"
        try:
            _retried(lambda: client().create_repo(self.repo, "model", visibility=visibility, license=wishes.licence))
        except AlreadyExistsError:
            return

    def _bring(self, path: Path, wishes: Wishes) -> None:
        _retried(
            lambda: client().upload_file(
                self.repo, "model", path, path.name, commit_message=wishes.title, revision=MASTER
            )
        )

    def _delete(self, name: str, wishes: Wishes) -> None:
        _retried(
            lambda: client().delete_files(self.repo, "model", [name], commit_message=wishes.title, revision=MASTER)
        )

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        with explaining(NAMED, f"{self.repo} on ModelScope", WRITING):
            try:
                yield
            except RefusedError as error:
                raise error.said from None
            except RequestException as error:
                # The client explains some broken connections, not all.
                if isinstance(error, ValueError | TooManyRedirects):
                    raise
                raise NetworkError(str(error)) from error


def _retried(call: Callable[[], object]) -> object:
    return retry.retried(call, lambda error: isinstance(error, PASSING))
