"""Emergence time over the threshold, and where along it the order of the coordinates changes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style

Row = Mapping[str, Any]

_THREE = ("gamma_3", "beta_2", "alpha_3")
_TITLES = {
    "circuit": "three coordinates (circuit)",
    "subspace": "nineteen coordinates (subspace)",
    "full": "all weights, trained (full)",
}
_USUAL = (0.1, 0.5)
_BOTTOM = 0.03
"""Of the panels, in T / N^2: below it is nothing but `gamma_3` on its way to the plateau, in a time of order N."""
_CHANGE: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 7,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "markeredgewidth": 1.3,
}


def plot_thresholds(rows: Sequence[Row], changes: Sequence[Row]) -> Figure:
    """Draw T / N^2 against the threshold that a coordinate has to reach, T being its emergence time.

    A row of panels for each model, a column for each query. Colour tells the coordinate; the longer the context, the
    darker and wider the curve. The panels begin at T = 0.03 N^2; what is earlier is not shown. A curve ends, or has a
    gap, where the coordinate did not reach the threshold. Rings are where two curves of one run cross, so that the
    order of the two coordinates is another above than below.

    Args:
        rows: mappings with `model` (`circuit`, `subspace` or `full`), `query`, `context_length`, `seed` (None for a
            reduced flow), `threshold`, and under `gamma_3`, `beta_2`, `alpha_3` the flow times, None where there is
            none.
        changes: mappings with `model`, `query`, `context_length`, `threshold` and `time` of each crossing.

    Returns:
        The figure.

    Raises:
        ArgumentError: there are no rows.

    Example:
        >>> run = {"model": "circuit", "query": "last", "context_length": 4, "seed": None}
        >>> flat = run | {"gamma_3": 9.0, "alpha_3": 60.0}
        >>> times = [flat | {"threshold": x, "beta_2": 40 * x} for x in (0.5, 1.0, 2.0)]
        >>> figure = plot_thresholds(times, [run | {"threshold": 1.5, "time": 60.0}])
        >>> [axes.get_title() for axes in figure.axes]
        ['three coordinates (circuit), query last']
    """
    if not rows:
        raise ArgumentError("rows", list(rows), "at least one")
    models = [model for model in _TITLES if any(row["model"] == model for row in rows)]
    queries = [query for query in ("last", "uniform") if any(row["query"] == query for row in rows)]
    lengths = sorted({row["context_length"] for row in rows})
    figure = style.new_figure(0.6 + 6.8 * len(queries), 1.4 + 5.0 * len(models))
    panels = figure.subplots(len(models), len(queries), squeeze=False, sharex=True)
    for across, model in zip(panels, models, strict=True):
        for axes, query in zip(across, queries, strict=True):
            style.dress(axes)
            here = [row for row in rows if (row["model"], row["query"]) == (model, query)]
            _draw(axes, here, lengths)
            crossed = [row for row in changes if (row["model"], row["query"]) == (model, query)]
            if crossed:
                axes.plot(
                    [row["threshold"] for row in crossed],
                    [row["time"] / row["context_length"] ** 2 for row in crossed],
                    gid="changes",
                    zorder=5,
                    **_CHANGE,
                )
            for usual in _USUAL:
                axes.axvline(usual, color=style.GRAY, linestyle=(0, (1.5, 2.0)), linewidth=1.1, zorder=1, gid="usual")
            axes.set_yscale("log")
            axes.set_ylim(bottom=max(_BOTTOM, axes.get_ylim()[0]))
            length = {row["context_length"] for row in here}
            own = f", N = {length.pop()}" if model == "full" and len(length) == 1 else ""
            axes.set_title(f"{_TITLES[model]}, query {query}{own}", fontsize=style.FONT["title"])
            axes.set_ylabel("T / N$^2$ (flow time)", fontsize=style.FONT["label"])
            axes.set_xlabel("threshold of the coordinate", fontsize=style.FONT["label"])
    style.add_key_below(figure, _key(lengths, bool(changes)), columns=2 * len(queries))
    return figure


def _draw(axes: Axes, here: Sequence[Row], lengths: Sequence[int]) -> None:
    for run in dict.fromkeys((row["context_length"], row["seed"]) for row in here):
        own = sorted(
            (row for row in here if (row["context_length"], row["seed"]) == run), key=lambda row: row["threshold"]
        )
        for measure in _THREE:
            times = np.array([row[measure] for row in own], dtype=float)
            axes.plot(
                [row["threshold"] for row in own],
                times / float(run[0]) ** 2,
                gid=f"{measure} {run[0]}",
                **_look(style.color(measure), run[0], lengths),
            )


def _look(color: str, length: int, lengths: Sequence[int]) -> dict[str, Any]:
    """Darker and wider with N."""
    share = lengths.index(length) / max(len(lengths) - 1, 1)
    white = 0.62 * (1 - share)
    red, green, blue = (white + (1 - white) * part for part in to_rgb(color))
    return {"color": to_hex((red, green, blue)), "linewidth": 1.2 + 1.4 * share, "zorder": 2 + share}


def _key(lengths: Sequence[int], changed: bool) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], color=style.color(name), linewidth=2.4, label=style.display(name)) for name in _THREE
    ]
    handles += [Line2D([], [], color=style.GRAY, linestyle=(0, (1.5, 2.0)), linewidth=1.1, label="thresholds 0.1, 0.5")]
    if changed:
        handles.append(Line2D([], [], **_CHANGE, label="the order changes"))
    for length in lengths:
        look = _look("#303030", length, lengths)
        handles.append(Line2D([], [], color=look["color"], linewidth=look["linewidth"], label=f"N = {_words(length)}"))
    return handles


def _words(length: int) -> str:
    exponent = len(str(length)) - 1
    return f"10$^{exponent}$" if length == 10**exponent and exponent > 3 else str(length)
