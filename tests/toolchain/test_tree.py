"""requant.toolchain.tree, with real repositories, remotes and packages: the source equals its commit, or it is not used."""

import os
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from requant.documents.pins import PackagePin, ToolchainPin
from requant.documents.records import read_record
from requant.ground.digests import Known, digest_file
from requant.ground.errors import (
    FormatError,
    PinnedBytesError,
    RequantError,
    SourceError,
    StaleError,
)
from requant.toolchain.tree import fetch_toolchain, prove_tree, proven_tree

NOBODY = "0" * 40
VENDOR = "vendor/llama.cpp"


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if ".git" not in path.parts}


@dataclass
class Upstream:
    """A small llama.cpp with two commits; the older one is pinned."""

    folder: Path
    pin: ToolchainPin
    out: Path

    @property
    def tree(self) -> Path:
        return self.out / "source"

    def fetch(self, pin: ToolchainPin) -> None:
        fetch_toolchain(pin, self.tree, self.out / "source.json", self.out / "fetch.log")

    def refused(self, pin: ToolchainPin, kind: type[RequantError], *words: str) -> str:
        """Fetching fails with one sentence, and leaves neither a tree nor a record."""
        with pytest.raises(kind) as error:
            self.fetch(pin)
        said = str(error.value)
        assert "\n" not in said
        assert all(word in said for word in words), said
        assert {path.name for path in self.out.iterdir()} <= {"fetch.log", ".unpack.lock", ".tiny-llama.download.lock"}
        return said


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    folder = tmp_path / "llama.cpp"
    (folder / "src").mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text("project(llama.cpp) # $Id$\n")
    (folder / ".gitignore").write_text("build/\n*.o\n")
    (folder / "src" / "llama.cpp").write_text("int main() { return 0; }\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("run.sh")
    git(folder, "init", "--quiet", "--initial-branch=master")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=one")
    commit, tree = git(folder, "rev-parse", "HEAD"), git(folder, "rev-parse", "HEAD^{tree}")
    (folder / "src" / "llama.cpp").write_text("int main() { return 1; }\n")
    git(folder, "commit", "--quiet", "--all", "--message=two")
    return Upstream(folder, ToolchainPin("tiny", commit, tree, None, None, None), tmp_path / "results")


# ---- the proof


def prove(tree: Path, pin: ToolchainPin) -> None:
    prove_tree(tree, pin.commit, pin.tree, pin.name)


@pytest.fixture
def tree(upstream: Upstream) -> Path:
    """A clean work tree at the pinned commit."""
    git(upstream.folder.parent, "clone", "--quiet", str(upstream.folder), "tree")
    path = upstream.folder.parent / "tree"
    git(path, "checkout", "--quiet", upstream.pin.commit)
    return path


def test_a_clean_tree_is_proven(upstream: Upstream, tree: Path) -> None:
    before = names(tree.parent)
    prove(tree, upstream.pin)
    assert names(tree.parent) == before, "and nothing is left beside it"
    assert git(tree, "status", "--porcelain") == ""


def change_with_old_times(tree: Path) -> None:
    """Same size, same times: git's own index takes the file for unchanged."""
    path = tree / "src" / "llama.cpp"
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b"0", b"7"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def assume_unchanged(tree: Path) -> None:
    (tree / "src" / "llama.cpp").write_text("evil\n")
    git(tree, "update-index", "--assume-unchanged", "src/llama.cpp")


def exclude(tree: Path) -> None:
    (tree / ".git" / "info" / "exclude").write_text("evil.h\n")
    (tree / "src" / "evil.h").write_text("evil\n")


def crlf(tree: Path) -> None:
    """Line ends that git would normalize away while it hashes."""
    (tree / ".git" / "info" / "attributes").write_text("* text=auto\n")
    (tree / "CMakeLists.txt").write_bytes(b"project(llama.cpp) # $Id$\r\n")


def clean_filter(tree: Path) -> None:
    """A filter in the store that hands git the honest file instead of the one that lies there."""
    honest = tree.parent / "honest"
    honest.write_text("project(llama.cpp) # $Id$\n")
    (tree / ".git" / "info" / "attributes").write_text("CMakeLists.txt filter=evil\n")
    git(tree, "config", "filter.evil.clean", f"cat {honest}")
    (tree / "CMakeLists.txt").write_text("evil\n")


def other_work_tree(tree: Path) -> None:
    """A store that makes git look at another, honest folder."""
    git(tree.parent, "clone", "--quiet", str(tree), "decoy")
    git(tree, "config", "core.worktree", str(tree.parent / "decoy"))
    (tree / "CMakeLists.txt").write_text("evil\n")


def ident(tree: Path) -> None:
    (tree / ".git" / "info" / "attributes").write_text("* ident\n")
    (tree / "CMakeLists.txt").write_text("project(llama.cpp) # $Id: evil $\n")


def mode(tree: Path) -> None:
    git(tree, "config", "core.fileMode", "false")
    (tree / "CMakeLists.txt").chmod(0o755)


def replaced_link(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").write_text("run.sh")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed file": (lambda tree: (tree / "run.sh").write_text("evil\n"), "run.sh"),
    "a changed file with its old times": (change_with_old_times, "in src/llama.cpp: "),
    "a changed file that git shall not look at": (assume_unchanged, "in src/llama.cpp: "),
    "a file more": (lambda tree: (tree / "evil.h").write_text("evil\n"), "evil.h"),
    "an ignored file more": (lambda tree: (tree / "src" / "evil.o").write_bytes(b"evil"), "src/evil.o"),
    "a file that the store excludes": (exclude, "src/evil.h"),
    "a file less": (lambda tree: (tree / "run.sh").unlink(), "run.sh"),
    "another mode": (mode, "in CMakeLists.txt: "),
    "a file for a link": (replaced_link, "link"),
    "other line ends": (crlf, "in CMakeLists.txt: "),
    "a clean filter in the store": (clean_filter, "in CMakeLists.txt: "),
    "keywords": (ident, "in CMakeLists.txt: "),
    "another work tree": (other_work_tree, "in CMakeLists.txt: "),
}


@pytest.mark.parametrize(("change", "name"), CHANGES.values(), ids=list(CHANGES))
def test_changed_trees_are_refused(upstream: Upstream, tree: Path, change: Callable[[Path], object], name: str) -> None:
    change(tree)
    with pytest.raises(PinnedBytesError) as error:
        prove(tree, upstream.pin)
    said = str(error.value)
    assert said.startswith("the source of tiny has tree ")
    assert f"pinned is {upstream.pin.tree}; it differs in " in said
    assert name in said
    assert said.endswith(": use a clean source")


PINS: dict[str, tuple[dict[str, str], str]] = {
    "wrong commit": ({"commit": NOBODY}, f"pinned is {NOBODY}: pin the one you mean"),
    "wrong tree": (
        {"tree": NOBODY},
        f"pinned is {NOBODY}; it differs in the committed tree itself: use a clean source",
    ),
}


@pytest.mark.parametrize(("change", "words"), PINS.values(), ids=list(PINS))
def test_other_commits_are_refused(upstream: Upstream, tree: Path, change: dict[str, str], words: str) -> None:
    with pytest.raises(PinnedBytesError) as error:
        prove(tree, replace(upstream.pin, **change))  # type: ignore[arg-type]
    assert words in str(error.value)


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
        lambda root: (root / VENDOR / "run.sh").write_text("evil\n"), PinnedBytesError, "it differs in run.sh: use a"),
    "another commit": (
        lambda root: git(root / VENDOR, "checkout", "--quiet", "master"), PinnedBytesError, "pin the one you mean"),
    "no git store": (
        lambda root: (root / ".git").rename(root / "git"), FormatError, "holds no vendor/llama.cpp with its git store"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "words"), SDISTS.values(), ids=list(SDISTS))
def test_sdists_that_do_not_do(
    upstream: Upstream, local_index: Path, change: Callable[[Path], object], kind: type[RequantError], words: str
) -> None:
    sdist = make_sdist(upstream, local_index, change)
    upstream.refused(replace(upstream.pin, sdist=sdist), kind, words)
