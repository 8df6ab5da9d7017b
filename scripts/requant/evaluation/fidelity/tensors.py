"""What quantization does to each tensor, without running the model: which layer pays.

The relative error is ``sqrt(sum v (q - w)**2 / sum v w**2)`` over a tensor's weights ``w`` and quantized weights ``q``,
once plain (``v = 1``) and once weighted by the importance of each column. Experts have importances of their own each.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from requant.conversion.weights import GGUFWeights, read_rows
from requant.documents.records import Product, write_record
from requant.formats.ggml import PLAIN, Floats, Indices
from requant.formats.gguf import Tensor, read_header
from requant.formats.imatrix import Entry, importance, read_imatrix
from requant.formats.ranged import LocalFile
from requant.ground.cores import cores
from requant.ground.errors import FormatError
from requant.ground.progress import progress
from requant.quantization.quantizer import Quantizer
from requant.toolchain.quantizers import tool_quantizer

BATCH = 1 << 21
"""Weights of one batch."""


def measure_tensors(model: Path, quant: Product, imatrix: Path, tool: Path, record: Path) -> None:
    """Compare every quantized tensor with its BF16 weights.

    ``tool`` is the build record of llama-quantize, whose library dequantizes.

    Raises:
        FormatError: when a tensor is missing from the model or has another shape there, or in the importance matrix.
    """
    product, entries = quant.read(), read_imatrix(imatrix).entries
    quantizer = tool_quantizer(tool)
    tensors = [tensor for tensor in read_header(quant.file).tensors if tensor.type not in PLAIN]
    with (
        LocalFile(model) as source,
        LocalFile(quant.file) as file,
        progress(sum(prod(tensor.shape) for tensor in tensors), "comparing tensors", "weights", scale=True) as bar,
    ):
        weights = GGUFWeights(source, read_header(model))
        rows = []
        for tensor in tensors:
            if weights.shapes.get(tensor.name) != tensor.shape:
                raise FormatError(f"{quant.file} was made from another model than {model}: {tensor.name} differs")
            rows.append(_compare(quantizer, weights, file, tensor, entries.get(tensor.name)))
            bar.update(prod(tensor.shape))
    write_record(record, {"file": product["file"], "type": product["type"], "tensors": rows})


def _compare(
    quantizer: Quantizer, weights: GGUFWeights, file: LocalFile, tensor: Tensor, entry: Entry | None
) -> dict[str, Any]:
    shape = (prod(tensor.shape[2:]), tensor.shape[0])
    by = np.ones(shape, np.float32) if entry is None else importance(entry)
    if by.shape != shape:
        raise FormatError(f"{tensor.name} has other experts or columns in the importance matrix: use one of this model")

    def sums(indices: Indices) -> tuple[Floats, Floats]:
        original = weights.rows(tensor.name, indices).astype(np.float64)
        found = quantizer.dequantize(tensor.type, read_rows(file, tensor, indices), tensor.shape[0])
        return ((found - original) ** 2).sum(0), (original**2).sum(0)

    with ThreadPoolExecutor(cores()) as pool:
        parts = list(pool.map(sums, _batches(tensor)))
    # Columns first, then everything in one order: the same digits with any number of threads. All experts have as many
    # batches.
    lost, all_of_it = (np.reshape(side, (shape[0], -1, shape[1])).sum(1) for side in zip(*parts, strict=True))
    return {
        "name": tensor.name,
        "type": tensor.type.name,
        "weights": prod(tensor.shape),
        "plain": _relative(lost, all_of_it),
        "weighted": None if entry is None else _relative(lost * by, all_of_it * by),
        "importance": None if entry is None else f"{by.mean(dtype=np.float64):.6g}",
    }


def _relative(lost: Floats, all_of_it: Floats) -> str:
    whole = float(all_of_it.sum())
    return f"{sqrt(float(lost.sum()) / whole) if whole else 0.0:.6g}"


def _batches(tensor: Tensor) -> Iterator[Indices]:
    """Rows by number, one expert after the other; no batch has rows of two."""
    rows, height = prod(tensor.shape[1:2]), max(1, BATCH // tensor.shape[0])
    for expert in range(prod(tensor.shape[2:])):
        for start in range(0, rows, height):
            yield expert * rows + np.arange(start, min(start + height, rows))
