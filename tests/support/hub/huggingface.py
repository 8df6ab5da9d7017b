"""The part of the Hugging Face Hub protocol that huggingface_hub 2.4 and datasets 5.2 use to read.

Read in the clients' source: HfApi.model_info, dataset_info, list_repo_tree, get_paths_info, list_repo_refs, list_repo_commits;
file_download.get_hf_file_metadata and http_get; HfFileSystem (which datasets uses) makes the same calls.
Not imitated: Xet (no X-Xet-Hash is sent, so files come over plain HTTP), gzip, `resolve-cache` redirects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlencode

from .repos import EPOCH, Repo, RepoFile, Snapshot
from .signing import Signing
from .wire import Reply, Request

Repos = Mapping[tuple[str, str], Repo]

_API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)"
    r"(?:/(?P<verb>revision|tree|paths-info|refs|commits)(?:/(?P<rev>[^/]+)(?:/(?P<path>.+))?)?)?"
)
_RESOLVE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
_CDN = re.compile(r"/cdn/(?P<kind>[^/]+)/(?P<repo>[^/]+/[^/]+)/(?P<rev>[0-9a-f]{40})/(?P<path>.+)")


def answer(request: Request, repos: Repos, cdn_url: str, page_size: int, signing: Signing) -> Reply | None:
    """Answer a Hub request, or None where the path is not the Hub's."""
    if found := _CDN.fullmatch(request.raw_path):
        return _cdn(repos, found) if signing.lets_pass(request) else Reply(403)
    if found := _RESOLVE.fullmatch(request.raw_path):
        repo, refused = _readable(request, repos, found["kind"] or "models", found["repo"], content=True)
        reply = refused or _resolve(repo, unquote(found["rev"]), unquote(found["path"]), cdn_url)
        return signing.signed(reply) if reply.status == 302 else reply
    if found := _API.fullmatch(request.raw_path):
        repo, refused = _readable(request, repos, found["kind"], found["repo"], content=False)
        return refused or _api(request, repo, found, page_size)
    return None


def _api(request: Request, repo: Repo, found: re.Match[str], page_size: int) -> Reply:
    if found["verb"] == "refs":
        return _refs(repo)
    revision = unquote(found["rev"] or "main")
    snapshot = repo.at(revision)
    if snapshot is None:
        return error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    if found["verb"] == "commits":
        return _commits(request, repo, snapshot.commit, page_size)
    if found["verb"] == "tree":
        return _tree(request, snapshot, unquote(found["path"] or ""), page_size)
    return _paths_info(request, snapshot) if found["verb"] == "paths-info" else _info(request, repo, snapshot)


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    """An error as `hf_raise_for_status` reads it: the code selects the exception class."""
    extra = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
    return Reply.json({"error": message}, status, extra)


def _readable(
    request: Request, repos: Repos, kind: str, repo_id: str, *, content: bool
) -> tuple[Repo, None] | tuple[Repo, Reply]:
    """The repository, and the refusal where this caller may not read it (metadata, or `content` too)."""
    repo = repos.get((kind, unquote(repo_id)))
    if repo is not None and repo.gated:
        # A gated repository shows its listing to everybody and its content to those who were let in.
        if not content or (repo.token is not None and request.token == repo.token):
            return repo, None
        status = 401 if request.token is None else 403
        return repo, error(status, "GatedRepo", f"Access to model {repo.repo_id} is restricted.")
    if repo is not None and repo.token in (None, request.token):
        return repo, None
    # The Hub does not tell anonymous callers a private repository from a missing one.
    nowhere = repo or Repo(kind, repo_id)
    if request.token is None:
        return nowhere, error(401, "RepoNotFound", "Invalid username or password.")
    return nowhere, error(404, "RepoNotFound", "Repository not found")


def _resolve(repo: Repo, revision: str, path: str, cdn_url: str) -> Reply:
    """`/resolve/`: small files come at once, LFS files by redirect to a CDN on another origin.

    The other origin matters: `_httpx2_follow_hub_redirects_with_backoff` follows redirects on the same
    origin and stops at others, where the metadata is on the redirect itself and the token must not go.
    """
    snapshot = repo.at(revision)
    if snapshot is None:
        return error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    commit = {"X-Repo-Commit": snapshot.commit}
    file = snapshot.files.get(path)
    if file is None:
        return error(404, "EntryNotFound", "Entry not found", commit)
    if not file.lfs:
        return content(file, {**commit, "ETag": f'"{file.blob_id}"'})
    linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    return Reply(302, headers={**commit, **linked, "Location": cdn_location(snapshot, file, cdn_url)})


def content(file: RepoFile, headers: Mapping[str, str], *, ranges: bool = True) -> Reply:
    """A file's bytes. Accept-Ranges tells both clients that they may resume."""
    accept = {"Accept-Ranges": "bytes"} if ranges else {}
    return Reply(200, file.source, {"Content-Type": "application/octet-stream", **accept, **headers}, ranges)


