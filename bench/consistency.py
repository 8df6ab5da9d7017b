"""What quants say of weights when their importances are not known: the tables in docs/verdicts.md.

What llama.cpp makes, under many kinds of importances: nothing may be off. Then how often changes are seen, by type and
size, and what stays free to a forger: the scales. Needs what ``make demo`` has built, and some minutes.
"""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from requant.audit.weights.recovered import ROWS
from requant.audit.weights.unknown_importances import LIKELY
from requant.formats.ggml import NEEDS_IMPORTANCE, Arithmetic, Bytes, Floats, GGMLType
from requant.quantization.consistency import LIMITS, NON_LINEAR, SIGNED, check_rows, look
from requant.quantization.recovery import RECOVERABLE, recover
from requant.quantization.unpacking import LEVELS, unpack
from support.planted import CHANGES, flipped
from support.quants import kept

COLUMNS = 1024
GRIDS = (*SIGNED, GGMLType.IQ1_S, GGMLType.IQ1_M)
SCALE_STEPS = {GGMLType.Q2_K: 15, GGMLType.Q3_K: 32, GGMLType.Q4_K: 63, GGMLType.Q5_K: 63, GGMLType.Q6_K: 128,
               GGMLType.IQ4_XS: 32}  # fmt: skip
"""How many steps the largest scale of a block has."""


def kinds_of_weights(generator: np.random.Generator, rows: int) -> Iterator[tuple[str, Floats]]:
    """Numbers as models have them: normal, with heavy tails, in columns of very different size, hardly any at all."""
    normal = generator.standard_normal((rows, COLUMNS))
    yield "normal", (normal / 50).astype(np.float32)
    yield "heavy tails", (generator.standard_t(3, (rows, COLUMNS)) / 50).astype(np.float32)
    yield "uneven", (normal * np.exp(1.5 * generator.standard_normal(COLUMNS)) / 50).astype(np.float32)
    yield "tiny", (normal / 50 * np.where(np.arange(COLUMNS) < 256, 1e-4, 1e-7)).astype(np.float32)


def kinds_of_importances(generator: np.random.Generator) -> Iterator[tuple[str, Floats | None]]:
    """None, about even, as uneven as real ones, far more so, and with columns that nothing ever reaches."""
    even = generator.chisquare(8, COLUMNS)
    yield "none", None
    yield "even", even.astype(np.float32)
    yield "uneven", np.exp(2 * generator.standard_normal(COLUMNS)).astype(np.float32)
    yield "wild", np.exp(4 * generator.standard_normal(COLUMNS)).astype(np.float32)
    yield "dead columns", np.where(generator.random(COLUMNS) < 0.3, 0, even).astype(np.float32)


def honest(kind: GGMLType, seeds: int, rows: int) -> str:
    """Quants that are off, of all; and the largest error ratios of normal weights with even and uneven importances."""
    quants, off, strict, ratios = 0, 0, kept(Arithmetic.STRICT), {"even": 0.0, "uneven": 0.0}
    worst = 0.0
    for seed in range(seeds):
        generator = np.random.default_rng([seed, int(kind)])
        for name, weights in kinds_of_weights(generator, rows):
            for importances, by in kinds_of_importances(generator):
                if by is None and kind in NEEDS_IMPORTANCE:
                    continue
                for arithmetic in Arithmetic:
                    data = kept(arithmetic).quantize(kind, weights, by)
                    found = look(strict, kind, weights, data, np.arange(rows))
                    quants, off = quants + found.quants, off + found.off
                if name == "normal" and importances in ratios:
                    found = check_rows(strict, kind, weights, data, np.arange(rows))
                    ratios[importances] = max(ratios[importances], found.ratio)
                    worst = max(worst, found.worst)
    return f"{off} of {quants / 1e6:.1f} M | {ratios['even']:.2f} | {ratios['uneven']:.2f} | {worst:.1f}"


def planted(kind: GGMLType, rows: int) -> str:
    """Shares of rows in which a change is seen, and whether it is in all rows together; shares of flipped bits."""
    generator, strict, cells = np.random.default_rng([1, int(kind)]), kept(Arithmetic.STRICT), []
    weights = (generator.standard_normal((rows, COLUMNS)) / 50).astype(np.float32)
    by = np.exp(generator.standard_normal(COLUMNS)).astype(np.float32)
    for change in CHANGES.values():
        data = strict.quantize(kind, change(weights, generator), by)
        cells += [seen(kind, weights, data)]
    if kind in LIMITS:
        data = strict.quantize(kind, weights, by)
        cells += [seen(kind, weights, np.stack([flipped(kind, row, generator) for row in data]))]
    return " | ".join(cells)


