"""How fast the lanes are beside llama.cpp's own code: the table in docs/how-it-works.md, one thread of processor time.

Needs what ``make demo`` has built. Both are measured in turn, and the best of three counts.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from requant.formats.ggml import Arithmetic, GGMLType
from requant.toolchain.lanes_library import LanesLibrary

COLUMNS, ROWS, ROUNDS = 4096, 64, 3


def speed(quantize: Callable[[], object], weights: int) -> float:
    """Weights per second of this thread's processor time."""
    begin = time.thread_time()
    quantize()
    return weights / (time.thread_time() - begin)


def compared(kind: GGMLType, weighed: bool) -> str:
    """The lanes' speed and how many times llama.cpp's own that is."""
    from support.lanes import built
    from support.quants import kept

    draw = np.random.default_rng(int(kind))
    rows = (draw.standard_normal((ROWS, COLUMNS)) / 50).astype(np.float32)
    by = draw.chisquare(1, COLUMNS).astype(np.float32) if weighed else None
    own = kept(Arithmetic.STRICT)
    # One row of these is done twice, as always.
    lanes = LanesLibrary(own, built())
    best = {}
    for _ in range(ROUNDS):
        for name, quantizer in (("own", own), ("lanes", lanes)):
            found = speed(lambda quantizer=quantizer: quantizer.quantize(kind, rows, by), rows.size)  # type: ignore[misc]
            best[name] = max(found, best.get(name, 0.0))
    return f"{best['lanes'] / 1e6:.0f} M, {best['lanes'] / best['own']:.1f} ×"


@click.command()
def main() -> None:
    """Print the table."""
    from support.lanes import WITH, WITHOUT

    click.echo("| type | without importances | with importances |\n|---|---|---|")
    for kind in WITH:
        without = compared(kind, False) if kind in WITHOUT else "no search"
        click.echo(f"| {kind.name} | {without} | {compared(kind, True)} |")


if __name__ == "__main__":
    main()
