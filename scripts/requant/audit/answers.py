"""The four questions, each answered by one function: weights, recipe, metadata, coverage.

What they are asked of are the opened things: the subject, the named weights, and the importance matrix, if there is
one. No answer knows of another, but that the weights are compared as far as the coverage goes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod
from pathlib import PurePosixPath
from secrets import randbits

import numpy as np

from requant.audit.metadata.comparison import (
    Grade,
    MetadataFinding,
    NamedImatrix,
    compare_making,
    compare_metadata,
    reads,
)
from requant.audit.metadata.history import Origins, find_origins
from requant.audit.named_weights import NamedWeights
from requant.audit.recipe.command import given_to
from requant.audit.recipe.imatrix import HashedImatrix, look_at_matrix
from requant.audit.recipe.mix import Made, RecipeAnswer, about_label, answer_mix, with_findings
from requant.audit.recipe.sanity import Sanity, sanity_of
from requant.audit.status import Metadata, Reading
from requant.audit.subject.subject import Subject
from requant.audit.weights.journal import Journal
from requant.audit.weights.material import Material
from requant.audit.weights.passage import Padding
from requant.audit.weights.recovered import recover_importances
from requant.audit.weights.sample import LEAST, caught, draw, runs
from requant.audit.weights.sweep import Sweep, audit_tensors
from requant.documents.file_names import IMATRIX
from requant.documents.pins import ToolchainPin
from requant.formats.ggml import Arithmetic, Floats, Indices
from requant.formats.gguf import DEFAULT_ALIGNMENT, Header, Tensor
from requant.formats.gguf_parts import files_of
from requant.formats.gguf_values import ABSENT
from requant.ground.progress import progress
from requant.ground.text import counted, listed
from requant.places.remote import JOBS
from requant.quantization.derivation import Making
from requant.quantization.verdict import Verdict
from requant.toolchain.quantizers import Own, lacking, open_lanes, open_quantizer

CHANCE = 0.01
"""Chance of missing a change, for which a sample's bound is given."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """Which rows of the matrices are read: all where there is no ``seed``, else those that it draws.

    ``selected`` are these by tensor, ``None`` for all; vectors are always read whole, and not counted. ``rows_read``
    are asked for at first, and those that could be compared in the end; of ``rows_left`` no row could be. ``drawn``
    are those that were drawn one by one, on which the bound rests. ``padding`` is what was found between the tensors,
    ``alignment`` the header's; of ``endless`` tensors, whose type is not known, nobody knows where the padding begins.
    """

    seed: int | None
    selected: Mapping[str, Indices] | None
    rows_read: int
    rows_in_all: int
    rows_left: int = 0
    drawn: Mapping[str, Indices] = field(default_factory=dict)
    padding: Padding = field(default_factory=Padding)
    alignment: int = DEFAULT_ALIGNMENT
    endless: tuple[str, ...] = ()

    @property
    def status(self) -> Reading:
        """Whether all was to be read, and whether something lies between the tensors, or could."""
        if self.padding.hidden:
            return Reading.HIDDEN
        if self.endless:
            return Reading.UNCHECKED
        return Reading.FULL if self.seed is None else Reading.SAMPLE

    @property
    def sentence(self) -> str:
        """What was read, what a sample may have missed, and what lies between the tensors."""
        parts = [self._hidden] if self.padding.hidden else []
        parts.append(self._bound)
        if self.padding.spare:
            parts.append(f"{counted(self.padding.spare, 'byte')} of padding more than the alignment asks for")
        if self.endless:
            parts.append(f"{self._open}, so anything may lie there")
        if self.alignment != DEFAULT_ALIGNMENT:
            parts.append(f"tensors are aligned to {self.alignment:,} bytes instead of {DEFAULT_ALIGNMENT}")
        return "; ".join(parts)

    @property
    def _hidden(self) -> str:
        are = "is" if self.padding.hidden == 1 else "are"
        return f"{counted(self.padding.hidden, 'byte')} between the tensors {are} not zero, and no part of any weight"

    @property
    def _open(self) -> str:
        return f"where {listed(self.endless)} {'ends' if len(self.endless) == 1 else 'end'} is not known"

    @property
    def _bound(self) -> str:
        known = self.rows_in_all - self.rows_left
        if self.seed is None or self.rows_read >= known:
            seed = "" if self.seed is None else f" (seed {self.seed})"
            return f"{self._read}{seed}"
        fraction = caught(CHANCE, sum(map(len, self.drawn.values())))
        return (
            f"{self._read}, at least {LEAST} of every matrix; a change to {100 * fraction:.3g} % of the {known:,} "
            f"would have been seen with {100 * (1 - CHANCE):g} % certainty, smaller ones may be missed: --full reads "
            f"all (seed {self.seed})"
        )

    def bound(self, tensor: Tensor) -> float | None:
        """The part of a matrix's rows that a change must touch to be seen with 99 % certainty; ``None`` of no sample.

        Its run of rows counts as one row: whoever changes neighbours is not seen more often by looking at neighbours.
        """
        if self.selected is None or len(tensor.shape) < 2:
            return None
        return caught(CHANCE, len(self.drawn.get(tensor.name, ())) + 1)

    @property
    def brief(self) -> str:
        """What was read, in a few words, or what should not be there."""
        if self.padding.hidden:
            return self._hidden
        return f"{self._read}; {self._open}" if self.endless else self._read

    @property
    def _read(self) -> str:
        if not self.rows_in_all:
            return "there are no matrices, all vectors were read"
        if self.rows_read == self.rows_in_all:
            return f"all {counted(self.rows_in_all, 'row')} {_were(self.rows_in_all)} read"
        if not self.rows_read:
            return f"none of {counted(self.rows_in_all, 'row')} was read, as their tensors could not be compared"
        said = f"{self.rows_read:,} of {counted(self.rows_in_all - self.rows_left, 'row')} {_were(self.rows_read)} read"
        left = f"{counted(self.rows_left, 'row')} of tensors that could not be compared {_were(self.rows_left)} not"
        return f"{said}, {left}" if self.rows_left else said

    def after(self, sweep: Sweep) -> "Coverage":
        """What was compared in the end: some tensors cannot be, and of others not every row."""
        matrices = [audit for audit in sweep.tensors if len(audit.tensor.shape) > 1]
        left = [audit for audit in matrices if not audit.tally.rows]
        read = sum(audit.tally.rows for audit in matrices)
        lost = sum(audit.rows for audit in left)
        compared = {audit.tensor.name for audit in matrices if audit.tally.rows}
        drawn = {name: rows for name, rows in self.drawn.items() if name in compared}
        return replace(self, rows_read=read, rows_left=lost, drawn=drawn, padding=sweep.padding)

    def weights_of(self, tensor: Tensor) -> int:
        """How many of a tensor's weights are read."""
        columns, *rest = tensor.shape
        if self.selected is None or not rest:
            return columns * prod(rest)
        return columns * len(self.selected.get(tensor.name, ()))


