"""One audit from its words to its outcome: open what is named, infer what is not, ask the four questions, sum up."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path, PurePosixPath

import numpy as np

from requant.audit.answers import answer_metadata, answer_recipe, answer_weights, cover
from requant.audit.named_weights import NamedWeights, as_in, open_weights, with_pre_tokenizer
from requant.audit.recipe.imatrix import HashedImatrix, ImatrixReport, audit_imatrix, read_hashed
from requant.audit.recipe.matrices import only_matrix
from requant.audit.report import Report
from requant.audit.status import Namer
from requant.audit.subject.identity import FileIdentity, Identity
from requant.audit.subject.manifest import compare_claims
from requant.audit.subject.subject import Subject, open_subject
from requant.audit.upstream import Upstream
from requant.audit.weights.fused import FusedWeights, unfused
from requant.audit.weights.journal import Journal, question_digest
from requant.audit.weights.tied import TiedWeights
from requant.documents.pins import TABLE, ToolchainPin, read_pins
from requant.formats.ggml import Arithmetic
from requant.formats.gguf_parts import files_of
from requant.ground.digests import Known
from requant.ground.disk import kept
from requant.ground.errors import FormatError, PlaceError, RecipeError, UnsupportedError
from requant.places.pace import Rate
from requant.places.place import Place, open_place
from requant.places.remote import JOBS, Network
from requant.toolchain.pre_tokenizers import PreTokenizers
from requant.toolchain.quantizers import lacking

logger = logging.getLogger(__name__)

ROWS = 1024
"""Rows that a sampled audit draws by default: an alteration of 0.5 % of all rows is missed once in 170 times."""


@dataclass(frozen=True)
class Question:
    """What was asked, as on the command line.

    ``rows`` is ``None`` for a full audit. ``exact`` lets only exact bytes pass. ``trust_subject`` takes the subject's
    word for its weights. ``allowed`` are keys that may be unchecked. ``converter`` lets upstream's converter be
    installed, to be asked about models that requant does not know. ``max_rate`` is in bytes per second. ``fit_imatrix``
    reads importances off blocks that none at hand explain.
    """

    subject: str
    weights: str | None = None
    imatrix: str | None = None
    rows: int | None = ROWS
    seed: int | None = None
    toolchain: str | None = None
    jobs: int | None = None
    exact: bool = False
    trust_subject: bool = False
    allowed: frozenset[str] = frozenset()
    converter: bool = False
    max_rate: int | None = None
    fit_imatrix: bool = False

    @property
    def namer(self) -> Namer:
        """Who names the weights."""
        return Namer.of(self.weights is not None, self.trust_subject)


def audit(question: Question) -> Report | ImatrixReport:
    """Carry out an audit: of a quant, or of an importance matrix if that is the subject.

    Raises:
        RequantError: when something named cannot be read (``UnsupportedError``: not be checked).
    """
    begun, clock = datetime.now(UTC), time.monotonic()
    network, closing = _network(question), ExitStack()
    with closing:
        subject = open_subject(question.subject, network)
        closing.callback(subject.place.close)
        upstream = Upstream.like(None if subject.is_imatrix else subject.header, question.converter)
        weights = open_weights(_weights_named(question, subject), network, upstream)
        closing.callback(weights.place.close)
        if subject.is_imatrix:
            return audit_imatrix(read_hashed(subject.file), weights, question.namer)
        pin = _toolchain(question, subject)
        matrix = None if question.imatrix is None else open_place(question.imatrix, network)
        if matrix is not None:
            closing.callback(matrix.close)
        imatrix = _imatrix(matrix, subject)
        weights = with_pre_tokenizer(as_in(subject.header, weights), PreTokenizers.of_package().name)
        coverage = cover(subject.header, question.rows, question.seed)
        journal = _journal(question, subject, weights, imatrix, pin) if question.rows is None else None
        sweep = answer_weights(subject, weights, imatrix, coverage, pin, question.jobs, journal, question.fit_imatrix)
        claims = compare_claims(subject, weights, sweep, imatrix if sweep.weighed else None, pin)
        recipe = answer_recipe(subject, weights, imatrix, sweep, question.allowed, claims)
        metadata = answer_metadata(subject, weights, question.allowed)
        identity = _identity(subject, sweep.sha256s)
        command = tuple(again(question, subject, weights, matrix, coverage.seed))
        if journal is not None:
            journal.end()
    return Report(
        subject=subject,
        weights=weights,
        toolchain=pin,
        sweep=sweep,
        recipe=recipe,
        metadata=metadata,
        coverage=coverage.after(sweep),
        identity=identity,
        named=question.weights is not None,
        trusted=question.trust_subject,
        inferred=_inferred(question, subject, weights),
        exact=question.exact,
        command=command,
        traffic=network.traffic,
        begun=begun,
        seconds=time.monotonic() - clock,
    )


def _network(question: Question) -> Network:
    rate = None if question.max_rate is None else Rate(question.max_rate)
    return Network(jobs=question.jobs or JOBS, rate=rate)


def _journal(
    question: Question, subject: Subject, weights: NamedWeights, imatrix: HashedImatrix | None, pin: ToolchainPin
) -> Journal:
    """Where a run that was broken off has left what it found of the same question.

    Bound to what was asked from where, to what hubs say of the files, to the header, and to all that derives.
    """

    def files(place: Place, names: Sequence[str]) -> list[object]:
        known = [place.expected(name) or Known() for name in names]
        return [place.pinned(None), [[name, each.size, each.sha256] for name, each in zip(names, known, strict=True)]]

    tensors = [[each.name, each.type.name, each.shape, each.offset] for each in subject.header.tensors]
    found = question_digest([
        [question.subject, question.weights, question.imatrix, str(Path.cwd()), np.__version__],
        files(subject.place, subject.names), tensors, files(weights.place, weights.files),
        [via.name for via in weights.tensors.vias], imatrix and imatrix.sha256,
        pin.commit, [arithmetic.name for arithmetic in Arithmetic if lacking(arithmetic, pin)],
    ])  # fmt: skip
    journal = Journal(kept("audits") / f"{found}.jsonl")
    if journal.path.exists():
        logger.info("going on with an audit that was broken off: what it derived is read again, and not derived again")
    return journal


def _weights_named(question: Question, subject: Subject) -> str:
    if question.weights is not None:
        return question.weights
    if subject.weights is None:
        by = "its manifest names weights that are on no hub" if subject.manifest else "it does not say"
        raise PlaceError(f"{subject.file.name} was made from weights that must be named ({by}): give --source")
    return subject.weights


def _inferred(question: Question, subject: Subject, weights: NamedWeights) -> tuple[str, ...]:
    """What nobody named, where no manifest says it all; and what is odd about the weights' files."""
    tied = unfused(weights.tensors)
    odd = [each.note for each in (tied, weights.tensors) if isinstance(each, TiedWeights | FusedWeights)]
    notes = (*weights.notes, *dict.fromkeys(note for note in odd if note))
    if subject.manifest:
        return notes
    taken = f"the weights are taken from {weights.place.shown}, as the file names them"
    return (*subject.inferred.sentences, *([taken] if question.weights is None else []), *notes)


