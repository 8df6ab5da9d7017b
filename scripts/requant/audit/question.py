"""One audit from its words to its outcome: open what is named, infer what is not, check, and sum up."""

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from math import prod
from secrets import randbits

from requant.audit.imatrix import ImatrixReport, audit_imatrix
from requant.audit.metadata import (
    Grade,
    MetadataFinding,
    NamedImatrix,
    compare_metadata,
)
from requant.audit.named_weights import Source, open_source
from requant.audit.sample import draw
from requant.audit.subject import Subject, open_subject
from requant.audit.sweep import Material, Sweep, audit_tensors
from requant.documents.file_names import IMATRIX
from requant.documents.pins import TABLE, ToolchainPin, read_pins
from requant.formats.ggml import Arithmetic, Floats
from requant.formats.imatrix import MAX_SIZE, Imatrix, importance, read_imatrix
from requant.formats.ranged import LocalFile, Ranged, digest_ranged, read_whole
from requant.ground.errors import (
    PlaceError,
    RecipeError,
    ToolError,
    UnsupportedError,
)
from requant.ground.progress import progress
from requant.places.place import open_place
from requant.places.remote import JOBS, Traffic
from requant.quantization.mix import (
    FALLBACKS,
    OLDER_FALLBACKS,
    expected_types,
    file_type_name,
)
from requant.quantization.quantizer import Quantizer
from requant.quantization.verdict import Verdict
from requant.toolchain.quantizers import open_quantizer

ROWS = 1024
"""Rows that a sampled audit draws by default: an alteration of 0.5 % of all rows is missed once in 170 times."""


@dataclass(frozen=True)
class Question:
    """What was asked, as on the command line: ``rows`` is ``None`` for a full audit."""

    subject: str
    source: str | None = None
    imatrix: str | None = None
    rows: int | None = ROWS
    seed: int | None = None
    toolchain: str | None = None
    jobs: int | None = None


@dataclass
class Report:
    """What an audit found.

    ``sha256`` of the subject is what was read in a full audit of a local file, else what a hub records of it
    (``recorded``), or ``None``. ``drawn`` is the number of rows that could have been drawn, ``rows`` how many were.
    """

    question: Question
    subject: Subject
    source: Source
    imatrix: tuple[str, str] | None
    toolchain: ToolchainPin
    seed: int | None
    rows: int
    drawn: int
    outcome: Sweep
    findings: list[MetadataFinding]
    inferred: list[str]
    notes: list[str]
    sha256: str | None = None
    recorded: bool = False
    traffic: Traffic = field(default_factory=Traffic)
    seconds: float = 0.0

    @property
    def serious(self) -> list[MetadataFinding]:
        """Findings that make it another model."""
        return [finding for finding in self.findings if finding.grade is Grade.SERIOUS]

    @property
    def verdict(self) -> Verdict:
        """The worst of all: a mismatch or serious finding, then what could not be checked, then ``near``."""
        verdicts = {audit.verdict for audit in self.outcome.tensors if not audit.undrawn}
        if Verdict.MISMATCH in verdicts or self.outcome.missing or self.serious:
            return Verdict.MISMATCH
        if Verdict.UNCHECKED in verdicts or not verdicts or self.notes:
            return Verdict.UNCHECKED
        return Verdict.NEAR if Verdict.NEAR in verdicts else Verdict.EXACT


def audit(question: Question) -> Report | ImatrixReport:
    """Carry out an audit: of a quant, or of an importance matrix if that is the subject.

    Raises:
        RequantError: when something named cannot be read (``UnsupportedError``: not be checked).
    """
    begun = time.monotonic()
    traffic, closing = Traffic(), ExitStack()
    with closing:
        jobs = question.jobs or JOBS
        subject = open_subject(question.subject, traffic, jobs)
        closing.callback(subject.place.close)
        source = open_source(_source_text(question, subject), traffic, jobs)
        closing.callback(source.place.close)
        if subject.is_imatrix:
            return audit_imatrix(*_read_imatrix(subject.file), source)
        try:
            report = _check(question, subject, source, traffic, closing)
        except ToolError as error:
            # Without a compiler nothing is wrong with the subject, nor with the question.
            raise UnsupportedError(str(error)) from error
        if question.rows is None and isinstance(subject.file, LocalFile):
            report.sha256 = digest_ranged(subject.file).sha256
        elif known := subject.place.expected(subject.name):
            report.sha256, report.recorded = known.sha256, True
    report.seconds = time.monotonic() - begun
    return report


