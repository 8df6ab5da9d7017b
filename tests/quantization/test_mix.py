"""requant.quantization.mix: what can be said without llama-quantize; e2e asks the tool itself about every file type."""

import numpy as np
import pytest

from requant.formats.ggml import GGMLType as T
from requant.formats.ggml import ValueType as V
from requant.formats.gguf import Field
from requant.ground.errors import UnsupportedError
from requant.quantization.file_types import FILE_TYPES, Position, file_type_name
from requant.quantization.mix import NEWER, OLDER, VERSIONS, Model, Tensors, Version, expected_types, fitting
from support.relabelled import number, text

SIZES = {"attn_q": (512, 512), "attn_k": (512, 128), "attn_v": (512, 128), "attn_output": (512, 512),
         "ffn_gate": (512, 768), "ffn_up": (512, 768), "ffn_down": (768, 512)}  # fmt: skip
MODEL = Model("qwen3", 4, 8, 2)
Q4_K_M = 15


def tensors(layers: int = 4, output: bool = True) -> Tensors:
    found: dict[str, tuple[tuple[int, ...], T]] = {
        f"blk.{layer}.{kind}.weight": (shape, T.BF16)
        for layer in reversed(range(layers))
        for kind, shape in SIZES.items()
    }
    found |= {"blk.0.attn_norm.weight": ((512,), T.F32), "blk.0.attn_q.bias": ((512,), T.F32)}
    found |= {"token_embd.weight": ((512, 100), T.BF16), "output_norm.weight": ((512,), T.F32)}
    return found | {"output.weight": ((512, 100), T.BF16)} if output else found


def test_the_best_known_mix() -> None:
    found = expected_types(Q4_K_M, tensors(), MODEL, imatrix=True)
    assert found.keys() == tensors().keys()
    assert (found["output.weight"], found["token_embd.weight"]) == (T.Q6_K, T.Q4_K)
    assert [found[f"blk.{layer}.attn_v.weight"] for layer in range(4)] == [T.Q4_K, T.Q4_K, T.Q6_K, T.Q6_K]
    assert [found[f"blk.{layer}.ffn_down.weight"] for layer in range(4)] == [T.Q4_K, T.Q4_K, T.Q6_K, T.Q6_K]
    assert found["blk.3.attn_q.weight"] is T.Q4_K
    assert (found["blk.0.attn_norm.weight"], found["blk.0.attn_q.bias"]) == (T.F32, T.F32)


def test_a_tied_embedding_is_the_output() -> None:
    assert expected_types(Q4_K_M, tensors(output=False), MODEL, imatrix=True)["token_embd.weight"] is T.Q6_K


def test_layers_count_in_their_order_whatever_that_of_the_file() -> None:
    one = tensors(layers=12)
    other = dict(sorted(one.items()))
    assert list(one) != list(other)
    model = Model("llama", 12, 8, 2)
    for each in FILE_TYPES:
        assert expected_types(each, one, model, True) == expected_types(each, other, model, True)


def test_unquantized_types_leave_norms_alone() -> None:
    found = expected_types(1, tensors(), MODEL, imatrix=False)
    assert {found[f"blk.0.{kind}.weight"] for kind in SIZES} == {T.F16}
    assert found["output_norm.weight"] is T.F32


def test_rows_that_fit_no_block() -> None:
    assert [fitting(T.Q4_K, columns) for columns in (512, 288, 100)] == [T.Q4_K, T.Q5_0, T.F16]
    assert [fitting(T.Q8_0, columns) for columns in (32, 100)] == [T.Q8_0, T.F16]
    assert [fitting(T.Q3_K, 288), fitting(T.Q3_K, 288, OLDER)] == [T.Q4_0, T.IQ4_NL]
    odd = {"token_embd.weight": ((288, 100), T.BF16)}
    older = expected_types(12, odd | tensors(), Model("llama", 4, 4, 4), True, OLDER)
    assert (older["token_embd.weight"], older["output.weight"]) == (T.Q3_K, T.Q6_K)
    assert expected_types(12, tensors() | odd, MODEL, True, OLDER)["token_embd.weight"] is T.IQ4_NL


def test_a_place() -> None:
    thirds = [index for index in range(16) if Position(index, 16, wide=False, imatrix=False).more_bits]
    assert thirds == [0, 1, 4, 7, 10, 13, 14, 15]
    assert Position(0, 0, wide=False, imatrix=False).more_bits
    assert not Position(0, 7, wide=False, imatrix=False).early


