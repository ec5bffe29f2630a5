"""What is off the subspace: sampling noise over time and batch size, and what is left of random starts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style

Row = Mapping[str, Any]

MEASURES = ("gamma_3", "beta_2", "alpha_3", "loss")
BAND = 0.1
"""Half the height of the band of ratios that count as predicted."""

_MARKERS = ("D", "s", "^", "v", "o", "P")
_SHADES = (0.0, 0.35, 0.55)
_TASK = ("inputs", "context_length", "embedding_dim")
_START = ("context_length", "embedding_dim", "query")


def plot_off_subspace(
    curves: Sequence[Row], ends: Sequence[Row], fits: Sequence[Row], starts: Sequence[Row], times: Sequence[Row]
) -> Figure:
    r"""Draw the off-subspace fraction f = ||W - sum_k theta_k B_k|| / ||W||, and trainings from random starts.

    Above, from zero: f(t) of the first task for each batch size B, in its mean and range over the seeds, with the
    expected fraction after one step as an open circle; and f at the end against B for each task, with a straight line
    of slope -1/2, f = sqrt(c/B) with c the `noise_of_three` of `fits`. Below, from random starts of every scale: the
    times of the first task, and of the loss of those that differ from it in D alone, over those of the reduced flow
    from zero, in their mean and range over the seeds, or a cross where one has no time; and of every task what
    the subspace captures of the weights and of their movement, and how many answers of the first are right.

    Args:
        curves: rows of `inputs`, `context_length`, `embedding_dim`, `batch_size`, `step`, `time`, `off_subspace`,
            `least` and `most`. Those of the step that comes first are drawn.
        ends: a row for each run, of the same names up to `step`, with `off_subspace` and `expected_after_one_step`.
        fits: rows of `inputs`, `context_length`, `embedding_dim`, `fitted`, `value`, `low` and `high`.
        starts: a row for each run: `context_length`, `embedding_dim`, `query`, `matrices`, `scale`,
            `captured_of_weights`, `captured_of_movement` and `answered`. Those of `matrices` "all" are drawn.
        times: a row for each time: the same up to `scale`, with `measure` and `per_flow_from_zero`, None where nothing
            emerged.

    Returns:
        The figure.

    Raises:
        ArgumentError: a table is empty, or no random part of a start is above 0.

    Example:
        >>> task = {"inputs": "orthonormal", "context_length": 4, "embedding_dim": 10, "step": 0.25}
        >>> rows = [task | {"batch_size": b, "time": t, "off_subspace": t / b, "least": t / b, "most": t / b}
        ...     for b in (16, 64) for t in (1.0, 2.0)]
        >>> ends = [row | {"expected_after_one_step": 0.9} for row in rows if row["time"] == 2.0]
        >>> fits = [task | {"fitted": name, "value": -0.5, "low": -0.6, "high": -0.4}
        ...     for name in ("batch_exponent", "batch_exponent_of_the_largest_two", "noise_of_three")]
        >>> run = {"context_length": 4, "embedding_dim": 10, "query": "last", "matrices": "all", "scale": 0.1}
        >>> starts = [run | {"captured_of_weights": 0.9, "captured_of_movement": 0.9, "answered": 1.0}]
        >>> times = [run | {"measure": "loss", "per_flow_from_zero": 1.01}]
        >>> len(plot_off_subspace(rows, ends, fits, starts, times).axes)
        4
    """
    given = {"curves": curves, "ends": ends, "fits": fits, "starts": starts, "times": times}
    for name, rows in given.items():
        if not rows:
            raise ArgumentError(name, list(rows), "at least one row")
    starts, times = ([row for row in rows if row["matrices"] == "all" and row["scale"] > 0] for rows in (starts, times))
    if not starts or not times:
        raise ArgumentError("starts", list(starts), "with a scale above 0")
    figure = style.new_figure(14.4, 11.6)
    (over_time, over_batch), (ratios, captured) = figure.subplots(2, 2)
    _draw_over_time(over_time, curves, ends)
    _draw_over_batch(over_batch, ends, fits)
    _draw_ratios(ratios, times)
    _draw_captured(captured, starts)
    return figure


def _draw_over_time(axes: Axes, curves: Sequence[Row], ends: Sequence[Row]) -> None:
    first = curves[0]
    here = [row for row in curves if _like(row, first, (*_TASK, "step"))]
    batches = sorted({row["batch_size"] for row in here})
    for place, size in enumerate(batches):
        color = _pale(style.OTHER_COLOR, 0.65 * place / max(len(batches) - 1, 1))
        time, mean, least, most = (
            np.array([row[name] for row in here if row["batch_size"] == size])
            for name in ("time", "off_subspace", "least", "most")
        )
        axes.plot(time, mean, color=color, linewidth=2.2, gid=f"batch {size}")
        axes.fill_between(time, least, most, color=color, alpha=0.25, linewidth=0)
        axes.annotate(
            f"B = {size}", (time[-1], mean[-1]), (6, 0), textcoords="offset points", va="center", fontsize=12.0
        )
        expected = [
            row["expected_after_one_step"]
            for row in ends
            if _like(row, first, (*_TASK, "step")) and row["batch_size"] == size
        ]
        if expected and expected[0] is not None:
            axes.plot(time[0], expected[0], "o", mfc="none", mec=color, mew=1.6, ms=9, gid="expected")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(0.8 * min(row["time"] for row in here), 2.6 * max(row["time"] for row in here))
    style.dress(axes)
    axes.set_title(f"from zero: {_of_task(first)}", fontsize=style.FONT["title"])
    axes.set_xlabel("flow time t", fontsize=style.FONT["label"])
    axes.set_ylabel("off-subspace fraction", fontsize=style.FONT["label"])
    circle = Line2D([], [], marker="o", mfc="none", mec=style.GRAY, mew=1.6, ms=9, linestyle="none")
    axes.legend([circle], ["expected after one step"], loc="lower left", fontsize=style.FONT["legend"], frameon=False)


def _draw_over_batch(axes: Axes, ends: Sequence[Row], fits: Sequence[Row]) -> None:
    step = ends[0]["step"]
    here = [row for row in ends if row["step"] == step]
    sizes = np.array(sorted({row["batch_size"] for row in here}), float)
    for place, task in enumerate(_distinct(here, _TASK)):
        own = [row for row in here if _like(row, task, _TASK)]
        found = {row["fitted"]: row for row in fits if _like(row, task, _TASK)}
        color = _pale(style.OTHER_COLOR, _SHADES[place % len(_SHADES)])
        slope, large = found["batch_exponent"], found["batch_exponent_of_the_largest_two"]
        axes.plot(
            [row["batch_size"] for row in own],
            [row["off_subspace"] for row in own],
            linestyle="none",
            marker=_MARKERS[place % len(_MARKERS)],
            mfc="none",
            mec=color,
            mew=1.5,
            ms=8,
            label=f"{_of_task(task)}: exponent\n{_interval(slope)}, largest two {_interval(large)}",
            gid="ends",
        )
        noise = max(found["noise_of_three"]["value"], 0.0)
        axes.plot(sizes, np.sqrt(noise / sizes), color=color, linewidth=1.6, gid="slope -1/2")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(sizes)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    style.dress(axes)
    horizon = max(row["time"] for row in ends if _like(row, ends[0], _TASK)) / ends[0]["context_length"] ** 2
    axes.set_title(f"at t = {horizon:g} N$^2$, with lines of slope −1/2", fontsize=style.FONT["title"])
    axes.set_xlabel("batch size B (sequences per step)", fontsize=style.FONT["label"])
    axes.set_ylabel("off-subspace fraction", fontsize=style.FONT["label"])
    axes.set_ylim(top=6 * max(row["off_subspace"] for row in here))  # room for the key
    axes.legend(loc="upper right", fontsize=style.FONT["legend"], frameon=False)


def _draw_ratios(axes: Axes, times: Sequence[Row]) -> None:
    first = times[0]
    series = [(first, measure) for measure in MEASURES]
    wider = [
        row for row in _distinct(times, _START) if _like(row, first, _START[::2]) and not _like(row, first, _START)
    ]
    series += [(task, "loss") for task in wider]
    axes.axhspan(1 - BAND, 1 + BAND, color="#ececec", zorder=0, gid="band")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for row, (task, measure) in enumerate(series):
        own = [one for one in times if _like(one, task, _START) and one["measure"] == measure]
        scales, ratios = _grouped(own, "per_flow_from_zero")
        shown = [place for place, values in enumerate(ratios) if None not in values]
        mean = np.array([np.mean(ratios[place]) for place in shown])
        ends = np.array([[min(ratios[place]), max(ratios[place])] for place in shown]).reshape(-1, 2)
        plain, color = task is first, style.color(measure)
        axes.errorbar(
            scales[shown],
            mean,
            yerr=np.abs(ends.T - mean),
            color=color,
            marker=style.MARKERS["full"],
            mfc=color if plain else "white",
            ms=6.5,
            linewidth=1.8,
            linestyle="-" if plain else (0, (4.0, 2.0)),
            capsize=3,
            label=style.display(measure) + ("" if plain else f", D = {task['embedding_dim']}"),
        )
        missing = scales[[place for place, values in enumerate(ratios) if None in values]]
        axes.plot(
            missing,
            np.full(len(missing), 0.97 - 0.05 * row),
            "x",
            color=color,
            ms=9,
            mew=2,
            gid=f"never {measure}",
            transform=axes.get_xaxis_transform(),
        )
    axes.yaxis.set_major_locator(FixedLocator([0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0]))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())
    style.dress(axes)
    axes.set_title(f"from random starts: {_of_start(first)}", fontsize=style.FONT["title"])
    axes.set_xlabel("scale of the random start", fontsize=style.FONT["label"])
    axes.set_ylabel("time / time of the reduced flow", fontsize=style.FONT["label"])
    axes.legend(loc="upper left", fontsize=style.FONT["legend"], frameon=False)


def _draw_captured(axes: Axes, starts: Sequence[Row]) -> None:
    for place, task in enumerate(_distinct(starts, _START)):
        own = [row for row in starts if _like(row, task, _START)]
        color = (
            _pale(style.OTHER_COLOR, 0.0) if place == 0 else _pale(style.COLORS["loss"], min(0.2 + 0.2 * place, 0.8))
        )
        for name, line in (("captured_of_weights", "-"), ("captured_of_movement", style.LINES["full"])):
            scales, values = _grouped(own, name)
            mean = [np.mean([value for value in several if value is not None] or [math.nan]) for several in values]
            axes.plot(
                scales,
                mean,
                color=color,
                linestyle=line,
                linewidth=2.0,
                marker=_MARKERS[place % len(_MARKERS)],
                ms=6,
                gid=name,
                label=_of_start(task) if name == "captured_of_weights" else None,
            )
    own = [row for row in starts if _like(row, starts[0], _START)]
    scales, values = _grouped(own, "answered")
    mean = [np.mean([value for value in several if value is not None] or [math.nan]) for several in values]
    axes.plot(scales, mean, color=style.COLORS["loss"], linestyle=style.LINES["circuit"], linewidth=2.0, gid="answered")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.04)
    style.dress(axes)
    axes.set_title("captured by the subspace at the end", fontsize=style.FONT["title"])
    axes.set_xlabel("scale of the random start", fontsize=style.FONT["label"])
    axes.set_ylabel("fraction", fontsize=style.FONT["label"])
    handles = [line for line in axes.lines if line.get_gid() == "captured_of_weights"]
    handles += [
        Line2D([], [], color=style.GRAY, linewidth=2.0, label="of ||W||$^2$"),
        Line2D([], [], color=style.GRAY, linewidth=2.0, linestyle=style.LINES["full"], label="of ||W − W(0)||$^2$"),
        Line2D([], [], color=style.COLORS["loss"], linewidth=2.0, linestyle=style.LINES["circuit"],
               label=f"right answers, {_of_start(starts[0])}"),
    ]  # fmt: skip
    axes.legend(handles=handles, loc="lower left", fontsize=style.FONT["legend"], frameon=False, handlelength=2.6)


def _grouped(rows: Sequence[Row], name: str) -> tuple[np.ndarray, list[list[Any]]]:
    """Scales above 0, and the values of all seeds at each."""
    scales = sorted({row["scale"] for row in rows})
    return np.array(scales, float), [[row[name] for row in rows if row["scale"] == scale] for scale in scales]


def _distinct(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The first row of each kind."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), row)
    return list(found.values())


def _like(row: Row, other: Row, names: Sequence[str]) -> bool:
    return all(row[name] == other[name] for name in names)


def _of_task(row: Row) -> str:
    return f"{row['inputs']}, N = {row['context_length']}, D = {row['embedding_dim']}"


def _of_start(row: Row) -> str:
    return f"N = {row['context_length']}, D = {row['embedding_dim']}, query {row['query']}"


def _interval(fit: Row) -> str:
    return f"{fit['value']:.2f} [{fit['low']:.2f}, {fit['high']:.2f}]"


def _pale(color: str, share: float) -> str:
    """A colour mixed with white."""
    return to_hex(tuple((1 - share) * np.array(to_rgb(color)) + share))
