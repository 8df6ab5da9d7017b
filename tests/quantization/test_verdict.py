"""Verdicts are complete: each one has words, a colour and an exit code, and these agree with each other."""

import pytest
from rich.style import Style

from requant.ground.exit_codes import ExitCode
from requant.quantization.verdict import PROVEN, Verdict

CODES = {
    Verdict.EXACT: ExitCode.OK, Verdict.NEAR: ExitCode.OK, Verdict.MISMATCH: ExitCode.AGAINST,
    Verdict.UNCHECKED: ExitCode.UNCHECKED,
}  # fmt: skip


def test_every_verdict_has_its_exit_code() -> None:
    assert {verdict: verdict.exit_code for verdict in Verdict} == CODES


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_is_complete(verdict: Verdict) -> None:
    assert verdict.words and verdict.words.isprintable()
    assert Style.parse(verdict.colour).color is not None
    assert (verdict in PROVEN) == (verdict.exit_code is ExitCode.OK) == verdict.words.startswith("a derivation")


def test_no_two_say_the_same() -> None:
    assert len({verdict.words for verdict in Verdict}) == len(Verdict)
