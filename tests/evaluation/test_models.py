"""requant.evaluation.behaviour.models on a small server in llama-server's place: what a rule does with one that fails."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from requant.documents.records import Product, file_entry, read_record, write_record
from requant.evaluation.behaviour.models import Asking, collect_behaviour, measure_behaviour
from requant.ground.digests import Digest, digest_file
from requant.ground.errors import SourceError, ToolError
from requant.ground.exit_codes import ExitCode, exit_code
from requant.ground.programs import Run
from requant.pipeline.settings import Behaviour
from requant.toolchain.build import Built
from requant.toolchain.instrument import Instrument
from support.endpoint.suites import lines, numbers

LIBRARY = "libggml-cpu.so"
# Says what llama-server says of itself; the first ANSWERS questions get an answer, the others what happens in THEN.
SERVER = """#!{python}
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self):
        self.reply(200, {{"data": []}})

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
        Handler.asked += 1
        if Handler.asked > {answers}:
            {then}
        self.reply(200, {{"choices": [{{"message": {{"content": question[1:]}}}}]}})

    def reply(self, status, document):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_request(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
print("load_backend: loaded CPU backend from", os.path.join(os.getcwd(), "{library}"))
print(f"main: server is listening on http://127.0.0.1:{{server.server_port}}", flush=True)
server.serve_forever()
"""
FAILS = 'return self.reply(500, {"error": {"message": "oops"}})'
DIES = "os._exit(1)"


class World:
    """A model, suites, and a server that is made anew for each call of ``measure``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.record = folder, folder / "record.json"
        (folder / LIBRARY).touch()
        model = folder / "model.gguf"
        model.write_bytes(b"GGUF")
        write_record(folder / "model.json", {"file": file_entry(model.name, digest_file(model))})
        self.model = Product(model, folder / "model.json")

    def measure(self, suite: Path, answers: int, then: str = FAILS) -> None:
        program = self.folder / "llama-server"
        program.write_text(SERVER.format(python=sys.executable, answers=answers, then=then, library=LIBRARY))
        program.chmod(0o755)
        tool = Built(self.folder, {}, {"commit": "0" * 40})
        backend = Built(self.folder, {LIBRARY: Digest(0, "")}, {"variant": "native"})
        harness = self.folder / "harness.json"
        write_record(harness, {"version": "1"})
        instrument = Instrument(tool, backend, Run(1, self.folder / "log"))
        asking = Asking(instrument, harness, Behaviour("native", (), "default"), 512, self.folder / "answers")
        measure_behaviour("Q4_K_M", self.model, [suite], asking, self.record)

    def answers(self) -> dict[str, str]:
        [path] = (self.folder / "answers").iterdir()
        return {line["id"]: line["outcome"] for line in lines(path)[1:]}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    nap = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: nap(min(seconds, 0.01)))
    return World(tmp_path)


def test_a_server_that_fails_ends_the_rule_and_what_it_answered_is_kept(world: World, tmp_path: Path) -> None:
    suite = numbers(tmp_path, 60)
    with pytest.raises(SourceError, match=r"answers no question at all \(the server answered 500 \(oops\)\)") as found:
        world.measure(suite, answers=8)
    assert exit_code(found.value) == ExitCode.UNCHECKED
    kept = world.answers()
    assert [*kept.values()].count("passed") == 8 and len(kept) < 20
    assert not world.record.exists()
    world.measure(suite, answers=52)
    assert read_record(world.record)["suites"][0]["outcomes"] == {f"q{index}": "passed" for index in range(60)}


def test_a_server_that_died_is_called_that(world: World, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="llama-server ended while it was asked; its log is "):
        world.measure(numbers(tmp_path, 60), answers=8, then=DIES)
    assert [*world.answers().values()].count("passed") == 8


FLIPS = {0: "1.0000", 2: "0.5000", 14: "0.0001", 15: "6.104e-05", 40: "1.819e-12"}
"""Questions that only BF16 answers rightly, and their exact McNemar p value, 2 ** (1 - flips)."""


@pytest.mark.parametrize(("flips", "p"), FLIPS.items())
def test_a_small_p_value_is_no_zero(tmp_path: Path, flips: int, p: str) -> None:
    paths = []
    for label, passed in (("BF16", 50), ("Q4_K_M", 50 - flips)):
        outcomes = {f"q{index}": "passed" if index < passed else "failed" for index in range(50)}
        suite = {"name": "s", "sha256": "0" * 64, "harness": None, "of": 50, "outcomes": outcomes}
        paths.append(tmp_path / label)
        write_record(paths[-1], {"label": label, "file": {}, "protocol": {}, "suites": [suite]})
    [suite] = collect_behaviour(paths)["suites"]
    assert suite["models"][1]["pair"] == {"both": 50, "lost": flips, "won": 0, "p": p}


def test_a_harness_is_not_started_beside_a_server_that_fails(world: World, tmp_path: Path) -> None:
    suite = tmp_path / "mmlu.json"
    row: dict[str, Any] = {"question": "q0", "subject": "anatomy", "choices": ["w", "x", "y", "z"], "answer": 1}
    write_record(suite, {"name": "mmlu", "rows": [row], "not_run": ""})
    with pytest.raises(SourceError, match="answers no question at all"):
        world.measure(suite, answers=0)
    assert not (tmp_path / "answers").exists()
