"""What differs between two GGUF files: metadata, tensors, and by how much the weights differ that they stand for.

The relative difference of a tensor is ``RMS(a - b) / max(RMS(a), RMS(b))`` over all its dequantized weights, and 0
where both are 0. Every number is the same with A and B exchanged. Both files are read in pieces, once; only a tensor
that differs is read a second time, for its weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from requant.difference.summary import summed_up
from requant.formats.ggml import DERIVED, Bytes, GGMLType
from requant.formats.gguf import Header, Tensor, require_zeros
from requant.formats.gguf_parts import files_of, read_gguf
from requant.formats.gguf_regions import gaps
from requant.formats.gguf_values import ABSENT, differing, shown
from requant.formats.ranged import Ranged
from requant.ground.digests import CHUNK
from requant.ground.errors import FormatError, naming
from requant.ground.text import counted, printable
from requant.places.place import LocalPlace
from requant.quantization.quantizer import Quantizer

PIECE = 1 << 18
"""Weights that are looked at together; a multiple of every type's block."""
NUMBERS = {
    GGMLType.F32: "<f4", GGMLType.F16: "<f2", GGMLType.F64: "<f8",
    GGMLType.I8: "i1", GGMLType.I16: "<i2", GGMLType.I32: "<i4", GGMLType.I64: "<i8",
}  # fmt: skip
"""Types that numpy reads; BF16 is the upper half of F32, and all others need llama.cpp's own code."""

Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Open: TypeAlias = Callable[[], Quantizer]
"""Gives what dequantizes; called only where a quantized tensor differs, so nothing is built for equal files."""


@dataclass(frozen=True)
class Change:
    """One thing that differs, and what it is in A and in B; all three are printable."""

    place: str
    a: str
    b: str


@dataclass(frozen=True)
class TensorDiff:
    """One tensor of both files, of the same shape, whose bytes or type differ.

    ``shape`` is in ggml's order, the row length first; ``types`` are those in A and B. ``blocks`` and ``bytes`` say how
    many differ, ``of_blocks`` and ``of_bytes`` of how many; all four are ``None`` where the types differ, or what is
    left for a type of no known size, whose blocks are taken for bytes. ``relative``
    and ``largest`` (the largest absolute difference of a weight) are ``None`` where requant cannot read a type, and
    not finite where a weight is not.
    """

    name: str
    shape: tuple[int, ...]
    types: tuple[GGMLType, GGMLType]
    blocks: int | None
    of_blocks: int | None
    bytes: int | None
    of_bytes: int | None
    relative: float | None
    largest: float | None


@dataclass(frozen=True)
class GGUFDiff:
    """Two GGUF files A and B, or all parts of each. Where nothing is listed, they are equal, byte for byte.

    ``layout`` is how the files are put together: their number, version, alignment, orders and places. ``keys`` are
    metadata; tensors that are in one only, or have another shape, are in ``unmatched``. ``equal`` counts equal tensors.
    """

    layout: tuple[Change, ...]
    keys: tuple[Change, ...]
    unmatched: tuple[Change, ...]
    tensors: tuple[TensorDiff, ...]
    equal: int

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.layout or self.keys or self.unmatched or self.tensors)

    @property
    def summary(self) -> str:
        """One sentence: the same, or in what they differ."""
        differing = len(self.unmatched) + len(self.tensors)
        tensors = counted(differing + self.equal, "tensor")
        parts = (
            (len(self.layout), "how they are laid out"),
            (len(self.keys), counted(len(self.keys), "key")),
            (differing, f"{differing:,} of {tensors}"),
        )
        return summed_up(self.same, f"all keys and {tensors} are equal", parts)


