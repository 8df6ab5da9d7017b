"""The loopback Hub by itself: ids, ranges, connections, and ModelScope's protocol. Its clients: test_hub_clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from support.files import SHARD
from support.hub import LoopbackHub, Snapshot

NOBODY = "0" * 40


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """A plain request that follows redirects and returns errors instead of raising them."""
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, dict(reply.headers), reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


@pytest.mark.skipif(not shutil.which("git"), reason="git is missing")
def test_ids_are_gits(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    (folder / "docs.md").touch()  # sorts before the folder docs/ in a tree, after it in a plain listing
    snapshot = hub.add_model("Qwen/Tiny", folder, lfs=())
    git = ["git", f"--git-dir={tmp_path / 'git'}", f"--work-tree={folder}"]
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    tree = subprocess.run([*git, "write-tree"], check=True, capture_output=True, text=True).stdout.strip()
    assert snapshot.trees[""] == tree
    assert len(snapshot.commit) == 40
    assert snapshot.commit == hub.add_model("Qwen/Tiny", folder, lfs=()).commit
    assert snapshot.commit != hub.add_model("Qwen/Tiny", folder).commit, "an LFS pointer is other content for git"


def test_ranges(hub: LoopbackHub, tiny: Snapshot, folder: Path) -> None:
    url = f"{hub.url}/Qwen/Tiny/resolve/main/{SHARD}"
    content = (folder / SHARD).read_bytes()
    status, headers, body = get(url, Range="bytes=100-199")
    assert (status, headers["Content-Range"], body) == (206, f"bytes 100-199/{len(content)}", content[100:200])
    assert get(url, Range="bytes=65500-")[2] == content[65500:]
    assert get(url, Range="bytes=-10")[2] == content[-10:]
    status, headers, body = get(url, Range=f"bytes={len(content)}-")
    assert (status, headers["Content-Range"], body) == (416, f"bytes */{len(content)}", b"")
    assert hub.seen("/cdn/*")[0].sent == 100


def test_connections_are_kept(hub: LoopbackHub, tiny: Snapshot) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(hub.url.rpartition(":")[2]), timeout=10)
    with contextlib.closing(connection):
        for method, size in (("HEAD", 0), ("GET", tiny.files["config.json"].size), ("HEAD", 0)):
            connection.request(method, "/Qwen/Tiny/resolve/main/config.json")
            kept = connection.sock
            with connection.getresponse() as reply:
                assert (reply.status, len(reply.read())) == (200, size)
            assert connection.sock is kept is not None


def test_sparse_giant_is_neither_hashed_nor_read(hub: LoopbackHub, tmp_path: Path) -> None:
    root = tmp_path / "giant"
    root.mkdir()
    with (root / SHARD).open("wb") as shard:
        shard.truncate(200 << 30)
    started = time.monotonic()
    hub.add_model("Qwen/Giant", root, digests={SHARD: "ab" * 32})
    status, headers, body = get(
        f"{hub.url}/Qwen/Giant/resolve/main/{SHARD}", Range=f"bytes={150 << 30}-{(150 << 30) + 9}"
    )
    assert (status, body, headers["ETag"]) == (206, bytes(10), f'"{"ab" * 32}"')
    assert time.monotonic() - started < 5
    with pytest.raises(ValueError, match="typo"):
        hub.add_model("Qwen/Giant", root, digests={"typo": "ab" * 32})


def test_own_failures_are_not_swallowed(folder: Path) -> None:
    hub = LoopbackHub()
    hub.add_model("Qwen/Tiny", folder)
    with pytest.raises(AssertionError, match="invalid literal"), hub, contextlib.suppress(ConnectionError):
        get(f"{hub.url}/api/models/Qwen/Tiny/tree/main?cursor=x")


def test_modelscope_protocol(hub: LoopbackHub, tiny: Snapshot, folder: Path) -> None:
    base = f"{hub.url}/api/v1/models/Qwen/Tiny"
    files = json.loads(get(f"{base}/repo/files?Revision=master&Recursive=True")[2])["Data"]["Files"]
    listed = {entry["Path"]: (entry["Size"], entry["Sha256"]) for entry in files if entry["Type"] == "blob"}
    assert listed == {file.path: (file.size, file.sha256) for file in tiny.files.values()}
    assert [entry["Path"] for entry in files if entry["Type"] == "tree"] == ["docs"]
    status, _, body = get(f"{base}/repo?Revision={tiny.commit}&FilePath={SHARD}", Range="bytes=10-")
    assert (status, body) == (206, (folder / SHARD).read_bytes()[10:])
    status, _, body = get(f"{base}/repo?Revision={tiny.commit}&FilePath=config.json", Range="bytes=10-")
    assert (status, body) == (200, (folder / "config.json").read_bytes()), "small files ignore ranges there"
    assert get(f"{base}/repo?Revision={NOBODY}&FilePath=config.json")[0] == 404
    assert get(f"{base}/repo?Revision=master&FilePath=absent")[0] == 404
