"""The figures of a report, drawn by matplotlib from an evaluation, as SVG for one HTML page."""

import io
import warnings
from collections.abc import Sequence
from math import sqrt

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from requant.evaluation.page.canvas import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    ROW,
    STYLE,
    WIDTH,
    Evaluation,
    finite,
    label,
    name_rows,
    positive,
    require_few,
    set_logarithmic,
    short,
    stream_names,
    translations,
)
from requant.evaluation.page.heat_maps import heat_maps
from requant.evaluation.page.inline import INK, inline
from requant.ground.text import UNITS

SPANS = (("q1", "q99", 1.5), ("q5", "q95", 4.0), ("q10", "q90", 8.0))
"""Two quantiles of the divergence, and how thick a line joins them."""
SIDES = tuple((side, up) for up in (0, 12, -12, 24, -24, 36, -36) for side in (1, -1))
"""Where the text of a point may stand: on its right or left, and so many points above it."""
Label = tuple[float, float, float, str]
"""A point (x, y in data), the radius of its mark in points, and its text."""


def draw_figures(evaluation: Evaluation) -> dict[str, str]:
    """Every figure that the numbers are there for, by its name, each one SVG element.

    ``error-0`` is the heat map of the first quant in ``tensors``, ``error-1`` of the second.

    Raises:
        FormatError: when there are more models, tensors or larger numbers than a figure can show.
    """
    figures: dict[str, Figure] = {}
    with rc_context(STYLE), warnings.catch_warnings():
        # The browser draws the texts, and has letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        fidelity, speed = evaluation["fidelity"], evaluation["speed"]
        if fidelity:
            require_few(fidelity["quants"])
            figures["perplexity"] = _perplexity(fidelity)
        if fidelity and fidelity["quants"]:
            figures["tradeoff"] = _tradeoff(fidelity, speed)
            figures["divergence"] = _divergence(fidelity)
        if speed:
            require_few(speed["models"])
            figures |= {"rates": _rates(speed), "streams": _streams(speed)}
        figures |= heat_maps(evaluation["tensors"])
        suites = evaluation["behaviour"]["suites"] if evaluation["behaviour"] else []
        if suites:
            require_few([model for suite in suites for model in suite["models"]])
            figures["behaviour"] = _behaviour(suites)
        return {name: _svg(figure, name) for name, figure in figures.items()}


def _svg(figure: Figure, name: str) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return inline(file.getvalue(), name, translations())


def _rows(names: Sequence[str], height: float = ROW) -> tuple[Figure, Axes]:
    """An empty figure with one row of so many inches for each name, the first on top."""
    figure = Figure((WIDTH, 1.1 + height * len(names)), layout="constrained")
    axes = figure.subplots()
    name_rows(axes, names)
    axes.grid(axis="x")
    return figure, axes


def _quant_rows(fidelity: Evaluation) -> list[str]:
    """Types, each once: a quant with and one without the importance matrix share a row."""
    return list(dict.fromkeys(quant["type"] for quant in fidelity["quants"]))


def _look(quant: Evaluation) -> tuple[float, str, str]:
    """Where in its row a quant stands, its colour and its marker."""
    return (-0.16, BLUE, "o") if quant["imatrix"] else (0.16, ORANGE, "D")


def _explain_looks(figure: Figure, quants: Sequence[Evaluation]) -> None:
    """A legend, where there are quants of both kinds."""
    if len({quant["imatrix"] for quant in quants}) == 2:
        marks = [
            Line2D([], [], color=BLUE, marker="o", linestyle="none", label=label("with_imatrix")),
            Line2D([], [], color=ORANGE, marker="D", linestyle="none", markersize=6, label=label("without_imatrix")),
        ]  # fmt: skip
        figure.legend(handles=marks, loc="outside upper left", ncols=2, handletextpad=0.2, columnspacing=1.2)


