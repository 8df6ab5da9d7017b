"""requant.quantization.mix: what can be said without llama-quantize; e2e asks the tool itself about every file type."""

import pytest

from requant.formats.ggml import GGMLType as T
from requant.ground.errors import UnsupportedError
from requant.quantization.mix import (
    FILE_TYPES,
    OLDER_FALLBACKS,
    Model,
    Position,
    expected_types,
    file_type_name,
    fitting,
)

SIZES = {"attn_q": (512, 512), "attn_k": (512, 128), "attn_v": (512, 128), "attn_output": (512, 512),
         "ffn_gate": (512, 768), "ffn_up": (512, 768), "ffn_down": (768, 512)}  # fmt: skip
MODEL = Model("qwen3", 4, 8, 2)
Q4_K_M = 15


def tensors(layers: int = 4, output: bool = True) -> dict[str, tuple[tuple[int, ...], T]]:
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
    for number in FILE_TYPES:
        assert expected_types(number, one, model, True) == expected_types(number, other, model, True)


def test_unquantized_types_leave_norms_alone() -> None:
    found = expected_types(1, tensors(), MODEL, imatrix=False)
    assert {found[f"blk.0.{kind}.weight"] for kind in SIZES} == {T.F16}
    assert found["output_norm.weight"] is T.F32


def test_rows_that_fit_no_block() -> None:
    assert [fitting(T.Q4_K, columns) for columns in (512, 288, 100)] == [T.Q4_K, T.Q5_0, T.F16]
    assert [fitting(T.Q8_0, columns) for columns in (32, 100)] == [T.Q8_0, T.F16]
    assert [fitting(T.Q3_K, 288), fitting(T.Q3_K, 288, OLDER_FALLBACKS)] == [T.Q4_0, T.IQ4_NL]
    odd = {"token_embd.weight": ((288, 100), T.BF16)}
    older = expected_types(12, odd | tensors(), Model("llama", 4, 4, 4), True, OLDER_FALLBACKS)
    assert (older["token_embd.weight"], older["output.weight"]) == (T.Q3_K, T.Q6_K)
    assert expected_types(12, tensors() | odd, MODEL, True, OLDER_FALLBACKS)["token_embd.weight"] is T.IQ4_NL


def test_a_place() -> None:
    thirds = [index for index in range(16) if Position(index, 16, wide=False, imatrix=False).more_bits]
    assert thirds == [0, 1, 4, 7, 10, 13, 14, 15]
    assert Position(0, 0, wide=False, imatrix=False).more_bits
    assert not Position(0, 7, wide=False, imatrix=False).early


def test_names() -> None:
    assert [file_type_name(number) for number in (15, 38, 77)] == ["Q4_K_M", "MXFP4_MOE", "file type 77"]


REFUSED = {
    "unknown file type": (99, tensors(), MODEL, "mix of file type 99 is not known"),
    "mixture of experts": (38, tensors(), MODEL, "mix of MXFP4_MOE is not known"),
    "architecture": (15, tensors(), Model("falcon\x1b", 4, 8, 2), r"the architecture 'falcon\\x1b' is not known"),
    "experts": (15, {"blk.0.ffn_up_exps.weight": ((256, 256, 8), T.BF16)}, MODEL, "tensor 'blk.0.ffn_up_exps.weight'"),
    "fused": (15, {"blk.0.attn_qkv.weight": ((256, 256), T.BF16)}, MODEL, "tensor 'blk.0.attn_qkv.weight'"),
    "odd number": (15, {"blk.00.attn_q.weight": ((256, 256), T.BF16)}, MODEL, "tensor 'blk.00.attn_q.weight'"),
    "huge number": (15, {"blk." + "9" * 50 + ".attn_q.weight": ((256, 256), T.BF16)}, MODEL, "tensor 'blk.9"),
    "needs an imatrix": (19, tensors(), MODEL, "refuses IQ2_XXS without an importance matrix"),
    "Q2_K_S needs one too": (21, tensors(), MODEL, "refuses Q2_K_S without"),
    "IQ3_XXS too": (23, tensors(), MODEL, "refuses IQ3_XXS without"),
}


@pytest.mark.parametrize(("number", "model_tensors", "model", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_known(
    number: int, model_tensors: dict[str, tuple[tuple[int, ...], T]], model: Model, said: str
) -> None:
    with pytest.raises(UnsupportedError, match=said) as caught:
        expected_types(number, model_tensors, model, imatrix=False)
    assert str(caught.value).isprintable()


def test_no_key_value_heads_and_no_tensors() -> None:
    assert expected_types(10, tensors(), Model("llama", 4, 8, 0), False)["blk.0.attn_v.weight"] is T.Q3_K
    assert expected_types(15, {}, MODEL, True) == {}
