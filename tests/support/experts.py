"""A small model with experts, as upstream's converter lays out a Qwen3-MoE, of random weights; and a matrix for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from requant.conversion.weights import rounded
from requant.formats.ggml import Floats, GGMLType
from support.gguf_files import bf16, write_imatrix

ARCHITECTURE = "qwen3moe"
LAYERS, HIDDEN, FFN, EXPERTS, HEADS, KV_HEADS, HEAD, TOKENS = 2, 256, 256, 4, 4, 2, 64, 320
UNSEEN = 2
"""The expert that no token of the text went through."""
SEEN = [[64], [40], [0], [24]]
"""Tokens by expert: each of 64 went through two."""
MATRICES = {
    "attn_q": (HEADS * HEAD, HIDDEN), "attn_k": (KV_HEADS * HEAD, HIDDEN), "attn_v": (KV_HEADS * HEAD, HIDDEN),
    "attn_output": (HIDDEN, HEADS * HEAD), "ffn_gate_exps": (EXPERTS, FFN, HIDDEN), "ffn_up_exps": (EXPERTS, FFN, HIDDEN),
    "ffn_down_exps": (EXPERTS, HIDDEN, FFN),
}  # fmt: skip
PLAIN = {
    "attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,), "attn_q_norm": (HEAD,), "attn_k_norm": (HEAD,),
    "ffn_gate_inp": (EXPERTS, HIDDEN),
}  # fmt: skip


def weights(seed: int = 1) -> dict[str, Floats]:
    """All tensors by name, the row length last."""
    stream = np.random.default_rng(seed)

    def drawn(shape: tuple[int, ...]) -> Floats:
        return (stream.standard_normal(shape) / 50).astype(np.float32)

    found = {"token_embd.weight": drawn((TOKENS, HIDDEN)), "output_norm.weight": drawn((HIDDEN,))}
    for layer in range(LAYERS):
        found |= {f"blk.{layer}.{name}.weight": drawn(shape) for name, shape in {**PLAIN, **MATRICES}.items()}
    return found


def write(path: Path, kind: GGMLType, tensors: dict[str, Floats] | None = None) -> Path:
    """Let the gguf package write it, its matrices as BF16, F16 or F32; vectors and the router are F32, as always."""
    writer = GGUFWriter(path, ARCHITECTURE)
    writer.add_name("Small Experts")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(2 * FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(FFN)
    for name, values in (tensors or weights()).items():
        if values.ndim == 1 or "gate_inp" in name or kind is GGMLType.F32:
            writer.add_tensor(name, values)
        elif kind is GGMLType.F16:
            writer.add_tensor(name, values.astype(np.float16))
        else:
            writer.add_tensor(name, bf16(rounded(values, kind)), raw_dtype=GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_matrix(path: Path, seed: int = 2) -> Path:
    """An importance matrix of all matrices inside the blocks, each expert's its own; one expert saw no token."""
    stream, entries = np.random.default_rng(seed), {}
    for layer in range(LAYERS):
        for name, shape in MATRICES.items():
            experts = shape[0] if len(shape) == 3 else 1
            counts = np.array([[64]] if experts == 1 else SEEN, np.float32)
            squares = (stream.chisquare(1, (experts, shape[-1])) * counts).astype(np.float32)
            weight = f"blk.{layer}.{name}.weight"
            entries[f"{weight}.in_sum2"] = squares if experts > 1 else squares[0]
            entries[f"{weight}.counts"] = counts if experts > 1 else counts[0]
    return write_imatrix(path, entries, chunks=8)
