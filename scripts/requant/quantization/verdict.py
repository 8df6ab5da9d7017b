"""What an audit says: the words, how they look, and the exit code; docs/verdicts.md explains them."""

from enum import StrEnum
from typing import Self


class Verdict(StrEnum):
    """What was found of a tensor, or of a file as a whole.

    ``words`` follow "the file is", ``colour`` is the style of the headline on a terminal (a name of rich), and
    ``exit_code`` that of the command.
    """

    words: str
    colour: str
    exit_code: int

    def __new__(cls, value: str, words: str, colour: str, exit_code: int) -> Self:
        """Attach to the word that stands in reports what belongs to it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.words, member.colour, member.exit_code = words, colour, exit_code
        return member

    EXACT = "exact", "a derivation of the named weights, byte for byte", "bold green", 0
    NEAR = "near", "a derivation of the named weights by another compiler's arithmetic", "bold green", 0
    MISMATCH = "mismatch", "NOT a derivation of the named weights", "bold red", 1
    UNCHECKED = "unchecked", "not proven: something could not be checked", "bold yellow", 3


PROVEN = (Verdict.EXACT, Verdict.NEAR)
"""Those that say that a derivation was found, which alone may be attested."""
