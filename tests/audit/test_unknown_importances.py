"""The judge where importances are not known: numbers of one tensor, what the others show, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import pytest

from requant.audit.weights.judgement import differs_throughout, judge
from requant.audit.weights.tensor import TensorAudit
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Tensor
from requant.quantization.consistency import Consistency
from requant.quantization.derivation import Tally
from requant.quantization.verdict import Verdict

BLOCKS = 1000
QUANTS = 256 * BLOCKS
EXACT, NEAR, CONSISTENT, MISMATCH, UNCHECKED = Verdict
GOOD = Consistency(quants=QUANTS, blocks=BLOCKS, error=10.5, derived_error=10, power=1000, worst=1.5)
OFF = replace(GOOD, off=3000, marred=900)


def audit(found: Consistency | None, kind: T = T.Q4_K, unexplained: int = BLOCKS, name: str = "blk.0.x") -> TensorAudit:
    """A tensor that differs throughout, or, if nothing was found, not at all."""
    tally = Tally(
        rows=10, blocks=BLOCKS, differing=unexplained, unexplained=unexplained, consistency=found or Consistency()
    )
    tally = tally if found else Tally(rows=10, blocks=BLOCKS)
    return TensorAudit(Tensor(name, (2560, 100), kind, 0, 0), tally=tally)


ALONE: Mapping[str, tuple[T, Consistency, Verdict, str]] = {
    # a file of one tensor: what was found, and what is said of it
    "nothing off": (T.Q4_K, GOOD, CONSISTENT, "every quant is what its weight rounds to under its block's own scale"),
    "nothing off, some scale": (T.Q4_0, GOOD, CONSISTENT, "every quant is what its weight rounds to under some scale"),
    "nothing off, a grid": (T.IQ2_S, GOOD, CONSISTENT, "every sign is its weight's"),
    "nothing to look at": (T.IQ1_S, GOOD, UNCHECKED, "IQ1_S holds nothing that could be checked"),
    "odd scales": (T.Q4_K, replace(GOOD, error=21), UNCHECKED, "its scales make an error that is 2.1 times that"),
    "odd scales of a grid": (T.IQ2_S, replace(GOOD, error=39), CONSISTENT, "every sign"),
    "other scales than it stores": (T.Q4_K, OFF, UNCHECKED, "another quantizer may keep such quants"),
    "no scale at all, few": (T.Q4_K, replace(OFF, contradicted=1), MISMATCH, "3,000 of 256,000 quants are not what the weights round to, under no scale whatever"),
    "no scale at all, many": (T.Q4_K, replace(OFF, off=30_000, contradicted=999), UNCHECKED, "as GPTQ does"),
    "in a few blocks": (T.Q4_K, replace(OFF, off=1, marred=1), MISMATCH, "1 of 256,000 quants are not what the weights round to, and the others are"),
    "a large error": (T.Q4_K, replace(OFF, error=41), MISMATCH, "its error is 4.1 times that of a derivation"),
    "as far as zeros": (T.IQ1_S, replace(GOOD, error=1001), UNCHECKED, "IQ1_S holds nothing"),
    "further than zeros": (T.IQ1_S, replace(GOOD, error=1300), MISMATCH, "further from the weights than zeros are"),
    # at the bounds that docs/verdicts.md gives
    "twice the error": (T.Q4_K, replace(GOOD, error=20), CONSISTENT, "every quant"),
    "four times the error, a grid": (T.IQ2_S, replace(GOOD, error=40), CONSISTENT, "every sign"),
    "more than that": (T.IQ2_S, replace(GOOD, error=41), UNCHECKED, "its scales make an error that is 4.1 times that"),
    "four times the error, and off": (T.Q4_K, replace(OFF, error=40), UNCHECKED, "another quantizer may keep such quants"),
    "a quarter further than zeros": (T.IQ1_S, replace(GOOD, error=1250), UNCHECKED, "IQ1_S holds nothing"),
    "and more": (T.IQ1_S, replace(GOOD, error=1251), MISMATCH, "further from the weights than zeros are"),
    "no scale at all, nearly a tenth": (T.Q4_K, replace(OFF, off=25_599, contradicted=9), MISMATCH, "under no scale whatever"),
    "no scale at all, a tenth and more": (T.Q4_K, replace(OFF, off=25_601, contradicted=9), UNCHECKED, "as GPTQ does"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "found", "verdict", "said"), ALONE.values(), ids=ALONE)
@pytest.mark.parametrize("sampled", [True, False], ids=["sample", "full"])
def test_a_tensor_alone(kind: T, found: Consistency, verdict: Verdict, said: str, sampled: bool) -> None:
    [one] = audits = [audit(found, kind)]
    judge(audits, sampled)
    assert one.verdict is verdict
    assert said in (one.reason or "")
    assert differs_throughout(audits)


@pytest.mark.parametrize("other", [audit(GOOD), audit(None), audit(None, T.IQ2_XS)])
def test_one_maker_rounds_all_alike(other: TensorAudit) -> None:
    """What could be another quantizer's is none in a file in which llama.cpp's is seen."""
    for found in (OFF, replace(OFF, off=30_000, contradicted=999)):
        one = audit(found)
        judge([one, other], sampled=False)
        assert one.verdict is MISMATCH and (one.reason or "").endswith("and the others are")


@pytest.mark.parametrize(
    "other", [audit(GOOD, T.Q4_0), audit(GOOD, T.IQ2_S), audit(None, name="token_embd.weight"), audit(None, T.F32), audit(None, T.TQ1_0)]
)  # fmt: skip
def test_what_shows_nothing_of_the_maker(other: TensorAudit) -> None:
    """Types that any rounding fits, and tensors that importances do not touch."""
    one = audit(OFF)
    judge([one, other], sampled=False)
    assert one.verdict is UNCHECKED


def test_a_few_blocks_in_most_tensors() -> None:
    """As of a matrix that was measured again; in one tensor of many they are alterations, but a sample cannot tell."""
    for count, sampled in product((1, 2, 3), (True, False)):
        audits = [*(audit(GOOD, unexplained=5) for _ in range(count)), *(audit(None) for _ in range(4 - count))]
        judge(audits, sampled)
        expected = CONSISTENT if count == 3 or sampled else MISMATCH
        assert {each.verdict for each in audits[:count]} == {expected}
        assert {each.verdict for each in audits[count:]} <= {EXACT}
        assert not differs_throughout(audits)


@pytest.mark.parametrize(
    ("unexplained", "expected"), [(BLOCKS // 2, MISMATCH), (BLOCKS // 2 + 1, CONSISTENT)], ids=["half", "more"]
)
def test_other_importances_touch_more_than_half_of_a_tensor(unexplained: int, expected: Verdict) -> None:
    """Fewer blocks are alterations in a file whose other tensors are derived, whatever their quants say."""
    audits = [audit(GOOD, unexplained=unexplained), audit(None), audit(None)]
    judge(audits, sampled=False)
    assert [each.verdict for each in audits] == [expected, EXACT, EXACT]


def test_what_was_not_compared_is_not_consistent() -> None:
    one = audit(GOOD)
    one.reason = "the weights hold NaN"
    judge([one, audit(GOOD)], sampled=False)
    assert (one.verdict, one.reason) == (UNCHECKED, "the weights hold NaN")
    bad = audit(replace(OFF, contradicted=1))
    bad.reason = "the weights hold NaN"
    judge([bad], sampled=False)
    assert bad.verdict is MISMATCH
