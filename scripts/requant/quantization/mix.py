"""Which type llama-quantize gives to each tensor of a dense model: the mix that a file type such as Q4_K_M stands for.

``llama_tensor_get_type_impl``, ``tensor_allows_quantization`` and ``tensor_type_fallback`` of llama.cpp 0c1e57098bba's
``src/llama-quant.cpp``, as a table. llama.cpp 4227c9be (August 2025) makes the same choices, except for rows that are
no multiple of 256: see ``OLDER_FALLBACKS``. Options that overrule the mix (``--pure``, ``--tensor-type`` and the like)
are not known here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from requant.formats.ggml import PLAIN, GGMLType
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import quoted
from requant.ground.errors import UnsupportedError

ARCHITECTURES = ("qwen3", "qwen2", "llama")


@dataclass(frozen=True)
class Model:
    """What the mix looks at besides the tensors: general.architecture, block_count, head_count and head_count_kv."""

    architecture: str
    layers: int
    heads: int
    kv_heads: int


@dataclass(frozen=True)
class Position:
    """Where in the model a tensor stands: the ``index``-th of ``count`` of its kind.

    ``wide`` is true when four or more query heads share one pair of key and value.
    """

    index: int
    count: int
    wide: bool
    imatrix: bool

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


@dataclass(frozen=True)
class FileType:
    """One ``llama_ftype``: ``base`` is the type of every tensor for which ``rules`` have no other.

    A rule is a type, or a function of the tensor's position that returns one, or ``None`` for ``base``.
    """

    name: str
    base: GGMLType
    rules: Mapping[str, Choice] = field(default_factory=dict)


def _when(condition: Callable[[Position], bool], kind: GGMLType, other: GGMLType | None = None) -> Choice:
    return lambda at: kind if condition(at) else other


def _wide(at: Position) -> bool:
    return at.wide


def _early(at: Position) -> bool:
    return at.early


MORE_BITS = {kind: _when(lambda at: at.more_bits, T.Q6_K) for kind in ("attn_v", "ffn_down")}
IQ4 = {
    "attn_v": _when(_wide, T.Q5_K),
    "ffn_down": _when(lambda at: at.early and not at.imatrix, T.Q5_K),
}
IQ1 = {
    "output": T.Q5_K, "token_embd": T.Q2_K, "attn_v": _when(_wide, T.Q4_K, T.Q2_K),
    "ffn_down": _when(_early, T.Q2_K), "attn_output": T.IQ2_XXS,
}  # fmt: skip
IQ2_X = {kind: choice for kind, choice in IQ1.items() if kind != "attn_output"}
IQ2 = {
    "output": T.Q5_K, "token_embd": T.IQ3_S, "attn_v": _when(_wide, T.Q4_K, T.IQ3_S),
    "ffn_down": _when(_early, T.IQ3_S), "attn_output": T.IQ3_S,
}  # fmt: skip
IQ3_XS = {
    "attn_v": _when(_wide, T.Q4_K), "attn_q": T.IQ3_XXS, "attn_k": T.IQ3_XXS,
    "ffn_gate": _when(lambda at: at.middle, T.IQ3_XXS), "ffn_up": _when(lambda at: at.middle, T.IQ3_XXS),
}  # fmt: skip
IQ3_XXS = {
    "output": T.Q5_K, "token_embd": T.IQ3_S, "attn_q": T.IQ2_S, "attn_k": T.IQ2_S, "attn_output": T.IQ3_S,
    "attn_v": _when(_wide, T.Q4_K, T.IQ3_XXS),
}  # fmt: skip


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
    12: FileType(
        "Q3_K_M", T.Q3_K,
        {
            "attn_v": _when(lambda at: at.index < 2, T.Q5_K, T.Q4_K),
            "ffn_down": _when(lambda at: at.index < at.count // 16, T.Q5_K, T.Q4_K),
            "attn_output": T.Q4_K,
        },
    ),
    13: FileType("Q3_K_L", T.Q3_K, {"attn_v": T.Q5_K, "ffn_down": T.Q5_K, "attn_output": T.Q5_K}),
    14: FileType(
        "Q4_K_S", T.Q4_K, {"attn_v": _when(lambda at: at.index < 4, T.Q5_K), "ffn_down": _when(_early, T.Q5_K)}
    ),
    15: FileType("Q4_K_M", T.Q4_K, MORE_BITS),
    16: FileType("Q5_K_S", T.Q5_K),
    17: FileType("Q5_K_M", T.Q5_K, MORE_BITS),
    18: FileType("Q6_K", T.Q6_K),
    19: FileType("IQ2_XXS", T.IQ2_XXS, IQ2_X),
    20: FileType("IQ2_XS", T.IQ2_XS, IQ2_X),
    21: FileType("Q2_K_S", T.Q2_K, {"attn_v": _when(_wide, T.Q4_K), "ffn_down": _when(_early, T.Q4_K)}),
    22: FileType("IQ3_XS", T.IQ3_S, IQ3_XS),
    23: FileType("IQ3_XXS", T.IQ3_XXS, IQ3_XXS),
    24: FileType("IQ1_S", T.IQ1_S, IQ1),
    25: FileType("IQ4_NL", T.IQ4_NL, IQ4),
    26: FileType("IQ3_S", T.IQ3_S, {"attn_v": _when(_wide, T.Q4_K)}),
    27: FileType("IQ3_M", T.IQ3_S, {"attn_v": T.Q4_K, "ffn_down": _when(_early, T.Q4_K), "attn_output": T.Q4_K}),
    28: FileType("IQ2_S", T.IQ2_XS, IQ2),
    29: FileType("IQ2_M", T.IQ2_S, IQ2),
    30: FileType("IQ4_XS", T.IQ4_XS, IQ4),
    31: FileType("IQ1_M", T.IQ1_M, IQ1),
    32: FileType("BF16", T.BF16),
    36: FileType("TQ1_0", T.TQ1_0, {"token_embd": T.Q4_K}),
    37: FileType("TQ2_0", T.TQ2_0, {"token_embd": T.Q4_K}),
}  # fmt: skip
"""By the number in general.file_type; ``llama_ftype`` in ``include/llama.h``."""

OTHER_NAMES = {38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0"}
"""File types whose mix is not known here."""

NEED_IMATRIX = frozenset({T.IQ3_XXS, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ1_M, T.IQ1_S})
"""Types that llama-quantize gives to no layer without an importance matrix; ggml itself could make IQ3_XXS."""

# For rows that are no multiple of 256 columns: types with blocks of 32.
FALLBACKS = {
    **dict.fromkeys((T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ3_XXS, T.IQ3_S, T.IQ4_XS), T.IQ4_NL),
    **dict.fromkeys((T.Q2_K, T.Q3_K, T.TQ1_0, T.TQ2_0), T.Q4_0),
    T.Q4_K: T.Q5_0,
    T.Q5_K: T.Q5_1,
    T.Q6_K: T.Q8_0,
}
OLDER_FALLBACKS = FALLBACKS | dict.fromkeys((T.Q2_K, T.Q3_K), T.IQ4_NL)
"""As of llama.cpp 4227c9be, which also refuses types with blocks of 32 for rows that are no multiple of 32."""

# These names are all that a dense model of the known architectures can have.
NAME = re.compile(
    r"(?:blk\.(?P<layer>0|[1-9]\d{0,4})\."
    r"(?P<kind>attn_[qkv]|attn_output|ffn_(?:gate|up|down)|attn_norm|ffn_norm|attn_[qk]_norm)"
    r"|(?P<top>token_embd|output|output_norm|rope_freqs))\.(?P<what>weight|bias)"
)


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


def expected_types(
    number: int,
    tensors: Mapping[str, tuple[tuple[int, ...], GGMLType]],
    model: Model,
    imatrix: bool,
    fallbacks: Mapping[GGMLType, GGMLType] = FALLBACKS,
) -> dict[str, GGMLType]:
    """The type of every tensor after llama-quantize without options but ``--imatrix``.

    Args:
        number: the general.file_type.
        tensors: all tensors of the unquantized model in any order: name, shape in ggml's order (the row length first),
            and type, which is kept where nothing is quantized.
        model: the rest of what decides.
        imatrix: whether an importance matrix is given.
        fallbacks: what takes the place of types whose blocks do not fit the rows; differs between versions.

    Raises:
        UnsupportedError: when this module does not know the file type, the architecture or a tensor, or when
            llama-quantize would refuse.
    """
    if number not in FILE_TYPES:
        raise UnsupportedError(f"the mix of {file_type_name(number)} is not known to requant")
    if model.architecture not in ARCHITECTURES:
        raise UnsupportedError(
            f"the quant mix for the architecture {quoted(model.architecture)} is not known to requant"
        )
    kinds = {name: _kind(name) for name in tensors}
    counts = dict.fromkeys(("ffn_down", "ffn_gate", "ffn_up"), model.layers)
    counts["attn_v"] = sum(kind == "attn_v" for _, kind in kinds.values())
    seen: dict[str, int] = {}
    found: dict[str, GGMLType] = {}
    # llama-quantize goes through the layers in order and counts as it goes.
    for name in sorted(tensors, key=lambda name: (kinds[name][0], name)):
        shape, source = tensors[name]
        kind = kinds[name][1]
        if kind is None or sum(length > 1 for length in shape[1:]) == 0:
            found[name] = source
            continue
        if kind == "token_embd" and "output.weight" not in tensors:
            kind = "output"
        index = seen[kind] = seen.get(kind, -1) + 1
        position = Position(index, counts.get(kind, 0), model.heads >= 4 * model.kv_heads > 0, imatrix)
        found[name] = fitting(_choose(FILE_TYPES[number], kind, shape[0], position, model), shape[0], fallbacks)
    _require_imatrix(number, found, imatrix)
    return found


def _kind(name: str) -> tuple[int, str | None]:
    """The layer of a tensor (-1 outside of them), and the kind that rules go by: ``None`` if it is never quantized."""
    match = NAME.fullmatch(name)
    if not match:
        raise UnsupportedError(f"the quant mix for a model with the tensor {quoted(name)} is not known to requant")
    kind = match["kind"] or match["top"]
    quantized = match["what"] == "weight" and not kind.endswith(("_norm", "rope_freqs"))
    return int(match["layer"] or -1), kind if quantized else None


def _choose(file_type: FileType, kind: str, columns: int, at: Position, model: Model) -> GGMLType:
    base = file_type.base
    if base in PLAIN:
        return base
    if kind == "output" and columns % base.block_size:
        return T.Q8_0
    rule = file_type.rules.get(kind, T.Q6_K if kind == "output" else base)
    if file_type.name == "IQ3_XXS" and kind in ("ffn_down", "attn_v") and not at.imatrix:
        raise UnsupportedError("llama-quantize refuses IQ3_XXS without an importance matrix")
    chosen = rule if isinstance(rule, GGMLType) else rule(at) or base
    # Models of the 70B class share each value among eight heads, so better ones cost little.
    shared = model.architecture == "qwen2" or model.heads != model.kv_heads
    class_70b = model.layers == 80 and shared and model.architecture in ("qwen2", "llama")
    if class_70b and kind == "attn_v" and not file_type.name.startswith(("IQ1", "IQ2")) and chosen in (T.Q3_K, T.Q4_K):
        return T.Q5_K
    return chosen


def fitting(kind: GGMLType, columns: int, fallbacks: Mapping[GGMLType, GGMLType] = FALLBACKS) -> GGMLType:
    """``kind``, or what takes its place where rows of so many ``columns`` are no multiple of its blocks.

    >>> [fitting(T.Q4_K, columns).name for columns in (4096, 4064, 100)]
    ['Q4_K', 'Q5_0', 'F16']
    """
    if columns % kind.block_size == 0:
        return kind
    fallback = fallbacks.get(kind, kind)
    return T.F16 if columns % fallback.block_size else fallback


def _require_imatrix(number: int, types: Mapping[str, GGMLType], imatrix: bool) -> None:
    if imatrix:
        return
    needy = NEED_IMATRIX | {T.Q2_K} if FILE_TYPES[number].name == "Q2_K_S" else NEED_IMATRIX
    if any(kind in needy for name, kind in types.items() if name not in ("token_embd.weight", "output.weight")):
        raise UnsupportedError(f"llama-quantize refuses {file_type_name(number)} without an importance matrix")
