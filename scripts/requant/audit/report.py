"""What an audit found: the four answers with what they rest on, and all of it as a document for machines."""

from dataclasses import dataclass
from typing import Any

from requant.audit.answers import Coverage, MetadataAnswer, RecipeAnswer
from requant.audit.judgement import TensorAudit
from requant.audit.metadata import Grade, MetadataFinding
from requant.audit.named_weights import NamedWeights
from requant.audit.sample import caught
from requant.audit.subject import Subject
from requant.audit.sweep import Sweep
from requant.documents.pins import ToolchainPin
from requant.documents.reports import AUDIT
from requant.ground.exit_codes import ExitCode
from requant.places.remote import Traffic
from requant.quantization.verdict import Verdict

CHANCE = 0.01
"""Chance of missing an alteration, for which the bound is given."""


@dataclass(frozen=True)
class Identity:
    """The subject's SHA-256: what was read, or what a hub records (``recorded``), or ``None``."""

    sha256: str | None = None
    recorded: bool = False


@dataclass(frozen=True)
class Report:
    """What an audit found.

    ``inferred`` are sentences about what nobody named. ``exact`` says that only exact bytes may pass. ``seconds`` is
    the time that it took, ``traffic`` what was fetched in it.
    """

    subject: Subject
    weights: NamedWeights
    toolchain: ToolchainPin
    sweep: Sweep
    recipe: RecipeAnswer
    metadata: MetadataAnswer
    coverage: Coverage
    identity: Identity
    inferred: tuple[str, ...]
    exact: bool
    traffic: Traffic
    seconds: float

    @property
    def findings(self) -> tuple[MetadataFinding, ...]:
        """Everything that is not simply equal, of the recipe and of the metadata."""
        return (*self.recipe.contradictions, *self.metadata.findings, *self.recipe.types)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        return () if self.metadata.unchecked is None else (self.metadata.unchecked,)

    @property
    def verdict(self) -> Verdict:
        """The worst of all: a mismatch or serious finding, then what could not be checked, then ``near``."""
        verdicts = {audit.verdict for audit in self.sweep.tensors if not audit.undrawn}
        serious = any(finding.grade is Grade.SERIOUS for finding in self.findings)
        if Verdict.MISMATCH in verdicts or self.sweep.missing or serious:
            return Verdict.MISMATCH
        if Verdict.UNCHECKED in verdicts or not verdicts or self.notes:
            return Verdict.UNCHECKED
        return Verdict.NEAR if Verdict.NEAR in verdicts else Verdict.EXACT

    @property
    def exit_code(self) -> ExitCode:
        """That of the verdict; where only exact bytes may pass, near ones are a mismatch."""
        refused = self.exact and self.verdict is Verdict.NEAR
        return (Verdict.MISMATCH if refused else self.verdict).exit_code


def bound(coverage: Coverage) -> str:
    """What a sample can say, in one sentence; a full audit says it all."""
    if coverage.seed is None:
        return "every row of every tensor that can be checked was derived again"
    fraction = caught(CHANCE, coverage.rows_read)
    return (
        f"an alteration of {100 * fraction:.3g} % of all rows or more would have been missed with probability "
        f"below {CHANCE:g} (seed {coverage.seed})"
    )


def as_document(report: Report) -> dict[str, Any]:
    """The outcome for canonical JSON: no floats, numbers that are none are text; ``run`` differs between two runs."""
    sweep, coverage = report.sweep, report.coverage
    return {
        "schema": AUDIT,
        "verdict": str(report.verdict),
        "mode": "full" if coverage.seed is None else "sample",
        "seed": coverage.seed,
        "rows": coverage.rows_read,
        "rows_in_all": coverage.rows_in_all,
        "bound": bound(coverage),
        **_materials(report),
        "arithmetic": str(sweep.arithmetic),
        "counts": counts(report),
        "blocks": {"searched": sweep.blocks, "differing": sweep.differing},
        "missing": list(sweep.missing),
        "tensors": [_tensor(audit) for audit in sweep.tensors],
        "findings": [
            {"key": each.key, "grade": str(each.grade), "expected": each.expected, "actual": each.actual,
             "sentence": each.sentence}
            for each in report.findings
        ],
        "inferred": list(report.inferred),
        "notes": list(report.notes),
        "run": {
            "seconds": f"{report.seconds:.3f}",
            "bytes_fetched": report.traffic.fetched,
            "requests": report.traffic.requests,
        },
    }  # fmt: skip


def _materials(report: Report) -> dict[str, Any]:
    """What was held against what."""
    subject, weights, identity, imatrix = report.subject, report.weights, report.identity, report.recipe.imatrix
    return {
        "subject": {
            "name": subject.name.rpartition("/")[2],
            "size": subject.file.size,
            "sha256": identity.sha256,
            "sha256_from": None if identity.sha256 is None else "hub" if identity.recorded else "read",
            "revision": subject.place.revision,
            "type": subject.inferred.file_type_name,
        },
        "source": {
            "name": weights.place.shown if not weights.place.is_local else weights.form,
            "revision": weights.place.revision,
            "rounded_through": report.sweep.via.name,
        },
        "imatrix": None if imatrix is None else {"sha256": imatrix.sha256},
        "toolchain": {"name": report.toolchain.name, "commit": report.toolchain.commit},
    }


def counts(report: Report) -> dict[str, int]:
    """Tensors by verdict; those of which no row was drawn stand apart."""
    found = dict.fromkeys((*map(str, Verdict), "undrawn"), 0)
    for audit in report.sweep.tensors:
        found["undrawn" if audit.undrawn else audit.verdict] += 1
    return found


def _tensor(audit: TensorAudit) -> dict[str, Any]:
    tally = audit.tally
    return {
        "name": audit.tensor.name,
        "type": audit.tensor.type.name,
        "shape": list(audit.tensor.shape),
        "verdict": str(audit.verdict),
        "reason": audit.reason,
        "rows": tally.rows,
        "rows_in_all": audit.rows,
        "blocks": tally.blocks,
        "differing": tally.differing,
        "other_arithmetic": tally.other,
        "witnessed": tally.witnessed,
        "unexplained": tally.unexplained,
        "epsilon": f"{tally.epsilon:.3g}",
        "error_ratio": ratio(audit),
        "examples": [
            {"row": odd.row, "column": odd.column, "bytes": odd.differing, "of": odd.size, "ratio": f"{odd.ratio:.6g}"}
            for odd in tally.odd
        ],
    }


def ratio(audit: TensorAudit) -> str | None:
    """Weighted squared error of the differing blocks over that of the derived ones."""
    tally = audit.tally
    return f"{tally.error / tally.derived_error:.6g}" if tally.derived_error else None
