"""requant.evaluation.behaviour.asking against a scripted server: every answer becomes an outcome, and a stopped run goes on."""

import errno
import fcntl
from pathlib import Path
from typing import Any

import pytest

from requant.documents.results import read_results
from requant.evaluation.behaviour import asking as behaviour
from requant.evaluation.behaviour import sandbox
from requant.evaluation.behaviour.asking import Summary, summary
from requant.evaluation.behaviour.endpoint import Endpoint, Settings
from requant.evaluation.behaviour.suite import read_suite
from requant.ground.errors import DiskError, FormatError, RecipeError, SourceError
from support.checkout import SUITES
from support.endpoint import Reply, ScriptedEndpoint, calls, message
from support.endpoint.suites import SETTINGS, lines, numbers, run
from support.endpoint.transcripts import CODE, TOOL_CALLS

# A whole run.


def test_many_at_a_time(tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    suite = read_suite(numbers(tmp_path, 40))
    for index in range(40):
        server.say(f"q{index}", Reply(message(str(index)).body, wait=0.1))
    results = run(suite, endpoint, tmp_path / "out.jsonl", parallel=20)
    assert 1 < server.most_at_once <= 20
    assert {*results.outcomes.values()} == {"passed"}
    assert sorted(line["id"] for line in lines(tmp_path / "out.jsonl")[1:]) == sorted(item.id for item in suite.items)


def test_a_finished_run_asks_nothing(tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint) -> None:
    suite, out = read_suite(numbers(tmp_path, 3)), tmp_path / "out.jsonl"
    first = run(suite, endpoint, out)
    before = out.read_bytes()
    server.__exit__(None, None, None)
    assert run(suite, endpoint, out) == first
    assert out.read_bytes() == before and len(server.requests) == 3


def test_whose_answers_are_taken_is_said(
    tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    suite, out = read_suite(numbers(tmp_path, 3)), tmp_path / "out.jsonl"
    server.say("q2", Reply(b"<html>"), message("2"))
    run(suite, endpoint, out)
    assert not caplog.messages
    for count in (2, 3):
        run(suite, endpoint, out)
        said = f"{out} holds answers to {count} of 3 items, which are not asked again: they must be of this same server"
        assert caplog.messages == [said]
        caplog.clear()


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
        (
            b'{"results": 1, "suite": "x"}\n{"id": "\\ud800", "outcome": "failed"}\n',
            r"line 2 has an id that is not Unicode \('.ud800'\): remove the line",
        ),
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


NOT_OURS = {
    "a suite of one line": b'{"id": "a", "messages": []}',
    "a document": b'{"results": 1, "suite": "x"}',
    "the header and more": b"HEADER and more",
    "text": b"hello",
    "zeros": bytes(10),
}


@pytest.mark.parametrize("content", NOT_OURS.values(), ids=NOT_OURS)
def test_a_file_of_one_unfinished_line_is_not_overwritten(tmp_path: Path, endpoint: Endpoint, content: bytes) -> None:
    suite, out = read_suite(numbers(tmp_path, 1)), tmp_path / "out.jsonl"
    run(suite, endpoint, tmp_path / "ours.jsonl")
    header = (tmp_path / "ours.jsonl").read_bytes().partition(b"\n")[0]
    out.write_bytes(content.replace(b"HEADER", header))
    before = out.read_bytes()
    with pytest.raises(RecipeError, match=r"out\.jsonl holds something else than results: name another --out"):
        run(suite, endpoint, out)
    assert out.read_bytes() == before


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


def test_a_file_system_without_locks_is_no_other_run(
    tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(DiskError, match=r"out\.jsonl has no locks \(No locks available\), .*: mount it with them"):
        run(read_suite(numbers(tmp_path, 1)), endpoint, tmp_path / "out.jsonl")


def test_two_runs_cannot_share_a_file(tmp_path: Path, endpoint: Endpoint) -> None:
    out = tmp_path / "out.jsonl"
    with out.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RecipeError, match="in use by another run"):
            run(read_suite(numbers(tmp_path, 1)), endpoint, out)
    run(read_suite(numbers(tmp_path, 1)), endpoint, out)


# A server that fails.

BROKEN = Reply(b"oops", status=500)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_server_that_fails_at_everything_ends_the_run(
    tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint, count: int
) -> None:
    suite, out = read_suite(numbers(tmp_path, count)), tmp_path / "out.jsonl"
    server.otherwise = BROKEN
    with pytest.raises(SourceError) as found:
        run(suite, endpoint, out)
    words = "answers no question at all (the server answered 500 (oops)): mend the server, then run again to go on"
    assert str(found.value) == f"{server.url} {words}"
    kept = lines(out)[1:]
    assert [line["id"] for line in kept] == [f"q{index}" for index in range(min(count, 3))]
    assert {line["outcome"] for line in kept} == {"error"}


def test_a_server_that_breaks_down_keeps_what_it_answered(
    tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint
) -> None:
    suite, out = read_suite(numbers(tmp_path, 20)), tmp_path / "out.jsonl"
    server.otherwise = BROKEN
    for index in range(4):
        server.say(f"q{index}", message(str(index)))
    with pytest.raises(SourceError, match="answers no question at all"):
        run(suite, endpoint, out)
    assert [line["id"] for line in lines(out)[1:]] == [f"q{index}" for index in range(7)]
    assert not server.asked("q19")
    for index in range(4, 20):
        server.say(f"q{index}", message(str(index)))
    assert {*run(suite, endpoint, out).outcomes.values()} == {"passed"}
    # What failed is asked again, after the others; what was answered is not.
    assert [line["id"] for line in lines(out)[8:]] == [f"q{index}" for index in (*range(7, 20), 4, 5, 6)]
    assert [server.asked(f"q{index}") for index in range(7)] == [1, 1, 1, 1, 6, 6, 6]


def test_items_that_a_server_fails_at_do_not_end_the_run(
    tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint
) -> None:
    """A server may well break off at what a model says; as long as it answers others, the run goes on."""
    suite, out = read_suite(numbers(tmp_path, 9)), tmp_path / "out.jsonl"
    for index in range(7):
        server.say(f"q{index}", BROKEN)
    server.otherwise = message("7")
    found = run(suite, endpoint, out).outcomes
    assert [*found.values()] == ["error"] * 7 + ["passed", "failed"]
    assert server.asked("Say yes.") == 2, "after three, and after three more"
    for index in range(7):
        server.say(f"q{index}", message(str(index)))
    assert [*run(suite, endpoint, out).outcomes.values()] == ["passed"] * 8 + ["failed"]


def test_items_that_are_refused_do_not_end_the_run(
    tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint
) -> None:
    """Nor does a server that does not want our simple question: it refuses a request, not its service."""
    server.otherwise = Reply(b'{"error": {"message": "max_tokens is not supported"}}', status=400)
    found = run(read_suite(numbers(tmp_path, 5)), endpoint, tmp_path / "out.jsonl")
    assert {*found.outcomes.values()} == {"error"}


@pytest.mark.parametrize("reply", [Reply(status=404), Reply(b"<html>"), Reply(end="die"), Reply(wait=5)], ids=repr)
def test_whatever_is_no_answer_ends_the_run(
    tmp_path: Path, server: ScriptedEndpoint, endpoint: Endpoint, reply: Reply
) -> None:
    server.otherwise = reply
    with pytest.raises(SourceError, match=r"answers no question at all \(the server"):
        run(read_suite(numbers(tmp_path, 4)), endpoint, tmp_path / "out.jsonl", parallel=4)


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
    from requant.ground.errors import UnsupportedError

    monkeypatch.setattr(sandbox, "JAIL", tmp_path / "jail.py")
    (tmp_path / "jail.py").write_text('import os, sys\nos.write(int(sys.argv[1]), b\'{"error": "no new namespaces"}\')')
    sandbox.require_isolation.cache_clear()
    with pytest.raises(UnsupportedError, match="code cannot be isolated here"):
        run(read_suite(SUITES / "code.jsonl"), endpoint, tmp_path / "out.jsonl")
    assert not server.requests and not (tmp_path / "out.jsonl").exists()


# Counting.


def test_summary() -> None:
    found = summary({"a": "passed", "b": "failed", "c": "truncated", "d": "error", "e": "passed"})
    assert found == Summary(5, 2, 1, 1, 1, 0.5, found.interval)
    assert (found.interval.low, found.interval.high) == (pytest.approx(0.15, abs=0.005), pytest.approx(0.85, abs=0.005))
    assert summary({"a": "error"}).score is None and summary({}).score is None
