"""requant.toolchain.tree: a source is proven equal to its commit, or it is not used."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from requant.ground.errors import PinnedBytesError
from support.upstream import NOBODY, Upstream, change_with_old_times, git, names, prove


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
