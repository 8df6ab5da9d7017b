"""requant make: what Snakemake would end in a traceback for is one sentence, with its line."""

import shlex
import shutil
from pathlib import Path

import pytest

from requant.documents.pins import TABLE, read_pins
from requant.release.service import build_command
from support.checkout import ROOT
from support.command import run

TINY = (ROOT / "config" / "tiny.yaml").read_text()
REFUSED = {
    "missing": (None, "recipe.yaml cannot be read (No such file or directory): check the path"),
    "a missing colon": (
        TINY.replace("name: Tiny", "name Tiny"),
        "recipe.yaml is not valid YAML at line 4: fix the syntax",
    ),
    "a tab": (TINY.replace("  pin: llama", "\tpin: llama"), "recipe.yaml is not valid YAML at line"),
    "no mapping": ("- a\n", "recipe.yaml"),
    "a list with a recipe that is missing": ("recipes: [nowhere.yaml]\n", "nowhere.yaml cannot be read (No such file"),
    "a list of none": ("recipes: []\n", "recipe.yaml: recipes is no list of paths; write the path of each recipe"),
    "a misspelt key": (TINY.replace("quants:", "quantz:"), "quantz is not a known key (did you mean quants?)"),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=list(REFUSED))
def test_a_recipe_that_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "recipe.yaml").write_text(text)
    code, out, err = run("make", "recipe.yaml", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "results").exists()


def test_options_are_handed_on(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "config" / "tiny.yaml", tmp_path / "recipe.yaml")
    code, out, err = run("make", "recipe.yaml", "fetch_toolchain", "--cores", "1", "--dry-run", cwd=tmp_path)
    assert code == 0, err
    assert "fetching and proving llama.cpp" in out + err
    assert "calibrat" not in out + err


@pytest.mark.parametrize("options", [("--dry-run", "--cores", "1"), ("-n", "--cores=1"), ("--cores", "1", "--dry-run")])
def test_without_a_recipe_the_first_option_is_an_option(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "config").mkdir()
    shutil.copyfile(ROOT / "config" / "tiny.yaml", tmp_path / "config" / "config.yaml")
    code, out, err = run("make", *options, "fetch_toolchain", cwd=tmp_path)
    assert code == 0, err
    assert "fetching and proving llama.cpp" in out + err


def test_a_recipe_behind_an_option(tmp_path: Path) -> None:
    """Snakemake would make another one, and look for a rule of this name."""
    shutil.copyfile(ROOT / "config" / "tiny.yaml", tmp_path / "recipe.yaml")
    code, _, err = run("make", "--dry-run", "recipe.yaml", cwd=tmp_path)
    assert (code, "write recipe.yaml first, and options of snakemake behind it" in err) == (2, True)


def test_a_profile_is_refused_by_the_workflow(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "config" / "tiny.yaml", tmp_path / "recipe.yaml")
    code, out, err = run("make", "recipe.yaml", "--dry-run", "--workflow-profile", "profiles/gb11", cwd=tmp_path)
    assert code == 1
    assert "profiles/gb11, which does not exist" in out + err


def test_what_serve_says_builds_its_server(tmp_path: Path) -> None:
    """Also of a llama.cpp that no recipe names."""
    toolchain = [*read_pins(TABLE).toolchains][-1]
    _, verb, *arguments = shlex.split(build_command(toolchain))
    (tmp_path / "config").mkdir()
    shutil.copyfile(ROOT / "config" / "tiny.yaml", tmp_path / "config" / "tiny.yaml")
    code, out, err = run(verb, *arguments, "--dry-run", cwd=tmp_path)
    assert code == 0, err
    assert "building llama-server" in out + err and "building the variant native" in out + err
