"""Every kind of request of an upload goes wrong once, or for ever: no state looks finished, and the run that follows ends it well."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requant.ground.digests import digest_file
from requant.ground.errors import AccessError, SourceError
from requant.places.destinations.destination import Contents, Fate, destination
from requant.release import publish
from requant.release.verify import verify_release
from support.forked import Call, Forks
from support.hub import TOKEN, Fault, LoopbackHub

NAMES = {"huggingface": "huggingface:somebody/Tiny", "modelscope": "modelscope:somebody/Tiny"}
ONCE_A_PROCESS = "/api/agent-harnesses"
"""What the Hub's client asks before its first request."""
PAPERS = ("SHA256SUMS", "manifest.json", "README.md")


@pytest.fixture
def found(writing: LoopbackHub, finished: Path) -> Contents:
    return publish.contents(verify_release(finished))


def run(found: Contents, name: str) -> publish.Publication:
    wished = publish.wishes(found, review=False, private=False)
    planned = publish.plan(found, destination(NAMES[name]), wished, delete=False)
    return publish.carry_out(found, planned, wished, delete=False)


def forget(hub: LoopbackHub) -> None:
    hub.faults.clear()
    hub.repos.clear()
    hub.requests.clear()
    for path in hub.storage.folder.iterdir():
        path.unlink()


def steps(hub: LoopbackHub, found: Contents, name: str) -> list[int]:
    """The requests of an upload that nothing disturbs, by number: of each kind the first and the last one."""
    run(found, name)
    seen = [entry for entry in hub.requests if entry.path != ONCE_A_PROCESS]
    kinds = [(entry.method, re.sub("[0-9a-f]{64}", "", entry.path)) for entry in seen]
    forget(hub)
    return [
        number for number, kind in enumerate(kinds) if kind not in kinds[:number] or kind not in kinds[number + 1 :]
    ]


def require_no_half_truth(hub: LoopbackHub, found: Contents) -> None:
    """Papers of the release stand only where all is that was to come before them."""
    repo = hub.repos.get(("models", "somebody/Tiny"))
    now = repo.at("main") if repo else None
    right = {
        name: bool(now and name in now.files and now.files[name].sha256 == digest.sha256)
        for name, digest in found.files.items()
    }
    order = [right[name] for name in (*PAPERS,)]
    assert order == sorted(order, reverse=True), right
    assert not any(order) or all(there for name, there in right.items() if name not in PAPERS), right


def require_end(hub: LoopbackHub, found: Contents, name: str) -> None:
    """Run again without faults: complete, and exactly the release."""
    hub.faults.clear()
    assert run(found, name).error is None
    now = hub.repos["models", "somebody/Tiny"].at("main")
    assert now is not None
    files = {
        path: file.sha256 for path, file in now.files.items() if path not in (".gitattributes", "configuration.json")
    }
    assert files == {path: digest.sha256 for path, digest in found.files.items()}


ONCE: dict[str, dict[str, Any]] = {
    **{str(status): {"status": status} for status in (401, 429, 503)},
    "lost": {"kind": "lost"},
    "cut": {"kind": "cut", "after": 40},
    "truncated": {"kind": "truncate", "after": 7},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ONCE.values(), ids=ONCE)
def test_a_request_fails_once(writing: LoopbackHub, found: Contents, name: str, fault: dict[str, Any]) -> None:
    for number in steps(writing, found, name):
        struck = writing.faults.add(Fault(times=1, skip=number, **fault))
        published = tried(lambda: run(found, name))
        assert not (published and published.error and published.found) or published.found.pending
        require_no_half_truth(writing, found)
        assert struck.hits or fault.get("kind") == "truncate", number
        require_end(writing, found, name)
        forget(writing)


def tried(call: Callable[[], publish.Publication]) -> publish.Publication | None:
    """What came of it, ``None`` where it could not even be planned; every error is one of ours, of one line."""
    published, error = None, None
    try:
        published = call()
        error = published.error
    except SourceError as raised:
        error = raised
    assert error is None or (isinstance(error, SourceError) and len(str(error).splitlines()) == 1)
    return published


