"""Going through a quant's tensors: every one derived again, row by row, several batches at a time.

A file comes from one machine, so it is in one arithmetic: the one in which fewest blocks of a first look differ. Blocks
that still differ are explained by the other arithmetic, by a witness, or not at all. ``requant.audit.judgement`` turns
counts into verdicts. Neither knows where the files lie or how results are shown.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

import numpy as np

from requant.audit.judgement import TensorAudit, differs_throughout, judge
from requant.audit.passage import Padding, Passage, look_between
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
    row_bytes,
)
from requant.formats.gguf import Header, Tensor
from requant.formats.ranged import Ranged
from requant.ground.digests import CHUNK
from requant.ground.errors import FormatError
from requant.quantization.derivation import Rows, Tally, compare_rows, derivable
from requant.quantization.quantizer import Quantizer
from requant.quantization.verdict import Verdict

BATCH = 1 << 20
"""Weights that are derived at a time; a row may be longer."""
PROBE = 1 << 17
"""Weights of each type that are looked at first, to find out which arithmetic the file is in."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Material:
    """What a quant is made of, and the quant: everything that is read.

    ``importances`` maps weights to what llama-quantize multiplies with, ``[columns]`` each; ``None`` where the quant
    was made with an importance matrix that is not at hand. Whether they were used is found out. ``quantizer`` opens an
    arithmetic.
    """

    subject: Ranged
    header: Header
    weights: Weights
    importances: Mapping[str, Floats] | None
    quantizer: Callable[[Arithmetic], Quantizer]


@dataclass(frozen=True)
class Making:
    """How a file may have been made: in which arithmetic, of weights that a conversion had rounded to ``via``.

    ``weighed`` says whether with the importances that there are.
    """

    arithmetic: Arithmetic
    via: GGMLType
    weighed: bool = True


@dataclass(frozen=True)
class Sweep:
    """The tensors of a file with their verdicts.

    ``arithmetic``, ``via`` and ``weighed`` are those that the file was found to be in. ``missing`` are weights that it
    lacks. ``blocks`` and ``differing`` count what rounding could have touched. ``padding`` is what was read between
    the tensors, ``sha256`` that of the whole file where all of it was read. ``weighed`` is ``None`` where neither with
    nor without the importances at hand anything fits.
    """

    tensors: tuple[TensorAudit, ...]
    arithmetic: Arithmetic
    via: GGMLType
    missing: tuple[str, ...]
    blocks: int
    differing: int
    weighed: bool | None = True
    padding: Padding = field(default_factory=Padding)
    sha256: str | None = None


@dataclass(frozen=True)
class Compared:
    """What was found in one batch of a tensor; ``reason`` says why it could not be compared."""

    audit: TensorAudit
    tally: Tally
    reason: str | None = None


def audit_tensors(
    material: Material, selected: Mapping[str, Indices] | None, jobs: int | None, progress: Progress, seed: int = 0
) -> Sweep:
    """Check a quant against the weights. What is looked at as a whole is read once, and hashed as it passes.

    Args:
        material: the files.
        selected: rows by tensor; ``None`` for everything. Vectors are always read whole.
        jobs: how many batches at a time; by default one for each core.
        progress: called with numbers of weights that were compared.
        seed: draws what a sample sees of long paddings.

    Raises:
        FormatError, SourceError: when a file cannot be read, or changed meanwhile.
        ToolError: when an arithmetic cannot be had.
    """
    audits = [_prepared(material, tensor, selected) for tensor in material.header.tensors]
    checked = [audit for audit in audits if audit.reason is None]
    jobs = jobs or len(os.sched_getaffinity(0))
    if selected is not None:
        _hold(material, checked, jobs)
    making = _probe(material, checked)
    passage = None if selected is not None else Passage(material.subject, material.header)
    _pass(material, checked, making, jobs, progress, passage)
    making = _reconsidered(material, checked, making, jobs, passage)
    judge(audits, selected is not None)
    padding = passage.padding if passage else look_between(material.subject, material.header, seed)
    return Sweep(
        tensors=tuple(audits),
        arithmetic=making.arithmetic,
        via=making.via,
        missing=tuple(sorted(material.weights.shapes.keys() - {tensor.name for tensor in material.header.tensors})),
        blocks=sum(audit.tally.blocks for audit in checked if audit.searched),
        differing=_differing(checked),
        weighed=None if differs_throughout(audits) else making.weighed,
        padding=padding,
        sha256=passage.sha256 if passage else None,
    )


