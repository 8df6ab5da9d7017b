"""Several recipes in one run: which of them there are, and what one of them makes for all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requant.documents.schemas import fault, read_yaml
from requant.ground.errors import RecipeError
from requant.pipeline import layout
from requant.pipeline.recipe import DEFAULT_PINS, Recipe, load_recipe, named_file

KEYS = ("recipes", "pins", "source")
"""What a list of recipes may hold: their paths, and what this machine says for all of them."""
FOR_ALL = ("build_converter", "build_datasets", "build_harness", "fetch_suites", "fetch_knowledge")
OF_A_TOOLCHAIN = ("fetch_toolchain", "build_tool", "build_backend")
OF_A_MODEL = ("fetch_model", "generate_model", "choose_converter", "convert_checkpoint", "expand_gguf")
OF_A_CORPUS = ("fetch_corpus",)
"""Rules whose outputs do not lie in the folder of one recipe alone."""


@dataclass(frozen=True)
class Member:
    """One of several recipes.

    ``where`` is its path, ``config`` what the workflow takes for it. ``made_before`` are the rules whose outputs are
    those of a recipe before it.
    """

    where: str
    config: Mapping[str, Any]
    recipe: Recipe
    made_before: tuple[str, ...]


def load_recipes(config: Mapping[str, Any], root: Path, where: str) -> list[Member]:
    """Read the recipes that a list names; ``root`` and ``where`` (the list's name) are as for ``load_recipe``.

    Raises:
        RecipeError: as ``load_recipe`` for each of them, and when two would write different things to one place.
    """
    for key in config:
        if key not in KEYS:
            raise RecipeError(f"{where}: {key} is not a known key beside recipes; write only {', '.join(KEYS)}")
    paths = config["recipes"]
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise RecipeError(f"{where}: recipes is no list of paths; write the path of each recipe")
    machine = {key: config[key] for key in KEYS[1:] if key in config}
    found: list[Member] = []
    for path in paths:
        document = read_yaml(named_file(path, root))
        if not isinstance(document, Mapping):
            raise RecipeError(str(fault(document, "recipe", path)))
        own = {**document, **machine}
        recipe = load_recipe(own, root, path)
        for other in found:
            _require_apart(recipe, path, own, other)
        found.append(Member(path, own, recipe, tuple(_made_before(recipe, [other.recipe for other in found]))))
    return found


def _require_apart(recipe: Recipe, where: str, config: Mapping[str, Any], other: Member) -> None:
    """Refuse two recipes that share a folder, or a name in it, and would not put the same there."""
    if recipe.name == other.recipe.name:
        raise RecipeError(f"{where}: name is {recipe.name!r}, as in {other.where}; write another name")
    if config.get("pins", DEFAULT_PINS) != other.config.get("pins", DEFAULT_PINS):
        raise RecipeError(
            f"{where}: pins is another table than in {other.where}; name one table in all recipes of a run"
        )
    if both := {*recipe.publish} & {*other.recipe.publish}:
        raise RecipeError(f"{where}: publish names {min(both)}, as in {other.where}; name another repository")
    if recipe.model_name != other.recipe.model_name:
        return
    for what, one, another in (
        ("other weights", (recipe.model, recipe.generate), (other.recipe.model, other.recipe.generate)),
        ("another toolchain", recipe.toolchain, other.recipe.toolchain),
        ("another conversion", recipe.conversion, other.recipe.conversion),
        ("another keep", {*recipe.keep} - {"quants"}, {*other.recipe.keep} - {"quants"}),
    ):
        if one != another:
            raise RecipeError(
                f"{where}: the model is called {recipe.model_name!r}, as in {other.where}, but has {what}; write "
                "the same, or another model.name"
            )


def _made_before(recipe: Recipe, others: Sequence[Recipe]) -> Iterator[str]:
    if others:
        yield from FOR_ALL
    for rules, place in (
        (OF_A_TOOLCHAIN, lambda each: each.toolchain.name),
        (OF_A_MODEL, lambda each: each.model_name),
        (OF_A_CORPUS, lambda each: layout.corpus(each.name, each.model_name, each.texts)),
    ):
        if place(recipe) in map(place, others):
            yield from rules
