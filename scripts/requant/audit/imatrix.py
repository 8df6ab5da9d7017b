"""An importance matrix as the audit reads it, and the audit of one alone: could it have been measured on the weights.

That is less than a proof. Only computing it again is one: ``snakemake rebuild`` does, from a release's manifest.
"""

from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from typing import Any, Self

from requant.audit.metadata import Grade, MetadataFinding
from requant.audit.named_weights import NamedWeights
from requant.audit.plausibility import check_plausible
from requant.documents.reports import IMATRIX_AUDIT
from requant.formats.ggml import Floats
from requant.formats.imatrix import MAX_SIZE, Imatrix, importance, read_imatrix
from requant.formats.ranged import Ranged, read_whole
from requant.ground.digests import digest_bytes
from requant.ground.exit_codes import ExitCode
from requant.ground.text import table


@dataclass(frozen=True)
class HashedImatrix:
    """An importance matrix and the SHA-256 of the bytes that it was parsed from."""

    content: Imatrix
    sha256: str

    @property
    def name(self) -> str:
        """The file's, for messages."""
        return self.content.name

    def importances(self) -> dict[str, Floats]:
        """What llama-quantize multiplies with: ``[experts, columns]`` each; a dense weight is one expert."""
        return {name: importance(entry) for name, entry in self.content.entries.items()}


def read_hashed(file: Ranged) -> HashedImatrix:
    """Read a file once, so that what is parsed is what was hashed.

    Raises:
        FormatError, SourceError: when it cannot be read, or is no importance matrix.
    """
    data = read_whole(file, MAX_SIZE, "an importance matrix")
    return HashedImatrix(read_imatrix(BytesIO(data), file.name), digest_bytes(data).sha256)


class Plausibility(StrEnum):
    """What is said of an importance matrix, with the words for it and the exit code."""

    words: str
    exit_code: ExitCode

    def __new__(cls, value: str, words: str, exit_code: ExitCode) -> Self:
        """Attach to the word that stands in reports what belongs to it."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.words, member.exit_code = words, exit_code
        return member

    PLAUSIBLE = "plausible", "could have been measured", ExitCode.OK
    MISMATCH = "mismatch", "was NOT measured", ExitCode.AGAINST


@dataclass(frozen=True)
class ImatrixReport:
    """What was found: the file's name and SHA-256, the weights it was held against, and what is odd."""

    name: str
    sha256: str
    weights: str
    findings: tuple[MetadataFinding, ...]

    @property
    def verdict(self) -> Plausibility:
        """The word for it all."""
        serious = any(finding.grade is Grade.SERIOUS for finding in self.findings)
        return Plausibility.MISMATCH if serious else Plausibility.PLAUSIBLE

    @property
    def exit_code(self) -> ExitCode:
        """That of the command."""
        return self.verdict.exit_code


def audit_imatrix(imatrix: HashedImatrix, weights: NamedWeights) -> ImatrixReport:
    """Compare an importance matrix with the model of ``weights``."""
    shapes = weights.tensors.shapes
    matrices = [name for name, shape in shapes.items() if len(shape) > 1 and name.endswith(".weight")]
    findings = check_plausible(imatrix.content, shapes, matrices)
    return ImatrixReport(imatrix.name, imatrix.sha256, weights.place.shown, tuple(findings))


def as_text(report: ImatrixReport) -> str:
    """The outcome for people."""
    lines = [
        f"{report.verdict}: {report.name} {report.verdict.words} on {report.weights}",
        f"SHA-256 {report.sha256}; only computing it again is a proof (snakemake rebuild)",
    ]
    rows = [(each.key, str(each.grade), each.expected, each.actual) for each in report.findings]
    return "\n".join([*lines, *(table(("what", "grade", "expected", "found"), rows) if rows else ())])


def as_document(report: ImatrixReport) -> dict[str, Any]:
    """The outcome for canonical JSON."""
    return {
        "schema": IMATRIX_AUDIT,
        "verdict": str(report.verdict),
        "imatrix": {"name": report.name, "sha256": report.sha256},
        "findings": [
            {"key": each.key, "grade": str(each.grade), "expected": each.expected, "actual": each.actual}
            for each in report.findings
        ],
    }
