"""Models without weights, and what the real llama-quantize would make of them: it chooses types by shapes alone."""

import os
import re
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from requant.conversion.layout import Plan
from requant.formats.ggml import GGMLType
from support.checkout import TOOLCHAINS
from support.gguf_files import gguf_bytes, pair, string, tensor, write_imatrix
from support.workplace import TOOLCHAIN

TOOL = TOOLCHAINS / TOOLCHAIN / "strict" / "bin" / "llama-quantize"
LINE = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[.*\], type = +(\w+), size = [^(\n]*(?:\((\w+)\))?$", re.MULTILINE)
TYPES = {kind.name.upper(): kind for kind in GGMLType}


def config(architecture: str, layers: int, heads: tuple[int, int], **changes: Any) -> dict[str, Any]:
    """The config.json of a small model."""
    names = {"qwen3": "Qwen3ForCausalLM", "qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}
    return {
        "architectures": [names[architecture]], "model_type": architecture, "num_hidden_layers": layers,
        "num_attention_heads": heads[0], "num_key_value_heads": heads[1], "hidden_size": 512,
        "intermediate_size": 768, "head_dim": 512 // heads[0], "vocab_size": 64, "tie_word_embeddings": False,
    } | changes  # fmt: skip


def write_hollow(path: Path, found: Plan) -> Path:
    """Write a BF16 GGUF whose tensors are a hole in the file."""
    counts = {
        "block_count": found.layers, "context_length": 64, "embedding_length": found.hidden, "feed_forward_length": found.ffn,
        "attention.head_count": found.heads, "attention.head_count_kv": found.kv_heads,
    }  # fmt: skip
    prefix = found.architecture
    pairs = [pair("general.architecture", 8, string(prefix))]
    pairs += [pair(f"{prefix}.{key}", 4, struct.pack("<I", value)) for key, value in counts.items()]
    pairs.append(pair(f"{prefix}.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-6)))
    infos, offset = [], 0
    for name, origin in found.tensors.items():
        infos.append(tensor(name, origin.shape, origin.type, offset))
        offset += -(-int(np.prod(origin.shape)) * origin.type.type_size // 32) * 32
    head = gguf_bytes(pairs, infos)
    path.write_bytes(head)
    os.truncate(path, len(head) + offset)
    return path


def write_empty_imatrix(path: Path) -> Path:
    """An importance matrix that measures nothing of any model."""
    entries = {"x.weight.in_sum2": np.ones(4, np.float32), "x.weight.counts": np.ones(1, np.float32)}
    return write_imatrix(path, entries)


def chosen(model: Path, name: str, options: Sequence[str] = ()) -> dict[str, GGMLType] | None:
    """What llama-quantize says that it would do; nothing where it says that it needs an importance matrix."""
    command = [str(TOOL), "--dry-run", *options, str(model), name, "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    if "actually completing this quantization will require an imatrix" in said:
        return None
    return {name: TYPES[(new or old).upper()] for name, old, new in LINE.findall(said)}
