"""requant.evaluation.behaviour.verifiers: tables of answers that must pass and that must not, many of them made to mislead."""

import json
import time
from typing import Any

import pytest

from requant.evaluation.behaviour import patterns
from requant.evaluation.behaviour.answer import Answer
from requant.evaluation.behaviour.calls import equal
from requant.evaluation.behaviour.choices import chosen_letters
from requant.evaluation.behaviour.numbers import boxed, last_number, read_number
from requant.evaluation.behaviour.verifiers import judge, last_program, verdict_of
from support.endpoint import calls


def passes(verify: dict[str, Any], content: str) -> bool:
    return verdict_of(verify, Answer(content)).passed


# Where an answer stands.

NUMERIC = {"kind": "numeric", "value": 42}
IN_BOTH = {
    "numeric": (NUMERIC, "It is 42.", "It is 41.", "I cannot say."),
    "choice": ({"kind": "choice", "answer": "C"}, "Answer: C", "Answer: B", "I cannot say."),
    "contains": ({"kind": "contains", "all": ["red", "blue"]}, "red and blue", None, "red"),
    "n_of_m": ({"kind": "n_of_m", "n": 2, "of": ["a1", "b1", "c1"]}, "c1 a1", None, "b1"),
    "regex": ({"kind": "regex", "pattern": "a+b"}, "xaab", None, "ab".replace("a", "")),
    "code_executes": ({"kind": "code_executes", "tests": "assert x == 1"}, "```python\nx = 1\n```", "```\nx = 2\n```", "x = 1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", IN_BOTH)
def test_the_content_decides(kind: str) -> None:
    verify, right, wrong, none = IN_BOTH[kind]
    anywhere = {**verify, "where": "any"}

    def found(verify: dict[str, Any], content: str, reasoning: str) -> tuple[bool, str | None]:
        verdict = verdict_of(verify, Answer(content, reasoning))
        return verdict.passed, verdict.part

    assert found(verify, right, wrong or none) == found(anywhere, right, none) == (True, "content")
    assert found(verify, none, right) == (False, "reasoning_content")
    assert found(anywhere, none, right) == (True, "reasoning_content")
    assert found(verify, none, none) == found(anywhere, "", "") == (False, None)
    if wrong is not None:
        assert found(verify, wrong, right) == found(anywhere, wrong, right) == (False, "content")
        assert found(anywhere, none, wrong) == (False, "reasoning_content")
    assert verdict_of(verify, Answer(none, right)).reason.startswith("only in the reasoning: ")


def test_a_truncated_answer_is_neither_right_nor_wrong() -> None:
    outcome, verdict = judge(NUMERIC, Answer("It is 42", finish_reason="length"))
    assert (outcome, verdict.passed, verdict.reason) == (
        "truncated",
        False,
        "the answer was cut off at the token limit",
    )
    assert judge(NUMERIC, Answer("It is 42"))[0] == "passed"
    assert judge(NUMERIC, Answer("It is 4"))[0] == "failed"


# numeric.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", "42"), ("The answer is 1,234.5.", "2469/2"), ("1 234", "1234"), ("10\u202f000 km", "10000"),
        ("1\u00a0234\u00a0567", "1234567"), ("x = −3", "-3"), ("3.2e5", "320000"), ("1E-3", "1/1000"), ("3/4", "3/4"),
        (r"\frac{3}{4}", "3/4"), (r"-\dfrac{1}{2}", "-1/2"), (r"\boxed{\frac{-1}{2}}", "-1/2"), ("12.5%", "1/8"),
        (r"12.5\%", "1/8"), ("１２３", "123"), ("－４．５", "-9/2"), ("12％", "3/25"), ("答案是４５。", "45"), ("25 m²", "25"),
        ("25 m^2", "25"), ("3.2×10⁵", "320000"), (r"3.2 \times 10^{-5}", "1/31250"), ("5 1/2", "11/2"),
        (r"5\frac{1}{2}", "11/2"), ("½", "1/2"), ("$1,234", "1234"), ("-$5", "-5"), ("1{,}234", "1234"), ("is .5", "1/2"),
        ("7 (see x1)", "7"), ("12 of Q4_K", "12"), ("f(x)=-2", "-2"), ("(-2)", "-2"), ("10 - 3 = 7", "7"), ("3-5", "5"),
        ("first 3, then 4", "4"), (r"\boxed{7} because 8 > 7", "7"), (r"\boxed{1} or \boxed{2}", "2"), ("1.5.", "3/2"),
        (r"\boxed{\text{about } 7 \text{ km}}", "7"), ("12,345,678", "12345678"), ("1,2", "2"), ("a_{12} = 5", "5"),
        ("x_1 = 4, y^2", "4"), ("8 (v1.2.3)", "8"), ("20 °C", "20"), ("1/3 of 6 is 2", "2"), ("+6", "6"), ("0.1", "1/10"),
        (r"$\boxed{1{,}000}$", "1000"), ("**17**", "17"), ("9" * 500 + " or 3", "3"), ("2 or 1/0", "2"),
    ],
)  # fmt: skip
def test_numbers_are_read(text: str, value: str) -> None:
    found = last_number(text)
    assert found is not None and str(found[0]) == value


