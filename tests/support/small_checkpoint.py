"""A Qwen3 checkpoint of a few kilobytes, and the metadata of a GGUF made of it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from requant.audit.metadata.comparison import NamedImatrix
from requant.conversion import vocabulary
from requant.conversion.expected import ExpectedMetadata
from requant.formats.ggml import GGMLType, ValueType
from requant.formats.gguf import Field, Header, Tensor

ROWS = 16
BASE = ["a", "b", "c", "ab", "abc", "d"]
MERGES = ["a b", "ab c"]
TEMPLATE = "{%- if tools %}\n    use them\n{%- endif %}\n{{ messages }}\n"
FLAGS = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
ADDED = {6: ("<|endoftext|>", True), 7: ("<|im_end|>", True), 8: ("<think>", False)}
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 256, "intermediate_size": 768,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": ROWS,
    "tie_word_embeddings": True, "rope_theta": 1000000, "rms_norm_eps": 1e-6, "max_position_embeddings": 4096,
    "bos_token_id": 6, "eos_token_id": 7,
}  # fmt: skip
SETTINGS = {
    "tokenizer_class": "Qwen2Tokenizer", "add_bos_token": False, "chat_template": TEMPLATE, "bos_token": None,
    "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None,
    "added_tokens_decoder": {str(number): {"content": text, "special": special, **FLAGS} for number, (text, special) in ADDED.items()},
}  # fmt: skip
TOKENIZER = {
    "added_tokens": [{"id": number, "content": text, "special": special, **FLAGS} for number, (text, special) in ADDED.items()],
    "normalizer": {"type": "NFC"}, "post_processor": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": vocabulary.QWEN2_PATTERN}}, {"type": "ByteLevel"},
    ]},
    "model": {"type": "BPE", "vocab": {token: number for number, token in enumerate(BASE)},
              "merges": [merge.split() for merge in MERGES], "byte_fallback": False},
}  # fmt: skip
GENERATION = {"temperature": 0.6, "top_k": 20, "do_sample": True}
IMATRIX = NamedImatrix(14, 100)
SUBJECT = {
    "general.name": Field(ValueType.STRING, "Small"),
    "general.file_type": Field(ValueType.UINT32, 15),
    "general.quantization_version": Field(ValueType.UINT32, 2),
    "quantize.imatrix.file": Field(ValueType.STRING, "imatrix.gguf"),
    "quantize.imatrix.entries_count": Field(ValueType.UINT32, 14),
    "quantize.imatrix.chunks_count": Field(ValueType.UINT32, 100),
}
TENSORS = (
    Tensor("token_embd.weight", (256, ROWS), GGMLType.Q6_K, 0, 0),
    Tensor("blk.0.attn_q.weight", (256, 256), GGMLType.Q4_K, 0, 0),
    Tensor("output_norm.weight", (256,), GGMLType.F32, 0, 0),
)


def checkpoint(**changes: Any) -> dict[str, bytes]:
    """The files by name (with __ for the dot); ``None`` removes one, objects become JSON."""
    files: dict[str, Any] = {
        "config__json": CONFIG, "tokenizer_config__json": SETTINGS, "tokenizer__json": TOKENIZER, "generation_config__json": GENERATION,
    } | changes  # fmt: skip
    return {
        name.replace("__", "."): content if isinstance(content, bytes) else json.dumps(content).encode()
        for name, content in files.items()
        if content is not None
    }


SLOW = {"tokenizer__json": None, "vocab__json": TOKENIZER["model"]["vocab"], "merges__txt": "\n".join(["#version: 0.2", *MERGES, ""]).encode()}  # fmt: skip


def header(metadata: Mapping[str, Field], tensors: tuple[Tensor, ...] = TENSORS) -> Header:
    return Header("subject.gguf", 3, dict(metadata), tensors, 32, 0, 0)


def subject(expected: ExpectedMetadata) -> dict[str, Field]:
    written = {key: value for key, value in expected.values.items() if key not in expected.implied}
    return written | SUBJECT


def item(field: Field, index: int, value: Any) -> Field:
    """One item changed."""
    items = list(field.value) if not isinstance(field.value, np.ndarray) else field.value.copy()  # type: ignore[arg-type]
    items[index] = value
    return replace(field, value=items)


U32 = ValueType.UINT32
