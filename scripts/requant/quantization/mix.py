"""Which type llama-quantize gives to each tensor of a model: the mix that a file type such as Q4_K_M stands for.

``llama_tensor_get_type_impl`` and ``tensor_type_fallback`` of ``src/llama-quant.cpp`` in two versions of llama.cpp,
for every architecture that they know. Options that overrule the mix (``--pure``, ``--tensor-type`` and the like) are
not known here.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self, TypeAlias

import numpy as np

from requant.formats.ggml import PLAIN, GGMLType
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Field, quoted
from requant.ground.errors import UnsupportedError
from requant.quantization.file_types import (
    FILE_TYPES,
    FileType,
    Position,
    Rules,
    file_type_name,
    of_falcon,
    with_8_experts,
)
from requant.quantization.tensor_kinds import (
    ARCHITECTURES,
    BAILING,
    EMBEDDINGS,
    FALCON,
    GLM5,
    OUTPUT,
    SPARED_OF_GLM5,
    is_quantized,
    kind_of,
    layer_of,
)

Tensors: TypeAlias = Mapping[str, tuple[tuple[int, ...], GGMLType]]

FEED_FORWARD = ("ffn_down", "ffn_gate", "ffn_up")
SHORT = 32
"""The blocks of types that nothing with shorter ones could take the place of."""
NEED_IMATRIX = frozenset({T.IQ3_XXS, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ1_M, T.IQ1_S})
"""Types that llama-quantize gives to no layer without an importance matrix; ggml itself could make IQ3_XXS."""
LAYERS_OF_70B = {"llama": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}
"""``LLM_TYPE_70B``: models that share each value among eight heads, so that better ones cost little."""


@dataclass(frozen=True)
class Model:
    """What the mix looks at besides the tensors: ``general.architecture``, and how many there are of what.

    ``layers`` are those of block_count, with what predicts further tokens; ``heads`` and ``kv_heads`` those of the
    first layer, where they differ.
    """

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    experts: int = 0

    @classmethod
    def of(cls, metadata: Mapping[str, Field]) -> Self:
        """Of a GGUF's header; zero and nothing where it does not say."""
        named = metadata.get("general.architecture")
        name = str(named.value) if named is not None else ""

        def number(key: str, other: int = 0) -> int:
            return _first(metadata.get(f"{name}.{key}"), other)

        layers, heads = number("block_count"), number("attention.head_count")
        # As their ``load_arch_hparams`` count: layers that are gone through again, and one more for the router.
        layers *= number("num_loops", 1) if name == "nanbeige" else 1
        layers += 1 - number("nextn_predict_layers") if name == "graniteswitch" else 0
        return cls(name, layers, heads, number("attention.head_count_kv", heads), number("expert_count"))

    @property
    def wide(self) -> bool:
        """Whether four or more query heads share one pair of key and value."""
        return self.heads >= 4 * self.kv_heads > 0

    @property
    def is_70b(self) -> bool:
        """Whether llama.cpp takes it for one of 70 billion weights."""
        if self.architecture == "llama" and (self.experts == 8 or self.heads == self.kv_heads):
            return False
        return LAYERS_OF_70B.get(self.architecture) == self.layers


def _first(field: Field | None, other: int) -> int:
    """A number, or the first of several."""
    value = None if field is None else field.value
    if isinstance(value, np.ndarray):
        value = value[0].item() if value.size else None
    return value if type(value) is int else other


@dataclass(frozen=True, eq=False)
class Version:
    """What versions of llama-quantize do otherwise.

    ``fallbacks`` take the place of types whose blocks of 256 do not fit the rows. ``values`` are the kinds that are
    counted and treated as values of attention. ``tied`` are the embeddings that stand for an output that is not there.
    """

    fallbacks: Mapping[GGMLType, GGMLType]
    values: frozenset[str]
    tied: tuple[str, ...]
    narrow: bool = True


FALLBACKS = {
    **dict.fromkeys((T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ3_XXS, T.IQ3_S, T.IQ4_XS), T.IQ4_NL),
    **dict.fromkeys((T.Q2_0, T.Q2_K, T.Q3_K, T.TQ1_0, T.TQ2_0), T.Q4_0),
    T.Q4_K: T.Q5_0,
    T.Q5_K: T.Q5_1,
    T.Q6_K: T.Q8_0,
}
COUNTED = frozenset({"attn_v", "attn_qkv", "attn_kv_b"})
"""Kinds that are counted as values in the model as a whole."""
NEWER = Version(FALLBACKS, COUNTED, EMBEDDINGS)
"""llama.cpp 0c1e57098bba (October 2026)."""
OLDER = Version(
    FALLBACKS | dict.fromkeys((T.Q2_K, T.Q3_K), T.IQ4_NL), frozenset({"attn_v"}), EMBEDDINGS[:1], narrow=False
)
"""llama.cpp 4227c9be (August 2025), which refuses types with blocks of 32 for rows that are no multiple of 32."""
VERSIONS = (NEWER, OLDER)
LONGEST_BLOCK = max(kind.block_size for kind in GGMLType)


def versions_for(tensors: Tensors) -> tuple[Version, ...]:
    """The versions that may choose differently for such tensors; the newest alone where all choose alike."""
    odd = any(shape[0] % LONGEST_BLOCK for shape, _ in tensors.values())
    named = any(kind_of(name) in COUNTED - OLDER.values or name in EMBEDDINGS[1:] for name in tensors)
    return VERSIONS if odd or named else (NEWER,)


