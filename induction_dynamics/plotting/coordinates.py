"""The nineteen coordinates and the loss along one run, or along two runs laid over each other."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style


def plot_coordinates(
    time: ArrayLike,
    coordinates: ArrayLike,
    loss: ArrayLike | None = None,
    *,
    context_length: int,
    highlight: Sequence[str] = ("alpha_3", "beta_2", "gamma_3"),
    title: str | None = None,
    overlay: tuple[ArrayLike, ArrayLike] | None = None,
) -> Figure:
    """Draw the coordinates theta_k(t), and below them the loss L(t).

    Args:
        time: t [T], increasing, in flow time.
        coordinates: theta [T, 19], in the order of `pseudo_parameters.COORDINATES`.
        loss: L [T]; without it there is no lower panel.
        context_length: N; the axis at the top shows t / N^2.
        highlight: names of the coordinates drawn strong and labelled at their ends.
        title: of the whole figure.
        overlay: t [T'] and theta [T', 19] of a second run (gradient training of the full model), drawn dashed in the
            same colours.

    Returns:
        The figure.

    Raises:
        ArgumentError: no times, shapes that do not fit, N below 1, or an unknown name in `highlight`.
    """
    # The names come with JAX, which nobody should wait for who draws something else.
    from induction_dynamics.pseudo_parameters import COORDINATES

    if context_length < 1:
        raise ArgumentError("context_length", context_length, "at least 1")
    if unknown := [name for name in highlight if name not in COORDINATES]:
        raise ArgumentError("highlight", unknown, f"among {', '.join(COORDINATES)}")
    t, theta = _run("time", "coordinates", time, coordinates, len(COORDINATES))
    figure = style.new_figure(9.6, 7.2 if loss is not None else 5.6)
    if loss is None:
        panels = [figure.subplots()]
    else:
        panels = list(figure.subplots(2, 1, sharex=True, height_ratios=[3, 1]))
    _draw(panels[0], t, theta, COORDINATES, highlight, "-")
    last = float(t[-1])
    if overlay is not None:
        other_t, other_theta = _run("overlay", "overlay", *overlay, len(COORDINATES))
        _draw(panels[0], other_t, other_theta, COORDINATES, highlight, style.LINES["full"])
        last = max(last, float(other_t[-1]))
    panels[0].set_ylabel("coordinate", fontsize=style.FONT["label"])
    if loss is not None:
        values = np.asarray(loss, dtype=float)
        if values.shape != t.shape:
            raise ArgumentError("loss", values.shape, f"as long as time {t.shape}")
        panels[1].plot(t, values, color=style.color("loss"), linewidth=2.4, gid="loss")
        panels[1].set_ylabel("loss", fontsize=style.FONT["label"])
        panels[1].set_ylim(bottom=min(0.0, float(np.nanmin(values))))
    for axes in panels:
        style.dress(axes)
        axes.set_xlim(float(t[0]), last if last > t[0] else float(t[0]) + 1.0)
    panels[-1].set_xlabel("flow time t", fontsize=style.FONT["label"])
    square = float(context_length) ** 2
    top = panels[0].secondary_xaxis("top", functions=(lambda x: x / square, lambda x: x * square))
    top.set_xlabel(f"t / N$^2$   (N = {context_length})", fontsize=style.FONT["label"])
    top.tick_params(labelsize=style.FONT["tick"])
    _label_ends(panels[0], theta[-1], COORDINATES, highlight)
    _add_keys(figure, COORDINATES, highlight, overlay is not None)
    if title is not None:
        figure.suptitle(title, fontsize=style.FONT["title"])
    return figure


def _run(
    time_name: str, name: str, time: ArrayLike, coordinates: ArrayLike, count: int
) -> tuple[np.ndarray, np.ndarray]:
    t, theta = np.asarray(time, dtype=float), np.asarray(coordinates, dtype=float)
    if t.ndim != 1 or t.size == 0:
        raise ArgumentError(time_name, t.shape, "a list of at least one time")
    if theta.shape != (t.size, count):
        raise ArgumentError(name, theta.shape, f"of shape ({t.size}, {count})")
    return t, theta


def _draw(
    axes: Axes,
    t: np.ndarray,
    theta: np.ndarray,
    names: Sequence[str],
    highlight: Sequence[str],
    line: style.LineStyle,
) -> None:
    for k, name in enumerate(names):
        strong = name in highlight
        axes.plot(
            t,
            theta[:, k],
            color=style.color(name),
            linestyle=line,
            linewidth=2.8 if strong else 1.5,
            zorder=4 if strong else 2,
            gid=name,
        )


def _label_ends(axes: Axes, ends: np.ndarray, names: Sequence[str], highlight: Sequence[str]) -> None:
    """Write the highlighted names beside the ends of their curves, pushed apart where two would overlap."""
    low, high = axes.get_ylim()
    gap = 0.075 * (high - low)
    ordered = sorted(highlight, key=lambda name: float(ends[names.index(name)]))
    heights = np.array([float(ends[names.index(name)]) for name in ordered])
    for _ in range(100):
        push = np.maximum(gap - np.diff(heights), 0.0) / 2
        heights[1:] += push
        heights[:-1] -= push
    for height, name in zip(heights, ordered, strict=True):
        axes.annotate(
            style.display(name),
            xy=(1.0, height),
            xycoords=axes.get_yaxis_transform(),
            xytext=(6, 0),
            textcoords="offset points",
            color=style.color(name),
            fontsize=style.FONT["label"] + 3,
            va="center",
            annotation_clip=False,
        )


def _add_keys(figure: Figure, names: Sequence[str], highlight: Sequence[str], overlay: bool) -> None:
    quiet = [
        Line2D([], [], color=style.color(name), linewidth=3, label=style.display(name))
        for name in names
        if name not in highlight
    ]
    entries = {"fontsize": style.FONT["legend"], "frameon": False}
    figure.legend(handles=quiet, loc="outside right center", handlelength=1.3, labelspacing=0.35, **entries)
    if overlay:
        runs = [
            Line2D([], [], color=style.GRAY, linewidth=2, linestyle="-", label="reduced flow"),
            Line2D([], [], color=style.GRAY, linewidth=2, linestyle=style.LINES["full"], label="full model"),
        ]
        figure.legend(handles=runs, loc="outside lower center", ncols=2, handlelength=3, **entries)
