"""Quantize the BF16 GGUF with the strict tools and the importance matrix."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from requant.build import open_built
from requant.describe import Description, require_finite
from requant.digests import publish
from requant.disk import require_space
from requant.errors import FormatError, ToolError
from requant.ggml_types import GGMLType
from requant.progress import progress
from requant.recipe import quant_bytes
from requant.records import (
    THREADS,
    describe_with_progress,
    file_digest,
    file_entry,
    read_record,
    step,
    tensor_entries,
    write_record,
)
from requant.tools import work_folder

TENSOR = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")
FELL_BACK = re.compile(r"warning: (\S+) +- ncols .* -> falling back to +(\S+)")
KEPT = (GGMLType.F32, GGMLType.F16, GGMLType.BF16)
# Types whose blocks are one super-block of 256 weights; rows of other lengths cannot take them.
SUPER_BLOCK = 256


def quantize(
    model: Path, model_record: Path, imatrix: Path, imatrix_record: Path, kind: str, tool: Path,
    out: Path, record: Path, threads: int, output: Path,
) -> None:  # fmt: skip
    """Write the quant ``out`` of type ``kind`` (such as ``Q4_K_M``) and its ``record``.

    Raises:
        FormatError: when the result holds NaN or infinity, or is not what llama-quantize said.
        ToolError: when llama-quantize fails.
    """
    built = open_built(tool)
    require_space(out.parent, quant_bytes(model.stat().st_size, kind), f"the {kind} file")
    command = ["llama-quantize", "--imatrix", "imatrix.gguf", "model.gguf", out.name, kind, THREADS]
    said: dict[str, str] = {}
    with work_folder(out.parent / f"work-{kind}") as work, progress(None, f"quantizing {kind}", "tensors") as bar:
        work.link(model, "model.gguf")
        work.link(imatrix, "imatrix.gguf")

        def watch(line: str) -> None:
            if match := TENSOR.match(line):
                bar.total = int(match[2])
                bar.update(int(match[1]) - bar.n)
            if match := FELL_BACK.search(line):
                said[match[1]] = match[2].upper()

        built.run(work, command, threads, output, watch=watch, explain=_explain)
        description = describe_with_progress(work.path / out.name, f"checking {kind}")
        require_finite(description, f"the {kind} file")
        found = fallbacks(description, kind, said)
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


def fallbacks(description: Description, kind: str, said: Mapping[str, str]) -> list[dict[str, Any]]:
    """Tensors that could not take the type they were meant for, because of the length of their rows.

    llama-quantize names most of them (``said``: tensor to type) and goes on; it is silent about the output and
    embedding tensors, which it moves to Q8_0 when their rows are no multiple of 256.

    Raises:
        FormatError: when the file is not what llama-quantize said.
    """
    in_super_blocks = kind.endswith("_K") or "_K_" in kind or (kind.startswith("IQ") and kind != "IQ4_NL")
    types = {tensor.name: tensor.type.name for tensor in description.tensors}
    for name, promised in said.items():
        if types.get(name) != promised:
            raise FormatError(
                f"llama-quantize says that {name} became {promised}, the file has {types.get(name)}: run again"
            )
    return [
        {"name": tensor.name, "type": tensor.type.name, "row": tensor.shape[0]}
        for tensor in description.tensors
        if tensor.name in said or (in_super_blocks and tensor.type not in KEPT and tensor.shape[0] % SUPER_BLOCK)
    ]


def _explain(said: str) -> str | None:
    if "No space left" in said or "failed to write" in said:
        raise ToolError("llama-quantize could not write its output: the disk is full, make room and run again")
    if "Missing importance matrix" in said or "requires an importance matrix" in said:
        raise ToolError("llama-quantize found no importance matrix for a tensor that needs one: choose a larger type")
    return None
