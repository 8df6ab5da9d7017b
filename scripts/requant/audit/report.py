"""What an audit found: the four answers with what they rest on, and all of it as a document for machines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from requant.audit.answers import Coverage, MetadataAnswer
from requant.audit.judgement import TensorAudit
from requant.audit.metadata import MetadataFinding
from requant.audit.named_weights import NamedWeights
from requant.audit.recipe import RecipeAnswer
from requant.audit.status import worst
from requant.audit.subject import Subject
from requant.audit.sweep import Sweep
from requant.documents.pins import ToolchainPin
from requant.documents.reports import AUDIT
from requant.ground.exit_codes import ExitCode
from requant.ground.text import counted, listed
from requant.places.remote import Traffic
from requant.quantization.verdict import Verdict


@dataclass(frozen=True)
class FileIdentity:
    """One of the subject's files: its SHA-256, if all bytes were read, and what others ``said`` that it is, by who."""

    name: str
    size: int
    sha256: str | None = None
    said: Mapping[str, str] = field(default_factory=dict)

    @property
    def contradictions(self) -> list[str]:
        """Who says something else than what was read, in words."""
        return [
            f"{who} gives SHA-256 {said}, and the bytes that were read have {self.sha256}"
            for who, said in self.said.items()
            if self.sha256 not in (None, said)
        ]


@dataclass(frozen=True)
class Identity:
    """The subject's files: one, or the parts of a split model."""

    files: tuple[FileIdentity, ...]

    @property
    def sha256(self) -> str | None:
        """That of the one file; ``None`` where there are several, or not all was read."""
        return self.files[0].sha256 if len(self.files) == 1 else None

    @property
    def contradictions(self) -> list[str]:
        """Of all files."""
        if len(self.files) == 1:
            return self.files[0].contradictions
        return [f"of {file.name}, {sentence}" for file in self.files for sentence in file.contradictions]


@dataclass(frozen=True)
class Answer:
    """To one question: a word, what it alone would give as exit code, and a sentence."""

    question: str
    word: str
    exit_code: ExitCode
    sentence: str