@pytest.mark.parametrize(
    "text",
    ["", "none", "x1", "1/0", "v1.2.3", "1.2.3.4", r"\boxed{no} 7", "٣", "9" * 500, "1e999999999", "x^2", "∞", "NaN"],
)
def test_no_number_is_read(text: str) -> None:
    assert last_number(text) is None


@pytest.mark.parametrize(("text", "whole"), [("1/3", True), (" 12.5% ", True), ("-7", True), ("7 km", False), ("3 4", False), ("", False)])  # fmt: skip
def test_a_text_that_is_one_number(text: str, whole: bool) -> None:
    assert (read_number(text) is not None) is whole


@pytest.mark.parametrize(
    ("changes", "right", "wrong"),
    [
        ({}, ["42", "42.0", "4.2e1", "84/2"], ["42.0000001", "-42", "4 2", "42%", "The 42 of 7"]),
        ({"value": 0.1}, ["0.1", "1/10", "10%", "1e-1"], ["0.10000000000000001", "0.2"]),
        ({"value": "1/3"}, ["1/3", r"\frac{2}{6}"], ["0.333333"]),
        ({"value": "1/3", "absolute": 0.001}, ["0.333", "33.4%"], ["0.33", "0.3344"]),
        ({"value": -200, "relative": 0.01}, ["-198", "-202", "−201.5"], ["-197.9", "200", "-202.1"]),
        ({"value": 100, "relative": 0.01, "absolute": 5}, ["95", "105"], ["94.9"]),
        ({"value": 12.5, "percent": True}, ["12.5", "12.5%", r"\boxed{12.5\%}", "25/2"], ["0.125", "1250%"]),
        ({"value": 0.125}, ["12.5%", "1/8"], ["12.5"]),
        ({"value": 1e22}, ["10^22 is 1e22", "1 × 10^22"], ["1e21"]),
    ],
    ids=json.dumps,
)
def test_numeric(changes: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    for text in right:
        assert passes({**NUMERIC, **changes}, text), text
    for text in wrong:
        assert not passes({**NUMERIC, **changes}, text), text


def test_boxes() -> None:
    assert boxed(r"\boxed{a} \boxed {b{c}} \fbox{d} \boxed{e\}}") == ["a", "b{c}", r"e\}"]
    assert boxed(r"\boxed{\boxed{1}}") == [r"\boxed{1}"]
    assert boxed(r"\boxed{1 \boxed{2}") == []


# choice.


@pytest.mark.parametrize(
    "text",
    [
        "C", "c", "C.", "(C)", "**C**", "`C`", "“C”", "Answer: C", "**Answer:** C", "**Answer: C**", "Final answer: c", "answer: c.",
        "The answer is C", "The answer is (C).", "The answer is C because A is wrong", "The correct option is C",
        "The correct answer is:\n\n**C. Paris**", "Answer:\n\nC", "the answer would be option C", "Choice: C", "答案：C",
        "答案是（Ｃ）。", "正确答案为 **C**", "故选C", "应选 C。", "选项：C", r"\boxed{C}", r"So \boxed{\text{(C)}}.", r"\boxed{c}",
        r"The answer is $\boxed{C}$", r"\boxed{C}, Answer: C", "option C is correct", "C. Paris", "C) Paris", "A is wrong.\nB too.\n\nC",
        r"\boxed{\textbf{C}}", "Answer: C. Vitamin D is not one.", "A: one, B: two. Answer: C", "Ｃ",
    ],
)  # fmt: skip
def test_c_is_chosen(text: str) -> None:
    assert chosen_letters(text) == ["C"]
    assert passes({"kind": "choice", "answer": "C"}, text)
    assert not passes({"kind": "choice", "answer": "B"}, text)


@pytest.mark.parametrize(
    "text",
    [
        "", "Cat", "Answer: Cat", "answer: cat", "The answer is Chicago", "vitamin C", "Plan C", "A cat", "The answer is A dog",
        "I think so", "The answer is not C", "答案不是C", "不选C", "D'accord", "Answer: A's", "A. x\nB. y\nC. z", "Answer: K",
        r"\boxed{Cat}", r"\boxed{12} C", "C++", "See appendix C\nfor more", "\\boxed{C", "选择了C语言的人", "答案是C语言", "42", "ABC", "C2", "_C_d",
    ],
)  # fmt: skip
def test_nothing_is_chosen(text: str) -> None:
    assert chosen_letters(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "Answer: B. No, wait. Answer: C", r"\boxed{B} \boxed{C}", r"\boxed{B}. Answer: C", "Answer: B and C", "Answer: B, C",
        "The answer is B or C", "答案是B和C", "答案：B、C", "The answer is B. 答案：C", "option B is correct, and the answer is C",
    ],
)  # fmt: skip
def test_contradictions_fail(text: str) -> None:
    assert {*chosen_letters(text)} == {"B", "C"}
    verdicts = [verdict_of({"kind": "choice", "answer": letter}, Answer(text)) for letter in "BC"]
    assert not any(verdict.passed for verdict in verdicts)
    assert "contradicts itself" in verdicts[0].reason


