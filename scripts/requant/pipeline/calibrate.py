"""Run the model over the corpus with llama-imatrix to get ``imatrix.gguf``."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from requant.documents.records import (
    THREADS,
    file_digest,
    file_entry,
    read_product,
    step,
    write_record,
)
from requant.formats.imatrix import check_run, read_imatrix
from requant.ground.digests import digest_file, publish
from requant.ground.errors import FormatError
from requant.ground.programs import work_folder
from requant.ground.progress import progress
from requant.toolchain.backend import CUDA_LIBRARY, Backend, explain_level
from requant.toolchain.build import open_built

logger = logging.getLogger(__name__)
PLANNED = re.compile(r"computing over (\d+) chunks")
CHUNK = re.compile(r"collect_imatrix\[(\d+)\]")
TOO_SHORT = "you need at least"


class _Run:
    """What llama-imatrix says while it runs."""

    def __init__(self, chunks: int, context: int, corpus: str) -> None:
        self.chunks, self.context, self.corpus = chunks, context, corpus
        self.backend = Backend()
        self.bar = progress(chunks, "calibrating", "chunks")

    def watch(self, line: str) -> bool:
        """Follow one line; True keeps the many per-tensor lines out of the log.

        Raises:
            FormatError: as soon as the tool says that the corpus holds fewer chunks than asked for.
        """
        if match := CHUNK.search(line):
            self.bar.update(int(match[1]) - self.bar.n)
            return True
        self.backend.watch(line)
        if (match := PLANNED.search(line)) and int(match[1]) != self.chunks:
            self.too_short(int(match[1]))
        if TOO_SHORT in line:
            self.too_short(0)
        return False

    def too_short(self, found: int) -> None:
        raise FormatError(
            f"the corpus {self.corpus} holds only {found} chunks of {self.context} tokens, calibration.chunks asks for "
            f"{self.chunks}: name a longer text or fewer chunks"
        )


def calibrate(
    model: Path, model_record: Path, text: Path, tool: Path, backend: Path, settings: Mapping[str, Any],
    out: Path, record: Path, threads: int, log: Path,
) -> None:  # fmt: skip
    """Compute the importance matrix ``out`` and its ``record``.

    ``settings`` is the recipe's ``calibration``; ``tool`` and ``backend`` are build records.

    Raises:
        FormatError: when the corpus is too short or the result does not come from the run that was asked for.
        ToolError: when another backend than the named variant did the work.
    """
    tools, variant = open_built(tool), open_built(backend)
    source = read_product(model, model_record)["file"]
    with work_folder(out.parent / "work") as work:
        work.link(model, "model.gguf")
        work.link(text, text.name)
        variant.link(work)
        command = _command(text.name, settings, on_gpu=CUDA_LIBRARY in variant.files)
        run = _Run(settings["chunks"], settings["context"], text.name)
        with run.bar:
            tools.run(work, command, threads, log, watch=run.watch, explain=explain_level)
            run.bar.update(settings["chunks"] - run.bar.n)
        run.backend.prove("llama-imatrix", variant, work.path)
        imatrix = read_imatrix(work.path / "imatrix.gguf")
        check_run(imatrix, settings["chunks"], settings["context"], text.name)
        digest = digest_file(work.path / "imatrix.gguf")
        publish(work.path / "imatrix.gguf", out)
    materials = {model.name: file_digest(source), text.name: digest_file(text)}
    write_record(
        record,
        {
            "step": step("calibrate", command, materials, {out.name: digest}),
            "file": file_entry(out.name, digest),
            "arithmetic": settings["arithmetic"],
            "settings": dict(settings),
            # Native bytes depend on what the processor offers; name it.
            "features": run.backend.features,
            "chunks": imatrix.chunk_count,
            "chunk_size": imatrix.chunk_size,
            "entries": len(imatrix.entries),
        },
    )


def _command(text: str, settings: Mapping[str, Any], *, on_gpu: bool) -> list[str]:
    """Every setting that moves bytes, explicit.

    Verbosity 5 makes the tool name the backend it loads and each chunk it collects; it must stand before any option
    that loads the backends.
    """
    flash = "on" if settings["flash_attention"] else "off"
    return [
        "llama-imatrix", "-lv", "5", "-m", "model.gguf", "-f", text, "-o", "imatrix.gguf", "--output-format", "gguf",
        "-c", str(settings["context"]), "-b", str(settings["batch"]), "-ub", str(settings["ubatch"]), "-fa", flash,
        "--chunks", str(settings["chunks"]), "--no-ppl", "-fit", "off", "-t", THREADS,
        *(["-ngl", "999"] if on_gpu else []),
    ]  # fmt: skip
