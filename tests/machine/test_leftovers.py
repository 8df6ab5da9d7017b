"""requant gc: what it finds and frees, why, and what it never touches."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from requant.documents.pins import TABLE, read_pins
from requant.documents.records import write_record
from requant.ground.exit_codes import ExitCode
from requant.machine.leftovers import free, leftovers
from support.command import CODE, PYTHONPATH

PIN = next(iter(read_pins(TABLE, "the pin table").toolchains.values()))
OLD = "a1" * 20
MONTHS = 90 * 86400


def toolchain(folder: Path, commit: str) -> None:
    """A source of a llama.cpp, with its record."""
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "ggml.c").write_bytes(bytes(5000))
    write_record(folder / "source.json", {"name": folder.name, "commit": commit, "tree": commit, "sdist": None})


def worked_in(folder: Path) -> Path:
    """A folder with its lock beside it, as ``work_folder`` leaves it when the process is killed."""
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(bytes(2000))
    folder.with_name(f".{folder.name}.lock").touch()
    return folder


def aged(path: Path) -> Path:
    os.utime(path, (time.time() - MONTHS,) * 2)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path) -> Path:
    """A folder with a release and the toolchain of the pin table, and nothing that may go."""
    folder = tmp_path / "here"
    shutil.copytree(finished, folder / "results" / "Tiny" / "release")
    (folder / "results" / ".lock").touch()
    toolchain(folder / "results" / "toolchains" / PIN.name, PIN.commit)
    toolchain(tmp_path / "requant" / "toolchains" / PIN.name, PIN.commit)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return folder


def superseded(here: Path) -> Path:
    """Fetched before the release was made."""
    toolchain(here / "results" / "toolchains" / "old", OLD)
    aged(here / "results" / "toolchains" / "old" / "source.json")
    return here / "results" / "toolchains" / "old"


def superseded_in_the_cache(here: Path) -> Path:
    toolchain(here.parent / "requant" / "toolchains" / "old", OLD)
    return here.parent / "requant" / "toolchains" / "old"


def killed_step(here: Path) -> Path:
    return worked_in(here / "results" / "Tiny" / "quants" / "work-Q4_K_M")


def killed_installation(here: Path) -> Path:
    return worked_in(here / "results" / "toolchains" / "converter" / "install")


def killed_write(here: Path) -> Path:
    path = here / "results" / "Tiny" / "release" / ".model.gguf.part"
    path.mkdir()
    (path / "model.gguf").write_bytes(bytes(3000))
    return aged(path)


def objects(here: Path) -> Path:
    folder = here / "results" / "toolchains" / PIN.name / "native"
    found = worked_in(folder / "build")
    (folder / "build.json").touch()
    return found


def broken_off(here: Path) -> Path:
    path = here.parent / "requant" / "audits" / "x.jsonl"
    path.parent.mkdir()
    path.write_text("{}\n")
    return aged(path)


GO: dict[str, tuple[Callable[[Path], Path], str]] = {
    "superseded toolchain": (superseded, "neither a pin nor a release here names this llama.cpp"),
    "toolchain of audits": (superseded_in_the_cache, "no audit of this requant derives with it"),
    "killed step": (killed_step, "the work of a step that was killed"),
    "killed installation": (killed_installation, "the work of a step that was killed"),
    "killed write": (killed_write, "a file that never got its name"),
    "objects": (objects, "objects of a build that is done"),
    "audit that was broken off": (broken_off, "broken off 90 days ago"),
}


def test_what_lies_in_what_goes_is_part_of_it(here: Path) -> None:
    path = superseded(here)
    worked_in(path / "work")
    assert [found.path.resolve() for found in free()] == [path]


@pytest.mark.parametrize(("make", "why"), GO.values(), ids=GO)
def test_what_goes(here: Path, make: Callable[[Path], Path], why: str) -> None:
    path = make(here)
    with_it = everything(here.parent)
    [found] = leftovers()
    assert (here / found.path, why in found.why) == (path, True) and found.size > 0, found
    assert everything(here.parent) == with_it, "looking changes nothing"
    assert free() == [found]
    assert not path.exists() and leftovers() == []
    assert everything(here.parent) == {name for name in with_it if not Path(name).is_relative_to(path)}


def everything(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def a_download(here: Path) -> None:
    worked_in(here / "results" / "Tiny" / "download")


def a_build(here: Path) -> None:
    worked_in(here / "results" / "toolchains" / PIN.name / "native" / "build")


def a_recent_write(here: Path) -> None:
    (here / "results" / "Tiny" / ".x.part").mkdir()


def a_recent_audit(here: Path) -> None:
    os.utime(broken_off(here))


def a_toolchain_of_a_recipe_without_release(here: Path) -> None:
    superseded(here)
    (here / "results" / "Mine").mkdir()


def a_toolchain_of_a_recipe_on_another_disk(here: Path) -> None:
    superseded(here)
    (here / "results" / "Mine").symlink_to(here.parent / "away")


def results_on_another_disk(here: Path) -> None:
    superseded(here)
    (here / "results").rename(here.parent / "results")
    (here / "results").symlink_to(here.parent / "results")


def a_toolchain_for_the_next_release(here: Path) -> None:
    toolchain(here / "results" / "toolchains" / "new", OLD)


def a_rebuild_to_look_at(here: Path) -> None:
    worked_in(here / "results" / "Tiny" / "rebuild" / "work")


def a_build_that_was_broken_off(here: Path) -> None:
    """Of a second tool: the first one's record is older than what ninja wrote since."""
    folder = here / "results" / "toolchains" / PIN.name / "strict"
    worked_in(folder / "build")
    (folder / "bin").mkdir()
    aged_record = folder / "bin" / "llama-quantize.json"
    aged_record.touch()
    aged(aged_record)
    (folder / "build" / "out").mkdir()
    (folder / "build" / "out" / ".ninja_log").touch()


