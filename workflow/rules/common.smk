# The recipe, what is made of it, and the names that every stage shares.
import json
import re
from dataclasses import asdict

from snakemake.common.tbdstring import TBDString

from requant.documents.pins import WEIGHTS
from requant.ground.errors import RequantError
from requant.pipeline import layout
from requant.pipeline.needs import Need, Needs
from requant.pipeline.recipe import (
    load_recipe,
    needs_gpu,
    require_folders,
    require_room,
    suite_file,
)
from requant.pipeline.shards import measured, split
from requant.pipeline.suites import BERKELEY, KNOWLEDGE
from requant.pipeline.tiny_shape import TINY_FILES
from requant.quantization.quants import needs_imatrix
from requant.toolchain.variants import INFERENCE, variant

# As many as --cores allows; a tool that can use more is not known.
MANY = 64

try:
    recipe = load_recipe(config, ROOT, (workflow.configfiles or ["the recipe"])[-1])
    require_folders([recipe])
    require_room([recipe])
except RequantError as error:
    raise WorkflowError(str(error))

if workflow.is_main_process and (part := needs_gpu(recipe)):
    logger.warning(
        f"{part} asks for a GPU, and this machine shows no NVIDIA driver: such steps can run on other nodes only"
    )

# What a run is called, and the recipes whose names its steps need.
TITLE, NAMES = recipe.name, []
SOURCE = "generated" if recipe.generate else "source"
SOURCE_FILES = list(recipe.model.files) if recipe.model else []
MODEL = "expanded" if recipe.model and recipe.model.is_gguf else "converted"
# The lanes that go ahead of llama-quantize's own functions.
LANES = [] if recipe.quantization else ["<toolchain>/lanes/build.json"]
QUANTS = [layout.quant_file(recipe.name, kind) for kind in recipe.quants]
RELEASE = [
    f"<results>/release/{name}"
    for name in layout.release_files(
        recipe.name, recipe.quants, recipe.evaluation.any, recipe.billed
    )
]
EVALUATION = ["<results>/release/evaluation.json"] if recipe.evaluation.any else []
BILL = ["<results>/release/bom.cdx.json"] if recipe.billed else []
REPORT = ["<results>/report.html"] if recipe.evaluation.any else []
# Of the packages that read data sets. A data set is pinned, and so is the text read from it: packages that were installed
# anew are no reason to read it again.
READER = ancient("<toolchains>/datasets/packages.json")


needs = Needs(recipe)


def asked(step, limit):
    """A resource of a cluster's job: twice as much when it is tried again, <TBD> until the model's size is known."""

    def ask(wildcards, attempt, threads):
        need = needs.of(step, wildcards.get("kind") or wildcards.get("label"))
        return attempt * limit(need, threads) if need else TBDString()

    return ask


def mem_mb(step):
    return asked(step, Need.mem_mb)


def runtime(step):
    return asked(step, Need.minutes)


def on_gpu(settings):
    return int(settings.variant.startswith("cuda-"))


def staying(part, path):
    """A large file, which goes once no step waits for it where the recipe does not keep its part."""
    return path if part in recipe.keep else temp(path)


def plain(pin):
    """A pin as params can hold it beside itself: Snakemake notices changes of plain values only."""
    return asdict(pin) if pin else None


def upstream_environment(wildcards):
    """The record of the upstream converter's environment where that one is to run, else nothing."""
    record = Path(checkpoints.choose_converter.get().output.record)
    try:
        upstream = json.loads(record.read_text())["converter"] == "upstream"
    except (ValueError, LookupError, TypeError):
        return []  # the step reads it, too, and says what is wrong
    return ["<toolchains>/converter/environment.json"] if upstream else []


def evaluated(part, paths):
    """Paths of what the recipe asks to be measured."""
    return paths if getattr(recipe.evaluation, part) else []


def to_publish(wildcards=None):
    """The release; refused where the recipe names no place for it."""
    if not recipe.publish:
        raise WorkflowError(
            "the target publish needs places in the recipe; write publish: [huggingface:OWNER/NAME]"
        )
    return RELEASE


wildcard_constraints:
    kind="[A-Z0-9_]+",
    tool="llama-[a-z-]+",
    variant=f"{INFERENCE}|lanes",
