"""Suites for the scripted endpoint, and results read back."""

import json
from pathlib import Path
from typing import Any

from requant.documents.results import Results
from requant.evaluation.behaviour import asking as behaviour
from requant.evaluation.behaviour.endpoint import Endpoint, Settings
from requant.evaluation.behaviour.suite import Suite

SETTINGS = Settings("m")


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


def run(suite: Suite, endpoint: Endpoint, out: Path, parallel: int = 1, settings: Settings = SETTINGS) -> Results:
    """Ask the whole suite."""
    return behaviour.run(suite, suite.items, endpoint, settings, out, parallel)
