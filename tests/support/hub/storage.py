"""What clients upload: accounts, objects by their digest, large ones in parts, and the commits that name them.

An object is kept only if its bytes have the digest that was announced, as both hubs do it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .repos import PullRequest, Repo, RepoFile, Snapshot, describe, next_snapshot
from .wire import Request

TOKEN = "hf_aTokenThatNobodyMaySee"
"""Of somebody who may write, once `LoopbackHub.accounts` knows it."""


@dataclass
class Storage:
    """`part_size` is the most bytes of one PUT; an object beyond `in_parts` comes in parts of that size."""

    folder: Path
    repos: dict[tuple[str, str], Repo]
    url: str
    cdn_url: str
    accounts: dict[str, str] = field(default_factory=dict)
    part_size: int = 5 << 20
    licences: dict[str, str] = field(default_factory=dict)
    """What repositories were made with, by name."""
    _parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def user(self, request: Request) -> str | None:
        """Whose token came along."""
        return self.accounts.get(request.token or "")

    def may_write(self, request: Request, repo_id: str) -> int:
        """200, or the status to refuse with."""
        if request.token is None:
            return 401
        return 200 if self.user(request) == repo_id.split("/")[0] else 403

    def has(self, oid: str) -> bool:
        return (self.folder / oid).exists()

    def keep(self, data: bytes, oid: str | None = None) -> str | None:
        """Keep an object; its digest, or None where that is not the announced one."""
        found = hashlib.sha256(data).hexdigest()
        if oid not in (None, found):
            return None
        (self.folder / found).write_bytes(data)
        return found

    def keep_part(self, oid: str, number: int, data: bytes) -> str:
        """Keep a part; its ETag."""
        self._parts[oid, number] = data
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    def join(self, oid: str, etags: Mapping[int, str]) -> bool:
        """Make an object of its parts."""
        parts = [self._parts.get((oid, number), b"") for number in sorted(etags)]
        same = [hashlib.md5(part, usedforsecurity=False).hexdigest() for part in parts]
        return (
            same == [etags[number].strip('"') for number in sorted(etags)]
            and self.keep(b"".join(parts), oid) is not None
        )

    def file(self, path: str, oid: str, *, lfs: bool) -> RepoFile:
        return describe(path, self.folder / oid, lfs=lfs)

    def make(self, repo_id: str, first: Mapping[str, bytes], *, private: bool, token: str | None) -> bool:
        """Make a model repository with what its hub puts there; False where it exists."""
        with self._lock:
            if ("models", repo_id) in self.repos:
                return False
            repo = self.repos["models", repo_id] = Repo("models", repo_id, token if private else None)
            files = {path: self.file(path, str(self.keep(data)), lfs=False) for path, data in first.items()}
            repo.add(next_snapshot("models", repo_id, None, files), "main")
            return True

    def commit(
        self, repo: Repo, branch: str, changes: Mapping[str, RepoFile | None], parent: str | None = None,
        pull_request: PullRequest | None = None,
    ) -> Snapshot | None:  # fmt: skip
        """Commit to a branch, or to that of a new pull request; None where the branch has moved on from `parent`."""
        with self._lock:
            before = repo.at(branch)
            if parent is not None and pull_request is None and (before is None or before.commit != parent):
                return None
            snapshot = next_snapshot(repo.kind, repo.repo_id, repo.at(parent) if parent else before, changes)
            if pull_request is not None:
                repo.pull_requests.append(pull_request)
                branch = f"refs/pr/{len(repo.pull_requests)}"
            repo.add(snapshot, branch)
            return snapshot
