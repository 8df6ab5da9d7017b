"""Quantize the BF16 GGUF with the strict tools and the importance matrix."""

import re
from pathlib import Path
from typing import Any

from requant.build import open_built
from requant.convert import describe_with_progress, run_built
from requant.describe import Description, require_finite
from requant.digests import publish
from requant.disk import require_space
from requant.errors import FormatError, ToolError
from requant.ggml_types import GGMLType
from requant.progress import progress
from requant.recipe import quant_bytes
from requant.records import THREADS, file_digest, file_entry, read_record, step, tensor_entries, write_record
from requant.tools import work_folder

TENSOR = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")
FELL_BACK = re.compile(r"(\d+) of (\d+) tensor\(s\) required fallback")
KEPT = (GGMLType.F32, GGMLType.F16, GGMLType.BF16)
# Types whose blocks are one super-block of 256 weights; rows of other lengths cannot take them.
SUPER_BLOCK = 256


def quantize(
    model: Path, model_record: Path, imatrix: Path, imatrix_record: Path, kind: str, tool: Path,
    out: Path, record: Path, threads: int, output: Path,
) -> None:  # fmt: skip
    """Write the quant ``out`` of type ``kind`` (such as ``Q4_K_M``) and its ``record``.

    Raises:
        FormatError: when the result holds NaN or infinity, or a fallback was not accounted for.
        ToolError: when llama-quantize fails.
    """
    built = open_built(tool)
    require_space(out.parent, quant_bytes(model.stat().st_size, kind), f"the {kind} file")
    command = ["llama-quantize", "--imatrix", "imatrix.gguf", "model.gguf", out.name, kind, THREADS]
    said_fallbacks = 0
    with work_folder(out.parent / f"work-{kind}") as work, progress(None, f"quantizing {kind}", "tensors") as bar:
        work.link(model, "model.gguf")
        work.link(imatrix, "imatrix.gguf")

        def watch(line: str) -> None:
            nonlocal said_fallbacks
            if match := TENSOR.match(line):
                bar.total = int(match[2])
                bar.update(int(match[1]) - bar.n)
            if match := FELL_BACK.search(line):
                said_fallbacks = int(match[1])

        run_built(work, built.folder, command, threads, output, watch=watch, explain=_explain)
        description = describe_with_progress(work.path / out.name, f"checking {kind}")
        require_finite(description, f"the {kind} file")
        found = fallbacks(description, kind)
        if len(found) != said_fallbacks:
            raise FormatError(
                f"llama-quantize reports {said_fallbacks} fallback tensors in {kind}, the file holds {len(found)}: "
                "the pinned llama.cpp behaves in a way requant does not know"
            )
        publish(work.path / out.name, out)
    materials = {model.name: read_record(model_record)["file"], imatrix.name: read_record(imatrix_record)["file"]}
    digests = {name: file_digest(entry) for name, entry in materials.items()}
    write_record(
        record,
        {
            "step": step(f"quantize {kind}", command, digests, {out.name: description.digest}),
            "file": file_entry(out.name, description.digest),
            "type": kind,
            "fallbacks": found,
            "tensors": tensor_entries(description),
        },
    )


def fallbacks(description: Description, kind: str) -> list[dict[str, Any]]:
    """Tensors that could not take the type they were meant for, because their rows are no multiple of 256.

    llama-quantize then takes a type of 32-weight blocks without failing. Types of 32-weight blocks never fall back.
    """
    if not (kind.endswith("_K") or "_K_" in kind or kind.startswith("IQ")) or kind == "IQ4_NL":
        return []
    return [
        {"name": tensor.name, "type": tensor.type.name, "row": tensor.shape[0]}
        for tensor in description.tensors
        if tensor.type not in KEPT and tensor.shape[0] % SUPER_BLOCK
    ]


def _explain(said: str) -> str | None:
    if "No space left" in said or "failed to write" in said:
        raise ToolError("llama-quantize could not write its output: the disk is full, make room and run again")
    if "Missing importance matrix" in said or "requires an importance matrix" in said:
        raise ToolError("llama-quantize found no importance matrix for a tensor that needs one: choose a larger type")
    return None
