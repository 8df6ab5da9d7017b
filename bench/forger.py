"""What the best forger gains from ``near``, in numbers: the table in docs/verdicts.md. Needs ``make demo``.

Of all outcomes that small changes of weights and importances lead to, the worst is taken in every block.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from requant.conversion.weights import GGUFWeights
from requant.documents.pins import TABLE, read_pins
from requant.formats.ggml import Arithmetic, Floats, GGMLType
from requant.formats.gguf import read_header
from requant.formats.imatrix import importance, read_imatrix
from requant.formats.ranged import LocalFile
from requant.quantization.quantizer import Quantizer
from requant.quantization.witnesses import EPSILONS, changed, derive, find_witnesses
from requant.toolchain.quantizers import open_quantizer

RESULTS = Path(__file__).resolve().parents[1] / "results" / "Tiny-Qwen3"
WEIGHT = "blk.1.ffn_up.weight"
BLOCKS, TRIES = 512, 256
KINDS = (GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K, GGMLType.IQ4_XS)


def main() -> None:
    """Print one line for each type."""
    pin = next(iter(read_pins(TABLE).toolchains.values()))
    quantizers = [open_quantizer(arithmetic, pin) for arithmetic in Arithmetic]
    path = RESULTS / "bf16" / "converted" / "Tiny-Qwen3.gguf"
    with LocalFile(path) as file:
        weights = GGUFWeights(file, read_header(path)).rows(WEIGHT, np.arange(BLOCKS))
    entry = read_imatrix(RESULTS / "release" / "imatrix.gguf").entries[WEIGHT]
    importances = np.repeat(importance(entry), BLOCKS, 0)
    for kind in KINDS:
        choice, growth = _worst(quantizers, kind, weights, importances)
        flips = _witnessed_flips(quantizers, kind, weights, importances)
        gain = f"{100 * choice:.0f} % have a choice, error grows by {100 * growth:.3f} %"
        sys.stdout.write(f"{kind.name}: {gain}, {flips} flips pass\n")


def _worst(
    quantizers: Sequence[Quantizer], kind: GGMLType, weights: Floats, importances: Floats
) -> tuple[float, float]:
    """Share of blocks with a choice, and by which part the error grows at worst."""
    stream = np.random.Philox(key=5)
    honest = derive(quantizers[0], kind, weights, importances)

    def error(data: np.ndarray) -> np.ndarray:
        return ((quantizers[0].dequantize(kind, data, weights.shape[1]) - weights) ** 2 * importances).sum(1)

    least = worst = error(honest)
    choice = np.zeros(len(weights), np.bool_)
    for turn in range(TRIES):
        near = changed(weights, EPSILONS[-1], stream), changed(importances, EPSILONS[-1], stream)
        found = derive(quantizers[turn % 2], kind, *near)
        choice |= (found != honest).any(1)
        worst = np.maximum(worst, error(found))
    return float(choice.mean()), float(worst.sum() / least.sum() - 1)


def _witnessed_flips(quantizers: Sequence[Quantizer], kind: GGMLType, weights: Floats, importances: Floats) -> int:
    """How many of as many random single bit flips as there are blocks pass for rounding."""
    data = derive(quantizers[0], kind, weights, importances)
    bits = np.random.Philox(key=6).random_raw(len(data)) % np.uint64(8 * kind.type_size)
    for row, bit in enumerate(bits.tolist()):
        data[row, bit // 8] ^= 1 << (bit % 8)
    return int((~np.isnan(find_witnesses(quantizers, kind, weights, importances, data))).sum())


if __name__ == "__main__":
    main()
