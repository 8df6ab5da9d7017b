"""Audits over HTTP: few requests, no faster than allowed, and gone on with after a kill. No compiler is needed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.audit.question import Question, audit
from requant.audit.recipe.imatrix import ImatrixReport
from requant.audit.report import as_document
from requant.audit.weights.journal import Journal
from requant.ground.errors import SourceError, ToolError
from requant.places import spans
from requant.places.pace import BURST, Rate
from requant.places.spans import MAX_SPANS
from support.clocks import SetClock
from support.command import PYTHONPATH
from support.gguf_files import write_imatrix
from support.hub import Fault, LoopbackHub
from support.load import COLUMNS, COUNT, QUANT, WEIGHTS, serve, write_pair

CODE = "from requant.audit.weights import journal; journal.WORTH = 0.0; from requant.cli.main import main; main(prog_name='requant')"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of a quant and of its weights."""
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def served(
    clients: LoopbackHub, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LoopbackHub:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(spans, "GAP", 0)
    return serve(clients, pair)


def audited(**options: Any) -> dict[str, Any]:
    report = audit(Question(QUANT, WEIGHTS, **{"rows": 900, "seed": 5} | options))
    assert not isinstance(report, ImatrixReport)
    return as_document(report)


def test_a_sample_asks_for_each_tensor_once(served: LoopbackHub) -> None:
    """On each side, and no oftener where addresses run out; a server that gives one range at a time costs a request a row."""
    found = audited()
    assert found["answers"]["weights"]["status"] == "exact" and found["rows"] > 900
    drawn = [tensor["rows"] for tensor in found["tensors"]]
    least = 2 * sum(-(-rows // MAX_SPANS) for rows in drawn)
    assert found["run"]["requests"] <= least + 8, "and the headers"
    assert len(served.seen("*/resolve/*")) == 2, "every address is asked for once"
    served.signing.uses = 7
    served.requests.clear()
    again = audited(jobs=1)
    assert again["tensors"] == found["tensors"] and again["run"]["requests"] <= least + 8 + served.signing.given
    assert len(served.seen("*/resolve/*")) == served.signing.given >= found["run"]["requests"] // 7
    served.signing.uses, served.several = None, "whole"
    alone = audited()
    assert alone["tensors"] == found["tensors"] and alone["run"]["requests"] > 4 * found["run"]["requests"]


@pytest.mark.parametrize("rows", [None, 900])
def test_all_that_is_read_is_read_at_the_rate(
    served: LoopbackHub, monkeypatch: pytest.MonkeyPatch, rows: int | None
) -> None:
    clock = SetClock()
    monkeypatch.setattr("requant.audit.question.Rate", lambda most: Rate(most, clock.clock))
    found = audited(rows=rows, max_rate=100_000, jobs=1)
    assert found["answers"]["weights"]["status"] == "exact"
    took = found["run"]["bytes_fetched"] / 100_000
    assert took - BURST - 0.01 <= sum(clock.slept) <= took and took > 10
    assert served.seen()


@pytest.mark.parametrize(
    ("rate", "most"), [("100kB", 100_000), ("2.5MB", 2_500_000), ("2.5 MB/s", 2_500_000), ("1000000", 1_000_000)]
)
def test_rates_as_they_are_written(command: Callable[..., Any], rate: str, most: int) -> None:
    assert command("--max-rate", rate).max_rate == most


@pytest.mark.parametrize("rate", ["fast", "", "0", "99kB", "-1", "1e9", "2,5MB", "1KiB", "١MB"])
def test_what_is_no_rate(command: Callable[..., Any], rate: str) -> None:
    said = command("--max-rate", rate)
    assert f"{rate!r} is no rate: write bytes per second, from 100.0 kB on, such as 2.5MB" in said


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The question that the command asks, or what it says where it asks none."""
    from click.testing import CliRunner

    from requant.cli.main import main

    asked: list[Question] = []

    def ask(question: Question) -> None:
        asked.append(question)
        raise SourceError("asked")

    monkeypatch.setattr("requant.audit.question.audit", ask)

    def run(*options: str) -> Any:
        done = CliRunner().invoke(main, ["audit", "x.gguf", *options])
        assert done.exit_code == (3 if asked else 2)
        return asked[0] if asked else done.stderr

    return run


class Run:
    """The command in processes of its own, on a machine without a compiler."""

    def __init__(self, hub: LoopbackHub, folder: Path) -> None:
        self.hub, self.folder, self.journals = hub, folder, folder / "cache" / "requant" / "audits"
        (folder / "path").mkdir()

    def start(self) -> subprocess.Popen[str]:
        env = {
            "PATH": str(self.folder / "path"), "PYTHONPATH": os.pathsep.join([PYTHONPATH, *sys.path]), "HF_ENDPOINT": self.hub.url,
            "HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache"), "COLUMNS": "200",
        }  # fmt: skip
        command = [sys.executable, "-c", CODE, "audit", QUANT, "--source", WEIGHTS, "--full", "--jobs", "1", "--json"]
        return subprocess.Popen(
            [*command, str(self.folder / "report.json")], env=env, cwd=self.folder, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def finished(self) -> tuple[dict[str, Any], str]:
        with self.start() as process:
            said = process.communicate(timeout=100)[0]
        assert process.returncode == 3, said  # these files say nothing of a model
        return json.loads((self.folder / "report.json").read_bytes()), said

    def killed(self) -> int:
        """How many tensors it had finished when it was killed."""
        with self.start() as process:
            deadline = time.monotonic() + 60
            while (count := self.lines()) < 4 and time.monotonic() < deadline:
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        return count

    def lines(self) -> int:
        return sum(path.read_text().count("\n") for path in self.journals.glob("*")) if self.journals.exists() else 0


def test_a_full_audit_goes_on_after_a_kill(hub: LoopbackHub, pair: tuple[Path, Path], tmp_path: Path) -> None:
    run = Run(serve(hub, pair), tmp_path)
    slow = hub.faults.add(Fault("/cdn/*quant.gguf*", "slow", rate=1 << 17))
    least = run.killed()
    assert 4 <= least < COUNT and slow.hits
    hub.faults.clear()
    found, said = run.finished()
    assert "going on with an audit that was broken off" in said
    assert least <= found["run"]["derived_before"] < COUNT
    assert f"{found['run']['derived_before']} tensors derived before it was broken off" in said
    assert found["answers"]["weights"]["status"] == "exact" and found["answers"]["coverage"]["status"] == "full"
    assert found["subject"]["sha256"] == hashlib.sha256((pair[0] / "quant.gguf").read_bytes()).hexdigest()
    assert not run.lines()
    whole, said = run.finished()
    assert "derived_before" not in whole["run"] and "going on" not in said
    assert {**whole, "run": None} == {**found, "run": None}


def test_another_question_has_another_journal(
    served: LoopbackHub, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[Path] = []

    def noted(path: Path) -> Journal:
        paths.append(path)
        return Journal(path)

    monkeypatch.setattr("requant.audit.question.Journal", noted)
    for options in ({}, {"jobs": 1, "exact": True}):
        audited(rows=None, **options)
    assert paths[0] == paths[1], "what decides nothing"
    monkeypatch.chdir(tmp_path)
    audited(rows=None)
    served.add_model("org/Small", pair[1], commit="5" * 40)
    audited(rows=None)
    monkeypatch.setattr("numpy.__version__", "9.9")
    audited(rows=None)
    for number in (1, 2):
        squares = np.full((1, COLUMNS), number, np.float32)
        name = "blk.0.attn_q.weight"
        matrix = {f"{name}.in_sum2": squares, f"{name}.counts": np.ones((1, 1), np.float32)}
        audited(rows=None, imatrix=str(write_imatrix(tmp_path / "imatrix.gguf", matrix)))
    with pytest.raises(ToolError):  # the module is of another llama.cpp, and there is no compiler
        audited(rows=None, toolchain="llama.cpp-4227c9be4268")
    assert len(set(paths[1:])) == 7
    assert {path.parent for path in paths} == {tmp_path / "cache" / "requant" / "audits"}
    assert not (tmp_path / "cache").exists()
