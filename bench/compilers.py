"""In how many blocks other compilers' quants differ: the table in docs/verdicts.md, and the bounds of ``near``.

Every type, many kinds of weights and importances; of the two arithmetics the one that fits better counts. Needs clang,
an ARM64 GCC and qemu, and what ``make demo`` has built.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from requant.formats.ggml import DERIVED, NEEDS_IMPORTANCE, PLAIN, Arithmetic, Floats, GGMLType
from requant.quantization.derivation import Making, Rows, Tally, Ways, compare_rows

SLOW = (*NEEDS_IMPORTANCE, GGMLType.IQ3_XXS, GGMLType.IQ3_S)
COLUMNS = 1024
CLANG = ("x86-64-v3 clang", "ARM64 clang")


def kinds_of_weights(seed: int, rows: int) -> Iterator[tuple[str, Floats]]:
    """Numbers as models have them: normal, with heavy tails, with rows of very different size, many of them zero."""
    generator = np.random.default_rng(seed)
    shape = rows, COLUMNS
    normal = generator.standard_normal(shape)
    yield "normal", normal
    yield "heavy tails", generator.standard_t(3, shape)
    yield "uneven rows", normal * np.exp(2 * generator.standard_normal((rows, 1)))
    yield "sparse", np.where(generator.random(shape) < 0.3, normal, 0)


def kinds_of_importances(seed: int) -> Iterator[tuple[str, Floats | None]]:
    """None, about even, and as uneven as real ones are."""
    generator = np.random.default_rng(seed)
    yield "none", None
    yield "even", generator.chisquare(8, COLUMNS).astype(np.float32)
    yield "uneven", np.exp(2 * generator.standard_normal(COLUMNS)).astype(np.float32)


def as_bf16(weights: Floats) -> Floats:
    """As checkpoints hold them."""
    bits = np.ascontiguousarray(weights / 50, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    found: Floats = bits.view(np.float32)
    return found


def measured(compiler: str, kind: GGMLType, rows: int) -> list[Tally]:
    """What differs, for each kind of weights and of importances."""
    from support.quants import PINS, kept, program

    quantize = kept(Arithmetic.STRICT, compiler).quantize if compiler in PINS else program(compiler).quantize
    found = []
    for _, weights in kinds_of_weights(1, rows):
        for _, by in kinds_of_importances(2):
            if by is None and kind in NEEDS_IMPORTANCE:
                continue
            given = Rows(kind, as_bf16(weights), by, quantize(kind, as_bf16(weights), by), np.arange(rows))
            makings = [Making(arithmetic, GGMLType.F32) for arithmetic in Arithmetic]
            tallies = [compare_rows(Ways(kept, order), given) for order in (makings, makings[::-1])]
            found.append(min(tallies, key=lambda tally: tally.differing))
    return found


@click.command()
@click.option("--rows", default=1024, help="Of each kind of weights; a sixteenth of them for the slow types.")
@click.option("--compiler", "compilers", multiple=True, default=CLANG, help="Or a toolchain.")
@click.option("--type", "types", multiple=True, type=click.Choice([kind.name for kind in DERIVED]), help="Only these.")
def main(rows: int, compilers: tuple[str, ...], types: tuple[str, ...]) -> None:
    """Print one line for each type and compiler: shares of blocks that differ, their number, and those unexplained."""
    searched = (each for each in DERIVED if each not in PLAIN and (not types or each.name in types))
    for kind in searched:
        for compiler in compilers:
            tallies = measured(compiler, kind, rows // 16 if kind in SLOW else rows)
            shares = [tally.differing / tally.blocks for tally in tallies]
            whole = sum(tally.differing for tally in tallies) / sum(tally.blocks for tally in tallies)
            lost = sum(tally.unexplained for tally in tallies)
            numbers = " | ".join(f"{100 * share:.3f} %" for share in (min(shares), whole, max(shares)))
            click.echo(f"| {kind.name} | {compiler} | {numbers} | {sum(t.blocks for t in tallies):,} | {lost} |")


if __name__ == "__main__":
    main()
