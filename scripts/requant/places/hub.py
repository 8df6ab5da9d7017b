"""The Hugging Face Hub: what it records of a commit, its files, and data sets.

``huggingface_hub`` is the client and honours ``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and
``HF_HUB_OFFLINE``. It compares sizes but never digests, and since 1.0 its downloads start over after
a kill; so files are streamed by its ``http_get`` into a partial file of ours, and checked by the caller.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
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

from requant.ground.digests import Known, check_file
from requant.ground.errors import AccessError, SourceError
from requant.places import retry
from requant.places.remote import Address, redirected
from requant.places.retry import first_line

T = TypeVar("T")
SECONDS = 30.0
"""How long the Hub may be silent."""


class HubSource:
    """One repository of models or data sets at one commit."""

    def __init__(self, repo: str, revision: str, kind: str = "model") -> None:
        self.repo, self.revision, self.kind = repo, revision, kind
        self.shown = f"{repo}@{revision[:12]} on {constants.ENDPOINT}"

    def record(self, names: Sequence[str]) -> dict[str, Known]:
        """What the Hub records of these files at the pinned commit: size, and SHA-256 (LFS) or git blob id.

        Raises:
            SourceError: when the Hub refuses or does not answer. A file that it lacks is left out.
        """
        with understood(self.shown), explained(self.shown):
            infos = retried(
                lambda: HfApi().get_paths_info(self.repo, list(names), revision=self.revision, repo_type=self.kind)
            )
            return {info.path: _expected(info) for info in infos if isinstance(info, RepoFile)}

    def cached(self, name: str) -> Path | None:
        """The file in the user's own Hugging Face cache, if it is there for this very commit."""
        path = try_to_load_from_cache(self.repo, name, revision=self.revision, repo_type=self.kind)
        return Path(path) if isinstance(path, str) else None

    def fetch(self, name: str, part: Path) -> None:
        """Download one file to ``part``, going on where ``part`` ends.

        Raises:
            SourceError: when the Hub refuses or keeps failing; ``part`` stays for the next try.
        """
        with explained(self.shown):
            if constants.HF_HUB_OFFLINE:
                raise OfflineModeIsEnabled("offline")
            retried(lambda: self._stream(name, part))

    def address(self, name: str) -> Address:
        """Where one file can be read in ranges just now; the token goes with it only as far as the Hub itself.

        Raises:
            SourceError: when the Hub refuses or keeps failing.
        """
        with understood(self.shown), explained(self.shown, ADDRESSED):
            url = hf_hub_url(self.repo, name, repo_type=self.kind, revision=self.revision)
            found = retried(lambda: get_hf_file_metadata(url))
            headers = {key: value for key, value in build_hf_headers().items() if key.lower() == "authorization"}
        hub = Address(url, headers, constants.ENDPOINT.startswith("http://"))
        return redirected(hub, found.location, f"{name} of {self.shown}")

    def _stream(self, name: str, part: Path) -> None:
        url = hf_hub_url(self.repo, name, repo_type=self.kind, revision=self.revision)
        # The size of the file itself: a compressed transfer would announce another one.
        metadata = get_hf_file_metadata(url)
        part.parent.mkdir(parents=True, exist_ok=True)
        done = part.stat().st_size if part.exists() else 0
        if metadata.size is not None and done > metadata.size:
            part.unlink()
            done = 0
        with part.open("ab") as file:
            http_get(
                url,
                file,
                resume_size=done,
                headers=build_hf_headers(),
                expected_size=metadata.size,
                displayed_filename=name,
            )


def list_commit(repo: str, revision: str | None) -> tuple[str, dict[str, Known]]:
    """The full commit id that a branch, tag or commit (default: the default branch) stands for, and all its files.

    Raises:
        SourceError: when the Hub refuses, keeps failing, or does not answer with such.
    """
    shown = HubSource(repo, revision or "main").shown
    with understood(shown), explained(shown, ADDRESSED):
        info = retried(lambda: HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=SECONDS))
        if not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
            raise ValueError("no commit id")
        return str(info.sha), {file.rfilename: _expected(file) for file in info.siblings or ()}


def _expected(file: RepoFile | RepoSibling) -> Known:
    if file.lfs is not None:
        return Known(file.lfs.size, sha256=file.lfs.sha256)
    return Known(file.size, git_blob=file.blob_id)


