"""The Hugging Face Hub: what it records of a commit, its files, and data sets.

``huggingface_hub`` is the client and honours ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and
``HF_HUB_OFFLINE``. It compares sizes but never digests, and since 1.0 its downloads start over after
a kill; so files are streamed by its ``http_get`` into a partial file of ours, and checked by the caller.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

import httpx2
from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    set_client_factory,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile, RepoSibling
from huggingface_hub.utils._headers import build_hf_headers

from requant.ground.digests import GIT_ID, SHA256, Known, check_file, digest_file, open_partial
from requant.ground.errors import AccessError, PinnedBytesError, SourceError
from requant.ground.logs import tell_here
from requant.ground.text import first_line
from requant.places import retry
from requant.places.addresses import Address, Label, redirected
from requant.places.data_sets import import_datasets
from requant.places.hub_client import HubClient
from requant.places.repository import Advice, Commit, Sentence, Snapshot, explaining

set_client_factory(HubClient)
tell_here("huggingface_hub")

T = TypeVar("T")
SECONDS = 30.0
"""How long the Hub may be silent."""
CLOSED = "Consistency check"
"""How the client's own words begin when a connection closed early: it is no error of the transport then."""

PINNED = Advice("the pin", "take the weights from elsewhere (--config source=...), or try the tiny recipe")
ADDRESSED = Advice("the address", "or audit files that lie on this machine")

UNREACHED = "cannot be reached: name a mirror in HF_ENDPOINT, {elsewhere}"
# In this order: some of these classes derive from others.
SENTENCES = (
    Sentence(
        (UnicodeEncodeError, httpx2.LocalProtocolError),
        "cannot be asked: HF_TOKEN holds characters that no token has, set it again",
        AccessError,
    ),
    Sentence(OfflineModeIsEnabled, "is needed, but HF_HUB_OFFLINE is set: unset it, or fetch the files beforehand"),
    Sentence(GatedRepoError, "is gated: accept its terms on its page and set HF_TOKEN (403)", AccessError),
    Sentence(RevisionNotFoundError, "does not exist at that commit: correct {named_by}'s revision (404)"),
    Sentence(
        RepositoryNotFoundError,
        "is private or does not exist: set HF_TOKEN to a token that may read it, or fix {named_by} (401)",
        AccessError,
    ),
    Sentence(LocalEntryNotFoundError, UNREACHED),
    Sentence(EntryNotFoundError, "lacks a file of {named_by}: correct {named_by}'s files (404)"),
    Sentence(httpx2.TransportError, UNREACHED),
    Sentence(httpx2.TooManyRedirects, "is redirected again and again: name another mirror in HF_ENDPOINT, {elsewhere}"),
    Sentence(
        HfHubHTTPError,
        "refuses access: set HF_TOKEN to a token that may read it ({status})",
        AccessError,
        statuses=(401, 403),
    ),
    Sentence(HfHubHTTPError, "does not exist: correct {named_by} ({status})", statuses=(404,)),
    Sentence(
        HfHubHTTPError,
        "keeps answering {status}: wait and run again, or name a mirror in HF_ENDPOINT, {elsewhere}",
    ),
    Sentence(OSError, "closed the connection too early, again and again: run again to go on", containing=CLOSED),
)
# What the client makes of answers that are no Hub's, such as the page that a hotel's network puts before every answer.
FOREIGN = Sentence(
    (AttributeError, KeyError, TypeError, ValueError, httpx2.RequestError, httpx2.InvalidURL),
    "does not speak the Hub's protocol: correct HF_ENDPOINT",
)


