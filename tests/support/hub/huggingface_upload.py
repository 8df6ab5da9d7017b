"""The part of the Hugging Face Hub protocol that huggingface_hub 2.4 uses to write.

Read in the client's source: HfApi.create_repo, whoami, create_commit, get_repo_discussions, _validate_yaml;
_commit_api._fetch_upload_modes and _send_commit; lfs.post_lfs_batch_info, lfs_upload and its two ways to PUT.
Not imitated: Xet (HF_HUB_DISABLE_XET=1 is the client's switch), copies, spaces, data sets.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import re
from typing import Any
from urllib.parse import unquote

from .huggingface import error
from .repos import EPOCH, LFS_PATTERNS, PullRequest, Repo, RepoFile
from .storage import Storage
from .wire import Reply, Request

FIRST = {".gitattributes": b"*.gguf filter=lfs diff=lfs merge=lfs -text\n"}
"""What a new repository holds."""

_WRITE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<verb>preupload|commit)/(?P<rev>[^/]+)")
_DISCUSSIONS = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/discussions")
_BATCH = re.compile(r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
_STORED = re.compile(r"/(?P<verb>upload|join|verify)/(?P<oid>[0-9a-f]{64})(?:/(?P<part>\d+))?")


def answer(request: Request, storage: Storage) -> Reply | None:
    """Answer a request of the Hub that writes or belongs to writing, or None where it is none."""
    path = request.raw_path
    if path == "/api/whoami-v2":
        name = storage.user(request)
        return Reply.json({"type": "user", "name": name, "orgs": []}) if name else error(401, "", "Invalid token")
    if path == "/api/validate-yaml":
        return _validate(request)
    if path == "/api/repos/create":
        return _create(request, storage)
    if found := _STORED.fullmatch(path):
        return _store(request, storage, found)
    if found := _DISCUSSIONS.fullmatch(path):
        return _discussions(request, storage.repos["models", unquote(found["repo"])])
    if found := _BATCH.fullmatch(path) or _WRITE.fullmatch(path):
        repo_id = unquote(found["repo"])
        repo = storage.repos.get(("models", repo_id))
        if (status := storage.may_write(request, repo_id)) != 200:
            return error(status, "", "You don't have the rights to write here")
        if repo is None:
            return error(404, "RepoNotFound", "Repository not found")
        if found.re is _BATCH:
            return _batch(request, storage)
        revision = unquote(found["rev"])
        return (
            _preupload(request, repo, revision)
            if found["verb"] == "preupload"
            else _commit(request, storage, repo, revision)
        )
    return None


def _validate(request: Request) -> Reply:
    """The card must have a front matter; the Hub reads it, too."""
    if not re.match(r"---\n.*?^---\n", request.json["content"], re.DOTALL | re.MULTILINE):
        return Reply.json({"errors": [{"message": "no YAML front matter"}], "warnings": []}, 400)
    return Reply.json({"errors": [], "warnings": []})


def _create(request: Request, storage: Storage) -> Reply:
    asked = request.json
    repo_id = f"{asked['organization'] or storage.user(request)}/{asked['name']}"
    url = f"{storage.url}/{repo_id}"
    if (status := storage.may_write(request, repo_id)) != 200:
        return error(status, "", "You don't have the rights to create a model under this namespace")
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    if not storage.make(repo_id, FIRST, private=private, token=request.token):
        return Reply.json({"error": "You already created this model repo", "url": url}, 409)
    return Reply.json({"url": url, "name": repo_id})


def _preupload(request: Request, repo: Repo, revision: str) -> Reply:
    snapshot = repo.at(revision)
    if snapshot is None:
        return error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    files = []
    for file in request.json["files"]:
        sample = base64.b64decode(file["sample"])
        is_lfs = any(fnmatch.fnmatchcase(file["path"], pattern) for pattern in LFS_PATTERNS) or b"\0" in sample
        there = snapshot.files.get(file["path"])
        modes = {"uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
        files.append({"path": file["path"], **modes, **({"oid": there.etag} if there else {})})
    return Reply.json({"files": files})


def _batch(request: Request, storage: Storage) -> Reply:
    """The LFS batch API; what is there already gets no actions."""
    objects: list[dict[str, Any]] = []
    for each in request.json["objects"]:
        oid, size = each["oid"], each["size"]
        entry: dict[str, Any] = {"oid": oid, "size": size}
        if not storage.has(oid):
            upload: dict[str, Any] = {"href": f"{storage.cdn_url}/upload/{oid}?X-Amz-Signature=signed"}
            if size > storage.part_size:
                numbers = range(1, -(-size // storage.part_size) + 1)
                parts = {str(n): f"{storage.cdn_url}/upload/{oid}/{n}?X-Amz-Signature=signed" for n in numbers}
                upload = {
                    "href": f"{storage.url}/join/{oid}",
                    "header": {"chunk_size": str(storage.part_size), **parts},
                }
            entry["actions"] = {"upload": upload, "verify": {"href": f"{storage.url}/verify/{oid}"}}
        objects.append(entry)
    return Reply.json({"transfer": "basic", "objects": objects})


def _store(request: Request, storage: Storage, found: re.Match[str]) -> Reply:
    """Storage: objects whole or in parts, with signed addresses and without a token; and the Hub's look at them."""
    oid = found["oid"]
    if found["verb"] == "verify":
        return Reply.json({}) if storage.has(oid) and request.json["oid"] == oid else error(404, "", "no such object")
    if found["verb"] == "join":
        etags = {part["partNumber"]: part["etag"] for part in request.json["parts"]}
        return Reply.json({}) if storage.join(oid, etags) else error(400, "", "these parts do not make the object")
    if found["part"]:
        return Reply(200, headers={"ETag": f'"{storage.keep_part(oid, int(found["part"]), request.body)}"'})
    return Reply(200) if storage.keep(request.body, oid) else error(400, "", "other bytes than announced")


