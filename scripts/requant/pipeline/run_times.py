"""What differs between two machines that make the same release: builds, compilers, times. Never part of a release."""

import json
import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from requant.documents.records import read_record
from requant.ground.canonical import parse
from requant.ground.digests import write_bytes

logger = logging.getLogger(__name__)
COLUMNS = ("step", "seconds", "peak_memory_mb")


def write_run(folders: Sequence[Path], builds: Sequence[Path], out: Path, table: Path) -> None:
    """Join the benchmark files in ``folders`` and the ``builds`` records into ``out`` (JSON) and ``table`` (TSV)."""
    steps: dict[str, dict[str, Any]] = {}
    for path in sorted(file for folder in folders for file in folder.glob("*.jsonl")):
        measured = path.read_bytes().splitlines()
        if not measured:
            # Snakemake does not flush what it writes: after a power cut the step is done, and its measurement empty.
            logger.warning("%s is empty: how long that step took is not known", path)
            continue
        last = parse(measured[-1], str(path))
        steps[path.stem] = {"seconds": round(float(last["s"]), 1), "peak_memory_mb": _number(last.get("max_rss"))}
    machine = {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
    document = {"machine": machine, "builds": [read_record(path) for path in builds], "steps": steps}
    write_bytes(out, json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")
    rows = sorted(steps.items(), key=lambda item: -item[1]["seconds"])
    lines = ["\t".join(COLUMNS), *(f"{name}\t{step['seconds']}\t{step['peak_memory_mb']}" for name, step in rows)]
    write_bytes(table, "\n".join(lines).encode() + b"\n")


def _number(value: object) -> float | str:
    """Snakemake writes ``NA`` where a job was too short to be sampled."""
    return round(value, 1) if isinstance(value, int | float) else "NA"
