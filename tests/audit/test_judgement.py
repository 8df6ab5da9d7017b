"""The judge: what counts of differing blocks in all tensors say about each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from requant.audit.weights.judgement import ALONE, COARSE, ELSEWHERE, OTHER_SUMS, RATES, TOO_FEW, TOO_MANY, judge, rate
from requant.audit.weights.tensor import TensorAudit
from requant.formats.ggml import Arithmetic
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Tensor
from requant.quantization.consistency import SIGNED, Consistency
from requant.quantization.derivation import Odd, Tally
from requant.quantization.verdict import Verdict
from support.checkout import ROOT

BLOCKS = 100_000
EXACT, NEAR, CONSISTENT, MISMATCH, UNCHECKED = Verdict
LEAST, MOST = RATES[T.Q4_K]
USUAL = round(BLOCKS * (LEAST * MOST) ** 0.5)
"""Blocks of such a tensor that another compiler makes otherwise."""


def audit(explained: int = 0, unexplained: int = 0, kind: T = T.Q4_K, blocks: int = BLOCKS) -> TensorAudit:
    """One tensor, some of whose blocks differ; of those explained half are another arithmetic's."""
    other = explained // 2
    differing = explained + unexplained
    tally = Tally(1, blocks, differing, other, explained - other, unexplained)
    return TensorAudit(Tensor("x.weight", (256, blocks), kind, 0, 0), tally=tally)