def _prepared(material: Material, tensor: Tensor, selected: Mapping[str, Indices] | None) -> TensorAudit:
    """Decide whether and which rows of a tensor can be checked; ``reason`` says why not."""
    audit, name = TensorAudit(tensor), tensor.name
    shape = material.weights.shapes.get(name)
    importances = material.importances
    importance = None if importances is None else importances.get(name)
    if shape is None:
        audit.reason, audit.verdict = "the named weights have no such tensor", Verdict.MISMATCH
    elif shape != tensor.shape:
        audit.reason = f"has the shape {list(tensor.shape)}, the weights have {list(shape)}"
        audit.verdict = Verdict.MISMATCH
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
        audit.reason, audit.verdict = f"its importances are of {columns}", Verdict.MISMATCH
    elif selected is not None and len(tensor.shape) > 1:
        audit.selected = selected[name]
    return audit


def _hold(material: Material, audits: list[TensorAudit], jobs: int) -> None:
    """Read all drawn rows, several tensors at a time: over a network most of the time goes into waiting."""

    def read(audit: TensorAudit) -> None:
        audit.held = _stored(material, audit, audit.indices)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for _ in pool.map(read, audits):
                pass
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _probe(material: Material, audits: list[TensorAudit]) -> Making:
    """Find out by a first look at every type how the file was made."""
    looks = list(_looks(audits))
    makings = [
        Making(arithmetic, via, weighed)
        for weighed in ((True, False) if material.importances else (True,))
        for via in material.weights.vias
        for arithmetic in Arithmetic
    ]
    best, fewest = makings[0], None
    for making in makings:
        found = sum(_odd_blocks(material, making, audit, indices) for audit, indices in looks)
        if fewest is None or found < fewest:
            best, fewest = making, found
        if not found:
            break
    return best


