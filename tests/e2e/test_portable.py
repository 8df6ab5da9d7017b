"""Portable calibration: one digest for every level, number of threads and compiler; the tool is the real one."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from requant.documents.records import Product
from requant.ground.errors import ToolError
from requant.ground.programs import Run
from requant.pipeline.calibrate import calibrate
from requant.pipeline.settings import Calibration
from requant.toolchain.build import build_backend
from requant.toolchain.instrument import Instrument
from requant.toolchain.tree import proven_tree
from support.checkout import TOOLCHAINS
from support.workplace import TINY, TOOLCHAIN, Workplace

BUILT = TOOLCHAINS / TOOLCHAIN
CPU = set(Path("/proc/cpuinfo").read_text().split())
NEEDS = {
    "baseline": set(),
    "v3": {"avx2", "fma", "f16c"},
    "v4": {"avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl"},
}
LEVELS = [level for level in NEEDS if NEEDS[level] <= CPU] if platform.machine() == "x86_64" else ["baseline"]
SHORT = {**TINY["calibration"], "chunks": 2, "context": 64, "batch": 64, "ubatch": 64}
Calibrate = Callable[..., str]


@pytest.fixture
def run(demo: Workplace, tmp_path: Path) -> Calibrate:
    """Calibrate the demo's model on two short chunks; returns the SHA-256 of ``imatrix.gguf``."""

    def run(threads: int = 2, backend: Path = BUILT / "portable" / "build.json", **settings: object) -> str:
        folder = demo.results / "bf16" / "converted"
        model = Product(folder / "Tiny-Qwen3.gguf", folder / "model.json")
        text = demo.results / "corpus" / "docs.train.txt"
        tool = BUILT / "strict" / "bin" / "llama-imatrix.json"
        out = Product(tmp_path / "imatrix.gguf", tmp_path / "imatrix.json")
        instrument = Instrument.open(tool, backend, Run(threads, tmp_path / "log"))
        calibrate(model, text, instrument, Calibration.of({**SHORT, **settings}), out)
        return hashlib.sha256(out.file.read_bytes()).hexdigest()

    return run


def test_every_level_and_number_of_threads(run: Calibrate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every level with two threads, and the best one with each number of them."""
    digests = {}
    for level, threads in sorted({*((level, 2) for level in LEVELS), *((LEVELS[-1], number) for number in (1, 2, 3))}):
        monkeypatch.setenv("REQUANT_LEVEL", level)
        digests[level, threads] = run(threads)
    assert len(set(digests.values())) == 1, digests


OTHER_SETTINGS = {
    "flash attention": {"flash_attention": True},
    "micro-batches": {"ubatch": 16},
    "several sequences in a batch": {"batch": 128, "ubatch": 64},
}


@pytest.mark.long
@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_other_settings_repeat_too(run: Calibrate, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each may have a digest of its own, and that one at every level and number of threads."""
    digests = {}
    for level, threads in zip([*LEVELS, LEVELS[-1]], (2, 1, 3, 2), strict=False):
        monkeypatch.setenv("REQUANT_LEVEL", level)
        digests[level, threads] = run(threads, **OTHER_SETTINGS[name])
    assert len(set(digests.values())) == 1, digests


@pytest.mark.long
def test_another_compiler(run: Calibrate, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("clang++"):
        pytest.skip("clang is not installed (Debian: apt-get install clang)")
    monkeypatch.setenv("CC", "clang")
    monkeypatch.setenv("CXX", "clang++")
    folder = BUILT / "clang" / "portable"
    source = proven_tree(BUILT / "source.json")
    build_backend(source, "portable", folder, source.name, Run(2, folder.parent / "build.log"))
    assert run(backend=folder / "build.json") == run()


@pytest.mark.parametrize(("level", "words"), [("v9", "REQUANT_LEVEL is v9, which is no level here: unset it")])
def test_a_level_that_is_none(run: Calibrate, monkeypatch: pytest.MonkeyPatch, level: str, words: str) -> None:
    monkeypatch.setenv("REQUANT_LEVEL", level)
    with pytest.raises(ToolError) as error:
        run()
    assert str(error.value) == words
