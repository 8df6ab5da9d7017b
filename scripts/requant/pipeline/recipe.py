"""A recipe: everything that decides the bytes of a release, checked for shape and then for meaning."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from requant.documents.pins import CorpusPin, ModelPin, Pins, SuitePin, TextPin, ToolchainPin, read_pins
from requant.documents.schemas import fault
from requant.ground.disk import at_home, require_own, require_space
from requant.ground.errors import RecipeError
from requant.ground.text import did_you_mean
from requant.pipeline import layout
from requant.pipeline.settings import Calibration, Evaluation
from requant.pipeline.shards import batches
from requant.pipeline.suites import BERKELEY, KNOWLEDGE, suite_pin
from requant.pipeline.tiny_shape import TinyShape
from requant.quantization.quants import quant_bytes
from requant.toolchain.perplexity import FEWEST, scored

T = TypeVar("T")
DEFAULT_PINS = "config/pins.yaml"
# Where weights come from on this machine, where the pin table lies, what is audited, what is measured afterwards, what
# stays, and where the release is published move no byte that others can make again.
MACHINE_KEYS = ("source", "pins", "audited", "evaluation", "keep", "publish")
KEEP_ALL = ("weights", "bf16", "quants")
"""The large files between the download and the release."""


@dataclass(frozen=True)
class Recipe:
    """One recipe with its pins looked up.

    ``document`` is the recipe without machine facts, as it enters the manifest. ``model_name`` is what the converted
    weights are called, and the folder in which they lie. ``audited`` is the folder of the release to rebuild,
    ``mirror`` (the key ``source``) where this machine fetches from. ``conversion`` is ``upstream`` where upstream's
    converter is asked for, ``quantization`` is ``strict`` where llama.cpp is to quantize without lanes. ``billed`` is
    whether a bill of materials is made. ``evaluation`` is what is measured; ``suites`` has the pins of suites that are
    no files. ``keep`` are those of ``KEEP_ALL`` that stay. ``publish`` are the places that the target publish brings
    the release to.
    """

    document: Mapping[str, Any]
    name: str
    model_name: str
    model: ModelPin | None
    generate: Mapping[str, int] | None
    corpus: CorpusPin
    calibration_text: TextPin
    evaluation_text: TextPin
    toolchain: ToolchainPin
    conversion: str | None
    quantization: str | None
    calibration: Calibration
    quants: tuple[str, ...]
    billed: bool
    card: Mapping[str, Any]
    mirror: str
    audited: str
    evaluation: Evaluation
    suites: Mapping[str, SuitePin]
    keep: tuple[str, ...]
    publish: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, str, str]:
        """The corpus and both of its texts, by the names that the pin table gives them."""
        corpus = self.document["corpus"]
        return corpus["pin"], corpus["calibration"], corpus["evaluation"]


def load_recipe(config: Mapping[str, Any], root: Path, where: str = "recipe") -> Recipe:
    """Check a parsed recipe and look up its pins.

    ``root`` is the folder of the workflow's own files, see ``named_file``; ``where`` is how errors name the recipe.

    Raises:
        RecipeError: one sentence naming the key, what was found and what to write.
    """
    config = copy.deepcopy(dict(config))
    if wrong := fault(config, "recipe", where):
        raise RecipeError(wrong)
    model_name = _model_name(config, where)
    shown = config.get("pins", DEFAULT_PINS)
    pins = read_pins(named_file(shown, root), shown)
    model, generate = _model(config["model"], pins, where)
    corpus = _look_up(pins.corpora, config["corpus"]["pin"], f"{where}: corpus.pin", pins.path)
    calibration, evaluation = Calibration.of(config["calibration"]), Evaluation.of(config.get("evaluation", {}))
    _check_calibration(calibration, where)
    _check_evaluation(evaluation, where, pins, root)
    to_calibrate, to_evaluate = _texts(corpus, config["corpus"], where, pins.path)
    mirror = config.get("source", "huggingface")
    if model is not None:
        _check_source(mirror, model, where, pins.path)
    return Recipe(
        document={key: value for key, value in config.items() if key not in MACHINE_KEYS},
        name=config["name"],
        model_name=model_name,
        model=model,
        generate=generate,
        corpus=corpus,
        calibration_text=to_calibrate,
        evaluation_text=to_evaluate,
        toolchain=_look_up(pins.toolchains, config["toolchain"], f"{where}: toolchain", pins.path),
        conversion=config.get("conversion"),
        quantization=config.get("quantization"),
        calibration=calibration,
        quants=tuple(config["quants"]),
        billed="bill_of_materials" in config,
        card=config["card"],
        mirror=mirror,
        audited=str(at_home(config.get("audited", layout.release(config["name"])))),
        evaluation=evaluation,
        suites=pins.suites,
        keep=tuple(config.get("keep", KEEP_ALL)),
        publish=tuple(config.get("publish", ())),
    )


def named_file(name: str, root: Path) -> Path:
    """A file that a recipe names: in the working folder or, where there is none, among the workflow's own in ``root``.

    In a checkout these are one folder. Where the workflow is used from another one, what lies there comes first.
    """
    here = at_home(name)
    return here if here.exists() else root / here


def suite_file(suite: str, root: Path) -> str:
    """Where the questions of a suite lie that a recipe names: a file of the user's, or one that a rule fetches."""
    if suite in (*BERKELEY, *KNOWLEDGE):
        return f"{layout.SUITES}/{suite}.{'json' if suite in KNOWLEDGE else 'jsonl'}"
    return str(named_file(suite, root))


