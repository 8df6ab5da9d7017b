"""Models of many architectures, as small as they can be, and what is known of auditing them."""

from dataclasses import dataclass, field
from typing import Any

BYTES, PIECES = 50304, 384
"""Rows of an embedding with GPT-2's vocabulary and a few tokens more, or with a SentencePiece one."""


@dataclass(frozen=True)
class Case:
    """A small model: what transformers calls it, and what its config says beside ``SMALL``.

    ``shapes`` are those of its tensors where transformers does not know it, ``options`` the converter's.
    ``untold`` are tensors that nobody can tell, with # for numbers.
    """

    model_type: str
    architecture: str
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "bytes"
    dtype: str = "bfloat16"
    shapes: dict[str, tuple[int, ...]] | None = None
    options: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As ``random_models.py`` reads it."""
        rows = PIECES if self.tokenizer == "spm" else BYTES
        config = SMALL | {"vocab_size": rows} | self.config
        return {
            "model_type": self.model_type, "architecture": self.architecture, "tokenizer": self.tokenizer,
            "dtype": self.dtype, "shapes": self.shapes, "rows": rows, "config": config,
            "options": self.options,
        }  # fmt: skip


SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
MIXED_LAYERS = {"layer_types": ["linear_attention", "full_attention"]}

SEES = {
    "model_type": "pixtral",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 16,
}
LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
          "linear_conv_kernel_dim": 4}  # fmt: skip


def qwen35(experts: bool) -> dict[str, tuple[int, ...]]:
    """The tensors of Qwen3.5 as transformers 5 names them: a layer of linear attention, one of full, one that predicts
    a further token; values have twice the heads of keys."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.language_model.embed_tokens.weight": (BYTES, 64), "lm_head.weight": (BYTES, 64),
        "model.language_model.norm.weight": (64,), "mtp.fc.weight": (64, 128),
        **{f"mtp.{name}.weight": (64,) for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")},
    }  # fmt: skip
    linear = {
        "in_proj_qkv.weight": (128, 64), "in_proj_z.weight": (64, 64), "in_proj_a.weight": (4, 64), "in_proj_b.weight": (4, 64),
        "conv1d.weight": (128, 1, 4), "out_proj.weight": (64, 64), "norm.weight": (16,), "A_log": (4,), "dt_bias": (4,),
    }  # fmt: skip
    full = {
        "q_proj.weight": (256, 64), "k_proj.weight": (64, 64), "v_proj.weight": (64, 64), "o_proj.weight": (64, 128),
        "q_norm.weight": (32,), "k_norm.weight": (32,),
    }  # fmt: skip
    dense = {"gate_proj.weight": (96, 64), "up_proj.weight": (96, 64), "down_proj.weight": (64, 96)}
    moe = {
        "gate.weight": (4, 64), "experts.gate_up_proj": (4, 64, 64), "experts.down_proj": (4, 64, 32), "shared_expert_gate.weight": (1, 64),
        "shared_expert.gate_proj.weight": (32, 64), "shared_expert.up_proj.weight": (32, 64), "shared_expert.down_proj.weight": (64, 32),
    }  # fmt: skip
    for layer, parts in (
        ("model.language_model.layers.0", linear),
        ("model.language_model.layers.1", full),
        ("mtp.layers.0", full),
    ):
        shapes |= {
            f"{layer}.{'linear_attn' if parts is linear else 'self_attn'}.{name}": shape
            for name, shape in parts.items()
        }
        shapes |= {f"{layer}.mlp.{name}": shape for name, shape in (moe if experts else dense).items()}
        shapes |= {f"{layer}.{name}_layernorm.weight": (64,) for name in ("input", "post_attention")}
    return shapes


