"""requant evaluate, and requant diff of its results, as processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import requant
from support.endpoint import Reply, ScriptedEndpoint, message
from support.endpoint.suites import lines, numbers

COMMAND = """
import time
nap = time.sleep
time.sleep = lambda seconds: nap(min(seconds, 0.01))  # retries wait long
from requant.cli.main import main
main(prog_name="requant")
"""


def start(*arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
    known = {**os.environ, "PYTHONPATH": str(Path(requant.__file__).parents[1]), "COLUMNS": "200", **environment}
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    return subprocess.Popen(
        command, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # As at a terminal: a shell starts what it runs in the background with interrupts ignored, for all its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def command(*arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    child = start(*arguments, **environment)
    out, err = child.communicate(timeout=60)
    assert "Traceback" not in err, err
    return child.returncode, out, err


def evaluate(suite: Path, url: str, out: Path, *more: str) -> tuple[str | Path, ...]:
    return ("evaluate", suite, "--endpoint", url, "--model", "m", "--out", out, *more)


def test_commands(tmp_path: Path, server: ScriptedEndpoint) -> None:
    suite = numbers(tmp_path, 8)
    server.otherwise = message("1")
    status, text, _ = command(*evaluate(suite, server.url, tmp_path / "a.jsonl", "--parallel", "3", "--thinking", "on"))
    assert status == 0
    assert text.startswith("suite: suite.jsonl\nmodel: m\n")
    [cells] = [line for line in text.splitlines() if line.startswith("│")]
    assert [cell.strip() for cell in cells.strip("│").split("│")] == ["8", "1", "7", "0", "0", "12.5%", "2.2% to 47.1%"]
    assert text.endswith(f"wrote {tmp_path / 'a.jsonl'}\n")
    assert all(request["chat_template_kwargs"] == {"enable_thinking": True} for request in server.requests)
    for index in range(8):
        server.say(f"q{index}", message(str(index)))
    command(*evaluate(suite, server.url, tmp_path / "b.jsonl"))
    status, text, err = command("diff", tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert (status, err) == (1, "")
    assert "only B: q0, q2, q3, q4, q5, q6, q7\n" in text and "only A:" not in text
    assert text.endswith("exact McNemar p value: 0.0156\nthey differ in 7 of 8 items and in 1 setting\n")
    assert "setting: thinking\n" in text


def test_some_items(tmp_path: Path, server: ScriptedEndpoint) -> None:
    suite, out = numbers(tmp_path, 8), tmp_path / "out.jsonl"
    assert command(*evaluate(suite, server.url, out, "--items", "3", "--seed", "5"))[0] == 0
    first = {request["messages"][0]["content"] for request in server.requests}
    assert len(first) == 3
    assert command(*evaluate(suite, server.url, out, "--items", "3", "--seed", "5"))[0] == 0
    assert len(server.requests) == 3
    assert command(*evaluate(suite, server.url, out))[0] == 0
    assert len(server.requests) == 8, "the rest is added"


def test_a_killed_run_goes_on(tmp_path: Path, server: ScriptedEndpoint) -> None:
    suite, out = numbers(tmp_path, 6), tmp_path / "out.jsonl"
    for index in range(6):
        server.say(f"q{index}", Reply(message(str(index)).body, wait=0 if index < 3 else 30))
    child = start(*evaluate(suite, server.url, out))
    deadline = time.monotonic() + 30
    # A line is written while the next question is on its way already.
    while not (server.asked("q3") and out.read_bytes().count(b"\n") == 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert [line.get("id") for line in lines(out)] == [None, "q0", "q1", "q2"]
    for index in range(6):
        server.say(f"q{index}", message(str(index)))
    assert command(*evaluate(suite, server.url, out))[0] == 0
    assert [line.get("id") for line in lines(out)] == [None, "q0", "q1", "q2", "q3", "q4", "q5"]
    assert server.asked("q0") == 1 and server.asked("q3") == 2


def test_an_interrupted_run_ends_at_once(tmp_path: Path, server: ScriptedEndpoint) -> None:
    server.otherwise = Reply(wait=300)
    child = start(*evaluate(numbers(tmp_path, 6), server.url, tmp_path / "out.jsonl", "--parallel", "3"))
    deadline = time.monotonic() + 30
    while len(server.requests) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.endswith("interrupted\n") and "Traceback" not in err


def test_a_server_that_fails_at_everything(tmp_path: Path, server: ScriptedEndpoint) -> None:
    suite, out = numbers(tmp_path, 40), tmp_path / "out.jsonl"
    server.say("q0", message("0"))
    server.otherwise = Reply(b"oops", status=500)
    status, text, err = command(*evaluate(suite, server.url, out, "--parallel", "2"))
    assert (status, text) == (3, "")
    why = "answers no question at all (the server answered 500 (oops)): mend the server, then run again to go on"
    assert err.splitlines()[-1] == f"error: {server.url} {why}"
    assert len({request["messages"][0]["content"] for request in server.requests}) < 12
    server.otherwise = message("1")
    status, text, _ = command(*evaluate(suite, server.url, out))
    assert status == 0 and len({line.get("id") for line in lines(out)}) == 41 and server.asked("q0") == 1
    [cells] = [line for line in text.splitlines() if line.startswith("│")]
    assert [cell.strip() for cell in cells.strip("│").split("│")][:5] == ["40", "2", "38", "0", "0"]


@pytest.mark.parametrize("columns", ["²", "9" * 5000, "0", "-1"])
def test_a_width_that_is_none(tmp_path: Path, server: ScriptedEndpoint, columns: str) -> None:
    server.otherwise = message("1")
    arguments = evaluate(numbers(tmp_path, 2), server.url, tmp_path / "out.jsonl")
    status, text, _ = command(*arguments, COLUMNS=columns, LINES=columns)
    assert status == 0 and "passed" in text


def test_exit_codes(tmp_path: Path, server: ScriptedEndpoint) -> None:
    suite, out = numbers(tmp_path, 1), tmp_path / "out.jsonl"
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n")
    for status, words, arguments in (
        (2, "bad.jsonl line 1: ", evaluate(bad, server.url, out)),
        (2, "absent is not a file", evaluate(tmp_path / "absent", server.url, out)),
        (2, "--endpoint", evaluate(suite, "nowhere", out)),
        (2, "--items is 2, but the suite has 1 items", evaluate(suite, server.url, out, "--items", "2")),
        (2, "NO_SUCH_KEY, which is not set", evaluate(suite, server.url, out, "--api-key-env", "NO_SUCH_KEY")),
        (2, "'--timeout': 'inf'", evaluate(suite, server.url, out, "--timeout", "inf")),
        (2, "'--timeout': 604801", evaluate(suite, server.url, out, "--timeout", "604801")),
        (2, r"'m\udcff' is not UTF-8: write the name", evaluate(suite, server.url, out, "--model", "m\udcff")),
        (2, "holds no results", ("diff", suite, suite)),
        (3, "cannot be reached: start the server", evaluate(suite, "http://127.0.0.1:9", out)),
    ):
        found, text, err = command(*arguments)
        assert (found, text) == (status, ""), err
        assert words in err and err.splitlines()[-1].lower().startswith("error: ")
