"""The file types of llama-quantize, such as Q4_K_M, as a table: which type each kind of tensor gets, and where.

``llama_ftype`` of llama.cpp 0c1e57098bba's ``include/llama.h``, ``llama_ftype_get_default_type`` and
``llama_tensor_get_type_impl`` of its ``src/llama-quant.cpp``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from requant.formats.ggml import GGMLType
from requant.formats.ggml import GGMLType as T


@dataclass(frozen=True)
class Position:
    """Where in the model a tensor stands: the ``index``-th of ``count`` of its kind.

    ``wide`` is true when four or more query heads share one pair of key and value; ``experts`` is how many there are.
    """

    index: int
    count: int
    wide: bool
    imatrix: bool
    experts: int = 0

    @property
    def early(self) -> bool:
        """Among the first eighth."""
        return self.index < self.count // 8

    @property
    def middle(self) -> bool:
        """Neither among the first nor among the last eighth."""
        return self.count // 8 <= self.index < 7 * self.count // 8

    @property
    def more_bits(self) -> bool:
        """In the first or last eighth, or every third between them: ``use_more_bits``."""
        return not self.middle or (self.index - self.count // 8) % 3 == 2


Choice: TypeAlias = "GGMLType | Callable[[Position], GGMLType | None]"
Rules: TypeAlias = Mapping[str, Choice]


@dataclass(frozen=True)
class FileType:
    """One ``llama_ftype``: ``base`` is the type of every tensor for which ``rules`` have no other.

    A rule is a type, or a function of the tensor's position that returns one, or ``None`` for ``base``.
    """

    name: str
    base: GGMLType
    rules: Rules = field(default_factory=dict)

    @property
    def lowest(self) -> bool:
        """Whether it is of those with the fewest bits, for which upstream has a branch of its own."""
        return self.name.startswith(("IQ1", "IQ2"))


def _when(condition: Callable[[Position], bool], kind: GGMLType, other: GGMLType | None = None) -> Choice:
    return lambda at: kind if condition(at) else other


def _wide(at: Position) -> bool:
    return at.wide


def _shared(at: Position) -> bool:
    return at.wide or at.experts >= 4


def _early(at: Position) -> bool:
    return at.early


def _base(_: Position) -> None:
    return None


MORE_BITS: Rules = {kind: _when(lambda at: at.more_bits, T.Q6_K) for kind in ("attn_v", "ffn_down")}
IQ4 = {
    "attn_v": _when(_wide, T.Q5_K),
    "ffn_down": _when(lambda at: at.early and not at.imatrix, T.Q5_K),
}
IQ1 = {
    "output": T.Q5_K, "token_embd": T.Q2_K, "attn_v": _when(_shared, T.Q4_K, T.Q2_K),
    "ffn_down": _when(_early, T.Q2_K), "attn_output": T.IQ2_XXS,
}  # fmt: skip
IQ2_X = {kind: choice for kind, choice in IQ1.items() if kind != "attn_output"}
IQ2 = {
    "output": T.Q5_K, "token_embd": T.IQ3_S, "attn_v": _when(_shared, T.Q4_K, T.IQ3_S),
    "ffn_down": _when(_early, T.IQ3_S), "attn_output": T.IQ3_S,
}  # fmt: skip
IQ3_XS = {
    "attn_v": _when(_wide, T.Q4_K), "attn_q": T.IQ3_XXS, "attn_k": T.IQ3_XXS,
    "ffn_gate": _when(lambda at: at.middle, T.IQ3_XXS), "ffn_up": _when(lambda at: at.middle, T.IQ3_XXS),
}  # fmt: skip
IQ3_XXS: Rules = {
    "output": T.Q5_K, "token_embd": T.IQ3_S, "attn_q": T.IQ2_S, "attn_k": T.IQ2_S, "attn_output": T.IQ3_S,
    "attn_v": lambda at: T.Q4_K if at.wide else T.IQ3_XXS if at.imatrix else T.IQ3_S,
    "ffn_down": lambda at: None if at.imatrix else T.Q4_K if at.early else T.Q3_K,
}  # fmt: skip
IQ3_M: Rules = {
    "attn_v": T.Q4_K, "attn_qkv": T.Q4_K, "attn_output": T.Q4_K,
    "ffn_down": _when(lambda at: at.early or (at.experts == 8 and at.more_bits), T.Q4_K),
}  # fmt: skip
Q3_K_M: Rules = {
    "attn_v": _when(lambda at: at.index < 2, T.Q5_K, T.Q4_K), "attn_qkv": T.Q4_K, "attn_output": T.Q4_K,
    "ffn_down": _when(lambda at: at.index < at.count // 16, T.Q5_K, T.Q4_K),
}  # fmt: skip
Q3_K_L = {"attn_v": T.Q5_K, "attn_qkv": T.Q4_K, "ffn_down": T.Q5_K, "attn_output": T.Q5_K}
TERNARY = {"token_embd": T.Q4_K}


def _legacy(kind: GGMLType) -> dict[str, Choice]:
    return {"ffn_down": _when(lambda at: at.imatrix and at.early, kind)}


FILE_TYPES = {
    0: FileType("F32", T.F32),
    1: FileType("F16", T.F16),
    2: FileType("Q4_0", T.Q4_0, _legacy(T.Q4_1)),
    3: FileType("Q4_1", T.Q4_1),
    7: FileType("Q8_0", T.Q8_0, {"output": T.Q8_0}),
    8: FileType("Q5_0", T.Q5_0, _legacy(T.Q5_1)),
    9: FileType("Q5_1", T.Q5_1),
    10: FileType(
        "Q2_K", T.Q2_K, {"attn_v": _when(_wide, T.Q4_K, T.Q3_K), "ffn_down": T.Q3_K, "attn_output": T.Q3_K}
    ),
    11: FileType("Q3_K_S", T.Q3_K),
    12: FileType("Q3_K_M", T.Q3_K, Q3_K_M),
    13: FileType("Q3_K_L", T.Q3_K, Q3_K_L),
    14: FileType(
        "Q4_K_S", T.Q4_K, {"attn_v": _when(lambda at: at.index < 4, T.Q5_K), "ffn_down": _when(_early, T.Q5_K)}
    ),
    15: FileType("Q4_K_M", T.Q4_K, {**MORE_BITS, "attn_qkv": T.Q5_K}),
    16: FileType("Q5_K_S", T.Q5_K),
    17: FileType("Q5_K_M", T.Q5_K, {**MORE_BITS, "attn_qkv": T.Q6_K}),
    18: FileType("Q6_K", T.Q6_K),
    19: FileType("IQ2_XXS", T.IQ2_XXS, IQ2_X),
    20: FileType("IQ2_XS", T.IQ2_XS, IQ2_X),
    21: FileType("Q2_K_S", T.Q2_K, {"attn_v": _when(_wide, T.Q4_K), "ffn_down": _when(_early, T.Q4_K)}),
    22: FileType("IQ3_XS", T.IQ3_S, IQ3_XS),
    23: FileType("IQ3_XXS", T.IQ3_XXS, IQ3_XXS),
    24: FileType("IQ1_S", T.IQ1_S, IQ1),
    25: FileType("IQ4_NL", T.IQ4_NL, IQ4),
    26: FileType("IQ3_S", T.IQ3_S, {"attn_v": _when(_wide, T.Q4_K)}),
    27: FileType("IQ3_M", T.IQ3_S, IQ3_M),
    28: FileType("IQ2_S", T.IQ2_XS, IQ2),
    29: FileType("IQ2_M", T.IQ2_S, IQ2),
    30: FileType("IQ4_XS", T.IQ4_XS, IQ4),
    31: FileType("IQ1_M", T.IQ1_M, IQ1),
    32: FileType("BF16", T.BF16),
    36: FileType("TQ1_0", T.TQ1_0, TERNARY),
    37: FileType("TQ2_0", T.TQ2_0, TERNARY),
    38: FileType("MXFP4_MOE", T.MXFP4),
    40: FileType("Q1_0", T.Q1_0),
    41: FileType("Q2_0", T.Q2_0, TERNARY),
}  # fmt: skip
"""By the number in general.file_type. The rules for ``attn_qkv`` are those of versions that tell it from ``attn_v``."""

OTHER_NAMES = {39: "NVFP4"}
"""File types that only the converter makes."""

SPARED_WITH_8 = frozenset(
    {"Q2_K", "IQ3_XS", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ3_S", "IQ3_M", "IQ4_XS"}
)
"""File types that give Q5_K to the output of attention in models of 8 experts."""


def _falcon(first: GGMLType, more: GGMLType, other: GGMLType) -> Rules:
    """Of ``ffn_down``: in the first sixteenth, where there are more bits, and elsewhere."""
    return {"ffn_down": lambda at: first if at.index < at.count // 16 else more if at.more_bits else other}


FALCON: Mapping[str, Rules] = {
    "Q3_K_M": _falcon(T.Q5_K, T.Q4_K, T.Q3_K), "Q3_K_L": {"ffn_down": T.Q4_K},
    "Q4_K_M": _falcon(T.Q6_K, T.Q5_K, T.Q4_K), "Q4_K_S": {"ffn_down": _base},
}  # fmt: skip


def with_8_experts(file_type: FileType) -> Rules:
    """What is otherwise in models with 8 experts, such as Mixtral: attention is small beside them."""
    if file_type.lowest:
        return {"attn_k": T.Q4_K, "attn_output": T.Q5_K}
    return {
        "attn_v": T.Q8_0, "attn_k": T.Q8_0,
        "attn_output": T.Q5_K if file_type.name in SPARED_WITH_8 else _base,
    }  # fmt: skip


def of_falcon(file_type: FileType) -> Rules:
    """What is otherwise in models of the architecture falcon."""
    if file_type.lowest:
        return {"output": T.Q8_0}
    attention: Choice = T.Q4_K if file_type.name == "Q3_K_L" else _base
    return {"output": T.Q8_0, "attn_output": attention, **FALCON.get(file_type.name, {})}


def base_type(quant: str) -> GGMLType:
    """The type that a quant, such as Q4_K_M, has where its mix says nothing else.

    >>> base_type("Q4_K_M").name
    'Q4_K'
    """
    return next(file_type.base for file_type in FILE_TYPES.values() if file_type.name == quant)


def file_type_name(number: int) -> str:
    """What llama-quantize calls a general.file_type, or its number where that has no name.

    >>> file_type_name(15), file_type_name(9999)
    ('Q4_K_M', 'file type 9999')
    """
    return FILE_TYPES[number].name if number in FILE_TYPES else OTHER_NAMES.get(number, f"file type {number}")