@dataclass(frozen=True)
class MetadataAnswer:
    """What there is to say about the keys of the header; ``unchecked`` is why nothing could be compared.

    ``allowed`` are keys that the user lets pass though they could not be checked. ``origins`` say which other revisions
    give the changed ones.
    """

    findings: tuple[MetadataFinding, ...]
    unchecked: str | None = None
    allowed: frozenset[str] = frozenset()
    origins: Origins = field(default_factory=Origins)

    @property
    def status(self) -> Metadata:
        """The worst of all keys."""
        grades = {finding.grade for finding in self.findings if not self.lets_pass(finding)}
        if Grade.SERIOUS in grades:
            return Metadata.CHANGED
        if Grade.UNCHECKED in grades or self.unchecked is not None:
            return Metadata.UNCHECKED
        return Metadata.HARMLESS if self.findings else Metadata.EQUAL

    def lets_pass(self, finding: MetadataFinding) -> bool:
        """Whether the user knows that this could not be checked, and goes on."""
        return finding.grade is Grade.UNCHECKED and finding.key in self.allowed

    @property
    def passed(self) -> frozenset[str]:
        """The keys that were let pass."""
        return frozenset(finding.key for finding in self.findings if self.lets_pass(finding))

    @property
    def sentence(self) -> str:
        """The answer in words."""
        keys = {grade: [each.key for each in self.findings if each.grade is grade] for grade in Grade}
        if changed := keys[Grade.SERIOUS]:
            are = "is" if len(changed) == 1 else "are"
            where = self.origins.sentence(changed)
            return f"the metadata is changed: {listed(changed)} {are} not what the named weights give{where}"
        if self.unchecked is not None:
            return f"the metadata could not be checked: {self.unchecked}"
        harmless = [finding for finding in self.findings if finding.grade is Grade.HARMLESS]
        read = [finding.key for finding in harmless if reads(finding.key) and not finding.passed_over]
        but = f", but for {counted(len(harmless), 'harmless difference')}" if harmless else ""
        but += f" ({listed(read)} among what llama.cpp reads)" if read else ""
        parts = [f"the metadata is what the named weights give{but}"]
        if lost := [key for key in keys[Grade.UNCHECKED] if key not in self.passed]:
            parts = [f"{listed(lost)} could not be checked", f"the rest of {parts[0]}"]
        if self.passed:
            parts.append(f"{listed(sorted(self.passed))} could not be checked, as was allowed")
        return "; ".join(parts)


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def cover(header: Header, count: int | None, seed: int | None) -> Coverage:
    """Decide what is read: ``count`` rows that ``seed`` draws, a random one if ``None``; without a count everything."""
    rows = {tensor.name: prod(tensor.shape[1:]) for tensor in header.tensors if len(tensor.shape) > 1}
    in_all = sum(rows.values())
    endless = tuple(tensor.name for tensor in header.tensors if not tensor.type.is_known)
    alignments = {part.alignment for _, part in files_of(header)} - {DEFAULT_ALIGNMENT}
    alignment = max(alignments, default=DEFAULT_ALIGNMENT)
    if count is None:
        return Coverage(None, None, in_all, in_all, alignment=alignment, endless=endless)
    seed = randbits(64) if seed is None else seed
    drawn, whole = draw(rows, count, seed), runs(rows, seed)
    selected = {name: np.union1d(whole[name], drawn.get(name, whole[name])) for name in rows}
    size = sum(map(len, selected.values()))
    return Coverage(seed, selected, size, in_all, drawn=drawn, alignment=alignment, endless=endless)


