"""The types of GGUF metadata values and of ggml tensors, with the sizes of the latter's blocks; how ggml rounds.

Numbers and names: ``gguf.h`` and ``ggml.h`` of llama.cpp; block and type sizes: its ``ggml-common.h``.
"""

from enum import IntEnum, StrEnum
from functools import cache
from typing import Any, Self, TypeAlias

import numpy as np


class ValueType(IntEnum):
    """``gguf_metadata_value_type``, with the numpy type that holds it; ``None`` for strings and arrays."""

    dtype: np.dtype[Any] | None

    def __new__(cls, value: int, dtype: str | None) -> Self:
        """Attach the numpy type to the number that stands in files."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.dtype = np.dtype(dtype) if dtype else None
        return member

    UINT8 = 0, "u1"
    INT8 = 1, "i1"
    UINT16 = 2, "<u2"
    INT16 = 3, "<i2"
    UINT32 = 4, "<u4"
    INT32 = 5, "<i4"
    FLOAT32 = 6, "<f4"
    BOOL = 7, "?"
    STRING = 8, None
    ARRAY = 9, None
    UINT64 = 10, "<u8"
    INT64 = 11, "<i8"
    FLOAT64 = 12, "<f8"


class GGMLType(IntEnum):
    """``ggml_type``: how the numbers of a tensor are stored, with weights per block and bytes per block."""

    block_size: int
    type_size: int

    def __new__(cls, value: int, block_size: int, type_size: int) -> Self:
        """Attach both sizes to the number that stands in files."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.block_size = block_size
        member.type_size = type_size
        return member

    F32 = 0, 1, 4
    F16 = 1, 1, 2
    Q4_0 = 2, 32, 18
    Q4_1 = 3, 32, 20
    Q5_0 = 6, 32, 22
    Q5_1 = 7, 32, 24
    Q8_0 = 8, 32, 34
    Q8_1 = 9, 32, 40
    Q2_K = 10, 256, 84
    Q3_K = 11, 256, 110
    Q4_K = 12, 256, 144
    Q5_K = 13, 256, 176
    Q6_K = 14, 256, 210
    Q8_K = 15, 256, 292
    IQ2_XXS = 16, 256, 66
    IQ2_XS = 17, 256, 74
    IQ3_XXS = 18, 256, 98
    IQ1_S = 19, 256, 50
    IQ4_NL = 20, 32, 18
    IQ3_S = 21, 256, 110
    IQ2_S = 22, 256, 82
    IQ4_XS = 23, 256, 136
    I8 = 24, 1, 1
    I16 = 25, 1, 2
    I32 = 26, 1, 4
    I64 = 27, 1, 8
    F64 = 28, 1, 8
    IQ1_M = 29, 256, 56
    BF16 = 30, 1, 2
    TQ1_0 = 34, 256, 54
    TQ2_0 = 35, 256, 66
    MXFP4 = 39, 32, 17
    NVFP4 = 40, 64, 36
    Q1_0 = 41, 128, 18
    Q2_0 = 42, 64, 18

    @classmethod
    def of(cls, number: int) -> "GGMLType":
        """The type of a number; one that llama.cpp dropped or never had gets a member of no known size.

        >>> GGMLType.of(12).name, GGMLType.of(32).name, GGMLType.of(144).name, GGMLType.of(144).is_known
        ('Q4_K', 'Q4_0_4_8', 'TYPE_144', False)
        """
        return GGML_TYPES[number] if number in GGML_TYPES else cls._unknown(number)

    @classmethod
    @cache
    def _unknown(cls, number: int) -> Self:
        """As ``enum.Flag`` makes members for numbers that it does not list: one for each, so ``is`` compares them."""
        member = int.__new__(cls, number)
        member._value_ = number
        member._name_ = REMOVED.get(number, f"TYPE_{number}")
        member.block_size, member.type_size = 1, 0
        return member

    @property
    def is_known(self) -> bool:
        """Whether the size of its blocks is known."""
        return self.type_size > 0


REMOVED = {
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}  # fmt: skip
"""What llama.cpp once wrote and reads no longer, by its number in ``ggml.h``."""


class Arithmetic(StrEnum):
    """How a compiler let ggml's quantization round: each product and each sum, or both at once (fused multiply-add)."""

    STRICT = "strict"
    FUSED = "fused"

    @property
    def other(self) -> "Arithmetic":
        """The one that it is not."""
        return Arithmetic.FUSED if self is Arithmetic.STRICT else Arithmetic.STRICT


GGML_TYPES = {int(kind): kind for kind in GGMLType}
VALUE_TYPES = {int(kind): kind for kind in ValueType}

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

Indices: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

PLAIN = (GGMLType.F32, GGMLType.F16, GGMLType.BF16)

NEEDS_IMPORTANCE = (
    GGMLType.IQ1_S, GGMLType.IQ1_M, GGMLType.IQ2_XXS, GGMLType.IQ2_XS, GGMLType.IQ2_S,
)  # fmt: skip

COPIED = (
    GGMLType.MXFP4, GGMLType.NVFP4, GGMLType.I8, GGMLType.I16, GGMLType.I32, GGMLType.I64, GGMLType.F64,
)  # fmt: skip
"""Types that weights come in, and whose bytes a quant has as they are."""

UNSEARCHED = (*PLAIN, GGMLType.Q8_0, *COPIED)
"""Types that nothing is searched for: no compiler rounds them otherwise."""

WITHOUT_IMPORTANCE = (*UNSEARCHED, GGMLType.TQ1_0, GGMLType.TQ2_0)
"""Types that take no notice of importances."""

DERIVED = (
    *PLAIN, *NEEDS_IMPORTANCE,
    GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1, GGMLType.Q8_0,
    GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K,
    GGMLType.IQ3_XXS, GGMLType.IQ3_S, GGMLType.IQ4_NL, GGMLType.IQ4_XS,
    GGMLType.TQ1_0, GGMLType.TQ2_0,
)  # fmt: skip
"""Types whose bytes are derived here; any other is reported as not checked."""


def row_bytes(kind: GGMLType, columns: int) -> int:
    """Bytes of a row of ``columns`` weights, a multiple of the type's block.

    >>> row_bytes(GGMLType.Q4_K, 512), row_bytes(GGMLType.F32, 512)
    (288, 2048)
    """
    return columns // kind.block_size * kind.type_size
