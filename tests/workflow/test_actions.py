"""GitHub's workflow of this repository, and the action that audits: what they run, and what the action makes of an answer.

``make lint`` holds the files against GitHub's schemas and looks for what a stranger could use.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from support.actions import ACTION, WORKFLOWS, read, run_audit, steps
from support.checkout import ROOT
from support.command import installed
from support.gguf_files import gguf_bytes, pair, string, tensor

FILES = (ACTION, *WORKFLOWS)
PAGES = (ROOT / "docs" / "ci.md", ROOT / "docs" / "ci.zh-CN.md")
USED = re.compile(r"uses: (actions/\S+)@(\S+)(?: # (\S+))?")
WEIGHT, Q8_0 = "blk.0.attn_q.weight", 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_others_actions_are_named_by_commit(path: Path) -> None:
    for name, commit, release in USED.findall(path.read_text()):
        assert re.fullmatch(r"[0-9a-f]{40}", commit), name
        assert re.fullmatch(r"v\d+\.\d+\.\d+", release), name
    assert all(use == "./" or use.startswith("actions/") for each in steps(path) if (use := each.get("uses")))


def test_one_action_is_one_commit() -> None:
    found = {match for path in (*FILES, *PAGES) for match in USED.findall(path.read_text())}
    assert len(found) == len({name for name, _, _ in found}) > 2


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_may_read_and_ends(path: Path) -> None:
    document = read(path)
    assert document["permissions"] == {}
    for job in document["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        assert job["timeout-minutes"] <= 90


def test_what_steps_run_is_there() -> None:
    scripts = "\n".join(each["run"] for path in FILES for each in steps(path) if "run" in each)
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = re.findall(r"^make (?:--directory \S+ )?(\S+)", scripts, re.MULTILINE)
    assert {"lint", "demo", "setup"} <= set(made) <= targets
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert ".ci/run" in scripts.splitlines()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_shell_of_steps(path: Path) -> None:
    # On ARM64 it is Debian's.
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shellcheck = [shutil.which("shellcheck", path=here) or "shellcheck", "--shell=bash", "-"]
    for script in (each["run"] for each in steps(path) if "run" in each):
        assert "${{" not in script, "a value goes through env, where a shell reads no words of a stranger's"
        done = subprocess.run(shellcheck, input=f"set -eo pipefail\n{script}", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


# What the action makes of an answer.


@pytest.fixture
def program(tmp_path: Path) -> Path:
    installed(tmp_path / "bin")
    return tmp_path / "bin" / "requant"


@pytest.fixture
def gguf(tmp_path: Path) -> Callable[..., Path]:
    """Writes one block of weights, plain or as Q8_0, and a key that the others may have in another way."""
    values = np.arange(32, dtype="<f4")
    values[-1] = 127

    def write(name: str, kind: int = Q8_0, epsilon: float = 1e-6) -> Path:
        keys = [
            pair("general.architecture", 8, string("qwen3")),
            pair("qwen3.attention.layer_norm_rms_epsilon", 6, np.float32(epsilon).tobytes()),
        ]
        data = np.float16(1).tobytes() + values.astype(np.int8).tobytes() if kind == Q8_0 else values.tobytes()
        (tmp_path / name).write_bytes(
            gguf_bytes(keys, [tensor(WEIGHT, [32], kind)], data.ljust(len(data) + -len(data) % 32, b"\0"))
        )
        return tmp_path / name

    return write


def test_an_audit_comes_into_the_summary(tmp_path: Path, program: Path, gguf: Callable[..., Path]) -> None:
    """Here of a file with too few tensors for a mix, which is not a good answer in full."""
    gguf("-x y.gguf"), gguf("weights.gguf", 0)
    inputs = {"subject": "-x y.gguf", "source": "weights.gguf", "options": "--rows 8\n--seed 1", "accept": "0 3"}
    code, said, outputs, summary = run_audit(program, tmp_path, **inputs)
    assert (code, outputs["exit-code"]) == (0, "3"), said
    assert "| weights | exact |" in summary
    report = json.loads((Path(outputs["folder"]) / "audit.json").read_text())
    assert report["exit_code"] == 3
    assert (Path(outputs["folder"]) / "audit.html").stat().st_size > 1000


def test_evidence_fails_the_step(tmp_path: Path, program: Path, gguf: Callable[..., Path]) -> None:
    gguf("x.gguf", epsilon=0.1), gguf("weights.gguf", 0)
    code, said, outputs, summary = run_audit(program, tmp_path, subject="x.gguf", source="weights.gguf", accept="0 3")
    assert (code, outputs["exit-code"]) == (1, "1"), said
    assert "| metadata | changed |" in summary


def test_a_code_that_is_not_accepted_is_a_failure(tmp_path: Path, program: Path) -> None:
    """Whoever wants evidence is not content with 0. Of all that ends so, help is the quickest."""
    code, said, outputs, _ = run_audit(program, tmp_path, subject="x.gguf", options="--help", accept="1 2")
    assert (code, outputs["exit-code"]) == (1, "0"), said


def test_what_cannot_be_read_is_said(tmp_path: Path, program: Path) -> None:
    """And what is said under a name like a command of the runner's is none."""
    name = "\n::error::x.gguf"
    (tmp_path / name).write_bytes(b"GGUF")
    code, said, outputs, summary = run_audit(program, tmp_path, subject=f"./{name}")
    assert (code, outputs["exit-code"]) == (2, "2"), said
    assert re.search(r"^    error: .*x\.gguf", summary, re.MULTILINE), summary
    assert re.fullmatch(r"::stop-commands::(\w{32})\n.*\n::\1::\n", said, re.DOTALL)


def test_a_list_becomes_a_table(tmp_path: Path, program: Path, gguf: Callable[..., Path]) -> None:
    gguf("x.gguf"), gguf("weights.gguf", 0)
    (tmp_path / "quants.txt").write_text("./x.gguf ./weights.gguf\n./nothing.gguf\n")
    code, said, outputs, summary = run_audit(program, tmp_path, list="quants.txt")
    assert (code, outputs["exit-code"]) == (2, "2"), said
    assert "not checked in full" in summary and "cannot be read" in summary
    assert (Path(outputs["folder"]) / "survey.html").exists()


@pytest.mark.parametrize("inputs", [{}, {"source": "w"}, {"subject": "x", "list": "y"}, {"list": "y", "source": "w"}])
def test_inputs_that_ask_nothing(tmp_path: Path, inputs: dict[str, str]) -> None:
    code, said, outputs, summary = run_audit(Path("/bin/false"), tmp_path, **inputs)
    assert (code, outputs, summary) == (2, {}, "")
    assert said.startswith("error: the action takes subject, ")


# The page about it.


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_page_names_every_input_and_output(page: Path) -> None:
    text, action = page.read_text(), read(ACTION)
    rows = re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)
    assert rows == [*action["inputs"], *action["outputs"]]
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for job in yaml.safe_load(block)["jobs"].values():
            [asked] = [each for each in job["steps"] if each["uses"] == "OWNER/requant@COMMIT"]
            assert asked["with"].keys() <= action["inputs"].keys()