def _tradeoff(fidelity: Evaluation, speed: Evaluation | None) -> Figure:
    """Size, quality and, where measured, the speed of each quant; a line where BF16 would stand."""
    rates = {model["label"]: model["decode"]["mean"] for model in speed["models"]} if speed else {}
    fastest = max(map(finite, rates.values()), default=0.0)
    figure = Figure((WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.grid()
    sizes = [fidelity["baseline"]["file"]["size"], *(quant["file"]["size"] for quant in fidelity["quants"])]
    unit, scale = next((pair for pair in UNITS if max(sizes) >= pair[1]), UNITS[-1])
    axes.set_xlabel(label("file_size", unit=unit))
    axes.set_title(label("mean_kld"), loc="left")
    bf16 = sizes[0] / scale
    axes.axvline(bf16, color=INK, linestyle="dashed", linewidth=1)
    labels: list[Label] = []
    for quant in fidelity["quants"]:
        x, y = quant["file"]["size"] / scale, positive(quant["divergence"]["mean"]["value"])
        _, colour, marker = _look(quant)
        rate = rates.get(quant["type"]) if quant["imatrix"] else None
        area = 40 + 260 * max(finite(rate), 0.0) / fastest if rate and fastest > 0 else 40
        axes.scatter([x], [y], s=area, color=colour, marker=marker, alpha=0.85, linewidths=0, clip_on=False)
        if quant["imatrix"]:
            labels.append((x, y, sqrt(area) / 2, short(quant["type"]) + (f", {rate} t/s" if rate else "")))
    axes.set_xlim(0, max(sizes) / scale * 1.05 or 1)
    set_logarithmic(axes, "y", [positive(quant["divergence"]["mean"]["value"]) for quant in fidelity["quants"]])
    _explain_looks(figure, fidelity["quants"])
    figure.draw_without_rendering()
    base = f"BF16, {rates['BF16']} t/s" if "BF16" in rates else "BF16"
    _place_labels(axes, [*labels, (bf16, axes.get_ylim()[0], 2.0, base)])
    return figure


def _place_labels(axes: Axes, labels: Sequence[Label]) -> None:
    """Write each text beside its point, at the first of ``SIDES`` that is free and inside the axes."""
    area, centres = axes.get_window_extent(), [axes.transData.transform((x, y)) for x, y, _, _ in labels]
    taken = [
        Bbox.from_bounds(x - radius, y - radius, 2 * radius, 2 * radius)
        for (x, y), (_, _, radius, _) in zip(centres, labels, strict=True)
    ]
    for x, y, radius, words in labels:
        for side, up in (*SIDES, SIDES[0]):
            text = axes.annotate(words, (x, y), (side * (radius + 4), up), textcoords="offset points",
                                 ha="left" if side > 0 else "right", va="center", fontsize=10)  # fmt: skip
            box = text.get_window_extent()
            inside = area.x0 <= box.x0 and box.x1 <= area.x1 and area.y0 <= box.y0 and box.y1 <= area.y1
            if inside and not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        else:
            axes.add_artist(text)
        taken.append(box)


def _perplexity(fidelity: Evaluation) -> Figure:
    """Perplexity and its standard error; a line through that of BF16."""
    names = ["BF16", *_quant_rows(fidelity)]
    figure, axes = _rows(names)
    base = fidelity["baseline"]["perplexity"]
    axes.axvline(finite(base["value"]), color=INK, linestyle="dashed", linewidth=1)
    marks = [(0.0, base, INK, "o")]
    for quant in fidelity["quants"]:
        shift, colour, marker = _look(quant)
        marks.append((names.index(quant["type"]) + shift, quant["perplexity"], colour, marker))
    for row, measured, colour, marker in marks:
        error = abs(finite(measured["error"]))
        axes.errorbar(finite(measured["value"]), row, xerr=error, color=colour, fmt=marker, markersize=6, capsize=3)
    axes.set_xlabel(label("perplexity"))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.ticklabel_format(axis="x", useOffset=False)
    _explain_looks(figure, fidelity["quants"])
    return figure


def _divergence(fidelity: Evaluation) -> Figure:
    """Quantiles of the KLD of each quant as lines of three widths, the median as a dot, the mean as a cross."""
    names = _quant_rows(fidelity)
    figure, axes = _rows(names, height=0.42)
    drawn: list[float] = []
    for quant in fidelity["quants"]:
        shift, colour, _ = _look(quant)
        row = names.index(quant["type"]) + shift * 1.35
        quantiles = {name: positive(text) for name, text in quant["divergence"]["quantiles"].items()}
        mean = positive(quant["divergence"]["mean"]["value"])
        for low, high, width in SPANS:
            axes.plot([quantiles[low], quantiles[high]], [row, row], color=colour, lw=width, solid_capstyle="butt")
            drawn += [quantiles[low], quantiles[high]]
        for value, marker in ((quantiles["max"], "|"), (quantiles["q50"], "o"), (mean, "x")):
            axes.plot(value, row, color=colour if marker == "|" else INK, marker=marker, markersize=5)
            drawn.append(value)
    axes.set_xlabel(label("kld"))
    set_logarithmic(axes, "x", drawn)
    _explain_looks(figure, fidelity["quants"])
    return figure


def _rates(speed: Evaluation) -> Figure:
    """Two panels of bars, for reading a prompt and for writing an answer."""
    models = speed["models"]
    figure = Figure((WIDTH, 1.2 + 2 * ROW * len(models)), layout="constrained")
    panels = figure.subplots(2, 1)
    parts = (("prompt", label("prompt"), BLUE), ("decode", label("decode"), GREEN))
    for axes, (part, title, colour) in zip(panels, parts, strict=True):
        name_rows(axes, [model["label"] for model in models])
        means = [finite(model[part]["mean"]) for model in models]
        deviations = [abs(finite(model[part]["sd"])) for model in models]
        bars = axes.barh(range(len(models)), means, height=0.62, color=colour,
                         xerr=deviations, error_kw={"ecolor": INK, "capsize": 3})  # fmt: skip
        axes.bar_label(bars, [model[part]["mean"] for model in models], padding=4)
        _end_bars(axes, means, deviations)
        axes.set_title(title, loc="left")
    return figure


def _streams(speed: Evaluation) -> Figure:
    """Bars for one, four and sixteen questions at a time."""
    models, height = speed["models"], 0.26
    figure = Figure((WIDTH, 1.1 + 2.4 * ROW * len(models)), layout="constrained")
    axes = figure.subplots()
    name_rows(axes, [model["label"] for model in models])
    everything: list[float] = []
    for number, (streams, name) in enumerate(stream_names().items()):
        texts = [model["served"]["streams"][streams] for model in models]
        means = [finite(text) for text in texts]
        places = [row + (number - 1) * height for row in range(len(models))]
        bars = axes.barh(places, means, height=height * 0.9, color=(BLUE, GREEN, PINK)[number], label=name.en)
        axes.bar_label(bars, texts, padding=4, fontsize=9.5)
        everything += means
    _end_bars(axes, everything, [0.0])
    axes.set_title(label("together"), loc="left")
    figure.legend(loc="outside upper left", ncols=3, handlelength=1)
    return figure


def _behaviour(suites: Sequence[Evaluation]) -> Figure:
    """A panel for each suite: the share of right answers of each model, and its interval."""
    rows = [len(suite["models"]) for suite in suites]
    figure = Figure((WIDTH, 0.7 + 0.35 * len(suites) + ROW * sum(rows)), layout="constrained")
    panels = figure.subplots(len(suites), 1, squeeze=False, sharex=True, height_ratios=rows)[:, 0]
    for axes, suite in zip(panels, suites, strict=True):
        name_rows(axes, [model["label"] for model in suite["models"]])
        axes.set_title(short(suite["name"]), loc="left")
        axes.grid(axis="x")
        for row, model in enumerate(suite["models"]):
            if model["score"] is not None:
                colour = BLUE if row else INK
                interval = [100 * finite(model["interval"][end]) for end in ("low", "high")]
                axes.plot(interval, [row, row], color=colour, marker="|", markersize=6)
                axes.plot(100 * finite(model["score"]), row, color=colour, marker="o", markersize=6)
    panels[-1].set_xlim(-2, 102)
    panels[-1].set_xlabel(label("right_answers"))
    return figure


def _end_bars(axes: Axes, means: Sequence[float], deviations: Sequence[float]) -> None:
    """Leave room for the numbers behind the bars, which make an axis needless."""
    axes.set_xlim(0, max(max(means) + max(deviations), 0.0) * 1.18 or 1.0)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
