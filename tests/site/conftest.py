"""The site as ``make site`` builds it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.checkout import ROOT

PARTS = ("config", "docs", "envs", "package", "profiles", "site", "workflow")
"""Folders of a checkout that hold pages, or files to which pages lead."""


def built(checkout: Path, out: Path) -> Path:
    """The site of a checkout in a folder of its own; what the builder warns of ends it."""
    mkdocs = [Path(sys.executable).with_name("mkdocs"), "build", "--quiet", "--strict"]
    env = {**os.environ, "SOURCE_DATE_EPOCH": "0", "NO_MKDOCS_2_WARNING": "1"}
    command = [*mkdocs, "--config-file", checkout / "site" / "mkdocs.yml", "--site-dir", out]
    subprocess.run(command, env=env, check=True)
    return out


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, tmp_path_factory.mktemp("site") / "pages")


@pytest.fixture(scope="session")
def site_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same from a copy of the checkout, with other times, in a folder with a blank in its name."""
    folder = tmp_path_factory.mktemp("another checkout")
    for path in (*ROOT.glob("*.*"), *(ROOT / name for name in ("LICENSE", "Containerfile"))):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    for name in PARTS:
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return built(folder, folder / "built")
