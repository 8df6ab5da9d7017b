"""What an audit says: the words, how they look, and the exit code; docs/verdicts.md explains them."""

from enum import StrEnum
from typing import Self

from requant.ground.exit_codes import ExitCode


class Verdict(StrEnum):
    """What was found of a tensor, or of a file as a whole.

    ``words`` follow "the file is", ``colour`` is the style of the headline on a terminal (a name of rich), and
    ``exit_code`` that of the command.
    """

    words: str
    colour: str
    exit_code: ExitCode

    def __new__(cls, value: str, words: str, colour: str, exit_code: ExitCode) -> Self:
        """Attach to the word that stands in reports what belongs to it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.words, member.colour, member.exit_code = words, colour, exit_code
        return member

    EXACT = "exact", "a derivation of the named weights, byte for byte", "bold green", ExitCode.OK
    NEAR = "near", "a derivation of the named weights by another compiler's arithmetic", "bold green", ExitCode.OK
    MISMATCH = "mismatch", "NOT a derivation of the named weights", "bold red", ExitCode.AGAINST
    UNCHECKED = "unchecked", "not proven: something could not be checked", "bold yellow", ExitCode.UNCHECKED


PROVEN = (Verdict.EXACT, Verdict.NEAR)
"""Those that say that a derivation was found, which alone may be attested."""