def test_a_and_i_are_words_too() -> None:
    assert chosen_letters("Answer: A") == chosen_letters("The answer is A because of B") == ["A"]
    assert chosen_letters("Answer: A, I think") == chosen_letters("Answer: A. I am sure") == ["A"]
    assert chosen_letters("Answer: I") == ["I"]


# contains, n_of_m.


@pytest.mark.parametrize(
    ("verify", "right", "wrong"),
    [
        ({"all": ["Straße"], "ignore_case": True}, ["die STRASSE", "straße"], ["Strase"]),
        ({"all": ["Straße"]}, ["Straße"], ["STRASSE", "straße"]),
        ({"all": ["ﬁle", "１２"]}, ["file 12", "ﬁle １２"], ["fle 12"]),
        ({"all": ["é"]}, ["e\u0301"], ["e"]),
        ({"all": ["two words"]}, ["two\n  words"], ["twowords"]),
        ({"all": ["a.c"]}, ["a.c"], ["abc"]),
        ({"all": ["东京", "大阪"]}, ["大阪和东京"], ["东京", "東京和大阪"]),
        ({"all": ["İ"], "ignore_case": True}, ["i\u0307", "İ"], ["x"]),
    ],
    ids=str,
)
def test_contains(verify: dict[str, Any], right: list[str], wrong: list[str]) -> None:
    assert all(passes({"kind": "contains", **verify}, text) for text in right)
    assert not any(passes({"kind": "contains", **verify}, text) for text in wrong)


def test_n_of_m() -> None:
    verify = {"kind": "n_of_m", "n": 2, "of": ["iron", "zinc", "lead"]}
    assert passes(verify, "zinc, iron") and passes(verify, "lead iron zinc")
    assert not passes(verify, "iron iron iron") and not passes(verify, "Iron Zinc Lead")
    assert passes({**verify, "ignore_case": True}, "Iron Zinc")
    assert verdict_of(verify, Answer("iron")).reason == "1 of 3 are there"


# regex.


def test_regex() -> None:
    assert passes({"kind": "regex", "pattern": r"\b\d{3}\b"}, "x 123 y")
    assert not passes({"kind": "regex", "pattern": r"\b\d{3}\b"}, "x 1234 y")
    assert passes({"kind": "regex", "pattern": "yes|no", "whole": True}, " yes\n")
    assert not passes({"kind": "regex", "pattern": "yes|no", "whole": True}, "yes, no")
    assert passes({"kind": "regex", "pattern": "YES", "ignore_case": True}, "yes")
    assert not passes({"kind": "regex", "pattern": "YES"}, "yes")
    assert not passes({"kind": "regex", "pattern": "x"}, "\ud800")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*c", "a{1,60000}{1,60000}b"])