def test_names() -> None:
    assert [file_type_name(number) for number in (15, 39, 77)] == ["Q4_K_M", "NVFP4", "file type 77"]


EIGHT = Model("llama", 4, 8, 2, experts=8)
EXPERT = "blk.9.ffn_down_exps.weight"
REFUSED = {
    "unknown file type": (99, tensors(), MODEL, "mix of file type 99 is not known"),
    "of the converter alone": (39, tensors(), MODEL, "mix of NVFP4 is not known"),
    "architecture": (15, tensors(), Model("falcon\x1b", 4, 8, 2), r"the architecture 'falcon\\x1b' is not known"),
    "no architecture": (15, tensors(), Model.of({}), "the architecture '' is not known"),
    "an expert beyond the last layer": (15, {EXPERT: ((256, 256, 8), T.BF16)}, EIGHT, "'blk.9.ffn_down_exps.weight', which is"),
    "an expert outside of the layers": (15, {"ffn_up.weight": ((256, 256), T.BF16)}, EIGHT, "'ffn_up.weight', which is in none"),
    "rows that no block fits": (40, {"blk.0.x.weight": ((96, 256), T.BF16)}, MODEL, "refuses Q1_0 for rows of 96, no multiple of 128"),
    "needs an imatrix": (19, tensors(), MODEL, "refuses IQ2_XXS without an importance matrix"),
    "Q2_K_S needs one too": (21, tensors(), MODEL, "refuses Q2_K_S without"),
    "IQ3_XXS too": (23, tensors(), MODEL, "refuses IQ3_XXS without"),
}  # fmt: skip


@pytest.mark.parametrize(("number", "model_tensors", "model", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_known(number: int, model_tensors: Tensors, model: Model, said: str) -> None:
    with pytest.raises(UnsupportedError, match=said) as caught:
        expected_types(number, model_tensors, model, imatrix=False)
    assert str(caught.value).isprintable()


def test_no_key_value_heads_and_no_tensors() -> None:
    assert expected_types(10, tensors(), Model("llama", 4, 8, 0), False)["blk.0.attn_v.weight"] is T.Q3_K
    assert expected_types(15, {}, MODEL, True) == {}


FUSED: Tensors = {f"blk.{layer}.attn_qkv.weight": ((512, 512), T.BF16) for layer in range(8)}


@pytest.mark.parametrize(("version", "kinds"), [(NEWER, [T.Q6_K, *[T.Q4_K] * 2, T.Q6_K]), (OLDER, [T.Q5_K] * 4)])
def test_fused_attention_by_version(version: Version, kinds: list[T]) -> None:
    found = expected_types(Q4_K_M, FUSED, Model("phi3", 8, 8, 2), True, version)
    assert [found[name] for name in FUSED][:4] == kinds


def test_an_embedding_for_each_layer_by_version() -> None:
    """Newer versions take it for the output too, where there is none."""
    model, name = Model("gemma3n", 4, 8, 2), "per_layer_token_embd.weight"
    tied = tensors(output=False) | {name: ((512, 64), T.BF16)}
    assert [expected_types(Q4_K_M, tied, model, True, each)[name] for each in VERSIONS] == [T.Q6_K, T.Q4_K]


def test_an_older_version_refuses_narrow_rows() -> None:
    narrow: Tensors = {"blk.0.x.weight": ((80, 16), T.BF16)}
    assert expected_types(7, narrow, MODEL, False)["blk.0.x.weight"] is T.F16
    with pytest.raises(UnsupportedError, match="refuses Q8_0 for rows of 80, no multiple of 32"):
        expected_types(7, narrow, MODEL, False, OLDER)


def test_what_a_header_says_of_a_model() -> None:
    """Where layers differ the first counts; what is no number is not there."""
    said = {
        "general.architecture": text("lfm2"), "lfm2.block_count": number(10), "lfm2.attention.head_count": number(32),
        "lfm2.attention.head_count_kv": Field(V.ARRAY, np.array([0, 8], np.uint32), V.UINT32), "lfm2.expert_count": text("8"),
    }  # fmt: skip
    assert Model.of(said) == Model("lfm2", 10, 32, 0)
    del said["lfm2.attention.head_count_kv"]
    assert Model.of(said) == Model("lfm2", 10, 32, 32)
    said["lfm2.attention.head_count"] = Field(V.ARRAY, np.array([], np.uint32), V.UINT32)
    assert Model.of(said) == Model("lfm2", 10, 0, 0)
