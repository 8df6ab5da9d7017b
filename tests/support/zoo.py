"""Models of kinds that llama-quantize chooses types of otherwise than of others, without weights: names and shapes alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TypeAlias

import numpy as np

from requant.conversion.weights import rounded
from requant.formats.ggml import GGMLType
from requant.formats.gguf import read_header
from requant.quantization.tensor_kinds import is_quantized
from support.gguf_files import bf16, write_imatrix
from support.hollow import write_any

WIDE, ODD, NARROW = 512, 288, 80
"""Row lengths: of whole blocks of 256, of blocks of 32, and of neither."""

TOP = (
    "token_embd", "output", "output_norm", "rope_freqs", "per_layer_token_embd", "per_layer_model_proj", "position_embd",
    "token_types", "altup_proj", "v.blk.0.attn_q", "v.patch_embd", "v.position_embd", "mm.a.code_embd", "a.rvq.codebook",
    "enc.blk.0.attn_v", "dec.blk.0.cross_attn_v", "dec.blk.0.attn_rel_b", "cls", "sam.neck.0",
)  # fmt: skip
"""Outside of the layers."""
FEED_FORWARD = ("ffn_gate", "ffn_up", "ffn_down")
ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output", "attn_norm", "attn_q_norm", "attn_gate")
VALUES = ("attn_v",)
FUSED = ("attn_qkv", "attn_output", "attn_norm")
LATENT = ("attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b", "attn_k_b", "attn_v_b", "attn_output", "nextn.eh_proj")
RECURRENT = (
    "ssm_in",
    "ssm_out",
    "ssm_conv1d",
    "ssm_x",
    "ssm_dt",
    "ssm_f_a",
    "ssm_beta",
    "shortconv.conv",
    "shortconv.in_proj",
)
SMALL = (
    "inp_gate", "proj", "laurel_l", "altup_correct_coef", "time_mix_w1", "time_mix_key", "time_mix_decay_w2", "hc_attn_fn",
    "indexer.k_proj", "indexer.attn_q_b", "indexer.attn_k", "indexer.proj", "ffn_gate_inp", "ffn_gate_inp_shexp",
    "ffn_gate_tid2eid", "attn_sub_norm",
)  # fmt: skip
BIASES = ("attn_q.bias", "attn_qkv.bias", "ffn_down.scale", "ffn_gate_up_exps.bias")
EXPERTS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_up_exps", "ffn_down_chexps")
SHARED = ("ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp")
THREE = {*EXPERTS, "attn_k_b", "attn_v_b"}
"""In three dimensions: a matrix for each expert or head."""

Shapes = dict[str, tuple[tuple[int, ...], GGMLType]]
Number: TypeAlias = "int | float | list[int]"


@dataclass(frozen=True)
class Zoo:
    """One model: the keys of its architecture, and the names of its tensors by layer, again and again.

    ``heads`` and ``kv_heads`` may be a list, a number for each layer; ``columns`` is how long rows are, ``tied`` says
    that there is no output.
    """

    architecture: str
    layers: int
    patterns: tuple[tuple[str, ...], ...]
    heads: int | list[int] = 8
    kv_heads: int | list[int] = 2
    experts: int = 0
    columns: int = WIDE
    tied: bool = False
    more: dict[str, Number] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, Number]:
        """As the architecture names them."""
        found: dict[str, Number] = {
            "block_count": self.layers, "embedding_length": 512, "feed_forward_length": 768,
            "attention.head_count": self.heads, "attention.head_count_kv": self.kv_heads,
            "attention.layer_norm_rms_epsilon": 1e-6, "attention.layer_norm_epsilon": 1e-6,
        }  # fmt: skip
        if self.experts:
            found |= {"expert_count": self.experts, "expert_used_count": 2}
        return found | self.more

    @property
    def tensors(self) -> Shapes:
        """Names, shapes and types before quantization, in an order that no llama-quantize goes by."""
        found: Shapes = {}
        for layer in reversed(range(self.layers)):
            for name in self.patterns[layer % len(self.patterns)]:
                whole = name if name in BIASES else f"{name}.weight"
                found[f"blk.{layer}.{whole}"] = self._shaped(name)
        return found | {f"{name}.weight": self._shaped(name) for name in TOP if not (self.tied and name == "output")}

    def _shaped(self, name: str) -> tuple[tuple[int, ...], GGMLType]:
        if name.endswith(("norm", "freqs", "shexp_norm", "gate_inp_shexp")):
            return (self.columns,), GGMLType.F32
        columns = 2 * self.columns if "ffn_down" in name else self.columns
        if name in THREE:
            return (columns, 32, max(2, self.experts)), GGMLType.BF16
        return (columns, 32), GGMLType.F32 if name in SMALL or "conv" in name else GGMLType.BF16


DENSE, MIXED = (*ATTENTION, *FEED_FORWARD), (*ATTENTION, *EXPERTS, *SHARED, "ffn_gate_inp")
ALL = ((*FUSED, *RECURRENT, *FEED_FORWARD, *BIASES), (*DENSE, *SMALL), (*LATENT, *EXPERTS, *SHARED), MIXED)
"""Hybrids of everything, layer by layer."""
GLM5: dict[str, Number] = {
    "attention.key_length_mla": 64, "attention.value_length_mla": 64, "attention.q_lora_rank": 64, "attention.kv_lora_rank": 64,
    "ssm.conv_kernel": 4, "kda.head_dim": 64, "kda.gate_lower_bound": -5.0, "expert_feed_forward_length": 256,
    "expert_shared_count": 1, "leading_dense_block_count": 1, "expert_gating_func": 2, "attention.indexer.head_count": 4,
    "attention.indexer.key_length": 64, "attention.indexer.top_k": 64, "attention.indexer.kpool": 4,
    "hyper_connection.count": 4, "hyper_connection.sinkhorn_iterations": 4, "hyper_connection.epsilon": 1e-6,
}  # fmt: skip
BAILING = {key: value for key, value in GLM5.items() if not key.startswith(("attention.indexer", "hyper"))}

ZOO = {
    "dense, all names": Zoo("llama", 17, ALL, heads=8, kv_heads=4),
    "experts, all names, tied": Zoo("llama", 24, ALL, experts=16, tied=True),
    "two experts": Zoo("llama", 9, (MIXED, DENSE), experts=2, kv_heads=8),
    "four experts": Zoo("qwen3moe", 16, (MIXED,), experts=4, kv_heads=8, more={"expert_feed_forward_length": 256}),
    "Mixtral": Zoo("llama", 32, (MIXED, (*FUSED, *EXPERTS)), experts=8),
    "Mixtral, one head each": Zoo("llama", 16, ALL, experts=8, kv_heads=8, tied=True),
    "falcon": Zoo("falcon", 32, ((*FUSED, "ffn_up", "ffn_down"), DENSE), heads=71, kv_heads=1),
    "falcon, tied, with experts": Zoo("falcon", 19, ALL, experts=8, tied=True),
    "odd rows, all names": Zoo("llama", 9, ALL, experts=16, columns=ODD),
    "odd rows, falcon, tied": Zoo("falcon", 8, ALL, columns=ODD, tied=True),
    "narrow rows": Zoo("llama", 8, ALL, experts=8, columns=NARROW),
    "rows of 320": Zoo("llama", 8, ALL, columns=320),
    "heads by layer": Zoo("lfm2", 10, (RECURRENT, DENSE), heads=[8] * 10, kv_heads=[0, 2] * 5, more={"shortconv.l_cache": 3}),
    "without heads": Zoo("mamba", 8, (RECURRENT,), heads=0, kv_heads=0, more={
        "ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16, "ssm.time_step_rank": 4,
    }),
    "72B, qwen2": Zoo("qwen2", 80, (VALUES,), heads=64, kv_heads=64),
    "70B": Zoo("llama", 80, (VALUES,), heads=64, kv_heads=8),
    "65B": Zoo("llama", 80, (VALUES,), heads=64, kv_heads=64),
    "70B, deci": Zoo("deci", 80, (VALUES, FUSED), heads=64, kv_heads=8),
    "70B, olmo": Zoo("olmo", 80, (VALUES,), heads=64, kv_heads=64),
    "70B, jais2": Zoo("jais2", 68, (FUSED,), heads=64, kv_heads=64),
    "70B, eight experts": Zoo("llama", 80, (VALUES,), heads=64, kv_heads=8, experts=8),
    "bailingmoe3": Zoo("bailingmoe3", 12, ALL, experts=16, more=BAILING),
    "glm5-next": Zoo("glm5-next", 12, ALL, experts=16, more=GLM5),
    "nanbeige, in loops": Zoo("nanbeige", 16, (DENSE,), more={"num_loops": 2}),
}  # fmt: skip


def write_zoo(path: Path, zoo: Zoo) -> Path:
    """Write a GGUF whose tensors are a hole in the file."""
    return write_any(path, zoo.architecture, zoo.keys, zoo.tensors)


def fill(path: Path, seed: int) -> Path:
    """Give the tensors of such a file random weights: BF16 matrices, F32 for the rest."""
    stream, header = np.random.default_rng(seed), read_header(path)
    data = np.memmap(path, np.uint8, "r+")
    for tensor in header.tensors:
        numbers = (stream.standard_normal(prod(tensor.shape)) / 50).astype(np.float32)
        stored = numbers if tensor.type is GGMLType.F32 else bf16(rounded(numbers, GGMLType.BF16))
        data[tensor.offset : tensor.offset + tensor.nbytes] = stored.view(np.uint8)
    data.flush()
    return path


def write_matrix(path: Path, zoo: Zoo, seed: int) -> Path:
    """An importance matrix of all matrices in the layers, each expert's its own."""
    stream, entries = np.random.default_rng(seed), {}
    for name, (shape, _) in zoo.tensors.items():
        if name.startswith("blk.") and is_quantized(name, shape, zoo.architecture):
            experts = (*shape, 1)[2]
            entries[f"{name}.in_sum2"] = (stream.chisquare(1, (experts, shape[0])) * 64).astype(np.float32)
            entries[f"{name}.counts"] = np.full((experts, 1), 64, np.float32)
    return write_imatrix(path, entries, chunks=8)