def bytes_after_download(weights: int, quants: Sequence[str], keep: Sequence[str] = KEEP_ALL) -> int:
    """Bytes that the steps after the download need on the disk at most, beside ``weights`` bytes of BF16 weights.

    Weights that are not among ``keep`` go once they are converted. Each quant is there twice, as what is measured may
    hold back the last that goes.
    """
    made = 2 * sum(quant_bytes(weights, quant) for quant in quants)
    return weights + made if "weights" in keep else max(weights, made)


def require_room(recipes: Sequence[Recipe]) -> None:
    """Refuse recipes whose weights and products the disk cannot hold, as far as the pins say how large they are.

    Raises:
        DiskError: naming what is needed and what is there.
    """
    models: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        # Recipes of one model share its weights and what they are converted to.
        models.setdefault(recipe.model_name, []).append(recipe)
    needed = 0
    for name, sharing in models.items():
        model, quants = sharing[0].model, [quant for recipe in sharing for quant in recipe.quants]
        sizes = [known.size for known in model.files.values()] if model else []
        if not sizes or None in sizes or Path(layout.source(name), "source.json").exists():
            continue
        weights = sum(size for size in sizes if size is not None)
        needed += weights + bytes_after_download(weights, quants, sharing[0].keep)
    if needed:
        what = "this recipe" if len(recipes) == 1 else "these recipes"
        require_space(Path(), needed, f"{what} (weights, BF16 GGUF and quants)")


def require_folders(recipes: Sequence[Recipe]) -> None:
    """Refuse to work among what another user made, or on a disk that is read-only.

    Raises:
        DiskError: naming the folder that cannot be written.
    """
    names = {name for recipe in recipes for name in (recipe.name, recipe.model_name)}
    for folder in (".", layout.RESULTS, layout.TOOLCHAINS, layout.SUITES, *map(layout.results, sorted(names))):
        require_own(Path(folder))
    for toolchain in {recipe.toolchain.name for recipe in recipes}:
        require_own(Path(layout.toolchain(toolchain)))
    for name in sorted(names):
        for stage in sorted(Path(layout.results(name)).glob("*/")):
            require_own(stage)


def needs_gpu(recipe: Recipe) -> str | None:
    """The key of the recipe that asks for a GPU, where the machine shows no NVIDIA driver."""
    parts = {"calibration": recipe.calibration, **vars(recipe.evaluation)}
    asked = next((key for key, part in parts.items() if part and part.variant.startswith("cuda-")), None)
    return None if Path("/proc/driver/nvidia/version").exists() else asked


def _model_name(config: Mapping[str, Any], where: str) -> str:
    """What the converted weights are called; neither they nor the recipe may be called as a shared folder is."""
    found: str = config["model"].get("name", config["name"])
    for key, name in (("name", config["name"]), ("model.name", found)):
        if name in layout.SHARED:
            raise RecipeError(f"{where}: {key} is {name!r}, a folder that all recipes share; write another name")
    return found


