"""The part of ModelScope's `/api/v1` that modelscope_hub 0.5 uses to write.

Read in `_legacy_api.py` (create_repo, validate_blobs, upload_blob, create_commit) and `_upload.py` (upload_file,
delete_files). Objects are PUT to an origin of their own, and the client sends its token there too.
"""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import unquote

from .repos import RepoFile
from .storage import Storage
from .wire import Reply, Request

FIRST = {
    "configuration.json": b'{"framework": "pytorch"}\n',
    ".gitattributes": b"*.gguf filter=lfs diff=lfs merge=lfs -text\n",
    "README.md": b"---\nlicense: Apache License 2.0\n---\n",
}
"""What a new repository holds."""
PRIVATE = 1

_WRITE = re.compile(
    r"/api/v1/repos/models/(?P<repo>[^/]+/[^/]+)/(?P<verb>info/lfs/objects/batch|commit)(?:/(?P<rev>[^/]+))?"
)
_OBJECT = re.compile(r"/ms-upload/(?P<oid>[0-9a-f]{64})")


def answer(request: Request, storage: Storage) -> Reply | None:
    """Answer a request of ModelScope that writes, or None where it is none."""
    if request.raw_path == "/api/v1/models" and request.method == "POST":
        return _create(request, storage)
    if found := _OBJECT.fullmatch(request.raw_path):
        if storage.user(request) is None:
            return _failure(403, "no token")
        return _success({}) if storage.keep(request.body, found["oid"]) else _failure(400, "other bytes than announced")
    found = _WRITE.fullmatch(request.raw_path)
    if found is None:
        return None
    repo_id = unquote(found["repo"])
    if (status := storage.may_write(request, repo_id)) != 200:
        return _failure(status, "no permission")
    if ("models", repo_id) not in storage.repos:
        return _failure(404, "Record not found")
    return (
        _commit(request, storage, repo_id, unquote(found["rev"]))
        if found["verb"] == "commit"
        else _batch(request, storage)
    )


def _create(request: Request, storage: Storage) -> Reply:
    asked = request.json
    repo_id = f"{asked['Path']}/{asked['Name']}"
    if (status := storage.may_write(request, repo_id)) != 200:
        return _failure(status, "no permission")
    if not storage.make(repo_id, FIRST, private=asked["Visibility"] == PRIVATE, token=request.token):
        return _failure(400, "the name already exists")
    storage.licences[repo_id] = asked["License"]
    return _success({"Path": asked["Path"], "Name": asked["Name"], "Visibility": asked["Visibility"]})


def _batch(request: Request, storage: Storage) -> Reply:
    """Only objects that must be sent are answered about."""
    missing = [each for each in request.json["objects"] if not storage.has(each["oid"])]
    return _success(
        {
            "objects": [
                {**each, "actions": {"upload": {"href": f"{storage.cdn_url}/ms-upload/{each['oid']}?sign=signed"}}}
                for each in missing
            ]
        }
    )


def _commit(request: Request, storage: Storage, repo_id: str, revision: str) -> Reply:
    repo = storage.repos["models", repo_id]
    changes: dict[str, RepoFile | None] = {}
    for each in request.json["actions"]:
        path = each["path"]
        if each["action"] == "delete":
            changes[path] = None
        elif each["type"] == "lfs":
            if not storage.has(each["sha256"]):
                return _failure(400, f"LFS object {each['sha256']} is missing")
            changes[path] = storage.file(path, each["sha256"], lfs=True)
        else:
            oid = storage.keep(base64.b64decode(each["content"]))
            changes[path] = storage.file(path, str(oid), lfs=False)
    # ModelScope's default branch is called master; the folder is the same.
    made = storage.commit(repo, "main" if revision == "master" else revision, changes)
    assert made is not None
    return _success({"CommitId": made.commit})


def _success(data: Any) -> Reply:
    return Reply.json({"Code": 200, "Data": data, "Message": "success", "RequestId": "loopback", "Success": True})


def _failure(status: int, message: str) -> Reply:
    body = {"Code": 10010205001, "Data": None, "Message": message, "RequestId": "loopback", "Success": False}
    return Reply.json(body, status)
