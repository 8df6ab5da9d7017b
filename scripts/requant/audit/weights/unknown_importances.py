"""The judge where importances are not known: what quants say of weights when their scales cannot be derived.

Another quantizer's search finds other scales, and is not to be accused of that. It may also keep the quants of its
search and not round them again, or spread errors over a row. What no rounding of the named weights gives is evidence.
"""

from collections.abc import Sequence

from requant.audit.weights.tensor import TensorAudit
from requant.ground.text import counted
from requant.quantization.consistency import LIMITS, RE_ROUNDED, SIGNED, Consistency
from requant.quantization.verdict import Verdict

THROUGHOUT = 0.5
"""Share of a tensor's blocks that differs where its weights or its importances are others; seen: nearly all."""
ENOUGH_BLOCKS = 16
"""Blocks of a tensor that show how its maker rounds."""
LIKELY, LIKELY_OF_GRIDS = 2.0, 4.0
"""Ratio of squared errors up to which importances may have chosen the scales; seen: up to 1.2, of grids up to 2.3."""
FAR = 4.0
"""The same, beyond which quants that are off are evidence, whoever the quantizer was."""
OPPOSITE = 1.25
"""Squared error in times of that of zeros, which rows of other weights exceed in every type: seen 1.8 and more. All
importances 0 give zeros."""
FEEDBACK = 0.1
"""Share of quants that are off, from which on a quantizer may have done it that spreads errors, as GPTQ does; seen:
0.17 to 0.22. Weights changed by 1 % of their size give 0.004 to 0.11."""

CONSISTENT = "every {what}, but scales are not derived: the importance matrix that it was made with would tell"
QUANT = "quant is what its weight rounds to under {whose} scale"


def importances_differ(audit: TensorAudit, audits: Sequence[TensorAudit], sampled: bool) -> bool:
    """Whether the unexplained blocks of a tensor may be due to other importances than those at hand.

    They touch nearly all blocks of a tensor, or some in most tensors if they are nearly the same, as of a matrix that
    was measured again. A few odd blocks in a file that is exact otherwise are alterations; a sample cannot tell.
    """
    if not audit.tally.consistency.quants:
        return False
    if dense(audit):
        return True
    weighed = [each for each in audits if each.weighed]
    return audit.weighed and (sampled or 2 * sum(each.tally.unexplained > 0 for each in weighed) > len(weighed) > 1)


def dense(audit: TensorAudit) -> bool:
    """Whether a tensor differs throughout."""
    return audit.tally.unexplained > THROUGHOUT * audit.tally.blocks


def judge_rounding(audit: TensorAudit, audits: Sequence[TensorAudit]) -> tuple[Verdict, str]:
    """What the quants of a tensor say, and why, where ``importances_differ``."""
    found, kind = audit.tally.consistency, audit.tensor.type
    off = f"{found.off:,} of {counted(found.quants, 'quant')} are not what the weights round to"
    if found.error > OPPOSITE * found.power:
        return Verdict.MISMATCH, "stands for numbers that are further from the weights than zeros are"
    if kind not in LIMITS and kind not in SIGNED:
        return Verdict.UNCHECKED, f"{kind.name} holds nothing that could be checked without its importance matrix"
    if found.off and found.ratio > FAR:
        return Verdict.MISMATCH, f"{off}, and its error is {found.ratio:.3g} times that of a derivation"
    if found.off:
        return _off(audit, off, one_maker=_is_re_rounded(audits) or 2 * found.marred < found.blocks)
    if found.ratio > (LIKELY_OF_GRIDS if kind in SIGNED else LIKELY):
        return Verdict.UNCHECKED, f"its quants follow from the weights, but its scales make {_errors(found)}"
    return Verdict.CONSISTENT, CONSISTENT.format(what=_what(audit))


def _off(audit: TensorAudit, off: str, *, one_maker: bool) -> tuple[Verdict, str]:
    """The verdict of a tensor with quants that are off. One file is of one maker, who rounds all of it alike."""
    found = audit.tally.consistency
    if one_maker:
        return Verdict.MISMATCH, f"{off}, and the others are"
    if found.contradicted and found.off <= FEEDBACK * found.quants:
        return Verdict.MISMATCH, f"{off}, under no scale whatever"
    if found.contradicted:
        why = "the weights are others, or a quantizer made it that spreads errors over a row, as GPTQ does"
        return Verdict.UNCHECKED, f"{off}: {why}"
    return Verdict.UNCHECKED, f"{off} under its scales, but under others: another quantizer may keep such quants"


def _is_re_rounded(audits: Sequence[TensorAudit]) -> bool:
    """Whether some tensor shows that who made the file rounds under the scales that it stores, as llama.cpp does."""
    return any(
        audit.weighed
        and audit.tally.blocks >= ENOUGH_BLOCKS
        and (not audit.tally.unexplained or (audit.tensor.type in RE_ROUNDED and _spotless(audit.tally.consistency)))
        for audit in audits
    )


def _spotless(found: Consistency) -> bool:
    return found.quants > 0 and not found.off


def _what(audit: TensorAudit) -> str:
    if audit.tensor.type in SIGNED:
        return "sign is its weight's"
    return QUANT.format(whose="its block's own" if audit.tensor.type in RE_ROUNDED else "some")


def _errors(found: Consistency) -> str:
    return f"an error that is {found.ratio:.3g} times that of a derivation without importances"
