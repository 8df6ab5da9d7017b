"""Berkeley's function-calling sets from the real package: every item is usable, and its own answer passes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from requant.documents.pins import read_pins
from requant.evaluation.behaviour.berkeley import SETS, _items, _schema, fetch_suites
from requant.evaluation.behaviour.calls import judge
from requant.evaluation.behaviour.suite import Item, Suite, read_suite
from requant.ground.errors import FormatError
from support.checkout import ROOT

COUNTS = {"bfcl_simple": 400, "bfcl_multiple": 200, "bfcl_irrelevance": 240}


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Suite]:
    folder = tmp_path_factory.mktemp("suites")
    fetch_suites(read_pins(ROOT / "config" / "pins.yaml").suites["bfcl"], folder, folder / "log")
    return {name: read_suite(folder / f"{name}.jsonl") for name in SETS}


def test_all_items_are_there(suites: dict[str, Suite]) -> None:
    assert {name: len(suite.items) for name, suite in suites.items()} == COUNTS
    tools = [tool["function"] for suite in suites.values() for item in suite.items for tool in item.tools]
    assert all(tool["parameters"]["type"] == "object" and "." not in tool["name"] for tool in tools)


def first(value: Any) -> Any:
    """One value of those that may be."""
    return first(value["any_of"][0]) if isinstance(value, dict) and [*value] == ["any_of"] else value


def made(item: Item, *, without_optional: bool = False) -> list[dict[str, Any]]:
    """The calls that an item expects, as a server sends them."""
    calls = []
    for call in item.verify["calls"]:
        skipped = call.get("optional", []) if without_optional else []
        arguments = {key: first(value) for key, value in call["arguments"].items() if key not in skipped}
        calls.append({"function": {"name": call["name"], "arguments": json.dumps(arguments)}})
    return calls


@pytest.mark.parametrize("without_optional", [False, True])
def test_every_right_answer_passes(suites: dict[str, Suite], without_optional: bool) -> None:
    for suite in suites.values():
        for item in suite.items:
            assert judge(item.verify, made(item, without_optional=without_optional)) is None, item.id


def test_wrong_answers_fail(suites: dict[str, Suite]) -> None:
    call = {"function": {"name": "f", "arguments": "{}"}}
    for name, suite in suites.items():
        for item in suite.items:
            assert judge(item.verify, [call])
            assert (judge(item.verify, []) is None) == (name == "bfcl_irrelevance")
            if item.verify["calls"] and item.verify["calls"][0]["arguments"]:
                [good] = made(item)
                arguments = dict.fromkeys(json.loads(good["function"]["arguments"]), "certainly not this")
                bad = {"function": {**good["function"], "arguments": json.dumps(arguments)}}
                assert judge(item.verify, [bad]), item.id


def test_texts_are_compared_loosely(suites: dict[str, Suite]) -> None:
    verify = {"kind": "tool_call", "calls": [{"name": "f", "arguments": {"city": "New York, NY"}}]}
    call = {"function": {"name": "f", "arguments": '{"city": "new york NY."}'}}
    assert judge(verify, [call]) is not None
    assert judge({**verify, "loose_text": True}, [call]) is None


def test_types_become_those_of_json_schema() -> None:
    theirs = {
        "type": "dict", "required": ["a"], "properties": {
            "a": {"type": "float", "description": "d", "default": 1.0, "optional": True},
            "b": {"type": "tuple", "items": {"type": "any"}},
        },
    }  # fmt: skip
    assert _schema(theirs) == {
        "type": "object", "required": ["a"], "properties": {
            "a": {"type": "number", "description": "d"}, "b": {"type": "array", "items": {}},
        },
    }  # fmt: skip


def test_a_package_without_the_data(tmp_path: Path) -> None:
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other", "")
    with pytest.raises(FormatError, match=r"the package lacks bfcl_eval/data/BFCL_v4_irrelevance\.json: pin another"):
        list(_items(wheel, "bfcl_eval/data", "irrelevance"))