def diff_gguf(a: Path, b: Path, quantizer: Open | None) -> GGUFDiff:
    """Find everything that differs between two GGUF files; of a split one, any part names all.

    Without a ``quantizer``, the weights of quantized tensors are not compared.

    Raises:
        FormatError: when one of them cannot be read or is damaged (which of them is said).
        SourceError: when the disk does not give what it holds.
        RequantError: what ``quantizer`` raises.
    """
    quantizer = quantizer and cache(quantizer)
    with ExitStack() as closing:
        files, headers = zip(*(_open(label, path, closing) for label, path in (("A", a), ("B", b))), strict=True)
        tensors = [{tensor.name: tensor for tensor in header.tensors} for header in headers]
        shared = [(tensors[0][name], tensors[1][name]) for name in tensors[0] if name in tensors[1]]
        matched = [pair for pair in shared if pair[0].shape == pair[1].shape]
        found = [diff for pair in matched if (diff := _diff_tensor(files, pair, quantizer))]
    return GGUFDiff(
        tuple(_layout(headers, shared)),
        tuple(_keys(*(header.metadata for header in headers))),
        tuple(_unmatched(*tensors)),
        tuple(found),
        len(matched) - len(found),
    )


def _open(label: str, path: Path, closing: ExitStack) -> tuple[Ranged, Header]:
    """Read a header, and all bytes that belong to no tensor: they must be zero, so none can differ unseen."""
    with naming(label, path):
        if not path.is_file():
            raise FormatError(f"{path} is no file: name two GGUF files, or two release folders")
        file, header = read_gguf(closing.enter_context(LocalPlace(path, path.name)), path.name)
        for offset, part in files_of(header):
            for start, stop in gaps(part):
                for position in range(start, stop, CHUNK):
                    require_zeros(file.read(offset + position, min(CHUNK, stop - position)), part.name)
        return file, header


def _keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    for key in [*a, *(key for key in b if key not in a)]:
        if key not in a or key not in b:
            sides = (shown(side[key]) if key in side else ABSENT for side in (a, b))
            yield Change(printable(key), *sides)
        elif a[key] != b[key]:
            before, after, _ = differing(a[key], b[key])
            yield Change(printable(key), before, after)


