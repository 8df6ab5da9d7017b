"""requant.release.derivation: what a passed audit attests, for us and for everybody; and what proves nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from requant import __version__
from requant.ground.canonical import canonical
from requant.ground.errors import RequantError
from requant.release.attestation import bundled, sign_bundle
from requant.release.derivation import DERIVATION, SVR, VERIFIER, derivation_statements, properties
from support.attested import passed_report, signed_statement
from support.gguf_files import write_small

DIGEST = "a" * 64
WHEN = datetime(2026, 11, 28, 14, 30, 5, 999, tzinfo=UTC)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return passed_report(write_small(tmp_path_factory.mktemp("derivation") / "x.gguf"))


def test_two_statements_about_the_same_bytes(report: dict[str, Any], key: Path, public: Path, tmp_path: Path) -> None:
    statements = derivation_statements(report, WHEN)
    subject = report["subject"]
    for statement, kind in zip(statements, (DERIVATION, SVR), strict=True):
        Statement.copy_from_pb(ParseDict(statement, StatementMessage())).validate()
        assert statement["predicateType"] == kind
        assert statement["subject"] == [{"name": "x.gguf", "digest": {"sha256": subject["sha256"]}}]
    sign_bundle(statements, key, tmp_path / "out")
    found = bundled((tmp_path / "out").read_bytes(), "out")
    assert [signed_statement(each, public) for each in found] == [*statements]


def test_ours_says_what_was_read_asked_and_answered(report: dict[str, Any]) -> None:
    predicate = derivation_statements(report, WHEN)[0]["predicate"]
    taken = predicate.keys() - {"requant", "tensors"}
    assert {key: predicate[key] for key in taken} == {key: report[key] for key in taken}
    assert report.keys() - taken == {"schema", "exit_code", "seed", "run", "tensors"}
    assert predicate["requant"] == __version__
    for found, tensor in zip(predicate["tensors"], report["tensors"], strict=True):
        assert found == {key: tensor[key] for key in ("name", "type", "shape", "sha256", "verdict")}


def test_it_holds_nothing_that_differs_between_two_runs(report: dict[str, Any]) -> None:
    again = report | {"run": {"seconds": "9.0", "bytes_fetched": 5, "requests": 5}}
    one, other = (derivation_statements(each, when)[0] for each, when in ((report, WHEN), (again, WHEN + timedelta(1))))
    assert canonical(one) == canonical(other)


def test_everybodys_is_a_simple_verification_result(report: dict[str, Any]) -> None:
    """The three fields that its specification requires, and no other."""
    elsewhere = WHEN.astimezone(timezone(timedelta(hours=8)))
    assert derivation_statements(report, elsewhere)[1]["predicate"] == {
        "verifier": {"id": VERIFIER},
        "timeCreated": "2026-11-28T14:30:05Z",
        "properties": [
            "REQUANT_COVERAGE_FULL", "REQUANT_METADATA_HARMLESS", "REQUANT_RECIPE_STOCK",
            "REQUANT_WEIGHTS_EXACT", "REQUANT_WEIGHTS_NAMED_BY_USER",
        ],
    }  # fmt: skip


def test_properties_say_what_was_let_pass(report: dict[str, Any]) -> None:
    """Who asks for equal metadata shall not be given metadata of which a key was not checked."""
    allowed = report | {"allowed": ["general.x"], "source": report["source"] | {"named_by": "subject, trusted"}}
    assert properties(allowed) == [
        "REQUANT_COVERAGE_FULL", "REQUANT_METADATA_HARMLESS_ALLOWING_UNCHECKED", "REQUANT_RECIPE_STOCK_ALLOWING_UNCHECKED",
        "REQUANT_WEIGHTS_EXACT", "REQUANT_WEIGHTS_NAMED_BY_TRUSTED_SUBJECT",
    ]  # fmt: skip


NO_PROOF: dict[str, tuple[dict[str, Any], str]] = {
    "a sample": ({"seed": 7}, "only a full audit can be attested, this one looked at a sample"),
    "a sample drawn with 0": ({"seed": 0}, "only a full audit can be attested, this one looked at a sample"),
    "evidence": ({"exit_code": 1}, "only a passed audit can be attested, this one ended with 1"),
    "unchecked, or weights that only the file named": ({"exit_code": 3}, "this one ended with 3"),
    "an end of another kind": ({"exit_code": "0"}, "this one ended with '0'"),
    "no end": ({"exit_code": None}, "this one ended with None"),
    "no digest": ({"subject": {"sha256": None}}, "was not read whole"),
    "a short digest": ({"subject": {"sha256": "abc"}}, "was not read whole"),
    "only a digest that a hub records": ({"subject": {"sha256": None, "recorded": {"the Hub": DIGEST}}}, "was not read whole"),
    "no weights root": ({"subject": {"weights_root": None}}, "was not read whole"),
    "no name": ({"subject": {"name": ""}}, "was not read whole"),
    "no subject": ({"subject": None}, "was not read whole"),
    "a namer of another kind": ({"source": {"named_by": "subject"}}, "cannot be attested: the statement: source.named_by is 'subject'"),
    "an older report": ({"schema": "requant/audit/v1"}, "the report has schema 'requant/audit/v1', not requant/audit/v2: audit again"),
    "another report": ({"schema": "requant/audit/v9"}, "the report has schema 'requant/audit/v9'"),
    "a float": ({"rows": 0.5}, "rows is the float 0.5; write an integer or text"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), NO_PROOF.values(), ids=list(NO_PROOF))
def test_what_proves_nothing_is_not_attested(report: dict[str, Any], change: dict[str, Any], words: str) -> None:
    changed = report | {key: report[key] | value if isinstance(value, dict) else value for key, value in change.items()}
    with pytest.raises(RequantError) as error:
        derivation_statements(changed, WHEN)
    assert words in str(error.value)
    assert str(error.value).isprintable()
