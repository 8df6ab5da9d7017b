"""The module that the package carries: made of its source and nothing else, and byte for byte what the library makes."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from requant.documents.pins import TABLE, read_pins
from requant.formats.ggml import DERIVED, NEEDS_IMPORTANCE, Arithmetic, Floats, row_bytes
from requant.formats.ggml import GGMLType as T
from requant.ground.errors import StaleError, ToolError, UnsupportedError
from requant.quantization.derivation import IMPORTANCE_LIMIT, LIMIT
from requant.toolchain import wasm_module
from requant.toolchain.pre_tokenizers import BASE, PreTokenizers
from requant.toolchain.quantizers import FINGERPRINTS, fingerprint
from requant.toolchain.wasm_library import COMMIT, MODULE, PIECE, SHA256, WasmLibrary
from support.checkout import TOOLCHAINS
from support.quants import NEWER, kept, numbers

ROWS, COLUMNS = 6, 512
SLOW = (T.IQ1_S, T.IQ1_M, T.IQ2_XS, T.IQ2_S)
"""Their tables take 4 to 20 seconds; ``bench/wasm.py`` compares them too."""
QUICK = sorted(set(DERIVED) - set(SLOW))
named = pytest.mark.parametrize("kind", QUICK, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def module() -> WasmLibrary:
    return WasmLibrary()


@pytest.mark.long
def test_it_is_made_of_the_pinned_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed bytes came out in another folder. A word that means nothing keeps zig from what it compiled before."""
    monkeypatch.setattr(wasm_module, "COMPILE", (f"-DTIME_{time.time_ns()}", *wasm_module.COMPILE))
    kept(Arithmetic.STRICT)
    tree = TOOLCHAINS / NEWER / "source"
    assert next(iter(read_pins(TABLE, "the pin table").toolchains.values())).commit == COMMIT, "make wasm"
    assert hashlib.sha256(MODULE.read_bytes()).hexdigest() == SHA256
    wasm_module.build_module(tree, tmp_path / "built.wasm", TOOLCHAINS / NEWER / "foreign" / "zig", tmp_path / "log")
    assert (tmp_path / "built.wasm").read_bytes() == MODULE.read_bytes()
    assert PreTokenizers.of_source((tree / BASE).read_text(encoding="utf-8")) == PreTokenizers.of_package()


def test_it_has_the_fingerprint_and_other_contents_are_refused(module: WasmLibrary, tmp_path: Path) -> None:
    assert fingerprint(module) == FINGERPRINTS[Arithmetic.STRICT]
    (tmp_path / MODULE.name).write_bytes(MODULE.read_bytes() + b"\0")
    with pytest.raises(StaleError, match=r"quantizer\.wasm is not the module .*: install requant again"):
        WasmLibrary(tmp_path / MODULE.name).quantize(T.Q4_0, numbers(1, 1, 32))


def hostile() -> dict[str, Floats]:
    """Rows that a search stumbles over, all within what is derived at all."""
    signs = np.sign(numbers(3, ROWS, COLUMNS)).astype(np.float32)
    spikes = np.zeros((ROWS, COLUMNS), np.float32)
    spikes[:, ::97] = LIMIT
    return {
        "as weights are": numbers(1, ROWS, COLUMNS),
        "of every size": numbers(2, ROWS, COLUMNS) * np.exp2(np.linspace(-100, 15, ROWS, dtype=np.float32))[:, None],
        "at the limit": signs * np.float32(LIMIT),
        "zero, of both signs": signs * np.float32(0),
        "subnormal": signs * np.float32(1e-40),
        "spikes": spikes,
        "all alike": np.full((ROWS, COLUMNS), 0.1, np.float32),
        "ties": np.round(numbers(4, ROWS, COLUMNS) * 100) / 8,
    }


BY = {
    "none": None,
    "some": numbers(5, COLUMNS) ** 2,
    "zero": np.zeros(COLUMNS, np.float32),
    "at the limit": np.full(COLUMNS, IMPORTANCE_LIMIT, np.float32),
    "uneven": np.exp2(np.linspace(-120, 38, COLUMNS)).astype(np.float32),
}


@named
def test_the_same_bytes_as_the_library(module: WasmLibrary, kind: T) -> None:
    library = kept(Arithmetic.STRICT)
    for what, weights in hostile().items():
        for how, by in BY.items():
            if by is None and kind in NEEDS_IMPORTANCE:
                continue
            made = module.quantize(kind, weights, by)
            assert np.array_equal(made, library.quantize(kind, weights, by)), (what, how)
            assert np.array_equal(
                module.dequantize(kind, made, COLUMNS), library.dequantize(kind, made, COLUMNS), equal_nan=True
            ), (what, how)
    bits = np.random.default_rng(6).integers(0, 256, (ROWS, row_bytes(kind, COLUMNS)), np.uint8)
    assert np.array_equal(
        module.dequantize(kind, bits, COLUMNS), library.dequantize(kind, bits, COLUMNS), equal_nan=True
    )


def test_threads_do_not_meet(module: WasmLibrary) -> None:
    """Eight threads, more than there are instances, each with weights and importances of its own."""
    jobs = [(numbers(seed, ROWS, COLUMNS), numbers(100 + seed, COLUMNS) ** 2) for seed in range(32)]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda job: module.quantize(T.Q4_K, *job), jobs))
    library = kept(Arithmetic.STRICT)
    assert all(np.array_equal(made, library.quantize(T.Q4_K, *job)) for made, job in zip(at_once, jobs, strict=True))


def test_pieces_and_rows_longer_than_one(module: WasmLibrary) -> None:
    """What goes through an instance in several pieces, and a row that is longer than a piece."""
    library = kept(Arithmetic.STRICT)
    for rows, columns in ((700, 1024), (2, PIECE + 256), (0, 256)):
        weights, by = numbers(7, rows, columns), numbers(8, columns) ** 2
        made = module.quantize(T.Q4_0, weights, by)
        assert np.array_equal(made, library.quantize(T.Q4_0, weights, by))
        assert np.array_equal(module.dequantize(T.Q4_0, made, columns), library.dequantize(T.Q4_0, made, columns))


def test_a_call_that_ends_is_one_sentence_and_the_next_one_works(module: WasmLibrary) -> None:
    """A type without a search aborts inside llama.cpp; here that ends the call, not the process."""
    with pytest.raises(ToolError, match=r"llama\.cpp gave up in quantize"):
        module.quantize(T.I32, numbers(1, 1, COLUMNS))
    assert module.quantize(T.Q4_0, numbers(1, 1, COLUMNS)).shape == (1, row_bytes(T.Q4_0, COLUMNS))


def test_a_row_that_has_no_room(module: WasmLibrary) -> None:
    """Refused before anything is copied: the array itself takes no memory."""
    endless = np.broadcast_to(np.zeros(1, np.uint8), (1, 1 << 31))
    with (
        module._instance() as instance,
        pytest.raises(UnsupportedError, match="a row takes 2,147,483,680 bytes"),
        instance.filled(endless, room=32),
    ):
        raise AssertionError
