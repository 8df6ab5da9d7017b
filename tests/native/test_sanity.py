"""Honest importance matrices keep the bounds of requant.audit.recipe.sanity in every type; those made to ruin do not.

``bench/matrices.py`` prints the whole table.
"""

from __future__ import annotations

import numpy as np
import pytest

from requant.audit.recipe.sanity import look, sanity_of
from requant.formats.ggml import DERIVED, PLAIN, Arithmetic, Floats
from requant.formats.ggml import GGMLType as T
from requant.quantization.derivation import Rows
from support.quants import kept

COLUMNS, ROWS = 512, 4
RANDOM = np.random.default_rng(11)
NORMAL, HEAVY = RANDOM.standard_normal((ROWS, COLUMNS)), RANDOM.standard_t(4, (ROWS, COLUMNS))
WEIGHTS = (np.concatenate([NORMAL, HEAVY]) / 50).astype(np.float32)
AT = np.arange(COLUMNS)
SLOW = (T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_S)
"""Types whose grids take llama.cpp seconds to prepare, and that behave as their neighbours."""
SEARCHED = [kind for kind in DERIVED if kind not in (*PLAIN, T.Q8_0, *SLOW)]


def lognormal(sigma: float) -> Floats:
    return np.exp(sigma * np.random.default_rng(12).standard_normal(COLUMNS)).astype(np.float32)


HONEST = {
    "alike": np.ones(COLUMNS, np.float32),
    "uneven": lognormal(1),
    "very uneven": lognormal(2),
    "a few columns 10,000 times larger": np.where(AT % 200 == 7, 1e4, lognormal(1)).astype(np.float32),
    "one column ten million times larger": np.where(AT == 37, 1e7, 1).astype(np.float32),
    "a few dead": np.where(AT % 25 == 3, 0, lognormal(1)).astype(np.float32),
}
HOSTILE = {
    "zeros but for 1 in 32": (AT % 32 == 0).astype(np.float32),
    "zeros but for 1 in 16": (AT % 16 == 0).astype(np.float32),
    "next to nothing but for 1 in 32": np.where(AT % 32 == 0, 1, 1e-6).astype(np.float32),
    "zeros in half of the blocks": (AT < COLUMNS // 2).astype(np.float32),
    "wild": np.exp(10 * np.random.default_rng(13).standard_normal(COLUMNS)).clip(1e-20, 1e12).astype(np.float32),
}


def beyond(kind: T, importance: Floats) -> list[str]:
    """What is said of a tensor that llama-quantize makes with such importances."""
    quantizer, indices = kept(Arithmetic.STRICT), np.arange(len(WEIGHTS))
    rows = Rows(kind, WEIGHTS, importance, quantizer.quantize(kind, WEIGHTS, importance), indices)
    ratio = look(quantizer, rows, indices).ratio
    assert ratio is not None
    return [each.name for each in sanity_of({"a": importance}, {"a": ratio}) if each.beyond]


@pytest.mark.parametrize("kind", SEARCHED, ids=str)
def test_honest_ones_are_within_and_hostile_ones_beyond(kind: T) -> None:
    assert {name: beyond(kind, each) for name, each in HONEST.items()} == {name: [] for name in HONEST}
    assert [name for name, each in HOSTILE.items() if not beyond(kind, each)] == []


DAMAGED = [T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_XS, T.IQ4_NL, T.Q4_0, T.Q5_0, T.IQ2_XS]


@pytest.mark.parametrize("kind", DAMAGED, ids=str)
def test_the_error_alone_shows_what_zeros_did(kind: T) -> None:
    """Whatever the shape of the importances: half of all blocks are lost."""
    assert "error" in beyond(kind, HOSTILE["zeros in half of the blocks"])
