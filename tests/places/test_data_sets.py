"""requant.places.data_sets where the package ``datasets`` is installed, and where it is not."""

import subprocess
from pathlib import Path

import pytest

from requant.places.data_sets import import_datasets
from support.checkout import ROOT
from support.linked import linked_environment

ASKED = """
import sys
sys.path.insert(0, sys.argv[1])
from requant.ground.errors import ToolError
from requant.places.data_sets import import_datasets
try:
    import_datasets()
except ToolError as error:
    print(error)
"""
MISSING = {"all of it": ([], "datasets"), "what it needs": (["datasets"], "fsspec")}
"""What is installed, and what is not found."""


def test_where_it_is_installed() -> None:
    assert {"load_dataset", "Dataset", "exceptions"} <= vars(import_datasets()).keys()


@pytest.mark.parametrize(("installed", "lacking"), MISSING.values(), ids=list(MISSING))
def test_where_it_is_not(installed: list[str], lacking: str, tmp_path: Path) -> None:
    python = linked_environment(tmp_path / "python", installed)
    done = subprocess.run([python, "-c", ASKED, ROOT / "scripts"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == (
        f"reading a data set needs the package datasets (No module named '{lacking}'): run the workflow, whose rule "
        "build_datasets installs it, or pip install 'requant[datasets]'\n"
    ), done.stderr
