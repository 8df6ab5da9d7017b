"""Rebuilding a release: make it again from its manifest, in a clean folder, and compare.

Nothing of the release is believed. Its recipe is checked like anybody's, its inputs must be those of the local pin
table, and everything is made anew by the workflow itself; only the toolchains, whose digests are checked before each
use, are shared.
"""

import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from requant.difference.diff import diff
from requant.difference.ggufs import Change
from requant.difference.releases import changes
from requant.documents.file_names import MANIFEST
from requant.documents.manifest import Manifest, read_manifest
from requant.documents.reports import write_document, write_text
from requant.ground.canonical import canonical
from requant.ground.digests import write_bytes
from requant.ground.disk import at_home
from requant.ground.errors import FormatError, RecipeError, UnsupportedError
from requant.ground.programs import WorkFolder, work_folder
from requant.ground.text import printable, shown
from requant.pipeline import layout
from requant.pipeline.recipe import DEFAULT_PINS, MACHINE_KEYS, Recipe, load_recipe
from requant.release.rebuild_verdict import Rebuilt, as_document, as_text, judge
from requant.toolchain.quantizers import tool_quantizer

logger = logging.getLogger(__name__)
HUBS = ("huggingface", "modelscope")
"""What ``source`` may be besides a folder."""
LEFT_OPEN = ("size", "sha256")
"""What a pin may leave open."""


def rebuild_release(
    audited: Path, snakefile: Path, config: Mapping[str, Any], text: Path, document: Path, threads: int, log: Path
) -> Rebuilt:
    """Make the release in the folder ``audited`` again beside the reports, and compare: a difference is a result.

    Args:
        audited: the release.
        snakefile: the workflow; the pin table is named relative to its folder.
        config: what this machine says: ``pins`` and ``source``; everything else comes from the manifest.
        text: where the report for people goes; it is written whatever the verdict.
        document: the same as JSON.
        threads: for the rebuild.
        log: of the rebuild.

    Raises:
        FormatError, UnsupportedError: when the manifest cannot be read or is hostile.
        RecipeError: when its recipe cannot be carried out, or names other inputs than the local pins.
        ToolError: when the rebuild fails.
    """
    for report in (text, document):
        report.unlink(missing_ok=True)
    folder = text.parent / "work"
    if audited.resolve().is_relative_to(folder.resolve()):
        raise RecipeError(f"audited lies in {folder}, which every rebuild empties: move the release to another folder")
    manifest = read_manifest(audited / MANIFEST)
    machine = machine_facts(config)
    recipe = claimed_recipe(manifest, machine, snakefile.parent)
    with work_folder(folder, keep=True) as work:
        _empty(work.path)
        _run(work, snakefile, {**recipe.document, **machine}, threads, log)
        tool = work.path / layout.tool(recipe.toolchain.name, "llama-quantize")
        release = work.path / layout.release(recipe.name)
        arithmetic = recipe.calibration.variant
        found = judge(recipe.name, arithmetic, diff(audited, release, lambda: tool_quantizer(tool)))
    write_text(text, f"{as_text(found)}\n")
    write_document(document, as_document(found))
    logger.info("%s; file by file: %s", found.summary, text)
    return found


def machine_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the rebuild takes from this machine's configuration; paths get a name that holds in every folder."""
    found = {key: config[key] for key in ("pins", "source") if key in config}
    pins = at_home(config.get("pins", DEFAULT_PINS))
    if pins.exists():
        found["pins"] = str(pins.absolute())
    if "source" in found and found["source"] not in HUBS:
        found["source"] = str(at_home(found["source"]).absolute())
    return found


