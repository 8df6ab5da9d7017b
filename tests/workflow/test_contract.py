"""The import contract of pyproject.toml fails as soon as one arrow is turned, and says which: tried on a copy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.checkout import ROOT

LINT = str(Path(sys.executable).parent / "lint-imports")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "scripts" / "requant", tmp_path / "requant", ignore=shutil.ignore_patterns("data", "__pycache__")))  # fmt: skip


def lint(house: Path) -> tuple[int, str]:
    """What ``make lint`` says of a copy of the house."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(house.parent), str(ROOT / "tests")])}
    command = [LINT, "--no-logo", "--no-cache", str(ROOT / "pyproject.toml")]
    done = subprocess.run(command, cwd=house.parent, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_the_house_as_it_is(house: Path) -> None:
    code, said = lint(house)
    assert code == 0, said
    assert "0 broken" in said


UPWARDS = "from requant.release.card import render_card"
PLANTED = {
    "upwards": ("formats/gguf.py", UPWARDS, "requant.formats.gguf -> requant.release.card"),
    "upwards, later": ("ground/text.py", f"def late():\n    {UPWARDS}", "requant.ground.text -> requant.release.card"),
    "another package": ("quantization/mix.py", "import yaml", "requant.quantization.mix -> yaml"),
    "another package further down": ("ground/errors.py", "import yaml", "requant.ground.errors -> yaml"),
    "a wing that nobody placed": ("attic/__init__.py", "", "attic"),
}


@pytest.mark.parametrize(("module", "line", "words"), PLANTED.values(), ids=list(PLANTED))
def test_a_turned_arrow_is_named(house: Path, module: str, line: str, words: str) -> None:
    (house / module).parent.mkdir(exist_ok=True)
    with (house / module).open("a") as file:
        file.write(f"\n{line}\n")
    code, said = lint(house)
    assert code == 1, said
    assert words in " ".join(said.split())
