"""requant.toolchain.tree, with real repositories, remotes and packages: where a source comes from, it is the pinned one."""

import os
import socket
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from requant.documents.pins import PackagePin
from requant.documents.records import read_record
from requant.ground.digests import Known, digest_file
from requant.ground.errors import FormatError, PinnedBytesError, RequantError, SourceError, StaleError
from requant.toolchain.tree import proven_tree
from support.upstream import NOBODY, Upstream, change_with_old_times, git, prove

VENDOR = "vendor/llama.cpp"


# ---- from a remote


@pytest.fixture
def remote(upstream: Upstream) -> str:
    bare = upstream.folder.with_name("remote.git")
    git(upstream.folder.parent, "clone", "--quiet", "--bare", str(upstream.folder), str(bare))
    git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    return bare.as_uri()


def test_a_remote_at_a_full_commit(upstream: Upstream, remote: str) -> None:
    upstream.fetch(replace(upstream.pin, git=remote))
    assert "return 0" in (upstream.tree / "src" / "llama.cpp").read_text()
    assert os.access(upstream.tree / "run.sh", os.X_OK)
    record = read_record(upstream.out / "source.json")
    assert record == {"name": "tiny", "commit": upstream.pin.commit, "tree": upstream.pin.tree, "sdist": None}
    assert {path.name for path in upstream.out.iterdir()} == {"source", "source.json", ".unpack.lock"}
    upstream.fetch(replace(upstream.pin, git=remote))


def test_a_tree_changed_after_the_fetch_is_never_used(upstream: Upstream, remote: str) -> None:
    upstream.fetch(replace(upstream.pin, git=remote))
    record = upstream.out / "source.json"
    assert proven_tree(record) == upstream.tree
    change_with_old_times(upstream.tree)
    with pytest.raises(
        StaleError, match=r"was changed since .*differs in src/llama\.cpp.*: remove .*source\.json and run again"
    ):
        proven_tree(record)


def test_the_callers_git_settings_do_not_count(
    upstream: Upstream, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitconfig").write_text("[core]\n\tautocrlf = true\n\teol = crlf\n\texcludesFile = /dev/null\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    upstream.fetch(replace(upstream.pin, git=remote))
    assert b"\r" not in (upstream.tree / "CMakeLists.txt").read_bytes()


def test_a_proxy_is_used(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        asked: list[bytes] = []

        def refuse() -> None:
            connection, _ = proxy.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        upstream.refused(replace(upstream.pin, git="https://git.invalid/llama.cpp"), SourceError, "git.invalid")
        thread.join(timeout=5)
    assert asked[0].startswith(b"CONNECT git.invalid:443 ")


REMOTES: dict[str, tuple[dict[str, str], type[RequantError], str]] = {
    "missing commit": ({"commit": NOBODY}, SourceError, f"commit {NOBODY} cannot be fetched from file://"),
    "wrong tree": ({"tree": NOBODY}, PinnedBytesError, f"pinned is {NOBODY}"),
    "no remote": ({"git": "file:///absent/llama.cpp.git"}, SourceError, "from file:///absent/llama.cpp.git"),
    "an option for a remote": (
        {"git": "--upload-pack=touch evil"},
        SourceError,
        "cannot be fetched from --upload-pack",
    ),
}


@pytest.mark.parametrize(("change", "kind", "words"), REMOTES.values(), ids=list(REMOTES))
def test_remotes_that_do_not_do(
    upstream: Upstream, remote: str, change: dict[str, str], kind: type[RequantError], words: str
) -> None:
    pin = replace(upstream.pin, **{"git": remote} | change)  # type: ignore[arg-type]
    upstream.refused(pin, kind, words)


# ---- from a checkout


def test_a_checkout(upstream: Upstream) -> None:
    git(upstream.folder, "checkout", "--quiet", upstream.pin.commit)
    (upstream.folder / "build").mkdir()
    (upstream.folder / "build" / "x.o").write_bytes(b"ignored, and not taken over")
    upstream.fetch(replace(upstream.pin, checkout=str(upstream.folder)))
    assert "return 0" in (upstream.tree / "src" / "llama.cpp").read_text()
    assert not (upstream.tree / "build").exists()
    assert (upstream.folder / "build" / "x.o").exists()


def test_a_dirty_checkout(upstream: Upstream) -> None:
    (upstream.folder / "run.sh").write_text("mine\n")
    pin = replace(upstream.pin, checkout=str(upstream.folder))
    upstream.refused(pin, FormatError, "differs from its commit in run.sh: commit or stash it first")


CHECKOUTS: dict[str, tuple[dict[str, str], type[RequantError], str]] = {
    "missing commit": ({"commit": NOBODY}, SourceError, f"lacks commit {NOBODY}: fetch it there, or correct the pin"),
    "wrong tree": ({"tree": NOBODY}, PinnedBytesError, f"pinned is {NOBODY}"),
    "no checkout": ({"checkout": "/absent"}, SourceError, "/absent is not a git checkout; write the path of a llama"),
}


@pytest.mark.parametrize(("change", "kind", "words"), CHECKOUTS.values(), ids=list(CHECKOUTS))
def test_checkouts_that_do_not_do(
    upstream: Upstream, change: dict[str, str], kind: type[RequantError], words: str
) -> None:
    pin = replace(upstream.pin, **{"checkout": str(upstream.folder)} | change)  # type: ignore[arg-type]
    upstream.refused(pin, kind, words)


def test_a_failure_keeps_the_tree_that_was_there(upstream: Upstream) -> None:
    good = replace(upstream.pin, checkout=str(upstream.folder))
    upstream.fetch(good)
    with pytest.raises(PinnedBytesError):
        upstream.fetch(replace(good, tree=NOBODY))
    prove(upstream.tree, upstream.pin)


# ---- from a source distribution


def make_sdist(upstream: Upstream, folder: Path, change: Callable[[Path], object] = lambda _: None) -> PackagePin:
    """A source distribution as llama-cpp-python makes them: llama.cpp is a submodule with its git store."""
    root = folder / "tiny_llama-1.0"
    root.mkdir(parents=True)
    git(root, "init", "--quiet")
    git(root, "submodule", "--quiet", "add", upstream.folder.as_uri(), VENDOR)
    git(root / VENDOR, "checkout", "--quiet", upstream.pin.commit)
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "tiny-llama"\nversion = "1.0"\n[tool.setuptools]\npackages = []\n'
    )
    (root / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny-llama\nVersion: 1.0\n")
    change(root)
    index = folder / "index"
    index.mkdir()
    archive = index / "tiny_llama-1.0.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(root, root.name)
    digest = digest_file(archive)
    return PackagePin("tiny-llama", "1.0", Known(digest.size, digest.sha256), VENDOR)


@pytest.fixture
def local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "sdist" / "index"))
    return tmp_path / "sdist"


