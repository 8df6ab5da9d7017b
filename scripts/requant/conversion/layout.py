"""Which tensors llama.cpp's converter makes of a checkpoint, and which rows of which stored tensor they hold.

Names, shapes, types and the reordering of rows follow ``conversion/{base,llama,qwen}.py`` and
``gguf-py/gguf/tensor_mapping.py`` of llama.cpp 0c1e57098bba. What is not known here is refused, never guessed.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from requant.conversion.sources import Floats, Layout, Rows
from requant.formats.ggml import GGMLType
from requant.formats.gguf import quoted
from requant.ground.canonical import parse
from requant.ground.errors import FormatError, UnsupportedError

CONFIG = "config.json"
ROPE_FREQS = "rope_freqs.weight"
WITH_DENSE = ("gemma-embedding", "lfm2")
"""Architectures with dense modules beside the model, such as of sentence-transformers."""

LIMITS = {
    "num_hidden_layers": 1 << 10,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "num_attention_heads": 1 << 12,
    "num_key_value_heads": 1 << 12,
    "head_dim": 1 << 12,
    "vocab_size": 1 << 21,
}
"""Far above every published model; checked before any loop runs over such a number."""


class Family(NamedTuple):
    """What tells one supported class of models from another.

    ``biases`` are those its layers always have; ``inner`` ones, as embedding models are, have no output layer.
    """

    architecture: str
    model_type: str
    permuted: bool = False
    head_norms: bool = False
    biases: tuple[str, ...] = ()
    inner: bool = False


FAMILIES = {
    "Qwen3ForCausalLM": Family("qwen3", "qwen3", head_norms=True),
    "Qwen2ForCausalLM": Family("qwen2", "qwen2", biases=("attn_q", "attn_k", "attn_v")),
    "LlamaForCausalLM": Family("llama", "llama", permuted=True),
    "MistralForCausalLM": Family("llama", "mistral", permuted=True),
    "Qwen3Model": Family("qwen3", "qwen3", head_norms=True, inner=True),
    "Qwen2Model": Family("qwen2", "qwen2", biases=("attn_q", "attn_k", "attn_v"), inner=True),
    "LlamaModel": Family("llama", "llama", permuted=True, inner=True),
}
INNER = "model."
"""How the names of all tensors but the output layer begin, unless the model was stored without what is around it."""
EMBEDDING = f"{INNER}embed_tokens.weight"

# Weight in the GGUF: its name in the checkpoint, the length of its rows, their number.
MATRICES = {
    "attn_q": ("self_attn.q_proj", "hidden", "query"),
    "attn_k": ("self_attn.k_proj", "hidden", "key"),
    "attn_v": ("self_attn.v_proj", "hidden", "key"),
    "attn_output": ("self_attn.o_proj", "query", "hidden"),
    "ffn_gate": ("mlp.gate_proj", "hidden", "ffn"),
    "ffn_up": ("mlp.up_proj", "hidden", "ffn"),
    "ffn_down": ("mlp.down_proj", "ffn", "hidden"),
}
NORMS = {"attn_norm": ("input_layernorm", "hidden"), "ffn_norm": ("post_attention_layernorm", "hidden")}
HEAD_NORMS = {"attn_q_norm": ("self_attn.q_norm", "head_dim"), "attn_k_norm": ("self_attn.k_norm", "head_dim")}

ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")
FEED_FORWARD = ("ffn_gate", "ffn_up", "ffn_down")
IGNORED = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")
"""Endings of stored tensors that the converter passes over."""

# Keys that make the converter do something else, or read a number from somewhere else.
REFUSED = (
    "quantization_config", "text_config", "vision_config", "audio_config", "llm_config", "lm_config",
    "language_config", "thinker_config", "transformer_layer_config", "draft_vocab_size", "num_experts",
    "num_local_experts", "n_routed_experts", "n_layers", "n_heads", "n_kv_heads", "dense_intermediate_size",
    "prefix_dense_intermediate_size",
)  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """The stored tensor that one GGUF tensor is made of.

    ``name`` is the tensor's in the checkpoint, ``shape`` is in ggml's order (the length of a row first; a bias is one
    row), ``type`` the one in a GGUF converted to BF16. ``heads`` is the number of heads within which the converter
    reorders the rows of a weight, or the elements of a bias; ``None`` where everything stays in its place.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    heads: int | None = None

    @property
    def stored(self) -> tuple[str, ...]:
        """The only one."""
        return (self.name,)

    @property
    def within(self) -> Rows | None:
        """The order of a bias; rows of weights stay whole."""
        return self.rows(np.arange(self.shape[0])) if self.heads and len(self.shape) == 1 else None

    def places(self, indices: Rows) -> tuple[Rows, Rows]:
        """As of ``Sources``."""
        return np.zeros_like(indices), indices if len(self.shape) == 1 else self.rows(indices) * self.shape[0]

    def rows(self, indices: Rows) -> Rows:
        """Rows of the checkpoint (of a bias: elements) that stand at ``indices`` in the GGUF; any shape, int64."""
        return indices if self.heads is None else source_rows(indices, self.shape[-1], self.heads)


