"""Going through a quant's tensors: every one derived again, row by row, several batches at a time.

A file comes from one machine, so it was made in one way: that in which least of a first look differs. Blocks that still
differ are explained by another way, by a witness, or not at all. ``judgement`` turns counts into verdicts.
Neither knows where the files lie or how results are shown.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from requant.audit.recipe.sanity import Unweighted, look
from requant.audit.weights.fused import FusedWeights
from requant.audit.weights.hashed_weights import HashedWeights
from requant.audit.weights.journal import Entry, Journal
from requant.audit.weights.judgement import differs_throughout, judge
from requant.audit.weights.making import derives, probe
from requant.audit.weights.material import Material, by_expert
from requant.audit.weights.passage import Padding, Passage, changed_meanwhile, look_between
from requant.audit.weights.preparation import missing, prepared
from requant.audit.weights.tensor import TensorAudit
from requant.audit.weights.unknown_importances import dense
from requant.conversion.weights import Weights
from requant.formats.ggml import NEEDS_IMPORTANCE, Arithmetic, Bytes, GGMLType, Indices, row_bytes
from requant.formats.gguf import Tensor
from requant.formats.weights_root import TensorEntry
from requant.ground.cores import cores
from requant.ground.digests import CHUNK
from requant.quantization.derivation import Making, Rows, Tally, compare_copied, compare_evenly, compare_rows, derivable

BATCH = 1 << 20
"""Weights that are derived at a time; a row may be longer."""

Batch = tuple[TensorAudit, Indices, Bytes | None]
Progress = Callable[[int], None]
Outcome = tuple[Tally, Unweighted, str | None]
"""What a pass finds of a tensor; the text is why it could not be compared."""


@dataclass(frozen=True)
class Sweep:
    """The tensors of a file with their verdicts.

    ``arithmetic``, ``via`` and ``weighed`` are those that the file was found to be in. ``missing`` are weights that it
    lacks. ``blocks`` and ``differing`` count what rounding could have touched. ``weighed`` is ``None`` where neither
    with nor without the importances at hand anything fits. ``used`` are the tensors that show that they were made with
    theirs, ``excluded`` those that show that they were not, beside others that were. ``padding`` is what was read
    between the tensors, ``sha256s`` those of its files where all was read, and ``digests`` those of its tensors by
    name; ``source`` are the weights that were read whole, and ``source_root`` is one digest for them if none is left
    out. ``derived_before`` counts tensors that a run before, which was broken off, had derived from the same bytes.
    """

    tensors: tuple[TensorAudit, ...]
    arithmetic: Arithmetic
    via: GGMLType
    missing: tuple[str, ...]
    blocks: int
    differing: int
    weighed: bool | None = True
    used: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    padding: Padding = field(default_factory=Padding)
    sha256s: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    source: tuple[TensorEntry, ...] = ()
    source_root: str | None = None
    derived_before: int = 0


@dataclass(frozen=True)
class Compared:
    """What was found in one batch of so many ``rows`` of a tensor; ``reason`` says why it could not be compared.

    ``unweighted`` is what importances did to some of them.
    """

    audit: TensorAudit
    rows: int
    tally: Tally
    reason: str | None = None
    unweighted: Unweighted = field(default_factory=Unweighted)


def audit_tensors(
    material: Material, selected: Mapping[str, Indices] | None, jobs: int | None, progress: Progress, seed: int = 0,
    journal: Journal | None = None, reading: Progress = lambda _: None,
) -> Sweep:  # fmt: skip
    """Check a quant against the weights. What is looked at as a whole is read once, and hashed as it passes.

    Args:
        material: the files.
        selected: rows by tensor; ``None`` for everything. Vectors are always read whole.
        jobs: how many batches at a time; by default one for each core.
        progress: called with numbers of weights that were compared.
        seed: draws what a sample sees of long paddings.
        journal: what was found before, and will be, of the same question about everything.
        reading: called with numbers of weights of a sample that were read; all are, before any is compared.

    Raises:
        FormatError, SourceError: when a file cannot be read, or changed meanwhile.
        ToolError: when an arithmetic cannot be had.
    """
    audits = [prepared(material, tensor, selected) for tensor in material.header.tensors]
    checked = [audit for audit in audits if audit.reason is None]
    jobs = jobs or cores()
    if selected is not None:
        material.hold(checked, jobs, reading)
    making = probe(material, checked)
    whole = None if selected is not None else _Whole.of(material, journal)
    _pass(material, checked, making, jobs, progress, whole)
    making = _reconsidered(material, checked, making, jobs, whole)
    _turn(material, checked, making, jobs, whole)
    judge(audits, selected is not None, material.lacking)
    used, excluded = _by_importances(material, checked, making)
    padding = whole.passage.padding if whole else look_between(material.subject, material.header, seed)
    return Sweep(
        tensors=tuple(audits),
        arithmetic=making.arithmetic,
        via=making.via,
        missing=missing(material),
        blocks=sum(audit.tally.blocks for audit in checked if audit.searched),
        differing=_differing(checked),
        weighed=None if differs_throughout(audits) else making.weighed or any(audit.turned for audit in checked),
        used=used,
        excluded=excluded if used else (),
        padding=padding,
        sha256s=whole.passage.sha256s if whole else (),
        digests=whole.passage.digests if whole else {},
        source=whole.weights.entries if whole else (),
        source_root=whole.weights.root if whole else None,
        derived_before=journal.taken if journal else 0,
    )


@dataclass(frozen=True)
class _Whole:
    """What is read as a whole, and hashed: the quant and the weights; and what is known of it already.

    ``fused`` says how the weights are put together to what the quant has.
    """

    passage: Passage
    weights: HashedWeights
    journal: Journal | None
    fused: FusedWeights | None

    @classmethod
    def of(cls, material: Material, journal: Journal | None) -> "_Whole":
        fused = material.weights if isinstance(material.weights, FusedWeights) else None
        weights = HashedWeights(material.weights if fused is None else fused.weights)
        return cls(Passage(material.subject, material.header), weights, journal, fused)

    @property
    def read(self) -> Weights:
        """The weights as the quant has them; what is read of them is hashed as they store it."""
        return self.weights if self.fused is None else self.fused.over(self.weights)

    def passed(self, name: str) -> str:
        """The digest of the weights that a tensor was compared with so far; of several, all of theirs."""
        parts = (name,) if self.fused is None else self.fused.parts.get(name, (name,))
        return " ".join(map(self.weights.passed, parts))


def _pass(
    material: Material, audits: list[TensorAudit], making: Making, jobs: int, progress: Progress,
    whole: _Whole | None,
) -> None:  # fmt: skip
    """Compare all selected rows, several batches at a time."""
    for audit in audits:
        audit.tally, audit.unweighted, audit.reason = Tally(), Unweighted(), None
    batches = _batches(audits) if whole is None else _passing(audits, whole.passage, jobs)
    read = material if whole is None else replace(material, weights=whole.read)
    known = whole.journal.entries(making) if whole and whole.journal else {}
    left = {audit.tensor.name: audit.rows for audit in audits}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for found in _compared(pool, 2 * jobs, partial(_compare, read, making, known.keys()), batches):
                audit, name = found.audit, found.audit.tensor.name
                audit.tally.add(found.tally)
                audit.unweighted.add(found.unweighted)
                audit.reason = audit.reason or found.reason
                progress(found.rows * audit.tensor.shape[0])
                left[name] -= found.rows
                if whole and whole.journal and not left[name]:
                    _note(whole, whole.journal, making, audit, known.get(name))
        except BaseException:
            # What has not begun shall not: a dead server would otherwise be asked for every batch.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _note(whole: _Whole, journal: Journal, making: Making, audit: TensorAudit, entry: Entry | None) -> None:
    """All of a tensor has come: write down what was found, or take what is known of the very bytes that came."""
    name = audit.tensor.name
    digest, source = whole.passage.passed(name), whole.passed(name)
    if entry is None:
        journal.add(name, making, Entry(digest, source, audit.tally, audit.unweighted, audit.reason))
        return
    journal.take(name, entry, digest, source)
    audit.tally, audit.unweighted, audit.reason = entry.tally, entry.unweighted, audit.reason or entry.reason


def _compared(
    pool: ThreadPoolExecutor, most: int, compare: Callable[..., Compared], batches: Iterable[Batch]
) -> Iterator[Compared]:
    """The outcomes in any order; no more than ``most`` batches are waiting at a time."""
    running: set[Future[Compared]] = set()
    for batch in batches:
        running.add(pool.submit(compare, *batch))
        if len(running) > most:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    yield from (future.result() for future in as_completed(running))


def _reconsidered(
    material: Material, audits: list[TensorAudit], making: Making, jobs: int, whole: _Whole | None
) -> Making:
    """Compare all rows once more, made in the way that explains most differences, and keep what fits better.

    The first look may have seen no difference between the two. A few blocks of another way in a file that is exact
    otherwise, on the other hand, must not turn the file; nor must a way in which less can be compared.
    """
    differing = _differing(audits)
    others = sum((audit.tally.others for audit in audits), Counter[Making]())
    if 2 * max(others.values(), default=0) <= differing:
        return making
    [(turned, _)] = others.most_common(1)
    before = _again(material, audits, turned, jobs, whole)
    if all(map(_as_many, audits, before)) and _differing(audits) < differing:
        return turned
    for audit, found in zip(audits, before, strict=True):
        _restore(audit, found)
    return making


def _turn(
    material: Material, audits: list[TensorAudit], making: Making, jobs: int, whole: _Whole | None
) -> None:  # fmt: skip
    """Compare tensors once more that differ throughout, where they derive the other way about importances.

    ``--exclude-weights`` and ``--include-weights`` keep importances from some tensors. Either way what is derived is
    what the named weights give, all of it: that leaves nothing to a forger but which of the two it is, and it is said.
    """
    other = replace(making, weighed=not making.weighed)
    known = [audit for audit in audits if audit.weighed and audit.tensor.name in material.importances]
    turned = [audit for audit in known if dense(audit) and derives(material, other, audit)]
    if not turned:
        return
    for audit, found in zip(turned, _again(material, turned, other, jobs, whole), strict=True):
        # Importances that nothing can be derived with explain nothing: what was found before stands.
        audit.turned = _as_many(audit, found) and not dense(audit)
        if not audit.turned:
            _restore(audit, found)


def _again(
    material: Material, audits: list[TensorAudit], making: Making, jobs: int, whole: _Whole | None
) -> list[Outcome]:
    """Compare some tensors once more, if all is read then of the very same bytes; what was found of them before."""
    before = [(audit.tally, audit.unweighted, audit.reason) for audit in audits]
    again = whole and _Whole.of(material, whole.journal)
    _pass(material, audits, making, jobs, lambda _: None, again)
    if whole and again and again.passage.sha256s != whole.passage.sha256s:
        raise changed_meanwhile(material.subject.name)
    if whole and again and not {*again.weights.entries} <= {*whole.weights.entries}:
        raise changed_meanwhile(material.weights.shown)
    return before


def _as_many(audit: TensorAudit, before: Outcome) -> bool:
    """Whether no fewer blocks could be compared than before: of those that could not nothing differs."""
    return audit.tally.blocks >= before[0].blocks


def _restore(audit: TensorAudit, before: Outcome) -> None:
    audit.tally, audit.unweighted, audit.reason = before


def _by_importances(
    material: Material, audits: list[TensorAudit], making: Making
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tensors that derive with the importances that there are for them, and those that do without."""
    known = [audit for audit in audits if audit.weighed and audit.tensor.name in material.importances]
    told = [(audit.tensor.name, making.weighed is not audit.turned) for audit in known if not dense(audit)]
    return tuple(name for name, used in told if used), tuple(name for name, used in told if not used)


