"""requant.pipeline.recipes: lists that are refused, and what one of several recipes makes for the others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from requant.ground.errors import RecipeError
from requant.pipeline.recipes import FOR_ALL, OF_A_CORPUS, OF_A_MODEL, OF_A_TOOLCHAIN, load_recipes
from support.checkout import ROOT

TINY = yaml.safe_load((ROOT / "config" / "tiny.yaml").read_text())
Change = Callable[[dict[str, Any]], object]


def of_the_model(name: str) -> Change:
    return lambda recipe: recipe["model"].update(name=name)


def of_another_toolchain(recipe: dict[str, Any]) -> None:
    recipe["toolchain"] = "llama.cpp-4227c9be4268"


def of_another_seed(recipe: dict[str, Any]) -> None:
    recipe["model"]["generate"]["seed"] += 1


def of_other_texts(recipe: dict[str, Any]) -> None:
    recipe["corpus"] |= {"calibration": "test", "evaluation": "train"}


def both(*changes: Change) -> Change:
    return lambda recipe: [change(recipe) for change in changes]


def write(folder: Path, *changes: Change) -> list[str]:
    """Write a recipe for each change, called ``Tiny-0`` and so on."""
    paths = []
    for number, change in enumerate(changes):
        recipe = copy.deepcopy(TINY) | {"name": f"Tiny-{number}"}
        change(recipe)
        path = folder / f"{number}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        paths.append(str(path))
    return paths


def unchanged(_: dict[str, Any]) -> None:
    pass


SHARED: dict[str, tuple[tuple[Change, ...], tuple[tuple[str, ...], ...]]] = {
    "one": ((unchanged,), ()),
    "strangers": ((unchanged, unchanged), (FOR_ALL, OF_A_TOOLCHAIN)),
    "of another toolchain": ((unchanged, of_another_toolchain), (FOR_ALL,)),
    "the first one's model": ((unchanged, of_the_model("Tiny-0")), (FOR_ALL, OF_A_TOOLCHAIN, OF_A_MODEL)),
    "and texts": (
        (of_the_model("Tiny"), of_the_model("Tiny")), (FOR_ALL, OF_A_TOOLCHAIN, OF_A_MODEL, OF_A_CORPUS)),
    "a model, and other texts": (
        (of_the_model("Tiny"), both(of_the_model("Tiny"), of_other_texts)), (FOR_ALL, OF_A_TOOLCHAIN, OF_A_MODEL)),
    "a model that comes later": ((of_the_model("Tiny-1"), unchanged), (FOR_ALL, OF_A_TOOLCHAIN, OF_A_MODEL)),
}  # fmt: skip
"""Changes of the recipes, and which rules the last of them leaves to those before it."""


@pytest.mark.parametrize(("changes", "groups"), SHARED.values(), ids=list(SHARED))
def test_what_is_made_once(tmp_path: Path, changes: tuple[Change, ...], groups: tuple[tuple[str, ...], ...]) -> None:
    first, *_, last = [None, *load_recipes({"recipes": write(tmp_path, *changes)}, ROOT, "list")]
    assert first is None and last is not None
    assert last.made_before == tuple(rule for rules in groups for rule in rules)


def test_what_this_machine_says_holds_for_all(tmp_path: Path) -> None:
    paths = write(tmp_path, lambda recipe: recipe.update(source="modelscope"), unchanged)
    members = load_recipes({"recipes": paths, "source": "huggingface"}, ROOT, "list")
    assert [member.recipe.mirror for member in members] == ["huggingface"] * 2
    assert not any("source" in member.recipe.document for member in members)


def test_each_keeps_its_own_quants(tmp_path: Path) -> None:
    less = both(of_the_model("T"), lambda recipe: recipe.update(keep=["weights", "bf16"]))
    members = load_recipes({"recipes": write(tmp_path, of_the_model("T"), less)}, ROOT, "list")
    assert [len(member.recipe.keep) for member in members] == [3, 2]


def renamed(name: str) -> Change:
    return lambda recipe: recipe.update(name=name)


def published(recipe: dict[str, Any]) -> None:
    recipe["publish"] = ["huggingface:somebody/Tiny"]


APART: dict[str, tuple[tuple[Change, ...], str]] = {
    "one name": ((unchanged, renamed("Tiny-0")), "1.yaml: name is 'Tiny-0', as in {0}; write another name"),
    "other weights of that name": (
        (of_the_model("T"), both(of_the_model("T"), of_another_seed)),
        "1.yaml: the model is called 'T', as in {0}, but has other weights; write the same, or another model.name"),
    "another toolchain": (
        (of_the_model("T"), both(of_the_model("T"), of_another_toolchain)), "but has another toolchain; write"),
    "another conversion": (
        (of_the_model("T"), both(of_the_model("T"), lambda recipe: recipe.update(conversion="upstream"))), "but has another conversion; write"),
    "weights that stay for one alone": (
        (of_the_model("T"), both(of_the_model("T"), lambda recipe: recipe.update(keep=["quants"]))), "but has another keep; write"),
    "another table of pins": (
        (unchanged, lambda recipe: recipe.update(pins=str(ROOT / "config" / "pins.yaml"))), "1.yaml: pins is another table than in {0}"),
    "one repository": ((published, published), "1.yaml: publish names huggingface:somebody/Tiny, as in {0}; name another"),
    "a wrong recipe": ((unchanged, lambda recipe: recipe.pop("quants")), "1.yaml: quants is missing; write"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), APART.values(), ids=list(APART))
def test_recipes_that_cannot_be_made_together(tmp_path: Path, changes: tuple[Change, ...], words: str) -> None:
    paths = write(tmp_path, *changes)
    with pytest.raises(RecipeError) as error:
        load_recipes({"recipes": paths}, ROOT, "list")
    assert words.format(*paths) in str(error.value)


LISTS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"recipes": []}, "list: recipes is no list of paths; write the path of each recipe"),
    "a path": ({"recipes": "a.yaml"}, "list: recipes is no list of paths"),
    "no path at all": ({"recipes": ["a\0b"]}, r"a\x00b' is no path: correct it"),
    "a recipe": ({"recipes": [TINY]}, "list: recipes is no list of paths"),
    "a key of a recipe": ({"recipes": ["a.yaml"], "quants": ["Q8_0"]}, "list: quants is not a known key beside recipes; write only"),
    "a home of nobody": ({"recipes": ["~nobody-at-all/a.yaml"]}, "a.yaml cannot be read (No such file or directory)"),
    "no file": ({"recipes": ["nowhere.yaml"]}, "nowhere.yaml cannot be read (No such file or directory)"),
    "a list of lists": ({"recipes": ["list.yaml"]}, "list.yaml: the document is a list; write a mapping"),
}  # fmt: skip


@pytest.mark.parametrize(("config", "words"), LISTS.values(), ids=list(LISTS))
def test_lists_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text("- a\n")
    with pytest.raises(RecipeError) as error:
        load_recipes(config, ROOT, "list")
    assert words in str(error.value)
