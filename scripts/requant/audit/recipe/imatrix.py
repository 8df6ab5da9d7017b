"""An importance matrix as the audit reads it, and the audit of one alone: could it have been measured on the weights.

That is less than a proof. Only computing it again is one: ``snakemake rebuild`` does, from a release's manifest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from io import BytesIO
from math import prod
from typing import Any, Self

from requant.audit.metadata.comparison import Grade, MetadataFinding
from requant.audit.named_weights import NamedWeights
from requant.audit.recipe.plausibility import RUN, check_plausible
from requant.audit.recipe.sanity import MATRIX, Sanity, sanity_of
from requant.audit.status import Namer, worst
from requant.audit.weights.fused import as_fused_by, unfused
from requant.conversion.weights import Weights
from requant.documents.reports import IMATRIX_AUDIT
from requant.formats.ggml import Floats
from requant.formats.gguf import Header
from requant.formats.imatrix import MAX_SIZE, Imatrix, importance, read_imatrix
from requant.formats.ranged import Ranged, read_whole
from requant.ground.digests import digest_bytes
from requant.ground.exit_codes import ExitCode
from requant.ground.text import table

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class HashedImatrix:
    """An importance matrix and the SHA-256 of the bytes that it was parsed from."""

    content: Imatrix
    sha256: str

    @property
    def name(self) -> str:
        """The file's, for messages."""
        return self.content.name

    def fits(self, quant: Header) -> bool:
        """Whether it has importances for a tensor of a quant, and as many as each has columns (times experts).

        llama-quantize refuses to work with any other matrix.
        """
        sizes = {name: entry.in_sum2.size for name, entry in self.content.entries.items()}
        wanted = [
            (sizes[each.name], each.shape[0] * prod(each.shape[2:])) for each in quant.tensors if each.name in sizes
        ]
        return bool(wanted) and all(found == size for found, size in wanted)

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
    UNCHECKED = "unchecked", "is not like measured ones, and may or may not come from a run", ExitCode.UNCHECKED
    MISMATCH = "mismatch", "was NOT measured", ExitCode.AGAINST


@dataclass(frozen=True)
class ImatrixReport:
    """What was found: the file's name and SHA-256, the weights it was held against, what is odd, and its numbers.

    ``namer`` is who named the weights.
    """

    name: str
    sha256: str
    weights: str
    namer: Namer
    findings: tuple[MetadataFinding, ...]
    numbers: Sanity

    @property
    def verdict(self) -> Plausibility:
        """The word for it all."""
        grades = {finding.grade for finding in self.findings}
        if Grade.SERIOUS in grades:
            return Plausibility.MISMATCH
        return Plausibility.UNCHECKED if Grade.UNCHECKED in grades else Plausibility.PLAUSIBLE

    @property
    def exit_code(self) -> ExitCode:
        """That of the command: no better than of weights that nobody but the subject named."""
        return worst([self.verdict.exit_code, self.namer.exit_code])


def audit_imatrix(imatrix: HashedImatrix, weights: NamedWeights, namer: Namer) -> ImatrixReport:
    """Compare an importance matrix with the model of ``weights``."""
    findings, entries = _plausibility(imatrix, weights.tensors), imatrix.content.entries
    numbers = Sanity(len(entries), sanity_of({name: importance(each) for name, each in entries.items()}, {}))
    found = (*findings, *numbers.findings())
    return ImatrixReport(imatrix.name, imatrix.sha256, weights.place.shown, namer, found, numbers)


def look_at_matrix(imatrix: HashedImatrix, weights: Weights) -> Iterator[MetadataFinding]:
    """What is odd about the importance matrix that a quant was made with: no evidence against its weights.

    That a tensor has no entry is told elsewhere: it derives as without a matrix, or not.
    """
    for each in _plausibility(imatrix, weights):
        if each.grade is Grade.SERIOUS and each.key in {*imatrix.content.entries, *RUN}:
            sentence = f"the importance matrix is not like measured ones: {each.sentence}"
            yield replace(each, key=MATRIX, grade=Grade.UNCHECKED, sentence=sentence)


def _plausibility(imatrix: HashedImatrix, weights: Weights) -> list[MetadataFinding]:
    # What the model that was measured stores as one was measured as one, however a quant of it has it. Of biases, which
    # are fused with their weights, a matrix has no entries.
    names = {*imatrix.content.entries}
    biases = {name.removesuffix(".weight") + ".bias" for name in names}
    shapes = as_fused_by(names | biases, unfused(weights)).shapes
    matrices = [name for name, shape in shapes.items() if len(shape) > 1 and name.endswith(".weight")]
    return check_plausible(imatrix.content, shapes, matrices)


def as_text(report: ImatrixReport) -> str:
    """The outcome for people."""
    lines = [
        f"{report.verdict}: {report.name} {report.verdict.words} on {report.weights}",
        f"the weights are {report.namer.words}",
        f"SHA-256 {report.sha256}; only computing it again is a proof (snakemake rebuild)",
        report.numbers.sentence,
    ]
    rows = [(each.key, str(each.grade), each.expected, each.actual) for each in report.findings]
    return "\n".join([*lines, *(table(("what", "grade", "expected", "found"), rows) if rows else ())])


def as_document(report: ImatrixReport) -> dict[str, Any]:
    """The outcome for canonical JSON."""
    return {
        "schema": IMATRIX_AUDIT,
        "verdict": str(report.verdict),
        "exit_code": int(report.exit_code),
        "source": {"name": report.weights, "named_by": str(report.namer)},
        "imatrix": {"name": report.name, "sha256": report.sha256, **report.numbers.document()},
        "findings": [
            {"key": each.key, "grade": str(each.grade), "expected": each.expected, "actual": each.actual}
            for each in report.findings
        ],
    }
