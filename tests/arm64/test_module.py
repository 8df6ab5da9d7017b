"""The module of the package gives on ARM64 the bytes that it gives here, also where compiled C does not: in tiny blocks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.checkout import ROOT
from support.command import PYTHONPATH

TAG = "manylinux2014_aarch64"
BYTES = """
import hashlib, platform, sys
sys.path[:0] = sys.argv[1:]
import numpy as np
from requant.formats.ggml import DERIVED, NEEDS_IMPORTANCE, GGMLType
from requant.toolchain.wasm_library import WasmLibrary
stream, module, digest = np.random.Philox(key=7), WasmLibrary(), hashlib.sha256()
weights = ((stream.random_raw(4096) >> np.uint64(40)).astype(np.float32) - np.float32(1 << 23)).reshape(8, 512)
by = weights[0] ** 2
for kind in sorted(set(DERIVED) - set(NEEDS_IMPORTANCE)):
    for scale in (2.0**-28, 2.0**-138, 2.0**-148, 2.0**-8):
        for importance in (None, by):
            made = module.quantize(kind, weights * np.float32(scale), importance)
            digest.update(made.tobytes())
            digest.update(np.nan_to_num(module.dequantize(kind, made, 512)).tobytes())
print(platform.machine(), digest.hexdigest())
"""


@pytest.fixture(scope="module")
def wasmtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The locked wasmtime for ARM64."""
    [pinned] = re.findall(r"^wasmtime==(?:.*\\\n)+.*", (ROOT / "envs" / "workflow.lock").read_text(), re.MULTILINE)
    folder = tmp_path_factory.mktemp("wasmtime")
    (folder / "lock").write_text(pinned)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
    wheels = ["--require-hashes", "--only-binary=:all:", f"--platform={TAG}", f"--requirement={folder / 'lock'}"]
    subprocess.run([*pip, f"--target={folder / 'wheels'}", *wheels], check=True)
    return folder / "wheels"


def test_the_same_bytes_on_arm64(python: Path, wasmtime: Path) -> None:
    here, there = (
        subprocess.run([program, "-c", BYTES, *paths], check=True, capture_output=True, text=True).stdout.split()
        for program, paths in ((sys.executable, [PYTHONPATH]), (python, [PYTHONPATH, wasmtime]))
    )
    assert there[0] == "aarch64" != here[0]
    assert here[1] == there[1]
