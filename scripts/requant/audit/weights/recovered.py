"""Importances that nobody has, read off some rows of a tensor and tried on others."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from requant.audit.weights.material import Material
from requant.audit.weights.tensor import Recovered, TensorAudit
from requant.ground.cores import cores
from requant.ground.text import counted
from requant.quantization.derivation import Making, Rows, Ways, derivable
from requant.quantization.recovery import RECOVERABLE, recover
from requant.quantization.verdict import Verdict

logger = logging.getLogger(__name__)

ROWS, FEWEST = 512, 64
"""Rows of a tensor that importances are read off, and that are tried with them; and the fewest that tell anything."""


def recover_importances(
    material: Material, audits: Sequence[TensorAudit], making: Making, jobs: int | None = None
) -> None:
    """Look at all consistent tensors, of types that tell importances, ``jobs`` at a time; experts are left alone.

    Raises:
        FormatError, SourceError: when the rows cannot be read.
        ToolError: when an arithmetic cannot be had.
    """
    telling = [
        audit
        for audit in audits
        if audit.verdict is Verdict.CONSISTENT
        and audit.tensor.type in RECOVERABLE
        and len(audit.tensor.shape) == 2
        and audit.rows >= 2 * FEWEST
    ]
    if telling:
        logger.info("reading importances off %s", counted(len(telling), "tensor"))
    with ThreadPoolExecutor(jobs or cores()) as pool:
        found = pool.map(lambda audit: _recovered(material, audit, replace(making, weighed=False)), telling)
        try:
            for audit, recovered in zip(telling, found, strict=True):
                audit.recovered = recovered
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _recovered(material: Material, audit: TensorAudit, making: Making) -> Recovered | None:
    tensor = TensorAudit(audit.tensor)
    indices = np.unique(np.linspace(0, tensor.rows - 1, 2 * ROWS).astype(np.int64))
    known, others = (material.rows(tensor, each, making) for each in (indices[::2], indices[1::2]))
    ways = material.ways(tensor, making)
    first = ways.makings[0]
    weights = ways.weights(first, known)
    if derivable(weights, None) or derivable(ways.weights(first, others), None):
        return None
    others = replace(others, importance=recover(known.type, weights, known.actual))
    makings = [replace(first, arithmetic=arithmetic) for arithmetic in material.arithmetics]
    derived = max((_derived(ways, each, others) for each in makings), key=np.sum)
    row = others.actual.shape[1] // others.type.type_size
    return Recovered(len(known.indices), derived.size * row, int(derived.sum()), row, int(derived.min()))


def _derived(ways: Ways, making: Making, rows: Rows) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """In how many blocks of each row the derived bytes are those in question."""
    size = rows.type.type_size
    touched, derived = ways.differing(making, rows)
    found = np.full(len(rows.actual), rows.actual.shape[1] // size)
    if touched.size:
        odd = derived.reshape(len(touched), -1, size) != rows.actual[touched].reshape(len(touched), -1, size)
        found[touched] -= odd.any(2).sum(1)
    return found