def seen(kind: GGMLType, weights: Floats, data: Bytes) -> str:
    """In how many rows quants are off, and in how many no scale gives them."""
    strict = kept(Arithmetic.STRICT)
    found = [look(strict, kind, weights[[row]], data[[row]], np.array([row])) for row in range(len(data))]
    off = 100 * sum(each.off > 0 for each in found) / len(found)
    told = 100 * sum(each.contradicted > 0 for each in found) / len(found)
    return f"{off:.0f} ({told:.0f})"


def free(kind: GGMLType, rows: int) -> str:
    """What a forger pays: for all scales times 1.1 or 1.25, the factor that makes ``LIKELY``, a step in every scale."""
    generator, strict = np.random.default_rng([2, int(kind)]), kept(Arithmetic.STRICT)
    weights = (generator.standard_normal((rows, COLUMNS)) / 50).astype(np.float32)
    by = np.exp(generator.standard_normal(COLUMNS)).astype(np.float32)
    blocks = strict.quantize(kind, weights, by).reshape(-1, kind.type_size)
    parts = unpack(kind, blocks)
    weights = weights.reshape(parts.quants.shape)

    def error(scales: Floats, minima: Floats | None) -> float:
        shift = 0 if minima is None else minima[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            positions = np.nan_to_num((weights + shift) / scales[..., None])
        if kind in NON_LINEAR:
            levels = LEVELS[np.abs(positions[..., None] - LEVELS).argmin(-1)]
        else:
            levels = np.rint(positions).clip(*LIMITS[kind])
        return float(((levels * scales[..., None] - shift - weights) ** 2).sum())

    def times(factor: float) -> float:
        return error(parts.scales * factor, None if parts.minima is None else parts.minima * factor) / least

    least = error(parts.scales, parts.minima)
    far = next(factor for factor in np.arange(1, 9, 0.05) if times(float(factor)) > LIKELY)
    step = "-"
    if kind in SCALE_STEPS:
        unit = np.abs(parts.scales).max(1, keepdims=True) / SCALE_STEPS[kind]
        moved = parts.scales + unit * generator.choice([-1, 1], parts.scales.shape)
        step = f"{100 * (error(moved, parts.minima) / least - 1):.1f} %"
    return f"{times(1.1):.2f} | {times(1.25):.2f} | {far:.2f} | {step}"


def recovered(kind: GGMLType) -> str:
    """Of blocks in other rows those that derive with importances read off some; and of rows with noise of 0.1 %."""
    generator, strict, cells = np.random.default_rng([3, int(kind)]), kept(Arithmetic.STRICT), []
    importances = dict(kinds_of_importances(generator))
    for (_, weights), name in product([*kinds_of_weights(generator, 2 * ROWS)][:2], ("even", "uneven")):
        made = weights.copy()
        made[ROWS::2] += (0.001 * weights.std() * generator.standard_normal(made[ROWS::2].shape)).astype(np.float32)
        data = strict.quantize(kind, made, importances[name])
        found = strict.quantize(kind, weights, recover(kind, weights[:ROWS], data[:ROWS]))
        same = (found == data).reshape(2 * ROWS, -1, kind.type_size).all(2)[ROWS:].mean(1)
        cells.append(
            f"{same[1::2].mean():.1%} ({same[1::2].min():.0%}), {same[::2].mean():.1%} ({same[::2].max():.0%})"
        )
    return " | ".join(cells)


@click.command()
@click.option("--seeds", default=10, show_default=True, help="How often honest quants are made of every kind.")
@click.option("--rows", default=64, show_default=True, help="Rows of 1,024 weights of each quant.")
@click.option(
    "--types", "names", default=",".join(kind.name for kind in LIMITS), show_default=True, help="Which types."
)
def main(seeds: int, rows: int, names: str) -> None:
    """Print a line of each table for each type; grids (IQ1 to IQ3) take minutes, name them with few rows."""
    for name in names.split(","):
        kind = GGMLType[name]
        click.echo(f"honest | {name} | {honest(kind, seeds, min(rows, 16))} |")
        click.echo(f"seen | {name} | {planted(kind, rows)} |")
        if kind in LIMITS:
            click.echo(f"free | {name} | {free(kind, rows)} |")
        if kind in RECOVERABLE:
            click.echo(f"recovered | {name} | {recovered(kind)} |")


if __name__ == "__main__":
    main()
