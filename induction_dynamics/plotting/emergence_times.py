"""Emergence times against context length, with the fitted laws: two logarithmic axes, one panel per query."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.scaling.curves import LABELS, SERIES, has_failed, phrase
from induction_dynamics.scaling.laws import Interval, LawFit

_SHORT = {"quadratic": "$cN^2 + dN$", "quadratic_log": r"$N^2/\ln N$"}
_UNITS = {"flow": "flow time", "steps": "steps of training"}
_MANY = 1000  # points of a kind, beyond which they are an image in an .svg: as shapes they take seconds to open

Row = Mapping[str, Any]


def plot_emergence_times(
    rows: Sequence[Row], fits: Sequence[Row] = (), *, apart: Sequence[str] = (), note: str = ""
) -> Figure:
    """Draw emergence times T against context length N.

    Colour tells the measure, the marker tells the model (open for the full one), the size of the marker the threshold
    if there are several. A run that ended without an emergence time is a caret at its end, T > horizon N^2; one
    that failed is a cross there. Each fitted series shows its preferred law, or the power law if none is preferred; the
    key shortens N^2 / (a ln N + b) to N^2 / ln N, and always gives the exponent p of the power law. Where points are
    repeated, by seeds for one, a thin line goes through their geometric means; it breaks at an N at which some of them
    have no time.

    Args:
        rows: emergence times: mappings with the keys of `scaling.points.Row`, `time` being T in the unit `time_unit`
            (flow time where there is no such key) or None, and `horizon` in units of N^2.
        fits: mappings with `model`, `inputs`, `query`, `measure`, `threshold` as in the rows, `law`, `parameters`
            (name to `value`, `low`, `high`) and `preferred`: one for each law of each series. A fit without one of the
            first five is of all rows, whatever they have there.
        apart: further columns of rows and fits, of `curves.LABELS`: each combination of their values that occurs has
            panels of its own, in which there also is what has no value there.
        note: what the reader must know, set above all panels.

    Returns:
        The figure.

    Raises:
        ArgumentError: there are no rows, or their times are in several units.

    Example:
        >>> common = {"inputs": "orthonormal", "query": "last", "measure": "beta_2", "threshold": 0.5}
        >>> row = {**common, "model": "circuit", "outcome": "emerged", "horizon": 12.0}
        >>> figure = plot_emergence_times([{**row, "context_length": n, "time": 2.0 * n**2} for n in (4, 8, 16)])
        >>> figure.axes[0].get_title()
        'query last, orthonormal inputs'
    """
    if not rows:
        raise ArgumentError("rows", list(rows), "at least one row")
    units = list(dict.fromkeys(row.get("time_unit", "flow") for row in rows))
    if len(units) > 1:
        raise ArgumentError("rows", " and ".join(units), "with times in one unit")
    queries = list(dict.fromkeys(row["query"] for row in rows))
    measures = sorted({row["measure"] for row in rows}, key=lambda name: (name == "loss", name))
    found = dict.fromkeys(row["model"] for row in rows)
    models = sorted(found, key=lambda name: (*style.MARKERS, name).index(name))
    thresholds = sorted({float(row["threshold"]) for row in rows})
    places = _places(rows, queries, apart)
    curves = [len({_series(fit) for fit in _matching(fits, here)}) for line in places for here in line]
    keys = math.ceil(sum(curves) / (2 * len(curves)))
    columns = max(map(len, places))
    width = 7.0 if len(thresholds) == 1 else 8.4
    figure = style.new_figure(width * columns, (5.4 + 0.25 * keys) * len(places) + 0.8)
    panels = figure.subplots(len(places), columns, squeeze=False, sharex=True, sharey=True)
    for i, line in enumerate(places):
        for j, here in enumerate(line):
            axes: Axes = panels[i][j]
            axes.set(xscale="log", yscale="log")
            further = _plain(", ".join(phrase(name, here[name]) for name in apart if here[name] is not None))
            title = f"query {here['query']}, {here['inputs']} inputs" + (f"\n{further}" if further else "")
            axes.set_title(title, fontsize=style.FONT["title"])
            style.dress(axes)
            axes.tick_params(labelbottom=True)
            _draw_points(axes, _matching(rows, here), measures, models, thresholds)
            _draw_means(axes, _matching(rows, here))
            _draw_fits(axes, _matching(rows, here), _matching(fits, here), thresholds, apart)
            if axes.get_legend_handles_labels()[0]:
                below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 2}
                axes.legend(
                    **below, fontsize=style.FONT["legend"] - 1.0, frameon=False, columnspacing=1.0, handlelength=1.5
                )
            axes.set_xlabel("context length N (item-label pairs; 2N + 1 tokens)", fontsize=style.FONT["label"])
            if j == 0:
                axes.set_ylabel(f"emergence time T ({_UNITS[units[0]]})", fontsize=style.FONT["label"])
    for axes in panels.flat[sum(map(len, places)) :]:
        axes.remove()
    style.set_length_ticks(panels[0][0], sorted({row["context_length"] for row in rows}))
    _add_keys(figure, rows, measures, models, thresholds, columns, note)
    return figure


def _places(rows: Sequence[Row], queries: Sequence[str], apart: Sequence[str]) -> list[list[dict[str, Any]]]:
    """What the rows of each panel have in common, in lines of panels."""
    names = ("inputs", *apart)
    found = list(dict.fromkeys(tuple(row.get(name) for name in names) for row in rows))
    # rows on which a column has no effect stand beside those of each of its values
    kept = [
        dict(zip(names, values, strict=True))
        for values in found
        if not any(
            other != values and all(a in (None, b) for a, b in zip(values, other, strict=True)) for other in found
        )
    ]
    if len(queries) > 1 or not apart:
        return [[here | {"query": query} for query in queries] for here in kept]
    single = [here | {"query": queries[0]} for here in kept]
    return [single[first : first + 2] for first in range(0, len(single), 2)]


def _matching(rows: Sequence[Row], wanted: Row) -> list[Row]:
    """Rows, or fits, that have these values or none."""
    return [row for row in rows if all(row.get(key) in (None, value) for key, value in wanted.items())]


def _marker_size(threshold: float, thresholds: Sequence[float]) -> float:
    return 8.0 if len(thresholds) == 1 else 4.5 + 5.0 * thresholds.index(threshold) / (len(thresholds) - 1)


def _draw_points(
    axes: Axes, rows: Sequence[Row], measures: Sequence[str], models: Sequence[str], thresholds: Sequence[float]
) -> None:
    """One artist for all points that look alike: an artist for each would take milliseconds a point."""
    alike: dict[tuple[str, str, float, str], list[Row]] = {}
    for row in rows:
        gid = "emerged" if row["time"] is not None else "failed" if has_failed(row) else "censored"
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
            [_end(row) for row in points],
            marker="x" if gid == "failed" else "^",
            markersize=size,
            markerfacecolor="white",
            markeredgecolor=color,
            markeredgewidth=1.8,
            zorder=5,
            **common,
        )


def _end(row: Row) -> float:
    """Time at which the run was given up."""
    return float(row["steps"] if row["horizon"] is None else row["horizon"] * row["context_length"] ** 2)


def _draw_means(axes: Axes, rows: Sequence[Row]) -> None:
    """A line through the geometric means of points that are repeated."""
    alike: dict[tuple[str, str, float], dict[int, list[float]]] = {}
    for row in rows:
        series = alike.setdefault((row["measure"], row["model"], float(row["threshold"])), {})
        series.setdefault(row["context_length"], []).append(math.nan if row["time"] is None else row["time"])
    for (measure, _, _), repeats in alike.items():
        if max(map(len, repeats.values())) > 1:
            lengths = sorted(repeats)
            means = [float(np.exp(np.mean(np.log(repeats[n])))) for n in lengths]
            axes.plot(lengths, means, color=style.color(measure), linewidth=0.8, alpha=0.6, zorder=2, gid="mean")


def _draw_fits(
    axes: Axes, rows: Sequence[Row], fits: Sequence[Row], thresholds: Sequence[float], apart: Sequence[str]
) -> None:
    series: dict[tuple[Any, ...], list[Row]] = {}
    for fit in fits if rows else ():
        series.setdefault(_series(fit), []).append(fit)
    for laws in series.values():
        power = next((fit for fit in laws if fit["law"] == "power"), None)
        shown = next((fit for fit in laws if fit["preferred"]), power)
        if shown is None:
            continue
        own = _matching(rows, {name: shown[name] for name in (*SERIES, *apart) if shown.get(name) is not None}) or rows
        lengths = [row["context_length"] for row in own]
        n = np.geomspace(min(lengths), max(lengths), 100)
        words = [_SHORT[shown["law"]]] if shown["law"] in _SHORT else []
        if power is not None:
            words.append(f"$p = {power['parameters']['p']['value']:.2f}$")
        axes.plot(
            n,
            _curve(shown, n),
            color=style.color(shown["measure"]) if "measure" in shown else style.GRAY,
            linestyle=style.LINES.get(shown.get("model", ""), "-"),
            linewidth=1.8,
            zorder=2,
            label=f"{_name(shown, thresholds, apart)}: {', '.join(words)}",
            gid="fit",
        )


def _series(fit: Row) -> tuple[Any, ...]:
    return tuple(fit.get(name) for name in LABELS)


def _name(fit: Row, thresholds: Sequence[float], apart: Sequence[str]) -> str:
    """What a fit is of, within its panel."""
    parts = [style.display(fit["measure"])] if "measure" in fit else []
    parts += [f"at {fit['threshold']:g}"] if "threshold" in fit and len(thresholds) > 1 else []
    parts += [fit["model"]] if "model" in fit else []
    further = [name for name in LABELS if name not in (*SERIES, *apart) and fit.get(name) is not None]
    return ", ".join([" ".join(parts) or "all", *(_plain(phrase(name, fit[name])) for name in further)])


def _plain(words: str) -> str:
    """Words in which a dollar, as in a folder's name, begins no formula."""
    return words.replace("$", r"\$")


