"""MMLU and GPQA through the real EvalScope: against a scripted server, and in a whole run with the real one."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from requant.documents.evaluation import read_evaluation
from requant.documents.results import Results, read_results
from requant.evaluation.behaviour.endpoint import Settings
from requant.evaluation.behaviour.harness import Harness, ask_knowledge
from requant.evaluation.behaviour.knowledge import GPQA, Knowledge, read_knowledge
from requant.ground.errors import ToolError
from requant.release.verify import verify_release
from support.checkout import ROOT, alone
from support.endpoint import Reply, ScriptedEndpoint, message
from support.endpoint.suites import lines
from support.hub import LoopbackHub
from support.knowledge import serve_gpqa, serve_mmlu
from support.workplace import Workplace, tiny_recipe

pytestmark = pytest.mark.long
SUBJECTS = ("virology", "anatomy", "virology", "astronomy")


@pytest.fixture(scope="module")
def harness(demo: Workplace) -> Path:
    """The record of EvalScope's environment, which the workflow installs beside the demo's."""
    record = "results/toolchains/harness/environment.json"
    with alone():
        demo.run(record)
    return demo.folder / record


def mmlu(count: int) -> Knowledge:
    """Questions ``q0``, ``q1``, … whose right answers are B."""
    rows = [
        {"question": f"q{number}", "subject": SUBJECTS[number % 4], "choices": ["w", "x", "y", "z"], "answer": 1}
        for number in range(count)
    ]
    return Knowledge("mmlu", "a" * 64, tuple(rows), "")


@pytest.fixture
def ask(harness: Path, tmp_path: Path) -> Callable[..., Results]:
    def run(
        knowledge: Knowledge, server: ScriptedEndpoint, thinking: str = "default", max_tokens: int | None = None
    ) -> Results:
        rows, how = [*enumerate(knowledge.rows)], Settings("a model", thinking)
        scope = Harness(harness, tmp_path / "log")
        return ask_knowledge(knowledge, rows, server.url, how, max_tokens, scope, tmp_path / "out.jsonl")

    return run


def test_every_answer_has_its_outcome(ask: Callable[..., Results], tmp_path: Path) -> None:
    with ScriptedEndpoint() as server:
        replies = {
            "passed": [message("Step by step.\nANSWER: B"), message("**Answer: B**"), message("B", reasoning="A? No.")],
            "failed": [message("ANSWER: A"), message("no idea"), message("ANSWER: E"), message("", reasoning="ANSWER: B")],
            "truncated": [message("ANSWER: B", finish="length"), message("", reasoning="so far", finish="length")],
            "error": [Reply(b'{"error": "too long"}', status=400)],
        }  # fmt: skip
        expected = [(outcome, reply) for outcome, each in replies.items() for reply in each]
        expected += [("passed", Reply(b"busy", status=503)), ("passed", Reply(b"{broken"))]
        for number, (_, reply) in enumerate(expected):
            server.say(f"q{number}", reply, *([message("ANSWER: B")] if number >= len(expected) - 2 else []))
        results = ask(mmlu(len(expected)), server, "on", 64)
        assert results.outcomes == {f"mmlu-{number}": outcome for number, (outcome, _) in enumerate(expected)}
        [request] = [request for request in server.requests if "q0" in request["messages"][-1]["content"].splitlines()]
        assert request["chat_template_kwargs"] == {"enable_thinking": True}
        assert (request["model"], request["max_tokens"], request["temperature"]) == ("a model", 64, 0)
    header, *kept = lines(tmp_path / "out.jsonl")
    assert header["harness"].startswith("EvalScope 1.") and header["thinking"] == "on"
    assert read_results(tmp_path / "out.jsonl").outcomes == results.outcomes
    first, reasoned = kept[0], kept[2]
    assert first["reason"] == "it chose B, and B is right" and first["part"] == "content" and first["seconds"] > 0
    assert "q0" in first["request"]["messages"][0]["content"].splitlines() and first["request"]["seed"] == 0
    assert "A? No." in json.dumps(reasoned["response"])
    assert kept[4]["reason"] == "it chose nothing, and B is right"
    assert kept[9]["reason"] == "EvalScope got no answer, see its log" and (tmp_path / "log").exists()


def test_a_second_run_asks_what_has_no_answer(ask: Callable[..., Results], tmp_path: Path) -> None:
    with ScriptedEndpoint() as server:
        server.otherwise = message("ANSWER: B")
        server.say("q1", Reply(b"no", status=400))
        assert ask(mmlu(5), server).outcomes["mmlu-1"] == "error"
        server.say("q1", message("ANSWER: B"))
        predictions = next((tmp_path / "out").glob("run/predictions/model/mmlu_virology.jsonl"))
        # As a run leaves it that is killed while it writes.
        predictions.write_bytes(predictions.read_bytes() + b'{"index": 1, "mod')
        asked = len(server.requests)
        assert set(ask(mmlu(5), server).outcomes.values()) == {"passed"}
        assert len(server.requests) == asked + 1
        other = tuple({**row, "question": row["question"].replace("q", "other ")} for row in mmlu(5).rows)
        with pytest.raises(ToolError, match="EvalScope kept answers to other questions: remove its folder"):
            ask(Knowledge("mmlu", "a" * 64, other, ""), server)


CHILD = """
import pickle, sys
from requant.evaluation.behaviour.harness import ask_knowledge
ask_knowledge(*pickle.load(sys.stdin.buffer))
"""


def test_a_killed_run_goes_on(harness: Path, ask: Callable[..., Results], tmp_path: Path) -> None:
    with ScriptedEndpoint() as server:
        server.otherwise = Reply(message("ANSWER: B").body, wait=0.3)
        knowledge, how, scope = mmlu(24), Settings("a model", "default"), Harness(harness, tmp_path / "log")
        task = (knowledge, [*enumerate(knowledge.rows)], server.url, how, None, scope, tmp_path / "out.jsonl")
        with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, start_new_session=True) as child:
            assert child.stdin is not None
            child.stdin.write(pickle.dumps(task))
            child.stdin.close()
            while len(server.requests) < 12:
                assert child.poll() is None
                time.sleep(0.02)
            os.killpg(child.pid, signal.SIGKILL)
        assert set(ask(knowledge, server).outcomes.values()) == {"passed"}
        # Only the four on their way, and what was not yet on the disk, are asked twice.
        assert len(server.requests) <= 24 + 8


def test_gpqa(ask: Callable[..., Results], tmp_path: Path) -> None:
    rows = tuple(dict(zip(GPQA, [f"q{number}", "right", "one", "two", "three"], strict=True)) for number in range(8))
    knowledge = Knowledge("gpqa_diamond", "b" * 64, rows, "")
    with ScriptedEndpoint() as server:
        ask(knowledge, server)
        letters = set()
        for request in list(server.requests):
            text = request["messages"][-1]["content"].splitlines()
            [question] = [line for line in text if line.startswith("q")]
            letters.add(letter := next(line[0] for line in text if line.endswith(") right")))
            server.say(question, message(f"ANSWER: {letter}"))
        # The choices are shuffled, for each question in its own way, and alike in every run.
        assert len(letters) > 1
        shutil.rmtree(tmp_path / "out")
        assert ask(knowledge, server).outcomes == {f"gpqa_diamond-{number}": "passed" for number in range(8)}


def behaviour_recipe(**changes: Any) -> dict[str, Any]:
    asked = {"arithmetic": "native", "suites": ["mmlu", "gpqa_diamond"], "thinking": "default", "items": 2}
    return tiny_recipe(evaluation={"behaviour": {**asked, "max_tokens": 8}}, **changes)


def test_in_a_release(harness: Path, packages: Path, make_workplace: Callable[..., Workplace], tmp_path: Path) -> None:
    """MMLU is asked; GPQA is gated, so its row says why it was not, until there is a token."""
    with LoopbackHub() as hub:
        table = yaml.safe_load((ROOT / "config" / "pins.yaml").read_text())
        gated = {"token": "hf_good", "gated": True}
        for pin in (serve_mmlu(hub, tmp_path), serve_gpqa(hub, tmp_path, **gated)):
            files = {name: {"size": known.size} for name, known in pin.files.items()}
            table["suites"][pin.name] |= {"revision": pin.revision, "files": files}
        (tmp_path / "pins.yaml").write_text(yaml.safe_dump(table))
        work = make_workplace(recipe=behaviour_recipe(pins=str(tmp_path / "pins.yaml")))
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "TQDM_DISABLE": "1"}
        said = work.run(**env)
        assert "not run: Idavidrein/gpqa@" in said
        again = ("--forcerun", "results/suites/gpqa_diamond.json")
        assert f"then run again with {' '.join(again)}" in said
        found = read_evaluation(work.release / "evaluation.json")["behaviour"]
        [suite] = found["suites"]
        assert (suite["name"], suite["of"]) == ("mmlu", 2) and suite["harness"].startswith("EvalScope ")
        assert [model["label"] for model in suite["models"]] == ["BF16", "Q4_K_M"]
        # A random model never stops by itself.
        assert all(model["truncated"] == model["items"] == 2 for model in suite["models"])
        assert [entry["name"] for entry in found["not_run"]] == ["gpqa_diamond"]
        card = (work.release / "README.md").read_text()
        assert "| MMLU | done |" in card and "| GPQA-Diamond | not run: Idavidrein/gpqa@" in card
        assert verify_release(work.release).verdict == "agrees"
        work.run(again[1], *again, **env, HF_TOKEN="hf_good")
        assert len(read_knowledge(work.folder / again[1]).rows) == 3
        # The evaluation is older than its questions now.
        assert "measure_behaviour" in work.run("--dry-run", **env)