def _looks(audits: list[TensorAudit]) -> Iterator[tuple[TensorAudit, Indices]]:
    """Some rows of two tensors of each type."""
    seen: Counter[GGMLType] = Counter()
    for audit in audits:
        if audit.searched and seen[audit.tensor.type] < 2:
            seen[audit.tensor.type] += 1
            rows = max(1, min(PROBE // audit.tensor.shape[0], audit.rows))
            spread = np.unique(np.linspace(0, audit.rows - 1, rows).astype(np.int64))
            yield audit, spread if audit.selected is None else audit.selected[:rows]


def _odd_blocks(material: Material, making: Making, audit: TensorAudit, indices: Indices) -> int:
    """Blocks of some rows that differ from their derivation."""
    rows = _read(material, audit, indices, making)
    if derivable(rows.weights, rows.importance):
        return 0
    if rows.type in NEEDS_IMPORTANCE and rows.importance is None:
        return rows.actual.size // rows.type.type_size
    derived = material.quantizer(making.arithmetic).quantize(rows.type, rows.weights, rows.importance)
    size = rows.type.type_size
    return int((derived.reshape(-1, size) != rows.actual.reshape(-1, size)).any(1).sum())


def _read(
    material: Material, audit: TensorAudit, indices: Indices, making: Making, actual: Bytes | None = None
) -> Rows:
    """Some of the rows to look at, rounded as by a conversion, which leaves vectors alone."""
    held = audit.held
    if held is None:
        rows = _stored(material, audit, indices, actual)
    else:
        rows = held.at(np.searchsorted(held.indices, indices))
    rows = rows if making.weighed else replace(rows, importance=None)
    return rows if len(audit.tensor.shape) == 1 else replace(rows, weights=rounded(rows.weights, making.via))


def _stored(material: Material, audit: TensorAudit, indices: Indices, actual: Bytes | None = None) -> Rows:
    name = audit.tensor.name
    weights = material.weights.rows(name, indices)
    actual = read_rows(material.subject, audit.tensor, indices) if actual is None else actual
    return Rows(audit.tensor.type, weights, (material.importances or {}).get(name), actual, indices)


def _pass(
    material: Material, audits: list[TensorAudit], making: Making, jobs: int, progress: Progress,
    passage: Passage | None,
) -> None:  # fmt: skip
    """Compare all selected rows, several batches at a time; no more are waiting than are worked on."""
    for audit in audits:
        audit.tally = Tally()
    with ThreadPoolExecutor(jobs) as pool:
        running: set[Future[Compared]] = set()

        def collect(most: int) -> None:
            nonlocal running
            while len(running) > most:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for found in (future.result() for future in done):
                    found.audit.tally.add(found.tally)
                    found.audit.reason = found.audit.reason or found.reason
                    progress(found.tally.rows * found.audit.tensor.shape[0])

        try:
            for batch in _batches(audits) if passage is None else _passing(audits, passage, jobs):
                collect(2 * jobs)
                running.add(pool.submit(_compare, material, making, *batch))
            collect(0)
        except BaseException:
            # What has not begun shall not: a dead server would otherwise be asked for every batch.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _reconsidered(
    material: Material, audits: list[TensorAudit], making: Making, jobs: int, passage: Passage | None
) -> Making:
    """Compare all rows in the other arithmetic too, where that explains every difference, and keep what fits better.

    The first look may have seen no difference between the two. A few blocks of the other one in a file that is exact
    otherwise, on the other hand, must not turn the file.
    """
    tallies, differing = [audit.tally for audit in audits], _differing(audits)
    if not differing or any(tally.other != tally.differing for tally in tallies):
        return making
    turned = replace(making, arithmetic=making.arithmetic.other)
    again = passage and Passage(material.subject, material.header)
    _pass(material, audits, turned, jobs, lambda _: None, again)
    if passage and again and again.sha256 != passage.sha256:
        raise FormatError(f"{material.subject.name} changed while it was read: leave it alone and try again")
    if _differing(audits) < differing:
        return turned
    for audit, tally in zip(audits, tallies, strict=True):
        audit.tally = tally
    return making


def _differing(audits: list[TensorAudit]) -> int:
    """Blocks that differ, of those that rounding could have touched."""
    return sum(audit.tally.differing for audit in audits if audit.searched)


def _batches(audits: list[TensorAudit]) -> Iterator[tuple[TensorAudit, Indices, None]]:
    for audit in audits:
        indices, height = audit.indices, _height(audit.tensor)
        for start in range(0, len(indices), height):
            yield audit, indices[start : start + height], None


def _passing(audits: list[TensorAudit], passage: Passage, jobs: int) -> Iterator[tuple[TensorAudit, Indices, Bytes]]:
    """All rows, batch by batch as the file passes; of tensors that are not checked nothing comes here."""
    checked = {audit.tensor.name: audit for audit in audits}

    def step(tensor: Tensor) -> int:
        return _height(tensor) * row_bytes(tensor.type, tensor.shape[0]) if tensor.name in checked else CHUNK

    for tensor, start, data in passage.pieces(step, jobs):
        if audit := checked.get(tensor.name):
            width = row_bytes(tensor.type, tensor.shape[0])
            first = start // width
            rows = np.frombuffer(data, np.uint8).reshape(-1, width)
            yield audit, np.arange(first, first + len(rows)), rows


def _height(tensor: Tensor) -> int:
    """Rows of a batch."""
    return max(1, BATCH // tensor.shape[0])


def _compare(
    material: Material, making: Making, audit: TensorAudit, indices: Indices, actual: Bytes | None
) -> Compared:
    """Compare one batch."""
    rows = _read(material, audit, indices, making, actual)
    if rows.type in NEEDS_IMPORTANCE and rows.importance is None:
        return Compared(audit, Tally(), f"{rows.type.name} needs importances, and the rest was made without")
    if tolerance := material.weights.tolerance(audit.tensor.name):
        return _compare_computed(audit, rows, tolerance)
    if rows.type is not GGMLType.F32 and (why := derivable(rows.weights, rows.importance)):
        return Compared(audit, Tally(), why)
    quantizer = material.quantizer(making.arithmetic)
    return Compared(audit, compare_rows(quantizer, lambda: material.quantizer(making.arithmetic.other), rows))


def _compare_computed(audit: TensorAudit, rows: Rows, tolerance: float) -> Compared:
    """Compare values that the converter computes from config.json, in a precision of its own."""
    if rows.type is not GGMLType.F32:
        return Compared(audit, Tally(), f"is computed, and stored as {rows.type.name}")
    found = rows.actual.view("<f4").reshape(rows.weights.shape)
    near = np.isclose(found, rows.weights, rtol=tolerance, atol=0)
    wrong = int((~near).sum())
    return Compared(audit, Tally(rows=len(found), blocks=found.size, differing=wrong, unexplained=wrong))
