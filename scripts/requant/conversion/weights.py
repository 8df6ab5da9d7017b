"""The named weights, row by row, under the names and in the order that a GGUF has them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from requant.conversion.layout import Origin
from requant.conversion.sources import Layout
from requant.formats.ggml import PLAIN, Bytes, Floats, GGMLType, Indices, row_bytes
from requant.formats.gguf import Header, Tensor, quoted
from requant.formats.ranged import Ranged
from requant.formats.safetensors import STORED, Checkpoint, StoredTensor, rows_of_many
from requant.ground.errors import FormatError


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


class GGUFWeights:
    """An unquantized GGUF."""

    def __init__(self, file: Ranged, header: Header) -> None:
        self._file, self.shown = file, file.name
        self._tensors = {tensor.name: tensor for tensor in header.tensors}
        self.shapes: Mapping[str, tuple[int, ...]] = {tensor.name: tensor.shape for tensor in header.tensors}
        matrices = {tensor.type for tensor in header.tensors if len(tensor.shape) > 1}
        # What it was rounded to on its way stands in it; only full precision leaves a choice.
        self.vias: tuple[GGMLType, ...] = PLAIN if matrices == {GGMLType.F32} else (GGMLType.F32,)

    def unchecked(self, name: str) -> str | None:
        """Only unquantized tensors can be derived from."""
        kind = self._tensors[name].type
        return None if kind in PLAIN else f"the weights hold it as {kind.name}: name the unquantized weights"

    def rows(self, name: str, indices: Indices) -> Floats:
        """Rows of a tensor, exactly."""
        tensor = self._tensors[name]
        return as_float32(tensor.type, read_rows(self._file, tensor, indices))

    def tolerance(self, name: str) -> float:  # noqa: ARG002 - the protocol's argument
        """Everything is stored."""
        return 0.0

    def plain(self, name: str) -> GGMLType:
        """Vectors of other types lose nothing as F32."""
        tensor = self._tensors[name]
        return tensor.type if len(tensor.shape) > 1 else GGMLType.F32


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
        """Only BF16, F16 and F32 can be read, and only what is known to come from somewhere."""
        if name in self._layout.untold:
            return self._layout.untold[name].why
        stored = self._layout.tensors[name].stored if name in self._layout.tensors else ()
        return next((why for each in stored if (why := self._stored[each].unchecked)), None)

    def rows(self, name: str, indices: Indices) -> Floats:
        """Rows of a tensor in the order of the GGUF."""
        if name in self._layout.computed:
            values = self._layout.computed[name]
            return values.reshape(-1, values.shape[-1])[indices]
        sources = self._layout.tensors[name]
        which, starts = sources.places(indices)
        numbers = np.unique(which)
        parts = [(self._stored[sources.stored[number]], starts[which == number]) for number in numbers]
        rows = gathered(parts, sources.within)
        if len(numbers) == 1:
            return rows[0]
        found = np.empty((len(indices), sources.shape[0]), np.float32)
        for number, part in zip(numbers, rows, strict=True):
            found[which == number] = part
        return found

    def plain(self, name: str) -> GGMLType:
        """A checkpoint stores vectors as it does matrices, and the converter writes them as F32."""
        if name not in self._layout.tensors or len(self.shapes[name]) == 1:
            return GGMLType.F32
        [stored, *others] = {self._stored[each].dtype for each in self._layout.tensors[name].stored}
        return GGMLType.F32 if others or stored not in STORED else GGMLType[stored]

    def tolerance(self, name: str) -> float:
        """What is computed is computed in another precision on another machine, unless it is simple."""
        return self._tolerance if name in self._layout.computed.keys() - self._layout.exact else 0.0


def gathered(parts: Sequence[tuple[StoredTensor, Indices]], within: Indices | None) -> list[Floats]:
    """Rows of several tensors, read together.

    The elements of a row lie ``within`` behind each of a tensor's starts, one after another where that is ``None``.
    """
    if within is not None:
        places = [np.divmod(starts[:, None] + within, stored.columns) for stored, starts in parts]
        needed = [np.unique(rows, return_inverse=True) for rows, _ in places]
        read = rows_of_many([(stored, rows) for (stored, _), (rows, _) in zip(parts, needed, strict=True)])
        return [
            found[back.reshape(rows.shape), columns]
            for found, (_, back), (rows, columns) in zip(read, needed, places, strict=True)
        ]
    return rows_of_many([(stored, _run(starts // stored.columns)) for stored, starts in parts])


def _run(rows: Indices) -> slice | Indices:
    """Rows that follow one another as a slice, which costs nothing to look at."""
    whole = rows.size and rows[-1] - rows[0] == rows.size - 1 and (np.diff(rows) == 1).all()
    return slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows


def rounded(weights: Floats, via: GGMLType) -> Floats:
    """The weights after a conversion to ``via``, as float32; BF16 rounds to nearest, ties to even, as gguf-py does."""
    if via is GGMLType.F16:
        with np.errstate(over="ignore"):
            return weights.astype(np.float16).astype(np.float32)
    if via is GGMLType.BF16:
        bits = np.ascontiguousarray(weights).view(np.uint32)
        even = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
        return np.where(np.isfinite(weights), even.view(np.float32), weights)
    return weights


def as_float32(kind: GGMLType, data: Bytes) -> Floats:
    """Rows of an unquantized type, ``[rows, bytes]``, as float32 ``[rows, columns]``, exactly."""
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
