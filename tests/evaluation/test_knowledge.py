"""requant.evaluation.behaviour.knowledge with the real clients against the loopback Hub: rows, or why there are none."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from requant.documents.pins import SuitePin
from requant.evaluation.behaviour.knowledge import GPQA, read_knowledge
from requant.ground.digests import Known
from support.files import known
from support.hub import Fault, LoopbackHub
from support.knowledge import MMLU, serve_gpqa, serve_mmlu

Library = Callable[..., str]


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
    said = fetch(replace(pin, files={name: Known(pin.files[name].size, "0" * 64)}))
    assert said.startswith("PinnedBytesError: ") and "it is another file" in said
    pin = serve_gpqa(hub, tmp_path)
    said = fetch(replace(pin, files={"gpqa_diamond.csv": Known(7)}))
    assert said.startswith("PinnedBytesError: ") and "records size" in said
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
