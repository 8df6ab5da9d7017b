"""The named weights, row by row, under the names and in the order that a GGUF has them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Protocol

import numpy as np

from requant.conversion.layout import Origin
from requant.conversion.sources import Layout, Scale
from requant.formats.ggml import COPIED, PLAIN, Bytes, Floats, GGMLType, Indices, row_bytes
from requant.formats.gguf import Header, Tensor, quoted
from requant.formats.packed import CODES, FP8, mxfp4_values, pack_mxfp4
from requant.formats.ranged import Ranged
from requant.formats.safetensors import STORED, Checkpoint, Rows, StoredTensor, bytes_of_many, rows_of_many
from requant.ground.errors import FormatError

Read = Callable[[Sequence[tuple[StoredTensor, Rows]]], list[Floats]]


class Weights(Protocol):
    """What a quant is derived from.

    ``shapes`` maps the name of every tensor in a GGUF to its shape in ggml's order, the row length first. ``vias`` are
    the types that a conversion may have rounded the weights to, most likely first.
    """

    shown: str
    shapes: Mapping[str, tuple[int, ...]]
    vias: tuple[GGMLType, ...]

    def unchecked(self, name: str) -> str | None:
        """Why a tensor's weights cannot be read, or ``None`` if they can."""

    def rows(self, name: str, indices: Indices) -> Floats:
        """Rows of a tensor as they are stored: float32 ``[len(indices), columns]``; a vector is one row."""

    def tolerance(self, name: str) -> float:
        """By which part a computed value may differ; 0 for everything that is stored."""

    def plain(self, name: str) -> GGMLType:
        """The type in which a GGUF holds a tensor without loss: F32 for vectors, what a matrix is stored in."""

    def packed(self, name: str, indices: Indices) -> Bytes:
        """Rows of a tensor whose plain type is in ``COPIED``: the bytes ``[len(indices), bytes per row]`` of a GGUF."""


class GGUFWeights:
    """An unquantized GGUF."""

    def __init__(self, file: Ranged, header: Header) -> None:
        self._file, self.shown = file, file.name
        self._tensors = {tensor.name: tensor for tensor in header.tensors}
        self.shapes: Mapping[str, tuple[int, ...]] = {tensor.name: tensor.shape for tensor in header.tensors}
        matrices = {tensor.type for tensor in header.tensors if len(tensor.shape) > 1 and tensor.type not in COPIED}
        # Beside quantized matrices blocks are llama-quantize's; beside plain ones they are what the weights come in.
        self._converted = matrices <= {*PLAIN}
        # What it was rounded to on its way stands in it; only full precision leaves a choice.
        self.vias: tuple[GGMLType, ...] = PLAIN if matrices == {GGMLType.F32} else (GGMLType.F32,)

    def unchecked(self, name: str) -> str | None:
        """Only unquantized tensors can be derived from, or copied."""
        kind = self._tensors[name].type
        known = kind in PLAIN or (kind in COPIED and self._converted)
        return None if known else f"the weights hold it as {kind.name}: name the unquantized weights"

    def rows(self, name: str, indices: Indices) -> Floats:
        """Rows of a tensor, exactly."""
        return as_float32(self._tensors[name].type, self.packed(name, indices))

    def packed(self, name: str, indices: Indices) -> Bytes:
        """Rows of a tensor as they stand in the file."""
        return read_rows(self._file, self._tensors[name], indices)

    def tolerance(self, name: str) -> float:  # noqa: ARG002 - the protocol's argument
        """Everything is stored."""
        return 0.0

    def plain(self, name: str) -> GGMLType:
        """Vectors of other types lose nothing as F32."""
        tensor = self._tensors[name]
        return tensor.type if len(tensor.shape) > 1 or tensor.type in COPIED else GGMLType.F32


