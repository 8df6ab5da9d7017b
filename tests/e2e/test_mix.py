"""requant.quantization.mix beside the real llama-quantize: every file type, on models of many shapes, without quantizing any."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from requant.conversion.layout import plan
from requant.formats.gguf import read_header
from requant.quantization.file_types import FILE_TYPES, OTHER_NAMES
from requant.quantization.mix import LAYERS_OF_70B, Model, expected_types
from requant.quantization.tensor_kinds import ARCHITECTURES, KEPT, KEPT_OF_GLM5, SPARED_OF_GLM5
from support.checkout import TOOLCHAINS
from support.hollow import config, require_same_mixes, write_empty_imatrix, write_hollow
from support.workplace import TOOLCHAIN, Workplace
from support.zoo import ZOO, write_zoo

MODELS = {
    "Qwen3-4B": config("qwen3", 36, (32, 8), tie_word_embeddings=True),
    "Qwen3, untied, narrow": config("qwen3", 64, (64, 8), hidden_size=288, head_dim=32),
    "Qwen2-0.5B": config("qwen2", 24, (14, 2), hidden_size=896, head_dim=None, tie_word_embeddings=True),
    "Qwen2-7B": config("qwen2", 28, (8, 4)),
    "Llama, biased": config("llama", 3, (4, 2), attention_bias=True, mlp_bias=True),
    "SmolLM": config("llama", 30, (9, 3), hidden_size=576, head_dim=None, intermediate_size=1536, tie_word_embeddings=True),
    "odd rows": config("llama", 9, (4, 1), hidden_size=80, head_dim=None, intermediate_size=200),
    "odd rows, tied": config("qwen2", 17, (4, 4), hidden_size=112, head_dim=None, tie_word_embeddings=True),
    "one layer": config("llama", 1, (4, 2), head_dim=2),
}  # fmt: skip


@pytest.mark.parametrize("name", [*MODELS, *ZOO])
def test_every_file_type(demo: Workplace, tmp_path: Path, name: str) -> None:
    model = tmp_path / "model.gguf"
    if name in ZOO:
        write_zoo(model, ZOO[name])
    else:
        write_hollow(model, plan(MODELS[name]))
    require_same_mixes(model, write_empty_imatrix(tmp_path / "imatrix.gguf"))


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


def test_names_are_those_of_llama_cpps_sources() -> None:
    """What the zoo cannot show: that no architecture, and no name that it asks for, is forgotten."""
    source = TOOLCHAINS / TOOLCHAIN / "source" / "src"
    listed = (source / "llama-arch.cpp").read_text().split("LLM_ARCH_NAMES = {")[1].split("};")[0]
    assert {*re.findall(r'"([\w.-]+)"', listed)} - {"clip"} == ARCHITECTURES
    quant = (source / "llama-quant.cpp").read_text()
    allows = quant.split("static bool tensor_allows_quantization")[1].split("static ggml_type tensor_type_fallback")[0]
    assert {*re.findall(r'name\.find\("([^"]+)"\)', allows)} == {*KEPT, *KEPT_OF_GLM5}
    chooses = quant.split("static ggml_type llama_tensor_get_type_impl")[1].split("// outer wrapper")[0]
    assert {*re.findall(r'name\.find\("([^"]+)"\)', chooses)} == {*SPARED_OF_GLM5}
    assert {*re.findall(r"LLM_ARCH_(\w+)", allows + chooses)} == {"FALCON", "BAILINGMOE3", "GLM5_NEXT"}
    large = {file.stem for file in (source / "models").glob("*.cpp") if "LLM_TYPE_70B" in file.read_text()}
    assert large == LAYERS_OF_70B.keys()
