"""The ``requant`` of this checkout, as a shell finds it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requant

PYTHONPATH = str(Path(requant.__file__).parents[1])
Audit = Callable[..., tuple[int, str, dict[str, Any]]]
"""The fixture that runs an audit: exit code, all that was said, and the JSON report."""
CODE = "from requant.cli.main import main; main(prog_name='requant')"


def installed(folder: Path) -> dict[str, str]:
    """An environment in which ``requant`` is on the PATH; its program is written into ``folder``."""
    folder.mkdir()
    program = folder / "requant"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{PYTHONPATH}" exec "{sys.executable}" -c "{CODE}" "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "COLUMNS": "200"}


def run(*arguments: str | Path, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run the command in a process of its own: exit code, standard output, standard error."""
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": PYTHONPATH}, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr
