"""requant.pipeline.job in a process of its own, as Snakemake runs it: a refusal is one sentence, a bug keeps its traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.iocontainers import InputFiles

import requant
from requant.pipeline.job import paths
from support.hub import LoopbackHub
from support.hub.clients import Client

JOB = """
import logging, sys
from requant.ground.errors import RequantError, ToolError
from requant.pipeline.job import job
from requant.ground.programs import capture
with job(sys.argv[1]) as run:
    logging.getLogger("requant.x").info("working")
    {body}
"""


def run(tmp_path: Path, body: str, hub: LoopbackHub | None = None) -> tuple[int, str, str]:
    """Exit status, what the terminal shows, and the log."""
    environment = {"PYTHONPATH": str(Path(requant.__file__).parents[1])}
    if hub:
        environment = Client(hub, tmp_path / "home").environment() | environment
    command = [sys.executable, "-c", JOB.format(body=body), str(tmp_path / "logs" / "job.log")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr, (tmp_path / "logs" / "job.log").read_text()


@pytest.mark.parametrize(
    ("body", "status", "end"),
    [
        ("pass", 0, ""),
        ("raise RequantError('x is wrong: write y')", 2, "error: x is wrong: write y\n"),
        ("raise ToolError('sh ended with status 1')", 3, "error: sh ended with status 1\n"),
        (
            "capture(['absent'], run.log.parent)",
            3,
            "error: absent cannot be started (No such file or directory): install it\n",
        ),
        (
            "open('x' * 300)",
            3,
            (
                f"error: {'x' * 300} cannot be read or written (File name too long): "
                "check the file, its disk and your rights\n"
            ),
        ),
    ],
    ids=["success", "a refusal", "a failed tool", "a missing tool", "a refusal of the system"],
)
def test_the_terminal_says_what_went_wrong_and_the_log_everything(
    tmp_path: Path, body: str, status: int, end: str
) -> None:
    assert run(tmp_path, body) == (status, end, f"working\n{end}")


def test_a_log_begins_anew_and_tools_append_to_it(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "job.log").write_text("of another run\n")
    body = "run.log.open('a').write('tool\\n'); logging.getLogger('x').info('after')"
    assert run(tmp_path, body)[2] == "working\ntool\nafter\n"


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    status, shown, log = run(tmp_path, "raise ValueError('a bug')")
    assert status == 4
    assert log == f"working\n{shown}"
    assert shown.startswith("error: this is a bug in requant: report it with what follows\nTraceback (")
    assert shown.endswith("ValueError: a bug\n")


def test_the_clients_are_quiet(tmp_path: Path, hub: LoopbackHub) -> None:
    """Every request would be a line, and its address carries what signs it."""
    body = f"from requant.places.hub import HubRepository; HubRepository('Qwen/Absent', '{'0' * 40}').record(['x'])"
    status, shown, log = run(tmp_path, body, hub)
    assert status == 3
    assert hub.requests
    assert "HTTP Request" not in shown + log
    assert shown.startswith("error: Qwen/Absent@000000000000 on ")
    assert shown.count("\n") == 1


def test_files_by_name() -> None:
    """Snakemake's own lists, as a rule's script gets them: a file is a path, a list stays a list."""
    files = InputFiles(fromdict={"model": "a/model.gguf", "shards": ["one", "two"], "none": []})
    found = paths(files)
    assert found.model == Path("a/model.gguf")
    assert (found.shards, found.none) == ([Path("one"), Path("two")], [])
