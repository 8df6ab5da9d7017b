"""What a difference between importance matrices does to a quant: quantize with each, count the bytes that differ."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from requant.documents.records import THREADS, read_record
from requant.formats.ggml import PLAIN
from requant.formats.gguf import Header, Tensor, quoted, read_exactly, read_header
from requant.ground.cores import cores
from requant.ground.digests import CHUNK
from requant.ground.disk import require_space
from requant.ground.errors import DiskError, FormatError, RecipeError, StaleError, ToolError, naming
from requant.ground.programs import Run, WorkFolder, work_folder
from requant.ground.progress import progress
from requant.ground.text import did_you_mean, table
from requant.pipeline import layout
from requant.pipeline.quantize import TENSOR
from requant.quantization.quants import QUANTS, quant_bytes
from requant.toolchain.build import Built, open_built
from requant.toolchain.variants import STRICT

TOOL = "llama-quantize"


@dataclass(frozen=True)
class Trial:
    """What to try two importance matrices on.

    ``model`` is the BF16 GGUF that they were computed from, ``quant`` a type that recipes may name, such as ``Q4_K_M``,
    ``tool`` the build record of the strict llama-quantize.
    """

    model: Path
    quant: str
    tool: Path


@dataclass(frozen=True)
class TensorBytes:
    """One tensor of both quants: its type, its size in bytes, and how many of these bytes differ."""

    name: str
    type: str
    size: int
    differing: int


@dataclass(frozen=True)
class QuantComparison:
    """One model, quantized to ``type`` with A and with B.

    ``model`` is the file's name, ``commit`` that of llama.cpp; the tensors are in the order of the quants.
    """

    model: str
    type: str
    commit: str
    tensors: tuple[TensorBytes, ...]

    @property
    def total(self) -> TensorBytes:
        """All tensors together."""
        sizes, differing = ([getattr(row, key) for row in self.tensors] for key in ("size", "differing"))
        return TensorBytes("total", self.type, sum(sizes), sum(differing))


def compare_quants(
    imatrices: Mapping[str, Path], weights: Collection[str], trial: Trial, folder: Path
) -> QuantComparison:
    """Quantize a model once with each importance matrix, in a work folder that is removed, and compare the bytes.

    Args:
        imatrices: the two files, by the labels that messages give them.
        weights: what they measured.
        trial: the model, and how it is quantized.
        folder: where the work folder is made; it needs room for two quants.

    Raises:
        RecipeError: when there is no such type.
        FormatError: when the model or the record cannot be read or is another one than these weights need.
        StaleError: when the built program was changed.
        DiskError: when there is no room, or ``folder`` cannot be written.
        ToolError: when llama-quantize fails, or makes two quants that have not the same tensors.
    """
    model, kind = trial.model, trial.quant
    _require_type(kind)
    with naming("--quantize", model):
        _require_weights(read_header(model), weights)
    with naming("--tool", trial.tool):
        built = _open_strict(trial.tool)
    require_space(folder, 2 * quant_bytes(model.stat().st_size, kind), f"a pair of {kind} files")
    with _temporary(folder) as temporary, work_folder(Path(temporary) / "work") as work:
        work.link(model, "model.gguf")
        quants = [_quantize(built, work, label, path, kind) for label, path in imatrices.items()]
        tensors = _compare_files(*quants)
    return QuantComparison(model.name, kind, built.document["commit"], tuple(tensors))


def _require_type(kind: str) -> None:
    if kind not in QUANTS:
        raise RecipeError(
            f"--type {kind!r} is not a quantization type; write one of {', '.join(QUANTS)}{did_you_mean(kind, QUANTS)}"
        )


def _require_weights(header: Header, weights: Collection[str]) -> None:
    """Refuse a model that no importance reaches: quants of it would be equal, and that would mean nothing.

    llama-quantize passes over importances without a tensor, and copies tensors that have their type already.
    """
    types = {tensor.name: tensor.type for tensor in header.tensors}
    for weight in weights:
        if weight not in types:
            raise FormatError(
                f"{header.name} has no tensor {quoted(weight)}, which A and B measured: name the model they come from"
            )
        if types[weight] not in PLAIN:
            raise FormatError(
                f"{header.name} holds {quoted(weight)} as {types[weight].name}, it is quantized: name the BF16 GGUF"
            )


def _open_strict(record: Path) -> Built:
    try:
        document = read_record(record)
    except StaleError:
        document = {}
    if document.get("variant") != STRICT or TOOL not in document.get("binaries", ()):
        raise FormatError(f"{record} is not the build record of a strict {TOOL}: name {layout.tool('<source>', TOOL)}")
    return open_built(record)


def _temporary(folder: Path) -> "TemporaryDirectory[str]":
    try:
        return TemporaryDirectory(prefix="requant-compare-", dir=folder)
    except OSError as error:
        raise DiskError(f"{folder} cannot be written ({error.strerror}): run in another folder") from error


def _quantize(built: Built, work: WorkFolder, label: str, imatrix: Path, kind: str) -> Path:
    """Write one quant into the work folder and return its path."""
    work.link(imatrix, f"{label}-imatrix.gguf")
    command = [TOOL, "--imatrix", f"{label}-imatrix.gguf", "model.gguf", f"{label}.gguf", kind, THREADS]
    with progress(None, f"quantizing {kind} with {label}", "tensors") as bar:

        def watch(line: str) -> None:
            if match := TENSOR.match(line):
                bar.total = int(match[2])
                bar.update(int(match[1]) - bar.n)

        run = Run(cores(), work.path / f"{label}.log")
        built.run(work, command, run, watch=watch, explain=_explain)
    return work.path / f"{label}.gguf"


def _explain(said: str) -> str:
    """The tool's own reason, because its log goes with the work folder."""
    if "No space left" in said or "failed to write" in said:
        return f"{TOOL} could not write its output: the disk is full, make room and run again"
    lines = said.splitlines() or ["it said nothing"]
    reason = next((line for line in lines if "failed to quantize:" in line), lines[-1])
    return f"{TOOL} failed ({reason}): check --quantize and --type"


