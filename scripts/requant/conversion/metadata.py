"""What the converter writes into a GGUF's metadata, derived from a checkpoint's small files.

``TextModel.set_gguf_parameters`` in ``conversion/base.py``, ``LlamaModel`` in ``conversion/llama.py`` and
``Metadata.load`` in ``gguf-py/gguf/metadata.py`` of llama.cpp 0c1e57098bba.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from requant.conversion.expected import ExpectedMetadata
from requant.conversion.layout import CONFIG, Plan, plan, read_config, rope_parameters
from requant.conversion.templates import is_more
from requant.conversion.vocabulary import expected_tokenizer
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field, quoted
from requant.formats.ranged import Files, read_whole
from requant.ground.canonical import parse
from requant.ground.errors import FormatError, UnsupportedError

GENERATION, MODULES = "generation_config.json", "modules.json"
FILES = (
    CONFIG, GENERATION, "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "tokenizer.model", "tekken.json", MODULES, "README.md",
)  # fmt: skip
"""The files of a checkpoint that decide, beside further chat templates."""
EXISTENCE = ("tekken.json",)
"""Those of which only the existence matters."""
POOLING = re.compile(r"\d+_[A-Za-z]+/config\.json")
"""What sentence-transformers calls the files of its modules."""
TEXT_LIMIT = 48_000_000
"""Bytes. Chosen, not measured: the largest tokenizer.json in use is believed to have about 33 million."""

SAMPLING = {
    "sequence": (("sequence",), ValueType.STRING),
    "top_k": (("top_k",), ValueType.INT32),
    "top_p": (("top_p",), ValueType.FLOAT32),
    "min_p": (("min_p",), ValueType.FLOAT32),
    "xtc_probability": (("xtc_probability",), ValueType.FLOAT32),
    "xtc_threshold": (("xtc_threshold",), ValueType.FLOAT32),
    "temp": (("temperature",), ValueType.FLOAT32),
    "penalty_last_n": (("penalty_last_n",), ValueType.INT32),
    "penalty_repeat": (("penalty_repeat", "repetition_penalty"), ValueType.FLOAT32),
    "mirostat": (("mirostat",), ValueType.INT32),
    "mirostat_tau": (("mirostat_tau",), ValueType.FLOAT32),
    "mirostat_eta": (("mirostat_eta",), ValueType.FLOAT32),
}
"""Key in the GGUF: keys in generation_config.json, the first of which counts, and the type."""

POOLING_FLAGS = {"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 2, "pooling_mode_lasttoken": 3}
POOLING_MODES = {"mean": 1, "cls": 2, "lasttoken": 3}
"""``gguf.PoolingType`` by the keys of a pooling's config.json, in the converter's order, and by newer ones' words."""

DEFAULT_ROPE_BASE = 10000.0
"""llama.cpp's, and transformers' for the known models."""
YARN = {
    "extrapolation_factor": "yarn_ext_factor",
    "attention_factor": "yarn_attn_factor",
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
}
PLAIN_ROPE = (None, "default", "llama3")
# Keys of config.json that make the converter write more: which keys of the GGUF are then unknown.
UNKNOWN_PARTS = {
    "global_rope_theta": "rope.", "rope_global_theta": "rope.", "rope_theta_global": "rope.",
    "rotary_emb_base": "rope.", "local_rope_theta": "rope.", "rope_local_theta": "rope.",
    "rope_theta_local": "rope.", "swa_rope_theta": "rope.", "rope_local_base_freq": "rope.",
    "layer_norm_eps": "attention.layer_norm_epsilon", "layer_norm_epsilon": "attention.layer_norm_epsilon",
    "norm_epsilon": "attention.layer_norm_epsilon", "num_experts_per_tok": "expert_used_count",
    "num_experts_per_token": "expert_used_count", "top_k_experts": "expert_used_count",
    "n_group": "expert_group_count", "topk_group": "expert_group_used_count",
    "score_function": "expert_gating_func", "scoring_func": "expert_gating_func",
    "score_func": "expert_gating_func", "moe_router_activation": "expert_gating_func",
    "moe_router_activation_func": "expert_gating_func", "expert_selection_fn": "expert_gating_func",
    "classifier_pooling": "classifier.",
}  # fmt: skip


def read_texts(files: Files) -> dict[str, bytes]:
    """Read what ``expected_metadata`` needs of a checkpoint.

    Raises:
        FormatError, SourceError: when a file is larger than such files are, or cannot be had.
    """
    return {name: read_text(files, name) for name in files.names if is_text(name)}


def is_text(name: str) -> bool:
    """Whether ``expected_metadata`` needs a file of a checkpoint."""
    return name in FILES or is_more(name) or POOLING.fullmatch(name) is not None


