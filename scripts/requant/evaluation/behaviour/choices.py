"""The letter that an answer to a multiple-choice question chooses, in English and Chinese."""

import re

from requant.evaluation.behaviour.numbers import boxed, normalised

# Not part of a word, and not the article or the pronoun before another word.
_END = r"(?![A-Za-z0-9_'’]|语言)"
_UPPER = rf"(?:[B-HJ]{_END}|[AI]{_END}(?!\s+(?!because|since|as\b|for\b|and\b|or\b)[a-z]))"
_OPEN = r"[\s*_`\"'“(\[]{0,6}(?:\\(?:text|textbf|mathrm|mathbf)\s?\{\(?)?"
_STATED = re.compile(
    r"(?:(?<![A-Za-z])(?i:(?:answer|choice|option)\**\s{0,3}(?:is|would be|:|=)\s{0,3}(?:(?:option|choice)\b)?:?)"
    r"|(?:答案|选项)\**\s{0,3}(?:应该是|应该为|应为|应是|是|为|:|=)\s{0,3}(?:选项)?:?"
    r"|(?<![不未没勿])(?:应选|故选|选择|选)\s{0,3}(?:选项)?:?)"
    rf"{_OPEN}(?P<letter>{_UPPER})"
)
_NAMED_RIGHT = re.compile(
    r"(?<![A-Za-z])(?i:option|choice|answer)\s\**\(?(?P<letter>[A-J])\)?\**\s(?i:is (?:the )?(?:correct|right)\b)"
)
_LOWER_STATED = re.compile(
    rf"(?<![A-Za-z])(?i:answer)\**\s{{0,3}}:{_OPEN}(?P<letter>[a-j]){_END}[)\]*.]*\s*$",
    re.MULTILINE,
)
_MORE = re.compile(rf"[\s*_)\].}}]{{0,6}}(?:,|/|、|&|and\b|or\b|和|或|与|及)[\s*_(\[]{{0,6}}(?P<letter>{_UPPER})")
_BARE = re.compile(r"[\s*_`\"'“(\[]*(?P<letter>[A-Ja-j])[\s*_`\"'”)\].。:]*")
_LABELLED = re.compile(r"[\s*_`(\[]*(?P<letter>[A-J])\s?[)\].:、][*_\s].*")
_IN_BOX = re.compile(
    r"\s*(?:\\(?:text|textbf|mathrm|mathbf|textit)\s*\{)?\s*\(?(?P<letter>[A-Ja-j])(?![A-Za-z0-9]).*", re.DOTALL
)


def chosen_letters(text: str) -> list[str]:
    """Every letter that the text states as its answer, each once and in upper case; several contradict each other.

    A letter counts in ``\\boxed{C}``, after words such as "Answer:", "the answer is", "答案:", "选", or if it is all
    of the last line. A line such as "C. Paris" counts if it is the only line.
    """
    boxes = boxed(text)
    text = normalised(text)
    found = [match["letter"] for box in boxes if (match := _IN_BOX.fullmatch(normalised(box)))]
    for pattern in (_STATED, _NAMED_RIGHT, _LOWER_STATED):
        for match in pattern.finditer(text):
            found += [match["letter"], *_others(text, match.end())]
    if not found and not boxes:
        lines = [line for line in text.splitlines() if line.strip()]
        last = lines[-1] if lines else ""
        match = _BARE.fullmatch(last) or (_LABELLED.fullmatch(last) if len(lines) == 1 else None)
        found = [match["letter"]] if match else []
    return list(dict.fromkeys(letter.upper() for letter in found))


def _others(text: str, position: int) -> list[str]:
    """The letters in "A, B and C" after the first."""
    found = []
    while more := _MORE.match(text, position):
        found.append(more["letter"])
        position = more.end()
    return found
