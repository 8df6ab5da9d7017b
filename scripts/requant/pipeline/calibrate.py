"""Run the model over the corpus with llama-imatrix to get ``imatrix.gguf``."""

import re
from collections.abc import Sequence
from pathlib import Path

from requant.documents.records import THREADS, Product, file_digest, file_entry, step, write_record
from requant.formats.imatrix import check_run, read_imatrix
from requant.ground.digests import digest_file, publish
from requant.ground.errors import FormatError
from requant.ground.programs import work_folder
from requant.ground.progress import progress
from requant.pipeline.fetch_corpus import text_digest
from requant.pipeline.settings import Calibration
from requant.toolchain.instrument import Instrument

PLANNED = re.compile(r"computing over (\d+) chunks")
CHUNK = re.compile(r"collect_imatrix\[(\d+)\]")
TOO_SHORT = "you need at least"


class _Progress:
    """What llama-imatrix says of its progress."""

    def __init__(self, settings: Calibration, corpus: str) -> None:
        self.settings, self.corpus = settings, corpus
        self.bar = progress(settings.chunks, "calibrating", "chunks")

    def watch(self, line: str) -> bool:
        """Follow one line; True keeps the many per-tensor lines out of the log.

        Raises:
            FormatError: as soon as the tool says that the corpus holds fewer chunks than asked for.
        """
        if match := CHUNK.search(line):
            self.bar.update(int(match[1]) - self.bar.n)
            return True
        if (match := PLANNED.search(line)) and int(match[1]) != self.settings.chunks:
            self.too_short(int(match[1]))
        if TOO_SHORT in line:
            self.too_short(0)
        return False

    def too_short(self, found: int) -> None:
        raise FormatError(
            f"the corpus {self.corpus} holds only {found} chunks of {self.settings.context} tokens, calibration.chunks "
            f"asks for {self.settings.chunks}: name a longer text or fewer chunks"
        )


def calibrate(model: Product, text: Path, instrument: Instrument, settings: Calibration, out: Product) -> None:
    """Compute the importance matrix ``out`` of the BF16 ``model`` over ``text``.

    Raises:
        FormatError: when the corpus is too short or the result does not come from the run that was asked for.
        StaleError: when the model or the text is not what the step before wrote.
        ToolError: when another backend than the named variant did the work.
    """
    source, words = model.read()["file"], text_digest(text)
    with work_folder(out.file.parent / "work") as work:
        work.link(model.file, "model.gguf")
        work.link(text, text.name)
        command = _command(text.name, settings, instrument.offload)
        follow = _Progress(settings, text.name)
        with follow.bar:
            said, _ = instrument.measure(work, command, follow.watch)
            follow.bar.update(settings.chunks - follow.bar.n)
        imatrix = read_imatrix(work.path / "imatrix.gguf")
        check_run(imatrix, settings.chunks, settings.context, text.name)
        digest = digest_file(work.path / "imatrix.gguf")
        publish(work.path / "imatrix.gguf", out.file)
    materials = {model.file.name: file_digest(source), text.name: words}
    write_record(
        out.record,
        {
            "step": step("calibrate", command, materials, {out.file.name: digest}),
            "file": file_entry(out.file.name, digest),
            "arithmetic": settings.variant,
            "settings": settings.as_recipe(),
            # Native bytes depend on what the processor offers; name it.
            "features": said.features,
            "chunks": imatrix.chunk_count,
            "chunk_size": imatrix.chunk_size,
            "entries": len(imatrix.entries),
        },
    )


def _command(text: str, settings: Calibration, offload: Sequence[str]) -> list[str]:
    """Every setting that moves bytes, explicit.

    Verbosity 5 makes the tool name the backend it loads and each chunk it collects; it must stand before any option
    that loads the backends.
    """
    flash = "on" if settings.flash_attention else "off"
    return [
        "llama-imatrix", "-lv", "5", "-m", "model.gguf", "-f", text, "-o", "imatrix.gguf", "--output-format", "gguf",
        "-c", str(settings.context), "-b", str(settings.batch), "-ub", str(settings.ubatch), "-fa", flash,
        "--chunks", str(settings.chunks), "--no-ppl", "-fit", "off", "-t", THREADS, *offload,
    ]  # fmt: skip
