"""Run the model over the corpus with llama-imatrix to get ``imatrix.gguf``, or a shard of it."""

import re
from collections.abc import Sequence
from pathlib import Path

from requant.documents.records import THREADS, Product, file_digest, file_entry, step, write_record
from requant.formats.imatrix import check_counts, check_run, read_imatrix
from requant.ground.digests import digest_file, publish
from requant.ground.errors import FormatError
from requant.ground.programs import work_folder
from requant.ground.progress import progress
from requant.pipeline.fetch_corpus import text_digest
from requant.pipeline.settings import Calibration
from requant.pipeline.shards import Shard
from requant.pipeline.unseen_experts import report_unseen
from requant.toolchain.instrument import Instrument

PLANNED = re.compile(r"computing over (\d+) chunks")
CHUNK = re.compile(r"collect_imatrix\[(\d+)\]")
TOO_SHORT = "you need at least"
NONE_LEFT = "there will be not enough tokens left"
"""What llama-imatrix says where fewer than two chunks of the text follow the first one of a shard."""


class _Progress:
    """What llama-imatrix says of its progress."""

    def __init__(self, settings: Calibration, part: Shard, corpus: str) -> None:
        self.settings, self.part, self.corpus = settings, part, corpus
        self.bar = progress(part.chunks, f"calibrating {part.name}".rstrip(), "chunks")

    def watch(self, line: str) -> bool:
        """Follow one line; True keeps the many per-tensor lines out of the log.

        Raises:
            FormatError: as soon as the tool says that the corpus holds fewer chunks than asked for.
        """
        if match := CHUNK.search(line):
            self.bar.update(int(match[1]) - self.bar.n)
            return True
        if (match := PLANNED.search(line)) and int(match[1]) != self.part.chunks:
            self.too_short(self.part.first + int(match[1]))
        if TOO_SHORT in line:
            self.too_short(0)
        if NONE_LEFT in line:
            raise FormatError(
                f"the corpus {self.corpus} ends so soon after {self.part.first} chunks of {self.settings.context} "
                f"tokens that llama-imatrix cannot begin {self.part.name} there: name a longer text or fewer shards"
            )
        return False

    def too_short(self, found: int) -> None:
        raise FormatError(
            f"the corpus {self.corpus} holds only {found} chunks of {self.settings.context} tokens, calibration.chunks "
            f"asks for {self.settings.chunks}: name a longer text or fewer chunks"
        )


def calibrate(
    model: Product, text: Path, instrument: Instrument, settings: Calibration, out: Product, shard: Shard | None = None
) -> None:
    """Compute the importance matrix ``out`` of the BF16 ``model`` over ``text``, or over a shard of it alone.

    Raises:
        FormatError: when the corpus is too short or the result does not come from the run that was asked for.
        StaleError: when the model or the text is not what the step before wrote.
        ToolError: when another backend than the named variant did the work.
    """
    source, words, name = model.read()["file"], text_digest(text), out.file.name
    part = shard or Shard("", 0, settings.chunks)
    with work_folder(out.file.parent / f"work-{part.name}".rstrip("-")) as work:
        work.link(model.file, "model.gguf")
        work.link(text, text.name)
        command = _command(text.name, settings, part, instrument.offload, name)
        follow = _Progress(settings, part, text.name)
        with follow.bar:
            said, _ = instrument.measure(work, command, follow.watch)
            follow.bar.update(part.chunks - follow.bar.n)
        imatrix = read_imatrix(work.path / name)
        # What is zero all through a shard, or reached by no token of it, need not be so in the others.
        (check_counts if shard else check_run)(imatrix, part.chunks, settings.context, text.name)
        unseen = [] if shard else report_unseen(imatrix, settings)
        digest = digest_file(work.path / name)
        publish(work.path / name, out.file)
    materials = {model.file.name: file_digest(source), text.name: words}
    write_record(
        out.record,
        {
            "step": step(f"calibrate {part.name}".rstrip(), command, materials, {name: digest}),
            "file": file_entry(name, digest),
            "arithmetic": settings.variant,
            "settings": settings.as_recipe(),
            # Native bytes depend on what the processor offers; name it.
            "features": said.features,
            "chunks": imatrix.chunk_count,
            "chunk_size": imatrix.chunk_size,
            "entries": len(imatrix.entries),
            **({"unseen": unseen} if unseen else {}),
        },
    )


def _command(text: str, settings: Calibration, part: Shard, offload: Sequence[str], out: str) -> list[str]:
    """Every setting that moves bytes, explicit.

    Verbosity 5 makes the tool name the backend it loads and each chunk it collects; it must stand before any option
    that loads the backends.
    """
    flash = "on" if settings.flash_attention else "off"
    first = ["--chunk", str(part.first)] if part.name else []
    return [
        "llama-imatrix", "-lv", "5", "-m", "model.gguf", "-f", text, "-o", out, "--output-format", "gguf",
        "-c", str(settings.context), "-b", str(settings.batch), "-ub", str(settings.ubatch), "-fa", flash,
        *first, "--chunks", str(part.chunks), "--no-ppl", "-fit", "off", "-t", THREADS, *offload,
    ]  # fmt: skip
