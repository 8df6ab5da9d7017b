"""The audit of a quant's tensors: every one derived again, row by row, and what that says of the file as a whole.

A file comes from one machine, so it is in one arithmetic: the one in which fewest blocks of a first look differ. Blocks
that still differ are explained by the other arithmetic, by a witness, or not at all. ``judge`` turns counts into
verdicts. Reading, deriving and judging know nothing of where the files lie or how results are shown.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from math import prod

import numpy as np

from requant.conversion.weights import Weights, read_rows, rounded
from requant.formats.ggml import (
    DERIVED,
    NEEDS_IMPORTANCE,
    PLAIN,
    Arithmetic,
    Bytes,
    Floats,
    GGMLType,
    Indices,
)
from requant.formats.gguf import Header, Tensor
from requant.formats.ranged import Ranged
from requant.quantization.derivation import Rows, Tally, compare_rows, derivable
from requant.quantization.quantizer import Quantizer

BATCH = 1 << 20
"""Weights that are derived at a time; a row may be longer."""
PROBE = 1 << 17
"""Weights of each type that are looked at first, to find out which arithmetic the file is in."""

EXACT, NEAR, MISMATCH, UNCHECKED = "exact", "near", "mismatch", "unchecked"
Progress = Callable[[int], None]


@dataclass
class TensorAudit:
    """One tensor of the subject: what was found, and in the end a verdict.

    ``selected`` are the rows to look at, ``None`` for all; ``held`` are these rows, weights and quant, once they have
    been read. ``reason`` says why a tensor is unchecked, or what is wrong with it as a whole.
    """

    tensor: Tensor
    selected: Indices | None = None
    tally: Tally = field(default_factory=Tally)
    reason: str | None = None
    verdict: str = UNCHECKED
    held: tuple[Floats, Bytes] | None = None

    @property
    def undrawn(self) -> bool:
        """Whether the sample holds no row of it."""
        return self.selected is not None and not self.selected.size

    @property
    def rows(self) -> int:
        """Rows of the whole tensor."""
        return prod(self.tensor.shape[1:])

    @property
    def searched(self) -> bool:
        """Whether its type is found by a search, so that rounding can matter: not for plain numbers and Q8_0."""
        return self.tensor.type not in (*PLAIN, GGMLType.Q8_0)


@dataclass(frozen=True)
class Material:
    """What a quant is made of, and the quant: everything the audit reads.

    ``importances`` maps weights to what llama-quantize multiplies with, ``[columns]`` each; ``None`` where the quant
    was made with an importance matrix that is not at hand. ``quantizer`` opens an arithmetic by name.
    """

    subject: Ranged
    header: Header
    weights: Weights
    importances: Mapping[str, Floats] | None
    quantizer: Callable[[Arithmetic], Quantizer]


@dataclass(frozen=True)
class Outcome:
    """The tensors of a file with their verdicts.

    ``arithmetic`` and ``via`` are those that the file was found to be in. ``missing`` are weights that it lacks.
    ``blocks`` and ``differing`` count what rounding could have touched.
    """

    tensors: list[TensorAudit]
    arithmetic: Arithmetic
    via: GGMLType
    missing: tuple[str, ...]
    blocks: int
    differing: int


def audit_tensors(
    material: Material, selected: Mapping[str, Indices] | None, jobs: int | None, progress: Progress
) -> Outcome:
    """Check a quant against the weights.

    Args:
        material: the files.
        selected: rows by tensor; ``None`` for everything. Vectors are always read whole.
        jobs: how many batches at a time; by default one for each core.
        progress: called with numbers of weights that were compared.

    Raises:
        FormatError, SourceError: when a file cannot be read.
        ToolError: when an arithmetic cannot be had.
    """
    audits = [_prepared(material, tensor, selected) for tensor in material.header.tensors]
    checked = [audit for audit in audits if audit.reason is None]
    jobs = jobs or len(os.sched_getaffinity(0))
    if selected is not None:
        _hold(material, checked, jobs)
    arithmetic, via = _probe(material, checked)
    _pass(material, checked, arithmetic, via, jobs, progress)
    arithmetic = _reconsidered(material, checked, arithmetic, via, jobs)
    blocks, differing = _totals(checked)
    missing = tuple(sorted(material.weights.shapes.keys() - {tensor.name for tensor in material.header.tensors}))
    judge(audits, selected is not None)
    return Outcome(audits, arithmetic, via, missing, blocks, differing)


def _prepared(material: Material, tensor: Tensor, selected: Mapping[str, Indices] | None) -> TensorAudit:
    """Decide whether and which rows of a tensor can be checked; ``reason`` says why not."""
    audit, name = TensorAudit(tensor), tensor.name
    shape = material.weights.shapes.get(name)
    importances = material.importances
    importance = None if importances is None else importances.get(name)
    if shape is None:
        audit.reason, audit.verdict = "the named weights have no such tensor", MISMATCH
    elif shape != tensor.shape:
        audit.reason, audit.verdict = f"has the shape {list(tensor.shape)}, the weights have {list(shape)}", MISMATCH
    elif tensor.type not in DERIVED:
        audit.reason = f"{tensor.type.name} is not derived by this version"
    elif why := material.weights.unchecked(name):
        audit.reason = why
    elif tensor.type not in PLAIN and importances is None:
        audit.reason = "was made with an importance matrix that is not at hand: name it with --imatrix"
    elif tensor.type in NEEDS_IMPORTANCE and importance is None:
        audit.reason = f"{tensor.type.name} needs importances, and the importance matrix has none for it"
    elif importance is not None and importance.shape != tensor.shape[:1]:
        columns = f"{importance.size:,} columns, the tensor has {tensor.shape[0]:,}"
        audit.reason, audit.verdict = f"its importances are of {columns}", MISMATCH
    elif selected is not None and len(tensor.shape) > 1:
        audit.selected = selected.get(name, np.arange(0))
        if audit.undrawn:
            audit.reason = "no row of it was drawn"
    return audit


def _hold(material: Material, audits: list[TensorAudit], jobs: int) -> None:
    """Read all drawn rows, several tensors at a time: over a network most of the time goes into waiting."""

    def read(audit: TensorAudit) -> None:
        rows = np.arange(1) if audit.selected is None else audit.selected
        weights = material.weights.rows(audit.tensor.name, rows)
        audit.held = weights, read_rows(material.subject, audit.tensor, rows)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for _ in pool.map(read, audits):
                pass
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _probe(material: Material, audits: list[TensorAudit]) -> tuple[Arithmetic, GGMLType]:
    """Find out by a first look at every type which arithmetic the file is in, and what the weights were rounded to."""
    vias = material.weights.vias
    looks: dict[GGMLType, list[tuple[TensorAudit, Indices]]] = {}
    for audit in audits:
        some = looks.setdefault(audit.tensor.type, [])
        if audit.searched and len(some) < 2:
            rows = max(1, min(PROBE // audit.tensor.shape[0], audit.rows))
            spread = np.unique(np.linspace(0, audit.rows - 1, rows).astype(np.int64))
            some.append((audit, spread if audit.selected is None else audit.selected[:rows]))
    best, fewest = (Arithmetic.STRICT, vias[0]), -1
    for via in vias:
        for name in Arithmetic:
            found = sum(_differing(material, name, via, *look) for some in looks.values() for look in some)
            if fewest < 0 or found < fewest:
                best, fewest = (name, via), found
            if not found:
                return best
    return best


def _differing(material: Material, arithmetic: Arithmetic, via: GGMLType, audit: TensorAudit, rows: Indices) -> int:
    """Blocks of some rows that differ from their derivation."""
    weights, importance, actual = _read(material, audit, rows, via)
    if derivable(weights, importance):
        return 0
    derived = material.quantizer(arithmetic).quantize(audit.tensor.type, weights, importance)
    size = audit.tensor.type.type_size
    return int((derived.reshape(-1, size) != actual.reshape(-1, size)).any(1).sum())


def _read(material: Material, audit: TensorAudit, rows: Indices, via: GGMLType) -> tuple[Floats, Floats | None, Bytes]:
    name = audit.tensor.name
    if audit.held is None:
        weights, actual = material.weights.rows(name, rows), read_rows(material.subject, audit.tensor, rows)
    else:
        at = np.arange(1) if audit.selected is None else np.searchsorted(audit.selected, rows)
        weights, actual = audit.held[0][at], audit.held[1][at]
    if len(audit.tensor.shape) > 1:
        weights = rounded(weights, via)
    return weights, (material.importances or {}).get(name), actual


def _pass(
    material: Material, audits: list[TensorAudit], arithmetic: Arithmetic, via: GGMLType, jobs: int, progress: Progress
) -> None:
    """Compare all selected rows, several batches at a time; no more are waiting than are worked on."""
    for audit in audits:
        audit.tally = Tally()

    def work(audit: TensorAudit, rows: Indices) -> tuple[TensorAudit, Tally, str | None]:
        return audit, *_compare(material, audit, rows, arithmetic, via)

    with ThreadPoolExecutor(jobs) as pool:
        running: set[Future[tuple[TensorAudit, Tally, str | None]]] = set()

        def collect(most: int) -> None:
            nonlocal running
            while len(running) > most:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    audit, tally, reason = future.result()
                    audit.tally.add(tally)
                    audit.reason = audit.reason or reason
                    progress(tally.rows * audit.tensor.shape[0])

        try:
            for audit, rows in _batches(audits):
                collect(2 * jobs)
                running.add(pool.submit(work, audit, rows))
            collect(0)
        except BaseException:
            # What has not begun shall not: a dead server would otherwise be asked for every batch.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _reconsidered(
    material: Material, audits: list[TensorAudit], arithmetic: Arithmetic, via: GGMLType, jobs: int
) -> Arithmetic:
    """Compare all rows in the other arithmetic too, where that explains every difference, and keep what fits better.

    The first look may have seen no difference between the two. A few blocks of the other one in a file that is exact
    otherwise, on the other hand, must not turn the file.
    """
    tallies, differing = [audit.tally for audit in audits], _totals(audits)[1]
    if not differing or any(tally.other != tally.differing for tally in tallies):
        return arithmetic
    _pass(material, audits, arithmetic.other, via, jobs, lambda _: None)
    if _totals(audits)[1] < differing:
        return arithmetic.other
    for audit, tally in zip(audits, tallies, strict=True):
        audit.tally = tally
    return arithmetic


def _batches(audits: list[TensorAudit]) -> Iterator[tuple[TensorAudit, Indices]]:
    for audit in audits:
        rows = np.arange(audit.rows) if audit.selected is None else audit.selected
        height = max(1, BATCH // audit.tensor.shape[0])
        for start in range(0, len(rows), height):
            yield audit, rows[start : start + height]


def _compare(
    material: Material, audit: TensorAudit, rows: Indices, arithmetic: Arithmetic, via: GGMLType
) -> tuple[Tally, str | None]:
    """Compare one batch; the text says why that was not possible."""
    weights, importance, actual = _read(material, audit, rows, via)
    kind, tolerance = audit.tensor.type, material.weights.tolerance(audit.tensor.name)
    if tolerance:
        return _compare_computed(weights, actual, kind, tolerance)
    if kind is not GGMLType.F32 and (why := derivable(weights, importance)):
        return Tally(), why
    quantizer = material.quantizer(arithmetic)
    batch = Rows(kind, weights, importance, actual, rows)
    tally = compare_rows(quantizer, lambda: material.quantizer(arithmetic.other), batch)
    return tally, None


def _compare_computed(weights: Floats, actual: Bytes, kind: GGMLType, tolerance: float) -> tuple[Tally, str | None]:
    """Compare values that the converter computes from config.json, in a precision of its own."""
    if kind is not GGMLType.F32:
        return Tally(), f"is computed, and stored as {kind.name}"
    found = actual.view("<f4").reshape(weights.shape)
    near = np.isclose(found, weights, rtol=tolerance, atol=0)
    wrong = int((~near).sum())
    return Tally(rows=len(weights), blocks=weights.size, differing=wrong, unexplained=wrong), None


def _totals(audits: list[TensorAudit]) -> tuple[int, int]:
    searched = [audit for audit in audits if audit.searched]
    return sum(audit.tally.blocks for audit in searched), sum(audit.tally.differing for audit in searched)


NEAR_MOST = 0.05
"""Share of blocks that may differ in a ``near`` file; honest compilers were seen to make 0.05 to 1 %."""
NEAR_LEAST = 5e-5
"""Share of blocks that must differ, and in two tensors at least: a few odd blocks are no other compiler's work."""


