"""Suites for the scripted endpoint, and results read back."""

import json
from pathlib import Path
from typing import Any


def numbers(folder: Path, count: int, name: str = "suite") -> Path:
    """A suite of questions q0, q1, ... whose right answers are 0, 1, ..."""
    path = folder / f"{name}.jsonl"
    lines = [
        {
            "id": f"q{index}",
            "messages": [{"role": "user", "content": f"q{index}"}],
            "verify": {"kind": "numeric", "value": index},
        }
        for index in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