def _toolchain(question: Question, subject: Subject) -> ToolchainPin:
    pins = read_pins(TABLE, "the pin table").toolchains
    if question.toolchain is not None:
        if question.toolchain not in pins:
            raise RecipeError(f"--toolchain is {question.toolchain!r}; write one of {', '.join(pins)}")
        return pins[question.toolchain]
    commit = subject.manifest.inputs.toolchain.commit if subject.manifest else None
    # Any pin derives the same bytes as far as is known; the one that made the subject is best, if it can be had here.
    made = (pin for pin in pins.values() if pin.commit == commit and not lacking(Arithmetic.STRICT, pin))
    return next(made, next(iter(pins.values())))


def _imatrix(named: Place | None, subject: Subject) -> HashedImatrix | None:
    """The importance matrix that was ``named``, or one beside the subject that is of its shape.

    Whether it was used is found out. One that the subject says nothing of, and that cannot be read, was not.
    """
    if named is not None:
        return read_hashed(only_matrix(named))
    for file in subject.matrices():
        try:
            found = read_hashed(file)
        except (FormatError, UnsupportedError):
            if subject.with_imatrix:
                raise
            continue
        if found.fits(subject.header):
            return found
    return None


def again(
    question: Question, subject: Subject, weights: NamedWeights, matrix: Place | None, seed: int | None
) -> Iterator[str]:
    """The command that asks the same again, wherever it is read: of local paths it has the last names."""
    yield from ("requant", "audit", subject.place.pinned(subject.name))
    if question.weights is not None:
        yield from ("--source", weights.place.pinned(weights.place.file))
    if matrix is not None:
        yield from ("--imatrix", matrix.pinned(matrix.file))
    yield from ("--full",) if question.rows is None else ("--rows", str(question.rows), "--seed", str(seed))
    yield from ("--exact",) if question.exact else ()
    yield from ("--converter",) if question.converter else ()
    yield from ("--fit-imatrix",) if question.fit_imatrix else ()
    yield from ("--trust-subject",) if question.trust_subject else ()
    for key in sorted(question.allowed):
        yield from ("--allow-unchecked", key)
    if question.toolchain is not None:
        yield from ("--toolchain", question.toolchain)


def _identity(subject: Subject, sha256s: Sequence[str]) -> Identity:
    """The subject's files; without ``sha256s``, not all of them was read."""
    files = zip_longest(subject.names, files_of(subject.header), sha256s)
    return Identity(
        tuple(
            FileIdentity(PurePosixPath(name).name, header.size, sha256, _recorded(subject, name))
            for name, (_, header), sha256 in files
        )
    )


def _recorded(subject: Subject, path: str) -> dict[str, str]:
    """What the hub and the manifest say that a file's SHA-256 is: claims, to be held against what was read."""
    known = subject.place.expected(path)
    said = {"the hub": known.sha256} if known and known.sha256 else {}
    name = PurePosixPath(path).name
    for quant in subject.manifest.quants if subject.manifest else ():
        if quant.file.name == name:
            said["the manifest"] = quant.file.sha256
    return said
