"""Reading importance matrices: what llama-imatrix measured, and over which text.

Format: GGUF as llama.cpp's ``tools/imatrix/imatrix.cpp`` writes it and ``common/imatrix-loader.cpp`` reads it. Each
weight has the float32 tensors ``<weight>.in_sum2`` (squared activations, summed over tokens) and ``<weight>.counts``
(tokens); some builds add others, such as ``<weight>.in_sum`` (llama.cpp #14891), which quantization does not use. The
importance of a column is ``in_sum2 / counts``. Older builds wrote the format of ``legacy_imatrix``, read here too.
"""

from dataclasses import dataclass
from io import FileIO
from math import prod
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO, TypeAlias, TypeVar

import numpy as np

from requant.formats.ggml import GGMLType, ValueType
from requant.formats.gguf import DEFAULT_ALIGNMENT, Field, Header, Tensor, read_exactly, read_header
from requant.formats.legacy_imatrix import START, is_legacy, read_legacy
from requant.ground.errors import FormatError

SQUARES = ".in_sum2"
COUNTS = ".counts"
MAX_SIZE = 1 << 31
"""Bytes of a whole file, which is held in memory; those of the largest models take half of this."""

T = TypeVar("T")
Floats: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True, eq=False)
class Entry:
    """What was measured for one weight.

    ``in_sum2`` has shape ``[experts, columns]``, ``counts`` ``[experts]``; both are read-only float32. A dense weight
    has one expert. An expert that saw no token has count 0. Of the old format experts are not known: all its values are
    one expert's.
    """

    in_sum2: Floats
    counts: Floats

    @property
    def unseen(self) -> int:
        """How many experts saw no token."""
        return int(np.count_nonzero(self.counts == 0))


@dataclass(frozen=True, eq=False)
class Imatrix:
    """One importance matrix, entries in the order of the file.

    ``datasets`` are the names of the texts, ``chunk_size`` is in tokens. ``name`` is the file's, for messages. The old
    format knows no ``chunk_size``, may say nothing of ``chunk_count``, which is 0 then, and counts chunks, not tokens.
    """

    name: str
    datasets: list[str]
    chunk_count: int
    chunk_size: int | None
    entries: dict[str, Entry]

    @property
    def legacy(self) -> bool:
        """Whether it was read from the old format."""
        return self.chunk_size is None

    @property
    def run(self) -> str:
        """What was run, for people."""
        size = "unknown length" if self.chunk_size is None else f"{self.chunk_size:,} tokens"
        return f"{self.chunk_count:,} chunks of {size}"

    @property
    def unseen(self) -> dict[str, int]:
        """Weights with experts that saw no token, and how many of them; llama-quantize treats their columns alike."""
        return {name: entry.unseen for name, entry in self.entries.items() if entry.unseen}


def is_imatrix(header: Header) -> bool:
    """Whether a GGUF says of itself that it is an importance matrix."""
    field = header.metadata.get("general.type")
    return field is not None and field.value == "imatrix"


def starts_as_legacy(source: Path | BinaryIO) -> bool:
    """Whether a file begins as an importance matrix in the old format."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return starts_as_legacy(file)
    source.seek(0)
    return is_legacy(source.read(START))


def legacy_header(name: str, size: int) -> Header:
    """What a GGUF's header would say of a file in the old format, which has none: that it is an importance matrix."""
    return Header(name, 0, {"general.type": Field(ValueType.STRING, "imatrix")}, (), DEFAULT_ALIGNMENT, 0, size)


