"""requant.conversion.layout: what the converter makes of a checkpoint; the converter itself is asked in e2e."""

from contextlib import suppress
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.conversion.layout import FAMILIES, Origin, plan, read_config, source_rows
from requant.formats.ggml import GGMLType
from requant.ground.errors import FormatError, RequantError, UnsupportedError
from requant.pipeline.tiny_model import tensor_dims
from requant.pipeline.tiny_shape import TinyShape

QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 256, "intermediate_size": 768,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 1000,
    "tie_word_embeddings": True, "rope_theta": 1000000, "num_experts": None,
}  # fmt: skip
QWEN2 = {**QWEN3, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": False}
del QWEN2["head_dim"]
LLAMA = {**QWEN2, "architectures": ["LlamaForCausalLM"], "model_type": "llama"}
MISTRAL = {**QWEN2, "architectures": ["MistralForCausalLM"], "model_type": "mistral"}
LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def origins(config: dict[str, Any], *names: str) -> list[Origin | None]:
    tensors = plan(config).tensors
    return [tensors.get(name) for name in names]


def test_a_tied_qwen3_has_the_tensors_of_the_generated_checkpoint() -> None:
    found = plan(QWEN3)
    shards = tensor_dims(TinyShape(2, 256, 768, 4, 2, 64, 0), 1000)
    stored = {name: dims[::-1] for shard in shards for name, dims in shard.items()}
    assert {origin.name: origin.shape for origin in found.tensors.values()} == stored
    assert plan(QWEN3, stored) == found
    assert (found.architecture, found.tied, found.layers, found.kv_heads) == ("qwen3", True, 2, 2)
    assert found.computed == {}


def test_one_tensor_of_each_kind() -> None:
    f32, bf16 = GGMLType.F32, GGMLType.BF16
    assert origins(QWEN3, "token_embd.weight", "blk.1.attn_k.weight", "blk.1.attn_k_norm.weight", "output.weight") == [
        Origin("model.embed_tokens.weight", (256, 1000), bf16),
        Origin("model.layers.1.self_attn.k_proj.weight", (256, 128), bf16),
        Origin("model.layers.1.self_attn.k_norm.weight", (64,), f32),
        None,
    ]
    assert origins(QWEN2, "output.weight", "blk.0.attn_k.bias", "blk.0.attn_output.bias", "blk.0.ffn_down.weight") == [
        Origin("lm_head.weight", (256, 1000), bf16),
        Origin("model.layers.0.self_attn.k_proj.bias", (128,), f32),
        None,
        Origin("model.layers.0.mlp.down_proj.weight", (768, 256), bf16),
    ]
    biased = LLAMA | {"attention_bias": True, "mlp_bias": True}
    assert origins(biased, "blk.0.attn_q.bias", "blk.0.attn_k.weight", "blk.0.attn_v.bias", "blk.0.ffn_down.bias") == [
        Origin("model.layers.0.self_attn.q_proj.bias", (256,), f32, 4),
        Origin("model.layers.0.self_attn.k_proj.weight", (256, 128), bf16, 2),
        Origin("model.layers.0.self_attn.v_proj.bias", (128,), f32),
        Origin("model.layers.0.mlp.down_proj.bias", (256,), f32),
    ]
    assert plan(MISTRAL).tensors.keys() == plan(LLAMA).tensors.keys()


def test_what_is_stored_decides() -> None:
    """As in the converter: Qwen3-0.6B, for one, is tied and stores its output layer all the same."""
    stored = {origin.name for origin in plan(QWEN3).tensors.values()}
    extra = {"lm_head.weight", "model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.rotary_emb.inv_freq"}
    found = plan(QWEN3, [*stored, *extra])
    assert found.tensors.keys() - plan(QWEN3).tensors.keys() == {"output.weight", "blk.0.attn_q.bias"}
    assert not found.tied
    with pytest.raises(FormatError, match=r"no tensor 'model\.norm\.weight'"):
        plan(QWEN3, stored - {"model.norm.weight"})
    with pytest.raises(UnsupportedError, match=r"holds 'model\.layers\.0\.mlp\.gate\.weight'"):
        plan(QWEN3, stored | {"model.layers.0.mlp.gate.weight"})


@given(st.integers(1, 8), st.integers(1, 16), st.integers(1, 3))
def test_rows_are_reordered_as_the_converter_does(heads: int, pairs: int, columns: int) -> None:
    rows = heads * 2 * pairs
    stored = np.arange(rows * columns).reshape(rows, columns)
    # LlamaModel.permute, with the words of llama.cpp's conversion/llama.py
    converted = stored.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(stored.shape)
    order = source_rows(np.arange(rows), rows, heads)
    assert np.array_equal(stored[order], converted)
    assert np.array_equal(np.sort(order), np.arange(rows))


def test_rows_of_an_origin() -> None:
    q, v = origins(LLAMA, "blk.0.attn_q.weight", "blk.0.attn_v.weight")
    assert q and v
    some = np.array([[0, 1], [2, 65]])
    assert q.rows(some).tolist() == [[0, 32], [1, 96]]
    assert v.rows(some).tolist() == some.tolist()


def test_llama_3_slows_the_low_frequencies() -> None:
    [(name, factors)] = plan(
        LLAMA | {"head_dim": 128, "rope_theta": 500000.0, "rope_scaling": LLAMA3_ROPE}
    ).computed.items()
    assert (name, factors.dtype, factors.shape) == ("rope_freqs.weight", np.float32, (64,))
    assert factors[:29].tolist() == [1] * 29
    assert factors[35:].tolist() == [32] * 29
    assert (np.diff(factors[28:36]) > 0).all()
    assert plan(LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.0}}).computed == {}
    assert plan(QWEN2 | {"rope_scaling": LLAMA3_ROPE}).computed == {}


