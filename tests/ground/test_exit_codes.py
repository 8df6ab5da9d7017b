"""requant.ground.exit_codes: every error has its code, and an honest file is never accused for what is not its fault."""

import pytest

from requant.ground import errors
from requant.ground.exit_codes import ExitCode, exit_code

CODES: dict[type[BaseException], ExitCode] = {
    errors.MismatchError: ExitCode.AGAINST,
    errors.RequantError: ExitCode.USAGE,
    errors.RecipeError: ExitCode.USAGE,
    errors.FormatError: ExitCode.USAGE,
    errors.PlaceError: ExitCode.USAGE,
    errors.AttestationError: ExitCode.USAGE,
    errors.SourceError: ExitCode.UNCHECKED,
    errors.AccessError: ExitCode.UNCHECKED,
    errors.PinnedBytesError: ExitCode.UNCHECKED,
    errors.StaleError: ExitCode.UNCHECKED,
    errors.UnsupportedError: ExitCode.UNCHECKED,
    errors.DiskError: ExitCode.UNCHECKED,
    errors.ToolError: ExitCode.UNCHECKED,
    KeyboardInterrupt: ExitCode.INTERRUPTED,
    ValueError: ExitCode.BUG,
}


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
def test_every_error_has_its_code(kind: type[BaseException]) -> None:
    assert exit_code(kind("said")) is CODES[kind]


def test_what_the_system_refuses_is_no_bug_and_no_evidence() -> None:
    for error in (PermissionError(13, "Permission denied", "a"), OSError(28, "No space left on device")):
        assert exit_code(error) is ExitCode.UNCHECKED
    assert errors.sentence(OSError(28, "No space left on device")) == (
        "a file cannot be read or written (No space left on device): check the file, its disk and your rights"
    )
    assert exit_code(OSError("said")) is ExitCode.BUG, "nobody refused: somebody raised it"


def test_no_error_is_forgotten() -> None:
    raised = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert raised <= CODES.keys()


def test_codes_are_numbers_with_words() -> None:
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 130]
    for words in ([code.english for code in ExitCode], [code.chinese for code in ExitCode]):
        assert len({*words}) == len(words)
        assert all(text.isprintable() and not text.endswith((".", "。")) for text in words)
