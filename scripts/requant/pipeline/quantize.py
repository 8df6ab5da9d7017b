"""Quantize the BF16 GGUF with the strict tools and the importance matrix."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requant.documents.records import THREADS, Product, file_digest, file_entry, step, write_record
from requant.formats.ggml import PLAIN
from requant.ground.digests import publish
from requant.ground.disk import require_space
from requant.ground.errors import FormatError, StaleError, ToolError
from requant.ground.programs import Run, work_folder
from requant.ground.progress import progress
from requant.pipeline.describe import Description, describe_with_progress, require_finite, tensor_entries
from requant.pipeline.settings import Calibration
from requant.quantization.file_types import base_type
from requant.quantization.quants import quant_bytes
from requant.toolchain.build import open_built
from requant.toolchain.lanes import Lanes, explain_difference

TENSOR = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")
FELL_BACK = re.compile(r"warning: (\S+) +- ncols .* -> falling back to +(\S+)")
# Types whose blocks are one super-block of 256 weights; rows of other lengths cannot take them.
SUPER_BLOCK = 256


@dataclass(frozen=True)
class Tools:
    """The build records of llama-quantize, and of the lanes that go ahead of its own functions where there are any."""

    quantize: Path
    lanes: Path | None


def quantize(
    model: Product, imatrix: Product, tools: Tools, quant: str, settings: Calibration, out: Product, run: Run
) -> None:
    """Write the quant ``out``, such as ``Q4_K_M``.

    ``settings`` are the recipe's, which the importance matrix must come from.

    Raises:
        StaleError: when the model or the importance matrix is not what the step before wrote.
        FormatError: when the result holds NaN or infinity, or is not what llama-quantize said.
        ToolError: when llama-quantize fails.
    """
    model_entry, imatrix_entry = _inputs(model, imatrix, settings)
    materials = {"model.gguf": (model.file, model_entry), "imatrix.gguf": (imatrix.file, imatrix_entry)}
    _quantize(materials, ["--imatrix", "imatrix.gguf"], tools, quant, out, run)


def quantize_plain(model: Product, tools: Tools, quant: str, out: Product, run: Run) -> None:
    """Write a quant without importance matrix, to compare with; raises as ``quantize``."""
    _quantize({"model.gguf": (model.file, model.read()["file"])}, [], tools, quant, out, run)


def _quantize(
    materials: Mapping[str, tuple[Path, Mapping[str, Any]]], options: Sequence[str], tools: Tools, quant: str,
    out: Product, run: Run,
) -> None:  # fmt: skip
    """Run llama-quantize on checked ``materials``: their names in the work folder, paths and entries."""
    built, lanes, name = open_built(tools.quantize), tools.lanes and Lanes(tools.lanes), out.file.name
    require_space(out.file.parent, quant_bytes(materials["model.gguf"][0].stat().st_size, quant), f"the {quant} file")
    command = ["llama-quantize", *options, "model.gguf", name, quant, THREADS]
    said: dict[str, str] = {}
    with (
        work_folder(out.file.parent / f"work-{quant}") as work,
        progress(None, f"quantizing {quant}", "tensors") as bar,
    ):
        for given, (path, _) in materials.items():
            work.link(path, given)

        def watch(line: str) -> None:
            if match := TENSOR.match(line):
                bar.total = int(match[2])
                bar.update(int(match[1]) - bar.n)
            if match := FELL_BACK.search(line):
                said[match[1]] = match[2].upper()
            if lanes:
                lanes.watch(line)

        built.run(work, command, run, watch=watch, env=lanes.join(work) if lanes else None, explain=_explain)
        if lanes:
            lanes.prove(command[0])
        description = describe_with_progress(work.path / name, f"checking {quant}")
        require_finite(description, f"the {quant} file")
        found = fallbacks(description, quant, said)
        publish(work.path / name, out.file)
    digests = {path.name: file_digest(entry) for path, entry in materials.values()}
    write_record(
        out.record,
        {
            "step": step(f"quantize {quant}", command, digests, {name: description.digest}),
            "file": file_entry(name, description.digest),
            "type": quant,
            "fallbacks": found,
            "tensors": tensor_entries(description),
        },
    )


def _inputs(model: Product, imatrix: Product, settings: Calibration) -> tuple[dict[str, Any], dict[str, Any]]:
    """The file entries of both inputs, after checking that each is what it claims to be and that they belong together.

    Raises:
        StaleError: when the importance matrix was computed from another model, or by other settings.
    """
    entry, calibration = model.read()["file"], imatrix.read()
    again = f"remove {imatrix.record} and run again"
    wanted, known = settings.as_recipe(), calibration["settings"]
    for key in (*wanted, *({"shards"} & known.keys() - wanted.keys())):
        if known.get(key) != wanted.get(key):
            raise StaleError(
                f"{imatrix.file} was computed with {key} {known.get(key)}, the recipe says {wanted.get(key)}: {again}"
            )
    steps = [part["step"] for part in calibration.get("shards", [calibration])]
    if any(entry not in step["materials"] for step in steps):
        raise StaleError(f"{imatrix.file} was computed from another model than {model.file}: {again}")
    return entry, calibration["file"]


def fallbacks(description: Description, quant: str, said: Mapping[str, str]) -> list[dict[str, Any]]:
    """Tensors that could not take the type they were meant for, because of the length of their rows.

    llama-quantize names most of them (``said``: tensor to type) and goes on; it is silent about the output and
    embedding tensors, which it moves to Q8_0 when their rows are no multiple of 256.

    Raises:
        FormatError: when the file is not what llama-quantize said.
    """
    in_super_blocks = base_type(quant).block_size == SUPER_BLOCK
    types = {tensor.name: tensor.type.name for tensor in description.tensors}
    for name, promised in said.items():
        if types.get(name) != promised:
            raise FormatError(
                f"llama-quantize says that {name} became {promised}, the file has {types.get(name)}: run again"
            )
    return [
        {"name": tensor.name, "type": tensor.type.name, "row": tensor.shape[0]}
        for tensor in description.tensors
        if tensor.name in said or (in_super_blocks and tensor.type not in PLAIN and tensor.shape[0] % SUPER_BLOCK)
    ]


def _explain(said: str) -> str | None:
    if why := explain_difference(said):
        return why
    if "No space left" in said or "failed to write" in said:
        raise ToolError("llama-quantize could not write its output: the disk is full, make room and run again")
    if "Missing importance matrix" in said or "requires an importance matrix" in said:
        raise ToolError("llama-quantize found no importance matrix for a tensor that needs one: choose a larger type")
    return None
