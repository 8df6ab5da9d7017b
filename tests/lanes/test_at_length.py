"""``make test-lanes``: many weights of every kind in every type, at every level, and by NEON under qemu.

``WEIGHTS`` in the environment says how many of each type, half of them with importances where there is the choice.
Every batch has a seed of its own, which is its number.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from support.lanes import WITH, WITHOUT, hard_importances, hard_rows, lanes, levels
from support.quants import kept, program

WEIGHTS = int(float(os.environ.get("WEIGHTS", "1e9")))
COLUMNS, EACH = 2048, 12
BY_NEON = 200
"""One batch in so many goes through qemu, which is slow."""


def batch(seed: int, kind: T) -> tuple[list[str], Floats, str, Floats | None]:
    """Rows of every kind and importances of one kind, or none where the type can do without."""
    names, rows = hard_rows(seed, COLUMNS, EACH)
    choices = list(hard_importances(seed, COLUMNS))
    by, importance = choices[-1] if seed % 2 and kind in WITHOUT else choices[seed // 2 % (len(choices) - 1)]
    return names, rows, by, importance


def in_two(pool: ThreadPoolExecutor, kind: T, rows: Floats, importance: Floats | None) -> Bytes:
    """By llama.cpp's own code on two cores."""
    own = kept(Arithmetic.STRICT)
    parts = pool.map(lambda part: own.quantize(kind, part, importance), np.array_split(rows, 2))
    return np.concatenate(list(parts))


@pytest.mark.parametrize("kind", WITH, ids=lambda kind: kind.name)
def test_as_llama_cpp_does(kind: T, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = {level: lanes(level, tmp_path, monkeypatch) for level in levels()}
    # The ARM64 program has other levels.
    monkeypatch.delenv("REQUANT_LEVEL")
    own, neon = program("ARM64 strict"), program("ARM64 lanes")
    done = seed = 0
    with ThreadPoolExecutor(2) as pool:
        while done < WEIGHTS:
            names, rows, by, importance = batch(seed, kind)
            expected = in_two(pool, kind, rows, importance)
            for level, library in libraries.items():
                wrong = (library.quantize(kind, rows, importance) != expected).any(1)
                assert not wrong.any(), f"{level}, seed {seed}, importances: {by}, {names[int(wrong.argmax()) // EACH]}"
            if seed % BY_NEON == 0:
                few = rows[::EACH]
                assert np.array_equal(neon.quantize(kind, few, importance), own.quantize(kind, few, importance)), seed
            done, seed = done + rows.size, seed + 1
    print(f"{kind.name}: {done:,} weights at {', '.join(libraries)}: 0 bytes differ")
