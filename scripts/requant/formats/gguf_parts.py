"""A model in several GGUF files, ``NAME-00001-of-00003.gguf`` and so on, seen as one: its files on end.

llama.cpp names them in ``llama_split_path`` (``src/llama.cpp``), writes them in ``tools/gguf-split`` and gguf-py, and
reads them in ``src/llama-model-loader.cpp``. The first part holds the metadata, and perhaps no tensor. Each says which
part it is (``split.no``, from 0), of how many (``split.count``), and the first how many tensors there are in all.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import PurePosixPath
from typing import NoReturn

from requant.formats.gguf import MAX_TENSORS, Header, quoted, read_header
from requant.formats.ranged import Files, Ranged, as_file, check_range
from requant.ground.errors import FormatError

SUFFIX = ".gguf"
PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.ASCII)
NO, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
MAX_PARTS = 512
"""Files of one model; the largest that are published have some sixty."""
MAX_HEADER = 1 << 21
"""Bytes of the header of a part behind the first, which has hardly any metadata."""
JOBS = 8


def part_names(name: str) -> list[str]:
    """The names of all parts of the model that ``name`` is a part of by its form; only itself where it is none.

    >>> part_names("UD/Model-00002-of-00002.gguf")
    ['UD/Model-00001-of-00002.gguf', 'UD/Model-00002-of-00002.gguf']
    >>> part_names("Model.gguf"), part_names("Model-00003-of-00002.gguf")
    (['Model.gguf'], ['Model-00003-of-00002.gguf'])
    """
    match = PART.fullmatch(name)
    if match is None or not 1 <= int(match["number"]) <= int(match["count"]) <= MAX_PARTS:
        return [name]
    return [f"{match['stem']}-{number + 1:05}-of-{match['count']}.gguf" for number in range(int(match["count"]))]


def models(names: Sequence[str]) -> list[str]:
    """Of a listing's GGUF files one for each model: of a split one its first part that is there.

    >>> models(["A-00001-of-00002.gguf", "A-00002-of-00002.gguf", "B.gguf", "README.md"])
    ['A-00001-of-00002.gguf', 'B.gguf']
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        if name.endswith(SUFFIX):
            found.setdefault(part_names(name)[0], name)
    return list(found.values())


def read_gguf(files: Files, name: str) -> tuple[Ranged, Header]:
    """Open a GGUF and read its header; if ``name`` is a part of a split one, any part, then all parts as one file.

    Raises:
        FormatError: when a file breaks the format, or is not the part that its name says of the same model.
        SourceError: when bytes, or a part, cannot be had.
    """
    file = files.open(name)
    header = read_header(as_file(file), file.name)
    count, names = _number(header, COUNT) or 0, part_names(name)
    if count <= 1 and len(names) == 1:
        return file, header
    if count != len(names):
        said = f"one of {count:,} parts" if count > 1 else "a whole model"
        example = f"NAME-00001-of-{max(count, 2):05}{SUFFIX}" if count > 1 else f"NAME{SUFFIX}"
        _fail(header, f"is {said} by its header, and not by its name: give it the form {example}")
    if lost := sorted(set(names) - set(files.names)):
        are = "is" if len(lost) == 1 else "are"
        raise FormatError(
            f"{file.name} is one of {count:,} parts, of which {len(lost):,} {are} missing "
            f"({', '.join(PurePosixPath(each).name for each in lost[:3])}): get all of them"
        )
    with ThreadPoolExecutor(JOBS) as threads:
        # Over a network most of the time goes into waiting for the first bytes of each.
        opened = list(threads.map(files.open, names))
        first = read_header(as_file(opened[0]), opened[0].name)
        _require_part(first, 0, count, first)
        rest = threads.map(partial(_read_part, count, first), range(1, count), opened[1:])
        return Joined(opened), _joined([first, *rest])


def files_of(header: Header) -> Iterator[tuple[int, Header]]:
    """Each file's own header, with the byte of all that it begins at; most often there is but one."""
    start = 0
    for part in header.parts or (header,):
        yield start, part
        start += part.size