def expected_types(
    number: int, tensors: Tensors, model: Model, imatrix: bool, version: Version = NEWER
) -> dict[str, GGMLType]:
    """The type of every tensor after llama-quantize without options but ``--imatrix``.

    Args:
        number: the general.file_type.
        tensors: all tensors of the unquantized model in any order: name, shape in ggml's order (the row length first),
            and type, which is kept where nothing is quantized.
        model: the rest of what decides.
        imatrix: whether an importance matrix is given.
        version: whose choices these are.

    Raises:
        UnsupportedError: when this module does not know the file type or the architecture, or when llama-quantize
            would refuse.
    """
    if number not in FILE_TYPES:
        raise UnsupportedError(f"the mix of {file_type_name(number)} is not known to requant")
    if model.architecture not in ARCHITECTURES:
        raise UnsupportedError(
            f"the quant mix for the architecture {quoted(model.architecture)} is not known to requant"
        )
    state = _State(FILE_TYPES[number], model, imatrix, version, OUTPUT not in tensors)
    state.counts["attn_v"] = sum(kind_of(name) in COUNTED for name in tensors)
    # llama-quantize goes through the layers in order and counts as it goes.
    names = sorted(tensors, key=lambda name: (layer_of(name), name))
    found = {name: _type_of(name, *tensors[name], state) for name in names}
    _require_imatrix(number, found, imatrix)
    return found


@dataclass
class _State:
    """How far llama-quantize has come: ``seen`` tensors of each kind, of ``counts`` in all."""

    file_type: FileType
    model: Model
    imatrix: bool
    version: Version
    tied: bool
    seen: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.counts.update(dict.fromkeys(FEED_FORWARD, self.model.layers))

    @cached_property
    def rules(self) -> Rules:
        """Those of the file type, as far as such a model has no others."""
        others = with_8_experts(self.file_type) if self.model.experts == 8 else {}
        falcon = of_falcon(self.file_type) if self.model.architecture == FALCON else {}
        return {**self.file_type.rules, **others, **falcon}

    def position(self, name: str, kind: str) -> Position:
        """Where a tensor stands; from now on it is among those that were seen."""
        index = self.seen[kind]
        self.seen[kind] += 1
        if kind in FEED_FORWARD and self.model.experts > 1 and not self.file_type.lowest:
            # Experts are not in the order of the layers, so their names say where they are.
            index = layer_of(name)
            if not 0 <= index < self.model.layers:
                raise UnsupportedError(f"llama-quantize refuses {quoted(name)}, which is in none of the layers")
        return Position(index, self.counts[kind], self.model.wide, self.imatrix, self.model.experts)


def _type_of(name: str, shape: tuple[int, ...], source: GGMLType, state: _State) -> GGMLType:
    """The type of the tensor that comes next."""
    if not is_quantized(name, shape, state.model.architecture):
        return source
    base = state.file_type.base
    if base in PLAIN:
        return base
    return _fitting(_choose(name, shape, state), shape[0], state.version)


def _choose(name: str, shape: tuple[int, ...], state: _State) -> GGMLType:
    """What ``llama_tensor_get_type_impl`` returns."""
    file_type, model = state.file_type, state.model
    if model.architecture == GLM5 and any(part in name for part in SPARED_OF_GLM5):
        return T.Q8_0
    kind = kind_of(name)
    if kind in state.version.values:
        kind = "attn_v"
    if state.tied and name in state.version.tied:
        kind = "output"
    if file_type.base is T.MXFP4:
        expert = model.architecture != BAILING or kind in FEED_FORWARD
        return T.MXFP4 if kind != "output" and len(shape) > 2 and shape[2] > 1 and expert else T.Q8_0
    if kind == "output" and shape[0] % file_type.base.block_size:
        return T.Q8_0
    rule = state.rules.get(kind, T.Q6_K if kind == "output" else file_type.base)
    at = state.position(name, kind)
    chosen = rule if isinstance(rule, GGMLType) else rule(at) or file_type.base
    better = kind == "attn_v" and model.is_70b and not file_type.lowest and chosen in (T.Q3_K, T.Q4_K)
    return T.Q5_K if better else chosen


def _fitting(kind: GGMLType, columns: int, version: Version) -> GGMLType:
    """``kind``, or what takes its place; only some versions have something for all rows."""
    block, known = kind.block_size, kind in version.fallbacks
    if columns % block and not known and (block > SHORT or not version.narrow):
        raise UnsupportedError(f"llama-quantize refuses {kind.name} for rows of {columns:,}, no multiple of {block}")
    return fitting(kind, columns, version)


def fitting(kind: GGMLType, columns: int, version: Version = NEWER) -> GGMLType:
    """``kind``, or what takes its place where rows of so many ``columns`` are no multiple of its blocks.

    >>> [fitting(T.Q4_K, columns).name for columns in (4096, 4064, 100)]
    ['Q4_K', 'Q5_0', 'F16']
    """
    if columns % kind.block_size == 0:
        return kind
    fallback = version.fallbacks.get(kind, kind)
    return T.F16 if columns % fallback.block_size else fallback


def _require_imatrix(number: int, types: Mapping[str, GGMLType], imatrix: bool) -> None:
    if imatrix:
        return
    needy = NEED_IMATRIX | {T.Q2_K} if FILE_TYPES[number].name == "Q2_K_S" else NEED_IMATRIX
    if any(kind in needy for name, kind in types.items() if name not in (*EMBEDDINGS, OUTPUT)):
        raise UnsupportedError(f"llama-quantize refuses {file_type_name(number)} without an importance matrix")
