"""Weights as their makers publish them: safetensors files, one or many with an index, from hands unknown.

Format: https://huggingface.co/docs/safetensors. A header is JSON behind its length in 8 bytes, and the tensors
lie behind it without gaps, row after row. Every length is checked before anything is read or allocated by it.
Pickles (``*.bin``, ``*.pt``) run code when they are opened, so they never are.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import prod
from pathlib import PurePosixPath
from typing import Any, NoReturn, TypeAlias

import numpy as np

from requant.formats.mistaken import mistaken
from requant.formats.pickles import is_pickle
from requant.formats.ranged import Files, Ranged, read_whole
from requant.formats.shards import series
from requant.ground.canonical import parse
from requant.ground.errors import FormatError
from requant.ground.text import listed

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SUFFIX = ".safetensors"

MAX_HEADER = 1 << 25
"""Bytes, a third of what the safetensors library allows: room for ``MAX_TENSORS``."""
MAX_INDEX = 1 << 25
MAX_TENSORS = 1 << 17
MAX_NAME_LENGTH = 256
MAX_DIMENSIONS = 8
MAX_COUNT = (1 << 63) - 1
MAX_ITEMS = MAX_COUNT // 8
"""Items of a tensor, a dimension of 0 taken as 1: numpy counts their bytes in 63 bits."""
READ_AHEAD = 1 << 16
JOBS = 8

BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("BF16", "F16", "U16", "I16"), 16),
    **dict.fromkeys(("F32", "U32", "I32"), 32),
    **dict.fromkeys(("F64", "U64", "I64", "C64"), 64),
}
STORED: dict[str, np.dtype[Any]] = {"BF16": np.dtype("<u2"), "F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
"""The types whose values are read."""

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Rows: TypeAlias = "slice | Sequence[int] | np.ndarray[Any, np.dtype[np.integer[Any]]]"


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint.

    ``shape`` is row-major as in the file, the row length last. ``offset`` counts bytes from the start of ``file``.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Ranged
    offset: int
    nbytes: int

    @property
    def columns(self) -> int:
        """Values in a row; a scalar is one row of one."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """Rows in the tensor, all leading dimensions taken together; a vector is one row."""
        return prod(self.shape[:-1])

    @property
    def unchecked(self) -> str | None:
        """Why its values cannot be read, or ``None`` if they can."""
        if self.dtype in STORED:
            return None
        return f"{self.name} is stored as {self.dtype}: only {', '.join(STORED)} can be read"


@dataclass(frozen=True)
class Checkpoint:
    """All tensors by name; ``files`` are the names of the files that hold them, sorted.

    ``unnamed`` are tensors that the index passes over. ``notes`` are sentences about what is odd in it, and changes no
    tensor.
    """

    shown: str
    tensors: dict[str, StoredTensor]
    files: tuple[str, ...]
    unnamed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_checkpoint(files: Files, file: str | None = None) -> Checkpoint:
    """Read the headers of a checkpoint.

    Args:
        files: where it lies, such as a ``Place``.
        file: the one file (or index) that is meant; by default ``model.safetensors.index.json``,
            ``model.safetensors``, all shards of one series, or the only safetensors file there is.

    Raises:
        FormatError: one sentence naming the file and the place in it, for anything that breaks the format, and where
            there are only pickles.
        SourceError: when bytes cannot be had.
    """
    if file is None and not {INDEX, SINGLE} & {*files.names} and (names := series(files.names, files.shown)):
        return _read_series(files, names)
    name = file or _main_file(files)
    if name.endswith(".index.json"):
        return _read_sharded(files, name)
    if not name.endswith(SUFFIX):
        raise FormatError(f"{files.shown} gives {name!r} as weights: only safetensors files can be read, convert it")
    return Checkpoint(files.shown, read_safetensors(files.open(name)), (name,))


def read_safetensors(file: Ranged) -> dict[str, StoredTensor]:
    """Read the header of one safetensors file; the tensors come in the order of the file.

    Raises:
        FormatError: one sentence naming the file and the place in it, for anything that breaks the format.
    """
    if file.size < 8:
        _fail(file, f"has {file.size} bytes: it is truncated, or no safetensors file")
    start = file.read(0, min(file.size, READ_AHEAD))
    length = int.from_bytes(start[:8], "little")
    if length > MAX_HEADER and (found := mistaken(start[:64])):
        _fail(file, found)
    if length > MAX_HEADER:
        _fail(file, f"claims a header of {length:,} bytes, more than {MAX_HEADER:,}: it is damaged, or no safetensors")
    data_offset = 8 + length
    if data_offset > file.size:
        _fail(file, f"claims a header of {length:,} bytes but has {file.size:,} in all: it is truncated")
    if data_offset > len(start):
        start += file.read(len(start), data_offset - len(start))
    header = _object(start[8:data_offset], file.name)
    if "__metadata__" in header:
        metadata = header.pop("__metadata__")
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            _fail(file, "has a __metadata__ that is no object of texts: it is damaged")
    if len(header) > MAX_TENSORS:
        _fail(file, f"claims {len(header):,} tensors, more than {MAX_TENSORS:,}: it is damaged or hostile")
    tensors = [_tensor(file, data_offset, name, value) for name, value in header.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.nbytes))
    _check_layout(file, data_offset, tensors)
    return {tensor.name: tensor for tensor in tensors}


def rows_as_float32(stored: StoredTensor, indices: Rows) -> Floats:
    """Read rows, exactly: every BF16 and F16 number is a float32.

    Args:
        stored: the tensor; one of more than two dimensions is read as the rows of all of them, one after another.
        indices: row numbers, in any order and more than once if need be, or a slice of them without a step.

    Returns:
        ``[len(indices), columns]``, possibly read-only.

    Raises:
        FormatError: when the tensor's type cannot be read, or a row does not exist.
        SourceError: when the bytes cannot be had.
    """
    return rows_of_many([(stored, indices)])[0]


def rows_of_many(wanted: Sequence[tuple[StoredTensor, Rows]]) -> list[Floats]:
    """Read rows of several tensors as ``rows_as_float32`` does; those of one file come together."""
    for stored, _ in wanted:
        if stored.unchecked:
            raise FormatError(f"{stored.file.name} cannot be compared: {stored.unchecked}")
    return [_as_float32(rows, stored.dtype) for (stored, _), rows in zip(wanted, bytes_of_many(wanted), strict=True)]


def bytes_of_many(wanted: Sequence[tuple[StoredTensor, Rows]]) -> list[Bytes]:
    """Read rows of whatever types: ``[rows, bytes of a row]`` of each tensor, otherwise as ``rows_of_many``."""
    looks = [_Look.at(stored, indices) for stored, indices in wanted]
    by_file: dict[int, list[_Look]] = {}
    for look in looks:
        by_file.setdefault(id(look.stored.file), []).append(look)
    for together in by_file.values():
        ranges = [each for look in together for each in look.ranges]
        pieces = iter(together[0].stored.file.read_many(ranges))
        for look in together:
            look.pieces = [next(pieces) for _ in look.ranges]
    return [look.rows() for look in looks]


@dataclass
class _Look:
    """Some rows of a tensor: the ranges that hold them, and where each stands among what these hold (``back``)."""

    stored: StoredTensor
    count: int
    ranges: list[tuple[int, int]]
    back: "np.ndarray[Any, np.dtype[np.intp]] | None"
    pieces: list[bytes] = field(default_factory=list)

    @classmethod
    def at(cls, stored: StoredTensor, indices: Rows) -> "_Look":
        """Find out what is to be read.

        Raises:
            FormatError: when a row does not exist.
        """
        wanted: Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]
        if isinstance(indices, slice):
            assert indices.step in (None, 1), "a slice of rows has no step"
            wanted, back = range(indices.start or 0, stored.rows if indices.stop is None else indices.stop), None
            runs = [(wanted.start, wanted.stop)] if wanted else []
        else:
            wanted, back = np.unique(np.asarray(indices, np.int64), return_inverse=True)
            runs = _runs(wanted)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < stored.rows:
            raise FormatError(
                f"{stored.file.name} has {stored.rows:,} rows in {stored.name!r}, so not all of "
                f"{wanted[0]:,} to {wanted[-1]:,}: compare the shapes first"
            )
        width = stored.columns * BITS[stored.dtype] // 8
        return cls(stored, len(wanted), [(stored.offset + a * width, (b - a) * width) for a, b in runs], back)

    def rows(self) -> Bytes:
        """The rows, once ``pieces`` are there."""
        data = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        width = self.stored.columns * BITS[self.stored.dtype] // 8
        found = np.frombuffer(data, np.uint8).reshape(self.count, width)
        return found if self.back is None or np.array_equal(self.back, np.arange(len(self.back))) else found[self.back]


def _as_float32(data: Bytes, dtype: str) -> Floats:
    found = data.view(STORED[dtype])
    floats: Floats
    if dtype == "BF16":
        floats = (found.astype(np.uint32) << 16).view(np.float32)
        return floats
    with np.errstate(invalid="ignore"):  # some processors mention a signalling NaN
        floats = found.astype(np.float32, copy=False)
    return floats


def _runs(rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[tuple[int, int]]:
    """Group sorted row numbers to runs ``(first, last + 1)``.

    >>> _runs(np.array([3, 4, 5, 9]))
    [(3, 6), (9, 10)]
    """
    if not len(rows):
        return []
    breaks = np.flatnonzero(np.diff(rows) != 1)
    firsts, lasts = rows[np.r_[0, breaks + 1]], rows[np.r_[breaks, len(rows) - 1]]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]


def _main_file(files: Files) -> str:
    names = files.names
    found = [name for name in names if name.endswith(SUFFIX)]
    if INDEX in names:
        return INDEX
    if SINGLE in names:
        return SINGLE
    if len(found) == 1:
        return found[0]
    if found:
        raise FormatError(
            f"{files.shown} holds {len(found):,} safetensors files and no {INDEX}: name the one that is meant"
        )
    if any(map(is_pickle, names)):
        raise FormatError(
            f"{files.shown} holds its weights as pickles only, which run code when they are opened: "
            "name a source that has safetensors"
        )
    raise FormatError(f"{files.shown} holds no safetensors file: name the folder or repository of the weights")


def _read_sharded(files: Files, name: str) -> Checkpoint:
    """Read an index and all files it names; every tensor must lie where it says, and others only beside these."""
    index = files.open(name)
    document = _object(read_whole(index, MAX_INDEX, "an index"), index.name)
    places = document.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        _fail(index, "has no weight_map that gives each tensor a file: it is damaged, or no index")
    if len(places) > MAX_TENSORS:
        _fail(index, f"names {len(places):,} tensors, more than {MAX_TENSORS:,}: it is damaged or hostile")
    folder = PurePosixPath(name).parent
    shards = {shard: (folder / shard).as_posix() for shard in sorted(set(places.values()))}
    known = set(files.names)
    for shard, path in shards.items():
        if "/" in shard or not shard.endswith(SUFFIX) or path not in known:
            _fail(index, f"names the file {shard[:MAX_NAME_LENGTH]!r}, which is no safetensors file beside it")
    opened, headers = _headers(files, shards)
    promised: dict[str, set[str]] = {shard: set() for shard in shards}
    for tensor, shard in places.items():
        promised[shard].add(tensor)
    tensors: dict[str, StoredTensor] = {}
    for shard, found in headers.items():
        if lacking := promised[shard] - found.keys():
            first = min(lacking)[:MAX_NAME_LENGTH]
            _fail(opened[shard], f"lacks {first!r}, against {index.name}: get both again")
        if twice := found.keys() & tensors.keys() | (found.keys() - promised[shard]) & places.keys():
            _fail(opened[shard], f"holds {min(twice)!r}, which {index.name} has elsewhere: get both again")
        tensors |= found
    unnamed = tuple(sorted(tensors.keys() - places.keys()))
    notes = _about_total(index, document, tensors)
    if unnamed:
        notes.append(f"{index.name} does not name {listed(unnamed)}, which its files hold")
    return Checkpoint(files.shown, tensors, tuple(shards.values()), unnamed, tuple(notes))


def _headers(files: Files, shards: dict[str, str]) -> tuple[dict[str, Ranged], dict[str, dict[str, StoredTensor]]]:
    """The files at these paths, opened, and their tensors, by the same names."""
    with ThreadPoolExecutor(JOBS) as threads:
        # Most of the time goes into waiting for the first bytes of each.
        opened = dict(zip(shards, threads.map(files.open, shards.values()), strict=True))
        return opened, dict(zip(shards, threads.map(read_safetensors, opened.values()), strict=True))


def _read_series(files: Files, names: list[str]) -> Checkpoint:
    """Read all shards of a checkpoint without an index; no tensor may be in two of them."""
    opened, headers = _headers(files, {name: name for name in names})
    tensors: dict[str, StoredTensor] = {}
    for name, found in headers.items():
        if twice := found.keys() & tensors.keys():
            _fail(opened[name], f"holds {min(twice)!r}, which {tensors[min(twice)].file.name} has too: get both again")
        tensors |= found
    if len(tensors) > MAX_TENSORS:
        _fail(opened[names[0]], f"and the shards behind it hold more than {MAX_TENSORS:,} tensors: they are hostile")
    return Checkpoint(files.shown, tensors, tuple(names))


def _about_total(index: Ranged, document: dict[str, Any], tensors: dict[str, StoredTensor]) -> list[str]:
    """The sum in an index is what its writer says, and nobody who reads weights goes by it."""
    metadata = document.get("metadata")
    total = sum(tensor.nbytes for tensor in tensors.values())
    said = metadata.get("total_size", total) if isinstance(metadata, dict) else total
    return [] if said == total else [f"{index.name} gives a total_size other than the {total:,} bytes of its tensors"]


def _object(data: bytes, name: str) -> dict[str, Any]:
    document = parse(data, name)
    if not isinstance(document, dict):
        raise FormatError(f"{name} holds JSON that is no object: it is damaged")
    return document


def _tensor(file: Ranged, data_offset: int, name: str, value: Any) -> StoredTensor:
    what = repr(name[:MAX_NAME_LENGTH])
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME_LENGTH:
        _fail(file, f"has a tensor named {what}: names must be printable, with 1 to {MAX_NAME_LENGTH} characters")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        _fail(file, f"describes tensor {what} otherwise than by dtype, shape and data_offsets: it is damaged")
    dtype, shape, span = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or not dtype.isprintable() or not 0 < len(dtype) <= 16:
        _fail(file, f"gives tensor {what} no dtype: it is damaged")
    if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS or prod(size or 1 for size in shape) > MAX_ITEMS:
        _fail(file, f"gives tensor {what} an impossible shape: it is damaged or hostile")
    if not _are_counts(span) or len(span) != 2 or not span[0] <= span[1] <= file.size - data_offset:
        _fail(
            file,
            f"puts tensor {what} outside its {file.size - data_offset:,} bytes of data: it is truncated or damaged",
        )
    nbytes = span[1] - span[0]
    if dtype in BITS and nbytes * 8 != prod(shape) * BITS[dtype]:
        _fail(file, f"gives tensor {what} {nbytes:,} bytes, not those of {dtype} {shape}: it is damaged")
    return StoredTensor(name, dtype, tuple(shape), file, data_offset + span[0], nbytes)


def _are_counts(value: object) -> bool:
    # True is an int in Python, though not in JSON.
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= MAX_COUNT for item in value)


def _check_layout(file: Ranged, data_offset: int, tensors: list[StoredTensor]) -> None:
    """Refuse tensors that share bytes, and bytes that belong to none."""
    end = data_offset
    for tensor in tensors:
        if tensor.offset != end:
            _fail(
                file, f"puts tensor {tensor.name!r} at byte {tensor.offset:,}, not at {end:,} where the last one ends"
            )
        end += tensor.nbytes
    if end != file.size:
        _fail(file, f"has {file.size:,} bytes but its tensors end at {end:,}: it is damaged")


def _fail(file: Ranged, sentence: str) -> NoReturn:
    raise FormatError(f"{file.name} {sentence}")