@dataclass(frozen=True, kw_only=True)
class Plan(Layout):
    """The layout of a model of a known family, and its sizes.

    ``computed`` follows from config.json alone. ``tied`` says that the embedding serves as the output layer, because
    there is no other.
    """

    tensors: Mapping[str, Origin]
    architecture: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool


def read_config(data: bytes) -> dict[str, Any]:
    """Parse a config.json.

    Raises:
        FormatError: when it is not one JSON object.
    """
    # transformers writes limits of Mamba's time steps so.
    config = parse(data, CONFIG, infinite=True)
    if not isinstance(config, dict):
        raise FormatError(f"{CONFIG} is not a JSON object: get the file again")
    return config


def plan(config: Mapping[str, Any], stored: Collection[str] | None = None, spare: Collection[str] = ()) -> Plan:
    """Say what the converter makes of the checkpoint that ``config`` (a config.json) describes.

    Args:
        config: the parsed file.
        stored: the names of all tensors in the checkpoint, which decide as in the converter whether there are biases
            and an output layer; without them, what transformers stores for such a config is assumed.
        spare: those of them that may belong to no model.

    Raises:
        UnsupportedError: for a model this module does not know, naming what about it.
        FormatError: naming the key of config.json, or the missing tensor, that cannot be.
    """
    family = _family(config)
    sizes = _sizes(config, family)
    tied = _flag(config, "tie_word_embeddings", False)
    possible = list(_origins(sizes, family))
    if stored is None:
        optional = _expected_optional(config, family, tied)
        tensors = {name: origin for name, origin, required in possible if required or name in optional}
    else:
        stored = frozenset(stored)
        if EMBEDDING not in stored and EMBEDDING.removeprefix(INNER) in stored:
            possible = [(name, _bare(origin), required) for name, origin, required in possible]
        tensors = {name: origin for name, origin, required in possible if required or origin.name in stored}
        _require_same_names(stored, {origin.name for origin in tensors.values()}, spare)
    factors = _rope_factors(config, sizes["head_dim"]) if family.permuted else None
    return Plan(
        architecture=family.architecture,
        layers=sizes["layers"],
        hidden=sizes["hidden"],
        ffn=sizes["ffn"],
        heads=sizes["heads"],
        kv_heads=sizes["kv_heads"],
        head_dim=sizes["head_dim"],
        vocab=sizes["vocab"],
        tied="output.weight" not in tensors,
        tensors=tensors,
        computed={} if factors is None else {ROPE_FREQS: factors},
    )