def _curve(fit: Row, n: np.ndarray) -> np.ndarray:
    parameters = {
        name: Interval(float(x["value"]), float(x["low"]), float(x["high"])) for name, x in fit["parameters"].items()
    }
    law = LawFit(fit["law"], parameters, confidence=0.95, points=0, censored=0, aicc=None, preferred=fit["preferred"])
    return law.time(n)


def _add_keys(
    figure: Figure,
    rows: Sequence[Row],
    measures: Sequence[str],
    models: Sequence[str],
    thresholds: Sequence[float],
    columns: int,
    note: str,
) -> None:
    """Keys: colours at the top (measures), markers at the bottom (models, thresholds, runs without a time)."""
    common: dict[str, Any] = {"fontsize": style.FONT["legend"], "frameon": False, "columnspacing": 1.4}
    colors = [Line2D([], [], color=style.color(name), linewidth=6, label=style.display(name)) for name in measures]
    title = {"title": _plain(textwrap.fill(note, 80 * columns)), "title_fontsize": style.FONT["legend"]} if note else {}
    figure.legend(handles=colors, loc="outside upper center", ncols=len(colors), handlelength=1.0, **title, **common)
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
    without = {has_failed(row) for row in rows if row["time"] is None}
    if False in without:
        marks.append(Line2D([], [], marker="^", markersize=9, mfc="white", label="not by then", **gray))
    if True in without:
        marks.append(Line2D([], [], marker="x", markersize=9, label="run failed", **gray))
    if any(line.get_gid() == "mean" for axes in figure.axes for line in axes.lines):
        marks.append(Line2D([], [], color=style.GRAY, linewidth=0.8, label=" mean of repeats"))
    ncols = min(len(marks), 5 * columns)
    figure.legend(handles=marks, loc="outside lower center", ncols=ncols, handletextpad=0.2, **common)