def cdn_location(snapshot: Snapshot, file: RepoFile, cdn_url: str) -> str:
    """Where an LFS file is stored. The readable path lets faults and tests name it."""
    return f"{cdn_url}/cdn/{snapshot.kind}/{snapshot.repo_id}/{snapshot.commit}/{quote(file.path)}"


def _cdn(repos: Repos, found: re.Match[str]) -> Reply:
    """Storage behind the redirect: no token asked, as with signed addresses."""
    repo = repos.get((found["kind"], unquote(found["repo"])))
    snapshot = repo.at(found["rev"]) if repo else None
    file = snapshot.files.get(unquote(found["path"])) if snapshot else None
    if file is None:
        return Reply(404)
    # modelscope_hub checks a download against the X-Linked-ETag of the final answer (_download_with_resume).
    return content(file, {"ETag": f'"{file.sha256}"', "X-Linked-ETag": f'"{file.sha256}"'})


def _info(request: Request, repo: Repo, snapshot: Snapshot) -> Reply:
    """HfApi.model_info and dataset_info; `?blobs=True` is their `files_metadata=True`."""
    siblings: list[dict[str, object]] = []
    for file in snapshot.files.values():
        sibling: dict[str, object] = {"rfilename": file.path}
        if request.query.get("blobs", "").lower() == "true":
            sibling |= {"size": file.size, "blobId": file.blob_id}
            if file.lfs:
                sibling["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
        siblings.append(sibling)
    common = {"id": repo.repo_id, "author": repo.repo_id.split("/")[0], "sha": snapshot.commit, "tags": []}
    access = {"private": repo.token is not None and not repo.gated, "gated": "manual" if repo.gated else False}
    dates = {"createdAt": EPOCH, "lastModified": EPOCH, "downloads": 0, "likes": 0, "disabled": False}
    return Reply.json({**common, **access, **dates, "siblings": siblings, **repo.info})


def _tree(request: Request, snapshot: Snapshot, path: str, page_size: int) -> Reply:
    """HfApi.list_repo_tree: one page of entries, and a Link header to the next (`_paginate_pages`)."""
    folder = path.strip("/")
    if folder not in snapshot.trees:
        return error(404, "EntryNotFound", f"{folder} does not exist on this revision")
    prefix = folder + "/" if folder else ""
    recursive = request.query.get("recursive", "").lower() == "true"
    names = [name for name in (*snapshot.trees, *snapshot.files) if name and name.startswith(prefix)]
    shown = sorted(name for name in names if recursive or "/" not in name[len(prefix) :])
    expand = request.query.get("expand", "").lower() == "true"
    return _page(request, [_entry(snapshot, name, expand=expand) for name in shown], page_size)


def _commits(request: Request, repo: Repo, commit: str, page_size: int) -> Reply:
    """HfApi.list_repo_commits: a commit and those before it, newest first."""
    entries = [
        {"id": each, "title": "loopback", "message": "", "authors": [{"user": "hub"}], "date": repo.dates[each]}
        for each in repo.before(commit)
    ]
    return _page(request, entries, page_size)


def _page(request: Request, entries: list[dict[str, object]], page_size: int) -> Reply:
    """One page of entries, and a Link header to the next (`_paginate_pages`)."""
    start = int(request.query.get("cursor", "0"))
    stop = start + page_size
    headers = {}
    if stop < len(entries):
        query = urlencode({**request.query, "cursor": stop})
        headers["Link"] = f'<http://{request.headers["Host"]}{request.raw_path}?{query}>; rel="next"'
    return Reply.json(entries[start:stop], headers=headers)


def _paths_info(request: Request, snapshot: Snapshot) -> Reply:
    """HfApi.get_paths_info: a POSTed form; paths that do not exist are left out of the answer."""
    wanted = [name.strip("/") for name in request.form.get("paths", [])]
    expand = request.form.get("expand", [""])[-1].lower() == "true"
    known = [name for name in wanted if name and (name in snapshot.files or name in snapshot.trees)]
    return Reply.json([_entry(snapshot, name, expand=expand) for name in known])


def _entry(snapshot: Snapshot, path: str, *, expand: bool) -> dict[str, object]:
    """A RepoFile or RepoFolder as hf_api.py constructs them."""
    commit = {"id": snapshot.commit, "title": "loopback", "date": EPOCH}
    extra = {"lastCommit": commit} if expand else {}
    file = snapshot.files.get(path)
    if file is None:
        return {"type": "directory", "path": path, "oid": snapshot.trees[path], "size": 0, **extra}
    entry = {"type": "file", "path": path, "oid": file.blob_id, "size": file.size, **extra}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
    return entry


def _refs(repo: Repo) -> Reply:
    """HfApi.list_repo_refs."""
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in repo.branches.items()]
    return Reply.json({"branches": branches, "converts": [], "tags": [], "pullRequests": []})
