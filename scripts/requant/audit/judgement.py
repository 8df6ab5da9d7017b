"""The judge: what counts of differing blocks in all tensors of a file say of each of them."""

from dataclasses import dataclass, field
from math import prod

import numpy as np

from requant.audit.plausibility import UNMEASURED
from requant.formats.ggml import PLAIN, GGMLType, Indices
from requant.formats.gguf import Tensor
from requant.quantization.derivation import Rows, Tally
from requant.quantization.verdict import Verdict

NEAR_MOST = 0.05
"""Share of blocks that may differ in a ``near`` file; honest compilers were seen to make 0.05 to 1 %."""
NEAR_LEAST = 5e-5
"""Share of blocks that must differ, and in two tensors at least: a few odd blocks are no other compiler's work."""
THROUGHOUT = 0.5
"""Share of the blocks of every tensor that differs where weights or importances are others; seen: nearly all."""
UNDECIDED = (
    "differs throughout, as all the others do: the weights are others, or the importance matrix is: name the one it "
    "was made with by --imatrix"
)


@dataclass
class TensorAudit:
    """One tensor of the subject: what was found, and in the end a verdict.

    ``selected`` are the rows to look at, ``None`` for all; ``held`` are these rows once they have been read. ``reason``
    says why a tensor is unchecked, or what is wrong with it as a whole.
    """

    tensor: Tensor
    selected: Indices | None = None
    tally: Tally = field(default_factory=Tally)
    reason: str | None = None
    verdict: Verdict = Verdict.UNCHECKED
    held: Rows | None = None

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
        return self.tensor.type not in (*PLAIN, GGMLType.Q8_0)

    @property
    def weighed(self) -> bool:
        """Whether it was compared and importances can matter: llama-imatrix measures what lies in the blocks."""
        return self.searched and self.tally.blocks > 0 and self.tensor.name not in UNMEASURED


def judge(audits: list[TensorAudit], sampled: bool) -> None:
    """Give every tensor its verdict, by what was found in it and in the file as a whole.

    One file is in one arithmetic. So differences that a witness explains count as another compiler's only if they are
    spread over the file. A few in a file that is exact otherwise are alterations; in a sample nobody can tell. Where
    everything that was searched differs, and much of it, other weights and other importances look the same.
    """
    explained = [audit for audit in audits if audit.searched and audit.tally.differing > audit.tally.unexplained]
    blocks = sum(audit.tally.blocks for audit in audits if audit.searched)
    count = sum(audit.tally.differing - audit.tally.unexplained for audit in explained)
    searched = sum(audit.searched and audit.tally.blocks > 0 for audit in audits)
    spread = len(explained) >= min(2, searched) and count >= max(2, blocks * NEAR_LEAST)
    throughout = differs_throughout(audits)
    for audit in audits:
        tally = audit.tally
        if audit.reason is not None and not tally.unexplained:
            continue
        if throughout and audit.weighed:
            audit.verdict, audit.reason = Verdict.UNCHECKED, UNDECIDED
            continue
        if not tally.differing:
            audit.verdict = Verdict.EXACT
        elif tally.unexplained or count > NEAR_MOST * blocks:
            audit.verdict = Verdict.MISMATCH
        elif spread:
            audit.verdict = Verdict.NEAR
        elif sampled:
            audit.verdict = Verdict.UNCHECKED
            audit.reason = "too few rows to tell another compiler's rounding from an alteration: draw more, or --full"
        else:
            audit.verdict = Verdict.MISMATCH
            audit.reason = "differs where rounding could explain it, in a file that is exact otherwise"


def differs_throughout(audits: list[TensorAudit]) -> bool:
    """Whether nothing that importances touch is near its derivation: then it is not known whose importances it had."""
    tallies = [audit.tally for audit in audits if audit.weighed]
    return bool(tallies) and all(tally.unexplained > THROUGHOUT * tally.blocks for tally in tallies)
