"""Reading the headers of GGUF files that nobody vouches for.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
Every length is compared with what is left of the file, and with a limit, before anything is allocated.
Where the specification leaves a choice, this reader is as strict as llama.cpp's own
(``ggml/src/gguf.cpp``), except that tensors may lie in any order and with gaps, as long as the gaps are zero.
"""

import os
from dataclasses import dataclass, field, replace
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeAlias

import numpy as np

from requant.formats.ggml import VALUE_TYPES, GGMLType, ValueType
from requant.formats.mistaken import mistaken
from requant.ground.errors import FormatError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

MAX_HEADER = 1 << 26
"""Bytes of header that are read at most; a vocabulary of 262,144 tokens with its merges takes about 16 MB."""
MAX_KEYS = 1 << 16
MAX_KEY_LENGTH = (1 << 16) - 1
MAX_ITEMS = 1 << 21
"""Strings in all arrays together, which cost far more memory than their bytes in the file."""
NESTED_ARRAY_ITEMS = 64
"""How many of these a nested array counts as."""
MAX_DEPTH = 4
MAX_TENSORS = 1 << 17
MAX_NAME_LENGTH = 64
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 1 << 20
MAX_COUNT = (1 << 63) - 1
READ_AHEAD = 1 << 18
"""Bytes that may be read beyond the end of the header; few large reads suit files behind HTTP."""

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Value: TypeAlias = "int | float | bool | str | bytes | list[str | bytes] | list[Field] | Array"


@dataclass(frozen=True, eq=False)
class Field:
    """One metadata value with its type in the file.

    ``item`` is the type of an array's elements, else ``None``. Numeric and boolean arrays are read-only numpy arrays of
    shape ``[length]``, arrays of strings are lists, arrays of arrays are lists of ``Field``. A string that is not UTF-8
    stays ``bytes``: honest files hold such, because llama-quantize cuts names at 127 bytes.
    """

    type: ValueType
    value: Value
    item: ValueType | None = None

    def __eq__(self, other: object) -> bool:
        """Compare types and values; the bits decide for numbers, so a NaN equals itself."""
        if not isinstance(other, Field):
            return NotImplemented
        return (self.type, self.item, _bits(self)) == (other.type, other.item, _bits(other))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file.

    ``shape`` is in ggml's order, the row length first. ``offset`` counts bytes from the start of the file. Where the
    type is not known, nobody knows where it ends: ``nbytes`` then reaches to the next tensor, or the end of the file.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    """Everything before the tensor data; metadata and tensors in the order of the file.

    ``name`` is what messages call the file; ``data_offset`` and ``size`` (of the whole file) are in bytes. Of a split
    model (``requant.formats.gguf_parts``) they are those of all files on end, and ``parts`` each file's own header.
    """

    name: str = field(compare=False)
    version: int
    metadata: dict[str, Field]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int
    size: int
    parts: tuple["Header", ...] = ()


def read_header(source: Path | BinaryIO, name: str | None = None) -> Header:
    """Read the header of a GGUF file, and of nothing else but up to ``READ_AHEAD`` bytes behind it.

    Args:
        source: a path, or any seekable binary file; it is read from byte 0 and left at an arbitrary position.
        name: what messages call the file; by default its own name.

    Raises:
        FormatError: one sentence naming the file and the place in it, for anything that breaks the format.
    """
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as file:
            return read_header(file, name or source.name)
    reader = _Reader(source, name or Path(str(getattr(source, "name", "the file"))).name)
    version, tensor_count = _read_start(reader)
    metadata = _read_metadata(reader)
    alignment = _alignment(reader, metadata)
    tensors = _read_tensors(reader, tensor_count)
    end = reader.position
    data_offset = padded(end, alignment)
    if not tensors:
        # Writers pad a file without tensors, or do not.
        if not end <= reader.size <= data_offset:
            reader.fail(f"has {reader.size - end:,} bytes after its header although it holds no tensors")
        require_zeros(reader.take(reader.size - end, "its padding"), reader.name)
        return Header(reader.name, version, metadata, (), alignment, data_offset, reader.size)
    require_zeros(reader.take(data_offset - end, "the padding after its header"), reader.name)
    tensors = _with_ends([replace(each, offset=data_offset + each.offset) for each in tensors], reader.size)
    _check_layout(reader, tensors, alignment, data_offset)
    return Header(reader.name, version, metadata, tuple(tensors), alignment, data_offset, reader.size)


