"""What emerges when, run beside run: coordinates, loss, and the first crossing of one threshold by each."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES, LOSS, Emergence, emergence_times
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.coordinates import (
    add_key_of_the_quiet,
    draw_coordinates,
    draw_loss,
    label_coordinates,
)
from induction_dynamics.pseudo_parameters import COORDINATES

TIMES = 600
"""Evenly spaced times that a run is drawn at: its records may lie far apart where its solver took long steps."""


def plot_emergence_order(runs: Mapping[str, Trajectory], *, context_length: int, threshold: float = 0.5) -> Figure:
    """Draw runs side by side: theta_k(t), below it the loss L(t), and when each measure first crosses its threshold.

    The threshold of the three circuit coordinates is `threshold`, that of the loss half of its start. A dot marks each
    first crossing, a dotted line leads from it through both panels, and the title lists the times in their order.

    Args:
        runs: title of each column to its run.
        context_length: N, of all runs; the axis at the top shows t / N^2.
        threshold: of the coordinates, drawn as a faint line.

    Returns:
        The figure.

    Raises:
        ArgumentError: no runs, N below 1, or a threshold that cannot be crossed from zero.

    Example:
        >>> import numpy as np
        >>> time = np.linspace(0.0, 64.0, 50)
        >>> rising = np.tanh(time[:, None] / 20.0) * np.linspace(-1.0, 3.0, 19)
        >>> run = Trajectory(time, rising, 0.5 * np.exp(-time / 20.0), 0.0 * time, "horizon_reached")
        >>> figure = plot_emergence_order({"one run": run}, context_length=4)
        >>> print(figure.axes[0].get_title().splitlines()[0])
        one run
    """
    if not runs:
        raise ArgumentError("runs", dict(runs), "at least one run")
    if context_length < 1:
        raise ArgumentError("context_length", context_length, "at least 1")
    if not (math.isfinite(threshold) and threshold > 0):
        raise ArgumentError("threshold", threshold, "finite and above 0")
    figure = style.new_figure(1.6 + 6.4 * len(runs), 7.6)
    panels = figure.subplots(2, len(runs), squeeze=False, sharex="col", sharey="row", height_ratios=[3, 1])
    for column, (title, run) in enumerate(runs.items()):
        upper, lower = panels[:, column]
        t = np.linspace(run.time[0], run.time[-1], TIMES)
        theta, loss = run.at(t)
        draw_coordinates(upper, t, theta)
        draw_loss(lower, t, loss)
        for axes, level in ((upper, threshold), (lower, loss[0] / 2)):
            axes.axhline(level, color=style.GRAY, linewidth=1.0, alpha=0.6, zorder=1, gid="threshold")
        found = emergence_times(run, measures=DEFAULT_MEASURES, thresholds=(threshold,))
        for emergence in found:
            if emergence.time is not None:
                _mark(upper, lower, run, emergence.measure, emergence.time)
        style.dress_over_time([upper, lower], [float(t[0]), float(t[-1])], context_length)
        upper.set_title(f"{title}\n{_in_order(found)}", fontsize=style.FONT["label"])
    for axes in panels[:, 1:].flat:
        axes.set_ylabel("")
    panels[0, 0].set_ylabel("coordinate", fontsize=style.FONT["label"])
    for axes, run in zip(panels[0], runs.values(), strict=True):
        label_coordinates(axes, run.coordinates[-1])
    add_key_of_the_quiet(figure)
    dot = Line2D([], [], color=style.GRAY, marker="o", markersize=9, markeredgecolor="white", linestyle=":")
    dot.set_label(f"first crossing, its time at the top: coordinate {threshold:g}, loss half its start")
    style.add_key_below(figure, [dot])
    return figure


def _mark(upper: Axes, lower: Axes, run: Trajectory, measure: str, time: float) -> None:
    theta, loss = run.at(np.array([time]))
    axes, height = (lower, loss[0]) if measure == LOSS else (upper, theta[0, COORDINATES.index(measure)])
    for panel in (upper, lower):
        panel.axvline(
            time, color=style.color(measure), linestyle=":", linewidth=1.3, zorder=1, gid=f"time of {measure}"
        )
    axes.plot(
        time,
        height,
        marker="o",
        markersize=9,
        color=style.color(measure),
        markeredgecolor="white",
        linestyle="none",
        zorder=6,
        gid=f"crossing of {measure}",
    )


def _in_order(found: list[Emergence]) -> str:
    """The measures that emerged, with their times, from first to last; then those that did not."""
    timed = sorted((x.time, x.measure) for x in found if x.time is not None)
    words = [f"{style.display(measure)} {time:.4g}" for time, measure in timed]
    never = [style.display(x.measure) for x in found if x.time is None]
    return r"$\;\rightarrow\;$".join(words) + (f",   never {', '.join(never)}" if never else "")
