"""Which converter makes the BF16 GGUF: ours for the layouts it knows, upstream's for everything else."""

import logging
from pathlib import Path
from typing import Literal

from requant.documents.inputs import ToolchainInput
from requant.documents.records import read_record, write_record
from requant.ground.errors import FormatError, UnsupportedError
from requant.pipeline.write_gguf import checkpoint_place, open_conversion, require_known_tree

logger = logging.getLogger(__name__)
OWN, UPSTREAM = "requant", "upstream"


def choose_converter(source: Path, toolchain: Path, asked: Literal["upstream"] | None, record: Path) -> None:
    """Decide by what ``source``, the record beside a checkpoint, and ``toolchain``, a tree's, say; write ``record``.

    What we cannot read is upstream's to judge: its converter is less strict in places, and what it makes is looked at
    as ours is.
    """
    try:
        if asked:
            raise UnsupportedError("the recipe asks for it")
        require_known_tree(ToolchainInput.of(read_record(toolchain)).commit)
        with checkpoint_place(source) as place:
            open_conversion(place)
        chosen, reason = OWN, None
    except (UnsupportedError, FormatError) as error:
        chosen, reason = UPSTREAM, str(error)
        logger.info("converting with upstream's converter and its environment: %s", reason)
    write_record(record, {"converter": chosen, "reason": reason})


def needs_upstream(record: str) -> bool:
    """Whether the record of a choice says that upstream's converter is to run."""
    return bool(read_record(Path(record))["converter"] == UPSTREAM)