def a_toolchain_of_a_pin(here: Path) -> None:
    superseded(here)
    (here / "config").mkdir()
    (here / "config" / "pins.yaml").write_text(TABLE.read_text().replace(PIN.commit, OLD))


def a_toolchain_of_a_release(here: Path) -> None:
    superseded(here)
    manifest = here / "results" / "Tiny" / "release" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["inputs"]["toolchain"]["commit"] = OLD
    manifest.write_text(json.dumps(document))


def a_folder_elsewhere(here: Path) -> None:
    toolchains = here / "results" / "toolchains"
    superseded(here)
    toolchains.rename(here.parent / "shared")
    toolchains.symlink_to(here.parent / "shared")


def a_folder_of_somebody(here: Path) -> None:
    (here / "results" / "toolchains" / "mine").mkdir()
    (here / "results" / "Tiny" / "work").mkdir()


STAY = (
    a_download, a_build, a_recent_write, a_recent_audit, a_toolchain_of_a_recipe_without_release, a_toolchain_of_a_pin,
    a_toolchain_of_a_release, a_folder_elsewhere, a_folder_of_somebody, a_toolchain_of_a_recipe_on_another_disk,
    results_on_another_disk, a_toolchain_for_the_next_release, a_rebuild_to_look_at, a_build_that_was_broken_off,
)  # fmt: skip


@pytest.mark.parametrize("make", STAY)
def test_what_stays(here: Path, make: Callable[[Path], object]) -> None:
    make(here)
    before = everything(here.parent)
    assert leftovers() == free() == []
    assert everything(here.parent) == before


@pytest.mark.parametrize("make", [killed_step, killed_installation, objects])
def test_what_somebody_works_in_stays(here: Path, make: Callable[[Path], Path]) -> None:
    folder = make(here)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert leftovers() == []


def test_a_toolchain_that_somebody_builds_in_stays(here: Path) -> None:
    """Of another checkout, whose runs hold another lock."""
    for make in (superseded, superseded_in_the_cache):
        folder = make(here)
        (folder / "strict" / "build").mkdir(parents=True)
        with (folder / "strict" / ".build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert leftovers() == []
        shutil.rmtree(folder)


# The command.


def command(here: Path, *options: str) -> tuple[int, str]:
    """Run it in the folder, with its cache."""
    env = {**os.environ, "PYTHONPATH": PYTHONPATH, "XDG_CACHE_HOME": str(here.parent)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, "gc", *options], env=env, cwd=here, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_the_command(here: Path) -> None:
    """Examples: requant gc, requant gc --delete"""
    path = superseded(here)
    code, said = command(here)
    assert (code, path.exists()) == (ExitCode.OK, True)
    assert "results/toolchains/old: neither a pin" in said and said.endswith("in all: requant gc --delete frees it\n")
    code, said = command(here, "--delete")
    assert (code, path.exists()) == (ExitCode.OK, False) and "\nfreed 5." in said, said
    assert command(here) == (ExitCode.OK, "nothing is here that no release needs\n")


def test_a_run_that_works_here(here: Path) -> None:
    path = superseded(here)
    with (here / "results" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = command(here, "--delete")
    assert (code, said.startswith("error: a run is working in "), path.exists()) == (ExitCode.UNCHECKED, True, True)
