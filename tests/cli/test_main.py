"""The ``requant`` command as people run it: its help, exit codes, one line on standard error, no traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from requant import __version__
from requant.cli.command import Verbs
from requant.cli.main import GROUPS
from requant.ground.errors import MismatchError, StaleError
from requant.ground.exit_codes import ExitCode
from support.command import CODE, PYTHONPATH, run
from support.small_release import QUANT

# What it says of itself.


def test_the_help_groups_the_verbs_and_cuts_nothing() -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for heading, verbs in GROUPS.items():
        section = out.split(f"\n{heading}:\n")[1].split("\n\n")[0].splitlines()
        assert [line.split(None, 1) for line in section] == [[verb.name, verb.short_help] for verb in verbs]


def test_the_help_has_the_table_of_exit_codes() -> None:
    _, out, _ = run("--help")
    table = " ".join(out.split("\nExit codes:\n")[1].split())
    assert table == " ".join(f"{int(code)} {code.english}" for code in ExitCode)


def test_version() -> None:
    assert run("--version") == (0, f"requant, version {__version__}\n", "")


# How it ends.


@pytest.mark.parametrize(
    "arguments",
    [("verify",), ("verfy", "x"), ("verify", "a", "b"), ("--what",), ("verify", "--what", "x"), ("diff", "a")],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "Usage: requant" in err
    assert "Error: " in err


def ending(raised: BaseException) -> tuple[int, str]:
    """How a command ends whose verb raises that."""

    @click.command()
    def verb() -> None:
        raise raised

    done = CliRunner().invoke(Verbs("requant", groups={"Verbs": (verb,)}), ["verb"])
    return done.exit_code, done.stderr


ENDS: dict[str, tuple[BaseException, ExitCode, str]] = {
    "evidence": (MismatchError("x differs: get it again"), ExitCode.AGAINST, "error: x differs: get it again\n"),
    "a stale cache": (StaleError("y was changed: remove it"), ExitCode.UNCHECKED, "error: y was changed: remove it\n"),
    "an interruption": (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted\n"),
    "wrong usage": (click.UsageError("no"), ExitCode.USAGE, "Usage: requant verb [OPTIONS]\n"),
}


@pytest.mark.parametrize(("raised", "code", "said"), ENDS.values(), ids=ENDS)
def test_every_end_has_its_code(raised: BaseException, code: ExitCode, said: str) -> None:
    found = ending(raised)
    assert (found[0], found[1][: len(said)]) == (code, said)


def test_a_bug_is_no_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, said = ending(ValueError("a bug"))
    [kept] = tmp_path.iterdir()
    assert (code, said) == (ExitCode.BUG, f"error: this is a bug in requant: report it with {kept}\n")
    assert kept.read_text().startswith("Traceback (most recent") and kept.read_text().endswith("ValueError: a bug\n")


@pytest.mark.parametrize(
    ("arguments", "deaf"),
    [
        (("verify", "release"), "out"), (("verify", "/nowhere"), "err"), (("verify", "/nowhere"), "both"), (("verify",), "err"),
        (("--help",), "out"), (("audit", "--help"), "out"), (("--version",), "out"),
    ],
)  # fmt: skip
def test_nobody_reads_on(release: Path, arguments: tuple[str, ...], deaf: str) -> None:
    """As where ``| head`` has enough: the release was not found to be another than it says."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", CODE, *arguments]
    env = {**os.environ, "PYTHONPATH": PYTHONPATH}
    out = subprocess.PIPE if deaf == "err" else writing
    err = subprocess.PIPE if deaf == "out" else writing
    done = subprocess.run(command, env=env, cwd=release.parent, stdout=out, stderr=err, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stdout or "", done.stderr or "") == (ExitCode.UNCHECKED, "", "")


@pytest.mark.parametrize("verb", ["verify", "show", "audit"])
def test_what_the_system_refuses_is_no_bug(verb: str) -> None:
    """No folder can have such a name: the system says so even to root, who may read every file."""
    code, _, err = run(verb, "x" * 300)
    assert code in {ExitCode.USAGE, ExitCode.UNCHECKED}
    [said] = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert said.startswith(f"error: {'x' * 300}") and "(File name too long)" in said


# --json.


def spoiled(release: Path) -> None:
    (release / QUANT).write_bytes(b"GGUF")


@pytest.mark.parametrize("change", [lambda _: None, spoiled], ids=["right", "wrong"])
def test_json_to_standard_output_stands_alone(release: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    change(release)
    report = tmp_path / "deep" / "report.json"
    code, text, _ = run("verify", release, "--json", report)
    assert text.startswith("release: ")
    alone, out, _ = run("verify", release, "--json", "-")
    assert (alone, out) == (code, report.read_text())
    assert json.loads(out)["schema"] == "requant/verify/v1"
    assert not Path("-").exists()


PLACES = {"a folder": ".", "below a file": "release/README.md/report.json"}
VERBS = {
    "audit": ("audit", "release", "--source", "nowhere", "--json"),
    "audit, for a discussion": ("audit", "release", "--source", "nowhere", "--markdown"),
    "audit, to look at": ("audit", "release", "--source", "nowhere", "--html"),
    "verify": ("verify", "release", "--json"),
    "diff": ("diff", "release", "release", "--json"),
    "evaluate": ("evaluate", "none", "--endpoint", "http://127.0.0.1:9", "--model", "m", "--out"),
    "new-key": ("new-key",),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("verb", VERBS)
def test_what_cannot_be_written_is_refused_before_the_work(release: Path, verb: str, place: str) -> None:
    code, out, err = run(*VERBS[verb], place, cwd=release.parent)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("Usage: ") and f"'{place}'" in err.replace(f"{place} cannot", f"'{place}' cannot")
    assert "nowhere" not in err
