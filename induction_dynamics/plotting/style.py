"""One look for every picture: a colour per coordinate, a marker per model, sizes, and saving byte by byte alike."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogFormatterMathtext, NullLocator, ScalarFormatter
from matplotlib.transforms import ScaledTranslation
from scipy.optimize import isotonic_regression

from induction_dynamics.errors import ArgumentError

LineStyle = Literal["-"] | tuple[int, tuple[float, ...]]

COLORS: dict[str, str] = {
    # The circuit and the loss: Okabe and Ito's colours, told apart by colour-blind readers.
    "alpha_3": "#0072b2",
    "beta_2": "#d55e00",
    "gamma_3": "#009e73",
    "loss": "#000000",
    # The other sixteen: pale, and spread as far apart in CIELAB as paleness allows, for normal, deuteranope and
    # protanope vision; furthest the five that are largest from N = 4 on: alpha_1, beta_1, beta_10, gamma_2, gamma_4.
    "alpha_1": "#46caee",
    "alpha_2": "#5ecad0",
    "beta_1": "#e2acac",
    "beta_3": "#7cb888",
    "beta_4": "#c49ab2",
    "beta_5": "#d0dca6",
    "beta_6": "#9ad6ca",
    "beta_7": "#e2d6be",
    "beta_8": "#8e9a64",
    "beta_9": "#acdcf4",
    "beta_10": "#b87cac",
    "beta_11": "#82a6ca",
    "beta_12": "#7c8eca",
    "gamma_1": "#70948e",
    "gamma_2": "#9a8246",
    "gamma_4": "#a6c482",
}
"""Colour of each coordinate and of the loss, the same in every picture."""

OTHER_COLOR = "#a0328c"
"""Colour of a measure that is neither a coordinate nor the loss."""

MARKERS: dict[str, str] = {"circuit": "o", "subspace": "s", "full": "D"}
LINES: dict[str, LineStyle] = {
    "circuit": (0, (1.2, 1.4)),
    "subspace": "-",
    "full": (0, (5.0, 2.0)),
}
"""Marker and line style of each model, `circuit` and `subspace` being the reduced flows."""

FONT = {"title": 14.0, "label": 14.0, "tick": 12.5, "legend": 12.0}
"""Font sizes in points, readable when a picture is shown at half its size."""

GRAY = "#6e6e6e"

SHADES = LinearSegmentedColormap.from_list("attention", ["#ebebeb", "#111111"])
"""Of attention, since colour is left to the coordinates. What is masked is white, and an attention of 0 is not."""

DOTS_PER_INCH = 200
SUFFIXES = (".png", ".svg", ".pdf")


def color(name: str) -> str:
    """Colour of a coordinate or of `loss`; one colour for all other measures.

    Args:
        name: such as `alpha_3`.
    """
    return COLORS.get(name, OTHER_COLOR)


def text_color(name: str) -> str:
    """Colour of a coordinate's name: that of its curve, darkened where it is too pale to be read.

    Args:
        name: such as `alpha_3`.
    """
    rgb = np.array(to_rgb(color(name)))
    return color(name) if rgb.mean() < 0.45 else to_hex(tuple(0.65 * rgb))


def display(name: str, *, bold: bool = False) -> str:
    r"""The name as set in a figure: `alpha_3` as $\alpha_3$; sums term by term; other names as they are.

    Args:
        name: such as `alpha_3`, `gamma_2+gamma_3` or `loss`.
        bold: whether symbols are set in bold.
    """
    terms = [term.strip() for term in name.split("+")]
    if not all(term in COLORS and term != "loss" for term in terms):
        return name.replace("_", " ")
    symbols = [rf"\{letter}_{{{index}}}" for letter, _, index in (term.partition("_") for term in terms)]
    symbol = " + ".join(symbols)
    return rf"$\mathbfit{{{symbol}}}$" if bold else f"${symbol}$"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure on white, laid out so that nothing is cut off.

    Args:
        width: in inches.
        height: in inches.
    """
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def dress(axes: Axes) -> None:
    """Give one panel the common look: tick sizes, a faint grid, no frame at the top and on the right.

    Args:
        axes: the panel.
    """
    axes.tick_params(which="both", labelsize=FONT["tick"])
    axes.grid(True, which="major", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def dress_over_time(
    panels: Sequence[Axes], times: Sequence[float], context_length: int, time_unit: str = "flow"
) -> None:
    """Give panels that lie below each other the common look over one flow time, with t / N^2 on an axis at the top.

    Args:
        panels: from the top down.
        times: t, of which the smallest and the largest bound the axis.
        context_length: N.
        time_unit: `flow`, or `steps`, which have no axis at the top.
    """
    first, last = min(times), max(times)
    for axes in panels:
        dress(axes)
        axes.set_xlim(first, last if last > first else first + 1.0)
    panels[-1].set_xlabel("flow time t" if time_unit == "flow" else "step", fontsize=FONT["label"])
    if time_unit != "flow":
        return
    square = float(context_length) ** 2
    top = panels[0].secondary_xaxis(
        "top", functions=(lambda t: np.asarray(t) / square, lambda x: np.asarray(x) * square)
    )
    top.set_xlabel(f"t / N$^2$   (N = {context_length})", fontsize=FONT["label"])
    top.tick_params(labelsize=FONT["tick"])


def set_length_ticks(axes: Axes, lengths: Sequence[int]) -> None:
    """Label context lengths on a logarithmic axis, leaving out those too close to the one before.

    Args:
        axes: the panel.
        lengths: N, increasing.
    """
    span = math.log(lengths[-1] / lengths[0])
    kept = [lengths[0]]
    for n in lengths[1:]:
        if math.log(n / kept[-1]) > 0.11 * span:
            kept.append(n)
    axes.xaxis.set_major_locator(FixedLocator([float(n) for n in kept]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(lengths[0] / 1.3, lengths[-1] * 1.3)


def set_decades(axes: Axes, first: float, last: float) -> None:
    """A logarithmic axis of context lengths with a tick at each power of ten.

    Args:
        axes: the panel.
        first: smallest N.
        last: largest N.
    """
    axes.set_xscale("log")
    decades = range(math.ceil(math.log10(first)), math.floor(math.log10(last)) + 1)
    axes.xaxis.set_major_locator(FixedLocator([10.0**k for k in decades]))
    axes.xaxis.set_major_formatter(LogFormatterMathtext())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(first / 1.5, last * 1.5)


def label_ends(
    axes: Axes,
    ends: Mapping[str, float],
    *,
    small: Sequence[str] = (),
    apart: float = 0.075,
    last: float | None = None,
) -> None:
    """Write names beside the ends of their curves, pushed apart where two would overlap, and then led back by a line.

    Args:
        axes: the panel, with everything drawn in it.
        ends: name to the height at which its curve ends.
        small: names in smaller letters.
        apart: smallest distance of two names, as a fraction of the panel's height; of two small ones 3/4 of it.
        last: where on the horizontal axis the curves end; at the right edge by default.
    """
    low, high = axes.get_ylim()
    # a run that failed has no end to write beside
    ordered = sorted((name for name in ends if math.isfinite(ends[name])), key=lambda name: ends[name])
    if not ordered:
        return
    sizes = apart * (high - low) * np.array([0.75 if name in small else 1.0 for name in ordered])
    lowest = np.concatenate([[0.0], np.cumsum((sizes[1:] + sizes[:-1]) / 2)])
    wanted = np.array([ends[name] for name in ordered])
    # the nearest heights, in the sum of squares, that keep the order and the distances
    heights = isotonic_regression(wanted - lowest).x + lowest
    pushed = np.abs(heights - wanted) > 0.2 * sizes
    edge = axes.get_yaxis_transform()
    beside = edge + ScaledTranslation((24 if pushed.any() else 6) / 72, 0.0, axes.figure.dpi_scale_trans)
    for name, height, far in zip(ordered, heights, pushed, strict=True):
        line = {"arrowstyle": "-", "color": text_color(name), "linewidth": 0.9, "relpos": (0.0, 0.5)}
        axes.annotate(
            display(name),
            xy=(1.0 if last is None else last, ends[name]),
            xycoords=edge if last is None else "data",
            xytext=(1.0, height),
            textcoords=beside,
            arrowprops=line | {"shrinkA": 1.0, "shrinkB": 2.0 if last is None else 6.0} if far else None,
            color=text_color(name),
            fontsize=FONT["legend"] + 1 if name in small else FONT["label"] + 3,
            va="center",
            annotation_clip=False,
        )


def add_key_below(figure: Figure, handles: Sequence[Artist], columns: int = 2) -> None:
    """Put a key of line styles and marks below all panels.

    Args:
        figure: the figure.
        handles: artists with labels.
        columns: of the key.
    """
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        handlelength=3,
        fontsize=FONT["legend"],
        frameon=False,
    )


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Save a figure so that the same figure gives the same bytes.

    Args:
        figure: what to save.
        path: file name ending in .png (200 dots per inch), .svg or .pdf; folders are made as needed.

    Returns:
        The path.

    Raises:
        ArgumentError: `path` has another ending.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ArgumentError("path", str(path), "a file name ending in .png, .svg or .pdf")
    path.parent.mkdir(parents=True, exist_ok=True)
    # The date, the release of matplotlib and random identifiers would differ from run to run.
    kept_out = {".png": ("Software",), ".svg": ("Date", "Creator"), ".pdf": ("CreationDate", "Creator", "Producer")}
    metadata = dict.fromkeys(kept_out[path.suffix])
    with matplotlib.rc_context({"svg.hashsalt": "induction-dynamics", "svg.fonttype": "path", "pdf.fonttype": 42}):
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata=metadata)
    return path
