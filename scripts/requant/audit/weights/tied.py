"""One matrix for the embedding and the output layer, which files store once or twice, whatever others of a model do.

Qwen3-0.6B is tied and stores both; of it some converters write both, others one. llama.cpp takes the embedding for an
output layer that is not there, so a quant with both and one with the embedding alone are the same model, if both are of
the same numbers. That is looked at, row by row, as far as rows of the embedding are read.
"""

import threading
from collections.abc import Mapping

import numpy as np

from requant.audit.weights.fused import unfused
from requant.conversion.weights import GGUFWeights, Weights
from requant.formats.ggml import COPIED, Bytes, Floats, GGMLType, Indices
from requant.formats.gguf import Header

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"


class TiedWeights:
    """Weights as a quant has them that stores one matrix less, or more, than they do.

    ``again`` is the tensor that the quant alone has, and that is read from the embedding; else rows of the embedding
    are compared with the output layer's as they are read: ``compared`` says that some were, ``differs`` that some were
    others.
    """

    def __init__(self, weights: Weights, *, twice: bool) -> None:
        self._weights, self._lock = weights, threading.Lock()
        self.of_gguf = isinstance(weights, GGUFWeights)
        self.shown, self.vias = weights.shown, weights.vias
        self.again = OUTPUT if twice else None
        others = {name: shape for name, shape in weights.shapes.items() if name != OUTPUT}
        self.shapes: Mapping[str, tuple[int, ...]] = others | ({OUTPUT: weights.shapes[EMBEDDING]} if twice else {})
        self.compared = self.differs = False

    @property
    def note(self) -> str | None:
        """What is odd about that, in words; nothing where the output layer is another matrix."""
        if self.again:
            return f"{OUTPUT} is compared with the embedding; in the named weights it stands for both"
        same = f"the named weights store the embedding once more, as {OUTPUT}; in the quant it stands for both"
        return same if self.compared and not self.differs else None

    def _stored(self, name: str) -> str:
        return EMBEDDING if name == self.again else name

    def unchecked(self, name: str) -> str | None:
        """As of the weights; of one that stands for two, of both."""
        if name == EMBEDDING and self.again is None:
            return self._weights.unchecked(EMBEDDING) or self._weights.unchecked(OUTPUT)
        return self._weights.unchecked(self._stored(name))

    def tolerance(self, name: str) -> float:
        """As of the weights."""
        return self._weights.tolerance(self._stored(name))

    def plain(self, name: str) -> GGMLType:
        """As of the weights."""
        return self._weights.plain(self._stored(name))

    def rows(self, name: str, indices: Indices) -> Floats:
        """Rows of a tensor, as of the weights."""
        found = self._weights.rows(self._stored(name), indices)
        if name == EMBEDDING and self.again is None:
            self._compare(found, self._weights.rows(OUTPUT, indices))
        return found

    def packed(self, name: str, indices: Indices) -> Bytes:
        """The same of rows that are not read as numbers."""
        found = self._weights.packed(self._stored(name), indices)
        if name == EMBEDDING and self.again is None:
            self._compare(found, self._weights.packed(OUTPUT, indices))
        return found

    def _compare(self, embedding: Floats | Bytes, output: Floats | Bytes) -> None:
        self.compared = True
        if not np.array_equal(embedding.view(np.uint8), output.view(np.uint8)):
            with self._lock:
                self.differs = True


def as_stored_by(subject: Header, weights: Weights) -> Weights:
    """The weights as ``subject`` would hold them, where one of the two has the output layer and the other has not."""
    here = OUTPUT in {tensor.name for tensor in subject.tensors}
    there = OUTPUT in weights.shapes
    if here == there or EMBEDDING not in weights.shapes:
        return weights
    if there and not _alike(weights):
        return weights
    return TiedWeights(weights, twice=here)


def of_gguf(weights: Weights) -> bool:
    """Whether a GGUF holds them, which somebody converted, and not the checkpoint itself."""
    weights = unfused(weights)
    return weights.of_gguf if isinstance(weights, TiedWeights) else isinstance(weights, GGUFWeights)


def _alike(weights: Weights) -> bool:
    """Whether the two could be one matrix: of the same shape and type."""
    kinds = weights.plain(EMBEDDING), weights.plain(OUTPUT)
    return weights.shapes[EMBEDDING] == weights.shapes[OUTPUT] and kinds[0] is kinds[1] and kinds[0] not in COPIED
