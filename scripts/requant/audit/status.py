"""What recipe, metadata and coverage can come to, word by word: docs/verdicts.md. Of weights that is a verdict.

And who named the weights, which no answer is better than.
"""

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


class Namer(Status):
    """Who named the weights: whoever forges a quant or an importance matrix can name weights of his own."""

    USER = "user", ExitCode.OK
    TRUSTED = "subject, trusted", ExitCode.OK
    SUBJECT = "subject", ExitCode.UNCHECKED

    @classmethod
    def of(cls, named: bool, trusted: bool) -> "Namer":
        """``named`` says that the user named them, ``trusted`` that the subject's word for them is taken."""
        return cls.USER if named else cls.TRUSTED if trusted else cls.SUBJECT

    @property
    def words(self) -> str:
        """What follows "the weights are"."""
        if self is Namer.USER:
            return "named by the user"
        trust = "which proves nothing: name them with --source"
        return f"named by the subject itself, {'trusted with --trust-subject' if self is Namer.TRUSTED else trust}"


def worst(codes: list[ExitCode]) -> ExitCode:
    """Of several answers' codes the one that counts: evidence against, then what was not checked.

    >>> worst([ExitCode.OK, ExitCode.UNCHECKED]).name
    'UNCHECKED'
    """
    return next((code for code in (ExitCode.AGAINST, ExitCode.UNCHECKED) if code in codes), ExitCode.OK)
