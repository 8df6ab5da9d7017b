"""What each of the four questions can come to. A status is a word, and says what it means for the exit code."""

from enum import StrEnum
from typing import Self

from requant.ground.exit_codes import ExitCode


class Status(StrEnum):
    """One answer in a word; ``exit_code`` is what it alone would give. docs/verdicts.md explains every word."""

    exit_code: ExitCode

    def __new__(cls, value: str, code: ExitCode) -> Self:
        """A word with its exit code."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.exit_code = code
        return member


class Mix(Status):
    """The recipe: types as llama-quantize chooses them by itself, or by options; or what it says is contradicted."""

    STOCK = "stock", ExitCode.OK
    CUSTOM = "custom", ExitCode.OK
    CONTRADICTED = "contradicted", ExitCode.AGAINST
    UNCHECKED = "unchecked", ExitCode.UNCHECKED


class Metadata(Status):
    """The header's keys, held against what the converter writes for the named weights."""

    EQUAL = "equal", ExitCode.OK
    HARMLESS = "harmless", ExitCode.OK
    CHANGED = "changed", ExitCode.AGAINST
    UNCHECKED = "unchecked", ExitCode.UNCHECKED


class Reading(Status):
    """The coverage: how much of the file was read; or what was read and is neither header nor tensor."""

    FULL = "full", ExitCode.OK
    SAMPLE = "sample", ExitCode.OK
    HIDDEN = "hidden", ExitCode.AGAINST


def worst(codes: list[ExitCode]) -> ExitCode:
    """Of several answers' codes the one that counts: evidence against, then what was not checked.

    >>> worst([ExitCode.OK, ExitCode.UNCHECKED]).name
    'UNCHECKED'
    """
    return next((code for code in (ExitCode.AGAINST, ExitCode.UNCHECKED) if code in codes), ExitCode.OK)