def read_text(files: Files, name: str) -> bytes:
    """One of them; raises as ``read_texts``."""
    return b"" if name in EXISTENCE else read_whole(files.open(name), TEXT_LIMIT, "a text of a checkpoint")


def expected_metadata(files: Mapping[str, bytes]) -> ExpectedMetadata:
    """Derive all metadata that a conversion of a checkpoint would have.

    Args:
        files: contents by name, as of ``read_texts``.

    Raises:
        UnsupportedError: for a model this module does not know, naming what about it.
        FormatError: naming the file, and the key in it, that is missing, damaged or hostile.
    """
    if CONFIG not in files:
        raise FormatError(f"the checkpoint has no {CONFIG}: get all of its files")
    config = read_config(files[CONFIG])
    found = plan(config)
    if found.architecture == "qwen3":
        _refuse_reranker(files, config)
    expected = _hyper_parameters(config, found)
    if found.architecture != "llama":
        _add_pooling(expected, files, f"{found.architecture}.pooling_type")
    _add_ends(expected, config)
    _add_sampling(expected, files)
    expected.update(expected_tokenizer(files, config, found.architecture, found.vocab))
    return expected


def _refuse_reranker(files: Mapping[str, bytes], config: Mapping[str, Any]) -> None:
    """``Qwen3Model._is_qwen3_reranker``: the converter goes by names, and makes a classifier of the model."""
    readme = files.get("README.md", b"").decode(errors="replace")
    for where, start, text in (
        ("README.md", "# ", readme),
        (f"{CONFIG}'s _name_or_path", "", config.get("_name_or_path", "")),
    ):
        if re.search(f"{start}qwen3-(vl-)?reranker", str(text), re.IGNORECASE):
            raise UnsupportedError(
                f"{where} says that the model is a reranker, which requant does not know how to check"
            )


def _hyper_parameters(config: Mapping[str, Any], found: Plan) -> ExpectedMetadata:
    prefix = found.architecture
    expected = ExpectedMetadata(
        {"general.architecture": _text(prefix), "general.type": _text("model")}, optional={"general.type"}
    )
    numbers = {
        "block_count": found.layers,
        "embedding_length": found.hidden,
        "feed_forward_length": found.ffn,
        "attention.head_count": found.heads,
        "attention.head_count_kv": found.kv_heads,
        "attention.key_length": found.head_dim,
        "attention.value_length": found.head_dim,
        "rope.dimension_count": found.head_dim,
        "vocab_size": found.vocab,
    }
    expected.values |= {f"{prefix}.{key}": Field(ValueType.UINT32, number) for key, number in numbers.items()}
    # llama.cpp assumes the same where these are absent.
    assumed = expected.optional if prefix == "llama" else expected.implied
    assumed |= {f"{prefix}.rope.dimension_count", f"{prefix}.vocab_size"}
    if found.head_dim * found.heads == found.hidden:
        assumed = expected.implied if config.get("head_dim") is None else expected.optional
        assumed |= {f"{prefix}.attention.key_length", f"{prefix}.attention.value_length"}
    if config.get("is_causal") is False:
        expected.values[f"{prefix}.attention.causal"] = Field(ValueType.BOOL, False)
    _add_number(expected, config, "max_position_embeddings", f"{prefix}.context_length", ValueType.UINT32)
    _add_number(expected, config, "rms_norm_eps", f"{prefix}.attention.layer_norm_rms_epsilon", ValueType.FLOAT32)
    _add_rope(expected, config, prefix)
    for key, part in UNKNOWN_PARTS.items():
        if config.get(key) is not None:
            _forget(expected, f"{prefix}.{part}", f"what the converter makes of {key} is not known to requant")
    return expected


def _add_rope(expected: ExpectedMetadata, config: Mapping[str, Any], prefix: str) -> None:
    parameters = rope_parameters(config)
    if "full_attention" in parameters or "sliding_attention" in parameters or "mrope_section" in parameters:
        _forget(expected, f"{prefix}.rope.", f"this rope_scaling of {CONFIG} is not known to requant")
        return
    _add_base(expected, config, parameters, f"{prefix}.rope.freq_base")
    kind, scaling = parameters.get("rope_type"), f"{prefix}.rope.scaling"
    if kind in PLAIN_ROPE:
        return
    if kind not in ("linear", "yarn") or parameters.get("factor") is None:
        expected.unknown[f"{scaling}."] = f"this rope_scaling of {CONFIG} is not known to requant"
        return
    expected.values[f"{scaling}.type"] = _text(kind)
    _add_number(expected, parameters, "factor", f"{scaling}.factor", ValueType.FLOAT32)
    if kind == "yarn":
        original = {**parameters}
        original.setdefault("original_max_position_embeddings", config.get("original_max_position_embeddings"))
        key = "original_max_position_embeddings"
        _add_number(expected, original, key, f"{scaling}.original_context_length", ValueType.UINT32)
        # Of two words for one number the first counts, even as null.
        original.setdefault("attention_factor", parameters.get("attn_factor"))
        for name, part in YARN.items():
            if original.get(name) is not None:
                _add_number(expected, original, name, f"{scaling}.{part}", ValueType.FLOAT32)


