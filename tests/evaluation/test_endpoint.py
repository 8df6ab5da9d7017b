"""requant.evaluation.behaviour.endpoint against a scripted server: every answer becomes an outcome, every key stays a secret."""

import json
from pathlib import Path

import pytest

from requant.documents.results import read_results
from requant.evaluation.behaviour import endpoint as client
from requant.evaluation.behaviour.endpoint import Endpoint, Settings, key_from, read_response, request_of
from requant.evaluation.behaviour.suite import read_suite
from requant.ground.errors import PlaceError, RecipeError, SourceError
from support.checkout import SUITES
from support.endpoint import Reply, ScriptedEndpoint, calls, message
from support.endpoint.suites import lines, numbers, run


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
    "refused in a message": ([Reply(b'{"error": {"code": 400, "message": "no\\n\\n tools"}}', status=400)], "error", "the server answered 400 (no tools)", 1),
    "refused at length": ([Reply(json.dumps({"error": {"message": "a" * 200 + "why"}}).encode(), status=400)], "error", f"the server answered 400 ({'a' * 98} … {'a' * 95}why)", 1),
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


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_without_a_server_is_no_server(server: ScriptedEndpoint, endpoint: Endpoint, status: int) -> None:
    server.models = Reply(status=status)
    with pytest.raises(SourceError, match=f"/v1 cannot be reached yet .it answered {status}.: start the server"):
        endpoint.require_reachable()


LOOPBACK = {
    "http://127.0.0.1:8080": True,
    "http://127.9.9.9": True,
    "https://localhost": True,
    "http://LocalHost:1/v1": True,
    "http://[::1]:8080/v1": True,
    "http://192.0.2.1": False,
    "http://[2001:db8::1]": False,
    "http://localhost.example": False,
    "http://127.example": False,
}


@pytest.mark.parametrize(("url", "loopback"), LOOPBACK.items())
def test_no_proxy_stands_before_this_machine(monkeypatch: pytest.MonkeyPatch, url: str, loopback: bool) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    endpoint = Endpoint(url)
    assert endpoint.client.trust_env is not loopback
    endpoint.close()


def test_the_key_goes_past_a_proxy_to_this_machine(server: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    with ScriptedEndpoint() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        endpoint = Endpoint(server.url, "sk-secret")
        endpoint.ask({"messages": [{"content": "x"}]})
        endpoint.close()
        assert (server.keys, proxy.keys) == (["Bearer sk-secret"], [])


def test_a_busy_server_is_waited_for_as_long_as_it_asks(
    server: ScriptedEndpoint, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    server.say("x", Reply(status=429, headers={"Retry-After": "240"}), message("0"))
    assert endpoint.ask({"messages": [{"content": "x"}]}).answer
    assert "trying again in 240 s" in caplog.text


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
