"""requant.evaluation.behaviour.suite: a suite is read whole, or refused in one sentence that names the line."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from requant.documents.schemas import SCHEMAS, fault, read_yaml
from requant.evaluation.behaviour import suite as suites
from requant.evaluation.behaviour.suite import drawn, read_suite
from requant.ground.errors import FormatError, RecipeError, RequantError
from support.checkout import SUITES

MESSAGES = [{"role": "user", "content": "What is six times seven?"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
NUMERIC = {"kind": "numeric", "value": 42}


def item(**changes: Any) -> dict[str, Any]:
    """A good item with other values; None removes a key."""
    document = {"id": "a", "messages": MESSAGES, "verify": NUMERIC, **changes}
    return {key: value for key, value in document.items() if value is not None}


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "suite.jsonl"
    path.write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines))
    return path


def test_a_suite(tmp_path: Path) -> None:
    path = written(tmp_path, item(), item(id="b/2", tools=[TOOL], max_tokens=9, tags=["x"], verify=call()))
    suite = read_suite(path)
    assert suite.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    first, second = suite.items
    assert (first.id, first.messages, first.verify, first.tools, first.max_tokens) == ("a", MESSAGES, NUMERIC, (), None)
    assert (second.id, second.tools, second.max_tokens, second.tags) == ("b/2", [TOOL], 9, ["x"])


def call(name: str = "add", **more: Any) -> dict[str, Any]:
    return {"kind": "tool_call", "calls": [{"name": name, "arguments": {}, **more}]}


def test_the_last_line_may_lack_its_end(tmp_path: Path) -> None:
    assert len(read_suite(written(tmp_path, item(), json.dumps(item(id="b")).encode())).items) == 2


@pytest.mark.parametrize(
    "verify",
    [
        call(),
        call(optional=["x"]),
        {"kind": "tool_call", "calls": [], "order": "given"},
        {"kind": "tool_call", "calls": [{"name": "add", "arguments": {"a": [{"any_of": [1, {"any_of": [2]}]}]}}]},
        {"kind": "contains", "all": ["x"], "ignore_case": True, "where": "any"},
        {"kind": "n_of_m", "n": 2, "of": ["x", "y"]},
        {"kind": "numeric", "value": "1/3", "relative": 0.01, "absolute": 0, "percent": False},
        {"kind": "numeric", "value": -2.5e-3},
        {"kind": "choice", "answer": "J"},
        {"kind": "regex", "pattern": "^a+$", "whole": True},
        {"kind": "code_executes", "tests": "assert f() == 1", "seconds": 60},
    ],
    ids=json.dumps,
)
def test_good_verifiers(tmp_path: Path, verify: dict[str, Any]) -> None:
    assert read_suite(written(tmp_path, item(tools=[TOOL], verify=verify))).items[0].verify == verify


BAD: dict[str, tuple[Any, str]] = {
    "broken JSON": (b'{"id": "x",\n', "is not valid JSON"),
    "not JSON at all": (b"id: x\n", "is not valid JSON"),
    "NaN": (b'{"id": "x", "messages": [], "verify": NaN}\n', "NaN is not a JSON number"),
    "a key twice": (b'{"id": "x", "id": "y"}\n', "a key stands twice"),
    "nested too deep": (b"[" * 100_000 + b"\n", "is not valid JSON"),
    "an empty line": (b"\n", "is empty: remove it"),
    "spaces": (b"  \n", "is empty: remove it"),
    "not UTF-8": (b'{"id": "\xff"}\n', "is not UTF-8"),
    "a long line": (b'"' + b"x" * (1 << 20) + b'"\n', "has more than the 1,048,576 bytes allowed"),
    "half a character": (b'{"id": "x", "messages": [{"role": "user", "content": "\\ud800"}], "verify": {"kind": "numeric", "value": 1}}\n', "is not Unicode"),
    "a list": ([], "the document is an empty list; write a mapping"),
    "no id": (item(id=None), "id is missing; write a name that stands once in the file"),
    "an odd id": (item(id="a b"), "id is 'a b'; write a name that stands once"),
    "a number as id": (item(id=7), "id is 7; write text: a name"),
    "an id twice": (item(), "id is 'a', as on line 1; give each item its own"),
    "an unknown key": (item(id="b", tag=["x"]), "tag is not a known key (did you mean tags?); write only id"),
    "no messages": (item(id="b", messages=[]), "messages is an empty list; write the messages that are sent"),
    "an unknown role": (item(id="b", messages=[{"role": "usr", "content": ""}]), "messages.0.role is 'usr'; write one of system, user, assistant, tool (did you mean user?)"),
    "no content": (item(id="b", messages=[{"role": "user"}]), "messages.0.content is missing"),
    "content of parts": (item(id="b", messages=[{"role": "user", "content": []}]), "messages.0.content is an empty list; write text or nothing"),
    "no tokens": (item(id="b", max_tokens=0), "max_tokens is 0; write the most tokens"),
    "true as a number": (item(id="b", max_tokens=True), "max_tokens is True; write a whole number"),
    "tags twice": (item(id="b", tags=["x", "x"]), "tags lists something twice"),
    "no verifier": (item(id="b", verify=None), "verify is missing; write how the answer is verified"),
    "no kind": (item(id="b", verify={}), "verify.kind is missing; write the name of a verifier"),
    "an unknown verifier": (item(id="b", verify={"kind": "numerics", "value": 1}), "verify.kind is 'numerics'; write one of tool_call, contains, n_of_m, numeric, choice, regex, code_executes (did you mean numeric?)"),
    "a verifier's unknown key": (item(id="b", verify={**NUMERIC, "tolerance": 1}), "verify.tolerance is not a known key; write only kind, value, absolute, relative, percent, where"),
    "another verifier's key": (item(id="b", verify={"kind": "choice", "answer": "A", "value": 1}), "verify.value is not a known key; write only kind, answer, where"),
    "a verifier's missing key": (item(id="b", verify={"kind": "choice"}), "verify.answer is missing; write one letter from A to J"),
    "a wrong letter": (item(id="b", verify={"kind": "choice", "answer": "K"}), "verify.answer is 'K'; write one of A, B"),
    "a wrong part": (item(id="b", verify={**NUMERIC, "where": "reasoning"}), "verify.where is 'reasoning'; write one of content, any"),
    "no number": (item(id="b", verify={"kind": "numeric", "value": "about 5"}), "verify.value is 'about 5'; write one number"),
    "two numbers": (item(id="b", verify={"kind": "numeric", "value": "3 and 4"}), "verify.value is '3 and 4'"),
    "a negative tolerance": (item(id="b", verify={**NUMERIC, "absolute": -1}), "verify.absolute is -1; write how far off"),
    "nothing in the request": (item(id="b", request={}), "request is an empty mapping; write more keys of the request"),
    "another model in the request": (item(id="b", request={"model": "x"}), "request.model is set by other keys or by whoever asks; leave it out"),
    "a streamed answer": (item(id="b", request={"stream": True}), "request.stream is set by other keys"),
    "an infinite tolerance": (b'{"id": "b", "messages": [{"role": "user", "content": ""}], "verify": {"kind": "numeric", "value": 1, "relative": 1e999}}\n', "verify.relative is infinite"),
    "a huge number": (item(id="b", verify={"kind": "numeric", "value": 10**500}), "write one number"),
    "nothing to contain": (item(id="b", verify={"kind": "contains", "all": []}), "verify.all is an empty list"),
    "an empty phrase": (item(id="b", verify={"kind": "contains", "all": [""]}), "verify.all.0 is ''"),
    "more than there are": (item(id="b", verify={"kind": "n_of_m", "n": 3, "of": ["x", "y"]}), "verify.n is 3, but verify.of has 2; write no more"),
    "a broken pattern": (item(id="b", verify={"kind": "regex", "pattern": "("}), "verify.pattern is no regular expression of Python (missing ), unterminated subpattern at position 0)"),
    "a long pattern": (item(id="b", verify={"kind": "regex", "pattern": "a" * 2001}), "verify.pattern is longer than 2,000 characters"),
    "broken tests": (item(id="b", verify={"kind": "code_executes", "tests": "x = 1\nassert f( == 1"}), "verify.tests is not Python at its line 2"),
    "too much time": (item(id="b", verify={"kind": "code_executes", "tests": "x", "seconds": 61}), "verify.seconds is 61; write how long it may run"),
    "a call of no tool": (item(id="b", verify=call()), "verify.calls.0.name is 'add'; write one of the item's tools (it has none)"),
    "a call of another tool": (item(id="b", tools=[TOOL], verify=call("ad")), "verify.calls.0.name is 'ad'; write one of the item's tools (add)"),
    "a half choice": (item(id="b", tools=[TOOL], verify=call(arguments={"x": {"any_of": [1], "y": 2}})), 'verify.calls.0.arguments.x is not a choice; write {"any_of": [...]}'),
    "an empty choice": (item(id="b", tools=[TOOL], verify=call(arguments={"x": [{"any_of": []}]})), "verify.calls.0.arguments.x.0 is not a choice"),
    "a tool twice": (item(id="b", tools=[TOOL, TOOL]), "tools lists something twice; write each entry once|tools has two of one name"),
    "a tool without parameters": (item(id="b", tools=[{"type": "function", "function": {"name": "x"}}]), "tools.0.function.parameters is missing"),
    "no schema": (item(id="b", tools=[{"type": "function", "function": {"name": "x", "parameters": {"type": "txt"}}}]), "tools.0.function.parameters.type is not a JSON schema"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_lines(tmp_path: Path, name: str) -> None:
    line, words = BAD[name]
    path = written(tmp_path, item(), line, item(id="last"))
    with pytest.raises(RequantError) as caught:
        read_suite(path)
    text = str(caught.value)
    assert text.startswith(f"{path} line 2")
    assert any(part in text for part in words.split("|")), text
    assert "\n" not in text and len(text) < 600 + len(str(path))


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty: write one JSON object a line"), (None, "check the path")]
)
def test_bad_files(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "suite.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError, match=words):
        read_suite(path)
    with pytest.raises(FormatError, match="is not a file"):
        read_suite(tmp_path)


def test_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "MAX_FILE", 100)
    with pytest.raises(FormatError, match="more than the 100 bytes allowed"):
        read_suite(written(tmp_path, item()))


def test_drawing(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, *(item(id=str(number)) for number in range(20))))
    some = drawn(suite.items, 7, 1)
    assert [one.id for one in some] == sorted({one.id for one in some}, key=int) and len(some) == 7
    assert drawn(suite.items, 7, 1) == some != drawn(suite.items, 7, 2)
    assert drawn(suite.items, None, 1) == drawn(suite.items, 20, 3) == suite.items
    with pytest.raises(RecipeError, match="--items is 21, but the suite has 20 items"):
        drawn(suite.items, 21, 0)


def test_every_verifier_has_its_keys_in_the_schema() -> None:
    from requant.evaluation.behaviour.verifiers import TEXT_VERIFIERS

    schema = read_yaml(SCHEMAS / "suite.schema.yaml")
    kinds = schema["properties"]["verify"]["properties"]["kind"]["enum"]
    assert {*kinds} == {"tool_call", *TEXT_VERIFIERS}
    for kind in kinds:
        assert schema["$defs"][kind]["properties"]["kind"]["const"] == kind
        said = fault(item(verify={"kind": kind, "surely_not": 1}), "suite", "x")
        assert said is not None and "verify.surely_not is not a known key" in said


@pytest.mark.parametrize(("name", "count"), [("tool_calls", 15), ("code", 8)])
def test_our_own_suites(name: str, count: int) -> None:
    assert len(read_suite(SUITES / f"{name}.jsonl").items) == count