class CheckpointWeights:
    """A safetensors checkpoint, seen through what the converter would make of it."""

    def __init__(self, checkpoint: Checkpoint, layout: Layout, tolerance: float) -> None:
        self._stored, self._layout, self.shown = checkpoint.tensors, layout, checkpoint.shown
        self._tolerance = tolerance
        shapes = {name: sources.shape for name, sources in layout.tensors.items()}
        shapes |= {name: tuple(reversed(values.shape)) for name, values in layout.computed.items()}
        self.shapes: Mapping[str, tuple[int, ...]] = shapes | {name: each.shape for name, each in layout.untold.items()}
        for name, sources in layout.tensors.items():
            if isinstance(sources, Origin):
                self._require_shape(name, sources)
        matrices = [sources for sources in layout.tensors.values() if len(sources.shape) > 1]
        matrices = [sources for sources in matrices if sources.type not in COPIED]  # these are not rounded
        stored = {self._stored[name].dtype for sources in matrices for name in sources.stored}
        # A BF16 checkpoint loses nothing as BF16 or F32; F16 cannot hold its smallest numbers.
        from_bf16 = (GGMLType.F32, GGMLType.F16)
        self.vias: tuple[GGMLType, ...] = (
            from_bf16 if stored == {"BF16"} else (GGMLType.BF16, GGMLType.F16, GGMLType.F32)
        )

    def _require_shape(self, name: str, origin: Origin) -> None:
        found = self._stored[origin.name].shape
        if found != tuple(reversed(origin.shape)):
            raise FormatError(
                f"{self.shown} holds {quoted(origin.name)} in the shape {list(found)}, its config.json means "
                f"{list(reversed(origin.shape))} for {quoted(name)}: get both from one place"
            )

    def unchecked(self, name: str) -> str | None:
        """Only what is known to come from somewhere; BF16, F16 and F32, and what is packed with known scales."""
        if name in self._layout.untold:
            return self._layout.untold[name].why
        stored = self._layout.tensors[name].stored if name in self._layout.tensors else ()
        plain = [each for each in stored if each not in self._layout.scales]
        return next((why for each in plain if (why := self._stored[each].unchecked)), None)

    def rows(self, name: str, indices: Indices) -> Floats:
        """Rows of a tensor in the order of the GGUF."""
        if name in self._layout.computed:
            values = self._layout.computed[name]
            return values.reshape(-1, values.shape[-1])[indices]
        sources = self._layout.tensors[name]
        if sources.type in COPIED:
            return as_float32(sources.type, self.packed(name, indices))
        which, starts = sources.places(indices)
        numbers = np.unique(which)
        parts = [(self._stored[sources.stored[number]], starts[which == number]) for number in numbers]
        rows = gathered(self._read, parts, sources.within)
        if len(numbers) == 1:
            return rows[0]
        found = np.empty((len(indices), sources.shape[0]), np.float32)
        for number, part in zip(numbers, rows, strict=True):
            found[which == number] = part
        return found

    def _read(self, wanted: Sequence[tuple[StoredTensor, Rows]]) -> list[Floats]:
        """Stored rows; those with scales are multiplied."""
        scales = [self._layout.scales.get(stored.name) for stored, _ in wanted]
        if not any(scales):
            return rows_of_many(wanted)
        scaled = [(each, scale, self._stored[scale.name]) for each, scale in zip(wanted, scales, strict=True) if scale]
        plain = [each for each, scale in zip(wanted, scales, strict=True) if not scale]
        found, others = iter(scaled_rows(scaled)), iter(rows_of_many(plain))
        return [next(found if scale else others) for scale in scales]

    def packed(self, name: str, indices: Indices) -> Bytes:
        """Rows of MXFP4 in ggml's order."""
        sources = self._layout.tensors[name]
        which, starts = sources.places(indices)
        found = np.empty((len(indices), row_bytes(sources.type, sources.shape[0])), np.uint8)
        for number in np.unique(which):
            at, codes = which == number, sources.stored[number]
            found[at] = packed_rows(self._stored[codes], self._stored[self._layout.scales[codes].name], starts[at])
        return found

    def plain(self, name: str) -> GGMLType:
        """A checkpoint stores vectors as it does matrices, and the converter writes them as F32."""
        if name in self._layout.tensors and (kind := self._layout.tensors[name].type) in COPIED:
            return kind
        if name not in self._layout.tensors or len(self.shapes[name]) == 1:
            return GGMLType.F32
        [stored, *others] = {self._stored[each].dtype for each in self._layout.tensors[name].stored}
        return GGMLType.F32 if others or stored not in STORED else GGMLType[stored]

    def tolerance(self, name: str) -> float:
        """What is computed is computed in another precision on another machine, unless it is simple."""
        return self._tolerance if name in self._layout.computed.keys() - self._layout.exact else 0.0


