"""The lanes: llama.cpp's own bytes in every type at every level, the row that would differ, what they leave to it."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.ground.errors import ToolError
from requant.toolchain.ggml_library import GGMLLibrary
from requant.toolchain.lanes_library import LanesLibrary
from requant.toolchain.quantizers import FINGERPRINTS, SMALL, fingerprint, open_lanes, open_quantizer
from support.checkout import TOOLCHAINS, shared_cache
from support.lanes import WITH, WITHOUT, built, hard_importances, hard_rows, lanes, levels
from support.quants import NEWER, PINS, kept, numbers, program

COLUMNS = 768
STRICTLY = partial(open_quantizer, pin=PINS[NEWER])


@pytest.mark.parametrize("level", levels())
def test_hard_rows_at_every_level(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows of each kind, so that blocks do not fill the lanes."""
    library, own = lanes(level, tmp_path, monkeypatch), kept(Arithmetic.STRICT)
    names, rows = hard_rows(1, COLUMNS, 7)
    for by, importance in hard_importances(2, COLUMNS):
        for kind in WITHOUT if importance is None else WITH:
            wrong = (library.quantize(kind, rows, importance) != own.quantize(kind, rows, importance)).any(1)
            assert not wrong.any(), f"{kind.name}, importances: {by}: {names[int(wrong.argmax()) // 7]}"


@pytest.mark.parametrize("level", levels())
def test_fingerprints(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fingerprint(lanes(level, tmp_path, monkeypatch)) == FINGERPRINTS[Arithmetic.STRICT]


LIBM = ctypes.CDLL("libm.so.6")
UPWARD, TO_ZERO, FLUSHED = 0x4000, 0x6000, 0x8040
"""Bits of MXCSR: how is rounded, and that numbers below the normal ones are zeros, as operands and as results."""


def mxcsr() -> int:
    """This thread's: fegetenv has it in the last four bytes of an environment."""
    environment = ctypes.create_string_buffer(32)
    LIBM.fegetenv(environment)
    return int.from_bytes(environment[28:32], "little")


@contextmanager
def modes(bits: int) -> Iterator[None]:
    """Other modes for this thread."""
    before, changed = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    LIBM.fegetenv(before)
    LIBM.fegetenv(changed)
    changed[28:32] = (mxcsr() | bits).to_bytes(4, "little")
    LIBM.fesetenv(changed)
    try:
        yield
    finally:
        LIBM.fesetenv(before)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="MXCSR is x86-64's")
@pytest.mark.parametrize("bits", [UPWARD, TO_ZERO, FLUSHED])
def test_the_modes_of_a_thread_change_nothing(bits: int) -> None:
    """And are left as they were. llama.cpp's own code would follow them."""
    own, rows, by = kept(Arithmetic.STRICT), numbers(11, 4, 512), numbers(12, 512) ** 2 * np.float32(1e-36)
    lanes = LanesLibrary(own, built())._library
    expected = own.quantize(T.Q4_K, rows, by)
    found = np.empty_like(expected)
    with modes(bits):
        lanes.requant_quantize(int(T.Q4_K), rows.ctypes.data, found.ctypes.data, *rows.shape, by.ctypes.data)
        follows, left = own.quantize(T.Q4_K, rows, by), mxcsr()
    assert left & bits == bits
    assert np.array_equal(found, expected)
    assert not np.array_equal(follows, expected)


def test_neon() -> None:
    """The same C by GCC for ARM64, under qemu, beside llama.cpp's own by the same.

    What overflows to NaN has another sign there than on x86-64, and a few of these rows other bytes.
    """
    own, arm = program("ARM64 strict"), program("ARM64 lanes")
    _, rows = hard_rows(3, 512, 1)
    importances = dict(hard_importances(4, 512))
    for by in ("huge", "none"):
        for kind in WITHOUT if importances[by] is None else WITH:
            made = arm.quantize(kind, rows, importances[by])
            assert np.array_equal(made, own.quantize(kind, rows, importances[by])), (kind.name, by)


class Marked(GGMLLibrary):
    """llama.cpp's own code with a mark on all that it makes: who was asked shows."""

    def quantize(self, kind: T, weights: Floats, importance: Floats | None = None) -> Bytes:
        return super().quantize(kind, weights, importance) ^ 1


def marked() -> Marked:
    kept(Arithmetic.STRICT)
    return Marked(Arithmetic.STRICT, TOOLCHAINS / NEWER / "library" / "strict" / "libggml-base.so")


LEFT = {
    "a type without lanes": (T.Q8_0, numbers(5, 3, 256), None),
    "a type that has no search without importances": (T.Q4_0, numbers(5, 3, 256), None),
    "a grid type": (T.IQ2_XXS, numbers(5, 1, 256), np.ones(256, np.float32)),
    "infinity": (T.Q4_K, np.full((2, 256), np.inf, np.float32), None),
    "NaN": (T.Q4_K, np.where(np.arange(512).reshape(2, 256) == 300, np.nan, 1).astype(np.float32), None),
    "NaN importances": (T.Q4_K, numbers(5, 3, 256), np.full(256, np.nan, np.float32)),
    "no row": (T.Q4_K, numbers(5, 0, 256), None),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_to_llama_cpp(name: str) -> None:
    kind, weights, importance = LEFT[name]
    own = marked()
    made = LanesLibrary(own, built()).quantize(kind, weights, importance)
    assert np.array_equal(made, own.quantize(kind, weights, importance))


@pytest.mark.parametrize("kind", WITH, ids=lambda kind: kind.name)
def test_a_difference_is_no_quant(kind: T) -> None:
    """A drawn row that llama.cpp makes otherwise ends the work; of one row this is the one. So each type has lanes."""
    words = rf"gives other bytes than llama\.cpp in {kind.name}: remove it, and report this$"
    with pytest.raises(ToolError, match=words):
        LanesLibrary(marked(), built()).quantize(kind, numbers(6, 1, 256), np.ones(256, np.float32))


def test_an_audit_has_lanes_where_they_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built()
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache()))
    lanes = open_lanes(PINS[NEWER], 1, STRICTLY)
    assert lanes is not None
    assert fingerprint(lanes) == FINGERPRINTS[Arithmetic.STRICT]


def test_an_audit_goes_without_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Little is derived before they are built; and a compiler that cannot build them is no reason to end."""
    kept(Arithmetic.STRICT)
    cache = tmp_path / "requant" / "toolchains" / NEWER
    cache.mkdir(parents=True)
    for name in ("library", "source", "source.json"):
        (cache / name).symlink_to(TOOLCHAINS / NEWER / name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_lanes(PINS[NEWER], SMALL, STRICTLY) is None
    assert not caplog.messages
    monkeypatch.setenv("CC", "/bin/false")
    assert open_lanes(PINS[NEWER], SMALL + 1, STRICTLY) is None
    assert [message for message in caplog.messages if message.startswith("going on without lanes, more slowly: ")]
    assert not (cache / "lanes" / "build.json").exists()


def test_another_library(tmp_path: Path) -> None:
    (tmp_path / "other.so").write_bytes(b"no library")
    with pytest.raises(ToolError, match=r"other\.so cannot be used \(.*\): remove it and run again"):
        LanesLibrary(kept(Arithmetic.STRICT), tmp_path / "other.so").quantize(T.Q4_K, numbers(6, 1, 256))


def test_what_a_process_says_that_opens_it() -> None:
    """Nothing, unless it is asked for a level that is none."""
    command = [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(built())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"REQUANT_LEVEL": "v9"})
    assert done.returncode == 1
    assert done.stderr == "requant: REQUANT_LEVEL is v9, which is no level here: unset it\n"
