"""Numbers as people and models write them, and what stands in a LaTeX ``\\boxed{...}``.

Values are exact fractions: 0.1 is one tenth. A percentage is that many hundredths, so 12.5% is 1/8.
"""

import re
import unicodedata
from fractions import Fraction

MAX_DIGITS = 400
"""Of a longer number, or one with a larger exponent, nobody speaks; it is not read as a number."""
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
BOXED = re.compile(r"\\f?boxed\s{0,4}\{")

_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\})\d{3})+(?!\d)|\d{1,3}(?:[ ]\d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d+)?|(?<![\d.])\.\d+)"
_TEN = r"\s{0,4}(?:×|\\times|\\cdot|\*)\s{0,4}10\s{0,4}\^\s{0,4}\{?\s{0,4}[-+]?\d+\s{0,4}\}?"
_POWER = rf"(?:[eE][-+]?\d+(?![\d.])|{_TEN})"
# What comes first is tried first; `skip` is eaten so that nothing inside is taken for a number.
NUMBER = re.compile(
    rf"""
    (?P<skip>[\^_]\s{{0,4}}\{{?\s{{0,4}}[-+]?\d+\s{{0,4}}\}}?        # exponents and indices
      |(?<![A-Za-z_])[A-Za-z_]+\d[\w.]*                          # names: x1, m2, Q4_K
      |\d+(?:\.\d+){{2,}})                         # versions
    |(?P<sign>(?<![\w)\]}}.])[-+](?:\\?[$€£¥])?(?=[\d.\\]))?
     (?:(?:(?P<whole>\d+)\s{{0,4}})?\\[dt]?frac\s{{0,4}}\{{\s{{0,4}}(?P<top>-?\s{{0,4}}{_DECIMAL})\s{{0,4}}\}}\s{{0,4}}\{{\s{{0,4}}(?P<bottom>{_DECIMAL})\s{{0,4}}\}}
       |(?:(?P<mixed>\d+)[ ]{{1,4}})?(?P<over>{_DIGITS})\s{{0,4}}/\s{{0,4}}(?P<under>{_DIGITS})(?![\d/.]|\s{{0,4}}/)
       |(?P<plain>{_DECIMAL})(?P<power>{_POWER})?)
     (?P<percent>\s{{0,4}}\\?%)?
    """,
    re.VERBOSE | re.ASCII,
)


def normalised(text: str) -> str:
    """Unicode NFKC (full-width digits and signs become plain ones), with one minus and ``^`` before superscripts."""
    text = SUPERSCRIPT_RUN.sub(lambda run: "^" + run[0].translate(SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text)
    return text.replace("−", "-").replace("⁄", "/").replace("‰", "")


def read_number(text: str) -> Fraction | None:
    """The number that all of ``text`` is, or None where it is anything else."""
    text = normalised(text).strip()
    found = NUMBER.fullmatch(text)
    return _value(found) if found else None


def last_number(text: str) -> tuple[Fraction, bool] | None:
    """The last number in the last ``\\boxed{...}`` or, without one, in all of the text; and whether it has a %.

    None where there is no number, also where a box holds none.
    """
    boxes = boxed(text)
    for found in reversed([*NUMBER.finditer(normalised(boxes[-1] if boxes else text))]):
        value = _value(found)
        if value is not None:
            return value, found["percent"] is not None
    return None


def boxed(text: str) -> list[str]:
    """What the ``\\boxed{...}`` in a text hold, outermost ones only, in their order; one without an end is none."""
    found = []
    end = 0
    # All braces are looked at once, however many boxes are opened.
    for start in BOXED.finditer(text):
        if start.start() < end:
            continue
        close = _closing(text, start.end())
        if close is None:
            break
        found.append(text[start.end() : close])
        end = close
    return found


def _closing(text: str, position: int) -> int | None:
    depth = 1
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, position):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    return None


def _value(found: re.Match[str]) -> Fraction | None:
    if found["skip"] is not None or len(found[0]) > MAX_DIGITS:
        return None
    if found["top"] is not None:
        value = _ratio(found["top"], found["bottom"], found["whole"])
    elif found["over"] is not None:
        value = _ratio(found["over"], found["under"], found["mixed"])
    else:
        value = _scaled(found["plain"], found["power"])
    if value is None:
        return None
    if (found["sign"] or "").startswith("-"):
        value = -value
    return value / 100 if found["percent"] else value


def _ratio(top: str, bottom: str, whole: str | None) -> Fraction | None:
    below = _plain(bottom)
    return None if below == 0 else _plain(top) / below + int(whole or 0)


def _scaled(digits: str, power: str | None) -> Fraction | None:
    value = _plain(digits)
    if power is None:
        return value
    exponent = int(re.findall(r"[-+]?\d+", power)[-1])
    return value * Fraction(10) ** exponent if abs(exponent) <= MAX_DIGITS else None


def _plain(digits: str) -> Fraction:
    return Fraction(re.sub(r"[ ,{}]", "", digits))
