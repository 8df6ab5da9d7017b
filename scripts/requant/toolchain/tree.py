"""Get llama.cpp's source and prove that it equals one upstream commit.

The proof needs no trust in the git store that comes along: every file of the tree is hashed again
into a fresh index, and the tree id that comes out must be the pinned one. A tree id is a SHA-1 over
names, modes and contents, see https://git-scm.com/book/en/v2/Git-Internals-Git-Objects.
"""

import logging
import shutil
import tarfile
import tempfile
from pathlib import Path

from requant.documents.inputs import ToolchainInput
from requant.documents.pins import ToolchainPin
from requant.documents.records import read_record, write_record
from requant.ground.digests import sync_all
from requant.ground.disk import at_home, require_space
from requant.ground.errors import FormatError, PinnedBytesError, SourceError, StaleError, ToolError
from requant.ground.programs import capture, clean_environment, work_folder
from requant.places.packages import fetch_package

logger = logging.getLogger(__name__)
UNPACKED = 500_000_000
# The caller's own git settings must not decide what a tree's bytes are.
GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
SAFE = ["-c", "safe.directory=*", "-c", "core.autocrlf=false", "-c", "core.fsmonitor=false"]


def fetch_toolchain(pin: ToolchainPin, tree: Path, record: Path, log: Path) -> None:
    """Put the pinned source into ``tree``, prove it, and write what was proven to ``record`` (JSON).

    Raises:
        SourceError: when the source cannot be had, PinnedBytesError: when it is other bytes or another commit.
        FormatError: when the archive or the checkout cannot be used.
    """
    tree = tree.absolute()
    require_space(tree.parent, UNPACKED, "unpacking llama.cpp's source")
    with work_folder(tree.parent / "unpack") as work:
        if pin.sdist is not None:
            fetched = _from_sdist(pin, work.path, log)
        elif pin.git is not None:
            fetched = _from_git(pin, pin.git, work.path)
        else:
            fetched = _from_checkout(pin, work.path)
        prove_tree(fetched, pin.commit, pin.tree, pin.name)
        shutil.rmtree(tree, ignore_errors=True)
        fetched.rename(tree)
    sync_all()
    logger.info("the source equals commit %s, tree %s", pin.commit, pin.tree)
    write_record(record, pin.as_input())


def proven_tree(record: Path) -> Path:
    """The source beside a toolchain's ``record``, proven once more: nothing may have changed it since it was fetched.

    Raises:
        StaleError: naming the first changed files.
    """
    proven = ToolchainInput.of(read_record(record))
    tree = record.with_name("source")
    try:
        prove_tree(tree, proven.commit, proven.tree, proven.name)
    except PinnedBytesError as error:
        raise StaleError(f"{tree} was changed since it was fetched ({error}): remove {record} and run again") from error
    return tree


def prove_tree(tree: Path, commit: str, tree_id: str, name: str) -> None:
    """Check that the files in ``tree`` are exactly those of a commit, ignored files included.

    Args:
        tree: the folder of the source, its git store inside.
        commit: the pinned commit.
        tree_id: git's id of the tree of that commit.
        name: how errors call the toolchain.

    Raises:
        PinnedBytesError: naming the first differing files.
    """
    tree = tree.absolute()
    head = capture(["git", *SAFE, "rev-parse", "--verify", "HEAD^{commit}"], tree, GIT)
    if head != commit:
        raise PinnedBytesError(f"the source of {name} is at commit {head}, pinned is {commit}: pin the one you mean")
    body = capture(["git", *SAFE, "rev-parse", f"{head}^{{tree}}"], tree, GIT)
    with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
        # A store of our own: no filter, line-end rule, work tree or index of the one that came along takes part.
        own = ["git", f"--git-dir={scratch}", "--work-tree=.", *SAFE]
        known = GIT | {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(tree / ".git" / "objects")}
        capture(["git", "init", "--quiet", "--bare", "--template=", scratch], tree, GIT)
        Path(scratch, "info").mkdir(exist_ok=True)
        Path(scratch, "info", "attributes").write_text("* -text -ident -filter -working-tree-encoding\n")
        capture([*own, "add", "--all", "--force", "."], tree, known)
        found = capture([*own, "write-tree"], tree, known)
        if found == tree_id == body:
            return
        changed = capture([*own, "diff-tree", "-r", "--name-only", body, found], tree, known).splitlines()
    names = ", ".join(changed[:3]) or "the committed tree itself"
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    raise PinnedBytesError(
        f"the source of {name} has tree {found}, pinned is {tree_id}; it differs in {names}{more}: use a clean source"
    )


def _from_sdist(pin: ToolchainPin, work: Path, log: Path) -> Path:
    assert pin.sdist is not None
    archive = work.parent / f"{pin.sdist.project}-{pin.sdist.version}.tar.gz"
    fetch_package(pin.sdist, "sdist", archive, log)
    logger.info("unpacking %s", archive.name)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter="data")
    except tarfile.TarError as error:
        raise FormatError(f"{archive.name} is not a usable archive: {error}") from error
    finally:
        archive.unlink()
    root = next(work.iterdir())
    tree, store = root / pin.sdist.folder, root / ".git" / "modules" / pin.sdist.folder
    if not (tree.is_dir() and store.is_dir()):
        raise FormatError(f"{archive.name} holds no {pin.sdist.folder} with its git store: pin another version")
    (tree / ".git").unlink(missing_ok=True)
    store.rename(tree / ".git")
    # The submodule's store named the work tree by a relative path that no longer holds.
    capture(
        ["git", "config", "--file", str((tree / ".git" / "config").resolve()), "--unset", "core.worktree"], work, GIT
    )
    return tree


def _from_git(pin: ToolchainPin, url: str, work: Path) -> Path:
    tree = work / "source"
    tree.mkdir()
    logger.info("fetching commit %s from %s", pin.commit, url)
    network = clean_environment(GIT, network=True)
    try:
        capture(["git", "init", "--quiet"], tree, GIT)
        capture(["git", "fetch", "--quiet", "--depth", "1", "--", url, pin.commit], tree, network)
        capture(["git", "checkout", "--quiet", "--detach", pin.commit], tree, GIT)
    except ToolError as error:
        raise SourceError(f"commit {pin.commit} cannot be fetched from {url}: {error}") from error
    return tree


def _from_checkout(pin: ToolchainPin, work: Path) -> Path:
    checkout = at_home(pin.checkout or "")
    if not (checkout / ".git").exists():
        raise SourceError(
            f"toolchain {pin.name}: {checkout} is not a git checkout; write the path of a llama.cpp clone"
        )
    changed = capture(["git", *SAFE, "status", "--porcelain"], checkout, GIT).splitlines()
    if changed:
        raise FormatError(
            f"the checkout {checkout} differs from its commit in {changed[0][3:]}: commit or stash it first"
        )
    tree = work / "source"
    capture(["git", *SAFE, "clone", "--quiet", "--no-checkout", str(checkout.resolve()), str(tree)], work, GIT)
    try:
        capture(["git", "checkout", "--quiet", "--detach", pin.commit], tree, GIT)
    except ToolError as error:
        raise SourceError(f"{checkout} lacks commit {pin.commit}: fetch it there, or correct the pin") from error
    return tree
