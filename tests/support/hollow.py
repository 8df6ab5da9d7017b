"""Models without weights, and what the real llama-quantize would make of them: it chooses types by shapes alone."""

import os
import re
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from requant.conversion.layout import Plan
from requant.formats.ggml import GGMLType
from requant.formats.gguf import read_header
from requant.ground.errors import UnsupportedError
from requant.quantization.file_types import FILE_TYPES
from requant.quantization.mix import Model, Tensors, expected_types
from support.checkout import TOOLCHAINS
from support.gguf_files import gguf_bytes, pair, string, tensor, write_imatrix
from support.relabelled import payload
from support.workplace import TOOLCHAIN

TOOL = TOOLCHAINS / TOOLCHAIN / "strict" / "bin" / "llama-quantize"
LINE = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[.*\], type = +(\w+), size = [^(\n]*(?:\((\w+)\))?$", re.MULTILINE)
TYPES = {kind.name.upper(): kind for kind in GGMLType}
REFUSED = ("failed to quantize", "actually completing this quantization will require an imatrix")


def config(architecture: str, layers: int, heads: tuple[int, int], **changes: Any) -> dict[str, Any]:
    """The config.json of a small model."""
    names = {"qwen3": "Qwen3ForCausalLM", "qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}
    return {
        "architectures": [names[architecture]], "model_type": architecture, "num_hidden_layers": layers,
        "num_attention_heads": heads[0], "num_key_value_heads": heads[1], "hidden_size": 512,
        "intermediate_size": 768, "head_dim": 512 // heads[0], "vocab_size": 64, "tie_word_embeddings": False,
    } | changes  # fmt: skip


def write_hollow(path: Path, found: Plan) -> Path:
    """Write a BF16 GGUF of a model that requant knows, whose tensors are a hole in the file."""
    keys = {
        "block_count": found.layers, "embedding_length": found.hidden, "feed_forward_length": found.ffn,
        "attention.head_count": found.heads, "attention.head_count_kv": found.kv_heads,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }  # fmt: skip
    return write_any(
        path, found.architecture, keys, {name: (each.shape, each.type) for name, each in found.tensors.items()}
    )


def write_any(
    path: Path, architecture: str, keys: Mapping[str, int | float | str | bool | list[int]], tensors: Tensors
) -> Path:
    """The same of any architecture, with its keys as that names them."""
    pairs = [pair("general.architecture", 8, string(architecture))]
    for key, value in {"context_length": 64, **keys}.items():
        pairs.append(pair(f"{architecture}.{key}", *_packed(value)))
    return _write(path, pairs, tensors)


def write_like(path: Path, source: Path, times: int = 1) -> Path:
    """A hollow file with the names and keys of a model, but for its vocabulary, and rows ``times`` as long."""
    header = read_header(source)
    keys = {key: field for key, field in header.metadata.items() if not key.startswith("tokenizer.")}
    pairs = [pair(key, field.type, payload(field)) for key, field in keys.items()]
    shapes = {each.name: ((each.shape[0] * times, *each.shape[1:]), each.type) for each in header.tensors}
    return _write(path, pairs, shapes)


def _write(path: Path, pairs: Sequence[bytes], tensors: Tensors) -> Path:
    infos, offset = [], 0
    for name, (shape, kind) in tensors.items():
        infos.append(tensor(name, shape, kind, offset))
        offset += -(-int(np.prod(shape)) * kind.type_size // 32) * 32
    head = gguf_bytes(pairs, infos)
    path.write_bytes(head)
    os.truncate(path, len(head) + offset)
    return path


def _packed(value: int | float | str | bool | list[int]) -> tuple[int, bytes]:
    """A value's type and bytes in a GGUF."""
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, string(value)
    return 9, struct.pack(f"<IQ{len(value)}I", 4, len(value), *value)


def write_empty_imatrix(path: Path) -> Path:
    """An importance matrix that measures nothing of any model."""
    entries = {"x.weight.in_sum2": np.ones(4, np.float32), "x.weight.counts": np.ones(1, np.float32)}
    return write_imatrix(path, entries)


def chosen(model: Path, name: str, options: Sequence[str] = ()) -> dict[str, GGMLType] | None:
    """What llama-quantize says that it would do; nothing where it says that it cannot, or needs an importance matrix."""
    command = [str(TOOL), "--dry-run", *options, str(model), name, "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if any(words in said for words in REFUSED):
        return None
    assert done.returncode == 0, said
    return {name: TYPES[(new or old).upper()] for name, old, new in LINE.findall(said)}


def require_same_mixes(model: Path, imatrix: Path) -> None:
    """Every file type, with and without an importance matrix, tensor by tensor: what we expect is what it would do."""
    header = read_header(model)
    tensors, facts = {each.name: (each.shape, each.type) for each in header.tensors}, Model.of(header.metadata)
    for number, file_type in FILE_TYPES.items():
        for options in (["--imatrix", str(imatrix)], []):
            try:
                ours = expected_types(number, tensors, facts, bool(options))
            except UnsupportedError:
                ours = None
            assert ours == chosen(model, file_type.name, options), (file_type.name, options)