def _differing(audits: list[TensorAudit]) -> int:
    """Blocks that differ, of those that rounding could have touched."""
    return sum(audit.tally.differing for audit in audits if audit.searched)


def _batches(audits: list[TensorAudit]) -> Iterator[Batch]:
    for audit in audits:
        indices, height = audit.indices, _height(audit.tensor)
        for start in range(0, len(indices), height):
            yield from _of_experts(audit, indices[start : start + height], None)


def _passing(audits: list[TensorAudit], passage: Passage, jobs: int) -> Iterator[Batch]:
    """All rows, batch by batch as the file passes; of tensors that are not checked nothing comes here."""
    checked = {audit.tensor.name: audit for audit in audits}

    def step(tensor: Tensor) -> int:
        return _height(tensor) * row_bytes(tensor.type, tensor.shape[0]) if tensor.name in checked else CHUNK

    for tensor, start, data in passage.pieces(step, jobs):
        if audit := checked.get(tensor.name):
            width = row_bytes(tensor.type, tensor.shape[0])
            first = start // width
            rows = np.frombuffer(data, np.uint8).reshape(-1, width)
            yield from _of_experts(audit, np.arange(first, first + len(rows)), rows)


def _of_experts(audit: TensorAudit, indices: Indices, actual: Bytes | None) -> Iterator[Batch]:
    """A batch for each expert that the rows belong to."""
    for places in by_expert(audit.tensor, indices):
        yield audit, indices[places], None if actual is None else actual[places]