def answer_recipe(
    subject: Subject, weights: NamedWeights, imatrix: HashedImatrix | None, sweep: Sweep,
    allowed: frozenset[str] = frozenset(), claims: Sequence[MetadataFinding] = (),
) -> RecipeAnswer:  # fmt: skip
    """What was it made with: which mix of types, which importance matrix, and is that one like measured ones.

    Where ``sweep`` could not find out whether by ``imatrix``, nothing is said of it. ``claims`` are what a manifest
    says otherwise than was found.
    """
    weighed = sweep.weighed
    used = imatrix if weighed else None
    # Where nothing could be found out, its word is all that there is.
    given = used is not None or (subject.with_imatrix and (imatrix is None or weighed is None))
    source = {name: (shape, weights.types[name]) for name, shape in weights.tensors.shapes.items()}
    mix = answer_mix(
        Made(
            subject.header.tensors, source, weights.model, subject.inferred.file_type,
            PurePosixPath(subject.name).name, given, given_to(sweep.used, sweep.excluded),
        )
    )  # fmt: skip
    named = _named(used, sweep) if used else None
    findings = [*mix.findings, *about_label(subject.header), *compare_making(subject.header, named)]
    if imatrix is not None and weighed is not None:
        findings += _about_matrix(subject, imatrix, weighed)
    if used is not None:
        sanity = _sanity(used, sweep)
        mix = replace(mix, sanity=sanity)
        findings += look_at_matrix(used, weights.tensors)
        findings += sanity.findings()
    return with_findings(mix, used, [*findings, *claims], allowed)


