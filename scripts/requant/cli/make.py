"""The verbs that make a release and what it begins with: ``make``, ``pin``, ``new-recipe`` and ``convert``."""

import logging
import os
import sys
from pathlib import Path

import click

from requant.cli.command import Verb
from requant.cli.parameters import PATH, Output, as_file, keep_inputs
from requant.ground.errors import PlaceError, RecipeError
from requant.ground.logs import log_to
from requant.ground.text import counted, in_units

RECIPE = "config/config.yaml"
PIN_TABLE = Path("config/pins.yaml")
table = click.option(
    "--pins", metavar="FILE", type=PATH, default=PIN_TABLE, show_default=True, help="The pin table.",
)  # fmt: skip


@click.command(
    cls=Verb,
    short_help="Make the release of a recipe.",
    examples=["requant make config/smollm2.yaml --dry-run"],
    context_settings={"ignore_unknown_options": True},
)
@click.argument("recipe", type=click.UNPROCESSED, default=RECIPE, shell_complete=as_file)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def make(recipe: str, options: tuple[str, ...]) -> None:
    """Check RECIPE and make its release: snakemake with this checkout's workflow, and OPTIONS handed on to it.

    RECIPE may also be a list of recipes, as config/README.md describes it; what they share is made once.

    A recipe that is missing or malformed is refused here in one sentence, with its line; Snakemake would end in a
    traceback. Without --cores all of them are used.
    """
    from requant.documents.schemas import fault, read_yaml
    from requant.pipeline.recipes import load_recipes

    if recipe.startswith("-"):
        if later := [each for each in options if each.endswith((".yaml", ".yml")) and Path(each).is_file()]:
            raise click.UsageError(f"write {later[0]} first, and options of snakemake behind it")
        recipe, options = RECIPE, (recipe, *options)
    path = PATH.convert(recipe, None, None)
    root = Path(__file__).resolve().parents[3]
    if not (root / "Snakefile").exists():
        raise PlaceError("requant make needs the workflow: run it in a clone of requant, after make setup")
    document = read_yaml(path)
    if isinstance(document, dict) and "recipes" in document:
        load_recipes(document, root, str(path))
    elif wrong := fault(document, "recipe", str(path)):
        raise RecipeError(wrong)
    cores = () if any(option.startswith(("--cores", "-c")) for option in options) else ("--cores", "all")
    # Snakemake's --configfile takes all that follows up to the next option.
    command = [sys.executable, "-m", "snakemake", "--configfile", str(path), "--snakefile", str(root / "Snakefile")]
    os.execv(sys.executable, [*command, *cores, *options])  # noqa: S606 - a program of ours, without a shell


@click.command(
    cls=Verb,
    short_help="Write the pin of a model, with every file's digest.",
    examples=["requant pin Qwen/Qwen3-4B-Thinking-2507", "requant pin my-model --licence Apache-2.0"],
)
@click.argument("weights", shell_complete=as_file)
@click.option("--name", metavar="NAME", help="What recipes call it; by default as the repository or folder.")
@click.option("--licence", metavar="SPDX", help="The licence; by default what the README.md says.")
@table
def pin(weights: str, name: str | None, licence: str | None, pins: Path) -> None:
    """Write an entry for WEIGHTS into the pin table: every file that a conversion needs, with its size and SHA-256.

    WEIGHTS is OWNER/NAME[@REVISION] on the Hub, ms://OWNER/NAME for ModelScope, the address of a page there, or a
    folder with a checkpoint of your own, which is marked as not public. For a private repository set HF_TOKEN.
    """
    from requant.pipeline.new_pin import add_pin

    found = add_pin(weights, pins, name, licence)
    click.echo(f"wrote models.{found.name} into {pins}, {counted(found.files, 'file')}:\n{found.text.rstrip()}")
    click.echo(f"next: requant new-recipe {found.name} {found.name}.yaml --publisher YOU")


@click.command(
    cls=Verb,
    name="new-recipe",
    short_help="Write a recipe for a pinned model.",
    examples=["requant new-recipe SmolLM2-135M-Instruct my-recipe.yaml --publisher somebody"],
)
@click.argument("model")
@click.argument("out", type=Output())
@click.option("--publisher", metavar="NAME", required=True, help="Who publishes the release, as on the Hub.")
@table
def new_recipe(model: str, out: Path, publisher: str, pins: Path) -> None:
    """Write a recipe for MODEL, a model in the pin table, to the new file OUT."""
    from requant.pipeline.new_recipe import new_recipe as write

    write(model, pins, out, publisher)
    click.echo(f"wrote {out}: look at its card, then type\nsnakemake --cores 8 --configfile {out} --dry-run")


@click.command(
    cls=Verb,
    short_help="Convert a checkpoint to a BF16 GGUF, without torch.",
    examples=["requant convert Tiny-Qwen3 Tiny-Qwen3.gguf"],
)
@click.argument("checkpoint", type=PATH)
@click.argument("out", type=Output())
def convert(checkpoint: Path, out: Path) -> None:
    """Write the BF16 GGUF that llama.cpp's converter would make of the folder CHECKPOINT, byte for byte, to OUT.

    The GGUF bears the folder's name. Models of other layouts than Qwen3, Qwen2, Llama and Mistral are refused; the
    workflow converts those with llama.cpp's own converter.
    """
    from requant.conversion.files import DESCRIPTION, checkpoint_files
    from requant.pipeline.write_gguf import convert_folder

    listed = [path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*")]
    keep_inputs([checkpoint / name for name in (*checkpoint_files(listed), DESCRIPTION)], (out,))
    log_to([logging.StreamHandler(sys.stderr)])
    digest = convert_folder(checkpoint, out)
    click.echo(f"wrote {out}, {in_units(digest.size)}, SHA-256 {digest.sha256}")
