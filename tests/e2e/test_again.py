"""What runs again when what changed: hours of work are never lost by typing a command twice.

The files that matter are treated as those of a real model: too large for Snakemake to remember their checksums, so that
their times decide.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.checkout import ROOT
from support.workplace import TINY, Workplace, moved

LARGE = ("--max-checksum-file-size", "40000")
"""Bytes: below the importance matrix, the corpus and every GGUF, above every record."""
PAPERS = {"write_card", "write_sums", "write_run", "write_report", "all"}
"""What follows from the text of a card, and takes seconds."""
MEASURED = {"measure_baseline", "measure_quant", "quantize_plain", "write_evaluation"}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def done(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The demo's folder, moved: everything that was made, and what Snakemake remembers of it."""
    return moved(demo, tmp_path_factory.mktemp("again") / "moved")


def planned(workplace: Workplace, *options: str) -> set[str]:
    """The rules that a run would run."""
    said = workplace.run("--dry-run", *LARGE, *options)
    _, _, table = said.partition("\nJob stats:\n")
    rows = [line.split() for line in table.split("\n\n")[0].splitlines()[2:]]
    return {row[0] for row in rows if row[0] != "total"}


def records(workplace: Workplace) -> list[Path]:
    """The small files beside the products."""
    return [path for path in workplace.results.glob("*/*.json") if path.stat().st_size < int(LARGE[1])]


def test_the_limit_tells_large_from_small(done: Workplace) -> None:
    large = [*done.results.glob("[bcqr]*/**/*.gguf"), *done.results.glob("generated/*.safetensors")]
    assert len(large) >= 6
    assert all(path.stat().st_size > int(LARGE[1]) for path in large)
    assert {"imatrix.json", "Q4_K_M.json", "source.json", "manifest.json"} <= {path.name for path in records(done)}


def test_a_second_run_in_a_moved_folder_does_nothing(done: Workplace) -> None:
    assert planned(done) == set()
    assert "Nothing to be done" in done.run(*LARGE)


def test_no_two_products_share_an_inode(done: Workplace) -> None:
    files = [path for path in done.results.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len({path.stat().st_ino for path in files}) == len(files)


def as_git_checkout(folder: Path) -> None:
    """Give every file the time of now, as another branch and back does.

    Not what is compiled: other folders share the toolchains, know nothing of how they were made, and would make them anew.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and not {"native", "cmake"} & {*path.parts}:
            os.utime(path)


def test_what_was_touched_and_is_the_same_is_no_reason(done: Workplace) -> None:
    """Scripts, rules and templates as after a checkout of another branch and back; records, the card, the recipe."""
    as_git_checkout(ROOT / "scripts")
    as_git_checkout(ROOT / "workflow")
    for path in (*records(done), done.release / "README.md", done.folder / "recipe.yaml"):
        os.utime(path)
    assert planned(done) == set()


def other_words(recipe: dict[str, Any]) -> None:
    recipe["card"]["summary"]["en"] = "Another text."


def more_chunks_to_score(recipe: dict[str, Any]) -> None:
    recipe["evaluation"]["fidelity"]["chunks"] += 1


def one_quant_more(recipe: dict[str, Any]) -> None:
    recipe["quants"] = ["Q4_K_M", "Q6_K"]


def nothing_measured(recipe: dict[str, Any]) -> None:
    del recipe["evaluation"]


def more_calibration(recipe: dict[str, Any]) -> None:
    recipe["calibration"]["chunks"] += 1


CHANGED: dict[str, tuple[Change, set[str]]] = {
    "card.summary": (other_words, {"write_manifest", *PAPERS}),
    "evaluation.fidelity": (more_chunks_to_score, {*MEASURED, *PAPERS}),
    "no evaluation": (nothing_measured, {"write_card", "write_sums", "write_run", "all"}),
}
"""What changed in the recipe, and all that runs again."""
KEPT: dict[str, tuple[Change, set[str]]] = {
    "one quant more": (one_quant_more, {"calibrate", "convert_checkpoint", "place_imatrix"}),
    "calibration.chunks": (more_calibration, {"convert_checkpoint", "fetch_corpus"}),
}
"""What changed in the recipe, and what does not run again."""


@pytest.mark.parametrize(("change", "rules"), CHANGED.values(), ids=list(CHANGED))
def test_a_changed_recipe_runs_what_depends_on_it(done: Workplace, change: Change, rules: set[str]) -> None:
    assert planned_with(done, change) == rules


@pytest.mark.parametrize(("change", "rules"), KEPT.values(), ids=list(KEPT))
def test_a_changed_recipe_keeps_the_rest(done: Workplace, change: Change, rules: set[str]) -> None:
    plan = planned_with(done, change)
    assert "quantize" in plan
    assert not plan & rules


def planned_with(done: Workplace, change: Change) -> set[str]:
    recipe = copy.deepcopy(TINY)
    change(recipe)
    done.write(recipe)
    try:
        return planned(done)
    finally:
        done.write(TINY)


def test_after_a_killed_last_step(done: Workplace) -> None:
    (done.results / "report.html").unlink()
    log = done.results / "logs" / "write_report.log"
    log.unlink()
    done.kill_when(log.exists, *LARGE)
    assert planned(done) == {"write_report", "all"}
    done.run(*LARGE)
    assert planned(done) == set()


def test_a_card_that_is_written_again_is_no_reason_for_more(done: Workplace) -> None:
    assert planned(done, "--forcerun", "write_card") == PAPERS
    done.run(*LARGE, "--forcerun", "write_card")
    assert planned(done) == set()
