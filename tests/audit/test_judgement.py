"""The judge: what counts of differing blocks in all tensors say about each of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from requant.audit.judgement import UNDECIDED, TensorAudit, judge
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Tensor
from requant.quantization.derivation import Tally
from requant.quantization.verdict import Verdict

BLOCKS = 100_000
EXACT, NEAR, MISMATCH, UNCHECKED = Verdict


def audit(explained: int = 0, unexplained: int = 0, kind: T = T.Q4_K, blocks: int = BLOCKS) -> TensorAudit:
    """One tensor, some of whose blocks differ; of those explained half are another arithmetic's."""
    other = explained // 2
    differing = explained + unexplained
    tally = Tally(1, blocks, differing, other, explained - other, unexplained)
    return TensorAudit(Tensor("x.weight", (256, blocks), kind, 0, 0), tally=tally)


FULL: dict[str, tuple[Sequence[tuple[int, int]], Sequence[Verdict]]] = {
    # (explained, unexplained) of each tensor of 100,000 blocks, and their verdicts
    "all equal": ([(0, 0)] * 3, [EXACT] * 3),
    "one block": ([(1, 0), (0, 0), (0, 0)], [MISMATCH, EXACT, EXACT]),
    "one block of nobody": ([(0, 1), (0, 0), (0, 0)], [MISMATCH, EXACT, EXACT]),
    "one block in each of two": ([(1, 0), (1, 0), (0, 0)], [MISMATCH, MISMATCH, EXACT]),
    "too thin": ([(7, 0), (7, 0), (0, 0)], [MISMATCH, MISMATCH, EXACT]),
    "thin": ([(8, 0), (7, 0), (0, 0)], [NEAR, NEAR, EXACT]),
    "many, in one tensor only": ([(500, 0), (0, 0), (0, 0)], [MISMATCH, EXACT, EXACT]),
    "all over": ([(500, 0), (500, 0), (500, 0)], [NEAR] * 3),
    "all over, and one of nobody": ([(500, 0), (500, 1), (0, 0)], [NEAR, MISMATCH, EXACT]),
    "as many as rounding makes": ([(7500, 0), (7500, 0), (0, 0)], [NEAR, NEAR, EXACT]),
    "more than rounding makes": ([(7501, 0), (7500, 0), (0, 0)], [MISMATCH, MISMATCH, EXACT]),
    "a file of one tensor": ([(50, 0)], [NEAR]),
    "nearly all of each": ([(0, 99_000), (10, 60_000), (0, 50_001)], [UNCHECKED] * 3),
    "nearly all of two": ([(0, 99_000), (0, 60_000), (0, 50_000)], [MISMATCH] * 3),
    "one block of one tensor": ([(1, 0)], [MISMATCH]),
}  # fmt: skip


@pytest.mark.parametrize("name", FULL)
def test_whole_files(name: str) -> None:
    counts, expected = FULL[name]
    audits = [audit(*each) for each in counts]
    judge(audits, sampled=False)
    assert [each.verdict for each in audits] == expected
    for each in audits:
        thin = each.verdict == MISMATCH and not each.tally.unexplained and "more than" not in name
        lost = UNDECIDED if each.verdict == UNCHECKED else None
        assert each.reason == (
            "differs where rounding could explain it, in a file that is exact otherwise" if thin else lost
        )


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([(1, 0), (0, 0)], [UNCHECKED, EXACT]),
        ([(0, 1), (0, 0)], [MISMATCH, EXACT]),
        ([(50, 0), (50, 0)], [NEAR, NEAR]),
        ([(50, 1), (50, 0)], [MISMATCH, NEAR]),
        ([(9000, 0), (9000, 0)], [MISMATCH, MISMATCH]),
    ],
)
def test_samples_leave_a_few_blocks_open(counts: Sequence[tuple[int, int]], expected: Sequence[Verdict]) -> None:
    """Where the whole file would have shown whether they are alone."""
    audits = [audit(*each) for each in counts]
    judge(audits, sampled=True)
    assert [each.verdict for each in audits] == expected
    assert all((each.verdict == UNCHECKED) == ((each.reason or "").startswith("too few rows")) for each in audits)


def test_plain_numbers_are_no_part_of_the_counts() -> None:
    """A million equal norms must not hide how thinly the quantized blocks differ, and nothing explains a wrong one."""
    audits = [
        audit(8),
        audit(8),
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