class Joined:
    """Files on end, as one ``Ranged``."""

    def __init__(self, files: Sequence[Ranged]) -> None:
        self.name = f"{files[0].name} ({len(files):,} parts)"
        self._files = files
        self._starts = [0, *accumulate(file.size for file in files)]
        self.size = self._starts[-1]

    def read(self, offset: int, length: int) -> bytes:
        """Give exactly ``length`` bytes from byte ``offset`` of all on; raises as ``Ranged.read``."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Give the bytes of several ``(offset, length)``; raises as ``Ranged.read_many``."""
        wanted: dict[int, list[tuple[int, int, int]]] = {}
        for index, (offset, length) in enumerate(ranges):
            check_range(self, offset, length)
            for number, start, size in self._cut(offset, length):
                wanted.setdefault(number, []).append((index, start, size))
        pieces: list[list[bytes]] = [[] for _ in ranges]
        for number in sorted(wanted):
            read = self._files[number].read_many([(start, size) for _, start, size in wanted[number]])
            for (index, _, _), piece in zip(wanted[number], read, strict=True):
                pieces[index].append(piece)
        return [found[0] if len(found) == 1 else b"".join(found) for found in pieces]

    def _cut(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Which file holds what of a range: its number, the byte in it, and how many."""
        number = bisect_right(self._starts, offset) - 1
        while length:
            size = min(length, self._starts[number + 1] - offset)
            if size:
                yield number, offset - self._starts[number], size
            offset, length, number = offset + size, length - size, number + 1


def _read_part(count: int, first: Header, number: int, file: Ranged) -> Header:
    header = read_header(as_file(file), file.name)
    _require_part(header, number, count, first)
    return header


def _require_part(header: Header, number: int, count: int, first: Header) -> None:
    """Refuse what is not this part of the model that ``first`` begins.

    Raises:
        FormatError: naming the part. llama.cpp reads no key of a later part, so none may stand there but what splitting
            writes, and general ones that the first part has too.
    """
    for key, wanted in ((NO, number), (COUNT, count), (TENSORS, _number(first, TENSORS))):
        found = _number(header, key)
        if found != wanted and (found is not None or key == NO):
            _fail(header, f"has {key} {found}, expected {wanted}: it is no part of {first.name}")
    if header is first:
        return
    if header.data_offset > MAX_HEADER:
        _fail(header, f"has a header of {header.data_offset:,} bytes, more than the {MAX_HEADER:,} of a later part")
    for key, field in header.metadata.items():
        if not key.startswith("split.") and (not key.startswith("general.") or first.metadata.get(key) != field):
            _fail(header, f"holds the key {quoted(key)}, which {first.name} has not so: it is a part of another model")


def _joined(headers: Sequence[Header]) -> Header:
    """The headers of all parts as one."""
    first, tensors = headers[0], {}
    start = 0
    for part in headers:
        for tensor in part.tensors:
            if tensor.name in tensors:
                _fail(part, f"holds the tensor {quoted(tensor.name)} once more: it is a part of another model")
            tensors[tensor.name] = replace(tensor, offset=start + tensor.offset)
        start += part.size
        if len(tensors) > MAX_TENSORS:
            _fail(part, f"and the parts before it hold more than {MAX_TENSORS:,} tensors: they are damaged or hostile")
    wanted = _number(first, TENSORS)
    if wanted not in (None, len(tensors)):
        _fail(first, f"speaks of {wanted:,} tensors, and its parts hold {len(tensors):,}: get all of them again")
    name = f"{first.name} ({len(headers):,} parts)"
    return replace(first, name=name, tensors=tuple(tensors.values()), size=start, parts=tuple(headers))


def _number(header: Header, key: str) -> int | None:
    """A key that counts something.

    Raises:
        FormatError: when it is no whole number.
    """
    field = header.metadata.get(key)
    if field is None:
        return None
    if type(field.value) is not int or field.value < 0:
        _fail(header, f"has a {key} that is no number of things: it is damaged")
    return field.value


def _fail(header: Header, sentence: str) -> NoReturn:
    raise FormatError(f"{header.name} {sentence}")
