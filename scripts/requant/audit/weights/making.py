"""How a file was made, by a first look at rows of every type: arithmetic, rounding, with or without importances."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from requant.audit.weights.judgement import rate, surprisingly_many
from requant.audit.weights.material import Material, by_expert
from requant.audit.weights.tensor import TensorAudit
from requant.formats.ggml import NEEDS_IMPORTANCE, GGMLType, Indices
from requant.ground.errors import ToolError
from requant.quantization.derivation import Making, derivable

PROBE = 1 << 17
"""Weights of each type that are looked at first, to find out how the file was made."""
TURN = 1 << 14
"""Weights of a tensor that are looked at, to find out whether it was made the other way about importances."""


def probe(material: Material, audits: list[TensorAudit]) -> Making:
    """The way in which the smallest share of the first look differs; of equally good ones the most usual.

    Every tensor that is looked at counts alike, however short its blocks are.

    Raises:
        FormatError, SourceError: when the rows cannot be read.
        ToolError: when an arithmetic cannot be had.
    """
    looks = list(_looks(audits))
    makings = [
        Making(arithmetic, via, weighed)
        for weighed in ((True, False) if material.importances else (True,))
        for via in material.weights.vias
        for arithmetic in material.arithmetics
    ]
    if not makings:
        raise ToolError(f"nothing can be derived with this llama.cpp here: {'; '.join(material.lacking.values())}")
    best, fewest = makings[0], None
    for making in makings:
        found = sum(_share(material, making, audit, look) for audit, look in looks)
        if fewest is None or found < fewest:
            best, fewest = making, found
        if not found:
            break
    return best


def derives(material: Material, making: Making, audit: TensorAudit) -> bool:
    """Whether a tensor is made in such a way, as far as a look at some rows says.

    Raises:
        FormatError, SourceError: when the rows cannot be read.
        ToolError: when an arithmetic cannot be had.
    """
    odd, blocks = _odd(material, making, audit, _look(audit, TURN))
    return not surprisingly_many(odd, blocks * rate(audit.tensor.type).most)


def _looks(audits: list[TensorAudit]) -> Iterator[tuple[TensorAudit, list[Indices]]]:
    """Some rows of two tensors of each type."""
    seen: Counter[GGMLType] = Counter()
    for audit in audits:
        if audit.searched and seen[audit.tensor.type] < 2:
            seen[audit.tensor.type] += 1
            yield audit, _look(audit, PROBE)


def _look(audit: TensorAudit, weights: int) -> list[Indices]:
    """Rows of a tensor with about so many weights, expert by expert."""
    rows = max(1, min(weights // audit.tensor.shape[0], audit.rows))
    spread = np.unique(np.linspace(0, audit.rows - 1, rows).astype(np.int64))
    indices = spread if audit.selected is None else audit.selected[:rows]
    return [indices[places] for places in by_expert(audit.tensor, indices)]


def _share(material: Material, making: Making, audit: TensorAudit, look: list[Indices]) -> float:
    odd, blocks = _odd(material, making, audit, look)
    return odd / max(1, blocks)


def _odd(material: Material, making: Making, audit: TensorAudit, look: list[Indices]) -> tuple[int, int]:
    """Of some rows of a tensor the blocks that differ from their derivation, and all."""
    blocks = sum(map(len, look)) * audit.tensor.shape[0] // audit.tensor.type.block_size
    return sum(_odd_blocks(material, making, audit, indices) for indices in look), blocks


def _odd_blocks(material: Material, making: Making, audit: TensorAudit, indices: Indices) -> int:
    """Blocks of some rows that differ from their derivation."""
    rows, ways, size = material.rows(audit, indices, making), material.ways(audit, making), audit.tensor.type.type_size
    weights = ways.weights(ways.makings[0], rows)
    if derivable(weights, None):
        # A rounding to infinity is nobody's, and must not win by what it hides.
        return rows.actual.size // size
    if derivable(weights, rows.importance):
        return 0
    if rows.type in NEEDS_IMPORTANCE and rows.importance is None:
        return rows.actual.size // size
    touched, derived = ways.differing(ways.makings[0], rows)
    return int((derived.reshape(-1, size) != rows.actual[touched].reshape(-1, size)).any(1).sum())
