"""requant.quantization.quants: one list of names, held against the recipe's schema and the mixes behind the names."""

from contextlib import nullcontext

import pytest

from requant.documents.schemas import SCHEMAS, read_yaml
from requant.formats.ggml import NEEDS_IMPORTANCE, GGMLType
from requant.ground.errors import UnsupportedError
from requant.quantization.file_types import FILE_TYPES
from requant.quantization.mix import NEED_IMATRIX, Model, expected_types
from requant.quantization.quants import QUANTS, needs_imatrix, quant_bytes

NUMBERS = {file_type.name: number for number, file_type in FILE_TYPES.items()}
MODEL = Model("qwen3", 16, 8, 2)
SHAPES = {"attn_q": (512, 512), "attn_k": (512, 128), "attn_v": (512, 128), "attn_output": (512, 512),
          "ffn_gate": (512, 768), "ffn_up": (512, 768), "ffn_down": (768, 512)}  # fmt: skip
TENSORS = {
    f"blk.{layer}.{role}.weight": (shape, GGMLType.BF16) for layer in range(16) for role, shape in SHAPES.items()
} | {"token_embd.weight": ((512, 100), GGMLType.BF16)}


def test_recipes_may_name_all_of_them_and_no_other() -> None:
    assert tuple(read_yaml(SCHEMAS / "recipe.schema.yaml")["properties"]["quants"]["items"]["enum"]) == QUANTS


def test_each_is_a_quantized_file_type_with_a_known_mix() -> None:
    plain = {"F32", "F16", "BF16"}
    # These are for models that were trained so.
    assert NUMBERS.keys() - QUANTS - plain == {"TQ1_0", "TQ2_0", "Q1_0", "Q2_0", "MXFP4_MOE"}
    assert len(QUANTS) == len(set(QUANTS) & NUMBERS.keys())


@pytest.mark.parametrize("quant", QUANTS)
def test_those_that_need_an_importance_matrix(quant: str) -> None:
    """A quant needs one where the mix gives a needy type to a layer."""
    refuses = pytest.raises(UnsupportedError, match=f"refuses {quant} without an importance matrix")
    with refuses if needs_imatrix(quant) else nullcontext():
        expected_types(NUMBERS[quant], TENSORS, MODEL, imatrix=False)


def test_two_facts_about_types() -> None:
    """The tool refuses whatever ggml cannot make, and one type that ggml can."""
    assert NEED_IMATRIX - set(NEEDS_IMPORTANCE) == {GGMLType.IQ3_XXS}
    assert set(NEEDS_IMPORTANCE) <= NEED_IMATRIX


@pytest.mark.parametrize("quant", QUANTS)
def test_no_file_is_larger_than_its_bound(quant: str) -> None:
    types = expected_types(NUMBERS[quant], TENSORS, MODEL, imatrix=True)
    weights = {name: columns * rows for name, ((columns, rows), _) in TENSORS.items()}
    made = sum(weights[name] // kind.block_size * kind.type_size for name, kind in types.items())
    plain = 2 * sum(weights.values())
    assert made <= quant_bytes(plain, quant) < plain
