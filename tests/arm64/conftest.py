"""ARM64 programs on this machine: llama.cpp cross-compiled, Python from Debian, both run by qemu.

Everything is kept in ``build/tests`` and used again by the next run.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from requant.documents.records import read_record, write_record
from requant.ground.digests import digest_file
from requant.ground.programs import Run
from requant.toolchain.build import build_backend, build_tool, open_built
from requant.toolchain.tree import proven_tree
from requant.toolchain.variants import LANES, PORTABLE
from support.checkout import ROOT, TOOLCHAINS
from support.workplace import TOOLCHAIN, TOOLS, Workplace

HERE = Path(__file__).parent
BUILT = TOOLCHAINS / TOOLCHAIN / "arm64"
PYTHON = TOOLCHAINS / "converter" / "arm64"
OURS = (PORTABLE, LANES)
"""Variants with code of our own, which computes on ARM64 by other instructions."""
SYSROOT = Path("/usr/aarch64-linux-gnu")
PROGRAMS = {"aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu", "qemu-aarch64-static": "qemu-user-static"}
# Debian 12's Python, and what it and the wheels load. The torch of the converter's lock loads only with gigabytes of
# CUDA libraries on ARM64 too; the one in torch.lock is the newest that does not.
PACKAGES = (
    "libc6", "libstdc++6", "libgcc-s1", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libssl3",
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib",
)  # fmt: skip
LOCKS = (ROOT / "envs" / "converter.lock", HERE / "torch.lock")
TAGS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def launcher(path: Path, root: Path, program: Path, **env: str) -> Path:
    """Write a script that runs an ARM64 ``program`` with the libraries in ``root``."""
    words = ["exec", "env", *(f"{key}={value}" for key, value in env.items())]
    words += ["qemu-aarch64-static", "-L", str(root), str(program)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{shlex.join(words)} "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def programs() -> None:
    if missing := [package for program, package in PROGRAMS.items() if not shutil.which(program)]:
        names = " ".join(missing)
        pytest.fail(f"{names} is not installed: install it (Debian: apt-get install {names})", pytrace=False)


@pytest.fixture(scope="session")
def built(programs: None, demo: Workplace) -> Path:
    """The folder of the ARM64 tools and of our own code, cross-compiled; the build's own checks saw them too."""
    source = TOOLCHAINS / TOOLCHAIN / "source.json"
    tree, commit = proven_tree(source), read_record(source)["commit"]
    run = Run(len(os.sched_getaffinity(0)), BUILT / "build.log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", "aarch64-linux-gnu-gcc")
        patch.setenv("CXX", "aarch64-linux-gnu-g++")
        patch.setenv("CMAKE_TOOLCHAIN_FILE", str(HERE / "toolchain.cmake"))
        for name in OURS:
            build_backend(tree, name, BUILT / name, commit, run)
        for tool in TOOLS:
            build_tool(tree, tool, BUILT / "strict" / "bin", commit, run)
    return BUILT


@pytest.fixture(scope="session")
def python(programs: None) -> Path:
    """An ARM64 Python with the converter's packages: as a launcher, which runs it under qemu."""
    done, locks = PYTHON / "done", "".join(lock.read_text() for lock in LOCKS)
    if not done.exists() or done.read_text() != locks:
        shutil.rmtree(PYTHON, ignore_errors=True)
        _unpack_debian(PYTHON / "debian")
        wheels = ["--no-deps", "--no-compile", "--require-hashes", "--only-binary=:all:"]
        wheels += ["--python-version=3.11", "--implementation=cp", *(f"--platform={tag}" for tag in TAGS)]
        wheels += [f"--requirement={lock}" for lock in LOCKS]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", f"--target={PYTHON / 'wheels'}", *wheels], check=True)
        done.write_text(locks)
    program = PYTHON / "debian" / "usr" / "bin" / "python3.11"
    return launcher(PYTHON / "python", PYTHON / "debian", program, PYTHONPATH=f"{PYTHON / 'wheels'}:{ROOT / 'scripts'}")


def _unpack_debian(folder: Path) -> None:
    """Fetch ``PACKAGES`` for ARM64, checked by apt's own keys, and unpack them into ``folder``; nothing is installed."""
    state = folder.with_name("apt")
    (state / "lists" / "partial").mkdir(parents=True)
    (state / "status").touch()
    places = {"State::Lists": state / "lists", "State::status": state / "status", "Cache": state / "cache"}
    options = ["APT::Architecture=arm64", "APT::Architectures::=arm64", "APT::Sandbox::User=root"]
    options += [f"Dir::{key}={path}" for key, path in places.items()]
    apt = ["apt-get", "--quiet=2", *(f"--option={option}" for option in options)]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *PACKAGES], cwd=state, check=True)
    for package in state.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    shutil.rmtree(state)


@pytest.fixture
def arm64(built: Path, python: Path, upstream_converter: Path, tmp_path: Path) -> Workplace:
    """A folder to run the workflow in, in which every program that makes a model's bytes is an ARM64 program."""
    toolchains = tmp_path / "arm64" / "results" / "toolchains"
    toolchain, ours = toolchains / TOOLCHAIN, TOOLCHAINS
    for tool in TOOLS:
        record = built / "strict" / "bin" / f"{tool}.json"
        document = open_built(record).document
        script = launcher(toolchain / "strict" / "bin" / tool, SYSROOT, record.with_suffix(""))
        digest = digest_file(script)
        entry = {tool: {"size": digest.size, "sha256": digest.sha256}}
        write_record(script.with_name(record.name), {**document, "binaries": entry})
    for name in OURS:
        (toolchain / name).symlink_to(built / name)
    (toolchain / "source").symlink_to(ours / TOOLCHAIN / "source")
    shutil.copy2(ours / TOOLCHAIN / "source.json", toolchain)
    (toolchains / "converter" / "environment" / "bin").mkdir(parents=True)
    shutil.copy2(python, toolchains / "converter" / "environment" / "bin" / "python")
    # With the time of now: a lock that is newer than the record would have the environment built again, for this machine.
    shutil.copyfile(ours / "converter" / "environment.json", toolchains / "converter" / "environment.json")
    return Workplace(tmp_path / "arm64")
