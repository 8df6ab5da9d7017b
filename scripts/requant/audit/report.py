"""What an audit found: the four answers with what they rest on, and all of it as a document for machines."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from requant import __version__
from requant.audit.answers import Coverage, MetadataAnswer
from requant.audit.limits import Limit
from requant.audit.metadata.comparison import MetadataFinding
from requant.audit.named_weights import NamedWeights
from requant.audit.recipe.mix import RecipeAnswer
from requant.audit.status import Namer, worst
from requant.audit.subject.identity import Identity
from requant.audit.subject.subject import Subject
from requant.audit.weights.sweep import Sweep
from requant.audit.weights.tensor import TensorAudit
from requant.conversion.layout import ROPE_FREQS
from requant.conversion.metadata import EXISTENCE
from requant.documents.pins import ToolchainPin
from requant.documents.reports import AUDIT
from requant.formats.ggml import Arithmetic
from requant.formats.gguf_digests import key_digests
from requant.formats.weights_root import TensorEntry, weights_root
from requant.ground.digests import digest_bytes
from requant.ground.exit_codes import ExitCode
from requant.ground.text import counted, listed
from requant.places.remote import Traffic
from requant.quantization.consistency import Consistency
from requant.quantization.verdict import Verdict


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
    are sentences about what nobody named, and what is odd about the weights' files. ``exact`` says that only exact
    bytes may pass. ``command`` asks the same again. ``begun`` is when, in UTC, ``seconds`` the time that it took,
    ``traffic`` what was fetched in it.
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
    command: tuple[str, ...]
    traffic: Traffic
    begun: datetime
    seconds: float

    @property
    def findings(self) -> tuple[MetadataFinding, ...]:
        """Everything that is not simply equal, of the recipe and of the metadata."""
        return (*self.recipe.findings, *self.metadata.findings)

    @property
    def verdict(self) -> Verdict:
        """Of the weights: the worst of all tensors."""
        verdicts = {audit.verdict for audit in self.sweep.tensors}
        if Verdict.MISMATCH in verdicts or {*self.sweep.missing} - {ROPE_FREQS}:
            return Verdict.MISMATCH
        if Verdict.UNCHECKED in verdicts or not verdicts or self.sweep.missing:
            return Verdict.UNCHECKED
        return next((each for each in (Verdict.CONSISTENT, Verdict.NEAR) if each in verdicts), Verdict.EXACT)

    @property
    def exit_code(self) -> ExitCode:
        """The worst answer's; 3 where nobody but the subject named the weights."""
        codes = [self.namer.exit_code, *(answer.exit_code for answer in self.answers)]
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
    def namer(self) -> Namer:
        """Who named the weights."""
        return Namer.of(self.named, self.trusted)

    @property
    def allowed(self) -> frozenset[str]:
        """The keys that could not be checked and that the user let pass."""
        return self.metadata.passed | self.recipe.allowed

    @property
    def arithmetic(self) -> Arithmetic | None:
        """The one that the quant is in; ``None`` where nothing that could tell fits."""
        compared = [audit for audit in self.sweep.tensors if audit.tally.blocks]
        telling = [audit for audit in compared if audit.searched] or compared
        fits = any(audit.verdict.exit_code is ExitCode.OK for audit in telling)
        return self.sweep.arithmetic if fits else None

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What this report does not say."""
        codes = {answer.exit_code for answer in self.answers}
        bounds = {
            Limit.SAMPLE: self.coverage.rows_read < self.coverage.rows_in_all,
            Limit.UNCHECKED: ExitCode.UNCHECKED in codes or bool(self.allowed),
            Limit.WHY: self.exit_code is ExitCode.AGAINST,
            Limit.SUBJECT: self.namer is Namer.SUBJECT,
            Limit.NEAR: self.verdict is Verdict.NEAR,
            Limit.CONSISTENT: any(audit.verdict is Verdict.CONSISTENT for audit in self.sweep.tensors),
            Limit.GOOD: True,
        }
        return tuple(limit for limit, holds in bounds.items() if holds)


def weights_sentence(report: Report) -> str:
    """Whether the tensors derive from the weights, in words."""
    at = report.weights.place.shown
    tensors = report.sweep.tensors
    names = {verdict: [audit.tensor.name for audit in tensors if audit.verdict is verdict] for verdict in Verdict}
    if wrong := names[Verdict.MISMATCH]:
        do = "does" if len(wrong) == 1 else "do"
        return f"{len(wrong):,} of {counted(len(tensors), 'tensor')} {do} not derive from {at}: {listed(wrong)}"
    if (missing := report.sweep.missing) == (ROPE_FREQS,):
        return f"{ROPE_FREQS} of {at} is missing, as in files of older converters: llama.cpp then scales no positions"
    if missing:
        are = "is" if len(missing) == 1 else "are"
        return f"{counted(len(missing), 'tensor')} of {at} {are} missing: {listed(missing)}"
    if not tensors:
        return "no tensor was looked at"
    if lost := names[Verdict.UNCHECKED]:
        reasons = {audit.reason for audit in tensors if audit.verdict is Verdict.UNCHECKED}
        why = f" ({reasons.pop()})" if len(reasons) == 1 and None not in reasons else ""
        count = f"{len(lost):,} of {counted(len(tensors), 'tensor')}"
        return f"{count} could not be checked against {at}: {listed(lost)}{why}"
    if known := names[Verdict.CONSISTENT]:
        them = "it was" if len(known) == 1 else "they were"
        return (
            f"{len(known):,} of {counted(len(tensors), 'tensor')} follow from {at} as far as can be told without the "
            f"importance matrix that {them} made with: {listed(known)}; what it decides, the scales, is not checked"
        )
    every = "every tensor" if report.coverage.seed is None else "every row that was read"
    if names[Verdict.NEAR]:
        refused = ", which --exact refuses" if report.exact else ""
        return f"{every} derives from {at}, some as another compiler rounds{refused}"
    arithmetic = f" ({report.arithmetic} arithmetic)" if report.arithmetic else ""
    return f"{every} derives exactly from {at}{arithmetic}"


def headline(report: Report) -> str:
    """The four answers in one sentence, what fails first."""
    order = (ExitCode.AGAINST, ExitCode.UNCHECKED, ExitCode.OK)
    brief = {"coverage": report.coverage.brief}
    parts = [(each.exit_code, brief.get(each.question, each.sentence)) for each in report.answers]
    if not report.named:
        parts.append((report.namer.exit_code, f"the weights are {report.namer.words}"))
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
        "answers": {
            each.question: {"status": each.word, "exit_code": int(each.exit_code), "sentence": each.sentence}
            for each in report.answers
        },
        "limits": [{"about": str(limit), "sentence": limit.sentence} for limit in report.limits],
        "policy": {
            "exact": report.exact,
            "trust_subject": report.trusted,
            "allow_unchecked": sorted(report.metadata.allowed),
        },
        "seed": coverage.seed,
        "rows": coverage.rows_read,
        "rows_in_all": coverage.rows_in_all,
        **_materials(report),
        "mix": _mix(report.recipe),
        "arithmetic": report.arithmetic and str(report.arithmetic),
        "counts": counts(report),
        "blocks": {"searched": sweep.blocks, "differing": sweep.differing},
        "missing": list(sweep.missing),
        "tensors": [
            {**_tensor(audit, coverage), "sha256": sweep.digests.get(audit.tensor.name)} for audit in sweep.tensors
        ],
        "findings": _findings("recipe", report.recipe.findings) + _findings("metadata", report.metadata.findings),
        "allowed": sorted(report.allowed),
        "inferred": list(report.inferred),
        "requant": __version__,
        "command": list(report.command),
        "run": {
            "begun": report.begun.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "seconds": f"{report.seconds:.3f}",
            "bytes_fetched": report.traffic.fetched,
            "requests": report.traffic.requests,
            **({"derived_before": sweep.derived_before} if sweep.derived_before else {}),
        },
    }  # fmt: skip


def _findings(question: str, findings: tuple[MetadataFinding, ...]) -> list[dict[str, str]]:
    return [
        {"question": question, "key": each.key, "grade": str(each.grade), "expected": each.expected,
         "actual": each.actual, "sentence": each.sentence}
        for each in findings
    ]  # fmt: skip


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
    numbers = report.recipe.sanity.document() if report.recipe.sanity else {}
    return {
        "subject": {
            "name": subject.name.rpartition("/")[2],
            "address": subject.place.pinned(subject.name),
            "size": subject.file.size,
            "sha256": identity.sha256,
            "weights_root": _root(report),
            "metadata": [
                {"key": key, "sha256": sha256}
                for key, sha256 in (key_digests(subject.header) if identity.is_read else {}).items()
            ],
            "recorded": dict(sorted(identity.files[0].said.items())) if len(identity.files) == 1 else {},
            "parts": [file.document() for file in identity.files] if len(identity.files) > 1 else [],
            "revision": subject.place.revision,
            "type": subject.inferred.file_type_name,
        },
        "source": {
            "name": weights.place.shown,
            "address": weights.place.pinned(weights.place.file),
            "place": weights.place.spelled,
            "form": weights.form,
            "weights_root": report.sweep.source_root,
            "files": [*_source_files(weights)],
            "revision": weights.place.revision,
            "named_by": str(report.namer),
            "rounded_through": report.sweep.via.name,
        },
        "imatrix": None if imatrix is None else {"name": imatrix.name, "sha256": imatrix.sha256, **numbers},
        "toolchain": {"name": report.toolchain.name, "commit": report.toolchain.commit},
    }


def _root(report: Report) -> str | None:
    """One digest for all tensors of the subject, if all were read."""
    digests = report.sweep.digests
    if not digests:
        return None
    found = (audit.tensor for audit in report.sweep.tensors)
    return weights_root(TensorEntry(each.name, each.type.name, each.shape, digests[each.name]) for each in found)


def _source_files(weights: NamedWeights) -> Iterator[dict[str, Any]]:
    """The files that were read; only small ones pass as a whole, so that they have a SHA-256."""
    read = {name: data for name, data in weights.texts.items() if name not in EXISTENCE}
    for name in sorted({*weights.files, *read}):
        known = weights.place.expected(name)
        yield {
            "name": name,
            "size": len(read[name]) if name in read else weights.place.open(name).size,
            "sha256": digest_bytes(read[name]).sha256 if name in read else None,
            "recorded": known and known.sha256,
        }


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
        "unweighted_ratio": None if audit.unweighted.ratio is None else f"{audit.unweighted.ratio:.4g}",
        "examples": [
            {"row": odd.row, "column": odd.column, "bytes": odd.differing, "of": odd.size, "ratio": f"{odd.ratio:.6g}"}
            for odd in tally.odd
        ],
        "consistency": _consistency(tally.consistency) if tally.consistency.quants else None,
        **({"recovered": asdict(audit.recovered)} if audit.recovered else {}),
    }


def _consistency(found: Consistency) -> dict[str, Any]:
    return {
        "quants": found.quants,
        "off": found.off,
        "contradicted": found.contradicted,
        "flat": found.flat,
        "error_ratio": f"{found.ratio:.6g}",
        "worst_ratio": f"{found.worst:.6g}",
        "first_off": [{"row": row, "column": column} for row, column in found.places],
    }


def ratio(audit: TensorAudit) -> str | None:
    """Weighted squared error of the differing blocks over that of the derived ones."""
    tally = audit.tally
    return f"{tally.error / tally.derived_error:.6g}" if tally.derived_error else None