def test_hostile_patterns_end(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.setattr(patterns, "CHILD", patterns.CHILD.replace("(5, 5)", "(1, 1)"))
    begin = time.monotonic()
    verdict = verdict_of({"kind": "regex", "pattern": pattern}, Answer("a" * 5000 + "!"))
    assert not verdict.passed
    assert time.monotonic() - begin < 8


# tool_call.

MADE = ("book", {"room": "Curie", "slot": {"start": "14:30", "minutes": 45}, "with": ["phone", "board"]})
WANTED = {"name": MADE[0], "arguments": MADE[1]}


def judged(wanted: list[Any], *made: tuple[str, Any], order: str = "any") -> tuple[bool, str]:
    verdict = verdict_of({"kind": "tool_call", "calls": wanted, "order": order}, Answer(tool_calls=calls(*made)))
    return verdict.passed, verdict.reason


@pytest.mark.parametrize(
    "arguments",
    [
        MADE[1],
        '{"with":["phone","board"],"slot":{"minutes":45.0,"start":"14:30"},"room":"Curie"}',
        '{"with":["phone","board"],"slot":{"minutes":4.5e1,"start":"14:\\u0033\\u0030"},"room":"Curie"}',
    ],
)
def test_right_calls(arguments: Any) -> None:
    assert judged([WANTED], ("book", arguments)) == (True, "the calls are as expected")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([], "it made 0 calls (none), 1 were expected"),
        ([MADE, MADE], "it made 2 calls (book, book), 1 were expected"),
        ([("bok", MADE[1])], "no call of book is as expected"),
        (
            [("book", {**MADE[1], "room": "curie"})],
            "the call of book has another value of 'room' than expected: 'curie'",
        ),
        ([("book", {**MADE[1], "with": ["board", "phone"]})], "another value of 'with'"),
        ([("book", {**MADE[1], "slot": {"start": "14:30", "minutes": "45"}})], "another value of 'slot'"),
        ([("book", {**MADE[1], "slot": {"start": "14:30", "minutes": 45, "x": 1}})], "another value of 'slot'"),
        ([("book", {**MADE[1], "slot": None})], "another value of 'slot'"),
        ([("book", {**MADE[1], "more": 1})], "has the argument 'more', which was not expected"),
        ([("book", {"room": "Curie", "with": []})], "lacks the argument 'slot'"),
        ([("book", "")], "lacks the argument 'room'"),
        ([("book", '{"room": "Curie"')], "call 1 of 'book' has arguments that are not valid JSON"),
        ([("book", "{'room': 'Curie'}")], "not valid JSON"),
        ([("book", '{"room": 1, "room": 2}')], "not valid JSON"),
        ([("book", '{"room": NaN}')], "not valid JSON"),
        ([("book", '{"room": "\ud800"}')], "not valid JSON"),
        ([("book", "[" * 100_000)], "not valid JSON"),
        ([("book", '["Curie"]')], "arguments that are no JSON object"),
        ([("book", "null")], "arguments that are no JSON object"),
        ([MADE] * 65, "it made 65 calls; more than 64 are not looked at"),
    ],
)
def test_wrong_calls(made: list[tuple[str, Any]], words: str) -> None:
    passed, reason = judged([WANTED], *made)
    assert not passed
    assert words in reason and "\n" not in reason


@pytest.mark.parametrize(
    "call",
    [{}, {"function": None}, {"function": {"arguments": "{}"}}, {"function": {"name": 5}}, {"function": {"name": "book", "arguments": {}}}],
)  # fmt: skip
def test_calls_of_another_form(call: dict[str, Any]) -> None:
    assert not verdict_of({"kind": "tool_call", "calls": [WANTED]}, Answer(tool_calls=[call])).passed
    assert not verdict_of({"kind": "tool_call", "calls": []}, Answer(tool_calls=[call])).passed


def test_no_call() -> None:
    assert judged([])[0]
    assert judged([], ("book", {})) == (False, "it called book, but no call was to be made")
    # A call that is only written down is none.
    answer = Answer('<tool_call>{"name": "book", "arguments": {}}</tool_call>')
    assert not verdict_of({"kind": "tool_call", "calls": [{"name": "book", "arguments": {}}]}, answer).passed


