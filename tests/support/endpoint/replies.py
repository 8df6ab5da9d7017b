"""What the scripted endpoint says: well-formed answers, and all that a server should not do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

End = Literal["whole", "die", "short", "endless", "drip"]


@dataclass(frozen=True)
class Reply:
    """One reply.

    whole: the body as it is. die: hang up before a word. short: announce more than is sent, and hang up.
    endless: go on with spaces for ever. drip: the same, but one byte in 50 ms.
    `wait` is how many seconds pass before the first byte.
    """

    body: bytes = b""
    status: int = 200
    end: End = "whole"
    wait: float = 0
    headers: Mapping[str, str] = field(default_factory=dict)


def message(content: str | None, *, reasoning: str | None = None, finish: str = "stop", **more: Any) -> Reply:
    """An answer as llama.cpp's server sends it."""
    said: dict[str, Any] = {"role": "assistant", "content": content, **more}
    if reasoning is not None:
        said["reasoning_content"] = reasoning
    choice = {"index": 0, "finish_reason": finish, "message": said}
    answer = {"object": "chat.completion", "id": "chatcmpl-1", "created": 0, "model": "scripted", "choices": [choice]}
    return Reply(json.dumps(answer).encode())


def calls(*made: tuple[str, Mapping[str, Any] | str]) -> list[dict[str, Any]]:
    """Tool calls: a name and arguments, or the text that stands for them."""
    return [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {
                "name": name,
                "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
            },
        }
        for index, (name, arguments) in enumerate(made)
    ]
