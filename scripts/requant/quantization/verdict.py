"""What an audit says of the weights: the words and their exit codes; docs/verdicts.md explains them."""

from enum import StrEnum
from typing import Self

from requant.ground.exit_codes import ExitCode


class Verdict(StrEnum):
    """What was found of a tensor, or of all of them; ``exit_code`` is what that alone would give."""

    exit_code: ExitCode

    def __new__(cls, value: str, exit_code: ExitCode) -> Self:
        """Attach to the word that stands in reports what belongs to it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.exit_code = exit_code
        return member

    EXACT = "exact", ExitCode.OK
    NEAR = "near", ExitCode.OK
    MISMATCH = "mismatch", ExitCode.AGAINST
    UNCHECKED = "unchecked", ExitCode.UNCHECKED
