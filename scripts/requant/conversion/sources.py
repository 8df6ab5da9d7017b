"""Where the rows of a GGUF lie in a checkpoint: the one form that every source of layouts gives its answer in.

``layout`` knows some families of models by itself, ``asked`` reads off what upstream's converter did.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from requant.formats.ggml import GGMLType

ROPE_TOLERANCE = 1e-5
"""Relative; the converter takes float32 powers, whose last bits depend on its version of torch."""

Rows: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]


class Sources(Protocol):
    """Where every row of one GGUF tensor lies in the checkpoint.

    ``shape`` is in ggml's order (the length of a row first; a vector is one row), ``type`` the one in a GGUF converted
    to BF16; a type of blocks says that stored ones are moved as they are. ``stored`` are the names of the stored
    tensors that it is made of. The elements of a row lie, counted from where the row starts, at ``within``; ``None``
    stands for one after another.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def type(self) -> GGMLType: ...  # noqa: D102

    @property
    def stored(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def within(self) -> Rows | None: ...  # noqa: D102

    def places(self, indices: Rows) -> tuple[Rows, Rows]:
        """Which of ``stored`` each row comes from, and the element of it that the row starts with; int64 as given."""
        ...


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a conversion of a checkpoint holds: all tensors by their names in the GGUF, in no particular order.

    ``tensors`` come from stored ones. ``computed`` are float32 values that the converter works out, row length last;
    those in ``exact`` to the last bit, others within ``ROPE_TOLERANCE``. ``untold`` are those of which nobody knows
    where they come from. ``scales`` belong to the stored tensors of these names.
    """

    tensors: Mapping[str, Sources]
    computed: Mapping[str, Floats] = field(compare=False)
    exact: frozenset[str] = frozenset()
    untold: Mapping[str, "Untold"] = field(default_factory=dict)
    scales: Mapping[str, "Scale"] = field(default_factory=dict)


class Scale(NamedTuple):
    """What a stored tensor's numbers are multiplied with: a number of ``name`` for so many of its rows and columns.

    The numbers for the same rows stand side by side. Rows of MXFP4 have as many columns as bytes.
    """

    name: str
    rows: int
    columns: int


class Untold(NamedTuple):
    """A tensor whose origin is not known: its shape in ggml's order, its type, and the reason."""

    shape: tuple[int, ...]
    type: GGMLType
    why: str