def dataset_rows(repo: str, config: str, revision: str, files: Mapping[str, Known], split: str) -> Iterator[str]:
    """Yield the ``text`` column of one split, in order.

    The data files are fetched into the Hugging Face cache and checked first, so ``datasets`` parses proven bytes only.

    Raises:
        SourceError: when the Hub refuses or keeps failing, or the data set lacks the split or the column.
        PinnedBytesError: when a file is not the pinned one.
    """
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    source = HubSource(repo, revision, "dataset")
    with explained(source.shown):
        for name, expected in files.items():
            download = partial(hf_hub_download, repo, name, repo_type="dataset", revision=revision)
            path = Path(retried(download))
            try:
                check_file(path, expected, f"{repo}/{name}")
            except Exception:
                # A damaged file must not stay in the cache, where the next run would trust it.
                path.resolve().unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                raise
        disable_progress_bars()
        try:
            rows = retried(lambda: load_dataset(repo, config, revision=revision, split=split))
        except (ValueError, KeyError, DatasetsError) as error:
            reason = first_line(error)
            raise SourceError(f"{source.shown} does not give split {split!r} of {config!r}: {reason}") from error
    if "text" not in rows.column_names:
        raise SourceError(
            f"{source.shown} has no column text, only {', '.join(rows.column_names)}: pin another data set"
        )
    for row in rows:
        yield row["text"]


def retried(call: Callable[[], T]) -> T:
    """Call until it succeeds: five tries on server errors and broken connections, with growing waits."""
    return retry.retried(call, _is_passing)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else 0
        return status >= 500 or status in (408, 429)
    # A connection that closes early shows as a transport error, or as the client's own size check (OSError).
    return isinstance(error, httpx2.TransportError) or (
        isinstance(error, OSError) and "Consistency check" in str(error)
    )


class Advice(NamedTuple):
    """What to call the thing that named a repository, and where else its files may come from."""

    named_by: str
    elsewhere: str


PINNED = Advice("the pin", "take the weights from elsewhere (--config source=...), or try the tiny recipe")
ADDRESSED = Advice("the address", "or audit files that lie on this machine")

# In this order: some of these classes derive from others.
SENTENCES: tuple[tuple[type[Exception], str], ...] = (
    (OfflineModeIsEnabled, "is needed, but HF_HUB_OFFLINE is set: unset it, or fetch the files beforehand"),
    (GatedRepoError, "is gated: accept its terms on its page and set HF_TOKEN (403)"),
    (RevisionNotFoundError, "does not exist at that commit: correct {advice.named_by}'s revision (404)"),
    (
        RepositoryNotFoundError,
        "is private or does not exist: set HF_TOKEN to a token that may read it, or fix {advice.named_by} (401)",
    ),
    (LocalEntryNotFoundError, "cannot be reached: name a mirror in HF_ENDPOINT, {advice.elsewhere}"),
    (EntryNotFoundError, "lacks a file of {advice.named_by}: correct {advice.named_by}'s files (404)"),
    (httpx2.TransportError, "cannot be reached: name a mirror in HF_ENDPOINT, {advice.elsewhere}"),
)


@contextmanager
def understood(shown: str) -> Iterator[None]:
    """Turn what the client makes of answers that are no Hub's into one sentence."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, httpx2.RequestError, httpx2.InvalidURL) as error:
        # Such as the page that a hotel's network puts before every answer.
        raise SourceError(f"{shown} does not speak the Hub's protocol: correct HF_ENDPOINT") from error


@contextmanager
def explained(shown: str, advice: Advice = PINNED) -> Iterator[None]:
    """Turn the client's exceptions into one sentence that says what to do."""
    try:
        yield
    except (HfHubHTTPError, httpx2.TransportError, OSError, EntryNotFoundError) as error:
        # hf_hub_download hides why it found nothing behind one exception.
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
        for kind, sentence in SENTENCES:
            if isinstance(cause, kind):
                refused = AccessError if kind in (GatedRepoError, RepositoryNotFoundError) else SourceError
                raise refused(f"{shown} {sentence.format(advice=advice)}") from error
        if isinstance(cause, HfHubHTTPError):
            raise _refused(shown, cause, advice) from error
        if "Consistency check" in str(error):
            raise SourceError(
                f"{shown} closed the connection too early, again and again: run again to go on"
            ) from error
        raise


def _refused(shown: str, error: HfHubHTTPError, advice: Advice) -> SourceError:
    status = error.response.status_code if error.response is not None else 0
    if status in (401, 403):
        return AccessError(f"{shown} refuses access: set HF_TOKEN to a token that may read it ({status})")
    if status == 404:
        return SourceError(f"{shown} does not exist: correct {advice.named_by} ({status})")
    return SourceError(
        f"{shown} keeps answering {status}: wait and run again, or name a mirror in HF_ENDPOINT, {advice.elsewhere}"
    )
