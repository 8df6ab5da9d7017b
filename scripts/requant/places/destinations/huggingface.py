"""A repository of the Hugging Face Hub that a release is brought to.

``create_commit`` sends the large files first, each straight to storage where nobody sees it, and names all files in one
commit at the end: there is no state in between. What is in storage already, from a run that was stopped, is not sent
again, with LFS and with Xet alike. The commit is made upon the one that was looked at, or not at all.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, RepositoryNotFoundError

from requant.ground.errors import AccessError
from requant.ground.text import hide
from requant.places.addresses import Label
from requant.places.destinations.destination import NAMED, Change, Contents, Fate, Held, Wishes, changed
from requant.places.hub import FOREIGN, SENTENCES, HubRepository, resolved, retried
from requant.places.repository import Sentence, explaining

MAIN = "main"
BAD_CARD = "Invalid metadata in README.md"
"""How the client's own words begin when the Hub does not take a card's front matter."""

LOGIN = "hf auth login, or set HF_TOKEN to a token that may write there"
# Before those for reading: what may be read may still not be written.
WRITING = (
    Sentence(LocalTokenNotFoundError, f"wants to know who you are: type {LOGIN}", AccessError),
    Sentence(HfHubHTTPError, f"refuses to be written to: type {LOGIN} ({{status}})", AccessError, statuses=(401, 403)),
    Sentence(HfHubHTTPError, "was changed by somebody else meanwhile: run again ({status})", statuses=(409, 412)),
    Sentence(HfHubHTTPError, "refuses so many bytes: ask the Hub for more room, or bring less (413)", statuses=(413,)),
    Sentence(HfHubHTTPError, "refuses what is brought: {reason}", statuses=(400, 422)),
    Sentence(ValueError, "refuses the card: its front matter is not as the Hub wants it", containing=BAD_CARD),
    *SENTENCES,
    FOREIGN,
    # What the client for Xet raises.
    Sentence((RuntimeError, OSError), "broke off ({reason}): run again, with HF_HUB_DISABLE_XET=1 if it is a mirror"),
)


@dataclass(frozen=True)
class HubDestination:
    """A model repository of the Hub."""

    hub: ClassVar[str] = "huggingface"
    repo: str

    @property
    def endpoint(self) -> Label:
        """The address of the Hub, or of the mirror that HF_ENDPOINT names."""
        return Label(constants.ENDPOINT)

    def held(self, wishes: Wishes) -> Held:
        """What is on the main branch, or in the open pull request of this title; raises as the protocol says."""
        nothing = None if wishes.review else MAIN
        hide(get_token())
        try:
            found = resolved(HubRepository(self.repo, MAIN, advice=NAMED))
        except AccessError as error:
            if type(error.__cause__) is not RepositoryNotFoundError:
                raise
            return Held(False, nothing, None, {})
        request = self._pull_request(wishes.title) if wishes.review else None
        if request is not None:
            found = resolved(HubRepository(self.repo, request, advice=NAMED))
        return Held(True, request or nothing, found.commit, found.files)

    def change(self, release: Contents, changes: Sequence[Change], held: Held, wishes: Wishes) -> None:
        """Make one commit of it all; raises as the protocol says."""
        brought = [name for name, fate in changes if fate in (Fate.NEW, Fate.REPLACED)]
        for name in brought:
            # The client calls a file that is gone a wrong value.
            (release.folder / name).stat()
        additions = [CommitOperationAdd(name, release.folder / name) for name in brought]
        deletions = [CommitOperationDelete(name, is_folder=False) for name, fate in changes if fate is Fate.DELETED]
        with self._explaining():
            if not held.exists:
                retried(lambda: HfApi().create_repo(self.repo, private=wishes.private or None, exist_ok=True))
            # By itself, as the client tries again here, and where it makes the commit it does not.
            target = {"create_pr": True} if held.revision is None else {"revision": held.revision}
            HfApi().preupload_lfs_files(self.repo, additions, **target, free_memory=False)
        # Of what is in storage now the client knows the digest; of small files it is taken here.
        found = {each.path_in_repo: each.upload_info.sha256.hex() for each in additions}
        if other := [name for name in brought if found[name] != release.files[name].sha256]:
            raise changed(other)
        with self._explaining():
            commit = partial(
                HfApi().create_commit, self.repo, [*additions, *deletions], commit_message=wishes.title,
                parent_commit=held.commit, **target,
            )  # fmt: skip
            # A pull request once: a second one would be opened if the answer to the first were lost.
            commit() if held.revision is None else retried(commit)

    def _pull_request(self, title: str) -> str | None:
        """The branch of the newest open pull request of this user with this title."""
        with self._explaining():
            user = retried(HfApi().whoami)["name"]
            asked = partial(HfApi().get_repo_discussions, self.repo, author=user, discussion_type="pull_request")
            found = retried(lambda: [*asked()])
            numbers = [
                each.num
                for each in found
                if each.title == title and each.author == user and each.status in ("open", "draft")
            ]
            return f"refs/pr/{max(numbers)}" if numbers else None

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        with explaining(NAMED, f"{self.repo} on {self.endpoint}", WRITING):
            # What the Hub has to say of a card is a warning in Python's sense; no secret leaves by that way.
            logging.captureWarnings(True)
            try:
                yield
            except RuntimeError as error:
                # The client says only which file it was.
                if isinstance(error.__cause__, Exception):
                    raise error.__cause__ from None
                raise
            finally:
                logging.captureWarnings(False)
