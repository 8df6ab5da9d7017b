"""The audit of an importance matrix alone: could it have been measured on the named weights.

That is less than a proof. Only computing it again is one: ``snakemake audit`` does, from a release's manifest.
"""

from dataclasses import dataclass
from typing import Any

from requant.audit.metadata import Grade, MetadataFinding
from requant.audit.named_weights import Source
from requant.audit.plausibility import check_plausible
from requant.documents.reports import IMATRIX_AUDIT
from requant.formats.imatrix import Imatrix
from requant.ground.text import table

PLAUSIBLE, MISMATCH = "plausible", "mismatch"


@dataclass(frozen=True)
class ImatrixReport:
    """What was found: the file's name and SHA-256, the weights it was held against, and what is odd."""

    name: str
    sha256: str
    source: str
    findings: tuple[MetadataFinding, ...]

    @property
    def verdict(self) -> str:
        """``plausible`` or ``mismatch``."""
        serious = any(finding.grade is Grade.SERIOUS for finding in self.findings)
        return MISMATCH if serious else PLAUSIBLE


def audit_imatrix(imatrix: Imatrix, sha256: str, source: Source) -> ImatrixReport:
    """Compare an importance matrix with the model of ``source``."""
    shapes = source.weights.shapes
    matrices = [name for name, shape in shapes.items() if len(shape) > 1 and name.endswith(".weight")]
    return ImatrixReport(imatrix.name, sha256, source.place.shown, tuple(check_plausible(imatrix, shapes, matrices)))


def as_text(report: ImatrixReport) -> str:
    """The outcome for people."""
    could = "could have been" if report.verdict == PLAUSIBLE else "was NOT"
    lines = [
        f"{report.verdict}: {report.name} {could} measured on {report.source}",
        f"SHA-256 {report.sha256}; only computing it again is a proof (snakemake audit)",
    ]
    rows = [(each.key, str(each.grade), each.expected, each.actual) for each in report.findings]
    return "\n".join([*lines, *(table(("what", "grade", "expected", "found"), rows) if rows else ())])


def as_document(report: ImatrixReport) -> dict[str, Any]:
    """The outcome for canonical JSON."""
    return {
        "schema": IMATRIX_AUDIT,
        "verdict": report.verdict,
        "imatrix": {"name": report.name, "sha256": report.sha256},
        "findings": [
            {"key": each.key, "grade": str(each.grade), "expected": each.expected, "actual": each.actual}
            for each in report.findings
        ],
    }
