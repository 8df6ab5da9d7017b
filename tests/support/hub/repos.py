"""Repositories: plain folders seen as git commits, with LFS pointers where the Hub would store them.

Blob, tree and commit ids are real git object ids, so `git hash-object` agrees with what clients are told.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypedDict

LFS_PATTERNS = ("*.safetensors", "*.parquet", "*.gguf", "*.bin")
CHUNK = 1 << 20
KINDS = ("models", "datasets")
EPOCH = "1970-01-01T00:00:00.000Z"

_COMMIT_ID = re.compile(r"[0-9a-f]{40}")
_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+")


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True)
class RepoFile:
    """One file of a commit. `blob_id` is git's id of what git stores: the content, or the LFS pointer."""

    path: str
    source: Path
    size: int
    blob_id: str
    sha256: str
    lfs: bool

    @property
    def etag(self) -> str:
        """What `get_hf_file_metadata` takes as the etag: SHA-256 for LFS files, else the git blob id."""
        return self.sha256 if self.lfs else self.blob_id

    @property
    def pointer_size(self) -> int:
        return len(_pointer(self.sha256, self.size))


@dataclass(frozen=True)
class Snapshot:
    """One commit of one repository; `trees` maps each folder ("" is the root) to its git tree id."""

    kind: str
    repo_id: str
    commit: str
    files: Mapping[str, RepoFile]
    trees: Mapping[str, str]


@dataclass(frozen=True)
class PullRequest:
    """Its number is its place in ``Repo.pull_requests``, counted from one; its branch is ``refs/pr/<number>``."""

    title: str
    author: str


@dataclass
class Repo:
    """A repository: its commits, the branches that name them, and who may read it.

    ``log`` has the commits of each branch, oldest first, and ``dates`` when they were made.
    """

    kind: str
    repo_id: str
    token: str | None = None
    gated: bool = False
    info: Mapping[str, object] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    log: dict[str, list[str]] = field(default_factory=dict)
    dates: dict[str, str] = field(default_factory=dict)
    pull_requests: list[PullRequest] = field(default_factory=list)

    def at(self, revision: str) -> Snapshot | None:
        """The commit that a branch name or a full commit id stands for."""
        return self.snapshots.get(self.branches.get(revision, revision))

    def add(self, snapshot: Snapshot, branch: str, date: str = EPOCH) -> None:
        """Let a branch name a commit."""
        self.snapshots[snapshot.commit] = snapshot
        self.branches[branch] = snapshot.commit
        self.log.setdefault(branch, []).append(snapshot.commit)
        self.dates[snapshot.commit] = date

    def before(self, commit: str) -> list[str]:
        """A commit and those that its branch had before it, newest first."""
        log = next(log for log in self.log.values() if commit in log)
        return log[: log.index(commit) + 1][::-1]


class Options(TypedDict, total=False):
    """How a folder is served.

    lfs: globs of the paths stored in LFS; `LFS_PATTERNS` by default.
    digests: SHA-256 of LFS files, by path, that shall not be hashed here (sparse ones of many gigabytes).
    commit: the commit id; by default the id that git would give to this content.
    branch: the branch that names the commit; `main` by default.
    token: who may read a private repository, or, with `gated`, the content of a public one.
    info: more keys for the metadata answer, such as `cardData`.
    date: when the commit was made, as the Hub writes it.
    """

    lfs: Sequence[str]
    digests: Mapping[str, str]
    commit: str
    branch: str
    token: str
    gated: bool
    info: Mapping[str, object]
    date: str


def take_snapshot(kind: str, repo_id: str, folder: Path, options: Options) -> Snapshot:
    """Describe `folder` as a commit."""
    commit = options.get("commit")
    if kind not in KINDS or not _REPO_ID.fullmatch(repo_id):
        raise ValueError(f"not a repository: {kind} {repo_id!r}, expected one of {KINDS} and owner/name")
    if commit is not None and not _COMMIT_ID.fullmatch(commit):
        raise ValueError(f"not a commit id: {commit!r}")
    digests = options.get("digests", {})
    sources = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    if unknown := digests.keys() - sources.keys():
        raise ValueError(f"digests of files that are not in {folder}: {sorted(unknown)}")
    files: dict[str, RepoFile] = {}
    for path, source in sorted(sources.items()):
        is_lfs = any(fnmatch.fnmatchcase(path, pattern) for pattern in options.get("lfs", LFS_PATTERNS))
        files[path] = describe(path, source, digests.get(path), lfs=is_lfs)
    trees = _tree_ids(files.values())
    return Snapshot(kind, repo_id, commit or _commit_id(trees[""], repo_id), files, trees)


def next_snapshot(kind: str, repo_id: str, before: Snapshot | None, changes: Mapping[str, RepoFile | None]) -> Snapshot:
    """The commit that follows another one: files that are added or replaced, and ``None`` for what is deleted."""
    changed = {**(before.files if before else {}), **changes}
    files = {path: file for path, file in sorted(changed.items()) if file is not None}
    trees = _tree_ids(files.values())
    commit = _commit_id(trees[""], repo_id, before.commit if before else None)
    return Snapshot(kind, repo_id, commit, files, trees)


def describe(path: str, source: Path, digest: str | None = None, *, lfs: bool) -> RepoFile:
    """A file of a commit, read from `source`."""
    size = source.stat().st_size
    if lfs:
        if digest is None:
            sha256 = hashlib.sha256()
            _feed(source, sha256)
            digest = sha256.hexdigest()
        return RepoFile(path, source, size, _git_id("blob", _pointer(digest, size)), digest, lfs=True)
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    _feed(source, sha256, blob)
    return RepoFile(path, source, size, blob.hexdigest(), sha256.hexdigest(), lfs=False)


def _feed(source: Path, *digests: _Hash) -> None:
    with source.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            for digest in digests:
                digest.update(chunk)


def _pointer(sha256: str, size: int) -> bytes:
    """The text that git stores in place of an LFS file (git-lfs spec v1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def _git_id(kind: str, body: bytes) -> str:
    return hashlib.sha1(b"%s %d\0%s" % (kind.encode(), len(body), body), usedforsecurity=False).hexdigest()


def _tree_ids(files: Iterable[RepoFile]) -> dict[str, str]:
    """Git's tree id of every folder, computed from the deepest folder up."""
    entries: dict[str, dict[str, tuple[str, str]]] = {"": {}}
    for file in files:
        parent, _, name = file.path.rpartition("/")
        entries.setdefault(parent, {})[name] = ("100644", file.blob_id)
        while parent:
            parent = parent.rpartition("/")[0]
            entries.setdefault(parent, {})
    trees: dict[str, str] = {}
    for folder in sorted(entries, key=lambda name: (name.count("/") + bool(name), name), reverse=True):
        # Git orders a folder as if its name ended in a slash.
        ordered = sorted(entries[folder].items(), key=lambda e: (e[0] + "/" * (e[1][0] == "40000")).encode())
        body = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(oid) for name, (mode, oid) in ordered)
        trees[folder] = _git_id("tree", body)
        if folder:
            parent, _, name = folder.rpartition("/")
            entries[parent][name] = ("40000", trees[folder])
    return trees


def _commit_id(tree: str, repo_id: str, parent: str | None = None) -> str:
    who = "loopback hub <hub@127.0.0.1> 0 +0000"
    line = f"parent {parent}\n" if parent else ""
    return _git_id("commit", f"tree {tree}\n{line}author {who}\ncommitter {who}\n\n{repo_id}\n".encode())
