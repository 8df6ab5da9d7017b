"""MMLU and GPQA in miniature, on the loopback Hub, with pins for them."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from requant.documents.pins import SuitePin
from requant.evaluation.behaviour.knowledge import GPQA
from requant.ground.digests import Known
from support.files import known
from support.hub import LoopbackHub

MMLU = [
    {"question": "What is 1 + 1?", "subject": "elementary_mathematics", "choices": ["1", "2", "3", "4"], "answer": 1},
    {"question": "Which is a virus?", "subject": "virology", "choices": ["HIV", "yeast", "moss", "ant"], "answer": 0},
]


def serve_mmlu(hub: LoopbackHub, folder: Path, rows: Sequence[Mapping[str, Any]] = MMLU) -> SuitePin:
    """A data set shaped like cais/mmlu, and its pin."""
    file = folder / "mmlu" / "all" / "test-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    commit = hub.add_dataset("cais/mmlu", folder / "mmlu").commit
    return SuitePin("mmlu", "cais/mmlu", commit, "MIT", None, {"all/test-00000-of-00001.parquet": known(file)})


def serve_gpqa(hub: LoopbackHub, folder: Path, **options: Any) -> SuitePin:
    """A data set shaped like Idavidrein/gpqa, and its pin, which leaves the digest to the Hub."""
    file = folder / "gpqa" / "gpqa_diamond.csv"
    file.parent.mkdir(parents=True)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["Record ID", *GPQA, "Writer's remark"])
        writer.writeheader()
        for number in range(3):
            answers = [str(7 * number), *(f"wrong {index}" for index in range(3))]
            row = dict(zip(GPQA, [f"What is 7 × {number}?", *answers], strict=True))
            writer.writerow({"Record ID": f"rec{number}", **row, "Writer's remark": "never to leave the file"})
    commit = hub.add_dataset("Idavidrein/gpqa", file.parent, **options).commit
    files = {"gpqa_diamond.csv": Known(file.stat().st_size)}
    return SuitePin("gpqa_diamond", "Idavidrein/gpqa", commit, "CC-BY-4.0", None, files)
