"""Ask a released model one question with llama.cpp's own llama-completion."""

import logging
from pathlib import Path

from requant.documents.records import THREADS
from requant.ground.digests import write_bytes
from requant.ground.errors import ToolError
from requant.ground.programs import work_folder
from requant.toolchain.instrument import Instrument

END = "[end of text]"
logger = logging.getLogger(__name__)


def answer_question(model: Path, instrument: Instrument, question: str, out: Path) -> None:
    """Ask ``question`` through the model's own chat template, greedily, and write the answer to ``out``.

    Raises:
        ToolError: when the model cannot be loaded or says nothing.
    """
    with work_folder(out.parent / "work-answer") as work:
        work.link(model, "model.gguf")
        instrument.backend.link(work)
        command = [
            "llama-completion", "-m", "model.gguf", "-p", question, "-n", "64", "--temp", "0", "--jinja",
            "--single-turn", "--no-display-prompt", "-lv", "1", "-c", "1024", "-t", THREADS,
        ]  # fmt: skip
        lines: list[str] = []
        instrument.program.run(work, command, instrument.run, watch=lines.append)
    answer = "\n".join(lines).removesuffix(END).strip()
    if not answer:
        raise ToolError(f"the model said nothing, see {instrument.run.log}")
    logger.info("asked: %s\nanswered: %s", question, answer)
    write_bytes(out, f"{question}\n{answer}\n".encode())
