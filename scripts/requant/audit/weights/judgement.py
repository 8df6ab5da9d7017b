"""The judge: what counts of differing blocks in all tensors of a file say of each of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log
from typing import NamedTuple

from requant.audit.weights.tensor import TensorAudit
from requant.audit.weights.unknown_importances import THROUGHOUT, dense, importances_differ, judge_rounding
from requant.formats.ggml import COPIED, Arithmetic, GGMLType
from requant.quantization.consistency import LIMITS
from requant.quantization.verdict import Verdict


class Rate(NamedTuple):
    """Share of the blocks of a type in which compilers differ from the nearer of ``strict`` and ``fused``."""

    least: float
    most: float


RATES: Mapping[GGMLType, Rate] = {
    GGMLType.Q2_K: Rate(0, 0.6), GGMLType.Q3_K: Rate(0, 0.03), GGMLType.Q4_K: Rate(0.0007, 0.08),
    GGMLType.Q5_K: Rate(0, 0.08), GGMLType.Q6_K: Rate(0.001, 0.05), GGMLType.IQ4_XS: Rate(0, 0.002),
    GGMLType.IQ4_NL: Rate(0, 0.002), GGMLType.Q4_0: Rate(0, 0.012), GGMLType.Q4_1: Rate(0, 0.012),
    GGMLType.Q5_0: Rate(0, 0.03), GGMLType.Q5_1: Rate(0, 0.012),
    GGMLType.TQ1_0: Rate(0, 0.002), GGMLType.TQ2_0: Rate(0, 0.002),
    GGMLType.IQ3_S: Rate(0, 0.01), GGMLType.IQ3_XXS: Rate(0, 0.01), GGMLType.IQ2_XXS: Rate(0, 0.01),
    GGMLType.IQ2_XS: Rate(0, 0.01), GGMLType.IQ2_S: Rate(0, 0.01), GGMLType.IQ1_S: Rate(0, 0.01),
}  # fmt: skip
"""A quarter of the lowest and twice the highest share that was seen, whatever weights and importances were like: the
table in docs/verdicts.md, by ``bench/compilers.py``. Of the types of grids none was seen, in so few blocks that 1 % is
possible."""
UNKNOWN = Rate(0, 0.05)
"""Of types in which no search decides, and of those in which llama.cpp itself adds up otherwise by now."""
ENOUGH = 8
"""Blocks that must differ before it is said that another compiler made them: fewer could be anything."""
SURPRISE = log(1000)
"""How improbable a count must be, in nats, before something is said against it."""
ALONE = "differs where rounding could explain it, in a file that is exact otherwise"
TOO_FEW = "too few blocks differ to tell another compiler's rounding from an alteration"
TOO_MANY = "every difference has a witness, but more blocks differ than with any compiler that was measured"
SUMS_CHANGED = (GGMLType.IQ1_M,)
"""Types in which llama.cpp itself adds up otherwise than before, in the very same version of the format."""
OTHER_SUMS = (
    "llama.cpp adds up otherwise in this type since September 2026: --toolchain with one of the other side decides"
)
UNTRIED = "differs in some blocks; the {} arithmetic could explain them, and cannot be had here"
ELSEWHERE = "every difference has a witness, but other types differ in fewer blocks than with any compiler"
COARSE = (
    "differs in few blocks, and the named weights are F16, which cannot hold the smallest numbers of BF16: those that "
    "both were made of would tell"
)
OUT_OF_REACH = 1 / 150
"""Of blocks that another compiler made otherwise, four times the share that was seen to have no witness: where sums of
very uneven numbers decide, changing the numbers does not show it."""
WORSE = 1.2
"""Weighted error of a block over that of the derived one, up to which a search may have taken it; seen: up to 1.15."""
REPACKED = "holds the numbers of the weights, but in some blocks in other bytes: only a copy is exact"
NO_WITNESS = (
    "follows from the weights under its own scales, but in some blocks no witness shows that a compiler chose these: "
    "only the one that did could"
)


def judge(audits: Sequence[TensorAudit], sampled: bool, lacking: Mapping[Arithmetic, str] | None = None) -> None:
    """Give every tensor its verdict, by what was found in it and in the file as a whole.

    What an arithmetic could explain that this machine is ``lacking`` is unchecked, for the reason that stands there.

    One file is in one arithmetic. So differences that a witness explains are another compiler's only if the file has
    about as many of them, type by type, as compilers make. Where much of a tensor differs, its importances may be
    others, and its quants are asked.
    """
    doubt = _Doubt(audits)
    for audit in audits:
        tally = audit.tally
        if audit.reason is not None and not tally.unexplained:
            continue
        if not tally.differing:
            audit.verdict = Verdict.EXACT
        elif audit.tensor.type in COPIED:
            audit.verdict, audit.reason = (
                (Verdict.MISMATCH, None) if tally.unexplained else (Verdict.UNCHECKED, REPACKED)
            )
        elif why := _open(audit, lacking):
            audit.reason = audit.reason or why
        elif audit.tensor.type in SUMS_CHANGED and tally.error <= WORSE * tally.derived_error:
            _settle(audit, (Verdict.UNCHECKED, OTHER_SUMS))
        elif importances_differ(audit, audits, sampled):
            _settle(audit, judge_rounding(audit, audits))
        elif tally.unexplained or audit.tensor.type in SUMS_CHANGED:
            _settle(audit, doubt.about_unexplained(audit))
        else:
            audit.verdict, audit.reason = doubt.about(audit, sampled)


def _settle(audit: TensorAudit, found: tuple[Verdict, str | None]) -> None:
    """Take a verdict, unless something speaks for leaving the tensor unchecked and this is no evidence."""
    if audit.reason is None or found[0] is Verdict.MISMATCH:
        audit.verdict, audit.reason = found


def _open(audit: TensorAudit, lacking: Mapping[Arithmetic, str] | None) -> str | None:
    """What keeps the differences of a tensor from being judged: what this machine lacks, or what F16 cannot hold."""
    tally = audit.tally
    if lacking and audit.searched and not surprisingly_many(tally.differing, THROUGHOUT * tally.blocks):
        [(arithmetic, why), *_] = lacking.items()
        return f"{UNTRIED.format(arithmetic)}: {why}"
    return COARSE if audit.coarse and 0 < tally.unexplained == tally.small else None


class _Doubt:
    """What speaks against another compiler as the one who made the differences that a witness explains."""

    def __init__(self, audits: Sequence[TensorAudit]) -> None:
        self._blocks: Counter[GGMLType] = Counter()
        self._found: Counter[GGMLType] = Counter()
        self._unexplained = 0
        for audit in audits:
            if audit.searched and audit.tensor.type not in SUMS_CHANGED:
                self._unexplained += audit.tally.unexplained - (audit.tally.small if audit.coarse else 0)
                self._blocks[audit.tensor.type] += audit.tally.blocks
                self._found[audit.tensor.type] += audit.tally.differing - audit.tally.unexplained

    def about_unexplained(self, audit: TensorAudit) -> tuple[Verdict, str | None]:
        """The verdict of a tensor with blocks that neither another way nor a witness explains."""
        few = not surprisingly_many(self._unexplained, self._found.total() * OUT_OF_REACH)
        return (Verdict.UNCHECKED, NO_WITNESS) if few and could_be_chosen(audit) else (Verdict.MISMATCH, audit.reason)

    def about(self, audit: TensorAudit, sampled: bool) -> tuple[Verdict, str | None]:
        """The verdict of a tensor of which all is explained, and why it is not ``near``."""
        kind = audit.tensor.type
        least = sum(count * rate(each).least for each, count in self._blocks.items())
        if surprisingly_few(self._found.total(), least):
            return (Verdict.UNCHECKED, COARSE) if audit.coarse else (Verdict.MISMATCH, ALONE)
        if self._found.total() < ENOUGH:
            return Verdict.UNCHECKED, f"{TOO_FEW}: draw more rows, or --full" if sampled else TOO_FEW
        if surprisingly_many(self._found[kind], self._blocks[kind] * rate(kind).most):
            return Verdict.UNCHECKED, TOO_MANY
        if any(surprisingly_few(self._found[each], n * rate(each).least) for each, n in self._blocks.items()):
            return Verdict.UNCHECKED, ELSEWHERE
        return Verdict.NEAR, None


def could_be_chosen(audit: TensorAudit) -> bool:
    """Whether the unexplained blocks of a tensor could be what a search takes for as good as the derived ones."""
    tally, found = audit.tally, audit.tally.consistency
    sound = audit.tensor.type in LIMITS and not found.off and not found.contradicted
    return sound and tally.unexplained <= len(tally.odd) and all(odd.ratio <= WORSE for odd in tally.odd)


def rate(kind: GGMLType) -> Rate:
    """In how many blocks of this type compilers differ."""
    return RATES.get(kind, UNKNOWN)


def surprisingly_few(found: int, expected: float) -> bool:
    """Whether so few of rare things are less probable than one in a thousand where ``expected`` or more are.

    >>> surprisingly_few(0, 6), surprisingly_few(0, 7), surprisingly_few(8, 7)
    (False, True, False)
    """
    return found < expected and _surprise(found, expected) > SURPRISE


def surprisingly_many(found: int, expected: float) -> bool:
    """The same of so many, where ``expected`` or fewer are.

    >>> surprisingly_many(3, 0.0), surprisingly_many(20, 14), surprisingly_many(40, 14)
    (True, False, True)
    """
    return found > expected and (not expected or _surprise(found, expected) > SURPRISE)


def _surprise(found: int, expected: float) -> float:
    """Chernoff's bound for a Poisson variable: minus the logarithm of the chance to be that far off its mean."""
    return expected - found + (found * log(found / expected) if found else 0.0)


def differs_throughout(audits: Sequence[TensorAudit]) -> bool:
    """Whether most of what importances touch is far from its derivation: nobody knows whose importances it had."""
    weighed = [audit for audit in audits if audit.weighed]
    return 2 * sum(map(dense, weighed)) > len(weighed)
