"""Which rows a sampled audit looks at, and what it would have missed."""

from collections.abc import Mapping

import numpy as np

from requant.formats.ggml import Indices

LEAST = 8
"""Rows of every tensor that a sample looks at, besides those that are drawn one by one."""


def draw(rows: Mapping[str, int], count: int, seed: int) -> dict[str, Indices]:
    """Draw ``count`` different rows, every row of every tensor with the same chance.

    Args:
        rows: the number of rows of each tensor that can be drawn from.
        count: how many; all of them where there are no more. A larger one draws the same rows, and others.
        seed: from 0 to 2**64 - 1; the same one draws the same rows, on every machine.

    Returns:
        sorted row numbers, by tensor; tensors of which no row was drawn are left out.
    """
    names, sizes = list(rows), np.array([rows[name] for name in rows], np.int64)
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    if count >= total:
        return {name: np.arange(size) for name, size in rows.items()}
    # The bit generator's words are the same in every version of numpy, unlike what is made of them.
    stream = np.random.Philox(key=seed)
    chosen: set[int] = set()
    while len(chosen) < count:
        # A remainder prefers some rows by less than one part in 2**40: no tensor has so many.
        words = stream.random_raw(count - len(chosen)) % np.uint64(total)
        chosen.update(int(word) for word in words)
    picked = np.sort(np.fromiter(chosen, np.int64, len(chosen)))
    owners = np.searchsorted(ends, picked, side="right")
    return {
        names[owner]: picked[owners == owner] - (int(ends[owner]) - int(sizes[owner])) for owner in np.unique(owners)
    }


def runs(rows: Mapping[str, int], seed: int) -> dict[str, Indices]:
    """Draw ``LEAST`` rows of every tensor, one after the other, or all where there are no more.

    So no tensor that was exchanged as a whole is missed, and over a network it costs one request.
    """
    # Another stream than that of the single rows, and a word of it for each tensor.
    words = np.random.Philox(key=np.array([seed, 1], np.uint64)).random_raw(len(rows))
    return {
        name: np.arange(min(size, LEAST)) + int(word) % max(1, size - LEAST + 1)
        for (name, size), word in zip(rows.items(), words, strict=True)
    }


def caught(chance: float, count: int) -> float:
    """The smallest fraction of altered rows that ``count`` rows miss with at most this chance.

    The rows are drawn without replacement, so ``(1 - fraction) ** count`` is an upper bound of that.
    """
    return float(1 - chance ** (1 / count)) if count else 1.0