def _add_base(expected: ExpectedMetadata, config: Mapping[str, Any], parameters: Mapping[str, Any], key: str) -> None:
    """The rope base. Where it is null the converter writes none, though others may write llama.cpp's or another one."""
    found = parameters.get("rope_theta")
    if found is None and ("rope_theta" in parameters or "rope_theta" in config):
        expected.unknown[key] = f"{CONFIG} has a rope_theta that is null"
        if config.get("rope_theta") is not None:
            return
    base = {"rope_theta": DEFAULT_ROPE_BASE if found is None else found}
    _add_number(expected, base, "rope_theta", key, ValueType.FLOAT32)
    if expected.values[key].value == DEFAULT_ROPE_BASE:
        expected.optional.add(key)


def _add_pooling(expected: ExpectedMetadata, files: Mapping[str, bytes], key: str) -> None:
    """``_try_set_pooling_type``: sentence-transformers says how the tokens' vectors become one of the text."""
    if MODULES not in files:
        return
    modules = parse(files[MODULES], MODULES)
    for module in modules if isinstance(modules, list) else ():
        kind, path = (module.get("type"), module.get("path")) if isinstance(module, dict) else (None, None)
        if not isinstance(kind, str) or not kind.endswith("Pooling"):
            continue
        name = f"{path}/config.json"
        if name not in files:
            expected.unknown[key] = f"{MODULES} asks for pooling as {quoted(name)} says, which is missing"
            return
        settings = parse(files[name], name)
        asked = settings if isinstance(settings, dict) else {}
        number = next((number for flag, number in POOLING_FLAGS.items() if asked.get(flag)), None)
        mode = asked.get("pooling_mode")
        number = POOLING_MODES.get(mode) if number is None and isinstance(mode, str) else number
        if number is None:
            expected.unknown[key] = f"{name} asks for a pooling that the converter refuses"
        else:
            expected.values[key] = Field(ValueType.UINT32, number)
        return


def _add_sampling(expected: ExpectedMetadata, files: Mapping[str, bytes]) -> None:
    start = "general.sampling."
    if GENERATION not in files:
        return
    try:
        settings = parse(files[GENERATION], GENERATION)
    except FormatError:
        settings = None
    if not isinstance(settings, dict):
        # The converter goes on without it.
        expected.unknown[start] = f"{GENERATION} is not a JSON object"
        expected.more_ends = True
        return
    _add_ends(expected, settings)
    for key, (names, kind) in SAMPLING.items():
        name = next((name for name in names if name in settings), None)
        if name is None or settings[name] is None:
            continue
        value = _number(settings[name], kind)
        if kind is ValueType.STRING and isinstance(settings[name], str):
            value = _text(settings[name])
        if value is None:
            expected.unknown[start + key] = f"{GENERATION} has a strange {name}"
        else:
            expected.values[start + key] = value
            expected.optional.add(start + key)


def _add_ends(expected: ExpectedMetadata, settings: Mapping[str, Any]) -> None:
    """Ids of the tokens at which config.json or generation_config.json says that texts end: one, or a list."""
    said = settings.get("eos_token_id")
    numbers = said if isinstance(said, list) else [said]
    expected.ends |= {number for number in numbers if type(number) is int}


def _add_number(expected: ExpectedMetadata, source: Mapping[str, Any], name: str, key: str, kind: ValueType) -> None:
    """Expect the number that ``source`` has under ``name``; nothing is known of one that is left to a default."""
    if source.get(name) is None:
        expected.unknown[key] = f"{CONFIG} leaves {name} to a default"
        return
    value = _number(source[name], kind)
    if value is None:
        raise FormatError(f"{CONFIG} has a {name} that is no number of a sane size: it is damaged")
    expected.values[key] = value


def _number(value: object, kind: ValueType) -> Field | None:
    """``value`` as the converter's writer packs it, if it can be."""
    if kind is ValueType.FLOAT32 and type(value) in (int, float):
        assert isinstance(value, (int, float))
        return Field(kind, float(np.float32(value))) if abs(value) < 1e38 else None
    low, high = (0, (1 << 32) - 1) if kind is ValueType.UINT32 else (-(1 << 31), (1 << 31) - 1)
    if type(value) is not int or not low <= value <= high:
        return None
    return Field(kind, value)


def _forget(expected: ExpectedMetadata, start: str, why: str) -> None:
    for key in [key for key in expected.values if key == start or (start.endswith(".") and key.startswith(start))]:
        del expected.values[key]
    expected.unknown[start] = why


def _text(text: str) -> Field:
    return Field(ValueType.STRING, text)