@dataclass(frozen=True)
class HubRepository:
    """One repository of models or data sets (``repo_type``) at one commit; ``revision`` may be a branch, too.

    ``None`` is the default branch.
    """

    scheme: ClassVar[str] = "hf"
    repo: str
    revision: str | None
    repo_type: str = "model"
    advice: Advice = PINNED

    @property
    def shown(self) -> Label:
        """What messages call it."""
        return Label(f"{self.repo}@{(self.revision or 'main')[:12]} on {Label(constants.ENDPOINT)}")

    def record(self, names: Sequence[str]) -> dict[str, Known]:
        """What the Hub records of these files: size, and SHA-256 (LFS) or git blob id.

        Raises:
            SourceError: when the Hub refuses or does not answer. A file that it lacks is left out.
        """
        with self.explaining(FOREIGN):
            infos = retried(
                lambda: HfApi().get_paths_info(self.repo, list(names), revision=self.revision, repo_type=self.repo_type)
            )
            return {info.path: _known(info) for info in infos if isinstance(info, RepoFile)}

    def names(self) -> list[str] | None:
        """All files of the commit; ``None`` with HF_HUB_OFFLINE.

        Raises:
            SourceError: when the Hub refuses or does not answer.
        """
        if constants.HF_HUB_OFFLINE:
            return None
        with self.explaining(FOREIGN):
            listed = HfApi().list_repo_files
            return retried(lambda: listed(self.repo, revision=self.revision, repo_type=self.repo_type))

    def cached(self, name: str) -> Path | None:
        """The file in the user's own Hugging Face cache, if it is there for this very commit."""
        path = try_to_load_from_cache(self.repo, name, revision=self.revision, repo_type=self.repo_type)
        return Path(path) if isinstance(path, str) else None

    def fetch(self, name: str, part: Path) -> None:
        """Download one file to ``part``, going on where ``part`` ends.

        Raises:
            SourceError: when the Hub refuses or keeps failing; ``part`` stays for the next try.
        """
        with self.explaining():
            if constants.HF_HUB_OFFLINE:
                raise OfflineModeIsEnabled("offline")
            retried(lambda: self._stream(name, part))

    def address(self, name: str) -> Address:
        """Where one file can be read in ranges just now; the token goes with it only as far as the Hub itself.

        Raises:
            SourceError: when the Hub refuses or keeps failing.
        """
        with self.explaining(FOREIGN):
            url = self._url(name)
            found = retried(lambda: get_hf_file_metadata(url))
            headers = {key: value for key, value in build_hf_headers().items() if key.lower() == "authorization"}
        hub = Address(url, headers, constants.ENDPOINT.startswith("http://"))
        return redirected(hub, found.location, f"{name} of {self.shown}")

    def history(self) -> list[Commit]:
        """All commits of the default branch, or, where this one is none of them, those up to this one; newest first.

        Raises:
            SourceError: when the Hub refuses or does not answer, or not with such.
        """
        found = self._commits(None)
        if self.revision is not None and all(commit.id != self.revision for commit in found):
            found = self._commits(self.revision)
        return found

    def at(self, commit: str) -> Snapshot:
        """The same repository at another commit; raises as ``snapshot``."""
        return snapshot(self.repo, commit)

    def _commits(self, revision: str | None) -> list[Commit]:
        with self.explaining(FOREIGN):
            listed = retried(lambda: HfApi().list_repo_commits(self.repo, revision=revision, repo_type=self.repo_type))
            if not all(GIT_ID.fullmatch(info.commit_id) for info in listed):
                raise ValueError("no commit id")
            return [Commit(info.commit_id, f"{info.created_at:%Y-%m-%d}") for info in listed]

    def explaining(self, *more: Sentence) -> AbstractContextManager[None]:
        """Turn the client's exceptions into one sentence that says what to do."""
        return explaining(self.advice, self.shown, (*SENTENCES, *more))

    def _url(self, name: str) -> str:
        return hf_hub_url(self.repo, name, repo_type=self.repo_type, revision=self.revision)

    def _stream(self, name: str, part: Path) -> None:
        url = self._url(name)
        # The size of the file itself: a compressed transfer would announce another one.
        metadata = get_hf_file_metadata(url)
        done = part.stat().st_size if part.exists() else 0
        if metadata.size is not None and done > metadata.size:
            part.unlink()
            done = 0
        with open_partial(part) as file:
            http_get(
                url,
                file,
                resume_size=done,
                headers=build_hf_headers(),
                expected_size=metadata.size,
                displayed_filename=name,
            )