FOREVER: dict[int, tuple[str, str]] = {
    401: ("refuses to be written to: type hf auth login", "refuses to be written to: set MODELSCOPE_API_TOKEN"),
    403: ("refuses to be written to: type hf auth login", "refuses to be written to: set MODELSCOPE_API_TOKEN"),
    409: ("was changed by somebody else meanwhile: run again (409)", "refuses what is brought: "),
    413: ("refuses so many bytes: ask the Hub for more room", "refuses what is brought: "),
    429: ("keeps answering 429: wait and run again", "wants fewer requests: wait and run again (429)"),
    500: ("keeps answering 500: wait and run again", "keeps failing: wait and run again"),
}
WHERE = {
    "huggingface": ("*/preupload/*", "*/lfs/objects/batch", "/upload/*", "*/commit/*"),
    "modelscope": ("*/lfs/objects/batch", "/ms-upload/*", "*/commit/*"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", FOREVER)
def test_a_request_always_fails(writing: LoopbackHub, found: Contents, name: str, status: int) -> None:
    for path in WHERE[name]:
        writing.faults.add(Fault(path, status=status))
        published = run(found, name)
        assert FOREVER[status][[*NAMES].index(name)] in str(published.error), path
        assert isinstance(published.error, AccessError) is (status in (401, 403))
        require_no_half_truth(writing, found)
        require_end(writing, found, name)
        forget(writing)


def test_modelscope_stops_between_two_files(writing: LoopbackHub, found: Contents) -> None:
    """Of all states in between none looks finished, and what is there is counted."""
    for number in range(len(found.files)):
        writing.faults.add(Fault("*/commit/*", status=500, skip=number))
        published = run(found, "modelscope")
        assert published.found is not None and published.error is not None
        assert [fate for _, fate in published.found.changes].count(Fate.SAME) == number
        require_no_half_truth(writing, found)
        require_end(writing, found, "modelscope")
        forget(writing)


@pytest.mark.parametrize("name", NAMES)
def test_a_slow_hub(writing: LoopbackHub, found: Contents, name: str) -> None:
    writing.faults.add(Fault(kind="slow", rate=20_000))
    assert run(found, name).error is None


def test_a_hub_that_cannot_be_read_back(writing: LoopbackHub, found: Contents) -> None:
    """What was brought is not known then, and not said."""
    writing.faults.add(Fault("/api/models/somebody/Tiny/revision/*", status=500, skip=1))
    published = run(found, "huggingface")
    assert published.found is None and "keeps answering 500" in str(published.error)
    require_end(writing, found, "huggingface")


KILLED = {
    "huggingface": ("*/repos/create", "*/preupload/*", "*/batch", "/upload/*", "/verify/*", "*/commit/*"),
    "modelscope": ("/api/v1/models", "*/batch", "/ms-upload/*", "*/commit/*"),
}
CASES = [(name, path) for name, paths in KILLED.items() for path in paths]


@pytest.mark.parametrize(("name", "path"), CASES, ids=[f"{name} {path.strip('*/')}" for name, path in CASES])
def test_killed_after_a_request(
    writing: LoopbackHub,
    found: Contents,
    forks: Forks,
    asked: Callable[..., Call],
    tmp_path: Path,
    name: str,
    path: str,
) -> None:
    """It was carried out, and nobody heard of it."""
    silent = writing.faults.add(
        Fault(path, kind="silent", method="PUT" if path.endswith("upload/*") and "pre" not in path else "POST")
    )
    env = {"HF_TOKEN": TOKEN, "MODELSCOPE_API_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    env["MODELSCOPE_UPLOAD_LFS_FORCE_THRESHOLD"] = "4096"
    command = ["publish", str(found.folder), "--to", NAMES[name], "--upload"]
    forks.kill(asked("support.spoken.commands", [command], tmp_path / "said", env=env), lambda: silent.struck)
    assert TOKEN not in (tmp_path / "said").read_text()
    require_no_half_truth(writing, found)
    sent = {entry.path for entry in writing.seen("*upload/*", "PUT") if digest_of(entry.path, writing)}
    writing.requests.clear()
    require_end(writing, found, name)
    again = {entry.path for entry in writing.seen("*upload/*", "PUT")}
    assert not sent & again, "what is in storage is not sent again"


def digest_of(path: str, hub: LoopbackHub) -> bool:
    """Whether storage holds the object that was sent to this path."""
    oid = path.rpartition("/")[2]
    return hub.storage.has(oid) and digest_file(hub.storage.folder / oid).sha256 == oid
