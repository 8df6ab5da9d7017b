"""Several recipes in one run: the plans of each, together, with what they share once."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import yaml

from requant.pipeline.recipes import FOR_ALL, OF_A_CORPUS, OF_A_MODEL, OF_A_TOOLCHAIN
from support.checkout import ROOT
from support.plans import HERE, planned, snakemake, write_small_recipe, write_yaml

TINY = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())
SHARED = {*FOR_ALL, *OF_A_TOOLCHAIN, *OF_A_MODEL, *OF_A_CORPUS}


def write_recipes(folder: Path, count: int) -> list[str]:
    """Write recipes of one model, which are calibrated on more and more chunks, and a list of them."""
    names = [f"Tiny-{number}.b" for number in range(count)]
    for number, name in enumerate(names):
        recipe = copy.deepcopy(TINY) | {"name": name}
        recipe["model"]["name"] = "Tiny"
        recipe["calibration"]["chunks"] += number
        write_yaml(folder / f"{name}.yaml", recipe)
    write_yaml(folder / "all.yaml", {"recipes": [f"{name}.yaml" for name in names]})
    return names


def test_together_they_plan_what_each_plans_alone(tmp_path: Path) -> None:
    names = write_recipes(tmp_path, 3)
    alone = planned(*HERE, "--configfile", f"{names[1]}.yaml", cwd=tmp_path)
    together = planned(*HERE, "--configfile", "all.yaml", cwd=tmp_path)
    assert together.pop("all") == alone.pop("all") == 1
    own = Counter({rule: count for rule, count in alone.items() if rule not in SHARED})
    for name in names:
        found = Counter(
            {rule.removeprefix(f"{name}_"): n for rule, n in together.items() if rule.startswith(f"{name}_")}
        )
        assert Counter({rule: n for rule, n in found.items() if rule not in SHARED}) == own
    once = {rule.removeprefix(f"{names[0]}_"): count for rule, count in together.items()}
    assert {rule: once[rule] for rule in alone if rule in SHARED} == {
        rule: alone[rule] for rule in alone if rule in SHARED
    }
    assert sum(together.values()) == sum(alone.values()) + 2 * own.total()


def test_a_list_on_the_command_line(tmp_path: Path) -> None:
    write_recipes(tmp_path, 2)
    done = snakemake("--dry-run", *HERE, "--config", "recipes=[Tiny-0.b.yaml,Tiny-1.b.yaml]", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert {f"results/Tiny-{number}.b/release/SHA256SUMS" for number in range(2)} <= {
        *done.stdout.replace(",", "").split()
    }


def test_a_run_says_whose_steps_it_takes(tmp_path: Path) -> None:
    for name in ("One", "Other"):
        write_small_recipe(tmp_path, name=name)
        (tmp_path / "recipe.yaml").rename(tmp_path / f"{name}.yaml")
    write_yaml(tmp_path / "all.yaml", {"recipes": ["One.yaml", "Other.yaml"]})
    done = snakemake(*HERE, "--configfile", "all.yaml", "--", "One_fetch_model", "Other_fetch_model", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert " · 2 recipes · " in done.stdout
    assert done.stdout.count("fetching the weights of One") == done.stdout.count("fetching the weights of Other") == 1
    assert (tmp_path / "results" / ".lock").exists()


def test_a_wrong_list_is_one_sentence(tmp_path: Path) -> None:
    write_recipes(tmp_path, 2)
    (tmp_path / "Tiny-1.b.yaml").write_text("name: [\n")
    done = snakemake("--dry-run", *HERE, "--configfile", "all.yaml", cwd=tmp_path)
    assert done.returncode != 0
    assert "Tiny-1.b.yaml is not valid YAML at line 2: fix the syntax there" in done.stdout
    assert "Traceback" not in done.stdout
