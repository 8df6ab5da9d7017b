"""One thing that was looked at, and how it is."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """``limited``: something does without; ``missing``: the default path, on the processor, cannot do without."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and a line that says so; where it lacks something, with the remedy."""

    what: str
    state: State
    line: str