def _check(question: Question, subject: Subject, source: Source, traffic: Traffic, closing: ExitStack) -> Report:
    findings, notes = [], []
    pin = _toolchain(question, subject)
    inferred = [] if subject.manifest else list(subject.inferred.sentences)
    if question.source is None and subject.manifest is None:
        inferred.append(f"the weights are taken from {source.place.shown}, as the file names them")
    imatrix, named = _imatrix(question, subject, traffic, closing)
    if named and subject.manifest and named[1] != (wanted := subject.manifest.imatrix.file.sha256):
        sentence = "the importance matrix is not the one that the manifest names"
        findings.append(MetadataFinding(IMATRIX, Grade.SERIOUS, wanted, named[1], sentence))
    importances: Mapping[str, Floats] | None = {}
    if imatrix is not None:
        importances = _importances(imatrix)
    elif subject.with_imatrix:
        importances = None
    counts = NamedImatrix(len(imatrix.entries), imatrix.chunk_count) if imatrix else None
    if source.expected is None:
        notes.append(f"the metadata was not checked: {source.unknown}")
    else:
        findings += compare_metadata(subject.header, source.expected, counts).findings
    findings += _compare_types(subject, source, imatrix is not None or subject.with_imatrix)
    rows = {tensor.name: prod(tensor.shape[1:]) for tensor in subject.header.tensors if len(tensor.shape) > 1}
    seed = None if question.rows is None else randbits(64) if question.seed is None else question.seed
    selected = None if question.rows is None or seed is None else draw(rows, question.rows, seed)
    material = Material(subject.file, subject.header, source.weights, importances, _opener(pin))
    total = sum(
        tensor.shape[0] * (rows[tensor.name] if selected is None else len(selected.get(tensor.name, ())))
        if tensor.name in rows
        else tensor.shape[0]
        for tensor in subject.header.tensors
    )
    jobs = question.jobs or (None if subject.place.is_local and source.place.is_local else JOBS)
    with progress(total, "comparing", "weights", scale=True) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        outcome = audit_tensors(material, selected, jobs, advance)
    drawn = sum(rows.values()) if selected is None else sum(map(len, selected.values()))
    return Report(
        question, subject, source, named, pin, seed, drawn, sum(rows.values()), outcome, findings, inferred, notes,
        traffic=traffic,
    )  # fmt: skip


def _source_text(question: Question, subject: Subject) -> str:
    if question.source is not None:
        return question.source
    if subject.source is None:
        by = "its manifest names weights that are on no hub" if subject.manifest else "it does not say"
        raise PlaceError(f"{subject.file.name} was made from weights that must be named ({by}): give --source")
    return subject.source


def _toolchain(question: Question, subject: Subject) -> ToolchainPin:
    pins = read_pins(TABLE, "the pin table").toolchains
    if question.toolchain is not None:
        if question.toolchain not in pins:
            raise RecipeError(f"--toolchain is {question.toolchain!r}; write one of {', '.join(pins)}")
        return pins[question.toolchain]
    commit = subject.manifest.inputs.toolchain.commit if subject.manifest else None
    # Any pin derives the same bytes as far as is known; one that is built already is best.
    return next((pin for pin in pins.values() if pin.commit == commit), next(iter(pins.values())))


def _opener(pin: ToolchainPin) -> Callable[[Arithmetic], Quantizer]:
    return cache(lambda arithmetic: open_quantizer(arithmetic, pin))


def _imatrix(
    question: Question, subject: Subject, traffic: Traffic, closing: ExitStack
) -> tuple[Imatrix | None, tuple[str, str] | None]:
    """The importance matrix, and its name and SHA-256; nothing where there is none."""
    if question.imatrix is not None:
        place = open_place(question.imatrix, traffic)
        closing.callback(place.close)
        file: Ranged | None = place.open(place.file or IMATRIX)
    elif subject.with_imatrix:
        file = subject.sibling(IMATRIX)
    else:
        file = None
    if file is None:
        return None, None
    imatrix, sha256 = _read_imatrix(file)
    return imatrix, (file.name, sha256)


def _read_imatrix(file: Ranged) -> tuple[Imatrix, str]:
    """Read a file once, so that what is parsed is what was hashed; gives its SHA-256 too."""
    data = read_whole(file, MAX_SIZE, "an importance matrix")
    return read_imatrix(BytesIO(data), file.name), hashlib.sha256(data).hexdigest()


def _importances(imatrix: Imatrix) -> dict[str, Floats]:
    """What llama-quantize multiplies with, for dense weights.

    Raises:
        UnsupportedError: when it is a matrix of experts.
    """
    for name, entry in imatrix.entries.items():
        if len(entry.counts) > 1:
            raise UnsupportedError(f"{imatrix.name} measures experts ({name!r}), which this version does not check")
    return {name: importance(entry)[0] for name, entry in imatrix.entries.items()}


def _compare_types(subject: Subject, source: Source, with_imatrix: bool) -> list[MetadataFinding]:
    """Tensors of another type than the mix of the file's type gives them; either version's fallbacks are right."""
    number = subject.inferred.file_type
    if number is None:
        sentence = "general.file_type is absent, so the types of the tensors cannot be checked"
        return [MetadataFinding("general.file_type", Grade.UNCHECKED, "(unknown)", "(absent)", sentence)]
    tensors = {name: (shape, source.types[name]) for name, shape in source.weights.shapes.items()}
    try:
        choices = [
            expected_types(number, tensors, source.model, with_imatrix, fallbacks)
            for fallbacks in (FALLBACKS, OLDER_FALLBACKS)
        ]
    except UnsupportedError as error:
        return [MetadataFinding("types", Grade.UNCHECKED, "(unknown)", file_type_name(number), str(error))]
    return [
        MetadataFinding(
            tensor.name, Grade.SERIOUS, choices[0][tensor.name].name, tensor.type.name,
            f"{tensor.name} is {tensor.type.name}, the mix {file_type_name(number)} makes it "
            f"{choices[0][tensor.name].name}",
        )
        for tensor in subject.header.tensors
        if tensor.name in choices[0] and all(tensor.type is not choice[tensor.name] for choice in choices)
    ]  # fmt: skip
