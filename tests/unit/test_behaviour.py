"""requant.evaluation.behaviour against a scripted server: every answer becomes an outcome, and a stopped run goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import requant
from endpoint import Reply, ScriptedEndpoint, calls, message
from endpoint.transcripts import CODE, TOOL_CALLS
from requant.errors import DiskError, FormatError, PlaceError, RecipeError, SourceError
from requant.evaluation import behaviour, sandbox
from requant.evaluation import endpoint as client
from requant.evaluation.behaviour import Results, Summary, paired, read_results, summary
from requant.evaluation.endpoint import Endpoint, Settings, key_from, read_response, request_of
from requant.evaluation.suite import Suite, read_suite

SUITES = Path(__file__).resolve().parents[2] / "suites"
SETTINGS = Settings("m")
COMMAND = """
import time
nap = time.sleep
time.sleep = lambda seconds: nap(min(seconds, 0.01))  # retries wait long
from requant.cli import main
main(prog_name="requant")
"""


@pytest.fixture
def server() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint() as running:
        yield running


@pytest.fixture
def endpoint(server: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    nap = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: nap(min(seconds, 0.01)))
    made = Endpoint(server.url, seconds=1)
    yield made
    made.close()


def numbers(folder: Path, count: int, name: str = "suite") -> Path:
    """A suite of questions q0, q1, ... whose right answers are 0, 1, ..."""
    path = folder / f"{name}.jsonl"
    lines = [
        {
            "id": f"q{index}",
            "messages": [{"role": "user", "content": f"q{index}"}],
            "verify": {"kind": "numeric", "value": index},
        }
        for index in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(suite: Suite, endpoint: Endpoint, out: Path, parallel: int = 1, settings: Settings = SETTINGS) -> Results:
    return behaviour.run(suite, suite.items, endpoint, settings, out, parallel)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# One answer.


def test_everything_is_kept(tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    suite = read_suite(numbers(tmp_path, 2))
    server.say("q0", message("It is 0.", reasoning="Nothing."))
    server.say("q1", message("It is 7."))
    results = run(suite, endpoint, tmp_path / "new" / "out.jsonl")
    assert results.outcomes == {"q0": "passed", "q1": "failed"}
    header, first, second = lines(tmp_path / "new" / "out.jsonl")
    assert header == {
        "results": 1, "suite": suite.sha256, "model": "m", "thinking": "default", "temperature": 0, "seed": 0,
    }  # fmt: skip
    assert first["request"] == server.requests[0] == {
        "model": "m", "messages": [{"role": "user", "content": "q0"}], "temperature": 0, "seed": 0,
    }  # fmt: skip
    assert first["response"]["choices"][0]["message"]["reasoning_content"] == "Nothing."
    assert {key: first[key] for key in ("id", "outcome", "passed", "part", "reason")} == {
        "id": "q0", "outcome": "passed", "passed": True, "part": "content", "reason": "the answer is 0",
    }  # fmt: skip
    assert (second["outcome"], second["reason"]) == ("failed", "the answer is 7")
    assert read_results(tmp_path / "new" / "out.jsonl") == results


def test_what_is_asked(tmp_path: Path) -> None:
    item = read_suite(SUITES / "tool_calls.jsonl").items[0]
    request = request_of(item, Settings("m", "on", seed=3))
    assert request["tools"] == item.tools and request["max_tokens"] == 8192 and request["seed"] == 3
    assert request["chat_template_kwargs"] == {"enable_thinking": True}
    assert request_of(item, Settings("m", "off"))["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in request_of(item, Settings("m"))
    assert not {"verify", "id", "tags"} & {*request}


OUTCOMES: dict[str, tuple[list[Reply], str, str, int]] = {
    "right": ([message("0")], "passed", "the answer is 0", 1),
    "wrong": ([message("1")], "failed", "the answer is 1", 1),
    "empty": ([message("")], "failed", "there is no number", 1),
    "null": ([message(None)], "failed", "there is no number", 1),
    "only thought": ([message("", reasoning="0")], "failed", "only in the reasoning: the answer is 0", 1),
    "thoughts in the content": ([message("<think>1, no, 5</think>\n0")], "passed", "the answer is 0", 1),
    "the end of thoughts in the content": ([message("1, no, 5</think>\n0")], "passed", "the answer is 0", 1),
    "thoughts without an end": ([message("<think>it is 0")], "failed", "only in the reasoning", 1),
    "truncated": ([message("0", finish="length")], "truncated", "cut off at the token limit", 1),
    "a call": ([message(None, tool_calls=calls(("x", {})))], "failed", "there is no number", 1),
    "half a character": ([Reply(b'{"choices": [{"message": {"content": "0 \\ud800"}}]}')], "passed", "the answer is 0", 1),
    "busy, then right": ([Reply(status=429), Reply(status=503), message("0")], "passed", "the answer is 0", 3),
    "dying, then right": ([Reply(end="die"), message("0")], "passed", "the answer is 0", 2),
    "busy": ([Reply(b"slow down\nplease", status=429)], "error", "the server answered 429 (slow down)", 5),
    "broken": ([Reply(b"\x1b[31moops", status=500)], "error", "the server answered 500 (?[31moops)", 5),
    "refused": ([Reply(b'{"error": "no such model"}', status=404)], "error", '404 ({"error": "no such model"})', 1),
    "redirected": ([Reply(status=302, headers={"Location": "http://192.0.2.1/"})], "error", "the server answered 302", 1),
    "dying": ([Reply(end="die")], "error", "the server broke off", 5),
    "less than announced": ([Reply(b'{"choices":', end="short")], "error", "the server broke off", 5),
    "not JSON": ([Reply(b"<html>")], "error", "the server's answer is not valid JSON", 1),
    "nothing": ([Reply()], "error", "the server's answer is not valid JSON", 1),
    "deep": ([Reply(b"[" * 100_000)], "error", "the server's answer is not valid JSON", 1),
    "another thing": ([Reply(b'{"choices": []}')], "error", "the server's answer holds no message", 1),
    "a list": ([Reply(b"[]")], "error", "the server's answer holds no message", 1),
    "no text": ([Reply(b'{"choices": [{"message": {"content": 5}}]}')], "error", "a message of another form", 1),
    "odd calls": ([Reply(b'{"choices": [{"message": {"tool_calls": [1]}}]}')], "error", "a message of another form", 1),
    "a number beyond all": ([Reply(b'{"choices": [{"message": {"content": "0"}}], "x": 1e999}')], "error", "to be kept", 1),
    "nearly too deep": ([Reply(b'{"choices": [{"message": {"content": "0"}}], "x": ' + b"[" * 64 + b"]" * 64 + b"}")], "error", "to be kept", 1),
    "compressed": ([Reply(b"x", headers={"Content-Encoding": "gzip"})], "error", "compressed ('gzip'), unasked", 1),
    "endless": ([Reply(b'{"choices":', end="endless")], "error", "the server sent more than 1,048,576 bytes", 1),
    "dripping": ([Reply(b'{"choices":', end="drip")], "error", "the server did not end its answer within 1 seconds", 1),
    "slow": ([Reply(wait=5)], "error", "the server did not answer within 1 seconds", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcomes(
    name: str, tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies, outcome, words, tries = OUTCOMES[name]
    monkeypatch.setattr(client, "MAX_ANSWER", 1 << 20)
    suite = read_suite(numbers(tmp_path, 2))
    server.say("q0", *replies)
    server.say("q1", message("1"))
    out = tmp_path / "out.jsonl"
    assert run(suite, endpoint, out).outcomes == {"q0": outcome, "q1": "passed"}, "the run goes on"
    line = lines(out)[1]
    assert words in line["reason"] and line["reason"].isprintable() and len(line["reason"]) < 300
    assert server.asked("q0") == tries
    assert (line["response"] is None) is (outcome == "error")
    assert read_results(out).outcomes["q0"] == outcome


def test_the_server_goes_away(tmp_path: Path, endpoint: Endpoint, server: ScriptedEndpoint) -> None:
    server.otherwise = message("0")
    endpoint.require_reachable()
    server.__exit__(None, None, None)
    assert endpoint.ask({"messages": [{"content": "x"}]}).error == "the server cannot be reached any more"
    suite = read_suite(numbers(tmp_path, 1))
    with pytest.raises(SourceError, match=r"cannot be reached: start the server, or correct --endpoint"):
        run(suite, endpoint, tmp_path / "out.jsonl")
    assert len(lines(tmp_path / "out.jsonl")) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key(tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint, status: int) -> None:
    server.models = Reply(status=status)
    with pytest.raises(SourceError, match="refuses the key"):
        run(read_suite(numbers(tmp_path, 1)), endpoint, tmp_path / "out.jsonl")


def test_a_server_without_a_list_of_models(tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    server.models, server.otherwise = Reply(status=404), message("0")
    assert run(read_suite(numbers(tmp_path, 1)), endpoint, tmp_path / "out.jsonl").outcomes == {"q0": "passed"}


def test_the_key_goes_to_the_server_and_nowhere_else(
    tmp_path: Path, server: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret-1")
    key = key_from("SOME_KEY")
    assert key == "sk-secret-1"
    server.say("q0", message("your key is sk-secret-1, 0"))
    server.say("q1", Reply(b"invalid key sk-secret-1", status=400))
    endpoint = Endpoint(server.url, key)
    run(read_suite(numbers(tmp_path, 2)), endpoint, tmp_path / "out.jsonl")
    endpoint.close()
    assert server.keys == ["Bearer sk-secret-1"] * 2
    assert "sk-secret" not in (tmp_path / "out.jsonl").read_text()
    assert "sk-secret" not in repr(endpoint)


@pytest.mark.parametrize(("value", "words"), [(None, "is not set"), ("", "is not set"), ("a b", "no key has"), ("é", "no key has"), ("a\nb", "no key has")])  # fmt: skip
def test_a_bad_key(monkeypatch: pytest.MonkeyPatch, value: str | None, words: str) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(RecipeError, match=words):
        key_from("SOME_KEY")
    assert key_from(None) is None


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://h/", "http://", "http://u:p@h/v1", "http://h/v1?key=1", "http://h:99999/", "http://h/v1#x"]
)
def test_bad_addresses(url: str) -> None:
    with pytest.raises(PlaceError, match="--endpoint") as caught:
        Endpoint(url)
    assert "u:p" not in str(caught.value)


def test_addresses() -> None:
    assert (
        Endpoint("http://127.0.0.1:8080").url == Endpoint("http://127.0.0.1:8080/v1/").url == "http://127.0.0.1:8080/v1"
    )
    assert Endpoint("https://h/some/path").url == "https://h/some/path"


@pytest.mark.parametrize(
    "data", [b"", b"null", b'"x"', b"{}", b'{"choices": {"0": 1}}', b'{"choices": [{"message": []}]}', b"\xff\xfe"]
)
def test_odd_answers_do_not_raise(data: bytes) -> None:
    exchange = read_response(data)
    assert exchange.answer is None and exchange.response is None and exchange.error


# A whole run.


def test_many_at_a_time(tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    suite = read_suite(numbers(tmp_path, 40))
    for index in range(40):
        server.say(f"q{index}", Reply(message(str(index)).body, wait=0.1))
    begin = time.monotonic()
    results = run(suite, endpoint, tmp_path / "out.jsonl", parallel=20)
    assert time.monotonic() - begin < 3
    assert {*results.outcomes.values()} == {"passed"}
    assert sorted(line["id"] for line in lines(tmp_path / "out.jsonl")[1:]) == sorted(item.id for item in suite.items)


def test_a_finished_run_asks_nothing(tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    suite, out = read_suite(numbers(tmp_path, 3)), tmp_path / "out.jsonl"
    first = run(suite, endpoint, out)
    before = out.read_bytes()
    server.__exit__(None, None, None)
    assert run(suite, endpoint, out) == first
    assert out.read_bytes() == before and len(server.requests) == 3


def test_errors_are_tried_again(tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    suite, out = read_suite(numbers(tmp_path, 3)), tmp_path / "out.jsonl"
    server.say("q0", message("5"))
    server.say("q1", message("1"), message("5"))
    server.say("q2", Reply(b"<html>"), message("2"))
    assert run(suite, endpoint, out).outcomes == {"q0": "failed", "q1": "passed", "q2": "error"}
    assert run(suite, endpoint, out).outcomes == {"q0": "failed", "q1": "passed", "q2": "passed"}
    assert [line["id"] for line in lines(out)[1:]] == ["q0", "q1", "q2", "q2"]
    assert summary(read_results(out).outcomes).items == 3


@pytest.mark.parametrize("cut", [1, 20, "all but the header", "half the header"])
def test_half_a_line_is_dropped(tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint, cut: Any) -> None:
    suite, out = read_suite(numbers(tmp_path, 3)), tmp_path / "out.jsonl"
    server.otherwise = message("1")
    whole = run(suite, endpoint, out)
    data = out.read_bytes()
    header = data.index(b"\n") + 1
    out.write_bytes(
        data[
            : {"all but the header": header + 5, "half the header": header // 2}.get(
                cut, len(data) - 1 - (cut if isinstance(cut, int) else 0)
            )
        ]
    )
    if cut != "half the header":
        assert "q2" not in read_results(out).outcomes
    assert run(suite, endpoint, out) == whole
    assert [line.get("id") for line in lines(out)] == [None, "q0", "q1", "q2"]


@pytest.mark.parametrize("changed", ["model", "thinking", "suite"])
def test_results_of_another_run_stay(tmp_path: Path, endpoint: Endpoint, changed: str) -> None:
    suite, out = read_suite(numbers(tmp_path, 2)), tmp_path / "out.jsonl"
    run(suite, endpoint, out)
    before = out.read_bytes()
    other = read_suite(numbers(tmp_path, 3, "other")) if changed == "suite" else suite
    settings = {"model": Settings("n"), "thinking": Settings("m", "on")}.get(changed, SETTINGS)
    with pytest.raises(RecipeError, match=rf"holds results of another run \(it differs in {changed}\)"):
        run(other, endpoint, out, settings=settings)
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello\n", "line 1 is not valid JSON"),
        (b"{}\n", "holds no results"),
        (b'{"results": 2, "suite": "x"}\n', "holds no results"),
        (b"[1]\n", "holds no results"),
        (b'{"results": 1, "suite": "x"}\n{"id": 1}\n', "line 2 holds no result: remove the line"),
        (b'{"results": 1, "suite": "x"}\n\n{"id": 1}\n', "line 2 is not valid JSON"),
        (b'{"results": 1, "suite": "x"}\n{"outcome": []}\n', "line 2 holds no result"),
    ],
)
def test_damaged_results(tmp_path: Path, endpoint: Endpoint, content: bytes, words: str) -> None:
    out = tmp_path / "out.jsonl"
    out.write_bytes(content)
    with pytest.raises(FormatError, match=words):
        run(read_suite(numbers(tmp_path, 1)), endpoint, out)
    with pytest.raises(FormatError, match=words):
        read_results(out)
    assert out.read_bytes() == content


def test_places_that_cannot_be_written(tmp_path: Path, endpoint: Endpoint) -> None:
    suite = read_suite(numbers(tmp_path, 1))
    with pytest.raises(DiskError, match="cannot be written"):
        run(suite, endpoint, tmp_path)
    with pytest.raises(DiskError, match="cannot be written"):
        run(suite, endpoint, tmp_path / "suite.jsonl" / "out")
    with pytest.raises(FormatError, match="cannot be read"):
        read_results(tmp_path / "absent")
    (tmp_path / "empty").touch()
    with pytest.raises(FormatError, match="holds no results"):
        read_results(tmp_path / "empty")


def test_two_runs_cannot_share_a_file(tmp_path: Path, endpoint: Endpoint) -> None:
    import fcntl

    out = tmp_path / "out.jsonl"
    with out.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RecipeError, match="in use by another run"):
            run(read_suite(numbers(tmp_path, 1)), endpoint, out)
    run(read_suite(numbers(tmp_path, 1)), endpoint, out)


# Our own suites.


@pytest.mark.parametrize(("name", "transcripts"), [("tool_calls", TOOL_CALLS), ("code", CODE)])
def test_our_suites_tell_right_from_wrong(
    name: str, transcripts: dict[str, Any], tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint
) -> None:
    suite = read_suite(SUITES / f"{name}.jsonl")
    assert [item.id for item in suite.items] == list(transcripts)
    rounds = [(kind, number) for kind in (0, 1) for number in range(4)]
    for kind, number in rounds:
        asked = [item for item in suite.items if number < len(transcripts[item.id][kind])]
        for item in asked:
            answer = transcripts[item.id][kind][number]
            made = {"tool_calls": calls(*answer)} if isinstance(answer, list) else {}
            said = None if isinstance(answer, list) else answer
            server.say(item.messages[-1]["content"], message(said, finish="tool_calls" if made else "stop", **made))
        out = tmp_path / f"{kind}-{number}.jsonl"
        found = behaviour.run(suite, asked, endpoint, SETTINGS, out, 2).outcomes
        assert found == {item.id: ("passed", "failed")[kind] for item in asked}, lines(out)


def test_code_is_not_asked_for_where_it_cannot_be_run(
    tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from requant.errors import UnsupportedError

    monkeypatch.setattr(sandbox, "JAIL", tmp_path / "jail.py")
    (tmp_path / "jail.py").write_text('import os, sys\nos.write(int(sys.argv[1]), b\'{"error": "no new namespaces"}\')')
    sandbox.require_isolation.cache_clear()
    with pytest.raises(UnsupportedError, match="code cannot be isolated here"):
        run(read_suite(SUITES / "code.jsonl"), endpoint, tmp_path / "out.jsonl")
    assert not server.requests and not (tmp_path / "out.jsonl").exists()


# Counting.


def results(outcomes: dict[str, str], suite: str = "s") -> Results:
    return Results({"suite": suite}, outcomes)


def test_summary() -> None:
    found = summary({"a": "passed", "b": "failed", "c": "truncated", "d": "error", "e": "passed"})
    assert found == Summary(5, 2, 1, 1, 1, 0.5, found.interval)
    assert (found.interval.low, found.interval.high) == (pytest.approx(0.15, abs=0.005), pytest.approx(0.85, abs=0.005))
    assert summary({"a": "error"}).score is None and summary({}).score is None


def test_paired() -> None:
    a = results(
        {"1": "passed", "2": "passed", "3": "failed", "4": "truncated", "5": "error", "6": "passed", "7": "passed"}
    )
    b = results(
        {"7": "truncated", "1": "passed", "2": "failed", "3": "passed", "4": "failed", "5": "passed", "8": "passed"}
    )
    found = paired(a, b)
    assert (found.both, found.only_a, found.only_b, found.left_out) == (5, ("2", "7"), ("3",), 3)
    assert found.p == 1.0
    one_sided = paired(results({str(n): "passed" for n in range(6)}), results({str(n): "failed" for n in range(6)}))
    assert one_sided.p == 0.03125
    with pytest.raises(RecipeError, match="different suites"):
        paired(a, results({}, "t"))
    with pytest.raises(RecipeError, match="no judged item in common"):
        paired(a, results({"5": "passed"}))


# The commands.


def start(*arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
    known = {**os.environ, "PYTHONPATH": str(Path(requant.__file__).parents[1]), "COLUMNS": "200", **environment}
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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
    status, text, err = command("compare-behaviour", tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert (status, err) == (0, "")
    assert "only B: q0, q2, q3, q4, q5, q6, q7\n" in text and "only A:" not in text
    assert text.endswith("exact McNemar p value: 0.0156\n")


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
    while server.asked("q3") == 0 and time.monotonic() < deadline:
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
    server.otherwise = Reply(wait=30)
    child = start(*evaluate(numbers(tmp_path, 6), server.url, tmp_path / "out.jsonl", "--parallel", "3"))
    deadline = time.monotonic() + 30
    while len(server.requests) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=10)
    assert child.returncode == 130
    assert err.endswith("interrupted\n") and "Traceback" not in err


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
        (2, "holds no results", ("compare-behaviour", suite, suite)),
        (3, "cannot be reached: start the server", evaluate(suite, "http://127.0.0.1:9", out)),
    ):
        found, text, err = command(*arguments)
        assert (found, text) == (status, ""), err
        assert words in err and err.splitlines()[-1].startswith("error: ")