def claimed_recipe(manifest: Manifest, machine: Mapping[str, Any], root: Path) -> Recipe:
    """The recipe in a manifest that has the right form, proven to name the inputs that the manifest lists.

    Raises:
        FormatError: when it holds what only a machine may say.
        RecipeError: when it cannot be carried out, or the inputs are not those of the pin table.
        UnsupportedError: when its quants have other names than this version gives, as those of before 0.1.0.
    """
    document, where = manifest.recipe.document, f"{MANIFEST}: recipe.document"
    own = [key for key in MACHINE_KEYS if key in document]
    if own:
        raise FormatError(f"{where} holds {own[0]}, which only this machine may say: it is no release of requant")
    try:
        recipe = load_recipe({**document, **machine}, root, where)
    except RecipeError as error:
        raise RecipeError(printable(str(error))) from error
    called = [layout.quant_file(recipe.name, quant) for quant in recipe.quants]
    if (theirs := [quant.file.name for quant in manifest.quants]) != called:
        raise UnsupportedError(
            f"{MANIFEST} names its quants otherwise than this requant, {shown(theirs)}, not {shown(called)}: "
            "rebuild it with the version that made it, or compare its bytes by requant audit"
        )
    wrong = list(other_inputs(manifest.document["inputs"], recipe))
    if wrong:
        more = f" (and {len(wrong) - 1:,} more inputs differ)" if len(wrong) > 1 else ""
        raise RecipeError(
            f"{MANIFEST}: {wrong[0].place} is {wrong[0].a}, {machine.get('pins', DEFAULT_PINS)} says {wrong[0].b}"
            f"{more}: name the pin table that the release was made with (--config pins=...)"
        )
    return recipe


def other_inputs(inputs: Mapping[str, Any], recipe: Recipe) -> Iterator[Change]:
    """Where the inputs that a manifest lists (A) are not those that the pin table names for its recipe (B)."""
    for name, pinned in _pinned(recipe).items():
        claimed, place = dict(inputs[name]), f"inputs.{name}"
        if "files" in pinned:
            for side in (claimed, pinned):
                side["files"] = {file["name"]: file for file in side["files"]}
            yield from changes(sorted(claimed["files"]), sorted(pinned["files"]), f"{place}.files")
        yield from _contradictions(claimed, pinned, place)


def _contradictions(claimed: Any, pinned: Any, place: str) -> Iterator[Change]:
    """Where the two differ, as far as the pin says something."""
    if isinstance(claimed, Mapping) and isinstance(pinned, Mapping):
        for key, value in pinned.items():
            if value is not None or key not in LEFT_OPEN:
                yield from _contradictions(claimed.get(key), value, f"{place}.{key}")
    else:
        yield from changes(claimed, pinned, place)


def _pinned(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The inputs that a recipe names, as far as its pins know them."""
    texts = {"calibration": recipe.calibration_text, "evaluation": recipe.evaluation_text}
    generated = {"name": recipe.model_name, "generate": dict(recipe.generate or {})}
    return {
        "model": generated if recipe.model is None else recipe.model.as_input(),
        "corpus": recipe.corpus.as_input(texts),
        "toolchain": recipe.toolchain.as_input(),
    }


def _empty(folder: Path) -> None:
    """Remove what an earlier rebuild left; a link to the toolchains goes, they stay."""
    shutil.rmtree(folder)
    (folder / layout.RESULTS).mkdir(parents=True)


def _run(work: WorkFolder, snakefile: Path, recipe: Mapping[str, Any], threads: int, log: Path) -> None:
    """Run the workflow in the work folder.

    Raises:
        ToolError: with the sentence that the failed step ended with.
    """
    toolchains = Path(layout.TOOLCHAINS)
    toolchains.mkdir(parents=True, exist_ok=True)
    work.link(toolchains, layout.TOOLCHAINS)
    write_bytes(work.path / "recipe.json", canonical(recipe))
    said = ["no step said why"]

    def watch(line: str) -> None:
        if line.startswith("error: "):
            said.append(line.removeprefix("error: "))

    # Snakemake's own variables would make this run a part of the one that started it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE")}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile.resolve()), "--nocolor"]
    command += ["--configfile", "recipe.json", "--cores", str(threads)]
    logger.info("rebuilding %s in %s", recipe["name"], work.path)
    log_file = log.resolve()
    work.run(command, log_file, env=env, watch=watch, explain=lambda _: f"the rebuild failed ({said[-1]}): see {log}")
