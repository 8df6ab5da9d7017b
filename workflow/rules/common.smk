# The recipe, and the names that every stage shares.
import fcntl
from pathlib import Path

from snakemake.exceptions import WorkflowError

from requant.ground.errors import RequantError
from requant.pipeline.recipe import BERKELEY, KNOWLEDGE, load_recipe
from requant.pipeline.tiny_shape import TINY_FILES
from requant.quantization.quants import needs_imatrix
from requant.toolchain.variants import INFERENCE, variant

ROOT = Path(workflow.basedir)
# As many as --cores allows; a tool that can use more is not known.
MANY = 64

try:
    recipe = load_recipe(config, ROOT, (workflow.configfiles or ["the recipe"])[-1])
except RequantError as error:
    raise WorkflowError(str(error))
config["source"] = recipe.source


def quant_name(kind):
    return f"{recipe.name}-{kind}-imatrix.gguf"


SOURCE = "generated" if recipe.generate else "source"
SOURCE_FILES = list(recipe.model.files) if recipe.model else []
MODEL = "expanded" if recipe.model and recipe.model.is_gguf else "converted"
QUANTS = [quant_name(kind) for kind in recipe.quants]
RELEASE = [
    f"<results>/release/{name}"
    for name in (*QUANTS, "imatrix.gguf", "manifest.json", "README.md", "SHA256SUMS")
]
EVALUATION = ["<results>/release/evaluation.json"] if recipe.evaluation else []
REPORT = ["<results>/report.html"] if recipe.evaluation else []
RELEASE += EVALUATION


def on_gpu(settings):
    return int(settings["arithmetic"].startswith("cuda-"))


def suite_file(suite):
    """Where the questions of a suite that the recipe names lie."""
    if suite in KNOWLEDGE:
        return f"results/suites/{suite}.json"
    return f"results/suites/{suite}.jsonl" if suite in BERKELEY else ROOT / suite


def evaluated(part, paths):
    """Paths of what the recipe asks to be measured."""
    return paths if recipe.evaluation.get(part) else []


wildcard_constraints:
    kind="[A-Z0-9_]+",
    tool="llama-[a-z-]+",
    variant=INFERENCE,


def lock_results():
    """Refuse a second run in this folder; unlike a lock file, this one ends with the process that holds it."""
    Path("results").mkdir(exist_ok=True)
    lock = open("results/.lock", "a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError(
            f"another run is working in {Path.cwd()}: wait for it, or use another folder (--directory)"
        )
    globals()["results_lock"] = lock