def source_rows(indices: Rows, rows: int, heads: int) -> Rows:
    """Undo the converter's reordering of the rows of Llama's queries and keys.

    Within a head the checkpoint has the first halves of all rotary pairs before the second halves; the GGUF has the
    pairs side by side: ``weights.reshape(heads, 2, rows // heads // 2, ...).swapaxes(1, 2)`` in
    ``LlamaModel.permute``.

    Args:
        indices: rows in the GGUF, int64 of any shape, each from 0 to ``rows - 1``.
        rows: of the whole tensor, a multiple of ``2 * heads``.
        heads: query heads for queries, key-value heads for keys.
    """
    size = rows // heads
    head, within = np.divmod(indices, size)
    pair, half = np.divmod(within, 2)
    found: Rows = head * size + half * (size // 2) + pair
    return found


def _bare(origin: Origin) -> Origin:
    return replace(origin, name=origin.name.removeprefix(INNER))


def _require_same_names(stored: Collection[str], planned: Collection[str], spare: Collection[str]) -> None:
    for name in planned:
        if name not in stored:
            raise FormatError(f"the checkpoint has no tensor {quoted(name)}: get all of its files")
    for name in stored:
        if name not in planned and name not in spare and not name.endswith(IGNORED):
            raise UnsupportedError(f"the checkpoint holds {quoted(name)}, which belongs to no model known here")


def _family(config: Mapping[str, Any]) -> Family:
    found = config.get("architectures")
    if not isinstance(found, list) or not found or not isinstance(found[0], str):
        raise FormatError(f"{CONFIG} names no architectures: it describes no model")
    if found[0] not in FAMILIES:
        raise UnsupportedError(f"{CONFIG} describes a {quoted(found[0])}: only {', '.join(FAMILIES)} can be checked")
    family = FAMILIES[found[0]]
    # transformers takes its defaults from the model_type.
    if config.get("model_type") != family.model_type:
        raise UnsupportedError(f"{CONFIG} has a model_type other than {family.model_type!r} for a {found[0]}")
    for key in REFUSED:
        if config.get(key):
            raise UnsupportedError(f"{CONFIG} has {key!r}: only dense, unquantized text models can be checked")
    return family


def _sizes(config: Mapping[str, Any], family: Family) -> dict[str, int]:
    hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    if config.get("num_key_value_heads") is not None:
        kv_heads = _count(config, "num_key_value_heads")
    elif "num_key_value_heads" in config or family.model_type == "llama":
        kv_heads = heads
    else:
        raise UnsupportedError(f"{CONFIG} names no num_key_value_heads: its default depends on transformers' version")
    if config.get("head_dim") is not None:
        head_dim = _count(config, "head_dim")
    elif family.model_type == "qwen3":
        raise UnsupportedError(f"{CONFIG} names no head_dim: its default depends on transformers' version")
    elif hidden % heads:
        raise FormatError(f"{CONFIG} has a hidden_size of {hidden}, which {heads} attention heads do not divide")
    else:
        head_dim = hidden // heads
    if heads % kv_heads:
        raise FormatError(f"{CONFIG} has {heads} attention heads, which {kv_heads} key-value heads do not divide")
    if head_dim % 2:
        raise FormatError(f"{CONFIG} has an odd head_dim of {head_dim}: rotary positions need an even one")
    return {
        "layers": _count(config, "num_hidden_layers"),
        "hidden": hidden,
        "ffn": _count(config, "intermediate_size"),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "query": heads * head_dim,
        "key": kv_heads * head_dim,
        "vocab": _count(config, "vocab_size"),
    }


def _count(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or not 1 <= value <= LIMITS[key]:
        raise FormatError(f"{CONFIG} has no {key} from 1 to {LIMITS[key]:,}: it is damaged or hostile")
    return value


def _flag(config: Mapping[str, Any], key: str, default: bool) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise FormatError(f"{CONFIG} has a {key} that is neither true nor false: it is damaged")
    return value


def _expected_optional(config: Mapping[str, Any], family: Family, tied: bool) -> set[str]:
    """Names in the GGUF of the optional tensors that transformers stores for such a config."""
    biased = [*family.biases]
    if family.model_type in ("llama", "qwen3") and _flag(config, "attention_bias", False):
        biased += ATTENTION
    if family.model_type == "llama" and _flag(config, "mlp_bias", False):
        biased += FEED_FORWARD
    layers = range(_count(config, "num_hidden_layers"))
    names = {f"blk.{layer}.{part}.bias" for layer in layers for part in biased}
    return names if tied or family.inner else names | {"output.weight"}


def _origins(sizes: Mapping[str, int], family: Family) -> Iterator[tuple[str, Origin, bool]]:
    """Name in the GGUF, origin, and whether every such model has it; norms and biases are stored as F32."""
    hidden, table = sizes["hidden"], (sizes["hidden"], sizes["vocab"])
    yield "token_embd.weight", Origin(EMBEDDING, table, GGMLType.BF16), True
    yield "output.weight", Origin("lm_head.weight", table, GGMLType.BF16), False
    yield "output_norm.weight", Origin(f"{INNER}norm.weight", (hidden,), GGMLType.F32), True
    heads = {"attn_q": sizes["heads"], "attn_k": sizes["kv_heads"]} if family.permuted else {}
    norms = NORMS | HEAD_NORMS if family.head_norms else NORMS
    for layer in range(sizes["layers"]):
        there, here = f"{INNER}layers.{layer}", f"blk.{layer}"
        for part, (name, length) in norms.items():
            yield f"{here}.{part}.weight", Origin(f"{there}.{name}.weight", (sizes[length],), GGMLType.F32), True
        for part, (name, length, rows) in MATRICES.items():
            shape, order = (sizes[length], sizes[rows]), heads.get(part)
            yield f"{here}.{part}.weight", Origin(f"{there}.{name}.weight", shape, GGMLType.BF16, order), True
            yield f"{here}.{part}.bias", Origin(f"{there}.{name}.bias", shape[1:], GGMLType.F32, order), False


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Everything about rotary positions that stands in the several places where config.json may have it.

    Raises:
        FormatError: when one of them is not an object.
    """
    found = config.get("rope_parameters", config.get("rope_scaling"))
    if found is not None and not isinstance(found, dict):
        raise FormatError(f"{CONFIG} has a rope_scaling that is not an object: it is damaged")
    parameters = dict(found or {})
    if config.get("rope_theta") is not None:
        parameters.setdefault("rope_theta", config["rope_theta"])
    if parameters.get("type") is not None:
        parameters.setdefault("rope_type", parameters["type"])
    return parameters


def _rope_factors(config: Mapping[str, Any], head_dim: int) -> Floats | None:
    """By how much Llama 3 slows each rotary frequency, shape [head_dim / 2]: ``generate_extra_tensors``.

    In the converter's own order and in float32, as torch does it: a number divided by a tensor is the tensor's
    reciprocal times the number. The power is rounded once; torch's own depends on the processor in the last bit.
    """
    parameters = rope_parameters(config)
    kind = parameters.get("rope_type")
    if not isinstance(kind, str) or kind.lower() != "llama3":
        return None
    defaults = {
        "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    base, factor, low, high, context = (_positive(parameters.get(key, value), key) for key, value in defaults.items())
    if low >= high:
        raise UnsupportedError(f"{CONFIG} has a low_freq_factor that is not below its high_freq_factor")
    one, single = np.float32(1), np.float32
    exponents = np.arange(0, head_dim, 2).astype(np.float32) / single(head_dim)
    frequencies = one / (np.float64(base) ** exponents.astype(np.float64)).astype(np.float32)
    with np.errstate(all="ignore"):  # far outside of the range where it is used
        wavelengths = one / frequencies * single(2 * np.pi)
        smooth = (one / wavelengths * single(context) - single(low)) / single(high - low)
        between = one / ((one - smooth) / single(factor) + smooth)
    slow = np.where(wavelengths > single(context / low), single(factor), between)
    factors: Floats = np.where(wavelengths < single(context / high), one, slow).astype(np.float32)
    return factors


def _positive(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1e-9 <= value <= 1e15:
        raise FormatError(f"{CONFIG} has a {key} in its rope_scaling that is no sane positive number: it is damaged")
    return float(value)
