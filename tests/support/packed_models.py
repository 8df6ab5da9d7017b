"""Weights packed as publishers pack them: names, shapes and types that upstream's converter reads, with random contents.

Run in the converter's environment, beside ``random_models.py``.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

BLOCK = (40, 24)
"""Rows and columns of FP8 with the same scale; the models' sizes are no multiples of them."""

Made = Iterator[tuple[str, torch.Tensor]]


def packed(kind: str, weights: dict[str, torch.Tensor], config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The same weights with all matrices of layers packed; ``config`` gets what describes that."""
    quantization, pack = KINDS[kind]
    config["quantization_config"] = quantization
    random = np.random.default_rng(1)
    found: dict[str, torch.Tensor] = {}
    for name, each in weights.items():
        stays = each.ndim < 2 or "layers" not in name or name.endswith(("bias", "router.weight", "gate.weight"))
        found |= {name: each} if stays else dict(pack(name.removesuffix(".weight"), each.shape, random))
    return found


def _codes(random: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(random.integers(0, 256, shape, np.uint8))


def _eight(random: np.random.Generator, shape: torch.Size) -> torch.Tensor:
    """All finite numbers of E4M3."""
    codes = _codes(random, *shape)
    return torch.where(codes & 127 == 127, codes & 126, codes).view(torch.float8_e4m3fn)


def _scales(random: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(random.uniform(1e-4, 1e-3, shape).astype(np.float32))


def _blocks_of_fp8(name: str, shape: torch.Size, random: np.random.Generator) -> Made:
    yield f"{name}.weight", _eight(random, shape)
    yield (
        f"{name}.weight_scale_inv",
        _scales(random, *(-(-size // each) for size, each in zip(shape, BLOCK, strict=True))),
    )


def _whole_fp8(name: str, shape: torch.Size, random: np.random.Generator) -> Made:
    yield f"{name}.weight", _eight(random, shape)
    yield f"{name}.weight_scale_inv", _scales(random)
    yield f"{name}.activation_scale", _scales(random)


def _rows_of_fp8(name: str, shape: torch.Size, random: np.random.Generator) -> Made:
    yield f"{name}.weight", _eight(random, shape)
    yield f"{name}.weight_scale", _scales(random, shape[0], 1).to(torch.bfloat16)


def _modelopt(name: str, shape: torch.Size, random: np.random.Generator) -> Made:
    yield f"{name}.weight", _eight(random, shape)
    yield f"{name}.weight_scale", _scales(random)
    yield f"{name}.input_scale", _scales(random)


def _mxfp4(name: str, shape: torch.Size, random: np.random.Generator) -> Made:
    """gpt-oss packs its experts, whose matrices stand transposed beside the others, and nothing else."""
    if "experts" not in name:
        yield f"{name}.weight", torch.from_numpy(random.standard_normal(shape, np.float32) / 8).to(torch.bfloat16)
        return
    experts, columns, rows = shape
    yield f"{name}_blocks", _codes(random, experts, rows, columns // 32, 16)
    yield f"{name}_scales", torch.from_numpy(random.integers(116, 124, (experts, rows, columns // 32), np.uint8))


def _integers(random: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(random.integers(-(1 << 31), 1 << 31, shape, np.int64).astype(np.int32))


def _gptq(name: str, shape: torch.Size, random: np.random.Generator) -> Made:
    rows, columns = shape
    yield f"{name}.qweight", _integers(random, columns // 8, rows)
    yield f"{name}.qzeros", _integers(random, columns // 32, rows // 8)
    yield f"{name}.scales", _scales(random, columns // 32, rows).to(torch.float16)
    yield f"{name}.g_idx", torch.arange(columns, dtype=torch.int32) // 32


def _four_bits(name: str, shape: torch.Size, random: np.random.Generator) -> Made:
    rows, columns = shape
    yield f"{name}.weight_packed", _integers(random, rows, columns // 8)
    yield f"{name}.weight_scale", _scales(random, rows, columns // 32).to(torch.bfloat16)
    yield f"{name}.weight_shape", torch.tensor([rows, columns], dtype=torch.int64)


def _nvfp4(name: str, shape: torch.Size, random: np.random.Generator) -> Made:
    rows, columns = shape
    yield f"{name}.weight", _codes(random, rows, columns // 2)
    yield f"{name}.weight_scale", _eight(random, torch.Size((rows, columns // 16)))
    yield f"{name}.weight_scale_2", _scales(random)
    yield f"{name}.input_scale", _scales(random)


def _compressed(form: str, **weights: Any) -> dict[str, Any]:
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": {"weights": weights}}}


KINDS: dict[str, tuple[dict[str, Any], Callable[[str, torch.Size, np.random.Generator], Made]]] = {
    "fp8": ({"quant_method": "fp8", "weight_block_size": [*BLOCK]}, _blocks_of_fp8),
    "fp8, one scale": ({"quant_method": "fp8"}, _whole_fp8),
    "fp8, compressed-tensors": (_compressed("float-quantized", strategy="channel", type="float", num_bits=8), _rows_of_fp8),
    "fp8, modelopt": ({"quant_method": "modelopt", "quant_algo": "FP8"}, _modelopt),
    "mxfp4": ({"quant_method": "mxfp4"}, _mxfp4),
    "gptq": ({"quant_method": "gptq", "bits": 4}, _gptq),
    "awq": ({"quant_method": "awq", "bits": 4}, _gptq),
    "four bits, compressed-tensors": (
        _compressed("pack-quantized", strategy="group", type="int", num_bits=4, group_size=32), _four_bits,
    ),
    "nvfp4": ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, _nvfp4),
}  # fmt: skip
