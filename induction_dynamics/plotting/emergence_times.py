"""Emergence times against context length, with the fitted laws: two logarithmic axes, one panel per query."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.scaling.laws import Interval, LawFit

SERIES = ("model", "inputs", "query", "measure", "threshold")
"""What rows and fits have in common: the points of one fit agree in these."""

_SHORT = {"quadratic": "$cN^2 + dN$", "quadratic_log": r"$N^2/\ln N$"}
_FAILED = ("solver_failed", "nonfinite")
_MANY = 1000  # points of a kind, beyond which they are an image in an .svg: as shapes they take seconds to open

Row = Mapping[str, Any]


def plot_emergence_times(rows: Sequence[Row], fits: Sequence[Row] = ()) -> Figure:
    """Draw emergence times T against context length N.

    Colour tells the measure, the marker tells the model (open for the full one), the size of the marker the threshold
    if there are several. A run that ended without an emergence time is a caret at its horizon, T > horizon N^2; one
    that failed is a cross there. Each fitted series shows its preferred law, or the power law if none is preferred; the
    key shortens N^2 / (a ln N + b) to N^2 / ln N, and always gives the exponent p of the power law.

    Args:
        rows: emergence times: mappings with the keys of `scaling.sweep.Row`, `time` being T in flow time or None and
            `horizon` in units of N^2.
        fits: mappings with `model`, `inputs`, `query`, `measure`, `threshold` as in the rows, `law`, `parameters`
            (name to `value`, `low`, `high`) and `preferred`: one for each law of each series.

    Returns:
        The figure.

    Raises:
        ArgumentError: there are no rows.

    Example:
        >>> common = {"inputs": "orthonormal", "query": "last", "measure": "beta_2", "threshold": 0.5}
        >>> row = {**common, "model": "circuit", "outcome": "emerged", "horizon": 12.0}
        >>> figure = plot_emergence_times([{**row, "context_length": n, "time": 2.0 * n**2} for n in (4, 8, 16)])
        >>> figure.axes[0].get_title()
        'query last, orthonormal inputs'
    """
    if not rows:
        raise ArgumentError("rows", list(rows), "at least one row")
    inputs, queries = (list(dict.fromkeys(row[key] for row in rows)) for key in ("inputs", "query"))
    measures = sorted({row["measure"] for row in rows}, key=lambda name: (name == "loss", name))
    found = dict.fromkeys(row["model"] for row in rows)
    models = sorted(found, key=lambda name: (*style.MARKERS, name).index(name))
    thresholds = sorted({float(row["threshold"]) for row in rows})
    keys = math.ceil(len({tuple(fit[key] for key in SERIES) for fit in fits}) / (2 * len(queries) * len(inputs)))
    width = 7.0 if len(thresholds) == 1 else 8.4
    figure = style.new_figure(width * len(queries), (5.4 + 0.25 * keys) * len(inputs) + 0.8)
    panels = figure.subplots(len(inputs), len(queries), squeeze=False, sharex=True, sharey=True)
    for i, kind in enumerate(inputs):
        for j, query in enumerate(queries):
            axes: Axes = panels[i][j]
            here = {"inputs": kind, "query": query}
            axes.set(xscale="log", yscale="log")
            axes.set_title(f"query {query}, {kind} inputs", fontsize=style.FONT["title"])
            style.dress(axes)
            axes.tick_params(labelbottom=True)
            _draw_points(axes, _matching(rows, here), measures, models, thresholds)
            _draw_fits(axes, _matching(rows, here), _matching(fits, here), thresholds)
            if axes.get_legend_handles_labels()[0]:
                below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 2}
                axes.legend(
                    **below, fontsize=style.FONT["legend"] - 1.0, frameon=False, columnspacing=1.0, handlelength=1.5
                )
            axes.set_xlabel("context length N (item-label pairs; 2N + 1 tokens)", fontsize=style.FONT["label"])
            if j == 0:
                axes.set_ylabel("emergence time T (flow time)", fontsize=style.FONT["label"])
    style.set_length_ticks(panels[0][0], sorted({row["context_length"] for row in rows}))
    _add_keys(figure, rows, measures, models, thresholds)
    return figure


def _matching(rows: Sequence[Row], wanted: Row) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _marker_size(threshold: float, thresholds: Sequence[float]) -> float:
    return 8.0 if len(thresholds) == 1 else 4.5 + 5.0 * thresholds.index(threshold) / (len(thresholds) - 1)


def _draw_points(
    axes: Axes, rows: Sequence[Row], measures: Sequence[str], models: Sequence[str], thresholds: Sequence[float]
) -> None:
    """One artist for all points that look alike: an artist for each would take milliseconds a point."""
    alike: dict[tuple[str, str, float, str], list[Row]] = {}
    for row in rows:
        gid = "emerged" if row["time"] is not None else "failed" if row["outcome"] in _FAILED else "censored"
        alike.setdefault((row["measure"], row["model"], float(row["threshold"]), gid), []).append(row)
    # Side by side, since measures and models share a horizon.
    places = [(model, measure) for measure in measures for model in models]
    for (measure, model, threshold, gid), points in alike.items():
        color, size, full = style.color(measure), _marker_size(threshold, thresholds), model == "full"
        lengths = np.array([row["context_length"] for row in points], float)
        common: dict[str, Any] = {"linestyle": "none", "gid": gid, "rasterized": len(points) > _MANY}
        if gid == "emerged":
            axes.plot(
                lengths,
                [row["time"] for row in points],
                marker=style.MARKERS.get(model, "v"),
                markersize=size + 1 if full else size,
                markerfacecolor="none" if full else color,
                markeredgecolor=color,
                markeredgewidth=1.8 if full else 0.0,
                alpha=1.0 if full else 0.8,
                zorder=4 if full else 3,
                **common,
            )
            continue
        shift = 1.3 ** (places.index((model, measure)) / max(len(places) - 1, 1) - 0.5)
        axes.plot(
            lengths * shift,
            np.array([row["horizon"] for row in points]) * lengths**2,
            marker="x" if gid == "failed" else "^",
            markersize=size,
            markerfacecolor="white",
            markeredgecolor=color,
            markeredgewidth=1.8,
            zorder=5,
            **common,
        )


def _draw_fits(axes: Axes, rows: Sequence[Row], fits: Sequence[Row], thresholds: Sequence[float]) -> None:
    series: dict[tuple[Any, ...], list[Row]] = {}
    for fit in fits:
        series.setdefault(tuple(fit[key] for key in SERIES), []).append(fit)
    for key, laws in series.items():
        power = next((fit for fit in laws if fit["law"] == "power"), None)
        shown = next((fit for fit in laws if fit["preferred"]), power)
        if shown is None:
            continue
        own = _matching(rows, dict(zip(SERIES, key, strict=True))) or rows
        lengths = [row["context_length"] for row in own]
        n = np.geomspace(min(lengths), max(lengths), 100)
        model, measure, threshold = shown["model"], shown["measure"], shown["threshold"]
        label = style.display(measure) + (f" at {threshold:g}" if len(thresholds) > 1 else "")
        words = [_SHORT[shown["law"]]] if shown["law"] in _SHORT else []
        if power is not None:
            words.append(f"$p = {power['parameters']['p']['value']:.2f}$")
        axes.plot(
            n,
            _curve(shown, n),
            color=style.color(measure),
            linestyle=style.LINES.get(model, "-"),
            linewidth=1.8,
            zorder=2,
            label=f"{label} {model}: {', '.join(words)}",
            gid="fit",
        )


def _curve(fit: Row, n: np.ndarray) -> np.ndarray:
    parameters = {
        name: Interval(float(x["value"]), float(x["low"]), float(x["high"])) for name, x in fit["parameters"].items()
    }
    law = LawFit(fit["law"], parameters, confidence=0.95, points=0, censored=0, aicc=None, preferred=fit["preferred"])
    return law.time(n)


def _add_keys(
    figure: Figure, rows: Sequence[Row], measures: Sequence[str], models: Sequence[str], thresholds: Sequence[float]
) -> None:
    """Keys: colours at the top (measures), markers at the bottom (models, thresholds, runs without a time)."""
    common: dict[str, Any] = {"fontsize": style.FONT["legend"], "frameon": False, "columnspacing": 1.4}
    colors = [Line2D([], [], color=style.color(name), linewidth=6, label=style.display(name)) for name in measures]
    figure.legend(handles=colors, loc="outside upper center", ncols=len(colors), handlelength=1.0, **common)
    gray: dict[str, Any] = {"linestyle": "none", "color": style.GRAY}
    marks = [
        Line2D(
            [],
            [],
            marker=style.MARKERS.get(model, "v"),
            markersize=9,
            markerfacecolor="none" if model == "full" else style.GRAY,
            label=model,
            **gray,
        )
        for model in models
    ]
    if len(thresholds) > 1:
        sizes = [_marker_size(x, thresholds) for x in thresholds]
        marks += [
            Line2D([], [], marker="o", markersize=size, label=f"at {x:g}", **gray)
            for x, size in zip(thresholds, sizes, strict=True)
        ]
    without = {row["outcome"] in _FAILED for row in rows if row["time"] is None}
    if False in without:
        marks.append(Line2D([], [], marker="^", markersize=9, mfc="white", label="not by then", **gray))
    if True in without:
        marks.append(Line2D([], [], marker="x", markersize=9, label="run failed", **gray))
    ncols = min(len(marks), 5 * len({row["query"] for row in rows}))
    figure.legend(handles=marks, loc="outside lower center", ncols=ncols, handletextpad=0.2, **common)
