"""Suites: files of questions, one JSON object a line, each with what its answer must be. ``docs/suites.md`` says how.

The shape of a line is described in ``workflow/schemas/suite.schema.yaml``; here stands only what one key says of
another. A suite is known by the SHA-256 of its bytes.
"""

import math
import random
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from requant.documents.schemas import fault
from requant.evaluation.behaviour.numbers import read_number
from requant.ground.canonical import parse
from requant.ground.digests import digest_bytes, read_small
from requant.ground.errors import FormatError, RecipeError

T = TypeVar("T")
MAX_FILE = 1 << 26
MAX_LINE = 1 << 20
# What makes two runs the same, or the answer one that can be read.
OURS = {
    "model", "messages", "tools", "max_tokens", "max_completion_tokens", "temperature", "seed", "chat_template_kwargs",
    "stream", "n",
}  # fmt: skip
MAX_PATTERN = 2000
"""Characters: compiling a longer one could take long."""


@dataclass(frozen=True)
class Item:
    """One question. ``messages``, ``tools`` and ``request`` are sent as they are; ``verify`` names the verifier."""

    id: str
    messages: Sequence[Mapping[str, Any]]
    verify: Mapping[str, Any]
    tools: Sequence[Mapping[str, Any]] = ()
    max_tokens: int | None = None
    tags: Sequence[str] = ()
    request: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """All questions of a file, in its order, and the SHA-256 of its bytes."""

    sha256: str
    items: tuple[Item, ...]


def read_suite(path: Path) -> Suite:
    """Read a suite, and refuse it whole if one line is wrong.

    Raises:
        FormatError: when the file or a line is missing, too long or not JSON, naming the file and the line.
        RecipeError: when a line says something that no item can, naming file, line and key.
    """
    data = read_small(path, MAX_FILE)
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    if not lines:
        raise FormatError(f"{path} is empty: write one JSON object a line")
    items: dict[str, tuple[int, Item]] = {}
    for number, line in enumerate(lines, 1):
        where = f"{path} line {number}"
        item = _item(line, where)
        if item.id in items:
            raise RecipeError(f"{where}: id is {item.id!r}, as on line {items[item.id][0]}; give each item its own")
        items[item.id] = (number, item)
    return Suite(digest_bytes(data).sha256, tuple(item for _, item in items.values()))


def drawn(items: Sequence[T], count: int | None, seed: int) -> tuple[T, ...]:
    """All items, or ``count`` of them drawn with ``seed``, in their order.

    Raises:
        RecipeError: when the suite has fewer.
    """
    if count is None:
        return tuple(items)
    if count > len(items):
        raise RecipeError(f"--items is {count}, but the suite has {len(items)} items; ask for no more")
    chosen = random.Random(seed).sample(range(len(items)), count)  # noqa: S311 - a sample, not a secret
    return tuple(items[index] for index in sorted(chosen))


def _item(line: bytes, where: str) -> Item:
    if len(line) > MAX_LINE:
        raise FormatError(f"{where} has more than the {MAX_LINE:,} bytes allowed: shorten the item")
    if not line.strip():
        raise FormatError(f"{where} is empty: remove it")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{where} is not UTF-8: save the file as UTF-8") from error
    document = parse(text.encode(), where)
    if wrong := fault(document, "suite", where):
        raise RecipeError(wrong)
    _check_text(document, where)
    _check_tools(document, where)
    for key in OURS & document.get("request", {}).keys():
        raise RecipeError(f"{where}: request.{key} is set by other keys or by whoever asks; leave it out")
    _check_verify(document["verify"], [tool["function"]["name"] for tool in document.get("tools", ())], where)
    return Item(**document)


def _check_text(document: Any, where: str) -> None:
    """JSON can write half a character (``\\ud800``), which cannot be sent."""
    try:
        for text in _texts(document):
            text.encode()
    except UnicodeEncodeError as error:
        raise FormatError(f"{where} holds text that is not Unicode: remove the lone surrogate") from error


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for key, item in value.items() for text in (key, *_texts(item))]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def _check_tools(document: Mapping[str, Any], where: str) -> None:
    names = [tool["function"]["name"] for tool in document.get("tools", ())]
    if len({*names}) < len(names):
        raise RecipeError(f"{where}: tools has two of one name; give each its own")
    for index, tool in enumerate(document.get("tools", ())):
        try:
            Draft202012Validator.check_schema(tool["function"]["parameters"])
        except SchemaError as error:
            key = ".".join(map(str, ("tools", index, "function", "parameters", *error.absolute_path)))
            raise RecipeError(f"{where}: {key} is not a JSON schema ({error.message[:100]}); correct it") from error


def _check_verify(verify: Mapping[str, Any], tools: Sequence[str], where: str) -> None:
    """What the schema cannot say: keys that must fit to others."""
    kind = verify["kind"]
    if kind == "tool_call":
        for index, call in enumerate(verify["calls"]):
            if call["name"] not in tools:
                raise RecipeError(
                    f"{where}: verify.calls.{index}.name is {call['name']!r}; write one of the item's tools"
                    f" ({', '.join(tools) or 'it has none'})"
                )
            _check_alternatives(call["arguments"], f"verify.calls.{index}.arguments", where)
    elif kind == "n_of_m" and verify["n"] > len(verify["of"]):
        raise RecipeError(f"{where}: verify.n is {verify['n']}, but verify.of has {len(verify['of'])}; write no more")
    elif kind == "numeric":
        _check_number(verify, where)
    elif kind == "regex":
        _check_pattern(verify["pattern"], where)
    elif kind == "code_executes":
        _check_python(verify["tests"], where)


def _check_number(verify: Mapping[str, Any], where: str) -> None:
    if read_number(str(verify["value"])) is None:
        raise RecipeError(f"{where}: verify.value is {verify['value']!r:.60}; write one number, such as 12.5 or 1/3")
    for key in ("absolute", "relative"):
        if math.isinf(verify.get(key, 0)):
            raise RecipeError(f"{where}: verify.{key} is infinite; write how far off the answer may be")


def _check_alternatives(value: Any, key: str, where: str) -> None:
    if isinstance(value, Mapping):
        if "any_of" in value and not (len(value) == 1 and isinstance(value["any_of"], list) and value["any_of"]):
            raise RecipeError(f'{where}: {key} is not a choice; write {{"any_of": [...]}} with a list and no other key')
        for name, item in value.items():
            _check_alternatives(item, f"{key}.{name}", where)
    for index, item in enumerate(value if isinstance(value, list) else ()):
        _check_alternatives(item, f"{key}.{index}", where)


def _check_pattern(pattern: str, where: str) -> None:
    if len(pattern) > MAX_PATTERN:
        raise RecipeError(f"{where}: verify.pattern is longer than {MAX_PATTERN:,} characters; shorten it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise RecipeError(
            f"{where}: verify.pattern is no regular expression of Python ({error}); correct it"
        ) from error


def _check_python(tests: str, where: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(tests, "tests", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f" at its line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise RecipeError(f"{where}: verify.tests is not Python{place}; correct it") from error
