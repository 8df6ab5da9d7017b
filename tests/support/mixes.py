"""Quants of a small model as their recipe is asked for: names, shapes and types, of any mix."""

from __future__ import annotations

from collections.abc import Mapping

from requant.audit.recipe.mix import Made, RecipeAnswer, answer_mix, with_findings
from requant.formats.ggml import GGMLType
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Tensor
from requant.quantization.file_types import FILE_TYPES
from requant.quantization.mix import Model, expected_types

LAYERS = 8
MODEL = Model("llama", LAYERS, 8, 2)
NUMBERS = {file_type.name: number for number, file_type in FILE_TYPES.items()}
Source = dict[str, tuple[tuple[int, ...], GGMLType]]


def source_of(columns: int = 512, tied: bool = False) -> Source:
    """The weights of a small model, in BF16 as the converter writes them."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (columns, 1024), "output_norm.weight": (columns,)}
    if not tied:
        shapes["output.weight"] = (columns, 1024)
    for layer in range(LAYERS):
        for kind in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            shapes[f"blk.{layer}.{kind}.weight"] = (columns, 512)
        shapes |= {f"blk.{layer}.{kind}.weight": (columns,) for kind in ("attn_norm", "ffn_norm")}
    return {name: (shape, T.BF16 if len(shape) > 1 else T.F32) for name, shape in shapes.items()}


SOURCE, TIED = source_of(), source_of(tied=True)


def made(
    mix: str, changes: Mapping[str, T] | None = None, *, label: int | str | None = "",
    name: str = "Model.gguf", source: Source = SOURCE, imatrix: bool = True, model: Model = MODEL,
) -> Made:  # fmt: skip
    """A quant of a mix, but for some tensors (by their names, also without the layer), labelled as that mix or as asked for."""
    types = expected_types(NUMBERS[mix], source, MODEL, imatrix)
    for end, kind in (changes or {}).items():
        types |= {each: kind for each in types if each == end or each.endswith(f".{end}")}
    tensors = [Tensor(each, shape, types[each], 0, 0) for each, (shape, _) in source.items()]
    said = NUMBERS[label or mix] if isinstance(label, str) else label
    return Made(tensors, source, model, said, name, imatrix)


def answered(subject: Made) -> RecipeAnswer:
    mix = answer_mix(subject)
    return with_findings(mix, None, mix.findings)
