"""Folders that another user made, with rights or without, and a checkout that nobody may write."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkout import ROOT
from support.plans import HERE, snakemake

STRANGER, EVERYBODY = 54321, 0o777
ROOTS = "-dac_override,-dac_read_search,-fowner"
"""What lets root read and write what is others'."""
SHARED = ["results", "results/toolchains", "results/Tiny-Qwen3", "results/Tiny-Qwen3/release"]
TINY = ("--configfile", str(ROOT / "config" / "tiny.yaml"), "--dry-run")
LIST = ("--config", f"recipes=[{ROOT / 'config' / 'tiny.yaml'}]", "--dry-run")


def ordinary() -> list[str]:
    """Starts a program without root's own rights."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--bounding-set={ROOTS}", f"--inh-caps={ROOTS}"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / SHARED[-1]).mkdir(parents=True)
    (tmp_path / "results" / "toolchains").mkdir()
    yield tmp_path
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)


def hand_over(folder: Path, mode: int) -> None:
    """To another user; without root's rights, to one who has more rights than oneself."""
    if os.geteuid() == 0:
        os.chown(folder, STRANGER, -1)
    elif mode != EVERYBODY:
        mode = 0o555
    folder.chmod(mode)


def require_sentence(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode != 0
    assert f"\n{folder}, which belongs to " in done.stdout, done.stdout
    assert (
        "cannot be written here: run in a folder of your own (snakemake --directory), or let its owner" in done.stdout
    )
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(("name", "mode"), [(".", 0o755), *itertools.product(SHARED, (0o700, 0o755))])
def test_what_another_user_made_is_named(folder: Path, name: str, mode: int) -> None:
    hand_over(folder / name, mode)
    code = (
        "from pathlib import Path; from requant.documents.schemas import read_yaml; from requant.pipeline import recipe;"
        f"recipe.require_folders([recipe.load_recipe(read_yaml(Path({TINY[1]!r})), Path({str(ROOT)!r}))])"
    )
    done = subprocess.run([*ordinary(), sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert f"DiskError: {folder / name}, which belongs to " in done.stderr


def test_of_a_run(folder: Path) -> None:
    hand_over(folder / "results", 0o755)
    for arguments in (TINY, LIST):
        require_sentence(snakemake(*HERE, *arguments, cwd=folder, by=ordinary()), folder / "results")


def test_what_is_shared_is_used(folder: Path) -> None:
    """As in a group, with umask 002."""
    for name in SHARED:
        hand_over(folder / name, EVERYBODY)
    done = snakemake(*HERE, *TINY, cwd=folder, by=ordinary())
    assert done.returncode == 0, done.stdout


def test_a_checkout_that_cannot_be_written(tmp_path: Path) -> None:
    """Mounted read-only where only this run sees it; with results elsewhere it works, and without a home, too."""
    mount = f"mount --bind '{ROOT}' '{ROOT}' && mount -o remount,ro,bind '{ROOT}' && cd \"$0\" && exec \"$@\""
    unshare = ["unshare", "--map-root-user", "--mount", "env", "-u", "HOME", "sh", "-c", mount]
    done = snakemake(*HERE, *TINY, cwd=tmp_path, by=[*unshare, str(tmp_path)])
    assert done.returncode == 0, done.stdout
    require_sentence(snakemake(*HERE, *TINY, cwd=ROOT, by=[*unshare, str(ROOT)]), ROOT)
