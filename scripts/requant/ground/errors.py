"""Everything requant raises on purpose.

Each message is one sentence that names the key or file at fault and says what to do about it.
Only a command's entry point turns these into an exit code.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from requant.ground.text import without_secrets

BUG = "this is a bug in requant: report it with what follows"
"""What is said before a traceback."""


class RequantError(Exception):
    """Base class: the input or the world is wrong, not the code. No message holds a secret, whoever wrote it."""

    def __init__(self, message: object = "") -> None:
        super().__init__(without_secrets(str(message)))


class RecipeError(RequantError):
    """A recipe, a pin table, a suite or an option says something that cannot be carried out."""


class MismatchError(RequantError):
    """The subject's bytes are not those that were named: evidence against it."""


class StaleError(RequantError):
    """A file of our own making was changed since, or an earlier version made it; that says nothing of a subject."""


class FormatError(RequantError):
    """A file is not what its format promises; also raised for hostile files."""


class UnsupportedError(RequantError):
    """Something may well be right, but requant does not know how to check it."""


class AttestationError(RequantError):
    """A statement cannot be signed, or its signature was not made by the key that was named."""


class SourceError(RequantError):
    """A hub, registry or repository did not deliver."""


class PinnedBytesError(SourceError):
    """A mirror, an index or a hub delivered other bytes than the pinned ones."""


class AccessError(SourceError):
    """A hub has it, but not for this user: a token is missing, or its terms are not accepted."""


class PlaceError(SourceError):
    """What was named is not there, is no file that can be read, or could mean several things."""


class DiskError(RequantError):
    """There is no room, or no right, to write what is about to be written."""


class ToolError(RequantError):
    """An external program is missing or failed."""


def sentence(error: BaseException) -> str | None:
    """What a command that ``error`` ends says; ``None`` for a bug, which is shown with its traceback.

    What the operating system refuses, such as a file that may not be read or a full disk, is no bug.

    >>> sentence(PermissionError(13, "Permission denied", "a.gguf"))
    'a.gguf cannot be read or written (Permission denied): check the file, its disk and your rights'
    """
    if isinstance(error, RequantError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        name = "a file" if error.filename is None else without_secrets(os.fsdecode(error.filename))
        return f"{name} cannot be read or written ({error.strerror}): check the file, its disk and your rights"
    return None


@contextmanager
def naming(what: str, path: Path) -> Iterator[None]:
    """Say which input it was that could not be read: both files may have the same name.

    Raises:
        FormatError: in place of any FormatError or OSError of the body.
    """
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{what}: {error}") from error
    except OSError as error:
        raise FormatError(f"{what}: {path} cannot be read ({error.strerror or error}): check the path") from error
