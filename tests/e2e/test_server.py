"""requant.toolchain.server with the real llama-server: answers, refusals, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from requant.documents.records import Product
from requant.evaluation.behaviour.asking import run
from requant.evaluation.behaviour.endpoint import Endpoint, Settings
from requant.evaluation.behaviour.models import Asking, measure_behaviour
from requant.evaluation.behaviour.suite import read_suite
from requant.ground.errors import ToolError
from requant.ground.programs import Run
from requant.pipeline.settings import Behaviour
from requant.toolchain.instrument import Instrument
from requant.toolchain.server import serve
from support.checkout import ROOT, TOOLCHAINS
from support.endpoint.suites import lines
from support.workplace import TOOLCHAIN, Workplace

BUILT = TOOLCHAINS / TOOLCHAIN
SERVER, NATIVE = BUILT / "strict" / "bin" / "llama-server.json", BUILT / "native" / "build.json"
QUANT = "Tiny-Qwen3-Q4_K_M.gguf"
# Shorter than the model's own, whose length stays.
NO_TOOLS = (
    "{% if tools %}{{ raise_exception('this model calls no tools') }}{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
)


def llama(log: Path) -> Instrument:
    """llama-server on the native backend."""
    return Instrument.open(SERVER, NATIVE, Run(2, log))


def test_a_server_answers_and_stops(demo: Workplace, tmp_path: Path) -> None:
    quant = demo.release / QUANT
    with serve(quant, llama(tmp_path / "log"), 512) as server:
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        answer = httpx2.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).json()
        assert answer["usage"]["completion_tokens"] > 0
        assert server.load_seconds > 0
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{server.url}/health")


def test_a_server_that_cannot_load(demo: Workplace, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with (
        pytest.raises(ToolError, match=r"llama-server ended .*; its log is "),
        serve(broken, llama(tmp_path / "log"), 512),
    ):
        pass


def served_then_killed(quant: Path, folder: Path) -> None:
    with serve(quant, llama(folder / "log"), 512):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        [server] = [pid for pid in children if b"llama-server" in Path("/proc", pid, "cmdline").read_bytes()]
        os.kill(int(server), signal.SIGKILL)
        while "zombie" not in Path("/proc", server, "status").read_text():
            time.sleep(0.01)


def test_a_server_that_dies_is_an_error(demo: Workplace, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="llama-server ended while it was asked"):
        served_then_killed(demo.release / QUANT, tmp_path)


OWNER = """
import sys, time
from pathlib import Path
from requant.toolchain.server import serve
from requant.ground.programs import Run
from requant.toolchain.instrument import Instrument
quant, tool, backend, log = map(Path, sys.argv[1:])
with serve(quant, Instrument.open(tool, backend, Run(2, log)), 512) as server:
    print(server.url, flush=True)
    time.sleep(600)
"""


def test_a_server_ends_with_its_owner(demo: Workplace, tmp_path: Path) -> None:
    quant = demo.release / QUANT
    command = [sys.executable, "-c", OWNER, quant, SERVER, NATIVE, tmp_path / "log"]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, cwd=ROOT) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        assert httpx2.get(f"{url}/health").status_code == 200
        os.kill(owner.pid, signal.SIGKILL)
    for _ in range(100):
        try:
            httpx2.get(f"{url}/health", timeout=1)
        except httpx2.TransportError:
            return
        time.sleep(0.1)
    pytest.fail("the server outlives its owner")


# Refusals: an item that the server cannot answer is an error of its own, and the others go on.


def asked(model: Path, suite: Path, context: int) -> tuple[dict[str, str], dict[str, str]]:
    """A suite, put to ``model``: outcomes and reasons by item."""
    questions, out = read_suite(suite), suite.parent / "out.jsonl"
    with serve(model, llama(suite.parent / "log"), context) as server:
        endpoint = Endpoint(f"{server.url}/v1")
        results = run(questions, questions.items, endpoint, Settings("m"), out, 4)
        endpoint.close()
    return dict(results.outcomes), {line["id"]: line["reason"] for line in lines(out)[1:]}


def test_a_context_that_is_too_small(demo: Workplace, tmp_path: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    items = [json.loads(line) for line in (ROOT / "suites" / "forced.jsonl").read_text().splitlines()[-2:]]
    items[0]["messages"][0]["content"] = "What is six times seven? " * 100
    suite.write_text("".join(f"{json.dumps(item)}\n" for item in items))
    outcomes, reasons = asked(demo.release / QUANT, suite, 256)
    assert outcomes == {"number": "error", "choice": "passed"}
    assert "the server answered 400" in reasons["number"] and "context size" in reasons["number"]


def test_a_template_that_rejects_tools(demo: Workplace, tmp_path: Path) -> None:
    data = (demo.release / QUANT).read_bytes()
    key = b"tokenizer.chat_template" + (8).to_bytes(4, "little")
    start = data.index(key) + len(key)
    size = int.from_bytes(data[start : start + 8], "little")
    template = NO_TOOLS.encode().ljust(size)
    assert len(template) == size
    model = tmp_path / "no-tools.gguf"
    model.write_bytes(data[: start + 8] + template + data[start + 8 + size :])
    suite = Path(shutil.copy(ROOT / "suites" / "forced.jsonl", tmp_path))
    outcomes, reasons = asked(model, suite, 4096)
    assert [outcomes[name] for name in ("call", "number", "choice")] == ["error", "passed", "passed"]
    assert "the server answered 400" in reasons["call"] and "this model calls no tools" in reasons["call"]


# Questions of a recipe.


def test_answers_belong_to_one_way_of_asking(demo: Workplace, tmp_path: Path) -> None:
    """The same questions are asked once; more of them go on; with other settings they are asked again."""
    suite, answers = tmp_path / "suite.jsonl", tmp_path / "answers"
    suite.write_text("".join((ROOT / "suites" / "forced.jsonl").read_text().splitlines(keepends=True)[-2:]))
    model = Product(demo.release / QUANT, demo.results / "quants" / "Q4_K_M.json")

    def measure(**settings: Any) -> dict[str, int]:
        how = Behaviour(**{"variant": "native", "suites": (), "thinking": "default", **settings})
        asking = Asking(llama(tmp_path / "log"), None, how, 512, answers)
        measure_behaviour("Q4_K_M", model, [suite], asking, tmp_path / "record.json")
        return {path.name: len(lines(path)) - 1 for path in answers.iterdir()}

    [(name, count)] = measure(items=1).items()
    first = (answers / name).read_bytes()
    assert count == 1 and measure(items=1) == {name: 1} and (answers / name).read_bytes() == first
    assert measure(items=500) == {name: 2} and (answers / name).read_bytes().startswith(first)
    for number, changed in enumerate(({"max_tokens": 32}, {"thinking": "off"}), 2):
        found = measure(**changed)
        assert len(found) == number and set(found.values()) == {2}