def snapshot(repo: str, revision: str | None) -> Snapshot:
    """The commit that a branch, tag or commit (default: the default branch) stands for, and all its files.

    Raises:
        SourceError: when the Hub refuses, keeps failing, does not answer with such, or with another commit.
    """
    return resolved(HubRepository(repo, revision, advice=ADDRESSED))


def resolved(asked: HubRepository) -> Snapshot:
    """A repository of models at the very commit that its ``revision`` stands for; raises as ``snapshot``."""
    repo, revision = asked.repo, asked.revision
    with asked.explaining(FOREIGN):
        info = retried(lambda: HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=SECONDS))
        if not GIT_ID.fullmatch(info.sha or ""):
            raise ValueError("no commit id")
        commit, files = str(info.sha), {file.rfilename: _known(file) for file in info.siblings or ()}
    found = replace(asked, revision=commit)
    if revision is not None and GIT_ID.fullmatch(revision) and revision != commit:
        raise SourceError(f"{found.shown} was given for the commit {revision}: correct HF_ENDPOINT")
    return Snapshot(found, commit, files)


def dataset_rows(repo: str, config: str, revision: str, files: Mapping[str, Known], split: str) -> Iterator[str]:
    """Yield the ``text`` column of one split, in order.

    The pinned files are fetched into the Hugging Face cache and checked first. ``datasets`` also reads the repository's
    README.md at that commit, and prepares every split of ``config``: where ``files`` names not all of its files, the
    others are parsed unproven, and only the digest of the text that comes out proves what was made of them.

    Raises:
        SourceError: when the Hub refuses or keeps failing, or the data set lacks the split or the column.
        PinnedBytesError: when a file is not the pinned one.
        ToolError: when the package ``datasets`` is not installed.
    """
    datasets = import_datasets()
    hub = HubRepository(repo, revision, "dataset")
    with hub.explaining(), _unhidden():
        for name, expected in files.items():
            download = partial(hf_hub_download, repo, name, repo_type="dataset", revision=revision)
            proven(Path(retried(download)), expected, f"{repo}/{name}")
        datasets.disable_progress_bars()
        try:
            rows = retried(lambda: datasets.load_dataset(repo, config, revision=revision, split=split))
        except (ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
            reason = first_line(error)
            raise SourceError(f"{hub.shown} does not give split {split!r} of {config!r}: {reason}") from error
    if "text" not in rows.column_names:
        raise SourceError(f"{hub.shown} has no column text, only {', '.join(rows.column_names)}: pin another data set")
    for row in rows:
        yield row["text"]


def proven(path: Path, expected: Known, name: str) -> None:
    """Hold a file of the user's own cache against its pin; only one that is damaged there is removed.

    Raises:
        PinnedBytesError: when it is not the pinned one; where it stays, that is said.
    """
    try:
        check_file(path, expected, name)
    except PinnedBytesError as error:
        blob = path.resolve()
        # The client calls a large file by its SHA-256. A damaged one would be trusted by the next run.
        if not SHA256.fullmatch(blob.name) or digest_file(blob).sha256 == blob.name:
            raise PinnedBytesError(f"{error}; it stays in {blob}: correct the pin, or remove that file") from error
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise


def retried(call: Callable[[], T]) -> T:
    """Call until it succeeds: five tries on server errors and broken connections, with growing waits."""
    return retry.retried(call, _is_passing)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else 0
        return status >= 500 or status in (408, 429)
    # A connection that closes early shows as a transport error, or as the client's own size check (OSError).
    return isinstance(error, httpx2.TransportError) or (isinstance(error, OSError) and CLOSED in str(error))


@contextmanager
def _unhidden() -> Iterator[None]:
    """Bring out why ``hf_hub_download`` found nothing, which it hides behind one exception."""
    try:
        yield
    except LocalEntryNotFoundError as error:
        if error.__cause__ is None:
            raise
        raise error.__cause__ from None


def _known(file: RepoFile | RepoSibling) -> Known:
    if file.lfs is not None:
        return Known(file.lfs.size, sha256=file.lfs.sha256)
    return Known(file.size, git_blob=file.blob_id)
