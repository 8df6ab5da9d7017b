"""The second source of layouts: upstream's converter, asked where it would put every row.

``requant.toolchain.converter`` asks; here is what it is told, and what its answer means. Both are plain data, so that
nothing of a converter's environment gets in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from requant.conversion.sources import Layout, Rows, Scale, Sources, Untold
from requant.formats.ggml import GGMLType
from requant.formats.gguf import quoted
from requant.formats.packed import CODES, FP8
from requant.formats.safetensors import STORED, Checkpoint, Floats, StoredTensor, rows_as_float32
from requant.ground.errors import FormatError

SMALL = 1 << 20
"""Elements of a tensor whose values upstream may compute with."""
SMALL_IN_ALL = 1 << 26
MATRICES = ("weight", "proj", "blocks", "scales", "weight_scale", "_scale_inv")
"""How the names of stored matrices and their scales end; what is called otherwise, such as a bias of experts, is small
or a vector."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """Rows that come from here and there, as ``Sources``.

    ``runs`` are rows that lie equally far apart in one stored tensor, int64 ``[runs, 4]``: which of ``stored``, its
    element that the first row starts with, the number of rows, and how many elements lie between their starts.
    """

    shape: tuple[int, ...]
    type: GGMLType
    stored: tuple[str, ...]
    runs: Rows
    within: Rows | None

    def places(self, indices: Rows) -> tuple[Rows, Rows]:
        """As of ``Sources``."""
        ends = np.cumsum(self.runs[:, 2])
        which = np.searchsorted(ends, indices, "right")
        owner, first, count, step = self.runs[which].T
        return owner, first + step * (indices - (ends[which] - count))


def small_values(checkpoint: Checkpoint) -> Iterator[tuple[str, Floats]]:
    """The stored tensors that upstream may compute with, read whole, as float32 of their own shape.

    Raises:
        FormatError, SourceError: when they cannot be read.
    """
    left = SMALL_IN_ALL
    for name, tensor in checkpoint.tensors.items():
        size = prod(tensor.shape)
        vector = len(tensor.shape) < 2 or not name.endswith(MATRICES)
        if vector and tensor.dtype in STORED and 0 < size <= min(SMALL, left):
            left -= size
            yield name, rows_as_float32(tensor, slice(0, tensor.rows)).reshape(tensor.shape)


def layout_of(
    checkpoint: Checkpoint,
    tensors: Mapping[str, Mapping[str, Any]],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    scales: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> Layout:
    """The layout that an answer describes; it is held against the checkpoint, as a stranger's files led to it.

    Args:
        checkpoint: the stored tensors, in the order in which the answer counts them.
        tensors: of every GGUF tensor ``shape``, ``type`` and one of ``runs`` (with ``within``, if need be), ``values``
            (with ``exact``) and ``unchecked``, as ``asking.program`` writes them.
        arrays: what these name.
        scales: by a stored tensor's number that of its scales, and for how many rows and columns each of them is.

    Raises:
        FormatError: when it names rows or scales that are not there.
    """
    stored = [*checkpoint.tensors.values()]
    scaled = dict(_scale(stored, int(number), *each) for number, each in scales.items())
    eights = {each.name for each in stored if each.dtype in FP8}
    gathered: dict[str, Sources] = {}
    computed: dict[str, Floats] = {}
    untold: dict[str, Untold] = {}
    for name, said in tensors.items():
        shape, kind = tuple(said["shape"]), GGMLType[said["type"]]
        if "runs" in said:
            within = arrays[said["within"]] if "within" in said else None
            gathered[name] = _gathered(stored, name, shape, kind, arrays[said["runs"]], within)
            codes = [each for each in gathered[name].stored if each in scaled and each not in eights]
            if codes != [*gathered[name].stored] if kind is GGMLType.MXFP4 else codes:
                raise FormatError(f"upstream's converter was asked about {quoted(name)}, and named other scales")
        elif "values" in said and kind is GGMLType.F32:
            computed[name] = arrays[said["values"]].reshape(tuple(reversed(shape)))
        else:
            why = said.get("unchecked", f"upstream's converter computes it, and stores it as {kind.name}")
            untold[name] = Untold(shape, kind, why)
    exact = frozenset(name for name in computed if tensors[name]["exact"])
    return Layout(tensors=gathered, computed=computed, exact=exact, untold=untold, scales=scaled)


def _scale(stored: list[StoredTensor], number: int, scales: int, rows: int, columns: int) -> tuple[str, Scale]:
    """The name and the scales of a stored tensor, FP8 or the codes of MXFP4; they must be as many as it takes."""
    good = 0 <= min(number, scales) <= max(number, scales) < len(stored) and min(rows, columns) > 0
    if good:
        tensor, numbers = stored[number], stored[scales]
        if tensor.dtype in FP8:
            wanted = -(-tensor.rows // rows) * -(-tensor.columns // columns)
            good = numbers.dtype in STORED and prod(numbers.shape) == wanted
        else:
            good = {tensor.dtype, numbers.dtype} == {"U8"} and numbers.shape == tensor.shape[:-1]
            good = good and (rows, columns) == (1, CODES) == (1, tensor.columns) and len(numbers.shape) > 1
    if not good:
        raise FormatError("upstream's converter was asked about scales, and named others than a tensor can have")
    return tensor.name, Scale(numbers.name, rows, columns)


def _gathered(
    stored: list[StoredTensor], name: str, shape: tuple[int, ...], kind: GGMLType, runs: Rows, within: Rows | None
) -> Gathered:
    owners, first, count, step = runs.T
    used, numbers = np.unique(owners, return_inverse=True)
    good = bool(len(runs)) and bool((used >= 0).all() and (used < len(stored)).all()) and bool((count > 0).all())
    good = good and int(count.sum()) == prod(shape[1:]) and (within is None or within.shape == shape[:1])
    if good:
        sizes = np.array([prod(stored[number].shape) for number in used.tolist()])[numbers]
        widths = [stored[number].columns for number in used.tolist()]
        length = shape[0]
        if kind is GGMLType.MXFP4:
            # Rows are of all blocks, and a byte is of two elements.
            widths = [prod(stored[number].shape[-2:]) for number in used.tolist()]
            length, within = shape[0] // 2, None
        columns = np.array(widths)[numbers]
        low, high = (0, length - 1) if within is None else (int(within.min()), int(within.max()))
        last = first + step * (count - 1)
        good = bool((np.minimum(first, last) + low >= 0).all() and (np.maximum(first, last) + high < sizes).all())
        whole = (columns == length) & (first % columns == 0) & (step % columns == 0)
        good = good and (within is not None or bool(whole.all()))
    if not good:
        raise FormatError(f"upstream's converter was asked about {quoted(name)}, and named rows that are not there")
    places = np.column_stack([numbers, first, count, step])
    return Gathered(shape, kind, tuple(stored[number].name for number in used.tolist()), places, within)