FILES: dict[str, tuple[Sequence[TensorAudit], Sequence[Verdict], str | None]] = {
    # what was found in each tensor, their verdicts, and why any is not near or exact
    "all equal": ([audit()] * 3, [EXACT] * 3, None),
    "one block": ([audit(1), audit(), audit()], [MISMATCH, EXACT, EXACT], ALONE),
    "one block of nobody": ([audit(0, 1), audit(), audit()], [MISMATCH, EXACT, EXACT], None),
    "one block in each of two": ([audit(1), audit(1), audit()], [MISMATCH, MISMATCH, EXACT], ALONE),
    "all over": ([audit(USUAL)] * 3, [NEAR] * 3, None),
    "in some tensors": ([audit(USUAL), audit(USUAL), audit()], [NEAR, NEAR, EXACT], None),
    "all over, and one of nobody": ([audit(USUAL), audit(USUAL, 1), audit()], [NEAR, MISMATCH, EXACT], None),
    "as many as compilers make": ([audit(int(MOST * BLOCKS))], [NEAR], None),
    "more than compilers make": ([audit(int(1.2 * MOST * BLOCKS))], [UNCHECKED], TOO_MANY),
    "one of a small file": ([audit(1, blocks=1000)], [UNCHECKED], TOO_FEW),
    "seven of a small file": ([audit(7, blocks=1000)], [UNCHECKED], TOO_FEW),
    "eight of a small file": ([audit(8, blocks=1000)], [NEAR], None),
    "nearly all of two": ([audit(0, 99_000), audit(0, 60_000), audit(0, 50_000)], [MISMATCH] * 3, None),
    "one block of a type that clang makes alike": (
        [audit(1, kind=T.Q5_K), audit(kind=T.Q5_K)], [UNCHECKED, EXACT], TOO_FEW,
    ),
    "one block of a type that clang makes alike, beside one that none does": (
        [audit(1, kind=T.Q5_K), audit(kind=T.Q6_K)], [MISMATCH, EXACT], ALONE,
    ),
    "as many as are let pass of IQ3_S": ([audit(BLOCKS // 100, kind=T.IQ3_S)], [NEAR], None),
    "and more of it": ([audit(BLOCKS // 80, kind=T.IQ3_S)], [UNCHECKED], TOO_MANY),
    "a type that clang makes alike": (
        [audit(kind=T.IQ4_XS), audit(USUAL, kind=T.Q6_K)], [EXACT, NEAR], None,
    ),
    "a type that no compiler makes alike": (
        [audit(), audit(USUAL, kind=T.Q6_K)], [EXACT, UNCHECKED], ELSEWHERE,
    ),
}  # fmt: skip


def measured() -> dict[T, tuple[float, float]]:
    """The least and the greatest share of blocks of each type that any compiler was seen to make otherwise."""
    text = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
    found: dict[T, tuple[float, float]] = {}
    for name, least, most in re.findall(
        r"^\| (\w+) \| .* clang \| (.+) % \| .+ % \| (.+) % \|.*\|$", text, re.MULTILINE
    ):
        low, high = found.get(T[name], (1.0, 0.0))
        found[T[name]] = min(low, float(least) / 100), max(high, float(most) / 100)
    return found


def test_bounds_are_a_quarter_of_the_least_and_twice_the_most_that_was_seen() -> None:
    """And where no block was seen to differ, 0.2 % may; of grids, of which few were looked at, 1 %."""
    assert measured().keys() == RATES.keys()
    for kind, (least, most) in measured().items():
        assert rate(kind).least == pytest.approx(least / 4, rel=0.1), kind
        unseen = 0.01 if kind in SIGNED or kind is T.IQ1_S else 0.002
        assert rate(kind).most == pytest.approx(2 * most or unseen, rel=0.15), kind
    assert rate(T.Q8_0) == (0, 0.05)


@pytest.mark.parametrize(("share", "expected"), [(0.5, UNCHECKED), (0.52, MISMATCH)])
def test_what_an_arithmetic_that_is_lacking_could_explain(share: float, expected: Verdict) -> None:
    """About half of a tensor's blocks, and no more: of those the reason says what is missing."""
    one = audit(0, round(share * BLOCKS))
    judge([one], sampled=False, lacking={Arithmetic.FUSED: "no gcc"})
    assert one.verdict is expected
    assert (one.reason or "").endswith("the fused arithmetic could explain them, and cannot be had here: no gcc") == (
        expected is UNCHECKED
    )


def out_of_reach(explained: int, ratio: float = 1.1, off: int = 0) -> TensorAudit:
    """A tensor with one block that has no witness, but whose quants follow from the weights, all but ``off``."""
    found = audit(explained, 1)
    found.tally.odd = [Odd(0, 0, 1, 144, ratio)]
    found.tally.consistency = Consistency(quants=256, off=off, blocks=1, marred=min(off, 1))
    return found


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([out_of_reach(USUAL), audit(USUAL)], [UNCHECKED, NEAR]),
        ([out_of_reach(USUAL, off=1), audit(USUAL)], [MISMATCH, NEAR]),
        ([out_of_reach(USUAL, ratio=1.3), audit(USUAL)], [MISMATCH, NEAR]),
        ([out_of_reach(0), audit()], [MISMATCH, EXACT]),
        ([*map(out_of_reach, (4, 3, 3)), *[audit()] * 7], [MISMATCH] * 3 + [EXACT] * 7),
    ],
    ids=["one", "one quant is off", "much worse", "alone", "many"],
)
def test_blocks_out_of_the_reach_of_a_witness(made: Sequence[TensorAudit], expected: Sequence[Verdict]) -> None:
    """One in hundreds that a compiler made otherwise: neither accused nor passed."""
    audits = [replace(each) for each in made]
    judge(audits, sampled=False)
    assert [each.verdict for each in audits] == expected


def of_other_sums(explained: int, unexplained: int, error: float) -> TensorAudit:
    """A tensor of a type in which llama.cpp adds up otherwise by now, as ``compare_rows`` tells of it."""
    found = audit(explained, unexplained, kind=T.IQ1_M)
    found.tally.error, found.tally.derived_error = error, 1.0
    found.tally.consistency = Consistency(quants=256, blocks=1) if unexplained else Consistency()
    return found


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(("explained", "unexplained"), [(1, 0), (USUAL, 0), (BLOCKS // 2, 9)])
def test_a_type_in_which_llama_cpp_adds_up_otherwise_by_now(explained: int, unexplained: int, sampled: bool) -> None:
    """However many blocks differ, beside whatever else: an honest file of the other version cannot be told here."""
    one, other = of_other_sums(explained, unexplained, 1.19), audit(kind=T.Q6_K)
    judge([one, other], sampled)
    assert (one.verdict, one.reason, other.verdict) == (UNCHECKED, OTHER_SUMS, EXACT)
    one = of_other_sums(explained, unexplained, 1.21)
    judge([one, other], sampled)
    assert one.verdict is (UNCHECKED if sampled and unexplained else MISMATCH), "a sample cannot tell other importances"


def test_such_a_type_with_other_importances_is_not_accused() -> None:
    """Most blocks differ then, and are much worse by the importances at hand."""
    one = of_other_sums(0, BLOCKS * 6 // 10, 1.5)
    judge([one], sampled=False)
    assert (one.verdict, one.reason) == (
        UNCHECKED,
        "IQ1_M holds nothing that could be checked without its importance matrix",
    )


def test_what_f16_may_have_lost_is_no_alteration() -> None:
    """Few blocks of a file whose named weights are a GGUF in F16; more of them are another compiler's as ever."""
    for made, expected, why in (
        ([audit(1), audit(), audit()], [UNCHECKED, EXACT, EXACT], COARSE),
        ([audit(USUAL)] * 3, [NEAR] * 3, None),
        ([audit(0, 1), audit(), audit()], [MISMATCH, EXACT, EXACT], None),
    ):
        audits = [replace(each, coarse=True) for each in made]
        judge(audits, sampled=False)
        assert ([each.verdict for each in audits], audits[0].reason) == (expected, why)


def test_what_f16_may_have_lost_accuses_no_neighbour() -> None:
    made = (out_of_reach(USUAL), audit(USUAL, 200), *[audit(USUAL)] * 3)
    audits = [replace(each, coarse=True) for each in made]
    audits[1].tally.small = 200
    judge(audits, sampled=False)
    assert [each.verdict for each in audits] == [UNCHECKED, UNCHECKED, NEAR, NEAR, NEAR]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("sampled", [False, True])
def test_files(name: str, sampled: bool) -> None:
    """What is known of a file and of a sample is judged alike; but of a sample more can be read."""
    found, expected, why = FILES[name]
    audits = [replace(each) for each in found]
    judge(audits, sampled)
    assert [each.verdict for each in audits] == expected
    more = ": draw more rows, or --full" if sampled and why == TOO_FEW else ""
    for each in audits:
        plain = each.verdict in (EXACT, NEAR) or each.tally.unexplained
        assert each.reason == (None if plain or why is None else why + more)


def test_plain_numbers_are_no_part_of_the_counts() -> None:
    """A million equal norms must not hide how thinly the quantized blocks differ, and nothing explains a wrong one."""
    audits = [
        audit(USUAL),
        audit(USUAL),
        audit(kind=T.F32, blocks=10**9),
        audit(0, 1, T.BF16),
        audit(kind=T.Q8_0, blocks=10**9),
    ]
    judge(audits, sampled=False)
    assert [each.verdict for each in audits] == [NEAR, NEAR, EXACT, MISMATCH, EXACT]


def test_what_could_not_be_checked_stays_so() -> None:
    """Unless something wrong was found before: that is not taken back."""
    audits = [audit(), audit(unexplained=2), audit(5)]
    for each in audits:
        each.reason = "the weights hold NaN"
    judge(audits, sampled=False)
    assert [each.verdict for each in audits] == [UNCHECKED, MISMATCH, UNCHECKED]
    assert all(each.reason == "the weights hold NaN" for each in audits)