def test_optional_arguments() -> None:
    wanted = {"name": "get", "arguments": {"city": "Oslo", "unit": "c"}, "optional": ["unit", "note"]}
    for arguments in ({"city": "Oslo"}, {"city": "Oslo", "unit": "c"}, {"city": "Oslo", "note": [1, {}]}):
        assert judged([wanted], ("get", arguments))[0]
    for arguments in ({"unit": "c"}, {"city": "Oslo", "unit": "f"}, {"city": "Oslo", "other": 1}):
        assert not judged([wanted], ("get", arguments))[0]


def test_order() -> None:
    one, two = {"name": "f", "arguments": {"x": 1}}, {"name": "f", "arguments": {"x": 2}}
    made = [("f", {"x": 2}), ("f", {"x": 1})]
    assert judged([one, two], *made)[0]
    assert not judged([one, two], *made, order="given")[0]
    assert judged([two, one], *made, order="given")[0]
    assert not judged([one, two], made[0], made[0])[0]
    # The first that fits must not be taken for good.
    loose = {"name": "f", "arguments": {"x": {"any_of": [1, 2]}}}
    for expected in ([loose, one], [one, loose], [loose, two]):
        assert judged(expected, *made)[0] and judged(expected, *made[::-1])[0]
    many = [{"name": "f", "arguments": {"x": {"any_of": [*range(index, 64)]}}} for index in range(64)]
    assert judged(many, *(("f", {"x": 63 - index}) for index in range(64)))[0]


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        (1, 1.0, True), (0, -0.0, True), (2**53 + 1, float(2**53), False), (1, True, False), (False, 0, False), (True, True, True),
        (None, None, True), (None, 0, False), (None, "", False), ("1", 1, False), ("a", "A", False), ([1, 2], [2, 1], False),
        ([], {}, False), ({}, {}, True), ({"a": 1}, {"a": 1, "b": 2}, False), ({"any_of": ["x", 3]}, 3.0, True),
        ({"any_of": ["x", 3]}, {"any_of": ["x", 3]}, False), ([{"any_of": [1]}], [1], True), (0.1, 0.1, True), ("é", "e\u0301", False),
    ],
)  # fmt: skip
def test_equality(expected: Any, found: Any, same: bool) -> None:
    assert equal(expected, found) is same


# code_executes.


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("```python\na\n```", "a\n"),
        ("```py\na\n```\nthen\n```Python\nb\n```\n", "b\n"),
        ("```python\na\n```\n\nIt prints:\n```\n1\n```", "a\n"),
        ("```\na\n```\n```bash\nls\n```", "a\n"),
        ("~~~python\n```\na\n~~~", "```\na\n"),
        ("````python\n'''\n```\n'''\n````", "'''\n```\n'''\n"),
        ('```python title="x.py"\na\n```', "a\n"),
        ("```python\r\na\r\n```\r\n".replace("\r", ""), "a\n"),
        ("  ```python\n  a\n  ```", "  a\n"),
        ("```bash\nls\n```", None),
        ("```python\na", None),
        ("a = 1", None),
        ("`a`", None),
        ("```python\n```", ""),
    ],
)
def test_the_last_program(text: str, program: str | None) -> None:
    assert last_program(text) == program


def test_code_executes() -> None:
    verify = {"kind": "code_executes", "tests": "assert double(4) == 8"}
    assert passes(verify, "```python\ndef double(x):\n    return 2 * x\n```")
    for wrong, words in (
        ("def double(x):\n    return x", "AssertionError"),
        ("def duble(x):\n    return 2 * x", "NameError: name 'double' is not defined"),
        ("def double(x)\n    return x", "SyntaxError"),
        ("import sys\nsys.exit(0)", "it ended before the tests did"),
    ):
        verdict = verdict_of(verify, Answer(f"```python\n{wrong}\n```"))
        assert not verdict.passed and words in verdict.reason


# All of them.


@pytest.mark.parametrize("kind", ["numeric", "choice", "contains", "n_of_m"])
@pytest.mark.parametrize(
    "piece",
    ["1 ", "1,111", r"\boxed{", r"\frac{", "-", "(", " ", "Answer: ", "选", "C ", "a", "`", "```\n", "\n", "1/", "^", "{", "答案是", "A, B "],
)  # fmt: skip
def test_long_answers_take_little_time(kind: str, piece: str) -> None:
    """None of the patterns may take the square of the length of an answer."""
    begin = time.monotonic()
    text = piece * ((1 << 18) // len(piece))
    verdict_of(IN_BOTH[kind][0], Answer(text, text))
    last_program(text)
    assert time.monotonic() - begin < 5
