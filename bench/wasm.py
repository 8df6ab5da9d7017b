"""The WebAssembly module beside the library, one thread each: the table in docs/how-it-works.md. Needs a C compiler.

Every type, with importances and, where it can be, without; bytes that differ end it.
"""

import sys
import time
from collections.abc import Callable

import click
import numpy as np

from requant.documents.pins import TABLE, read_pins
from requant.formats.ggml import DERIVED, NEEDS_IMPORTANCE, PLAIN, Arithmetic, Bytes, Floats, GGMLType
from requant.toolchain.quantizers import open_quantizer
from requant.toolchain.wasm_library import WasmLibrary

COLUMNS = 4096
WARM = 256
"""Columns of what is quantized first, while the tables of a type are made."""


@click.command()
@click.option("--rows", default=64, type=click.IntRange(min=1), help="rows of 4,096 weights")
@click.option("--rounds", default=5, type=click.IntRange(min=1), help="that with the least processor time counts")
@click.argument("kinds", nargs=-1)
def main(rows: int, rounds: int, kinds: tuple[str, ...]) -> None:
    """Time some types, by default all."""
    library, module = open_quantizer(Arithmetic.STRICT, next(iter(read_pins(TABLE).toolchains.values()))), WasmLibrary()
    click.echo("| type | importances | library, weights per second | module | of the library |\n|---|---|---|---|---|")
    generator = np.random.default_rng(1)
    weights = (generator.standard_normal((rows, COLUMNS)) / 50).astype(np.float32)
    for kind in [GGMLType[name] for name in kinds] or sorted(set(DERIVED) - set(PLAIN)):
        for by in (None, generator.chisquare(8, COLUMNS).astype(np.float32)):
            if by is None and kind in NEEDS_IMPORTANCE:
                continue
            (made, native), (same, wasm) = (
                _timed(each.quantize, kind, weights, by, rounds) for each in (library, module)
            )
            if not np.array_equal(made, same):
                sys.exit(f"{kind.name}: {int((made != same).sum()):,} bytes differ")
            speeds = " | ".join(f"{weights.size / seconds / 1e6:.2f} M" for seconds in (native, wasm))
            click.echo(f"| {kind.name} | {'no' if by is None else 'yes'} | {speeds} | {native / wasm:.2f} |")


def _timed(
    quantize: Callable[..., Bytes], kind: GGMLType, weights: Floats, by: Floats | None, rounds: int
) -> tuple[Bytes, float]:
    quantize(kind, weights[:1, :WARM], None if by is None else by[:WARM])
    best = np.inf
    for _ in range(rounds):
        begun = time.thread_time()
        made = quantize(kind, weights, by)
        best = min(best, time.thread_time() - begun)
    return made, best


if __name__ == "__main__":
    main()
