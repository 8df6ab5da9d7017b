"""One pass over a whole GGUF file: its digest, the digest of every tensor, and a look for NaN and infinity."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from requant.formats.ggml import GGMLType
from requant.formats.gguf import Header, Tensor, quoted, read_exactly, read_header, require_zeros
from requant.formats.gguf_regions import regions
from requant.ground.digests import CHUNK, Digest
from requant.ground.errors import FormatError
from requant.ground.progress import progress

Piece: TypeAlias = "bytes | memoryview"
# NaN and infinity are the numbers whose exponent bits are all set.
_EXPONENTS: dict[GGMLType, tuple[str, int]] = {
    GGMLType.F32: ("<u4", 0x7F80_0000),
    GGMLType.F16: ("<u2", 0x7C00),
    GGMLType.BF16: ("<u2", 0x7F80),
    GGMLType.F64: ("<u8", 0x7FF0_0000_0000_0000),
}


@dataclass(frozen=True)
class TensorRecord:
    """What was found in one tensor's bytes.

    ``non_finite_row`` is the index of the first row holding NaN or infinity, counted over all but the first dimension;
    ``None`` where there is none, and for types other than F32, F16, BF16 and F64, which are not checked.
    """

    name: str
    type: GGMLType
    shape: tuple[int, ...]
    nbytes: int
    sha256: str
    non_finite_row: int | None


@dataclass(frozen=True)
class Description:
    """One whole file: its header, its digest and its tensors in the order of the header."""

    header: Header
    digest: Digest
    tensors: tuple[TensorRecord, ...]

    @property
    def non_finite(self) -> dict[str, int]:
        """Tensors that hold NaN or infinity, with the first such row."""
        return {tensor.name: tensor.non_finite_row for tensor in self.tensors if tensor.non_finite_row is not None}


def describe(path: Path, progress: Callable[[int], None] | None = None) -> Description:
    """Digest a GGUF file and each of its tensors, and look for NaN and infinity, in one pass and constant memory.

    Args:
        path: the file.
        progress: called with the number of bytes read since its last call.

    Raises:
        FormatError: if the header breaks the format, the padding is not zero or the file shrinks while it is read.
            Not for non-finite weights: see `require_finite`.
    """
    with path.open("rb", buffering=0) as file:
        header = read_header(file, path.name)
        file.seek(0)
        return examine(header, _pieces(file, header), progress)


def examine(
    header: Header, pieces: Iterable[tuple[int, Tensor | None, Piece]], progress: Callable[[int], None] | None = None
) -> Description:
    """Digest the bytes of a GGUF file while they pass, and look for NaN and infinity.

    Args:
        header: of the file.
        pieces: its bytes in their order, as position, the tensor that they belong to, and the bytes, whole values of
            it. Each must stay as it is until the piece after the next is asked for.
        progress: called with the number of bytes of each piece.

    Raises:
        FormatError: if the padding is not zero.
    """
    whole = hashlib.sha256()
    parts = {tensor.name: hashlib.sha256() for tensor in header.tensors}
    bad_rows: dict[str, int] = {}
    hashing: list[Future[None]] = []
    with ThreadPoolExecutor(2) as pool:
        for position, tensor, piece in pieces:
            # hashlib lets go of the interpreter lock: both digests of a piece run while the next piece is made.
            _finish(hashing)
            hashing = [pool.submit(whole.update, piece)]
            if tensor:
                hashing.append(pool.submit(parts[tensor.name].update, piece))
                row = None if tensor.name in bad_rows else _non_finite_row(piece, tensor, position - tensor.offset)
                if row is not None:
                    bad_rows[tensor.name] = row
            elif position >= header.data_offset:
                require_zeros(piece, header.name)
            if progress:
                progress(len(piece))
        _finish(hashing)
    records = (
        TensorRecord(tensor.name, tensor.type, tensor.shape, tensor.nbytes, part.hexdigest(), bad_rows.get(tensor.name))
        for tensor, part in zip(header.tensors, parts.values(), strict=True)
    )
    return Description(header, Digest(header.size, whole.hexdigest()), tuple(records))


def require_finite(description: Description, what: str) -> None:
    """Refuse weights that hold NaN or infinity.

    Raises:
        FormatError: naming ``what``, the first such tensor, its first such row and how many tensors more.
    """
    bad = description.non_finite
    if bad:
        name, row = next(iter(bad.items()))
        more = f" and so do {len(bad) - 1:,} more of its tensors" if len(bad) > 1 else ""
        raise FormatError(
            f"{what}: tensor {quoted(name)} holds NaN or infinity, first in row {row:,}{more}: use other weights"
        )


def _finish(hashing: Iterable[Future[None]]) -> None:
    for each in hashing:
        each.result()


def _pieces(file: FileIO, header: Header) -> Iterator[tuple[int, Tensor | None, memoryview]]:
    buffers = cycle([memoryview(bytearray(CHUNK)) for _ in range(2)])
    for start, end, tensor in regions(header):
        for position in range(start, end, CHUNK):
            piece = next(buffers)[: min(CHUNK, end - position)]
            read_exactly(file, piece, header.name)
            yield position, tensor, piece


def _non_finite_row(chunk: Piece, tensor: Tensor, start: int) -> int | None:
    """Find the first NaN or infinity in a piece of a tensor that starts at its byte ``start``; give its row."""
    if tensor.type not in _EXPONENTS:
        return None
    dtype, mask = _EXPONENTS[tensor.type]
    exponents = np.frombuffer(chunk, np.dtype(dtype)) & mask
    # The maximum is several times faster than comparing every element.
    if exponents.max() != mask:
        return None
    element = start // tensor.type.type_size + int((exponents == mask).argmax())
    return element // tensor.shape[0]


def tensor_entries(description: Description) -> list[dict[str, Any]]:
    """Every tensor of a GGUF file: name, type, shape (row length first) and SHA-256 of its bytes."""
    return [
        {"name": tensor.name, "type": tensor.type.name, "shape": list(tensor.shape), "sha256": tensor.sha256}
        for tensor in description.tensors
    ]


def describe_with_progress(path: Path, what: str) -> Description:
    """``requant.pipeline.describe.describe`` with a progress bar."""
    with progress(path.stat().st_size, what, "B", scale=True) as bar:

        def advance(size: int) -> None:
            bar.update(size)

        return describe(path, advance)
