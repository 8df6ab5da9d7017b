"""Verifiers: from an answer and an item's ``verify`` to a verdict. ``docs/suites.md`` says what each accepts.

The content decides. Only where it holds no answer at all is the reasoning looked at, and an answer found there passes
only if the item says ``"where": "any"``.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from requant.documents.results import Outcome
from requant.evaluation.behaviour import calls
from requant.evaluation.behaviour.answer import Answer, Part, Verdict
from requant.evaluation.behaviour.choices import chosen_letters
from requant.evaluation.behaviour.numbers import last_number, read_number
from requant.evaluation.behaviour.patterns import SECONDS as REGEX_SECONDS
from requant.evaluation.behaviour.patterns import matches
from requant.evaluation.behaviour.sandbox import SECONDS as CODE_SECONDS
from requant.evaluation.behaviour.sandbox import run as run_isolated
from requant.ground.errors import RecipeError

FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$", re.MULTILINE)
PYTHON = ("python", "py", "python3")


@dataclass(frozen=True)
class Finding:
    """What one text says: right or wrong, or (``absent``) no answer at all."""

    passed: bool
    reason: str
    absent: bool = False


def judge(verify: Mapping[str, Any], answer: Answer) -> tuple[Outcome, Verdict]:
    """The outcome and the verdict. An answer that was cut off is ``truncated``, whatever stands in it.

    Raises:
        UnsupportedError: when code is to be run and this system cannot isolate it.
    """
    if answer.finish_reason == "length":
        return Outcome.TRUNCATED, Verdict(False, "the answer was cut off at the token limit")
    verdict = verdict_of(verify, answer)
    return Outcome.PASSED if verdict.passed else Outcome.FAILED, verdict


def verdict_of(verify: Mapping[str, Any], answer: Answer) -> Verdict:
    """The verdict on an answer that is whole; raises UnsupportedError as ``judge`` does."""
    if verify["kind"] == "tool_call":
        why = calls.judge(verify, answer.tool_calls)
        return Verdict(why is None, why or "the calls are as expected")
    look = TEXT_VERIFIERS[verify["kind"]]
    finding = look(verify, answer.content)
    if not finding.absent:
        return Verdict(finding.passed, finding.reason, "content")
    inner = look(verify, answer.reasoning_content)
    if inner.absent:
        return Verdict(False, finding.reason)
    part: Part = "reasoning_content"
    if verify.get("where") == "any":
        return Verdict(inner.passed, inner.reason, part)
    return Verdict(False, f"only in the reasoning: {inner.reason}", part)


def folded(text: str, *, ignore_case: bool) -> str:
    """Unicode NFKC, each run of white space as one space and, if wanted, without upper case."""
    text = unicodedata.normalize("NFKC", text)
    if ignore_case:
        # Folding can undo the normal form.
        text = unicodedata.normalize("NFKC", text.casefold())
    return " ".join(text.split())


def _missing(verify: Mapping[str, Any], phrases: list[str], text: str) -> list[str]:
    ignore_case = verify.get("ignore_case", False)
    within = folded(text, ignore_case=ignore_case)
    return [phrase for phrase in phrases if folded(phrase, ignore_case=ignore_case) not in within]


def _contains(verify: Mapping[str, Any], text: str) -> Finding:
    missing = _missing(verify, verify["all"], text)
    if missing:
        return Finding(False, f"{missing[0][:100]!r} is missing", absent=True)
    return Finding(True, "all is there")


def _n_of_m(verify: Mapping[str, Any], text: str) -> Finding:
    count = len(verify["of"]) - len(_missing(verify, verify["of"], text))
    return Finding(count >= verify["n"], f"{count} of {len(verify['of'])} are there", absent=count < verify["n"])


def _numeric(verify: Mapping[str, Any], text: str) -> Finding:
    expected, last = read_number(str(verify["value"])), last_number(text)
    if expected is None:
        raise RecipeError(f"verify.value is {verify['value']!r}; write one number, such as 12.5 or 1/3")
    if last is None:
        return Finding(False, "there is no number", absent=True)
    found, has_sign = last
    if verify.get("percent") and has_sign:
        found *= 100
    allowed = max(_exact(verify.get("absolute", 0)), _exact(verify.get("relative", 0)) * abs(expected))
    return Finding(abs(found - expected) <= allowed, f"the answer is {_shown(found)}")


def _exact(number: float) -> Fraction:
    return Fraction(repr(number))


def _shown(number: Fraction) -> str:
    text = str(number)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _choice(verify: Mapping[str, Any], text: str) -> Finding:
    letters = chosen_letters(text)
    if not letters:
        return Finding(False, "no letter is chosen", absent=True)
    if len(letters) > 1:
        return Finding(False, f"it contradicts itself: {', '.join(letters)}")
    return Finding(letters == [verify["answer"]], f"the answer is {letters[0]}")


def _regex(verify: Mapping[str, Any], text: str) -> Finding:
    flags = re.IGNORECASE if verify.get("ignore_case") else 0
    whole = bool(verify.get("whole"))
    text = text.strip() if whole else text
    found = matches(verify["pattern"], [text], whole=whole, flags=flags)
    if found is None:
        return Finding(False, f"the pattern could not be matched within {REGEX_SECONDS} seconds")
    return Finding(found[0], "the pattern matches" if found[0] else "the pattern does not match", absent=not found[0])


def _code_executes(verify: Mapping[str, Any], text: str) -> Finding:
    program = last_program(text)
    if program is None:
        return Finding(False, "there is no block of Python", absent=True)
    result = run_isolated(program, verify["tests"], seconds=verify.get("seconds", CODE_SECONDS))
    return Finding(result.passed, result.reason)


def last_program(text: str) -> str | None:
    """The last fenced block that is marked as Python or, without any, the last one that has no mark; None without."""
    blocks: list[tuple[str, str]] = []
    opened: re.Match[str] | None = None
    for fence in FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence["fence"].startswith(opened["fence"]) and not fence["info"].strip():
            words = opened["info"].lower().split()
            blocks.append((words[0] if words else "", text[opened.end() : fence.start()].removeprefix("\n")))
            opened = None
    marked = [program for mark, program in blocks if mark in PYTHON]
    return next(reversed(marked or [program for mark, program in blocks if not mark]), None)


TEXT_VERIFIERS: Mapping[str, Callable[[Mapping[str, Any], str], Finding]] = {
    "contains": _contains,
    "n_of_m": _n_of_m,
    "numeric": _numeric,
    "choice": _choice,
    "regex": _regex,
    "code_executes": _code_executes,
}
"""By kind, for all that read text; an item's ``verify`` and one text go in."""