def _model(entry: Mapping[str, Any], pins: Pins, where: str) -> tuple[ModelPin | None, Mapping[str, int] | None]:
    if ("pin" in entry) == ("generate" in entry):
        found = "both pin and generate" if "pin" in entry else "neither pin nor generate"
        raise RecipeError(f"{where}: model has {found}; write one of them")
    if "generate" in entry:
        try:
            TinyShape(**entry["generate"])
        except RecipeError as error:
            raise RecipeError(f"{where}: model.generate.{error}") from error
        return None, entry["generate"]
    return _look_up(pins.models, entry["pin"], f"{where}: model.pin", pins.path), None


def _texts(corpus: CorpusPin, named: Mapping[str, str], where: str, table: str) -> tuple[TextPin, TextPin]:
    """The text to calibrate on and the one to evaluate on, which is another."""
    if named["calibration"] == named["evaluation"]:
        raise RecipeError(f"{where}: corpus.evaluation is the calibration text; write another, or scores will flatter")
    one, other = (
        _look_up(corpus.texts, named[key], f"{where}: corpus.{key}", table) for key in ("calibration", "evaluation")
    )
    return one, other


def _check_source(mirror: str, model: ModelPin, where: str, table: str) -> None:
    """Refuse a source that can never give the weights, before anything else is fetched."""
    key = f"{where}: source is {mirror!r}"
    if mirror == "huggingface":
        if model.revision is None and model.package is None:
            other = "modelscope, or " if model.modelscope else ""
            raise RecipeError(f"{key}, which {model.name} is not pinned for; write {other}the folder of its files")
    elif mirror == "modelscope":
        if model.modelscope is None:
            raise RecipeError(f"{key}, but {table} names no modelscope repository for the model")
        unproven = [name for name, known in model.files.items() if known.sha256 is None]
        if "revision" not in model.modelscope and unproven:
            raise RecipeError(
                f"{key}, whose master branch moves, and {unproven[0]} of {model.name} has no pinned SHA-256; write "
                "modelscope.revision (a full commit id) or the digests into the pin table"
            )
    elif not at_home(mirror).is_dir():
        meant = did_you_mean(mirror, ("huggingface", "modelscope"))
        raise RecipeError(f"{key}, which is no folder{meant}; write huggingface, modelscope or a folder")


def _look_up(table: Mapping[str, T], name: str, key: str, where: str) -> T:
    if name not in table:
        raise RecipeError(f"{key} is {name!r}; write one of the names in {where}: {', '.join(table)}")
    return table[name]


def _check_evaluation(evaluation: Evaluation, where: str, pins: Pins, root: Path) -> None:
    suites = evaluation.behaviour.suites if evaluation.behaviour else ()
    if len({Path(path).stem for path in suites}) < len(suites):
        raise RecipeError(f"{where}: evaluation.behaviour.suites names two files of one name; give each its own")
    for suite in suites:
        pin = suite_pin(suite)
        if pin is None:
            if not named_file(suite, root).is_file():
                raise RecipeError(
                    f"{where}: evaluation.behaviour.suites names {suite}, which is no file; check the path"
                )
        elif pin not in pins.suites:
            raise RecipeError(
                f"{where}: evaluation.behaviour.suites names {suite}, but {pins.path} has no suites.{pin}; pin it there"
            )
    fidelity = evaluation.fidelity
    tokens = fidelity.chunks * scored(fidelity.context) if fidelity else FEWEST
    if tokens < FEWEST:
        raise RecipeError(
            f"{where}: evaluation.fidelity scores {tokens} tokens, llama-perplexity tells nothing of fewer than "
            f"{FEWEST}; write more chunks or a longer context"
        )


def _check_calibration(calibration: Calibration, where: str) -> None:
    context, batch, ubatch = calibration.context, calibration.batch, calibration.ubatch
    if batch < context or batch % context:
        raise RecipeError(f"{where}: calibration.batch is {batch}; write a multiple of calibration.context ({context})")
    if ubatch > batch:
        raise RecipeError(f"{where}: calibration.ubatch is {ubatch}; write at most calibration.batch ({batch})")
    if calibration.shards is not None and calibration.shards > (most := batches(calibration)):
        raise RecipeError(
            f"{where}: calibration.shards is {calibration.shards}; write at most {most}, the batches that "
            "calibration.chunks make"
        )