def test_an_sdist(upstream: Upstream, local_index: Path) -> None:
    sdist = make_sdist(upstream, local_index)
    upstream.fetch(replace(upstream.pin, sdist=sdist))
    prove(upstream.tree, upstream.pin)
    assert (upstream.tree / ".git").is_dir(), "the store lies where git looks for it"
    assert git(upstream.tree, "status", "--porcelain", "--ignored") == ""
    record = read_record(upstream.out / "source.json")
    assert record["sdist"] == {
        "project": "tiny-llama", "version": "1.0", "sha256": sdist.expected.sha256, "size": sdist.expected.size
    }  # fmt: skip
    left = {path.name for path in upstream.out.iterdir()}
    assert left == {"source", "source.json", "fetch.log", ".unpack.lock", ".tiny-llama.download.lock"}


def test_an_sdist_with_another_digest(upstream: Upstream, local_index: Path) -> None:
    sdist = make_sdist(upstream, local_index)
    wrong = replace(sdist, expected=Known(sdist.expected.size, "f" * 64))
    upstream.refused(replace(upstream.pin, sdist=wrong), PinnedBytesError, f"pinned SHA-256 {'f' * 64}, it has ")


SDISTS: dict[str, tuple[Callable[[Path], object], type[RequantError], str]] = {
    "a changed source": (
        lambda root: (root / VENDOR / "run.sh").write_text("evil\n"),
        PinnedBytesError,
        "it differs in run.sh: use a",
    ),
    "another commit": (
        lambda root: git(root / VENDOR, "checkout", "--quiet", "master"),
        PinnedBytesError,
        "pin the one you mean",
    ),
    "no git store": (
        lambda root: (root / ".git").rename(root / "git"),
        FormatError,
        "holds no vendor/llama.cpp with its git store",
    ),
}


@pytest.mark.parametrize(("change", "kind", "words"), SDISTS.values(), ids=list(SDISTS))
def test_sdists_that_do_not_do(
    upstream: Upstream, local_index: Path, change: Callable[[Path], object], kind: type[RequantError], words: str
) -> None:
    sdist = make_sdist(upstream, local_index, change)
    upstream.refused(replace(upstream.pin, sdist=sdist), kind, words)
