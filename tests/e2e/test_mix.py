"""requant.quantization.mix beside the real llama-quantize: every file type, on models of many shapes, without quantizing any."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from requant.conversion.layout import Plan, plan
from requant.formats.ggml import GGMLType
from requant.formats.gguf import read_header
from requant.ground.errors import UnsupportedError
from requant.quantization.mix import FILE_TYPES, OTHER_NAMES, Model, expected_types
from support.checkout import TOOLCHAINS
from support.hollow import chosen, config, write_empty_imatrix, write_hollow
from support.workplace import TOOLCHAIN, Workplace

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
    imatrix = write_empty_imatrix(tmp_path / "imatrix.gguf")
    for number in FILE_TYPES:
        for given in (imatrix, None):
            options = ["--imatrix", str(given)] if given else []
            mine, theirs = ours(found, number, given is not None), chosen(model, FILE_TYPES[number].name, options)
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
