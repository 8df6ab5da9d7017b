"""Verdicts are complete: each has an exit code, and is a plain word where it is written."""

import json

from requant.ground.exit_codes import ExitCode
from requant.quantization.verdict import Verdict

CODES = {
    Verdict.EXACT: ExitCode.OK, Verdict.NEAR: ExitCode.OK, Verdict.MISMATCH: ExitCode.AGAINST,
    Verdict.UNCHECKED: ExitCode.UNCHECKED, Verdict.CONSISTENT: ExitCode.UNCHECKED,
}  # fmt: skip


def test_every_verdict_has_its_exit_code() -> None:
    assert {verdict: verdict.exit_code for verdict in Verdict} == CODES


def test_a_verdict_is_its_word() -> None:
    assert [*Verdict] == ["exact", "near", "consistent", "mismatch", "unchecked"] == json.loads(json.dumps([*Verdict]))