@dataclass(frozen=True)
class Report:
    """What an audit found: four answers, and beside them what was held against what.

    ``named`` says that the user named the weights, ``trusted`` that the subject's word for them is taken. ``inferred``
    are sentences about what nobody named. ``exact`` says that only exact bytes may pass. ``seconds`` is the time that
    it took, ``traffic`` what was fetched in it.
    """

    subject: Subject
    weights: NamedWeights
    toolchain: ToolchainPin
    sweep: Sweep
    recipe: RecipeAnswer
    metadata: MetadataAnswer
    coverage: Coverage
    identity: Identity
    named: bool
    trusted: bool
    inferred: tuple[str, ...]
    exact: bool
    traffic: Traffic
    seconds: float

    @property
    def findings(self) -> tuple[MetadataFinding, ...]:
        """Everything that is not simply equal, of the recipe and of the metadata."""
        return (*self.recipe.findings, *self.metadata.findings)

    @property
    def verdict(self) -> Verdict:
        """Of the weights: the worst of all tensors."""
        verdicts = {audit.verdict for audit in self.sweep.tensors}
        if Verdict.MISMATCH in verdicts or self.sweep.missing:
            return Verdict.MISMATCH
        if Verdict.UNCHECKED in verdicts or not verdicts:
            return Verdict.UNCHECKED
        return Verdict.NEAR if Verdict.NEAR in verdicts else Verdict.EXACT

    @property
    def exit_code(self) -> ExitCode:
        """The worst answer's; 3 where nobody but the subject named the weights."""
        codes = [answer.exit_code for answer in self.answers]
        if not self.named and not self.trusted:
            codes.append(ExitCode.UNCHECKED)
        if self.identity.contradictions:
            codes.append(ExitCode.AGAINST)
        return worst(codes)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The four answers, in the order of the questions."""
        return (
            Answer("weights", str(self.verdict), self._weights_code, weights_sentence(self)),
            Answer("recipe", str(self.recipe.status), self.recipe.status.exit_code, self.recipe.sentence),
            Answer("metadata", str(self.metadata.status), self.metadata.status.exit_code, self.metadata.sentence),
            Answer("coverage", str(self.coverage.status), self.coverage.status.exit_code, self.coverage.sentence),
        )

    @property
    def _weights_code(self) -> ExitCode:
        refused = self.exact and self.verdict is Verdict.NEAR
        return (Verdict.MISMATCH if refused else self.verdict).exit_code

    @property
    def namer(self) -> str:
        """Who named the weights, in words."""
        if self.named:
            return "named by you"
        trust = "trusted with --trust-subject" if self.trusted else "which proves nothing: name them with --source"
        return f"named by the subject itself, {trust}"

    @property
    def allowed(self) -> frozenset[str]:
        """The keys that could not be checked and that the user let pass."""
        return self.metadata.passed | self.recipe.allowed


def weights_sentence(report: Report) -> str:
    """Whether the tensors derive from the weights, in words."""
    at = report.weights.place.shown
    tensors = report.sweep.tensors
    names = {verdict: [audit.tensor.name for audit in tensors if audit.verdict is verdict] for verdict in Verdict}
    if wrong := names[Verdict.MISMATCH]:
        do = "does" if len(wrong) == 1 else "do"
        return f"{len(wrong):,} of {counted(len(tensors), 'tensor')} {do} not derive from {at}: {listed(wrong)}"
    if missing := report.sweep.missing:
        are = "is" if len(missing) == 1 else "are"
        return f"{counted(len(missing), 'tensor')} of {at} {are} missing: {listed(missing)}"
    if not tensors:
        return "no tensor was looked at"
    if lost := names[Verdict.UNCHECKED]:
        reasons = {audit.reason for audit in tensors if audit.verdict is Verdict.UNCHECKED}
        why = f" ({reasons.pop()})" if len(reasons) == 1 and None not in reasons else ""
        count = f"{len(lost):,} of {counted(len(tensors), 'tensor')}"
        return f"{count} could not be checked against {at}: {listed(lost)}{why}"
    every = "every tensor" if report.coverage.seed is None else "every row that was read"
    if names[Verdict.NEAR]:
        refused = ", which --exact refuses" if report.exact else ""
        return f"{every} derives from {at}, some as another compiler rounds{refused}"
    return f"{every} derives exactly from {at} ({report.sweep.arithmetic} arithmetic)"


def headline(report: Report) -> str:
    """The four answers in one sentence, what fails first."""
    order = (ExitCode.AGAINST, ExitCode.UNCHECKED, ExitCode.OK)
    brief = {"coverage": report.coverage.brief}
    parts = [(each.exit_code, brief.get(each.question, each.sentence)) for each in report.answers]
    if not report.named:
        parts.append((ExitCode.OK if report.trusted else ExitCode.UNCHECKED, f"the weights are {report.namer}"))
    parts += [(ExitCode.AGAINST, sentence) for sentence in report.identity.contradictions]
    ranked = sorted(parts, key=lambda part: order.index(part[0]))
    return f"{report.subject.name}: {'; '.join(sentence for _, sentence in ranked)}"


def as_document(report: Report) -> dict[str, Any]:
    """The outcome for canonical JSON: no floats, numbers that are none are text; ``run`` differs between two runs."""
    sweep, coverage = report.sweep, report.coverage
    return {
        "schema": AUDIT,
        "exit_code": int(report.exit_code),
        "headline": headline(report),
        "answers": {each.question: {"status": each.word, "sentence": each.sentence} for each in report.answers},
        "seed": coverage.seed,
        "rows": coverage.rows_read,
        "rows_in_all": coverage.rows_in_all,
        **_materials(report),
        "mix": _mix(report.recipe),
        "arithmetic": str(sweep.arithmetic),
        "counts": counts(report),
        "blocks": {"searched": sweep.blocks, "differing": sweep.differing},
        "missing": list(sweep.missing),
        "tensors": [_tensor(audit, coverage) for audit in sweep.tensors],
        "findings": [
            {"key": each.key, "grade": str(each.grade), "expected": each.expected, "actual": each.actual,
             "sentence": each.sentence}
            for each in report.findings
        ],
        "allowed": sorted(report.allowed),
        "inferred": list(report.inferred),
        "run": {
            "seconds": f"{report.seconds:.3f}",
            "bytes_fetched": report.traffic.fetched,
            "requests": report.traffic.requests,
        },
    }  # fmt: skip


def _mix(recipe: RecipeAnswer) -> dict[str, Any]:
    return {
        "name": recipe.mix,
        "bits": f"{recipe.bits:.4f}",
        "stock_bits": None if recipe.stock_bits is None else f"{recipe.stock_bits:.4f}",
        "command": list(recipe.command),
    }


def _materials(report: Report) -> dict[str, Any]:
    """What was held against what."""
    subject, weights, identity, imatrix = report.subject, report.weights, report.identity, report.recipe.imatrix
    return {
        "subject": {
            "name": subject.name.rpartition("/")[2],
            "size": subject.file.size,
            "sha256": identity.sha256,
            "recorded": dict(sorted(identity.files[0].said.items())) if len(identity.files) == 1 else {},
            "parts": [_part(file) for file in identity.files] if len(identity.files) > 1 else [],
            "revision": subject.place.revision,
            "type": subject.inferred.file_type_name,
        },
        "source": {
            "name": weights.place.shown if not weights.place.is_local else weights.form,
            "revision": weights.place.revision,
            "named_by": "user" if report.named else "subject, trusted" if report.trusted else "subject",
            "rounded_through": report.sweep.via.name,
        },
        "imatrix": None if imatrix is None else {"sha256": imatrix.sha256},
        "toolchain": {"name": report.toolchain.name, "commit": report.toolchain.commit},
    }


def _part(file: FileIdentity) -> dict[str, Any]:
    recorded = dict(sorted(file.said.items()))
    return {"name": file.name, "size": file.size, "sha256": file.sha256, "recorded": recorded}


def counts(report: Report) -> dict[str, int]:
    """Tensors by verdict."""
    found = dict.fromkeys(map(str, Verdict), 0)
    for audit in report.sweep.tensors:
        found[audit.verdict] += 1
    return found


def _tensor(audit: TensorAudit, coverage: Coverage) -> dict[str, Any]:
    tally, bound = audit.tally, coverage.bound(audit.tensor)
    return {
        "name": audit.tensor.name,
        "type": audit.tensor.type.name,
        "shape": list(audit.tensor.shape),
        "verdict": str(audit.verdict),
        "reason": audit.reason,
        "rows": tally.rows,
        "rows_in_all": audit.rows,
        "bound": None if bound is None else f"{bound:.3g}",
        "blocks": tally.blocks,
        "differing": tally.differing,
        "otherwise": tally.other,
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
