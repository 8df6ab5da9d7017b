"""How faithful is a quant to its BF16 model: perplexity of both, and the divergence of their predictions.

The BF16 model runs once and leaves its predictions in a file of logits, with which each quant is then compared.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requant.documents.records import THREADS, Product, file_entry, read_record, write_record
from requant.formats.gguf import read_header
from requant.ground.digests import digest_file, publish
from requant.ground.disk import require_space
from requant.ground.errors import FormatError, StaleError
from requant.ground.programs import WorkFolder, work_folder
from requant.ground.progress import progress
from requant.pipeline.fetch_corpus import text_digest
from requant.pipeline.settings import Fidelity
from requant.toolchain.instrument import Instrument
from requant.toolchain.perplexity import chunk_done, logits_bytes, read_divergence, read_perplexity, scored
from requant.toolchain.variants import NATIVE

TOOL, LOGITS = "llama-perplexity", "logits.bin"
TEMPLATE = "tokenizer.chat_template"


@dataclass(frozen=True)
class Means:
    """What every measurement of one recipe shares: the text, llama-perplexity on its backend, and how to measure."""

    text: Path
    instrument: Instrument
    settings: Fidelity


def measure_baseline(model: Product, means: Means, logits: Product) -> None:
    """Measure the BF16 model and keep its predictions in ``logits``.

    Raises:
        DiskError: when the logits have no room.
        FormatError: when the text is too short, or the perplexity is not finite.
        ToolError: when llama-perplexity fails, or ran on another backend.
    """
    source = model.read()["file"]
    chunks, context = means.settings.chunks, means.settings.context
    size = logits_bytes(chunks, context, _vocabulary(model.file))
    require_space(logits.file.parent, size, f"the file of logits of {chunks:,} chunks")
    with work_folder(logits.file.parent / "work-baseline") as work:
        lines, protocol = _run(work, model.file, means, ["--save-all-logits", LOGITS])
        if (work.path / LOGITS).stat().st_size != size:
            raise FormatError(
                f"{means.text.name} is shorter than {chunks:,} chunks of {context:,} tokens: name a longer text, or "
                "fewer chunks in evaluation.fidelity.chunks"
            )
        perplexity = read_perplexity(lines, model.file.name)
        digest = digest_file(work.path / LOGITS)
        publish(work.path / LOGITS, logits.file)
    entry = file_entry(logits.file.name, digest)
    found = {"file": entry, "model": source, "protocol": protocol, "perplexity": perplexity}
    write_record(logits.record, found)


def measure_quant(quant: Product, logits: Product, means: Means, imatrix: bool, record: Path) -> None:
    """Compare a quant with the BF16 model that left its ``logits``; ``imatrix`` says whether it was made with one.

    Raises:
        FormatError: when a result is missing or not finite.
        StaleError: when a file is not what its record says, or the quant was made from another model.
        ToolError: when llama-perplexity fails, or ran on another backend.
    """
    product, base = quant.read(), logits.read()
    if base["model"] not in product["step"]["materials"]:
        again = f"remove {logits.record} and run again"
        raise StaleError(f"{logits.file} was computed from another model than {quant.file}: {again}")
    with work_folder(record.parent / f"work-{record.stem}") as work:
        work.link(logits.file, LOGITS)
        options = ["--kl-divergence", "--kl-divergence-base", LOGITS]
        lines, protocol = _run(work, quant.file, means, options)
    perplexity, divergence = read_divergence(lines, quant.file.name)
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
        StaleError: when two of them were measured in different ways.
    """
    base, found = read_record(baseline), [read_record(path) for path in quants]
    for path, record in zip(quants, found, strict=True):
        if record["protocol"] != base["protocol"]:
            raise StaleError(f"{path} and {baseline} were measured in different ways: remove both and run again")
    keys = ("file", "type", "imatrix", "perplexity", "divergence")
    return {
        "protocol": base["protocol"],
        "baseline": {"file": base["model"], "perplexity": base["perplexity"]},
        "quants": [{key: record[key] for key in keys} for record in found],
    }


def _run(work: WorkFolder, model: Path, means: Means, options: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Run llama-perplexity; gives what it said, and how it measured."""
    work.link(model, "model.gguf")
    work.link(means.text, means.text.name)
    lines, chunks = list[str](), means.settings.chunks
    with progress(chunks, f"measuring {model.name}", "chunks") as bar:

        def watch(line: str) -> None:
            lines.append(line)
            if (done := chunk_done(line)) is not None and done <= chunks:
                bar.update(done - bar.n)

        said, _ = means.instrument.measure(work, _command(means, options), watch)
    return lines, _protocol(model, means, said.features)


def _command(means: Means, options: Sequence[str]) -> list[str]:
    """Every setting that moves a number, explicit; verbosity 4 makes the tool name the backend that it loads."""
    context = str(means.settings.context)
    return [
        TOOL, "-lv", "4", "-m", "model.gguf", "-f", means.text.name, "-c", context, "-b", context, "-ub", context,
        "-fa", "off", "--chunks", str(means.settings.chunks), "-fit", "off", "-t", THREADS, *means.instrument.offload,
        *options,
    ]  # fmt: skip


def _protocol(model: Path, means: Means, features: Sequence[str]) -> dict[str, Any]:
    """How it was measured, beside each number; ``scored`` tokens in all, ``features`` of the processor."""
    settings, template = means.settings, read_header(model).metadata.get(TEMPLATE)
    return {
        "tool": TOOL,
        "commit": means.instrument.commit,
        "arithmetic": settings.variant,
        "features": list(features) if settings.variant == NATIVE else [],
        "text": file_entry(means.text.name, text_digest(means.text)),
        "chat_template": hashlib.sha256(str(template.value).encode()).hexdigest() if template else None,
        "context": settings.context,
        "batch": settings.context,
        "chunks": settings.chunks,
        "scored": settings.chunks * scored(settings.context),
    }


def _vocabulary(model: Path) -> int:
    """How many tokens a model predicts."""
    for tensor in read_header(model).tensors:
        if tensor.name in ("output.weight", "token_embd.weight"):
            return tensor.shape[1]
    raise FormatError(f"{model} has no token_embd.weight: it is no language model")
