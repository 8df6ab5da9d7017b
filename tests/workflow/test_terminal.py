"""What a run says on the terminal: a line a step, the sentence that it failed with, and nothing of Snakemake's own."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from requant.pipeline.terminal import FULL_DISK, Lines, say_failed
from support.checkout import ROOT
from support.plans import HERE, NOWHERE, SNAKEMAKE, snakemake, write_small_recipe

FETCH = (*HERE, "--configfile", "recipe.yaml", "--", "fetch_model")
SAID = re.compile(
    r"Using workflow specific profile .*\n"
    r"requant \S+ · Small · .*recipe\.yaml\n"
    r"1 step\n"
    r"\[1/1\] \d\d:\d\d fetching the weights of Small, \d s\n"
    r"Done in \d s\.\n"
)


def test_a_run_that_succeeds(tmp_path: Path) -> None:
    write_small_recipe(tmp_path)
    done = snakemake(*FETCH, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert SAID.fullmatch(done.stdout), done.stdout
    [log] = (tmp_path / ".snakemake" / "log").iterdir()
    assert "Finished jobid" in log.read_text(), "the complete log is as ever"


def test_a_run_that_fails_ends_with_its_sentence(tmp_path: Path) -> None:
    write_small_recipe(tmp_path)
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"other bytes")
    done = snakemake(*FETCH, cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(
        r"failed: fetching the weights of Small: the folder weights records size 11 for model\.safetensors, pinned is 10: "
        r"it is another file \(log: results/Small/logs/fetch_model\.log\)",
        done.stdout.splitlines()[-1],
    ), done.stdout
    for words in ("Traceback", "CalledProcessError", "RuleException", "message: None"):
        assert words not in done.stdout


def test_what_snakemake_says_of_a_full_disk() -> None:
    """In its own words, which name permissions; when its notes of a finished step do not fit any more."""
    said = "WorkflowError:\nError recording metadata for finished job ([Errno 28] No space left on device). Please ensure write"
    assert Lines("a run").format(logging.makeLogRecord({"msg": said})) == FULL_DISK
    assert Lines("a run").format(logging.makeLogRecord({"msg": "WorkflowError:\nanother"})) == "WorkflowError:\nanother"


@pytest.mark.parametrize("free", [0, 1 << 30], ids=["full", "not full"])
@pytest.mark.parametrize("log", [None, "", "error: why\n"], ids=["no log", "an empty log", "a sentence"])
def test_a_step_that_could_not_say_why_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], free: int, log: str | None
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    if log is not None:
        (tmp_path / "log").write_text(log)
    lines = Lines("a run")
    lines.failed.append(("a step", [str(tmp_path / "log")]))
    say_failed(lines)
    *first, last = capsys.readouterr().err.splitlines()
    assert first == ([FULL_DISK] if not free and not log else [])
    assert not (first and "killed" in last)
    assert last.startswith("failed: a step: ") and ("why (log: " in last) is bool(log)


def test_on_a_terminal(tmp_path: Path) -> None:
    """A bar may have come and gone; what stays are the same lines."""
    write_small_recipe(tmp_path)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [SNAKEMAKE, "--cores", "2", *FETCH],
        cwd=tmp_path,
        env={**os.environ, **NOWHERE, "TERM": "dumb"},
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                said += os.read(ours, 65536)
            except OSError:
                break
        assert process.wait() == 0, said
    os.close(ours)
    lines = [line.split("\r")[-1] for line in said.decode().replace("\r\n", "\n").splitlines()]
    assert SAID.fullmatch("\n".join(lines) + "\n"), said


@pytest.mark.parametrize("option", ["--dry-run", "--verbose", "--printshellcmds"])
def test_snakemake_speaks_for_itself_where_it_is_asked(tmp_path: Path, option: str) -> None:
    write_small_recipe(tmp_path)
    done = snakemake(option, *FETCH, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Building DAG of jobs" in done.stdout


@pytest.mark.parametrize("form", [("--workflow-profile", "profiles/gb11"), ("--workflow-profile=profiles/gb11",)])
def test_a_profile_that_does_not_exist(tmp_path: Path, form: tuple[str, ...]) -> None:
    write_small_recipe(tmp_path)
    done = snakemake("--dry-run", *form, *FETCH, cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "--workflow-profile names profiles/gb11, which does not exist; write a folder such as profiles/gb10"
        in done.stdout
    )


def test_a_profile_that_exists(tmp_path: Path) -> None:
    for profile in ("profiles/gb10", str(ROOT / "profiles" / "gb10"), "none"):
        done = snakemake("--dry-run", "--workflow-profile", profile, cwd=ROOT)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("again", [False, True], ids=["alone", "with what the profile sets"])
def test_a_setting_beside_a_profile(tmp_path: Path, *, again: bool) -> None:
    """Snakemake would take it in place of the profile's, and calibrate on the CPU without a word."""
    write_small_recipe(tmp_path)
    setting = "calibration={arithmetic: cuda-sm121}"
    beside = ["--config", "source=weights", *([setting] if again else [])]
    profile = ("--workflow-profile", str(ROOT / "profiles" / "gb10"))
    done = snakemake("--dry-run", *HERE, "--configfile", "recipe.yaml", *profile, *beside, cwd=tmp_path)
    assert (done.returncode == 0) is again, done.stdout
    refused = (
        f"--config replaces all that {profile[1]} sets of the recipe: write {setting!r} behind it too, or both into"
    )
    assert (refused in done.stdout) is not again


def test_what_a_profile_of_one_s_own_sets(tmp_path: Path) -> None:
    """As a mapping, which Snakemake takes too."""
    write_small_recipe(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "profile.yaml").write_text("nolock: true\nconfig:\n  source: weights\n")
    profile = ("--workflow-profile", str(tmp_path / "mine"))
    done = snakemake("--dry-run", *HERE, "--configfile", "recipe.yaml", *profile, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_profile_of_any_gpu_has_to_be_told_which(tmp_path: Path) -> None:
    """Told, it is planned with where documents are held against the code: profiles/README.md."""
    write_small_recipe(tmp_path)
    profile = ("--workflow-profile", str(ROOT / "profiles" / "gpu"))
    done = snakemake("--dry-run", *HERE, "--configfile", "recipe.yaml", *profile, cwd=tmp_path)
    assert done.returncode == 1 and "calibration.arithmetic is 'cuda-sm${SM}'; write portable" in done.stdout


def test_a_bar_in_a_log_is_lines(tmp_path: Path) -> None:
    code = (
        "import time; from requant.ground import progress as p; p.RARELY = 0.2\n"
        "with p.progress(10, 'working', 'B') as bar:\n"
        "    for _ in range(10): time.sleep(0.1); bar.update(1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")}, stderr=subprocess.PIPE
    )
    assert b"\r" not in done.stderr
    assert len(done.stderr.splitlines()) > 2
    assert all(line.startswith(b"working: ") for line in done.stderr.splitlines())
