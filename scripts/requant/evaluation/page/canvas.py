"""What the figures of a report share: size and style, axes, and numbers that are known to fit on them.

Models stand below each other and numbers run to the right, so that a figure stays readable on a telephone. Colours are
close to four of Okabe and Ito's: told apart with any kind of colour vision, and three times as light or dark as a white
and a black page. Shape says the same again.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.typing import RcKeyType

from requant.documents.bilingual import Bilingual
from requant.documents.evaluation import STREAMS
from requant.evaluation.page.inline import INK
from requant.evaluation.page.words import page_words, word
from requant.ground.errors import FormatError
from requant.ground.text import UNITS

BLUE, ORANGE, GREEN, PINK = "#1F7FC1", "#D55E00", "#009E73", "#CC79A7"
WIDTH, ROW = 5.8, 0.3
"""Inches of a figure, and of one model in it."""
STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "requant", "text.parse_math": False, "font.size": 11,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.titlesize": 11,
    "grid.color": INK, "grid.alpha": 0.2, "legend.frameon": False, "legend.fontsize": 10.5, "lines.markersize": 7,
}  # fmt: skip
SMALLEST = 1e-9
"""Of a logarithmic axis, where zero and less have no place."""
LARGEST = 1e30
"""Of any axis; beyond it matplotlib's own arithmetic overflows."""
MOST_MODELS, LONGEST_NAME = 100, 20
Evaluation = Mapping[str, Any]


def label(name: str, **values: object) -> str:
    """What a figure says, in English, the language that it is drawn in."""
    return word(f"drawn.{name}").en.format(**values)


def translations() -> dict[str, str]:
    """Everything that a figure can say, names aside, in English and in Chinese."""
    drawn: Mapping[str, Bilingual] = page_words()["drawn"]
    found = {text.en.format(unit=unit): text.zh.format(unit=unit) for text in drawn.values() for unit, _ in UNITS}
    return found | {name.en: name.zh for name in stream_names().values()}


def stream_names() -> dict[str, Bilingual]:
    """What so many questions at a time are called, by the key that an evaluation has for them."""
    one, more = word("streams.one"), word("streams.more")
    return {str(count): (one if count == 1 else more).format(count=count) for count in STREAMS}


def require_few(models: Sequence[object]) -> None:
    """Raise FormatError where a figure has no room for so many models."""
    if len(models) > MOST_MODELS:
        raise FormatError(f"evaluation.json measures {len(models):,} models, and a figure has room for {MOST_MODELS}")


def finite(text: str) -> float:
    """A number of an evaluation that an axis can hold."""
    value = float(text)
    if not isfinite(value) or abs(value) > LARGEST:
        raise FormatError(f"evaluation.json holds the number {text}, which is too large to draw: measure again")
    return value


def short(name: str) -> str:
    """A name that leaves room for the figure."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def positive(text: str) -> float:
    """A number for a logarithmic axis."""
    return max(finite(text), SMALLEST)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Rows 0, 1, ... from top to bottom with these names."""
    axes.set_yticks(range(len(names)), map(short, names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def set_logarithmic(axes: Axes, axis: str, values: Sequence[float]) -> None:
    """A logarithmic axis that shows at least one power of ten, however near the values lie."""
    low, high = min(values) / 1.6, max(values) * 1.6
    while high / low < 12:
        low, high = low / 1.1, high * 1.1
    (axes.set_xscale if axis == "x" else axes.set_yscale)("log")
    (axes.set_xlim if axis == "x" else axes.set_ylim)(low, high)
    tick_powers(axes.xaxis if axis == "x" else axes.yaxis, low, high)


def tick_powers(axis: Axis, low: float, high: float) -> None:
    """Ticks of a logarithmic axis: powers of ten, and what lies between them where there are few."""
    axis.set_major_locator(LogLocator(numticks=8, subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,)))
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(NullFormatter())


def plain(value: float, _: object) -> str:
    """A number at an axis without matplotlib's markup, which a page would not understand."""
    return f"{value:g}"
