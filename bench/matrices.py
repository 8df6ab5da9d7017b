"""What importance matrices, honest and hostile, do to weights: the table in docs/verdicts.md. Needs ``make demo``.

Of every matrix the numbers that an audit looks at, and of every type the error, not weighted by importances, over that
without a matrix; then the weighted error of a quant made with its matrix, or with the reciprocal of it, over that of
one made without. The weights are random, normal and Student's t with 4 degrees of freedom; the worse ratio is shown.
After ``make demo-real`` the matrix of SmolLM2 is measured too.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from requant.audit.recipe.sanity import look, spread_of
from requant.documents.pins import TABLE, read_pins
from requant.formats.ggml import NEEDS_IMPORTANCE, Arithmetic, Floats, GGMLType
from requant.formats.imatrix import importance, read_imatrix
from requant.quantization.derivation import Rows
from requant.quantization.quantizer import Quantizer
from requant.toolchain.quantizers import open_quantizer

RESULTS = Path(__file__).resolve().parents[1] / "results"
COLUMNS, ROWS = 1024, 16
KINDS = (
    GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K, GGMLType.IQ4_XS, GGMLType.Q4_0,
    GGMLType.Q5_1, GGMLType.IQ3_XXS, GGMLType.IQ2_XS,
)  # fmt: skip


def main() -> None:
    """Print what the unweighted errors are, honest matrices first; then what turning a matrix upside down costs."""
    quantizer = open_quantizer(Arithmetic.STRICT, next(iter(read_pins(TABLE).toolchains.values())))
    stream = np.random.default_rng(1)
    shape = ROWS, COLUMNS
    weights = [
        (values / 50).astype(np.float32) for values in (stream.standard_normal(shape), stream.standard_t(4, shape))
    ]
    known = list(measured())
    turned = [(f"{name}, reciprocal", 1 / importances) for name, importances in known]
    kinds = [kind.name for kind in KINDS]
    line(("matrix", "dead", "range", "effective", *kinds))
    line(("---",) * (4 + len(kinds)))
    for name, importances in (*known, *made_up(stream), *hostile(stream), *turned):
        found = spread_of(importances)
        ratios = [max(ratio(quantizer, kind, each, importances) for each in weights) for kind in KINDS]
        numbers = f"{100 * found.dead:.0f} %", f"{found.range:,.2g}", f"{found.effective:.1f}"
        line((name, *numbers, *(f"{each:.2f}" for each in ratios)))
    line(("weighted error", *kinds))
    line(("---",) * (1 + len(kinds)))
    for (name, importances), (_, reciprocal) in zip(known, turned, strict=True):
        for how, used in (("with it", importances), ("reciprocal", reciprocal)):
            costs = [max(cost(quantizer, kind, each, importances, used) for each in weights) for kind in KINDS]
            line((f"{name}, {how}", *(f"{each:.2f}" for each in costs)))


def line(cells: Sequence[str]) -> None:
    """Print a row of a table."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def cost(quantizer: Quantizer, kind: GGMLType, weights: Floats, importances: Floats, used: Floats) -> float:
    """The error by true importances of what is quantized with others, over that of what is quantized without."""
    alike = np.ones_like(used) if kind in NEEDS_IMPORTANCE else None
    errors = [
        (
            (quantizer.dequantize(kind, quantizer.quantize(kind, weights, by), COLUMNS) - weights) ** 2 * importances
        ).sum()
        for by in (used, alike)
    ]
    return float(errors[0] / errors[1])


def ratio(quantizer: Quantizer, kind: GGMLType, weights: Floats, importances: Floats) -> float:
    """The error that an audit would find."""
    indices = np.arange(len(weights))
    rows = Rows(kind, weights, importances, quantizer.quantize(kind, weights, importances), indices)
    return look(quantizer, rows, indices).ratio or 0.0


def measured() -> Iterator[tuple[str, Floats]]:
    """In the demos' matrices the most uneven entry of every kind of weight; queries, keys and values see the same."""
    for model in ("Tiny-Qwen3", "SmolLM2-135M-Instruct"):
        path = RESULTS / model / "release" / "imatrix.gguf"
        entries = read_imatrix(path).entries if path.exists() else {}
        worst: dict[str, tuple[float, str, Floats]] = {}
        for name, entry in entries.items():
            values = importance(entry)[0]
            kind = name.split(".", 2)[2].removesuffix(".weight")
            if kind in ("attn_q", "attn_v", "ffn_up"):
                continue
            found = spread_of(values).effective, name, values
            worst[kind] = min(worst.get(kind, found), found, key=lambda each: each[0])
        for _, name, values in worst.values():
            yield f"{model.partition('-')[0]} {name.removesuffix('.weight')}", np.resize(values, COLUMNS)


def made_up(stream: np.random.Generator) -> Iterator[tuple[str, Floats]]:
    """Uneven as honest ones are, and more."""
    for sigma in (1, 2, 3):
        yield f"lognormal, sigma {sigma}", np.exp(sigma * stream.standard_normal(COLUMNS)).astype(np.float32)
    for size in (1e4, 1e7):
        yield f"one column {size:g} times larger", np.where(np.arange(COLUMNS) == 37, size, 1).astype(np.float32)
    yield "5 % dead", (stream.random(COLUMNS) > 0.05).astype(np.float32)


def hostile(stream: np.random.Generator) -> Iterator[tuple[str, Floats]]:
    """Made to ruin."""
    columns = np.arange(COLUMNS)
    for one in (32, 16, 8, 4):
        yield f"zeros but 1 in {one}", (columns % one == 0).astype(np.float32)
    for low in (1e-2, 1e-4, 1e-6, 1e-10):
        yield f"{low:g} but 1 in 32", np.where(columns % 32 == 0, 1, low).astype(np.float32)
    yield "zeros in half of the blocks", (columns % 512 < 256).astype(np.float32)
    yield "zeros in a tenth of the groups", (columns // 32 % 10 > 0).astype(np.float32)
    yield "1e-20 in half of the blocks", np.where(columns % 512 < 256, 1, 1e-20).astype(np.float32)
    for sigma in (5, 10):
        values = np.exp(sigma * stream.standard_normal(COLUMNS)).clip(1e-30, 1e12)
        yield f"lognormal, sigma {sigma}", values.astype(np.float32)


if __name__ == "__main__":
    main()
