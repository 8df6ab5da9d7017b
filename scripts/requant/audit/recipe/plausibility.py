"""Could an importance matrix come from a run of llama-imatrix over this model, as far as its own numbers tell.

llama-imatrix measures what the matrices inside the blocks are multiplied with: it never sees ``token_embd``, whose rows
are only looked up, and ``output`` only with ``--process-output`` (``collect_imatrix`` in llama.cpp's
``tools/imatrix/imatrix.cpp``). Each token passes each dense weight once. The reader has made sure that all numbers are
finite and none is negative.
"""

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from requant.audit.metadata.comparison import Grade, MetadataFinding
from requant.formats.gguf import quoted
from requant.formats.gguf_values import ABSENT
from requant.formats.imatrix import Entry, Imatrix, apart

OUTPUT = "output.weight"
UNMEASURED = ("token_embd.weight", OUTPUT)
CHUNK_SIZE, CHUNK_COUNT = RUN = ("imatrix.chunk_size", "imatrix.chunk_count")
MAX_CHUNK = 1 << 20
"""Tokens of a chunk; no model has a longer context by far."""


def check_plausible(
    imatrix: Imatrix, shapes: Mapping[str, tuple[int, ...]], matrices: Collection[str]
) -> list[MetadataFinding]:
    """Compare an importance matrix with the model that it is said to be measured on.

    Args:
        imatrix: what was read.
        shapes: the model's tensors, each in ggml's order, the row length first; experts are the third dimension.
        matrices: those of them that activations are multiplied with; norms, biases and the like are none.

    Returns:
        what is not as a run would leave it, empty if all is plausible; ``serious`` where no run gives this.
    """
    expected = [name for name in matrices if name not in UNMEASURED]
    findings = list(_about_run(imatrix.chunk_count, imatrix.chunk_size))
    findings += [
        _serious(name, "an entry", ABSENT, "was not measured: it is quantized as if all columns were alike")
        for name in expected
        if name not in imatrix.entries
    ]
    for name, entry in imatrix.entries.items():
        if name not in shapes:
            findings.append(_serious(name, ABSENT, "an entry", "is no tensor of the model: it was measured on another"))
            continue
        findings += _about_membership(name, expected)
        if imatrix.legacy:
            entry = apart(entry, (*shapes[name], 1, 1)[2])
        wrong = list(_about_shape(name, entry, shapes[name]))
        findings += wrong
        # Counts of other experts than the model's say nothing more.
        if not wrong and imatrix.chunk_size is not None:
            findings += _about_counts(name, entry, imatrix.chunk_count * imatrix.chunk_size)
        findings += _about_zeros(name, entry)
    return findings


def _about_run(count: int, size: int | None) -> Iterator[MetadataFinding]:
    if size is None:
        sentence = "the old format says nothing of tokens: whether all were counted was not checked"
        yield MetadataFinding(CHUNK_SIZE, Grade.HARMLESS, "tokens", ABSENT, sentence)
        return
    if size < 2 or size % 2 or size > MAX_CHUNK:
        wanted = f"an even number from 2 to {MAX_CHUNK:,}"
        yield _serious(CHUNK_SIZE, wanted, f"{size:,}", "is no length of a context")
    if count < 1:
        yield _serious(CHUNK_COUNT, "at least 1", f"{count:,}", "says that nothing was run")


def _about_membership(name: str, expected: Collection[str]) -> Iterator[MetadataFinding]:
    if name == OUTPUT:
        sentence = f"{name} was measured, as llama-imatrix does with --process-output"
        yield MetadataFinding(name, Grade.HARMLESS, ABSENT, "an entry", sentence)
    elif name not in expected:
        yield _serious(name, ABSENT, "an entry", "is nothing that llama-imatrix measures")


def _about_shape(name: str, entry: Entry, shape: tuple[int, ...]) -> Iterator[MetadataFinding]:
    experts, columns = entry.in_sum2.shape
    wanted = shape[0], (*shape, 1, 1)[2]
    if (columns, experts) != wanted:
        model = f"{wanted[0]:,} columns, {wanted[1]:,} experts"
        found = f"{columns:,} columns, {experts:,} experts"
        yield _serious(
            name, model, found, "has another shape than the model's tensor: it was measured on another model"
        )


def _about_counts(name: str, entry: Entry, tokens: int) -> Iterator[MetadataFinding]:
    # Counts are stored as float32, so a huge number of tokens is rounded there as here.
    most, total = float(entry.counts.max()), float(entry.counts.sum(dtype=np.float64))
    rounded = float(np.float32(tokens))
    if len(entry.counts) == 1 and most != rounded:
        yield _serious(
            name, f"{tokens:,} tokens", f"{most:,.0f}", "counts other tokens than the chunks have: the run is another"
        )
    elif most > rounded or not total or (tokens and total % tokens):
        wanted = f"a multiple of {tokens:,} tokens, no more than that for one expert"
        found = f"{total:,.0f} in all, {most:,.0f} for one"
        yield _serious(name, wanted, found, "counts tokens that its experts cannot have seen")


def _about_zeros(name: str, entry: Entry) -> Iterator[MetadataFinding]:
    dead = int(np.count_nonzero((entry.in_sum2 == 0).all(axis=1) & (entry.counts > 0)))
    if dead:
        found = f"{dead:,} of {len(entry.counts):,} experts" if len(entry.counts) > 1 else "all"
        yield _serious(name, "activations", f"{found} are zero", "saw tokens but no activation: nothing was measured")
    if len(entry.counts) > 1 and entry.unseen:
        sentence = f"{quoted(name)} has experts that saw no token: llama-quantize gives their columns importance 1"
        yield MetadataFinding(name, Grade.HARMLESS, "tokens", f"{entry.unseen:,} experts saw none", sentence)


def _serious(key: str, expected: str, actual: str, reason: str) -> MetadataFinding:
    return MetadataFinding(key, Grade.SERIOUS, expected, actual, f"{key} {reason}")
