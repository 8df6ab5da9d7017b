"""Whether the tool calls of an answer are those that were expected: the right tools with the right arguments."""

from collections.abc import Mapping, Sequence
from typing import Any

from requant.ground.canonical import parse
from requant.ground.errors import FormatError

MAX_CALLS = 64
"""In one answer. More are not matched against each other, which would take the square of their number."""


MARKS = str.maketrans({"'": '"', **dict.fromkeys(" ,./-_*^")})


def judge(verify: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]) -> str | None:
    """Compare calls with ``verify``, a ``tool_call`` verifier; None where they are right, else one line of why not.

    Each call is ``{"function": {"name": text, "arguments": JSON as text}}``.
    """
    expected, loose = verify["calls"], verify.get("loose_text", False)
    if len(calls) > MAX_CALLS:
        return f"it made {len(calls)} calls; more than {MAX_CALLS} are not looked at"
    made = []
    for number, call in enumerate(calls, 1):
        found = _read(call)
        if isinstance(found, str):
            return f"call {number} {found}"
        made.append(found)
    if not expected and made:
        return f"it called {made[0][0]}, but no call was to be made"
    if len(made) != len(expected):
        names = ", ".join(name for name, _ in made) or "none"
        return f"it made {len(made)} calls ({names[:200]}), {len(expected)} were expected"
    if verify.get("order", "any") == "given":
        return next((why for one in zip(expected, made, strict=True) if (why := _differs(*one, loose))), None)
    return _unordered(expected, made, loose)


def equal(expected: Any, found: Any, loose: bool = False) -> bool:
    """Whether two JSON values are equal: numbers by value, true is no number, ``any_of`` offers several.

    ``loose`` compares texts as Berkeley's function-calling sets do: without case, spaces and some marks.
    """
    if isinstance(expected, Mapping) and [*expected] == ["any_of"]:
        return any(equal(one, found, loose) for one in expected["any_of"])
    if isinstance(expected, bool) or isinstance(found, bool) or expected is None or found is None:
        return expected is found
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return expected == found
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        return expected.keys() == found.keys() and all(equal(expected[key], found[key], loose) for key in expected)
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(equal(*pair, loose) for pair in zip(expected, found, strict=True))
    if not isinstance(expected, str) or not isinstance(found, str):
        return False
    return expected == found or (loose and _bare(expected) == _bare(found))


def _bare(text: str) -> str:
    return text.translate(MARKS).casefold()


def _read(call: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | str:
    """The name and arguments of a call, or what is wrong with it."""
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return "names no function"
    name, text = function["name"], function.get("arguments", "")
    if not isinstance(text, str):
        return f"of {name[:64]!r} has arguments that are not JSON as text"
    try:
        # Some servers write nothing where a tool takes no arguments.
        arguments = parse(text.encode(), "arguments") if text.strip() else {}
    except (FormatError, UnicodeEncodeError):
        return f"of {name[:64]!r} has arguments that are not valid JSON"
    if not isinstance(arguments, Mapping):
        return f"of {name[:64]!r} has arguments that are no JSON object"
    return name, arguments


def _differs(expected: Mapping[str, Any], made: tuple[str, Mapping[str, Any]], loose: bool) -> str | None:
    name, arguments = made
    if name != expected["name"]:
        return f"it called {name[:64]!r}, expected was {expected['name']}"
    wanted, optional = expected["arguments"], expected.get("optional", [])
    for key in wanted:
        if key not in arguments and key not in optional:
            return f"the call of {name} lacks the argument {key!r}"
    for key, value in arguments.items():
        if key not in wanted and key not in optional:
            return f"the call of {name} has the argument {key[:64]!r}, which was not expected"
        if key in wanted and not equal(wanted[key], value, loose):
            return f"the call of {name} has another value of {key!r} than expected: {value!r:.100}"
    return None


def _unordered(
    expected: Sequence[Mapping[str, Any]], made: Sequence[tuple[str, Mapping[str, Any]]], loose: bool
) -> str | None:
    """Match calls one to one, by augmenting paths; calls that fit several expected ones must not block each other."""
    whys = [[_differs(one, call, loose) for call in made] for one in expected]
    holder: dict[int, int] = {}  # call -> the expected one that it stands for

    def place(wanted: int, seen: set[int]) -> bool:
        for call, why in enumerate(whys[wanted]):
            if why is None and call not in seen:
                seen.add(call)
                if call not in holder or place(holder[call], seen):
                    holder[call] = wanted
                    return True
        return False

    for wanted in range(len(expected)):
        if not place(wanted, set()):
            # Of the reasons, one about the right tool says most.
            same = [whys[wanted][call] for call, (name, _) in enumerate(made) if name == expected[wanted]["name"]]
            return next((why for why in same if why), None) or f"no call of {expected[wanted]['name']} is as expected"
    return None