def gathered(read: Read, parts: Sequence[tuple[StoredTensor, Indices]], within: Indices | None) -> list[Floats]:
    """Rows of several tensors, which ``read`` reads together.

    The elements of a row lie ``within`` behind each of a tensor's starts, one after another where that is ``None``.
    """
    if within is not None:
        places = [np.divmod(starts[:, None] + within, stored.columns) for stored, starts in parts]
        needed = [np.unique(rows, return_inverse=True) for rows, _ in places]
        whole = read([(stored, rows) for (stored, _), (rows, _) in zip(parts, needed, strict=True)])
        return [
            found[back.reshape(rows.shape), columns]
            for found, (_, back), (rows, columns) in zip(whole, needed, places, strict=True)
        ]
    return read([(stored, _run(starts // stored.columns)) for stored, starts in parts])


def _run(rows: Indices) -> slice | Indices:
    """Rows that follow one another as a slice, which costs nothing to look at."""
    whole = rows.size and rows[-1] - rows[0] == rows.size - 1 and (np.diff(rows) == 1).all()
    return slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows


def scaled_rows(wanted: Sequence[tuple[tuple[StoredTensor, Rows], Scale, StoredTensor]]) -> list[Floats]:
    """Rows of FP8 times their scales, in float32 as upstream multiplies them: ``dequant_simple`` of its converter.

    Each with its scale and the tensor that holds the scale's numbers; those of one file come together.
    """
    looks: list[tuple[StoredTensor, Rows]] = []
    for (stored, indices), scale, numbers in wanted:
        rows = np.arange(indices.start, indices.stop) if isinstance(indices, slice) else np.asarray(indices, np.int64)
        each = -(-stored.columns // scale.columns)
        whole = replace(numbers, shape=(prod(numbers.shape) // each, each))
        looks += [(stored, indices), (whole, rows // scale.rows)]
    read, found = iter(bytes_of_many(looks)), []
    for (stored, _), scale, numbers in wanted:
        values = FP8[stored.dtype][next(read)]
        by = np.repeat(as_float32(GGMLType[numbers.dtype], next(read)), scale.columns, 1)[:, : stored.columns]
        with np.errstate(over="ignore", invalid="ignore"):  # of NaN and infinity nothing is derived
            found.append(values * by)
    return found


def packed_rows(codes: StoredTensor, scales: StoredTensor, starts: Indices) -> Bytes:
    """Rows of MXFP4 in ggml's order: those that start at these bytes of ``codes``, ``[..., rows, blocks, 16]``."""
    blocks = codes.shape[-2]
    whole = replace(codes, shape=(codes.rows // blocks, blocks * CODES))
    rows = starts // whole.columns
    halves, exponents = bytes_of_many([(whole, rows), (scales, rows)])
    return pack_mxfp4(halves.reshape(-1, blocks, CODES), exponents)


def rounded(weights: Floats, via: GGMLType) -> Floats:
    """The weights after a conversion to ``via``, as float32; BF16 rounds to nearest, ties to even, as gguf-py does."""
    if via is GGMLType.F16:
        with np.errstate(over="ignore"):
            return weights.astype(np.float16).astype(np.float32)
    if via is GGMLType.BF16:
        bits = np.ascontiguousarray(weights).view(np.uint32)
        even = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
        # A NaN with bits in the lower half alone would become infinity, so all get one in the upper half.
        quiet = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x400000)
        return np.where(np.isnan(weights), quiet, even).view(np.float32)
    return weights


def as_float32(kind: GGMLType, data: Bytes) -> Floats:
    """Rows of an unquantized type, ``[rows, bytes]``, as float32 ``[rows, columns]``, exactly; of MXFP4 too.

    What is copied alone has no columns then.
    """
    if kind is GGMLType.MXFP4:
        return mxfp4_values(data)
    if kind in COPIED:
        return np.zeros((len(data), 0), np.float32)
    if kind is GGMLType.BF16:
        found: Floats = (data.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
        return found
    return data.view("<f2" if kind is GGMLType.F16 else "<f4").astype(np.float32, copy=False)


def read_rows(file: Ranged, tensor: Tensor, indices: Indices) -> Bytes:
    """Rows of a GGUF's tensor as bytes, ``[len(indices), bytes per row]``; a vector is one row.

    Raises:
        FormatError, SourceError: when they cannot be read.
    """
    width = row_bytes(tensor.type, tensor.shape[0])
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    runs = [(int(run[0]), len(run)) for run in np.split(indices, breaks) if len(run)]
    pieces = file.read_many([(tensor.offset + first * width, count * width) for first, count in runs])
    return np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), np.uint8).reshape(-1, width)
