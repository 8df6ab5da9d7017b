"""What a model answered, and what a verifier says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Part = Literal["content", "reasoning_content"]


@dataclass(frozen=True)
class Answer:
    """The message of a chat completion: its two texts, its calls as they came, and why it ended."""

    content: str = ""
    reasoning_content: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = field(default=())
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, one line of why, and in which part it was found (None: in neither)."""

    passed: bool
    reason: str
    part: Part | None = None