def test_defaults() -> None:
    llama = {**LLAMA}
    del llama["num_key_value_heads"]
    assert plan(llama).kv_heads == 4
    assert plan(LLAMA | {"num_key_value_heads": None, "head_dim": None}).head_dim == 64


def test_a_config_with_infinity() -> None:
    """transformers writes it for Mamba 2, though it is no JSON; nothing else that is none passes."""
    assert read_config(b'{"time_step_limit": [0.0, Infinity, -Infinity]}') == {"time_step_limit": [0.0, inf, -inf]}
    with pytest.raises(FormatError, match=r"^config\.json is not valid JSON \(NaN is not a JSON number\)"):
        read_config(b'{"rope_theta": NaN}')


UNSUPPORTED = {
    "experts": QWEN3 | {"num_experts": 8},
    "Mixtral": LLAMA | {"num_local_experts": 8},
    "quantized": QWEN3 | {"quantization_config": {"quant_method": "fp8"}},
    "with vision": QWEN3 | {"vision_config": {"depth": 1}},
    "unknown": QWEN3 | {"architectures": ["Qwen3MoeForCausalLM"]},
    "hostile name": QWEN3 | {"architectures": ["\x1b[2J" + "x" * 10_000]},
    "other defaults": LLAMA | {"model_type": "smollm"},
    "unhashable model type": LLAMA | {"model_type": {}},
    "another count of layers": LLAMA | {"n_layers": 3},
    "no key-value heads": {key: value for key, value in QWEN2.items() if key != "num_key_value_heads"},
    "no head_dim": QWEN3 | {"head_dim": None},
    "low above high": LLAMA | {"rope_scaling": LLAMA3_ROPE | {"low_freq_factor": 9.0}},
}  # fmt: skip
BROKEN = {
    "empty": {},
    "no architecture": QWEN3 | {"architectures": []},
    "architecture is a number": QWEN3 | {"architectures": [1]},
    "architecture is text": QWEN3 | {"architectures": "Qwen3ForCausalLM"},
    "a billion layers": QWEN3 | {"num_hidden_layers": 1_000_000_000},
    "no layers": QWEN3 | {"num_hidden_layers": 0},
    "negative": QWEN3 | {"hidden_size": -1},
    "huge": QWEN3 | {"vocab_size": 10**4000},
    "float": QWEN3 | {"hidden_size": 256.0},
    "bool": QWEN3 | {"num_hidden_layers": True},
    "text": QWEN3 | {"intermediate_size": "768"},
    "list": QWEN3 | {"num_attention_heads": [4]},
    "absent": {key: value for key, value in QWEN3.items() if key != "vocab_size"},
    "heads do not divide": QWEN3 | {"num_key_value_heads": 3},
    "hidden does not divide": QWEN2 | {"num_attention_heads": 6},
    "odd head": QWEN3 | {"head_dim": 63},
    "tied is a word": QWEN3 | {"tie_word_embeddings": "yes"},
    "bias is a number": LLAMA | {"attention_bias": 1},
    "rope is a list": LLAMA | {"rope_scaling": [1]},
    "rope factor is text": LLAMA | {"rope_scaling": LLAMA3_ROPE | {"factor": "8"}},
    "rope factor is zero": LLAMA | {"rope_scaling": LLAMA3_ROPE | {"factor": 0}},
    "rope base is huge": LLAMA | {"rope_scaling": LLAMA3_ROPE | {"rope_theta": 10**400}},
}  # fmt: skip


