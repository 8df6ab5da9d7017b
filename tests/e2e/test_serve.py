"""requant serve with the real llama-server, asked by the real ``openai`` client; and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from requant.ground.exit_codes import ExitCode
from requant.toolchain.serving import PARALLEL
from support.checkout import ROOT, TOOLCHAINS
from support.command import run
from support.served import Serving, brief, free_port, gone, serving
from support.workplace import QUANT, TOOLCHAIN, Workplace

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
REQUEST = json.loads((ROOT / "suites" / "forced.jsonl").read_text().splitlines()[0])["request"]
"""Leaves a random model no other choice than a call."""
LEVEL = {"type": "object", "properties": {"level": {"type": "integer", "enum": [3]}}, "required": ["level"]}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "set_light", "parameters": {**LEVEL, "additionalProperties": False}}}
]
THINKS = 'root ::= "<think>\\nSix times seven.\\n</think>\\n\\n42"'


@pytest.fixture(scope="module")
def service(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = brief(tmp_path_factory.mktemp("brief"), TOOLCHAINS / TOOLCHAIN)
    with serving(demo.release, "--ctx-size", "1500", cwd=folder, temporary=folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=service.url, api_key="none", max_retries=0, timeout=300) as client:
        yield client


def ask(client: openai.OpenAI, service: Serving, messages: list[Any] = HELLO, **options: Any) -> ChatCompletion:
    options = {"max_tokens": 64, "temperature": 0, **options}
    return client.chat.completions.create(model=service.fact("model"), messages=messages, **options)


def test_it_says_what_was_checked_and_what_not(service: Serving, demo: Workplace) -> None:
    sums = dict(reversed(line.split()) for line in (demo.release / "SHA256SUMS").read_text().splitlines())
    assert f"SHA-256 {sums[QUANT]}, as SHA256SUMS and manifest.json beside it say" in service.fact("checked")
    assert "requant verify" in service.fact("unchecked")
    assert service.fact("context") == f"512 tokens for each of {PARALLEL} conversations at a time"


def test_what_it_prints_can_be_typed(service: Serving, tmp_path: Path) -> None:
    curl, python = service.blocks
    program = tmp_path / "ask.py"
    program.write_text(python)
    commands = [["bash", "-ec", curl], [sys.executable, str(program)]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with ThreadPoolExecutor(2) as pool:
        done = [
            *pool.map(
                lambda command: subprocess.run(command, capture_output=True, text=True, env=environment), commands
            )
        ]
    assert [each.returncode for each in done] == [0, 0], done
    assert json.loads(done[0].stdout)["choices"][0]["message"]["content"]
    assert done[1].stdout.strip()


def test_chat(service: Serving, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [service.fact("model")]
    answer = ask(client, service, max_tokens=8)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 8
    assert answer.choices[0].message.content


def test_streaming(service: Serving, client: openai.OpenAI) -> None:
    """The pieces are the answer, and the last one counts."""
    uncached = {"cache_prompt": False}
    whole = ask(client, service, max_tokens=8, extra_body=uncached).choices[0].message.content
    stream = client.chat.completions.create(
        model=service.fact("model"), messages=HELLO, max_tokens=8, temperature=0, stream=True,
        stream_options={"include_usage": True}, extra_body=uncached,
    )  # fmt: skip
    chunks = [*stream]
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert len(pieces) > 1 and "".join(pieces) == whole
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 8


def test_tools(service: Serving, client: openai.OpenAI) -> None:
    """A call, and an answer to what it returned."""
    request = {key: value for key, value in REQUEST.items() if key not in ("tool_choice", "parallel_tool_calls")}
    forced: dict[str, Any] = {"tool_choice": "required", "parallel_tool_calls": False, "extra_body": request}
    called = ask(client, service, tools=TOOLS, max_tokens=256, **forced)
    assert called.choices[0].finish_reason == "tool_calls"
    message = called.choices[0].message
    assert message.tool_calls is not None and message.tool_calls[0].type == "function"
    function = message.tool_calls[0].function
    assert (function.name, json.loads(function.arguments)) == ("set_light", {"level": 3})
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "done"}
    again = [*HELLO, message.model_dump(exclude_none=True), result]
    assert ask(client, service, again, tools=TOOLS, tool_choice="none", max_tokens=4).choices[0].message.content


def test_thinking_stands_apart_from_the_answer(service: Serving, client: openai.OpenAI) -> None:
    """By default it thinks; off, the template closes the thinking before the model begins, and the prompt is longer."""
    prompts = list[int]()
    for switch in ({}, {"enable_thinking": True}, {"enable_thinking": False}):
        thinks = switch.get("enable_thinking", True)
        grammar = THINKS if thinks else 'root ::= "42"'
        answer = ask(client, service, extra_body={"chat_template_kwargs": switch, "grammar": grammar})
        message = answer.choices[0].message
        reasoning = (message.model_extra or {}).get("reasoning_content", "")
        assert (message.content, reasoning.strip()) == ("42", "Six times seven." if thinks else "")
        assert answer.usage is not None
        prompts.append(answer.usage.prompt_tokens)
    assert prompts[0] == prompts[1] < prompts[2]


def test_four_at_a_time(service: Serving, client: openai.OpenAI) -> None:
    """Each gets the answer to its own question."""
    words = [f"answer {number}" for number in range(PARALLEL)]
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = [*pool.map(lambda word: ask(client, service, extra_body={"grammar": f'root ::= "{word}"'}), words)]
    assert [answer.choices[0].message.content for answer in found] == words


def test_a_context_that_is_too_small(service: Serving, client: openai.OpenAI) -> None:
    """One sentence, and the server goes on."""
    long: list[Any] = [{"role": "user", "content": "What is six times seven? " * 100}]
    with pytest.raises(openai.BadRequestError, match="context size"):
        ask(client, service, long)
    assert ask(client, service, max_tokens=2).usage


# How it begins and ends.


@pytest.fixture
def folder(demo: Workplace, tmp_path: Path) -> Path:
    """A folder with the demo's release under the names of the examples, and its toolchains."""
    (tmp_path / "results").symlink_to(demo.folder / "results")
    shutil.copytree(demo.release, tmp_path / "release")
    (tmp_path / "temporary").mkdir()
    return tmp_path


