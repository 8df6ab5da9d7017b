"""One tensor of the subject, as an audit goes through it."""

from dataclasses import dataclass, field
from math import prod

import numpy as np

from requant.audit.recipe.plausibility import UNMEASURED
from requant.audit.recipe.sanity import Unweighted
from requant.formats.ggml import UNSEARCHED, WITHOUT_IMPORTANCE, Indices
from requant.formats.gguf import Tensor
from requant.quantization.derivation import Rows, Tally
from requant.quantization.verdict import Verdict


@dataclass(frozen=True)
class Recovered:
    """What importances that were read off ``rows`` rows make of others.

    ``derived`` of ``blocks`` blocks come out byte for byte, in the row with the fewest ``least`` of ``row``.
    """

    rows: int
    blocks: int
    derived: int
    row: int
    least: int


@dataclass
class TensorAudit:
    """One tensor of the subject: what was found, and in the end a verdict.

    ``selected`` are the rows to look at, ``None`` for all; ``held`` are these rows once they have been read. ``reason``
    says why a tensor is unchecked, or what is wrong with it as a whole. ``unweighted`` is what importances did to it.
    ``coarse`` says that its weights are a GGUF's F16, which may have lost the small numbers of what was quantized.
    ``turned`` says that it was made without importances where the file was made with them, or the other way about.
    ``recovered`` is what importances come to that were read off it, where that was asked for.
    """

    tensor: Tensor
    selected: Indices | None = None
    tally: Tally = field(default_factory=Tally)
    reason: str | None = None
    verdict: Verdict = Verdict.UNCHECKED
    held: Rows | None = None
    unweighted: Unweighted = field(default_factory=Unweighted)
    turned: bool = False
    recovered: Recovered | None = None
    coarse: bool = False

    @property
    def rows(self) -> int:
        """Rows of the whole tensor."""
        return prod(self.tensor.shape[1:])

    @property
    def indices(self) -> Indices:
        """Numbers of the rows to look at; a vector is one row."""
        return np.arange(self.rows) if self.selected is None else self.selected

    @property
    def searched(self) -> bool:
        """Whether its type is found by a search, so that rounding can matter: not for plain numbers and Q8_0."""
        return self.tensor.type not in UNSEARCHED

    @property
    def weighed(self) -> bool:
        """Whether it was compared and importances can matter: llama-imatrix measures what lies in the blocks."""
        can = self.tensor.type not in WITHOUT_IMPORTANCE and self.tensor.name not in UNMEASURED
        return can and self.tally.blocks > 0