def read_imatrix(source: Path | BinaryIO, name: str | None = None) -> Imatrix:
    """Read an importance matrix whole, in the format of today or the old one.

    Args:
        source: a path, or any seekable binary file.
        name: what messages call the file; by default its own name.

    Raises:
        FormatError: naming the file and the key or tensor, if it is not an importance matrix, a tensor has no partner,
            another type or another shape, or a value is negative, not finite, or (counts) not a whole number.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return read_imatrix(file, name or source.name)
    if starts_as_legacy(source):
        return _from_legacy(source, name or Path(str(getattr(source, "name", "the file"))).name)
    header = read_header(source, name)
    kind = _value(header, "general.type", str, ValueType.STRING)
    if kind != "imatrix":
        raise FormatError(f"{header.name} has general.type {kind!r}: it is not an importance matrix")
    _require_size(header.size, header.name)
    entries = {weight: _read_entry(source, header.name, *pair) for weight, pair in _pairs(header).items()}
    return Imatrix(
        header.name,
        _datasets(header),
        _value(header, "imatrix.chunk_count", int, ValueType.UINT32),
        _value(header, "imatrix.chunk_size", int, ValueType.UINT32),
        entries,
    )


def _require_size(size: int, name: str) -> None:
    if size > MAX_SIZE:
        raise FormatError(f"{name} has {size:,} bytes, more than the {MAX_SIZE:,} allowed: it is hostile")


def _from_legacy(file: BinaryIO, name: str) -> Imatrix:
    size = file.seek(0, SEEK_END)
    _require_size(size, name)
    found = read_legacy(file, size, name)
    # llama-quantize divides by a number of calls only where it is positive.
    entries = {
        each.name: Entry(each.values[None], np.array([max(each.calls, 1)], np.float32)) for each in found.entries
    }
    return Imatrix(name, [found.dataset] if found.dataset else [], found.chunks, None, entries)


def check_run(imatrix: Imatrix, chunks: int, chunk_size: int, dataset: str, shards: int = 1) -> None:
    """Check that an importance matrix comes from the run that was asked for, and can be quantized with.

    Raises:
        FormatError: as ``check_counts``, and when all inputs of a weight were zero.
    """
    check_counts(imatrix, chunks, chunk_size, dataset, shards)
    for weight, entry in imatrix.entries.items():
        # llama-quantize would make zeros of such a weight, without a word.
        dead = (entry.counts > 0) & ~entry.in_sum2.any(axis=1)
        if dead.any():
            raise FormatError(
                f"{imatrix.name} has no importance but zero for {weight!r}: something before it gives zeros for every "
                "token; use other weights"
            )


def check_counts(imatrix: Imatrix, chunks: int, chunk_size: int, dataset: str, shards: int = 1) -> None:
    """Check that an importance matrix comes from the run that was asked for: all of the text, once.

    Args:
        imatrix: what was read.
        chunks: how many chunks were to be run.
        chunk_size: tokens in each.
        dataset: the one text's name, as it was given to llama-imatrix.
        shards: how many matrices were added up; each names the text once.

    Raises:
        FormatError: naming what was expected and what was found. Every token must have passed each dense weight. With
            experts, none can have seen more tokens than there were, and each token takes the same number of them.
    """
    for what, found, expected in (
        ("imatrix.chunk_count", imatrix.chunk_count, chunks),
        ("imatrix.chunk_size", imatrix.chunk_size, chunk_size),
        ("imatrix.datasets", imatrix.datasets, [dataset] * shards),
    ):
        if found != expected:
            raise FormatError(f"{imatrix.name} has {what} {found}, expected {expected}: it comes from another run")
    tokens = chunks * chunk_size
    for weight, entry in imatrix.entries.items():
        # Counts are stored as float32, so a huge number of tokens is rounded there as here.
        most, total = entry.counts.max(), entry.counts.sum(dtype=np.float64)
        if len(entry.counts) == 1 and most != np.float32(tokens):
            raise FormatError(
                f"{imatrix.name} counts {most:,.0f} tokens for {weight!r}, expected {tokens:,}: "
                "it comes from another or an unfinished run"
            )
        if most > np.float32(tokens) or not total or total % tokens:
            raise FormatError(
                f"{imatrix.name} counts {total:,.0f} tokens for the experts of {weight!r}, {most:,.0f} for one of "
                f"them, expected a multiple of {tokens:,} and no more than that for one: it comes from another run"
            )


def _value(header: Header, key: str, python: type[T], kind: ValueType, item: ValueType | None = None) -> T:
    field = header.metadata.get(key)
    if field is None:
        raise FormatError(f"{header.name} has no {key}: it is not an importance matrix of a current llama-imatrix")
    if (field.type, field.item) != (kind, item) or not isinstance(field.value, python):
        raise FormatError(f"{header.name} has a {key} that is not of type {(item or kind).name}: it is damaged")
    return field.value


def _datasets(header: Header) -> list[str]:
    names = []
    for name in _value(header, "imatrix.datasets", list, ValueType.ARRAY, ValueType.STRING):
        if not isinstance(name, str):
            raise FormatError(f"{header.name} has a name in imatrix.datasets that is not UTF-8: it is damaged")
        names.append(name)
    return names


def _pairs(header: Header) -> dict[str, tuple[Tensor, Tensor]]:
    """Group the tensors by weight."""
    groups: dict[str, dict[str, Tensor]] = {}
    for tensor in header.tensors:
        weight, _, suffix = tensor.name.rpartition(".")
        # llama-quantize passes over all others too.
        if not weight or f".{suffix}" not in {SQUARES, COUNTS}:
            continue
        if tensor.type is not GGMLType.F32:
            raise FormatError(f"{header.name} holds {tensor.name!r} as {tensor.type.name}, not F32: it is damaged")
        groups.setdefault(weight, {})[f".{suffix}"] = tensor
    for weight, group in groups.items():
        for suffix in (SQUARES, COUNTS):
            if suffix not in group:
                raise FormatError(f"{header.name} has no tensor {weight + suffix!r} beside its partner: it is damaged")
    if not groups:
        raise FormatError(f"{header.name} holds no importances: it is an empty importance matrix")
    return {weight: (group[SQUARES], group[COUNTS]) for weight, group in groups.items()}


def _read_entry(file: BinaryIO | FileIO, name: str, squares: Tensor, counts: Tensor) -> Entry:
    # ggml drops trailing dimensions of 1, so dense weights come as [columns] and [1].
    columns, experts = (*squares.shape, 1)[:2]
    if prod(squares.shape) != columns * experts or (*counts.shape, 1, 1, 1)[:4] != (1, experts, 1, 1):
        raise FormatError(
            f"{name} has {squares.name!r} of shape {list(squares.shape)} with counts of {list(counts.shape)}, "
            "expected [columns, experts] and [1, experts]: it is damaged"
        )
    entry = Entry(_read_floats(file, name, squares).reshape(experts, columns), _read_floats(file, name, counts))
    if (entry.counts % 1).any():
        raise FormatError(f"{name} has a count in {counts.name!r} that is not a whole number: it is damaged")
    return entry


def _read_floats(file: BinaryIO | FileIO, name: str, tensor: Tensor) -> Floats:
    """Read a tensor flat; the header parser has found all of it inside the file."""
    data = memoryview(bytearray(tensor.nbytes))
    file.seek(tensor.offset)
    read_exactly(file, data, name)
    floats: Floats = np.frombuffer(data.toreadonly(), np.dtype("<f4"))
    if not np.isfinite(floats).all() or floats.min() < 0:
        raise FormatError(f"{name} has a value in {tensor.name!r} that is negative or not finite: it is damaged")
    return floats


def apart(entry: Entry, experts: int) -> Entry:
    """The entry with its experts apart: the old format holds them in one row. What is no such row comes back as it is.

    >>> apart(Entry(np.array([[6, 2, 4, 8]], np.float32), np.array([2], np.float32)), 2).in_sum2.tolist()
    [[6.0, 2.0], [4.0, 8.0]]
    """
    if experts <= 1 or len(entry.counts) > 1 or entry.in_sum2.size % experts:
        return entry
    return Entry(entry.in_sum2.reshape(experts, -1), np.repeat(entry.counts, experts))


def importance(entry: Entry) -> Floats:
    """What llama-quantize makes of an entry: float32 of shape ``[experts, columns]``.

    >>> squares, counts = np.array([[6, 2], [0, 0]], np.float32), np.array([4, 0], np.float32)
    >>> importance(Entry(squares, counts))  # the second expert saw no token
    array([[1.5, 0.5],
           [1. , 1. ]], dtype=float32)
    """
    counts = entry.counts[:, None]
    values: Floats = np.divide(entry.in_sum2, counts, out=np.ones_like(entry.in_sum2), where=counts > 0)
    return values
