"""A small llama.cpp in a repository of its own, to be fetched from and proven."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from requant.documents.pins import ToolchainPin
from requant.ground.errors import RequantError
from requant.toolchain.tree import fetch_toolchain, prove_tree

NOBODY = "0" * 40
"""A commit that nobody has."""


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


def upstream_in(place: Path) -> Upstream:
    """Make the repository in ``place``, and let it be fetched to ``results`` beside it."""
    folder = place / "llama.cpp"
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
    return Upstream(folder, ToolchainPin("tiny", commit, tree, None, None, None), place / "results")


def prove(tree: Path, pin: ToolchainPin) -> None:
    """Prove a tree to be what a pin says."""
    prove_tree(tree, pin.commit, pin.tree, pin.name)


def change_with_old_times(tree: Path) -> None:
    """Same size, same times: git's own index takes the file for unchanged."""
    path = tree / "src" / "llama.cpp"
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b"0", b"7"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