def _compare_files(a: Path, b: Path) -> list[TensorBytes]:
    with a.open("rb", buffering=0) as one, b.open("rb", buffering=0) as other:
        headers = [read_header(file, path.name) for file, path in ((one, a), (other, b))]
        layouts = [[(tensor.name, tensor.type, tensor.shape) for tensor in header.tensors] for header in headers]
        if layouts[0] != layouts[1]:
            raise ToolError(f"{TOOL} gave the two quants other tensors or types: their bytes cannot be compared")
        return [
            TensorBytes(pair[0].name, pair[0].type.name, pair[0].nbytes, _differing((one, other), pair))
            for pair in zip(headers[0].tensors, headers[1].tensors, strict=True)
        ]


def _differing(files: Sequence[FileIO], tensors: Sequence[Tensor]) -> int:
    """How many bytes of a tensor differ between two files; both are read in pieces of 1 MiB."""
    buffers = [memoryview(bytearray(CHUNK)) for _ in files]
    for file, tensor in zip(files, tensors, strict=True):
        file.seek(tensor.offset)
    count, left = 0, tensors[0].nbytes
    while left:
        pieces = [buffer[: min(CHUNK, left)] for buffer in buffers]
        for file, piece, tensor in zip(files, pieces, tensors, strict=True):
            read_exactly(file, piece, tensor.name)
        one, other = (np.frombuffer(piece, np.uint8) for piece in pieces)
        count += int(np.count_nonzero(one != other))
        left -= len(pieces[0])
    return count


def as_text(comparison: QuantComparison) -> str:
    """The comparison as a table for people."""
    rows = [
        (row.name, row.type, f"{row.differing:,}", f"{row.size:,}", f"{100 * row.differing / row.size:.3g} %")
        for row in (*comparison.tensors, comparison.total)
    ]
    head = (f"{comparison.model} as {comparison.type}", "type", "bytes that differ", "of", "share")
    return "\n".join(table(head, rows))


def as_document(comparison: QuantComparison) -> dict[str, Any]:
    """The comparison for canonical JSON."""
    return {
        "model": comparison.model,
        "type": comparison.type,
        "commit": comparison.commit,
        "tensors": [_entry(row) for row in comparison.tensors],
        "total": _entry(comparison.total),
    }


def _entry(row: TensorBytes) -> dict[str, Any]:
    return {"name": row.name, "type": row.type, "bytes": row.size, "differing": row.differing}