def test_it_ends_as_it_is_asked_to(folder: Path) -> None:
    """Example: requant serve release"""
    with serving("release", cwd=folder, temporary=folder / "temporary") as service:
        assert service.fact("context").startswith("1,024 tokens")
        assert service.end(signal.SIGTERM) == (ExitCode.OK, "stopped\n")
        assert gone(service.url, 0)
    assert [*(folder / "temporary").iterdir()] == []


def test_a_lone_file_and_nothing_is_left_of_it_when_its_owner_is_killed(folder: Path) -> None:
    """Example: requant serve release/model-Q4_K_M.gguf --port 8081 --ctx-size 8192"""
    (folder / "release" / QUANT).rename(folder / "model, Q4_K_M.gguf")
    port = free_port()
    arguments = ("model, Q4_K_M.gguf", "--ctx-size", "8192")
    with serving(*arguments, cwd=folder, temporary=folder / "temporary", port=port) as service:
        assert service.url == f"http://127.0.0.1:{port}/v1" and service.fact("model") == "model-Q4_K_M"
        assert "named by no paper here" in service.fact("checked") and "publisher" in service.fact("unchecked")
        assert service.fact("context").startswith("2,048 tokens")
        taken = run("serve", "model, Q4_K_M.gguf", "--port", str(port), cwd=folder)
        assert taken[0] == ExitCode.UNCHECKED and f"port {port} cannot be had (Address already in use)" in taken[2]
        service.process.kill()
        assert gone(service.url)
