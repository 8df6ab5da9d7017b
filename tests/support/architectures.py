"""Models of many architectures, as small as they can be, and what is known of auditing them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BYTES, PIECES, WORDS = 50304, 384, 30522
"""Rows of an embedding with GPT-2's vocabulary and a few tokens more, with a SentencePiece one, and with BERT's."""
ROWS = {"bytes": BYTES, "gpt2": BYTES, "spm": PIECES, "unigram": 320, "pieces": PIECES, "words": WORDS}
"""The same by kinds of tokenizers; ``pieces`` are SentencePiece's in a tokenizer.json."""
NEWER = json.loads(Path(__file__).with_name("newer_models.json").read_text())
"""Models of transformers 5.24.0, which is newer than the converter's: the config and the names that it saves."""


@dataclass(frozen=True)
class Case:
    """A small model: what transformers calls it, and what its config says beside ``SMALL``, or as a ``whole``.

    ``shapes`` are those of its tensors where transformers does not know it, ``options`` the converter's.
    ``packed`` is one of ``packed_models.KINDS``. ``untold`` are tensors that nobody can tell, with # for numbers.
    ``types`` are what llama-quantize makes of it, ``weighed`` with an importance matrix. ``made_by`` is the name of
    transformers' class if it has another. ``refused`` is what an audit says where it can say nothing else.
    """

    model_type: str
    architecture: str
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "bytes"
    dtype: str = "bfloat16"
    shapes: dict[str, tuple[int, ...]] | None = None
    options: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    packed: str | None = None
    types: str = "Q4_0"
    whole: bool = False
    made_by: str | None = None
    weighed: bool = False
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As ``random_models.py`` reads it."""
        rows = ROWS[self.tokenizer]
        config = self.config if self.whole else SMALL | {"vocab_size": rows} | self.config
        return {
            "model_type": self.model_type, "architecture": self.architecture, "tokenizer": self.tokenizer,
            "dtype": self.dtype, "shapes": self.shapes, "rows": rows, "config": config,
            "options": self.options, "packed": self.packed,
            "made_by": self.made_by or self.architecture,
        }  # fmt: skip


SMALL: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GPT_OSS = {"num_local_experts": 4, "pad_token_id": 0}
DEEPSEEK_V3 = {
    "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "first_k_dense_replace": 1, "q_lora_rank": 32, "kv_lora_rank": 64,
    "qk_nope_head_dim": 32, "qk_rope_head_dim": 32, "v_head_dim": 32, "head_dim": 32,
}  # fmt: skip
WIDE = {"hidden_size": 256, "intermediate_size": 256, "moe_intermediate_size": 256, "tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}
MIXED_LAYERS = {"layer_types": ["linear_attention", "full_attention"]}

MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_d_conv": 4,
}
SPOKEN = {key: SMALL[key] for key in SMALL if key != "max_position_embeddings"}
SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
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


def by_hand(
    *layer: tuple[str, tuple[int, ...]], embedding: str = "model.embed_tokens", output: str = "lm_head"
) -> dict[str, tuple[int, ...]]:
    """The tensors of a model that has no class in transformers: two layers, around them a SentencePiece vocabulary."""
    around: dict[str, tuple[int, ...]] = {
        f"{embedding}.weight": (PIECES, 64),
        f"{output}.weight": (PIECES, 64),
        "model.norm.weight": (64,),
    }
    return around | {f"model.layers.{number}.{name}.weight": shape for number in (0, 1) for name, shape in layer}


MINICPM = by_hand(
    *((f"self_attn.{name}_proj", shape) for name, shape in (("q", (64, 64)), ("k", (32, 64)), ("v", (32, 64)), ("o", (64, 64)))),
    *((f"mlp.{name}_proj", shape) for name, shape in (("gate", (96, 64)), ("up", (96, 64)), ("down", (64, 96)))),
    ("input_layernorm", (64,)), ("post_attention_layernorm", (64,)),
)  # fmt: skip
INTERNLM2 = by_hand(
    ("attention.wqkv", (128, 64)), ("attention.wo", (64, 64)), ("feed_forward.w1", (96, 64)), ("feed_forward.w3", (96, 64)),
    ("feed_forward.w2", (64, 96)), ("attention_norm", (64,)), ("ffn_norm", (64,)), embedding="model.tok_embeddings", output="output",
)  # fmt: skip

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
    "gpt-oss": Case("gpt_oss", "GptOssForCausalLM", GPT_OSS),
    "DeepSeek-V3": Case("deepseek_v3", "DeepseekV3ForCausalLM", DEEPSEEK_V3),
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
    "Gemma": Case("gemma", "GemmaForCausalLM", tokenizer="spm"),
    "Gemma 3, text of the multimodal": Case(
        "gemma3", "Gemma3ForConditionalGeneration", {"text_config": SPOKEN | {"vocab_size": PIECES}, "vision_config": SIGLIP}, "spm",
    ),
    "Gemma 3n": Case(
        "gemma3n_text", "Gemma3nForCausalLM",
        {"vocab_size_per_layer_input": PIECES, "hidden_size_per_layer_input": 32, "num_kv_shared_layers": 0, "laurel_rank": 16,
         "layer_types": ["sliding_attention", "full_attention"], "activation_sparsity_pattern": [0.0, 0.0]}, "spm", refused="upstream computes with model.altup_projections.0.weight",
    ),
    "Qwen2.5-VL": Case(
        "qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration",
        {"text_config": SPOKEN | {"vocab_size": BYTES, "rope_scaling": {"rope_type": "default", "mrope_section": [6, 5, 5]}},
         "vision_config": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}},
    ),
    "Phi-4": Case("phi3", "Phi3ForCausalLM", {"pad_token_id": 0, "head_dim": 16, "tie_word_embeddings": True, "partial_rotary_factor": 0.75}, "gpt2"),
    "Phi-3.5-MoE": Case("phimoe", "PhiMoEForCausalLM", {"num_local_experts": 4, "pad_token_id": 0, "head_dim": 16, "original_max_position_embeddings": 4096}, "spm", made_by="PhimoeForCausalLM"),
    "DeepSeek-V2": Case("deepseek_v2", "DeepseekV2ForCausalLM", DEEPSEEK_V3 | {"topk_method": "greedy", "n_shared_experts": 1}),
    "Granite 4, hybrid": Case(
        "granitemoehybrid", "GraniteMoeHybridForCausalLM",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 32, "layer_types": ["mamba", "attention"], "pad_token_id": 0} | MAMBA,
    ),
    "Granite-MoE, shared": Case("granitemoeshared", "GraniteMoeSharedForCausalLM", {"num_local_experts": 4, "shared_intermediate_size": 32, "pad_token_id": 0}),
    "Falcon-H1": Case("falcon_h1", "FalconH1ForCausalLM", {"mamba_d_ssm": 128, "pad_token_id": 0} | MAMBA, refused="upstream computes with model.layers.0.mamba.in_proj.weight"),
    "Jamba": Case(
        "jamba", "JambaForCausalLM",
        {"num_experts": 4, "expert_layer_period": 2, "expert_layer_offset": 1, "attn_layer_period": 2, "attn_layer_offset": 1,
         "mamba_d_state": 16, "mamba_dt_rank": 8, "use_mamba_kernels": False, "pad_token_id": 0}, "spm",
    ),
    "Mamba": Case("mamba", "MambaForCausalLM", {"intermediate_size": 128, "state_size": 16, "expand": 2, "time_step_rank": 8}, refused="upstream computes with backbone.embeddings.weight"),
    "Command-R": Case("cohere", "CohereForCausalLM", {"pad_token_id": 0, "tie_word_embeddings": True, "head_dim": 16}),
    "Llama 4": Case(
        "llama4_text", "Llama4ForCausalLM",
        {"num_local_experts": 4, "intermediate_size_mlp": 96, "interleave_moe_layer_step": 2, "pad_token_id": 0, "attn_temperature_tuning": True},
    ),
    "Falcon": Case("falcon", "FalconForCausalLM", {"vocab_size": BYTES, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_kv_heads": 2, "new_decoder_architecture": True}, whole=True),
    "OLMo-3": Case("olmo3", "Olmo3ForCausalLM", {"pad_token_id": 0}),
    "OLMoE": Case("olmoe", "OlmoeForCausalLM", {"num_experts": 4, "num_experts_per_tok": 2, "pad_token_id": 0}),
    "ERNIE 4.5 MoE": Case(
        "ernie4_5_moe", "Ernie4_5_MoeForCausalLM",
        {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32, "moe_num_shared_experts": 1, "moe_layer_start_index": 1, "pad_token_id": 0}, "spm",
    ),
    "GLM": Case("glm", "GlmForCausalLM", {"pad_token_id": 0}),
    "T5": Case("t5", "T5ForConditionalGeneration", {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4, "tie_word_embeddings": True, "decoder_start_token_id": 0}, "spm"),
    "LLaVA": Case("llava", "LlavaForConditionalGeneration", {"text_config": SPOKEN | {"model_type": "llama", "vocab_size": PIECES}, "vision_config": SEES}, "spm"),
    "BERT": Case("bert", "BertModel", tokenizer="words"),
    "DistilBERT": Case("distilbert", "DistilBertModel", {"dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4}, "words"),
    "RoBERTa": Case("roberta", "RobertaModel", {"pad_token_id": 1}),
    "Qwen2-VL": Case(
        "qwen2_vl", "Qwen2VLForConditionalGeneration",
        {"text_config": SPOKEN | {"vocab_size": BYTES, "rope_scaling": {"rope_type": "default", "mrope_section": [6, 5, 5]}},
         "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2, "num_heads": 2}},
    ),
    "Bamba": Case("bamba", "BambaForCausalLM", {"attn_layer_indices": [1], "pad_token_id": 0} | MAMBA),
    "MPT": Case("mpt", "MPTForCausalLM", {"vocab_size": BYTES, "d_model": 64, "n_heads": 4, "n_layers": 2}, made_by="MptForCausalLM", whole=True),
    "OLMo": Case("olmo", "OlmoForCausalLM", {"pad_token_id": 0, "clip_qkv": None}),
    "Arcee": Case("arcee", "ArceeForCausalLM", {"pad_token_id": 0}),
    "MiniCPM": Case(
        "minicpm", "MiniCPMForCausalLM", {"head_dim": 16, "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 32, "rms_norm_eps": 1e-5}, "spm",
        shapes=MINICPM,
    ),
    "InternLM2": Case("internlm2", "InternLM2ForCausalLM", {"eos_token_id": 1, "bos_token_id": 2, "head_dim": 16, "rms_norm_eps": 1e-5}, "spm", shapes=INTERNLM2),
    "Qwen3-Reranker": Case("qwen3", "Qwen3ForCausalLM", {"tie_word_embeddings": True}),
    "EmbeddingGemma": Case("gemma3_text", "Gemma3TextModel", tokenizer="spm"),
    "Qwen3-MoE, Q4_K_M with a matrix": Case(
        "qwen3_moe", "Qwen3MoeForCausalLM", EXPERTS | WIDE | {"decoder_sparse_step": 1}, types="Q4_K_M", weighed=True,
    ),
    "Mixtral, Q4_K_M with a matrix": Case("mixtral", "MixtralForCausalLM", {"num_local_experts": 4} | WIDE, "spm", types="Q4_K_M", weighed=True),
    "gpt-oss, Q4_K_M with a matrix": Case("gpt_oss", "GptOssForCausalLM", GPT_OSS | WIDE | UNTIED, types="Q4_K_M", weighed=True),
    "gpt-oss, MXFP4, Q4_K_M with a matrix": Case("gpt_oss", "GptOssForCausalLM", GPT_OSS | WIDE | UNTIED, packed="mxfp4", types="Q4_K_M", weighed=True),
    "DeepSeek-V3, FP8, IQ2_XS with a matrix": Case(
        "deepseek_v3", "DeepseekV3ForCausalLM", DEEPSEEK_V3 | WIDE | UNTIED, packed="fp8", types="IQ2_XS", weighed=True,
    ),
    "Qwen3, FP8": Case("qwen3", "Qwen3ForCausalLM", packed="fp8"),
    "Qwen3-MoE, FP8": Case("qwen3_moe", "Qwen3MoeForCausalLM", EXPERTS | {"decoder_sparse_step": 1}, packed="fp8"),
    "DeepSeek-V3, FP8": Case("deepseek_v3", "DeepseekV3ForCausalLM", DEEPSEEK_V3, packed="fp8"),
    "Mistral, FP8 with one scale": Case("mistral", "MistralForCausalLM", tokenizer="spm", packed="fp8, one scale"),
    "Llama, FP8 of compressed-tensors": Case("llama", "LlamaForCausalLM", tokenizer="spm", packed="fp8, compressed-tensors"),
    "Llama, FP8 of ModelOpt": Case("llama", "LlamaForCausalLM", tokenizer="spm", packed="fp8, modelopt"),
    "gpt-oss, MXFP4": Case("gpt_oss", "GptOssForCausalLM", GPT_OSS, packed="mxfp4", types="MXFP4_MOE"),
    "gpt-oss, MXFP4 quantized again": Case("gpt_oss", "GptOssForCausalLM", GPT_OSS, packed="mxfp4"),
    "Llama, GPTQ": Case(
        "llama", "LlamaForCausalLM", tokenizer="spm", packed="gptq",
        untold=tuple(f"blk.#.{part}.weight" for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")),
    ),
    "Llama, four bits of compressed-tensors": Case("llama", "LlamaForCausalLM", tokenizer="spm", packed="four bits, compressed-tensors", refused="stored as I64: name a BF16 GGUF"),
    "Llama, AWQ": Case("llama", "LlamaForCausalLM", tokenizer="spm", packed="awq", refused="Quant method is not yet supported: 'awq'"),
    "Llama, NVFP4": Case("llama", "LlamaForCausalLM", {"intermediate_size": 128}, tokenizer="spm", packed="nvfp4", refused="stored as U8: name a BF16 GGUF"),
}  # fmt: skip
OTHER_TOKENIZERS = {
    **dict.fromkeys(("Gemma 4", "Gemma 4 E", "Gemma 4 MoE"), "pieces"), "MiniCPM3": "spm", "Ministral 3": "spm",
}  # fmt: skip
CASES |= {
    name: Case(
        found["config"]["model_type"], found["config"]["architectures"][0], found["config"],
        OTHER_TOKENIZERS.get(name, "bytes"), shapes=found["shapes"], whole=True,
    )
    for name, found in NEWER.items()
}  # fmt: skip