def _height(tensor: Tensor) -> int:
    """Rows of a batch."""
    return max(1, BATCH // tensor.shape[0])


def _compare(
    material: Material, making: Making, known: Container[str],
    audit: TensorAudit, indices: Indices, actual: Bytes | None,
) -> Compared:  # fmt: skip
    """Compare one batch; of tensors that are ``known`` the weights are only read, so that they are hashed."""
    count = len(indices)
    if audit.tensor.name in known:
        material.weights.rows(audit.tensor.name, indices)
        return Compared(audit, count, Tally())
    rows, ways = material.rows(audit, indices, making, actual), material.ways(audit, making)
    if tolerance := material.weights.tolerance(audit.tensor.name):
        return Compared(audit, count, *_compare_computed(rows, tolerance))
    if rows.copied is not None:
        return Compared(audit, count, compare_copied(rows, rows.copied))
    weights = ways.weights(ways.makings[0], rows)
    if rows.type is not GGMLType.F32 and (why := derivable(weights, rows.importance)):
        return Compared(audit, count, Tally(), why)
    if rows.type in NEEDS_IMPORTANCE and rows.importance is None:
        return Compared(audit, count, compare_evenly(ways, rows))
    unweighted = look(material.quantizer(making.arithmetic), replace(rows, weights=weights), audit.indices)
    return Compared(audit, count, compare_rows(ways, rows), unweighted=unweighted)


def _compare_computed(rows: Rows, tolerance: float) -> tuple[Tally, str | None]:
    """Compare values that the converter computes from config.json, in a precision of its own."""
    if rows.type is not GGMLType.F32:
        return Tally(), f"is computed, and stored as {rows.type.name}"
    found = rows.actual.view("<f4").reshape(rows.weights.shape)
    near = np.isclose(found, rows.weights, rtol=tolerance, atol=0)
    wrong = int((~near).sum())
    return Tally(rows=len(found), blocks=found.size, differing=wrong, unexplained=wrong), None