@pytest.mark.parametrize("config", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_is_unknown_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        plan(config)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250


@pytest.mark.parametrize("config", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_is_named(config: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=r"config\.json"):
        plan(config)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("llama3")
KEYS = st.sampled_from([*QWEN3, *LLAMA3_ROPE, "rope_scaling", "rope_parameters", "attention_bias"])
ANYTHING = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(KEYS, SCALARS, max_size=4)


@given(st.sampled_from([QWEN3, QWEN2, LLAMA, MISTRAL]), st.dictionaries(KEYS, ANYTHING, max_size=4))
def test_no_config_gives_another_exception(base: dict[str, Any], changes: dict[str, Any]) -> None:
    with suppress(RequantError):
        plan(base | changes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b'{"a": 1, "a": 2}',
        b'{"a":' + b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_config(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^config\.json is not"):
        read_config(data)


def test_a_config_is_read() -> None:
    assert read_config(b'{"rope_theta": 1e6}') == {"rope_theta": 1e6}
    causal = {"Qwen3ForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"}
    assert set(FAMILIES) == causal | {"Qwen3Model", "Qwen2Model", "LlamaModel"}


@pytest.mark.parametrize("name", ["Qwen3ForCausalLM", "Qwen3Model"])
def test_a_model_stored_without_what_is_around_it(name: str) -> None:
    """As Qwen3-Embedding is: the same tensors by shorter names."""
    config = QWEN3 | {"architectures": [name]}
    whole = plan(QWEN3).tensors
    bare = {origin.name.removeprefix("model.") for origin in whole.values()}
    found = plan(config, bare).tensors
    assert {origin.name for origin in found.values()} == bare
    assert {key: (each.shape, each.type) for key, each in found.items()} == {
        key: (each.shape, each.type) for key, each in whole.items()
    }
    assert "output.weight" not in plan(config | {"tie_word_embeddings": name == "Qwen3ForCausalLM"}).tensors
    with pytest.raises(FormatError, match=r"no tensor 'layers\.[01]\."):
        plan(config, {"embed_tokens.weight", "norm.weight"})


def test_what_may_belong_to_no_model_is_passed_over() -> None:
    stored = {origin.name for origin in plan(QWEN3).tensors.values()}
    assert plan(QWEN3, [*stored, "x"], ["x"]) == plan(QWEN3, stored)
    assert "output.weight" in plan(QWEN3, [*stored, "lm_head.weight"], ["lm_head.weight"]).tensors
    with pytest.raises(UnsupportedError, match="'x', which belongs to no model"):
        plan(QWEN3, [*stored, "x"])
