"""The part of ModelScope's `/api/v1` that modelscope_hub 0.5 uses to list and to download.

Read in `_legacy_api.py` (list_repo_files, list_dataset_files_paginated, list_revisions, get_repo_info,
download_stream) and `_download.py` (_detect_region_uncached, _download_with_resume). The OpenAPI surface
is not imitated: the client falls back to `/api/v1` where it answers 404.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from .huggingface import Repos, cdn_location, content
from .repos import Repo, Snapshot
from .wire import Reply, Request

_ROUTE = re.compile(
    r"/api/v1/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)(?:/(?P<verb>repo/files|repo/tree|repo|revisions))?"
)


def answer(request: Request, repos: Repos, cdn_url: str) -> Reply | None:
    """Answer a ModelScope request, or None where the path is not ModelScope's."""
    if request.path == "/api/v1/repos/internalAccelerationInfo":
        return _success({})  # asked before every download; no region means no detour
    found = _ROUTE.fullmatch(request.raw_path)
    if found is None:
        return None
    repo = repos.get((found["kind"], unquote(found["repo"])))
    if repo is None or repo.token not in (None, request.token):
        return _failure("Record not found")
    return _about(repo, found["verb"]) or _at_revision(request, repo, found["verb"], cdn_url)


def _about(repo: Repo, verb: str | None) -> Reply | None:
    """Questions about the repository as a whole: get_repo_info and list_revisions."""
    if verb == "revisions":
        branches = [{"Revision": name, "CreatedAt": 0} for name in repo.branches]
        return _success({"RevisionMap": {"Branches": branches, "Tags": []}})
    owner, name = repo.repo_id.split("/")
    return None if verb else _success({"Path": owner, "Name": name, "Visibility": 5, **repo.info})


def _at_revision(request: Request, repo: Repo, verb: str, cdn_url: str) -> Reply:
    # ModelScope's default branch is called master; the folder is the same.
    revision = request.query.get("Revision", "master")
    snapshot = repo.at(revision) or (repo.at("main") if revision == "master" else None)
    if snapshot is None:
        return _failure(f"Revision not found: {revision}")
    if verb == "repo":
        return _download(snapshot, request.query.get("FilePath", ""), cdn_url)
    return _listing(request, snapshot)


def _success(data: object) -> Reply:
    return Reply.json({"Code": 200, "Data": data, "Message": "success", "RequestId": "loopback", "Success": True})


def _failure(message: str) -> Reply:
    body = {"Code": 10010205001, "Data": None, "Message": message, "RequestId": "loopback", "Success": False}
    return Reply.json(body, 404)


def _listing(request: Request, snapshot: Snapshot) -> Reply:
    """Every entry below Root. Datasets ask for pages; models are never paged."""
    root = request.query.get("Root", "").strip("/")
    prefix = root + "/" if root else ""
    recursive = request.query.get("Recursive", "").lower() == "true"
    names = [name for name in (*snapshot.trees, *snapshot.files) if name and name.startswith(prefix)]
    if root and not names:
        return _failure(f"Path not found: {root}")
    shown = sorted(name for name in names if recursive or "/" not in name[len(prefix) :])
    if size := int(request.query.get("PageSize", "0")):
        start = (int(request.query.get("PageNumber", "1")) - 1) * size
        shown = shown[start : start + size]
    return _success({"Files": [_entry(snapshot, name) for name in shown]})


def _entry(snapshot: Snapshot, path: str) -> dict[str, object]:
    common = {"Path": path, "Name": path.rpartition("/")[2], "Revision": snapshot.commit, "CommittedDate": 0}
    file = snapshot.files.get(path)
    if file is None:
        return {**common, "Type": "tree", "Mode": "16384", "Size": 0, "Sha256": "", "IsLFS": False}
    return {**common, "Type": "blob", "Mode": "33188", "Size": file.size, "Sha256": file.sha256, "IsLFS": file.lfs}


def _download(snapshot: Snapshot, path: str, cdn_url: str) -> Reply:
    file = snapshot.files.get(path)
    if file is None:
        return _failure(f"File not found: {path}")
    if file.lfs:
        return Reply(302, headers={"Location": cdn_location(snapshot, file, cdn_url)})
    # The comments in _download_with_resume say that ModelScope ignores Range on files that it does not redirect.
    return content(file, {}, ranges=False)
