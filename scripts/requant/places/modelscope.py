"""ModelScope, with its own client ``modelscope_hub``; honours ``MODELSCOPE_ENDPOINT`` and ``MODELSCOPE_API_TOKEN``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import httpx2
from modelscope_hub import HubApi
from modelscope_hub.errors import AuthenticationError, HubError, NetworkError, NotExistError, PermissionDeniedError
from requests import PreparedRequest, Response, TooManyRedirects

from requant.ground.digests import GIT_ID, Known
from requant.ground.errors import SourceError
from requant.ground.logs import tell_here
from requant.places.addresses import Address, Label, checked, may_share, redirected, withheld
from requant.places.repository import Advice, Commit, Sentence, Snapshot, explaining

tell_here("modelscope_hub")

API = "/api/v1/"
"""What ModelScope is asked has it in its path; what it redirects to, a storage, has not."""
REFUSALS = (401, 403, 404)
"""What may not be read does not exist, says ModelScope."""

PINNED = Advice("the pin", "use source=huggingface")
ADDRESSED = Advice("the address", "name another source")

# In this order: the client's classes derive from one another.
SENTENCES = (
    Sentence(NotExistError, "lacks the repository or a file: correct {named_by} (404)"),
    Sentence((AuthenticationError, PermissionDeniedError), "refuses access: set MODELSCOPE_API_TOKEN"),
    Sentence(NetworkError, "cannot be reached: check the network, or {elsewhere}"),
    Sentence(HubError, "failed: {reason}"),
    Sentence(TooManyRedirects, "is redirected again and again: correct MODELSCOPE_ENDPOINT, or {elsewhere}"),
    Sentence(
        (AttributeError, KeyError, TypeError, ValueError),
        "does not speak its protocol: correct MODELSCOPE_ENDPOINT",
    ),
)


class RefusedError(HubError):
    """Brings ``said`` through the client, which would try again after any error that is not one of its own."""

    def __init__(self, said: SourceError) -> None:
        super().__init__(str(said))
        self.said = said


@dataclass(frozen=True)
class ModelScopeRepository:
    """One model repository at one commit, or at ``master`` where every file has a pinned digest."""

    scheme: ClassVar[str] = "ms"
    repo: str
    revision: str = "master"
    advice: Advice = PINNED

    @property
    def shown(self) -> Label:
        """What messages call it."""
        return Label(f"{self.repo}@{self.revision[:12]} on ModelScope")

    def record(self, names: Sequence[str]) -> dict[str, Known]:
        """Size and SHA-256 that ModelScope records of these files.

        Raises:
            SourceError: when ModelScope refuses or does not answer.
        """
        return {name: known for name, known in self.listing().items() if name in names}

    def listing(self) -> dict[str, Known]:
        """Size and SHA-256 that ModelScope records of all files.

        Raises:
            SourceError: when ModelScope refuses or does not answer.
        """
        with self._explaining():
            try:
                listing = client().list_repo_files(self.repo, repo_type="model", revision=self.revision)
            except OSError as error:
                # The client explains some broken connections, not all; an answer that is no JSON counts as both.
                if isinstance(error, ValueError | TooManyRedirects):
                    raise
                raise NetworkError(str(error)) from error
            return {file.path: Known(file.size, sha256=file.sha256 or None) for file in listing if not file.is_dir}

    def names(self) -> list[str]:
        """All files; raises as ``listing``."""
        return list(self.listing())

    def address(self, name: str) -> Address:
        """Where one file can be read in ranges; ModelScope redirects large ones to storage that wants no token."""
        legacy = HubApi().legacy
        url = legacy.get_download_url(self.repo, "model", name, self.revision)
        token = legacy.token
        headers = {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
        return Address(url, headers, legacy.endpoint.startswith("http://"))

    def history(self) -> list[Commit]:
        """ModelScope's client does not tell."""
        return []

    def at(self, commit: str) -> Snapshot:
        """The same repository at another commit; raises as ``listing``."""
        return snapshot(self.repo, commit)

    def cached(self, name: str) -> Path | None:  # noqa: ARG002 - the protocol's argument
        """ModelScope's cache is not looked at."""
        return None

    def fetch(self, name: str, part: Path) -> None:
        """Download one file to ``part``; the client goes on where an interrupted download ended.

        Raises:
            SourceError: when ModelScope refuses or keeps failing.
        """
        folder = part.with_name(part.name + ".modelscope")
        with self._explaining():
            path = client().download_file(self.repo, "model", name, revision=self.revision, local_dir=folder)
        Path(path).replace(part)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        with explaining(self.advice, self.shown, SENTENCES):
            try:
                yield
            except RefusedError as error:
                raise error.said from None


def snapshot(repo: str, revision: str | None) -> Snapshot:
    """All files of a branch, tag or commit (default: ``master``).

    ModelScope does not tell which commit a branch stands for; sizes and ETags notice when it moves.

    Raises:
        SourceError: when ModelScope refuses or does not answer.
    """
    repository = ModelScopeRepository(repo, revision or "master", ADDRESSED)
    commit = revision if revision and GIT_ID.fullmatch(revision) else None
    return Snapshot(repository, commit, repository.listing())


def client() -> HubApi:
    """ModelScope's client, under our rules for the redirects that it follows by itself."""
    made = HubApi()
    # It makes its sessions itself, and has no other place for such rules.
    for session in (made.legacy._session, made.legacy._read_session):
        session.hooks["response"].append(partial(_look, made.legacy.endpoint, made.legacy.token))
        session.auth = partial(_guard, made.legacy.endpoint)
    return made


def _guard(endpoint: str, request: PreparedRequest) -> PreparedRequest:
    """Refuse to carry the token where anybody could read it: what is uploaded goes, with it, wherever ModelScope says.

    Raises:
        RefusedError: for plain http to another machine, where the endpoint itself is https.
    """
    if endpoint.startswith("https://"):
        try:
            checked(Address(str(request.url)), Label(str(request.url)))
        except SourceError as error:
            raise RefusedError(error) from error
    return request


def _look(endpoint: str, token: str | None, answer: Response, **_: Any) -> None:
    """Refuse a redirect from https to http, or nowhere. The client itself leaves the token behind where it must.

    Raises:
        RefusedError: with what is to be said of it, also where a token is wanted that did not go along.
    """
    url = httpx2.URL(answer.url)
    if answer.is_redirect:
        here = Address(answer.url, plain=url.scheme == "http")
        try:
            redirected(here, answer.headers["Location"], Label(answer.url))
        except SourceError as error:
            raise RefusedError(error) from error
    elif answer.status_code in REFUSALS and token and API in url.path and not may_share(httpx2.URL(endpoint), url):
        raise RefusedError(withheld(endpoint, url, answer.status_code, "MODELSCOPE_ENDPOINT"))
