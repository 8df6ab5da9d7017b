"""What an audit reads: the quant's rows, with the weights and the importances that they are said to be made of."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from requant.audit.weights.tensor import TensorAudit
from requant.conversion.weights import Weights, as_float32, read_rows
from requant.formats.ggml import COPIED, Arithmetic, Bytes, Floats, GGMLType, Indices
from requant.formats.gguf import Header, Tensor
from requant.formats.ranged import Ranged
from requant.quantization.derivation import Making, Rows, Ways
from requant.quantization.quantizer import Quantizer


@dataclass(frozen=True)
class Material:
    """What a quant is made of, and the quant: everything that is read.

    ``importances`` maps weights to what llama-quantize multiplies with, ``[experts, columns]`` each, or ``[columns]``
    of a dense weight, as far as they are at hand. Whether they were used is found out. ``quantizer`` opens an
    arithmetic; ``lacking`` says of those that this machine has not why. ``lanes`` are as in ``Ways``.
    """

    subject: Ranged
    header: Header
    weights: Weights
    importances: Mapping[str, Floats]
    quantizer: Callable[[Arithmetic], Quantizer]
    lacking: Mapping[Arithmetic, str] = field(default_factory=dict)
    lanes: Quantizer | None = None

    @property
    def arithmetics(self) -> list[Arithmetic]:
        """Those that can be tried."""
        return [each for each in Arithmetic if each not in self.lacking]

    def ways(self, audit: TensorAudit, making: Making) -> Ways:
        """How a tensor may have been made, ``making`` first; a conversion leaves vectors alone."""
        vias = self.weights.vias if len(audit.tensor.shape) > 1 else (GGMLType.F32,)
        first = making if making.via in vias else replace(making, via=GGMLType.F32)
        others = [replace(making, arithmetic=arithmetic, via=via) for via in vias for arithmetic in self.arithmetics]
        return Ways(self.quantizer, (first, *(each for each in others if each != first)), self.lanes)

    def rows(self, audit: TensorAudit, indices: Indices, making: Making, actual: Bytes | None = None) -> Rows:
        """Some rows of one expert, with its importances if ``making`` has them; ``actual`` saves reading it."""
        if audit.held is None:
            rows = self._stored(audit, indices, actual)
        else:
            rows = audit.held.at(np.searchsorted(audit.held.indices, indices))
        importances = self.importances.get(audit.tensor.name) if making.weighed else None
        if importances is None or not len(indices):
            return rows
        [expert] = _experts(audit.tensor, indices[:1])
        return replace(rows, importance=importances.reshape(-1, audit.tensor.shape[0])[expert])

    def hold(self, audits: list[TensorAudit], jobs: int, progress: Callable[[int], None]) -> None:
        """Read all drawn rows, several tensors at a time: over a network most of the time goes into waiting.

        ``progress`` is called with numbers of weights.

        Raises:
            FormatError, SourceError: when they cannot be read.
        """

        def read(audit: TensorAudit) -> int:
            audit.held = self._stored(audit, audit.indices)
            return audit.held.weights.size

        with ThreadPoolExecutor(jobs) as pool:
            try:
                for count in pool.map(read, audits):
                    progress(count)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _stored(self, audit: TensorAudit, indices: Indices, actual: Bytes | None = None) -> Rows:
        name, kind = audit.tensor.name, audit.tensor.type
        actual = read_rows(self.subject, audit.tensor, indices) if actual is None else actual
        if (plain := self.weights.plain(name)) not in COPIED:
            return Rows(kind, self.weights.rows(name, indices), None, actual, indices)
        packed = self.weights.packed(name, indices)
        return Rows(kind, as_float32(plain, packed), None, actual, indices, packed if plain is kind else None)


def by_expert(tensor: Tensor, indices: Indices) -> list[slice]:
    """Where in ``indices``, which are sorted, each expert's rows stand: llama-quantize quantizes every one apart."""
    breaks = np.flatnonzero(np.diff(_experts(tensor, indices))) + 1
    return [slice(first, last) for first, last in pairwise([0, *breaks.tolist(), len(indices)])]


def _experts(tensor: Tensor, rows: Indices) -> Indices:
    """Which expert rows belong to: that of the third dimension, where there is one."""
    found: Indices = rows // (*tensor.shape, 1)[1]
    return found
