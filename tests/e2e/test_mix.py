"""requant.quantization.mix beside the real llama-quantize: every file type, on models of many shapes, without quantizing any."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.conversion.layout import Plan, plan
from requant.formats.ggml import GGMLType
from requant.formats.gguf import read_header
from requant.ground.errors import UnsupportedError
from requant.quantization.mix import FILE_TYPES, OTHER_NAMES, Model, expected_types
from support.checkout import TOOLCHAINS
from support.gguf_files import gguf_bytes, pair, string, tensor, write_imatrix
from support.workplace import TOOLCHAIN, Workplace

TOOL = TOOLCHAINS / TOOLCHAIN / "strict" / "bin" / "llama-quantize"
LINE = re.compile(r"^\[ *\d+/ *\d+\] (\S+) +- \[.*\], type = +(\w+), size = [^(\n]*(?:\((\w+)\))?$", re.MULTILINE)
TYPES = {kind.name.upper(): kind for kind in GGMLType}


def config(architecture: str, layers: int, heads: tuple[int, int], **changes: Any) -> dict[str, Any]:
    names = {"qwen3": "Qwen3ForCausalLM", "qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}
    return {
        "architectures": [names[architecture]], "model_type": architecture, "num_hidden_layers": layers,
        "num_attention_heads": heads[0], "num_key_value_heads": heads[1], "hidden_size": 512,
        "intermediate_size": 768, "head_dim": 512 // heads[0], "vocab_size": 64, "tie_word_embeddings": False,
    } | changes  # fmt: skip


MODELS = {
    "Qwen3-4B": config("qwen3", 36, (32, 8), tie_word_embeddings=True),
    "Qwen3, untied, narrow": config("qwen3", 64, (64, 8), hidden_size=288, head_dim=32),
    "Qwen2-0.5B": config("qwen2", 24, (14, 2), hidden_size=896, head_dim=None, tie_word_embeddings=True),
    "Qwen2-7B": config("qwen2", 28, (8, 4)),
    "Qwen2-72B": config("qwen2", 80, (64, 64)),
    "Llama, 70B": config("llama", 80, (64, 8)),
    "Llama, 65B": config("llama", 80, (64, 64)),
    "Llama, biased": config("llama", 3, (4, 2), attention_bias=True, mlp_bias=True),
    "SmolLM": config("llama", 30, (9, 3), hidden_size=576, head_dim=None, intermediate_size=1536, tie_word_embeddings=True),
    "odd rows": config("llama", 9, (4, 1), hidden_size=80, head_dim=None, intermediate_size=200),
    "odd rows, tied": config("qwen2", 17, (4, 4), hidden_size=112, head_dim=None, tie_word_embeddings=True),
    "one layer": config("llama", 1, (4, 2), head_dim=2),
}  # fmt: skip


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


def chosen(model: Path, number: int, imatrix: Path | None) -> dict[str, GGMLType] | None:
    """What llama-quantize says that it would do; nothing where it says that it needs an importance matrix."""
    options = ["--imatrix", str(imatrix)] if imatrix else []
    command = [str(TOOL), "--dry-run", *options, str(model), FILE_TYPES[number].name, "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    if "actually completing this quantization will require an imatrix" in said:
        return None
    return {name: TYPES[(new or old).upper()] for name, old, new in LINE.findall(said)}


def ours(found: Plan, number: int, imatrix: bool) -> dict[str, GGMLType] | None:
    tensors = {name: (origin.shape, origin.type) for name, origin in found.tensors.items()}
    model = Model(found.architecture, found.layers, found.heads, found.kv_heads)
    try:
        return expected_types(number, tensors, model, imatrix)
    except UnsupportedError:
        assert not imatrix, "only a missing importance matrix is a reason"
        return None


@pytest.mark.parametrize("name", MODELS)
def test_every_file_type(demo: Workplace, tmp_path: Path, name: str) -> None:
    found = plan(MODELS[name])
    model = write_hollow(tmp_path / "model.gguf", found)
    entries = {"x.weight.in_sum2": np.ones(4, np.float32), "x.weight.counts": np.ones(1, np.float32)}
    imatrix = write_imatrix(tmp_path / "imatrix.gguf", entries)
    for number in FILE_TYPES:
        for given in (imatrix, None):
            mine, theirs = ours(found, number, given is not None), chosen(model, number, given)
            if mine is None and given is None and theirs:
                # Possible where all rows are odd, and nothing that requant claims to know.
                assert FILE_TYPES[number].name == "IQ3_XXS"
                continue
            assert mine == theirs, (FILE_TYPES[number].name, given)


def test_the_demo(demo: Workplace) -> None:
    source, release = (
        read_header(path)
        for path in (demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf", *demo.release.glob("*Q4_K_M*.gguf"))
    )
    tensors = {tensor.name: (tensor.shape, tensor.type) for tensor in source.tensors}
    # 15 is Q4_K_M.
    mine = expected_types(15, tensors, Model("qwen3", 4, 4, 2), imatrix=True)
    assert mine == {tensor.name: tensor.type for tensor in release.tensors}


def test_numbers_and_names_are_those_of_llama_cpp() -> None:
    header = (TOOLCHAINS / TOOLCHAIN / "source" / "include" / "llama.h").read_text()
    known = {
        int(number): name for name, number in re.findall(r"^ +LLAMA_FTYPE_(?:MOSTLY|ALL)_(\w+) += (\d+),", header, re.M)
    }
    assert {number: kind.name for number, kind in FILE_TYPES.items()} | OTHER_NAMES == known