def _unmatched(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Iterator[Change]:
    for name in [*a, *(name for name in b if name not in a)]:
        if name not in a or name not in b or a[name].shape != b[name].shape:
            yield Change(name, *(_describe(side.get(name)) for side in (a, b)))


def _describe(tensor: Tensor | None) -> str:
    return f"{tensor.type.name} {list(tensor.shape)}" if tensor else ABSENT


def _layout(headers: Sequence[Header], shared: Sequence[tuple[Tensor, Tensor]]) -> Iterator[Change]:
    a, b = headers
    files = len([*files_of(a)]), len([*files_of(b)])
    for place, numbers in (
        ("number of files", files), ("GGUF version", (a.version, b.version)), ("alignment", (a.alignment, b.alignment)),
    ):  # fmt: skip
        if numbers[0] != numbers[1]:
            yield Change(place, *(f"{number:,}" for number in numbers))
    yield from _order("order of the keys", list(a.metadata), list(b.metadata))
    yield from _order("order of the tensors", *([tensor.name for tensor in header.tensors] for header in headers))
    # Other tensors, or files, move all that lie behind them, which says nothing.
    whole = files[0] == files[1] and len(shared) == len(a.tensors) == len(b.tensors)
    if whole and all(one.nbytes == other.nbytes for one, other in shared):
        # By name, so that the same one is named with A and B exchanged.
        for one, other in sorted(shared, key=lambda pair: pair[0].name):
            places = one.offset - a.data_offset, other.offset - b.data_offset
            if places[0] != places[1]:
                yield Change(f"place of {one.name}", *(f"byte {place:,} of the data" for place in places))
                return
        ends = a.size - a.data_offset, b.size - b.data_offset
        if ends[0] != ends[1]:
            yield Change("size of the data", *(f"{end:,} bytes" for end in ends))


def _order(place: str, a: Sequence[str], b: Sequence[str]) -> Iterator[Change]:
    """Compare the order of what both have, and name the first that differ."""
    known = set(a) & set(b)
    sides = ([name for name in side if name in known] for side in (a, b))
    for one, other in zip(*sides, strict=True):
        if one != other:
            yield Change(place, f"first {printable(one)}", f"first {printable(other)}")
            return


def _diff_tensor(files: Sequence[Ranged], pair: tuple[Tensor, Tensor], quantizer: Open | None) -> TensorDiff | None:
    """Compare two tensors of one shape; nothing if they are equal."""
    one, other = pair
    counts: tuple[int | None, ...] = (None,) * 4
    if one.type is other.type and one.nbytes == other.nbytes:
        blocks, octets = _count(files, pair)
        if not octets:
            return None
        counts = (blocks, _blocks(one), octets, one.nbytes)
    known = (*NUMBERS, GGMLType.BF16, *(DERIVED if quantizer else ()))
    readable = all(tensor.type in known for tensor in pair)
    apart = _apart(files, pair, quantizer) if readable else (None, None)
    return TensorDiff(one.name, one.shape, (one.type, other.type), *counts, *apart)


def _count(files: Sequence[Ranged], pair: Sequence[Tensor]) -> tuple[int, int]:
    """How many blocks and how many bytes of two tensors of one type differ."""
    blocks = octets = 0
    for one, other in _pieces(files, pair):
        unequal = one != other
        if unequal.any():
            blocks += int(np.count_nonzero(unequal.any(axis=1)))
            octets += int(np.count_nonzero(unequal))
    return blocks, octets


def _apart(files: Sequence[Ranged], pair: Sequence[Tensor], quantizer: Open | None) -> tuple[float, float]:
    """The relative and the largest difference of the weights of two tensors of one shape."""
    squares, largest = np.zeros(3), np.zeros(1)
    same_type = pair[0].type is pair[1].type
    # Files from outside may hold NaN, infinity and numbers whose squares are infinite.
    with np.errstate(all="ignore"):
        for one, other in _pieces(files, pair):
            a = _weights(pair[0].type, one, quantizer)
            equal = same_type and np.array_equal(one, other)
            b = a if equal else _weights(pair[1].type, other, quantizer)
            squares[1:] += np.dot(a, a), np.dot(b, b)
            if not equal:
                gap = np.abs(a - b)
                squares[0] += np.dot(gap, gap)
                largest = np.maximum(largest, gap.max())
        scale = np.maximum(squares[1], squares[2])
        relative = 0.0 if scale == 0 else float(np.sqrt(squares[0] / scale))
    return relative, float(largest[0])


def _pieces(files: Sequence[Ranged], pair: Sequence[Tensor]) -> Iterator[list[Bytes]]:
    """The same weights of both tensors, as bytes ``[blocks, bytes per block]`` each, ``PIECE`` weights at a time.

    Raises:
        FormatError: when a file ends before.
    """
    total = max(_blocks(tensor) * tensor.type.block_size for tensor in pair)
    for start in range(0, total, PIECE):
        found = []
        for file, tensor in zip(files, pair, strict=True):
            block, size = tensor.type.block_size, tensor.nbytes // _blocks(tensor)
            data = file.read(tensor.offset + start // block * size, min(PIECE, total - start) // block * size)
            found.append(np.frombuffer(data, np.uint8).reshape(-1, size))
        yield found


def _blocks(tensor: Tensor) -> int:
    """How many blocks it has; of a type of no known size each byte is one."""
    return prod(tensor.shape) // tensor.type.block_size if tensor.type.is_known else tensor.nbytes


def _weights(kind: GGMLType, data: Bytes, quantizer: Open | None) -> Doubles:
    """Whole blocks as weights: ``[blocks, bytes per block]`` to float64 ``[weights]``."""
    if kind in NUMBERS:
        numbers = data.reshape(-1).view(NUMBERS[kind])
    elif kind is GGMLType.BF16:
        numbers = (data.reshape(-1).view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    else:
        assert quantizer is not None
        [numbers] = quantizer().dequantize(kind, data.reshape(1, -1), len(data) * kind.block_size)
    doubles: Doubles = numbers.astype(np.float64)
    return doubles
