"""The lanes at every level at hand, and rows that are hard to get right."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from requant.documents.records import file_entry, read_record
from requant.formats.ggml import Arithmetic, Floats
from requant.formats.ggml import GGMLType as T
from requant.ground.digests import digest_file
from requant.ground.programs import Run
from requant.toolchain.build import build_backend, open_built
from requant.toolchain.lanes_library import LanesLibrary
from requant.toolchain.tree import proven_tree
from requant.toolchain.variants import LANES, variant
from support.checkout import TOOLCHAINS, alone
from support.quants import NEWER, PINS, kept

WITHOUT = (T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS)
WITH = (*WITHOUT, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1)
"""Types with lanes, without importances and with."""
NEEDS = {
    "baseline": set[str](),
    "v3": {"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"},
    "v4": {"avx2", "fma", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}
"""Levels, by what /proc/cpuinfo calls the instructions that they use."""


@cache
def built() -> Path:
    """The library of the lanes, kept for the next run."""
    kept(Arithmetic.STRICT)
    folder = TOOLCHAINS / NEWER / LANES
    record = folder / "build.json"
    with alone():
        tree = proven_tree(TOOLCHAINS / NEWER / "source.json")
        if not record.exists() or _sources_changed(record):
            build_backend(tree, LANES, folder, PINS[NEWER].commit, Run(2, folder / "build.log"))
    [name] = open_built(record).files
    return folder / name


def _sources_changed(record: Path) -> bool:
    ours = [file_entry(path.name, digest_file(path)) for path in variant(LANES).sources]
    return bool(read_record(record)["own_code"] != ours)


def levels() -> list[str]:
    """The levels that this processor has, the lowest first."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = set(next((line.split() for line in lines if line.startswith("flags")), []))
    return [level for level, needed in NEEDS.items() if needed <= flags]


def lanes(level: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> LanesLibrary:
    """The lanes of one level. A library chooses its level when it is loaded, so each has a file of its own."""
    path = folder / f"{level}.so"
    shutil.copy(built(), path)
    monkeypatch.setenv("REQUANT_LEVEL", level)
    loaded = ctypes.CDLL(str(path))
    loaded.requant_level.restype = ctypes.c_char_p
    assert loaded.requant_level().decode() == level
    return LanesLibrary(kept(Arithmetic.STRICT), path)


def hard_rows(seed: int, columns: int, each: int) -> tuple[list[str], Floats]:
    """Rows of every kind: names, and ``each`` of them for every name, ``[names * each, columns]``."""
    draw = np.random.default_rng(seed)
    shape = (each, columns)

    def normal() -> np.ndarray:
        return draw.standard_normal(shape)

    kinds = {
        "normal": normal() / 50,
        "Student": draw.standard_t(3, shape) / 50,
        "zeros": np.zeros(shape),
        "every other one 0": normal() * (np.arange(columns) % 2),
        "few": normal() * (draw.random(shape) < 0.03),
        "all alike": np.full(shape, 0.37),
        "all alike, below 0": np.full(shape, -0.37),
        "denormal": normal() * 1e-39,
        "at the bound of nothing": normal() * 1e-15,
        "below it": normal() * 1e-17,
        "large": normal() * 1e18,
        "squares are infinite": normal() * 1e30,
        "the largest": draw.choice([-3.4e38, 3.4e38, 0.0], shape),
        "above 0": np.abs(normal()),
        "below 0": -np.abs(normal()),
        "two values": draw.choice([-1.0, 1.0], shape),
        "ties": draw.integers(-8, 8, shape) / 4,
        "of all sizes": normal() * np.exp(8 * draw.standard_normal(shape)),
        "-0": np.where(draw.random(shape) < 0.5, -0.0, 0.0),
    }
    rows = np.concatenate(list(kinds.values())).astype(np.float32)
    bfloats = ((normal() / 50).astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return [*kinds, "bfloat16"], np.concatenate([rows, bfloats])


def hard_importances(seed: int, columns: int) -> Iterator[tuple[str, Floats | None]]:
    """Importances of every kind, by name; none too."""
    draw = np.random.default_rng(seed)
    squares = draw.chisquare(1, columns)
    for name, values in {
        "squares": squares,
        "ones": np.ones(columns),
        "zeros": np.zeros(columns),
        "wild": np.exp(6 * draw.standard_normal(columns)),
        "half of them 0": squares * (draw.random(columns) < 0.5),
        "huge": squares * 1e30,
        "denormal": squares * 1e-40,
        "below 0": -squares,
        "of both signs": draw.standard_normal(columns),
    }.items():
        yield name, values.astype(np.float32)
    yield "none", None
