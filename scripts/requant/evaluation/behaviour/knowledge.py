"""MMLU and GPQA-Diamond: rows of pinned data sets on the Hub, which a harness asks (``harness.py``).

Columns: https://huggingface.co/datasets/cais/mmlu (``answer`` is the index of the right choice) and, gated,
https://huggingface.co/datasets/Idavidrein/gpqa (one right answer and three wrong ones).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requant.documents.pins import SuitePin
from requant.documents.records import VERSION, file_entry, read_record, write_record
from requant.ground.canonical import canonical
from requant.ground.digests import digest_bytes
from requant.ground.errors import AccessError, FormatError
from requant.ground.programs import work_folder
from requant.pipeline.suites import MMLU
from requant.places.data_sets import import_datasets
from requant.places.downloads import fetch_set

GPQA = ("Question", "Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3)))
SUBJECT = re.compile(r"[a-z_]{1,60}")
REASON = 200
"""Characters of a reason, as ``evaluation.json`` has room for."""


@dataclass(frozen=True)
class Knowledge:
    """One set: its rows, or (``not_run``, if not empty) why they cannot be had; ``sha256`` is of the file with them."""

    name: str
    sha256: str
    rows: tuple[Mapping[str, Any], ...]
    not_run: str


def fetch_knowledge(pin: SuitePin, out: Path) -> str:
    """Write the rows of a pinned set to ``out``, or, where the Hub refuses access, why there are none.

    Returns:
        that reason, or nothing.

    Raises:
        SourceError, PinnedBytesError: when the data set cannot be had or is another one.
        FormatError: when its rows are of another form.
        ToolError: when the package ``datasets`` is not installed.
    """
    origin = {"name": pin.name, "repo": pin.repo, "revision": pin.revision, "licence": pin.licence}
    with work_folder(out.parent / f"download-{pin.name}") as work:
        try:
            found = fetch_set(pin, work.path)
        except AccessError as error:
            write_record(out, {**origin, "files": [], "rows": [], "not_run": str(error)[:REASON]})
            return str(error)
        rows = [row for name in sorted(found) for row in _rows(pin.name, work.path / name, work.path / "cache")]
    files = [file_entry(name, digest) for name, digest in sorted(found.items())]
    write_record(out, {**origin, "files": files, "rows": rows, "not_run": ""})
    return ""


def read_knowledge(path: Path) -> Knowledge:
    """Read what ``fetch_knowledge`` wrote.

    Raises:
        FormatError: when the file is none.
    """
    record = read_record(path)
    # Its name is the digest of the form that earlier versions wrote, by which answers go.
    name = digest_bytes(canonical({**record, "record": VERSION})).sha256
    return Knowledge(record["name"], name, tuple(record["rows"]), record["not_run"])


def _rows(name: str, file: Path, cache: Path) -> list[dict[str, Any]]:
    datasets = import_datasets()
    datasets.disable_progress_bars()
    read = datasets.Dataset.from_csv if file.suffix == ".csv" else datasets.Dataset.from_parquet
    try:
        table = read(str(file), cache_dir=str(cache))
        return [_mmlu(row) if name == MMLU else {key: str(row[key]) for key in GPQA} for row in table]
    except (datasets.exceptions.DatasetsError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{file.name} does not hold the questions of {name}: pin another commit") from error


def _mmlu(row: Mapping[str, Any]) -> dict[str, Any]:
    question, subject, choices, answer = (row[key] for key in ("question", "subject", "choices", "answer"))
    if not (SUBJECT.fullmatch(subject) and len(choices) == 4 and 0 <= int(answer) < 4):
        raise ValueError
    return {"question": str(question), "subject": subject, "choices": list(map(str, choices)), "answer": int(answer)}
