"""Does a manifest agree with itself: its recipe, its digests, and the chain from inputs to outputs.

Nothing here looks at another file. A disagreement says what was expected, what was found, and where.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from requant.documents.entries import File
from requant.documents.file_names import MANIFEST
from requant.documents.manifest import Manifest
from requant.formats.gguf import quoted
from requant.formats.weights_root import weights_root
from requant.ground.canonical import canonical
from requant.ground.text import shown

# The environment of the converter; the only material that is neither an input nor made by an earlier step.
LOCK = "converter.lock"


@dataclass(frozen=True)
class Disagreement:
    """One disagreement; all three are one line of printable text."""

    where: str
    expected: str
    actual: str


def disagreements(manifest: Manifest) -> Iterator[Disagreement]:
    """Where a manifest contradicts itself."""
    recipe = manifest.recipe
    yield from _differ("recipe.sha256", hashlib.sha256(canonical(recipe.document)).hexdigest(), recipe.sha256)
    yield from _recipe_against_rest(recipe.document, manifest)
    yield from _outputs(manifest)
    yield from _chain(manifest)
    yield from _tensors(manifest)


def _differ(key: str, expected: object, actual: object) -> Iterator[Disagreement]:
    if expected != actual:
        yield Disagreement(f"{MANIFEST}: {key}", shown(expected), shown(actual))


def _recipe_against_rest(recipe: Mapping[str, Any], manifest: Manifest) -> Iterator[Disagreement]:
    inputs, imatrix, calibration = manifest.inputs, manifest.imatrix, recipe["calibration"]
    generated = recipe["model"].get("name", recipe["name"])
    for key, expected, actual in (
        ("inputs.model.name", recipe["model"].get("pin", generated), inputs.weights.name),
        ("inputs.model.generate", recipe["model"].get("generate"), inputs.weights.generate),
        ("inputs.corpus.name", recipe["corpus"]["pin"], inputs.corpus.name),
        ("inputs.toolchain.name", recipe["toolchain"], inputs.toolchain.name),
        ("imatrix.arithmetic", calibration["arithmetic"], imatrix.variant),
        ("imatrix.chunks", calibration["chunks"], imatrix.chunks),
        ("imatrix.chunk_size", calibration["context"], imatrix.chunk_size),
        ("imatrix.shards", calibration.get("shards", 0), len(imatrix.shards)),
        ("variants", sorted(_variants(recipe, manifest)), sorted(manifest.variants)),
        ("quants", list(recipe["quants"]), [quant.type for quant in manifest.quants]),
    ):
        yield from _differ(key, expected, actual)


def _variants(recipe: Mapping[str, Any], manifest: Manifest) -> set[str]:
    """The builds that a recipe wants. Older manifests know of no lanes, and these make the same bytes."""
    lanes = {"lanes"} if recipe.get("quantization") != "strict" else set()
    return {"strict", recipe["calibration"]["arithmetic"]} | lanes & manifest.variants.keys()


def _outputs(manifest: Manifest) -> Iterator[Disagreement]:
    """Each step makes one thing: the working GGUF, the importance matrix after its shards, and the quants."""
    made, steps = manifest.outputs, manifest.steps
    yield from _differ("steps", f"{len(made)} steps", f"{len(steps)} steps")
    for number, (file, step) in enumerate(zip(made, steps, strict=False)):
        yield from _differ(f"steps.{number}.products", [file.entry], [product.entry for product in step.products])
    names = [file.name for file in made]
    yield from _differ("the outputs' names", sorted(set(names)), sorted(names))


def _chain(manifest: Manifest) -> Iterator[Disagreement]:
    """Every material is an input or an earlier product, and every step used what it says it is made from."""
    weights, texts = manifest.inputs.weights.files, manifest.inputs.corpus.texts
    bf16, imatrix = manifest.bf16.file, manifest.imatrix.file
    # By digest: a step may call its material by another name, and only the bytes decide.
    known = {file.digest for file in (*weights, *texts.values())}
    shards, measured = manifest.imatrix.shards, (bf16, texts["calibration"])
    needed: list[Sequence[File]] = [weights, *(measured for _ in shards), shards or measured]
    needed += [(bf16, imatrix) for _ in manifest.quants]
    for number, step in enumerate(manifest.steps):
        where = f"{MANIFEST}: steps.{number}.materials"
        for file in step.materials:
            if file.digest not in known and not (number == 0 and file.name == LOCK):
                yield Disagreement(where, "inputs and products of earlier steps", shown(file.entry))
        used = {file.digest for file in step.materials}
        for file in needed[number] if number < len(needed) else ():
            if file.digest not in used:
                yield Disagreement(where, shown(file.entry), "no such file")
        known |= {file.digest for file in step.products}


def _tensors(manifest: Manifest) -> Iterator[Disagreement]:
    """A quant has the working GGUF's tensors, of the same shapes, and one digest that follows from theirs."""
    wanted = {tensor.name: tensor.shape for tensor in manifest.bf16.tensors}
    for number, quant in enumerate(manifest.quants):
        found = {tensor.name: tensor.shape for tensor in quant.tensors}
        for name in sorted(wanted.keys() | found.keys()):
            yield from _differ(f"quants.{number}.tensors {quoted(name)}", wanted.get(name), found.get(name))
        if quant.weights_root is not None:
            yield from _differ(f"quants.{number}.weights_root", weights_root(quant.tensors), quant.weights_root)
