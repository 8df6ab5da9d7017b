"""The steps at GitHub that look at the demo, run upon the demo of the tests; and that they fail where it differs."""

import shutil
from pathlib import Path

import pytest

from support.actions import WORKFLOWS, run_audit, run_step, step
from support.checkout import ROOT
from support.command import installed
from support.workplace import QUANT, Workplace

[WORKFLOW] = WORKFLOWS
GOLDEN = step(WORKFLOW, "Hold the demo against the golden digests")
AUDIT = step(WORKFLOW, "Audit the demo with the action of this checkout")


@pytest.fixture
def checkout(demo: Workplace, tmp_path: Path) -> Path:
    """A checkout after the demo, as far as these steps look; its quant may be written to."""
    folder = tmp_path / "checkout"
    results = folder / "results" / "Tiny-Qwen3"
    results.mkdir(parents=True)
    (folder / "tests").symlink_to(ROOT / "tests")
    (folder / "results" / "toolchains").symlink_to(demo.folder / "results" / "toolchains")
    for name in ("bf16", "generated"):
        (results / name).symlink_to(demo.results / name)
    shutil.copytree(demo.release, results / "release")
    return folder


def change(folder: Path) -> None:
    """One bit of the last tensor."""
    path = folder / "results" / "Tiny-Qwen3" / "release" / QUANT
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)


def test_the_golden_digests(checkout: Path) -> None:
    done = run_step(GOLDEN["run"], checkout, {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": OK\n") == 4


def test_another_byte_is_not_golden(checkout: Path) -> None:
    change(checkout)
    done = run_step(GOLDEN["run"], checkout, {})
    assert done.returncode == 1
    assert f"{QUANT}: FAILED\n" in done.stdout


def test_the_demo_is_audited(checkout: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    installed(checkout / "bin")
    code, said, outputs, summary = run_audit(checkout / "bin" / "requant", checkout, **AUDIT["with"])
    assert (code, outputs["exit-code"]) == (0, "0"), said
    assert "| weights | exact |" in summary
