"""Heat maps of a model: kinds of tensors below each other, layers from left to right."""

import re
from collections.abc import Callable, Mapping, Sequence
from math import nan

from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from requant.evaluation.page.canvas import (
    WIDTH,
    Evaluation,
    finite,
    label,
    plain,
    positive,
    require_few,
    short,
    tick_powers,
)
from requant.ground.errors import FormatError

SHADES = 48
"""Of a heat map; from 50 on matplotlib would put a bitmap into its legend."""
MOST_CELLS = 20_000
BLOCK_TENSOR = re.compile(r"blk\.([0-9]{1,9})\.(.+)")
Cell = tuple[str, str]
"""A kind of tensor and the number of its layer; ``OUTSIDE`` where it belongs to none."""
OUTSIDE = "–"


def heat_maps(quants: Sequence[Evaluation]) -> dict[str, Figure]:
    """The relative error of each quant's tensors, each on its own scale, and the importance, which the quants share."""
    require_few(quants)
    figures = {
        f"error-{number}": _heat_map(cells, label("error"), Normalize(*_range(cells)))
        for number, quant in enumerate(quants)
        if (cells := _cells(quant["tensors"], "plain", finite))
    }
    weights: dict[Cell, float] = {}
    for quant in quants:
        weights |= _cells(quant["tensors"], "importance", positive)
    if weights:
        figures["importance"] = _heat_map(weights, label("importance"), LogNorm(*_range(weights)))
    return figures


def _range(cells: Mapping[Cell, float]) -> tuple[float, float]:
    """The least and the greatest number; some room around it if all are the same."""
    low, high = min(cells.values()), max(cells.values())
    room = 0.0 if low < high else 0.1 * abs(low) or 0.1
    return low - room, high + room


def _cells(tensors: Sequence[Evaluation], key: str, read: Callable[[str], float]) -> dict[Cell, float]:
    """The numbers of tensors by kind and layer."""
    found: dict[Cell, float] = {}
    for tensor in tensors:
        match = BLOCK_TENSOR.fullmatch(tensor["name"])
        layer, kind = (str(int(match[1])), match[2]) if match else (OUTSIDE, tensor["name"])
        if tensor[key] is not None:
            found[kind.removesuffix(".weight"), layer] = read(tensor[key])
    return found


def _heat_map(cells: Mapping[Cell, float], what: str, scale: Normalize) -> Figure:
    """Kinds of tensors below each other, layers side by side; only those that are there, whatever their number."""
    kinds = sorted({kind for kind, _ in cells})
    layers = sorted({layer for _, layer in cells}, key=lambda layer: -1 if layer == OUTSIDE else int(layer))
    if len(kinds) * len(layers) > MOST_CELLS:
        raise FormatError(
            f"evaluation.json names {len(kinds):,} kinds of tensors in {len(layers):,} layers: too many to draw"
        )
    height = 0.24 * len(kinds)
    figure = Figure((WIDTH, 1.4 + height), layout="constrained")
    axes, beam = figure.subplots(2, 1, height_ratios=(height, 0.12))
    rows = [[cells.get((kind, layer), nan) for layer in layers] for kind in kinds]
    colours = colormaps["viridis"].resampled(SHADES)
    mesh = axes.pcolormesh(rows, cmap=colours, norm=scale, edgecolors="face", linewidth=0.6)
    axes.set_yticks([row + 0.5 for row in range(len(kinds))], map(short, kinds))
    axes.invert_yaxis()
    step = max(1, -(-len(layers) // 10))
    named = [column for column, layer in enumerate(layers) if layer == OUTSIDE or int(layer) % step == 0]
    if layers[0] == OUTSIDE and step > 1:
        named = [column for column in named if column != 1]  # too near
    axes.set_xticks([column + 0.5 for column in named], [layers[column] for column in named])
    axes.tick_params(length=0)
    axes.set_xlabel(label("layer"))
    bar = figure.colorbar(mesh, cax=beam, orientation="horizontal", label=what)
    assert bar.solids, "a scale of colours is drawn as a mesh"
    bar.solids.set_edgecolor("face")
    if isinstance(scale, LogNorm):
        tick_powers(beam.xaxis, *bar.mappable.get_clim())
    else:
        beam.xaxis.set_major_locator(MaxNLocator(5))
        beam.xaxis.set_major_formatter(plain)
    return figure