def judge(audits: list[TensorAudit], sampled: bool) -> None:
    """Give every tensor its verdict, by what was found in it and in the file as a whole.

    One file is in one arithmetic. So differences that a witness explains count as another compiler's only if they are
    spread over the file. A few in a file that is exact otherwise are alterations; in a sample nobody can tell.
    """
    explained = [audit for audit in audits if audit.searched and audit.tally.differing > audit.tally.unexplained]
    blocks = sum(audit.tally.blocks for audit in audits if audit.searched)
    count = sum(audit.tally.differing - audit.tally.unexplained for audit in explained)
    searched = sum(audit.searched and audit.tally.blocks > 0 for audit in audits)
    spread = len(explained) >= min(2, searched) and count >= max(2, blocks * NEAR_LEAST)
    for audit in audits:
        tally = audit.tally
        if audit.reason is not None and not tally.unexplained:
            continue
        if not tally.differing:
            audit.verdict = EXACT
        elif tally.unexplained or count > NEAR_MOST * blocks:
            audit.verdict = MISMATCH
        elif spread:
            audit.verdict = NEAR
        elif sampled:
            audit.verdict = UNCHECKED
            audit.reason = "too few rows to tell another compiler's rounding from an alteration: draw more, or --full"
        else:
            audit.verdict = MISMATCH
            audit.reason = "differs where rounding could explain it, in a file that is exact otherwise"
