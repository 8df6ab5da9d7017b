"""Run calls of the real clients in a process of their own, where only the loopback hub exists.

Clients read endpoint, home and offline switches from the environment when they are imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .server import LoopbackHub

# Runs [module, attribute path, keyword arguments] triples and prints one JSON outcome for each.
CHILD = """
import dataclasses, importlib, json, sys, time
nap = time.sleep
time.sleep = lambda seconds: nap(min(seconds, 0.01))  # the clients wait long between two tries

def plain(value):
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    if hasattr(value, "to_list"):
        return value.to_list()
    if hasattr(value, "__next__"):
        return list(value)
    return vars(value) if hasattr(value, "__dict__") else str(value)

for module, path, kwargs in json.loads(sys.argv[1]):
    target = importlib.import_module(module)
    for part in path.split("."):
        target = getattr(target, part.removesuffix("()"))
        target = target() if part.endswith("()") else target
    try:
        outcome = {"value": target(**kwargs)}
        line = json.dumps(outcome, default=plain)
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", getattr(error, "status_code", None))
        names = [kind.__name__ for kind in type(error).__mro__]
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        line = json.dumps({"errors": names, "status": status, "cause": cause, "text": str(error)})
    print("OUTCOME " + line, flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    """What a client call came to: a value, or the error's class names (its own first), status and cause."""

    value: Any = None
    errors: tuple[str, ...] = ()
    status: int | None = None
    cause: str | None = None
    text: str = ""


Call = tuple[str, str, dict[str, Any]]


@dataclass
class Client:
    """Runs client calls in a child process whose environment knows only the loopback hub."""

    hub: LoopbackHub
    home: Path

    def environment(self, **extra: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
        home = {"HOME": str(self.home), "HF_HOME": str(self.home / "hf"), "MODELSCOPE_CACHE": str(self.home / "ms")}
        ours = {"HF_ENDPOINT": self.hub.url, "MODELSCOPE_ENDPOINT": self.hub.url, "TQDM_DISABLE": "1"}
        return {**kept, **home, **ours, **extra}

    def start(self, *calls: Call, **env: str) -> subprocess.Popen[str]:
        """Start the calls and return at once, for tests that want to kill the client."""
        command = [sys.executable, "-c", CHILD, json.dumps(calls)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment(**env), text=True, stdout=pipe, stderr=pipe)

    def run(self, *calls: Call, **env: str) -> list[Outcome]:
        with self.start(*calls, **env) as child:
            try:
                out, err = child.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
        found = [json.loads(line[8:]) for line in out.splitlines() if line.startswith("OUTCOME ")]
        assert len(found) == len(calls), err
        return [Outcome(**{**each, "errors": tuple(each.get("errors", ()))}) for each in found]

    def one(self, call: Call, **env: str) -> Outcome:
        return self.run(call, **env)[0]
