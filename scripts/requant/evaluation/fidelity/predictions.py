"""How faithful is a quant to its BF16 model: perplexity of both, and the divergence of their predictions.

The BF16 model runs once and leaves its predictions in a file of logits, with which each quant is then compared.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requant.documents.records import (
    THREADS,
    file_entry,
    read_product,
    read_record,
    write_record,
)
from requant.formats.gguf import read_header
from requant.ground.digests import digest_file, publish
from requant.ground.disk import require_space
from requant.ground.errors import FormatError
from requant.ground.programs import WorkFolder, work_folder
from requant.ground.progress import progress
from requant.toolchain.backend import CUDA_LIBRARY, Backend, explain_level
from requant.toolchain.build import open_built
from requant.toolchain.perplexity import (
    chunk_done,
    logits_bytes,
    read_divergence,
    read_perplexity,
    scored,
)

TOOL, LOGITS = "llama-perplexity", "logits.bin"
TEMPLATE = "tokenizer.chat_template"


@dataclass(frozen=True)
class Means:
    """What every measurement of one recipe shares: the text, build records of tool and backend, and how to measure.

    ``settings`` is the recipe's ``evaluation.fidelity``.
    """

    text: Path
    tool: Path
    backend: Path
    settings: Mapping[str, Any]
    threads: int
    log: Path


def measure_baseline(model: Path, model_record: Path, means: Means, logits: Path, record: Path) -> None:
    """Measure the BF16 model and keep its predictions in ``logits``.

    Raises:
        DiskError: when the logits have no room.
        FormatError: when the text is too short, or the perplexity is not finite.
        ToolError: when llama-perplexity fails, or ran on another backend.
    """
    source = read_product(model, model_record)["file"]
    chunks, context = means.settings["chunks"], means.settings["context"]
    size = logits_bytes(chunks, context, _vocabulary(model))
    require_space(logits.parent, size, f"the file of logits of {chunks:,} chunks")
    with work_folder(logits.parent / "work-baseline") as work:
        lines, protocol = _run(work, model, means, ["--save-all-logits", LOGITS], model.name)
        if (work.path / LOGITS).stat().st_size != size:
            raise FormatError(
                f"{means.text.name} is shorter than {chunks:,} chunks of {context:,} tokens: name a longer text, or "
                "fewer chunks in evaluation.fidelity.chunks"
            )
        perplexity = read_perplexity(lines, model.name)
        digest = digest_file(work.path / LOGITS)
        publish(work.path / LOGITS, logits)
    found = {"file": file_entry(logits.name, digest), "model": source, "protocol": protocol, "perplexity": perplexity}
    write_record(record, found)


def measure_quant(
    quant: Path, quant_record: Path, logits: Path, baseline: Path, means: Means, imatrix: bool, record: Path
) -> None:
    """Compare a quant with the BF16 model that ``baseline``, the record of ``logits``, describes.

    Raises:
        FormatError: when the quant was made from another model, or a result is missing or not finite.
        DigestError: when a file is not what its record says.
        ToolError: when llama-perplexity fails, or ran on another backend.
    """
    product, base = read_product(quant, quant_record), read_product(logits, baseline)
    if base["model"] not in product["step"]["materials"]:
        raise FormatError(f"{logits} was computed from another model than {quant}: remove {baseline} and run again")
    with work_folder(record.parent / f"work-{record.stem}") as work:
        work.link(logits, LOGITS)
        options = ["--kl-divergence", "--kl-divergence-base", LOGITS]
        lines, protocol = _run(work, quant, means, options, quant.name)
    perplexity, divergence = read_divergence(lines, quant.name)
    write_record(
        record,
        {
            "file": product["file"],
            "type": product["type"],
            "imatrix": imatrix,
            "protocol": protocol,
            "perplexity": perplexity,
            "divergence": divergence,
        },
    )


def collect_fidelity(baseline: Path, quants: Sequence[Path]) -> dict[str, Any]:
    """Join the records of one recipe.

    Raises:
        FormatError: when two of them were measured in different ways.
    """
    base, found = read_record(baseline), [read_record(path) for path in quants]
    for path, record in zip(quants, found, strict=True):
        if record["protocol"] != base["protocol"]:
            raise FormatError(f"{path} and {baseline} were measured in different ways: remove both and run again")
    keys = ("file", "type", "imatrix", "perplexity", "divergence")
    return {
        "protocol": base["protocol"],
        "baseline": {"file": base["model"], "perplexity": base["perplexity"]},
        "quants": [{key: record[key] for key in keys} for record in found],
    }


def _run(
    work: WorkFolder, model: Path, means: Means, options: Sequence[str], name: str
) -> tuple[list[str], dict[str, Any]]:
    """Run llama-perplexity; gives what it said, and how it measured."""
    tools, variant = open_built(means.tool), open_built(means.backend)
    work.link(model, "model.gguf")
    work.link(means.text, means.text.name)
    variant.link(work)
    command = _command(means.text.name, means.settings, options, on_gpu=CUDA_LIBRARY in variant.files)
    backend, lines = Backend(), list[str]()
    chunks = means.settings["chunks"]
    with progress(chunks, f"measuring {name}", "chunks") as bar:

        def watch(line: str) -> None:
            backend.watch(line)
            lines.append(line)
            if (done := chunk_done(line)) is not None and done <= chunks:
                bar.update(done - bar.n)

        tools.run(work, command, means.threads, means.log, watch=watch, explain=explain_level)
    backend.prove(TOOL, variant, work.path)
    return lines, _protocol(model, means, tools.document["commit"], backend.features)


def _command(text: str, settings: Mapping[str, Any], options: Sequence[str], *, on_gpu: bool) -> list[str]:
    """Every setting that moves a number, explicit; verbosity 4 makes the tool name the backend that it loads."""
    context = str(settings["context"])
    return [
        TOOL, "-lv", "4", "-m", "model.gguf", "-f", text, "-c", context, "-b", context, "-ub", context, "-fa", "off",
        "--chunks", str(settings["chunks"]), "-fit", "off", "-t", THREADS, *(["-ngl", "999"] if on_gpu else []),
        *options,
    ]  # fmt: skip


def _protocol(model: Path, means: Means, commit: str, features: Sequence[str]) -> dict[str, Any]:
    """How it was measured, beside each number; ``scored`` tokens in all, ``features`` of the processor."""
    settings, template = means.settings, read_header(model).metadata.get(TEMPLATE)
    native = settings["arithmetic"] == "native"
    return {
        "tool": TOOL,
        "commit": commit,
        "arithmetic": settings["arithmetic"],
        "features": list(features) if native else [],
        "text": file_entry(means.text.name, digest_file(means.text)),
        "chat_template": hashlib.sha256(str(template.value).encode()).hexdigest() if template else None,
        "context": settings["context"],
        "batch": settings["context"],
        "chunks": settings["chunks"],
        "scored": settings["chunks"] * scored(settings["context"]),
    }


def _vocabulary(model: Path) -> int:
    """How many tokens a model predicts."""
    for tensor in read_header(model).tensors:
        if tensor.name in ("output.weight", "token_embd.weight"):
            return tensor.shape[1]
    raise FormatError(f"{model} has no token_embd.weight: it is no language model")
