"""The steps of GitHub's workflows and actions, and a shell that runs them as GitHub's runner does."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from support.checkout import ROOT

ACTION = ROOT / "action.yml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
Document = dict[Any, Any]


def read(path: Path) -> Document:
    """The file as YAML 1.1 reads it, which takes the key ``on`` for true."""
    document: Document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def steps(path: Path) -> Iterator[Document]:
    """Every step of an action, or of all jobs of a workflow."""
    document = read(path)
    for job in document.get("jobs", {"": document.get("runs")}).values():
        yield from job["steps"]


def step(path: Path, name: str) -> Document:
    [found] = [each for each in steps(path) if each.get("name") == name]
    return found


def run_step(script: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """As ``shell: bash`` does: the first command that fails ends it, also one in a pipe."""
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=300)


def run_audit(program: Path, cwd: Path, **inputs: str) -> tuple[int, str, dict[str, str], str]:
    """Run the step of the action that audits, with ``program`` as its ``requant``.

    Returns:
        Its exit code, all that it said, its outputs, and the job summary.
    """
    there, runner = cwd / "action", cwd / "runner"
    (there / ".venv" / "bin").mkdir(parents=True)
    (there / ".venv" / "bin" / "requant").symlink_to(program)
    runner.mkdir()
    output, summary = runner / "output", runner / "summary"
    audit, defaults = (
        step(ACTION, "Audit"),
        {key: value.get("default", "") for key, value in read(ACTION)["inputs"].items()},
    )
    env = {"GITHUB_ACTION_PATH": there, "RUNNER_TEMP": runner, "GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": summary}
    given = {name: (defaults | inputs)[name.lower()] for name in audit["env"]}
    done = run_step(audit["run"], cwd, {name: str(path) for name, path in env.items()} | given)
    outputs = dict(line.split("=", 1) for line in output.read_text().splitlines()) if output.exists() else {}
    return done.returncode, done.stdout + done.stderr, outputs, summary.read_text() if summary.exists() else ""
