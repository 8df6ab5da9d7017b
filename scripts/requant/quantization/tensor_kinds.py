"""What llama-quantize takes a tensor for by its name, and which it never quantizes.

``tensor_get_category`` and ``tensor_allows_quantization`` of llama.cpp 0c1e57098bba's ``src/llama-quant.cpp``, and the
names of architectures in its ``src/llama-arch.cpp``.
"""

import re
from functools import lru_cache

NAMED = """
llama llama4 deci falcon grok gpt2 gptj gptneox mpt baichuan starcoder refact bert modern-bert nomic-bert
nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert bloom stablelm qwen qwen2 qwen2moe qwen2vl qwen3 qwen3moe
qwen3next qwen3vl qwen3vlmoe qwen35 qwen35moe qwen4exp phi2 phi3 phimoe plamo plamo2 plamo3 codeshell orion internlm2
minicpm minicpm3 gemma gemma2 gemma3 gemma3n gemma4 gemma4-assistant gemma-embedding starcoder2 mamba mamba2 maple
jamba falcon-h1 xverse command-r cohere2 cohere2moe dbrx olmo olmo2 olmoe muse-glimmer openelm arctic deepseek
deepseek2 deepseek2-ocr deepseek32 deepseek4 chatglm glm4 glm4moe glm-dsa bitnet t5 t5encoder jais jais2 nemotron
nemotron_h nemotron_h_moe exaone exaone4 exaone-moe rwkv6 rwkv6qwen2 rwkv7 arwkv7 granite granitemoe granitehybrid
graniteswitch granite_swa chameleon wavtokenizer-dec plm bailingmoe bailingmoe2 bailingmoe3 dots1 dots3note arcee
afmoe laguna ernie4_5 ernie4_5-moe hunyuan-moe hunyuan-dense hunyuan_vl hy_v3 hy_v4 smollm3 gpt-oss lfm2 lfm2moe dream
smallthinker llada llada-moe seed_oss grovemoe apertus minimax-01 hrm_text minimax-m2 minimax-m3 cogvlm rnd1
pangu-embedded mistral3 eagle3 dflash mistral4 paddleocr mimo2 step35 spark2_5 llama-embed maincoder kimi-linear
kimi-k3 glm5-next talkie mellum nanbeige qwen3tts pockettts
"""
ARCHITECTURES = frozenset(NAMED.split())
"""All that llama-quantize chooses types for; of ``clip``, which has no layers for it, it often aborts."""

FALCON, BAILING, GLM5 = "falcon", "bailingmoe3", "glm5-next"
"""The architectures that its choices ask for by name."""

KINDS = (
    ("attn_qkv.weight", "attn_qkv"), ("attn_kv_b.weight", "attn_kv_b"), ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"), ("attn_q.weight", "attn_q"), ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"), ("ffn_gate", "ffn_gate"), ("ffn_down", "ffn_down"),
)  # fmt: skip
"""What a name holds and what the tensor is then taken for; the first that fits counts."""
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
OUTPUT = "output.weight"

KEPT = (
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel", "per_layer_model_proj",
    "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",
    *(f"time_mix_{part}.weight" for part in (
        "first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2", "decay_w1", "decay_w2", "lerp_fused",
    )),
    "attn_rel_b.weight", ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd",
    ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",
)  # fmt: skip
"""Parts of the names of tensors that are never quantized: small ones, and those that suffer from it."""
KEPT_BY_NAME = ("position_embd.weight", "token_types.weight")
KEPT_OF_GLM5 = (
    "hc_", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "indexer_compressor_gate", "indexer_compressor_ape",
    "ssm_f_a.weight", "ssm_f_b.weight", "ssm_g_a.weight", "ssm_g_b.weight", "ssm_beta.weight", "attn_kv_a_mqa.weight",
    "attn_k_b.weight", "attn_v_b.weight",
)  # fmt: skip
SPARED_OF_GLM5 = ("attn_q_a", "attn_q_b", "nextn.eh_proj")
"""Quantized to Q8_0, whatever the file type."""

NAMES = 1 << 14
"""Whose answers are remembered: all file types ask about the same."""
LAYER = re.compile(r"blk\.(\d{1,9})")


@lru_cache(NAMES)
def kind_of(name: str) -> str:
    """What a tensor is taken for; its ``other`` name where nothing is known of it.

    >>> [kind_of(f"blk.0.{name}.weight") for name in ("attn_v", "ffn_down_exps", "attn_kv_b", "ssm_in")]
    ['attn_v', 'ffn_down', 'attn_kv_b', 'other']
    """
    if name == OUTPUT:
        return "output"
    if name in EMBEDDINGS:
        return "token_embd"
    return next((kind for part, kind in KINDS if part in name), "other")


def layer_of(name: str) -> int:
    """The layer of a tensor, -1 outside of them.

    >>> layer_of("blk.12.attn_v.weight"), layer_of("enc.blk.3.attn_v.weight")
    (12, -1)
    """
    match = LAYER.match(name)
    return int(match[1]) if match else -1


@lru_cache(NAMES)
def is_quantized(name: str, shape: tuple[int, ...], architecture: str) -> bool:
    """Whether llama-quantize quantizes a tensor at all; ``shape`` is in ggml's order, the row length first."""
    if all(length == 1 for length in shape[1:]) or not name.endswith("weight") or name in KEPT_BY_NAME:
        return False
    kept = (*KEPT, *KEPT_OF_GLM5) if architecture == GLM5 else KEPT
    return not any(part in name for part in kept)