class _Reader:
    """A bounded cursor over the header; every failure names the file."""

    def __init__(self, file: BinaryIO | FileIO, name: str) -> None:
        self.name = name
        self.size = file.seek(0, os.SEEK_END)
        self.position = 0
        self.items = 0
        self._file = file
        self._buffer = b""
        self._at = 0
        file.seek(0)

    def fail(self, sentence: str) -> NoReturn:
        raise FormatError(f"{self.name} {sentence}")

    def take(self, count: int, what: str) -> bytes:
        """Consume exactly ``count`` bytes."""
        end = self._at + count
        if end > len(self._buffer):
            self._fill(count, what)
            end = count
        data = self._buffer[self._at : end]
        self._at = end
        self.position += count
        return data

    def _fill(self, count: int, what: str) -> None:
        self._require_left(count, what)
        pieces = [self._buffer[self._at :]]
        held = len(pieces[0])
        wanted = min(max(count, READ_AHEAD), self.size - self.position)
        while held < count:
            piece = self._file.read(wanted - held)
            if not piece:
                self.fail(f"ends inside {what}: it is shorter than it claimed to be")
            pieces.append(piece)
            held += len(piece)
        self._buffer = b"".join(pieces)
        self._at = 0

    def _require_left(self, count: int, what: str) -> None:
        if count > self.size - self.position:
            self.fail(f"ends inside {what}: it is truncated or damaged")
        if count > MAX_HEADER - self.position:
            self.fail(f"has a header of more than {MAX_HEADER:,} bytes, reached in {what}: it is damaged or hostile")

    def number(self, size: int, what: str) -> int:
        """Consume an unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size, what), "little")

    def count(self, what: str, smallest: int, limit: int) -> int:
        """Consume a 64-bit count of things that take at least ``smallest`` bytes each."""
        count = self.number(8, f"the number of {what}")
        if count > limit:
            self.fail(f"claims {count:,} {what}, more than the {limit:,} allowed: it is damaged or hostile")
        if count * smallest > self.size - self.position:
            self.fail(f"claims {count:,} {what} but has only {self.size - self.position:,} bytes left: it is truncated")
        return count

    def raw(self, what: str, limit: int = MAX_HEADER) -> bytes:
        """Consume a string."""
        length = self.number(8, what)
        if length > limit:
            self.fail(f"has {length:,} bytes in {what}, more than the {limit:,} allowed: it is damaged or hostile")
        return self.take(length, what)

    def strings(self, count: int, what: str) -> list[bytes]:
        """Consume strings; vocabularies hold so many that each must cost little."""
        found = []
        buffer, at = self._buffer, self._at
        for _ in range(count):
            start = at + 8
            end = start + int.from_bytes(buffer[at:start], "little")
            if end <= len(buffer):
                found.append(buffer[start:end])
                at = end
                continue
            self._move(at)
            found.append(self.raw(what))
            buffer, at = self._buffer, self._at
        self._move(at)
        return found

    def _move(self, at: int) -> None:
        self.position += at - self._at
        self._at = at

    def value_type(self, what: str) -> ValueType:
        """Consume the type of a value."""
        number = self.number(4, what)
        if number not in VALUE_TYPES:
            self.fail(f"has the unknown value type {number:,} in {what}: it is damaged or newer than this program")
        return VALUE_TYPES[number]


def _read_start(reader: _Reader) -> tuple[int, int]:
    """Consume magic, version and the number of tensors."""
    magic = reader.take(4, "the first 4 bytes")
    if magic == MAGIC[::-1]:
        reader.fail("starts with a byte-swapped GGUF magic: only little-endian files can be read")
    if magic != MAGIC:
        if found := mistaken(magic):
            reader.fail(found)
        reader.fail(f"is not a GGUF file: it starts with {magic!r} instead of {MAGIC!r}")
    version = reader.number(4, "the version")
    if version and version & 0xFFFF == 0:
        reader.fail("is a big-endian GGUF file: only little-endian ones can be read, convert it first")
    if version not in VERSIONS:
        reader.fail(f"is GGUF version {version}: only versions 2 and 3 can be read")
    # Smallest tensor: name of one byte, one dimension, type, offset.
    return version, reader.count("tensors", 8 + 1 + 4 + 8 + 4 + 8, MAX_TENSORS)


def _read_metadata(reader: _Reader) -> dict[str, Field]:
    metadata: dict[str, Field] = {}
    # Smallest pair: key of one byte, type, value of one byte.
    for index in range(reader.count("metadata keys", 8 + 1 + 4 + 1, MAX_KEYS)):
        raw = reader.raw(f"metadata key {index:,}", MAX_KEY_LENGTH)
        key = raw.decode("ascii", "replace")
        if not key.isprintable() or not key.isascii() or not key:
            reader.fail(f"has metadata key {index:,} {quoted(raw)}: keys must be printable ASCII and not empty")
        if key in metadata:
            reader.fail(f"has metadata key {quoted(key)} twice: it is ambiguous")
        what = f"the value of {quoted(key)}"
        metadata[key] = _read_value(reader, reader.value_type(what), what)
    return metadata


def _read_value(reader: _Reader, kind: ValueType, what: str, depth: int = 0) -> Field:
    if kind.dtype:
        return Field(kind, _numbers(reader, kind.dtype, 1, what)[0].item())
    if kind is ValueType.STRING:
        return Field(kind, _text(reader.raw(what)))
    if depth == MAX_DEPTH:
        reader.fail(f"has arrays nested more than {MAX_DEPTH} deep in {what}: it is damaged or hostile")
    item = reader.value_type(what)
    if item.dtype:
        count = reader.count(f"elements in {what}", item.dtype.itemsize, MAX_HEADER)
        return Field(kind, _numbers(reader, item.dtype, count, what), item)
    # A string takes at least its length, an array its type and length.
    smallest, cost = (8, 1) if item is ValueType.STRING else (12, NESTED_ARRAY_ITEMS)
    count = reader.count(f"elements in {what}", smallest, (MAX_ITEMS - reader.items) // cost)
    reader.items += count * cost
    if item is ValueType.STRING:
        return Field(kind, [_text(raw) for raw in reader.strings(count, what)], item)
    return Field(kind, [_read_value(reader, item, what, depth + 1) for _ in range(count)], item)


def _numbers(reader: _Reader, dtype: np.dtype[Any], count: int, what: str) -> Array:
    data = reader.take(count * dtype.itemsize, what)
    if dtype.kind == "b" and data.translate(None, b"\0\1"):
        reader.fail(f"has a boolean that is neither 0 nor 1 in {what}: it is damaged")
    return np.frombuffer(data, dtype)


def _alignment(reader: _Reader, metadata: dict[str, Field]) -> int:
    found = metadata.get("general.alignment", Field(ValueType.UINT32, DEFAULT_ALIGNMENT))
    value = found.value
    if found.type is not ValueType.UINT32 or not isinstance(value, int):
        reader.fail(f"has a general.alignment of type {found.type.name}: it must be UINT32")
    if value % 8 or value.bit_count() != 1 or value > MAX_ALIGNMENT:
        reader.fail(f"has general.alignment {value:,}: it must be a power of two from 8 to {MAX_ALIGNMENT:,}")
    return value


def _read_tensors(reader: _Reader, count: int) -> list[Tensor]:
    """Consume the tensor infos; offsets are still relative to the data."""
    tensors: dict[str, Tensor] = {}
    for index in range(count):
        raw = reader.raw(f"the name of tensor {index:,}", MAX_NAME_LENGTH)
        name = raw.decode("utf-8", "replace")
        # llama.cpp ends names at NUL, and they are shown on terminals: nothing unprintable gets in.
        if not name.isprintable() or not name or "\ufffd" in name:
            reader.fail(f"has tensor {index:,} named {quoted(raw)}: names must be printable UTF-8 and not empty")
        if name in tensors:
            reader.fail(f"has two tensors named {quoted(name)}: it is ambiguous")
        tensors[name] = _read_tensor(reader, name)
    return list(tensors.values())


def _read_tensor(reader: _Reader, name: str) -> Tensor:
    what = f"tensor {quoted(name)}"
    dimensions = reader.number(4, what)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        reader.fail(f"gives {what} {dimensions:,} dimensions: 1 to {MAX_DIMENSIONS} are allowed")
    shape = tuple(reader.number(8, what) for _ in range(dimensions))
    kind = GGMLType.of(reader.number(4, what))
    nbytes = prod(shape) // kind.block_size * kind.type_size
    if 0 in shape or max(prod(shape), nbytes) > MAX_COUNT:
        reader.fail(f"gives {what} the impossible shape {list(shape)}: it is damaged or hostile")
    if shape[0] % kind.block_size:
        reader.fail(f"gives {what} rows of {shape[0]:,}, not a multiple of {kind.name}'s block of {kind.block_size}")
    return Tensor(name, shape, kind, reader.number(8, what), nbytes)


def _with_ends(tensors: list[Tensor], size: int) -> list[Tensor]:
    """Let tensors of no known size reach to the next one, or the end of the file."""
    starts = sorted({size, *(tensor.offset for tensor in tensors)})
    following = dict(zip(starts, [*starts[1:], starts[-1]], strict=True))
    return [
        each if each.type.is_known else replace(each, nbytes=following[each.offset] - each.offset) for each in tensors
    ]


def _check_layout(reader: _Reader, tensors: list[Tensor], alignment: int, data_offset: int) -> None:
    """Refuse tensors that are misaligned, share bytes or leave the file, and bytes that belong to none."""
    end = data_offset
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        what = f"tensor {quoted(tensor.name)}"
        if tensor.offset % alignment:
            reader.fail(f"puts {what} at byte {tensor.offset:,}, not a multiple of its alignment {alignment:,}")
        if tensor.offset < end:
            reader.fail(f"puts {what} at byte {tensor.offset:,}, inside the tensor before it, which ends at {end:,}")
        end = tensor.offset + tensor.nbytes
        if end > reader.size or not tensor.nbytes:
            reader.fail(f"has {reader.size:,} bytes but {what} ends at byte {end:,}: it is truncated or damaged")
    # Some writers leave out the last padding, of which llama.cpp asks nothing.
    if reader.size > (end := padded(end, alignment)):
        reader.fail(f"has {reader.size:,} bytes, its last tensor with padding ends at byte {end:,}: it is damaged")


def read_exactly(file: BinaryIO | FileIO, view: memoryview, name: str) -> None:
    """Fill ``view`` from ``file``; raises FormatError naming ``name`` if the file ends before."""
    while view:
        # Every file that is opened unbuffered, and every adapter of ours, can do this.
        count = file.readinto(view)  # type: ignore[union-attr]
        if not count:
            raise FormatError(f"{name} shrank while it was read: leave it alone and try again")
        view = view[count:]


def require_zeros(data: bytes | memoryview, name: str) -> None:
    """Refuse padding that hides something; raises FormatError naming ``name``."""
    if np.frombuffer(data, np.uint8).any():
        raise FormatError(f"{name} has bytes other than zero in its padding: it is damaged or hides something")


def padded(position: int, alignment: int = DEFAULT_ALIGNMENT) -> int:
    """Where the next aligned byte is."""
    return -(-position // alignment) * alignment


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def quoted(name: str | bytes) -> str:
    """A tensor's name for messages, cut to a sane length.

    >>> print(quoted("blk.0.attn_q.weight"), quoted(b"\\xff"))
    'blk.0.attn_q.weight' b'\\xff'
    """
    return repr(name[:MAX_NAME_LENGTH])


def _bits(metadata: Field) -> object:
    value = metadata.value
    if isinstance(value, float):
        return np.float64(value).tobytes()
    return (value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else value