def _commit(request: Request, storage: Storage, repo: Repo, revision: str) -> Reply:
    """A commit as lines of JSON: its header, and what it changes."""
    lines = [json.loads(line) for line in request.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    changes: dict[str, RepoFile | None] = {}
    for key, value in ((line["key"], line["value"]) for line in lines):
        if key == "file":
            oid = storage.keep(base64.b64decode(value["content"]))
            changes[value["path"]] = storage.file(value["path"], str(oid), lfs=False)
        elif key == "lfsFile":
            if not storage.has(value["oid"]):
                return error(400, "", f"LFS object {value['oid']} is missing")
            changes[value["path"]] = storage.file(value["path"], value["oid"], lfs=True)
        elif key == "deletedFile":
            changes[value["path"]] = None
    asked = PullRequest(header["summary"], str(storage.user(request))) if request.query.get("create_pr") else None
    made = storage.commit(repo, revision, changes, header.get("parentCommit"), asked)
    if made is None:
        return error(412, "", "A commit has happened since. Please refresh and try again.")
    url = f"{storage.url}/{repo.repo_id}"
    more = {"pullRequestUrl": f"{url}/discussions/{len(repo.pull_requests)}"} if asked else {}
    return Reply.json({"success": True, "commitOid": made.commit, "commitUrl": f"{url}/commit/{made.commit}", **more})


def _discussions(request: Request, repo: Repo) -> Reply:
    author = request.query.get("author")
    found = [
        {
            "num": number, "title": each.title, "author": {"name": each.author}, "status": "open", "isPullRequest": True,
            "createdAt": EPOCH, "repo": {"name": repo.repo_id, "type": "model"},
        }
        for number, each in enumerate(repo.pull_requests, 1)
        if author in (None, each.author)
    ]  # fmt: skip
    return Reply.json({"discussions": found, "count": len(found), "start": 0})
