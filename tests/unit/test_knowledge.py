"""requant.evaluation.behaviour.knowledge with the real clients against the loopback Hub: rows, or why there are none."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from hub import Fault, LoopbackHub
from requant.documents.pins import SuitePin
from requant.evaluation.behaviour.knowledge import GPQA, read_knowledge
from requant.ground.digests import Expected
from unit.conftest import known

Library = Callable[..., str]
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
    files = {"gpqa_diamond.csv": Expected(file.stat().st_size)}
    return SuitePin("gpqa_diamond", "Idavidrein/gpqa", commit, "CC-BY-4.0", None, files)


@pytest.fixture
def fetch(library: Library, tmp_path: Path) -> Callable[..., str]:
    def run(pin: SuitePin, **env: str) -> str:
        return library(
            "requant.evaluation.behaviour.knowledge.fetch_knowledge", pin, tmp_path / "suites" / "out.json", env=env
        )

    return run


def test_the_rows_of_mmlu(hub: LoopbackHub, fetch: Callable[..., str], tmp_path: Path) -> None:
    hub.faults.add(Fault("*parquet", kind="status", status=503, times=1))
    assert fetch(serve_mmlu(hub, tmp_path)) == ""
    found = read_knowledge(tmp_path / "suites" / "out.json")
    assert (found.name, list(found.rows), found.not_run) == ("mmlu", MMLU, "")
    assert [path.name for path in (tmp_path / "suites").iterdir() if not path.name.startswith(".")] == ["out.json"]


def test_gpqa_with_a_token(hub: LoopbackHub, fetch: Callable[..., str], tmp_path: Path) -> None:
    assert fetch(serve_gpqa(hub, tmp_path, token="hf_good", gated=True), HF_TOKEN="hf_good") == ""
    found = read_knowledge(tmp_path / "suites" / "out.json")
    assert [tuple(row) for row in found.rows] == [tuple(sorted(GPQA))] * 3
    # A column of numbers stays text.
    assert [row["Correct Answer"] for row in found.rows] == ["0", "7", "14"]
    assert "never to leave" not in (tmp_path / "suites" / "out.json").read_text()


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_gpqa_without_access(hub: LoopbackHub, fetch: Callable[..., str], tmp_path: Path, token: str | None) -> None:
    pin = serve_gpqa(hub, tmp_path, token="hf_good", gated=True)
    assert fetch(pin, **({"HF_TOKEN": token} if token else {})) == ""
    found = read_knowledge(tmp_path / "suites" / "out.json")
    assert found.rows == ()
    assert found.not_run.startswith("Idavidrein/gpqa@") and "is gated: accept its terms on its page" in found.not_run


def test_what_cannot_be_had_is_no_reason(hub: LoopbackHub, fetch: Callable[..., str], tmp_path: Path) -> None:
    """A hub that is down is no fact about a release: run again."""
    pin = serve_mmlu(hub, tmp_path)
    said = fetch(pin, HF_ENDPOINT="http://127.0.0.1:9")
    assert said.startswith("SourceError: cais/mmlu@") and "cannot be reached: name a mirror in HF_ENDPOINT" in said
    said = fetch(replace(pin, revision="0" * 40))
    assert said.startswith("SourceError: ") and "correct the pin's revision (404)" in said
    assert not (tmp_path / "suites" / "out.json").exists()


def test_another_file_than_the_pinned_one(hub: LoopbackHub, fetch: Callable[..., str], tmp_path: Path) -> None:
    pin = serve_mmlu(hub, tmp_path)
    [name] = pin.files
    said = fetch(replace(pin, files={name: Expected(pin.files[name].size, "0" * 64)}))
    assert said.startswith("DigestError: ") and "it is another file" in said
    pin = serve_gpqa(hub, tmp_path)
    said = fetch(replace(pin, files={"gpqa_diamond.csv": Expected(7)}))
    assert said.startswith("DigestError: ") and "records size" in said
    assert not (tmp_path / "suites" / "out.json").exists()


BAD = {
    "a column is missing": [{key: value for key, value in MMLU[0].items() if key != "answer"}],
    "an answer that is none": [{**MMLU[0], "answer": 4}],
    "three choices": [{**MMLU[0], "choices": ["1", "2", "3"]}],
    "a subject that is a path": [{**MMLU[0], "subject": "../../etc"}],
    "a question without a subject": [{**MMLU[0], "subject": None}],
}


@pytest.mark.parametrize("name", BAD)
def test_rows_of_another_form(hub: LoopbackHub, fetch: Callable[..., str], tmp_path: Path, name: str) -> None:
    said = fetch(serve_mmlu(hub, tmp_path, BAD[name]))
    assert said.startswith("FormatError: ") and "does not hold the questions of mmlu: pin another commit" in said
    assert not (tmp_path / "suites" / "out.json").exists()


def test_a_damaged_file(hub: LoopbackHub, fetch: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "served" / "all.parquet"
    file.parent.mkdir()
    file.write_bytes(b"PAR1" + json.dumps(MMLU).encode())
    commit = hub.add_dataset("cais/mmlu", file.parent).commit
    said = fetch(SuitePin("mmlu", "cais/mmlu", commit, "MIT", None, {"all.parquet": known(file)}))
    assert said.startswith("FormatError: all.parquet does not hold the questions of mmlu")
