"""What a passed audit attests: two statements about the same bytes, one for whoever knows requant, one for everybody.

The first predicate is ours, ``DERIVATION``: what was read, by digest, what was asked and what was answered, in the form
of ``workflow/schemas/derivation.schema.yaml``. It holds no time, so the same audit gives the same bytes. The second is
in-toto's Simple Verification Result, a list of properties that other people's policies can ask for:
https://github.com/in-toto/attestation/blob/main/spec/predicates/svr.md.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from requant import __version__
from requant.documents.reports import AUDIT
from requant.documents.schemas import fault
from requant.ground.canonical import canonical
from requant.ground.digests import SHA256
from requant.ground.errors import AttestationError
from requant.ground.exit_codes import ExitCode
from requant.release.attestation import NAMESPACE, STATEMENT, Statement

DERIVATION = f"{NAMESPACE}#derivation/v2"
OLDER = f"{NAMESPACE}#derivation/v1"
"""A predicate that was the audit's whole report, ``requant/audit/v1`` or ``v2``."""
VERIFIER = f"{NAMESPACE}#audit/v2"
SVR = "https://in-toto.io/attestation/svr/v0.1"
SCHEMA = "derivation"

TAKEN = (
    "headline", "answers", "policy", "allowed", "subject", "source", "imatrix", "toolchain", "arithmetic", "mix",
    "counts", "rows", "rows_in_all", "findings",
)  # fmt: skip
OF_A_MATRIX = ("name", "sha256")
OF_A_TENSOR = ("name", "type", "shape", "sha256", "verdict")


def derivation_statements(report: Mapping[str, Any], when: datetime) -> tuple[Statement, Statement]:
    """What an audit has checked, of predicate ``DERIVATION`` and ``SVR``.

    Args:
        report: the JSON document of an audit, of schema ``requant/audit/v2``.
        when: the time of the audit, with its zone.

    Raises:
        AttestationError: when the audit does not prove a derivation: only a sample was looked at, an answer is not
            good, nobody but the file named the weights, or the audited file was not read for its digest.
        FormatError: when the report holds a float, or text that is not Unicode.
    """
    _require_proof(report)
    canonical(report)
    predicate = {key: report[key] for key in TAKEN}
    matrix = report["imatrix"]
    predicate["imatrix"] = None if matrix is None else {key: matrix[key] for key in OF_A_MATRIX}
    predicate["tensors"] = [{key: tensor[key] for key in OF_A_TENSOR} for tensor in report["tensors"]]
    predicate["requant"] = __version__
    if wrong := fault(predicate, SCHEMA, "the statement"):
        raise AttestationError(f"the report cannot be attested: {wrong}")
    subject = report["subject"]
    files = subject["parts"] or [subject]
    subjects = [{"name": file["name"], "digest": {"sha256": file["sha256"]}} for file in files]
    statement = {"_type": STATEMENT, "subject": subjects}
    result = {
        "verifier": {"id": VERIFIER},
        "timeCreated": when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "properties": properties(predicate),
    }
    return (
        {**statement, "predicateType": DERIVATION, "predicate": predicate},
        {**statement, "predicateType": SVR, "predicate": result},
    )


def properties(predicate: Mapping[str, Any]) -> list[str]:
    """What was verified, sorted: such as ``REQUANT_WEIGHTS_EXACT``, and who named the weights.

    Where keys were let pass that could not be checked, the two answers that speak of keys say so.
    """
    found = []
    for question, answer in predicate["answers"].items():
        let_pass = predicate["allowed"] and question in ("recipe", "metadata")
        found.append(f"{question}_{answer['status']}{'_allowing_unchecked' if let_pass else ''}")
    namer = {"user": "user", "subject, trusted": "trusted_subject"}[predicate["source"]["named_by"]]
    return sorted(f"REQUANT_{each.upper()}" for each in (*found, f"weights_named_by_{namer}"))


def _require_proof(report: Mapping[str, Any]) -> None:
    if report.get("schema") != AUDIT:
        raise AttestationError(f"the report has schema {report.get('schema')!r}, not {AUDIT}: audit again")
    if report.get("seed") is not None:
        raise AttestationError("only a full audit can be attested, this one looked at a sample")
    if report.get("exit_code") != ExitCode.OK:
        raise AttestationError(f"only a passed audit can be attested, this one ended with {report.get('exit_code')!r}")
    subject = report.get("subject")
    known: Mapping[str, Any] = subject if isinstance(subject, Mapping) else {}
    digests = (*(file.get("sha256") for file in known.get("parts") or [known]), known.get("weights_root"))
    digested = all(isinstance(each, str) and SHA256.fullmatch(each) for each in digests)
    if not (known.get("name") and digested):
        raise AttestationError("the audited file was not read whole: audit it with --full")
