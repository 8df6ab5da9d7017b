"""What recipe, metadata and coverage can come to, word by word: docs/verdicts.md. Of weights that is a verdict."""

from requant.ground.exit_codes import ExitCode, Status


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
    """The coverage: how much of the file was read; or what was read and is, or may be, neither header nor tensor."""

    FULL = "full", ExitCode.OK
    SAMPLE = "sample", ExitCode.OK
    HIDDEN = "hidden", ExitCode.AGAINST
    UNCHECKED = "unchecked", ExitCode.UNCHECKED


def worst(codes: list[ExitCode]) -> ExitCode:
    """Of several answers' codes the one that counts: evidence against, then what was not checked.

    >>> worst([ExitCode.OK, ExitCode.UNCHECKED]).name
    'UNCHECKED'
    """
    return next((code for code in (ExitCode.AGAINST, ExitCode.UNCHECKED) if code in codes), ExitCode.OK)