CASES = {
    "Llama": Case("llama", "LlamaForCausalLM", tokenizer="spm"),
    "Mistral": Case("mistral", "MistralForCausalLM", tokenizer="spm"),
    "Qwen2": Case("qwen2", "Qwen2ForCausalLM"),
    "Qwen3": Case("qwen3", "Qwen3ForCausalLM"),
    "Qwen3-MoE": Case("qwen3_moe", "Qwen3MoeForCausalLM", EXPERTS | {"decoder_sparse_step": 1}),
    "Mixtral": Case("mixtral", "MixtralForCausalLM", {"num_local_experts": 4}, "spm"),
    "Gemma 3": Case("gemma3_text", "Gemma3ForCausalLM", tokenizer="spm"),
    "Phi-3": Case("phi3", "Phi3ForCausalLM", {"pad_token_id": 0, "head_dim": 16}, "spm"),
    "OLMo-2": Case("olmo2", "Olmo2ForCausalLM", {"pad_token_id": 0}),
    "GLM-4": Case("glm4", "Glm4ForCausalLM", {"pad_token_id": 0}),
    "gpt-oss": Case("gpt_oss", "GptOssForCausalLM", {"num_local_experts": 4, "pad_token_id": 0}),
    "DeepSeek-V3": Case(
        "deepseek_v3", "DeepseekV3ForCausalLM",
        {"num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2,
         "moe_intermediate_size": 32, "first_k_dense_replace": 1, "q_lora_rank": 32, "kv_lora_rank": 64,
         "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 32, "head_dim": 32},
    ),
    "Granite": Case("granite", "GraniteForCausalLM", {"pad_token_id": 0}),
    "Granite-MoE": Case("granitemoe", "GraniteMoeForCausalLM", {"num_local_experts": 4, "pad_token_id": 0}),
    "Cohere-2": Case("cohere2", "Cohere2ForCausalLM", {"pad_token_id": 0, "tie_word_embeddings": True, "rotary_pct": 1.0}),
    "LFM2": Case("lfm2", "Lfm2ForCausalLM", {"layer_types": ["conv", "full_attention"], "pad_token_id": 0}),
    "SmolLM3": Case("smollm3", "SmolLM3ForCausalLM", {"pad_token_id": 0}),
    "Hunyuan": Case("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", {"pad_token_id": 0}),
    "Qwen3-Next": Case(
        "qwen3_next", "Qwen3NextForCausalLM",
        EXPERTS | MIXED_LAYERS | LINEAR | {"shared_expert_intermediate_size": 32}, options=("--no-mtp",),
    ),
    "Qwen3.5": Case(
        "qwen3_5_text", "Qwen3_5ForCausalLM", MIXED_LAYERS | LINEAR | {"mtp_num_hidden_layers": 1, "rms_norm_eps": 1e-6},
        shapes=qwen35(False),
    ),
    "Qwen3.5-MoE": Case(
        "qwen3_5_moe_text", "Qwen3_5MoeForCausalLM",
        EXPERTS | MIXED_LAYERS | LINEAR | {"mtp_num_hidden_layers": 1, "shared_expert_intermediate_size": 32,
                                           "rms_norm_eps": 1e-6},
        shapes=qwen35(True),
    ),
    "Qwen3.5, without its last layer": Case(
        "qwen3_5_text", "Qwen3_5ForCausalLM", MIXED_LAYERS | LINEAR | {"mtp_num_hidden_layers": 1, "rms_norm_eps": 1e-6},
        shapes=qwen35(False), options=("--no-mtp",),
    ),
    "Mistral 3": Case(
        "mistral3", "Mistral3ForConditionalGeneration",
        {"text_config": {"model_type": "mistral", "vocab_size": PIECES, "hidden_size": 64, "intermediate_size": 96,
                         "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32},
         "vision_config": SEES},
        "spm",
    ),
    "Qwen3-VL": Case(
        "qwen3_vl", "Qwen3VLForConditionalGeneration",
        {"text_config": {"vocab_size": BYTES, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
                         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
                         "rope_scaling": {"rope_type": "default", "mrope_section": [6, 5, 5]}},
         "vision_config": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
                           "deepstack_visual_indexes": [0], "num_position_embeddings": 16}},
    ),
    "Qwen3-VL-MoE": Case(
        "qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration",
        {"text_config": {"vocab_size": BYTES, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
                         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "num_experts": 4,
                         "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                         "rope_scaling": {"rope_type": "default", "mrope_section": [6, 5, 5]}},
         "vision_config": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
                           "deepstack_visual_indexes": [0], "num_position_embeddings": 16}},
    ),
    "Gemma 2": Case("gemma2", "Gemma2ForCausalLM", tokenizer="spm"),
    "GLM-4-MoE": Case("glm4_moe", "Glm4MoeForCausalLM", {"n_routed_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 0,
                      "moe_intermediate_size": 32, "first_k_dense_replace": 1, "num_nextn_predict_layers": 0}),
    "Qwen2-MoE": Case("qwen2_moe", "Qwen2MoeForCausalLM", EXPERTS | {"shared_expert_intermediate_size": 32, "head_dim": 16}),
    "StableLM": Case("stablelm", "StableLmForCausalLM", {"pad_token_id": 0}),
    "Phi-2": Case("phi", "PhiForCausalLM", {"pad_token_id": 0}),
    "Starcoder-2": Case("starcoder2", "Starcoder2ForCausalLM", {"pad_token_id": 0}),
    "GPT-2": Case("gpt2", "GPT2LMHeadModel", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "n_ctx": 256, "tie_word_embeddings": True}),
    "GPT-NeoX": Case("gpt_neox", "GPTNeoXForCausalLM"),
    "Bloom": Case("bloom", "BloomForCausalLM", {"n_layer": 2, "n_head": 4, "tie_word_embeddings": True}),
    "Exaone 4": Case("exaone4", "Exaone4ForCausalLM", {"pad_token_id": 0}),
    "Nemotron": Case("nemotron", "NemotronForCausalLM", {"pad_token_id": 0}, "spm"),
    "ERNIE 4.5": Case("ernie4_5", "Ernie4_5ForCausalLM", {"pad_token_id": 0}, "spm"),
    "Seed-OSS": Case("seed_oss", "SeedOssForCausalLM", {"pad_token_id": 0}),
    "dots.1": Case("dots1", "Dots1ForCausalLM", {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
                   "n_group": 1, "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1, "pad_token_id": 0}),
}  # fmt: skip