def _named(imatrix: HashedImatrix, sweep: Sweep) -> NamedImatrix:
    """What llama-quantize may have noted about an importance matrix, which may have been kept from some tensors."""
    entries = imatrix.content.entries.keys() - sweep.excluded
    return NamedImatrix(len(entries), imatrix.content.chunk_count, len(entries - {*sweep.used}), used=bool(sweep.used))


def _sanity(imatrix: HashedImatrix, sweep: Sweep) -> Sanity:
    """How the importance matrix of a quant looks, and what it did to the tensors that derive from the weights."""
    importances = imatrix.importances()
    compared = [audit for audit in sweep.tensors if audit.searched and audit.tally.blocks]
    ratios = {audit.tensor.name: audit.unweighted.ratio for audit in compared if audit.verdict is not Verdict.MISMATCH}
    errors = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    known = importances.keys() - sweep.excluded
    touched = {each.tensor.name: importances[each.tensor.name] for each in compared if each.tensor.name in known}
    left_out = tuple(audit.tensor.name for audit in compared if audit.weighed and audit.tensor.name not in importances)
    return Sanity(len(importances), sanity_of(touched, errors), left_out, sweep.excluded)


def _about_matrix(subject: Subject, imatrix: HashedImatrix, weighed: bool) -> Iterator[MetadataFinding]:
    """What the subject says of its importance matrix, against the one at hand and its own bytes."""
    if not weighed and subject.with_imatrix:
        sentence = "it says that it was made with an importance matrix, and its bytes are those without one"
        yield MetadataFinding(IMATRIX, Grade.SERIOUS, "with importances", "without", sentence)
    elif weighed and not subject.with_imatrix:
        sentence = f"{imatrix.name} is at hand, of which its header says nothing"
        yield MetadataFinding(IMATRIX, Grade.HARMLESS, ABSENT, imatrix.sha256, sentence)


def answer_metadata(subject: Subject, weights: NamedWeights, allowed: frozenset[str]) -> MetadataAnswer:
    """Does the header say what the converter writes for these weights?"""
    if weights.expected is None:
        return MetadataAnswer((), weights.unknown, allowed)
    findings = compare_metadata(subject.header, weights.expected).findings
    changed = [finding.key for finding in findings if finding.grade is Grade.SERIOUS]
    origins = find_origins(changed, subject.header, weights) if changed else Origins()
    return MetadataAnswer(findings, None, allowed, origins)


def answer_weights(
    subject: Subject, weights: NamedWeights, imatrix: HashedImatrix | None, coverage: Coverage,
    pin: ToolchainPin, jobs: int | None, journal: Journal | None = None, fit_imatrix: bool = False,
) -> Sweep:  # fmt: skip
    """Does each tensor derive from the named weights, as far as is read; ``pin`` is the llama.cpp to derive with.

    What ``journal`` has of the same question is not derived again. With ``fit_imatrix`` importances are read off
    tensors that no importances at hand explain.

    Raises:
        FormatError, SourceError: when a file cannot be read.
        ToolError: when an arithmetic cannot be had.
    """
    importances: Mapping[str, Floats] = {} if imatrix is None else imatrix.importances()
    total = sum(map(coverage.weights_of, subject.header.tensors))
    had_not = {each: why for each in Arithmetic if (why := lacking(each, pin))}
    opener = _opener(pin, total)
    lanes = open_lanes(pin, total, opener)
    material = Material(subject.file, subject.header, weights.tensors, importances, opener, had_not, lanes)
    jobs = jobs or (None if subject.place.is_local and weights.place.is_local else JOBS)
    # A sample is read before it is compared: over a network that is most of the time.
    steps, what = (1, "comparing") if coverage.selected is None else (2, "reading and comparing")
    with progress(steps * total, what, "weights", scale=True) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        found = audit_tensors(material, coverage.selected, jobs, advance, coverage.seed or 0, journal, advance)
    if fit_imatrix:
        recover_importances(material, found.tensors, Making(found.arithmetic, found.via), jobs)
    return found


def _opener(pin: ToolchainPin, work: int) -> Callable[[Arithmetic], Own]:
    return cache(lambda arithmetic: open_quantizer(arithmetic, pin, work))
