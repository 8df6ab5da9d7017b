"""requant.conversion.layout and conversion beside the pinned converter: every tensor row by row, and all metadata."""

from __future__ import annotations

import json
import os
import subprocess
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import TensorSpec, serialize

from requant.audit.metadata import Grade, MetadataComparison, NamedImatrix, compare_metadata, expected_from_gguf
from requant.conversion.layout import ROPE_TOLERANCE, Plan, plan, read_config
from requant.conversion.metadata import FILES, expected_metadata
from requant.formats.gguf import Header, read_header
from requant.formats.imatrix import read_imatrix
from support.checkout import TOOLCHAINS
from support.workplace import TOOLCHAIN, Workplace

PYTHON = TOOLCHAINS / "converter" / "environment" / "bin" / "python"
CONVERTER = TOOLCHAINS / TOOLCHAIN / "source" / "convert_hf_to_gguf.py"
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json", "generation_config.json")
LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip


def config(architecture: str, model_type: str, **changes: Any) -> dict[str, Any]:
    return {
        "architectures": [architecture], "model_type": model_type, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 151936,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False,
        "bos_token_id": 151643, "eos_token_id": 151645,
    } | changes  # fmt: skip


MODELS = {
    "Llama, biased": (config("LlamaForCausalLM", "llama", attention_bias=True, mlp_bias=True), "<f4", "F32"),
    "Llama 3.2": (
        config("LlamaForCausalLM", "llama", head_dim=32, num_key_value_heads=1, tie_word_embeddings=True, rope_scaling=LLAMA3_ROPE),
        "<u2", "BF16",
    ),
    "Mistral": (config("MistralForCausalLM", "mistral", num_key_value_heads=4, head_dim=16), "<u2", "BF16"),
    "Qwen2": (config("Qwen2ForCausalLM", "qwen2"), "<u2", "BF16"),
    "Qwen3": (config("Qwen3ForCausalLM", "qwen3", head_dim=16, attention_bias=True), "<u2", "BF16"),
}  # fmt: skip


FAST = ("Llama 3.2", "Qwen2")
"""These get a tokenizer.json."""


def write_checkpoint(folder: Path, settings: dict[str, Any], dtype: str, kind: str) -> dict[str, np.ndarray]:
    """Write random weights that are BF16 numbers, stored as ``dtype``; return them as BF16 patterns."""
    random = np.random.default_rng(0)
    weights = {
        # Positive and normal, so that every pattern is a number that any type keeps.
        origin.name: random.integers(0x3E00, 0x4000, origin.shape[::-1], np.uint16)
        for origin in plan(settings).tensors.values()
    }
    stored = {
        name: (weight.astype("<u4") << 16).view("<f4") if dtype == "<f4" else weight for name, weight in weights.items()
    }
    specs = {
        name: TensorSpec(
            dtype={"F32": "float32", "BF16": "bfloat16"}[kind],
            shape=array.shape,
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
        for name, array in stored.items()
    }
    (folder / "model.safetensors").write_bytes(serialize(specs, metadata={"format": "pt"}))
    (folder / "config.json").write_text(json.dumps(settings))
    return weights


def convert(folder: Path, out: Path) -> Header:
    command = [PYTHON, CONVERTER, folder, "--outfile", out, "--outtype", "bf16"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(out.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return read_header(out)


def require_planned(header: Header, found: Plan) -> None:
    planned = {name: (origin.shape, origin.type.name) for name, origin in found.tensors.items()}
    planned |= {name: (factors.shape, "F32") for name, factors in found.computed.items()}
    assert {tensor.name: (tensor.shape, tensor.type.name) for tensor in header.tensors} == planned


def small_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def require_only_names(comparison: MetadataComparison, *harmless: str) -> None:
    """All keys are equal, but for those that only describe."""
    found = {finding.key: finding.grade for finding in comparison.findings}
    names = {"general.name", "general.size_label", "general.basename", "general.finetune"}
    assert found == dict.fromkeys(found.keys() & {*names, *harmless}, Grade.HARMLESS)


def give_tokenizer(folder: Path, source: Path, fast: bool) -> None:
    """The demo's own tokenizer, or the files that transformers writes of it."""
    if fast:
        code = "import sys, transformers; transformers.AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])"
        subprocess.run([PYTHON, "-c", code, source, folder], check=True, capture_output=True)
        (folder / "vocab.json").unlink()
    else:
        for file in TOKENIZER:
            (folder / file).symlink_to(source / file)


@pytest.mark.parametrize("name", MODELS)
def test_the_converter(demo: Workplace, tmp_path: Path, name: str) -> None:
    settings, dtype, kind = MODELS[name]
    folder = tmp_path / "model"
    folder.mkdir()
    give_tokenizer(folder, demo.results / "generated", fast=name in FAST)
    weights = write_checkpoint(folder, settings, dtype, kind)
    header, found = convert(folder, tmp_path / "model.gguf"), plan(settings, weights)
    assert found == plan(settings)
    require_planned(header, found)
    require_only_names(compare_metadata(header, expected_metadata(small_files(folder))))
    for tensor in header.tensors:
        data = np.memmap(tmp_path / "model.gguf", np.uint8, "r", tensor.offset, (tensor.nbytes,))
        if tensor.name in found.computed:
            np.testing.assert_allclose(data.view("<f4"), found.computed[tensor.name], rtol=ROPE_TOLERANCE, atol=0)
            continue
        origin = found.tensors[tensor.name]
        rows = origin.rows(np.arange(tensor.shape[-1]))
        patterns = data.view("<u2") if tensor.type.name == "BF16" else (data.view("<u4") >> 16).astype(np.uint16)
        expected = weights[origin.name][rows]
        assert expected.size == prod(tensor.shape)
        assert np.array_equal(patterns.reshape(expected.shape), expected), tensor.name


def test_the_demo(demo: Workplace) -> None:
    converted = read_header(demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf")
    [release] = [read_header(path) for path in demo.release.glob("*Q4_K_M*.gguf")]
    require_planned(converted, plan(read_config((demo.results / "generated" / "config.json").read_bytes())))
    imatrix = read_imatrix(demo.release / "imatrix.gguf")
    named = NamedImatrix(len(imatrix.entries), imatrix.chunk_count)
    for expected in (expected_metadata(small_files(demo.results / "generated")), expected_from_gguf(converted)):
        comparison = compare_metadata(release, expected, named)
        require_only_names(comparison, "quantize.imatrix.file", "quantize.imatrix.dataset")
        assert len(comparison.equal) >= 28
