"""The nineteen coordinates and the loss along one run, or along two runs laid over each other."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES

AWAY_FROM_ZERO = 0.3
"""Size of its last value from which one of the quiet coordinates is named beside its curve."""


def plot_coordinates(
    time: ArrayLike,
    coordinates: ArrayLike,
    loss: ArrayLike | None = None,
    *,
    context_length: int,
    highlight: Sequence[str] = CIRCUIT,
    title: str | None = None,
    overlay: tuple[ArrayLike, ArrayLike] | None = None,
    time_unit: str = "flow",
) -> Figure:
    """Draw the coordinates theta_k(t), and below them the loss L(t).

    Args:
        time: t [T], increasing, in flow time (see `time_unit`).
        coordinates: theta [T, 19], in the order of `pseudo_parameters.COORDINATES`.
        loss: L [T]; without it there is no lower panel.
        context_length: N; the axis at the top shows t / N^2.
        highlight: names of the coordinates drawn strong and labelled at their ends; the others are labelled, in
            smaller letters, where they end further than `AWAY_FROM_ZERO` from 0.
        title: of the whole figure.
        overlay: t [T'] and theta [T', 19] of a second run (gradient training of the full model), drawn dashed in the
            same colours.
        time_unit: `flow`, or `steps` of a training that has no flow time.

    Returns:
        The figure.

    Raises:
        ArgumentError: no times, shapes that do not fit, N below 1, or an unknown name in `highlight`.

    Example:
        >>> import numpy as np
        >>> time = np.linspace(0.0, 64.0, 50)
        >>> rising = np.tanh(time[:, None] / 20.0) * np.linspace(-1.0, 3.0, 19)
        >>> figure = plot_coordinates(time, rising, 0.5 * np.exp(-time / 20.0), context_length=4)
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['coordinate', 'loss']
    """
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
    draw_coordinates(panels[0], t, theta, highlight=highlight)
    times = [float(t[0]), float(t[-1])]
    if overlay is not None:
        other_t, other_theta = _run("overlay", "overlay", *overlay, len(COORDINATES))
        draw_coordinates(panels[0], other_t, other_theta, highlight=highlight, line=style.LINES["full"])
        times.append(float(other_t[-1]))
    panels[0].set_ylabel("coordinate", fontsize=style.FONT["label"])
    if loss is not None:
        values = np.asarray(loss, dtype=float)
        if values.shape != t.shape:
            raise ArgumentError("loss", values.shape, f"as long as time {t.shape}")
        draw_loss(panels[1], t, values)
    style.dress_over_time(panels, times, context_length, time_unit)
    label_coordinates(panels[0], theta[-1], highlight=highlight)
    add_key_of_the_quiet(figure, highlight)
    if overlay is not None:
        style.add_key_below(figure, key_of_models())
    if title is not None:
        figure.suptitle(title, fontsize=style.FONT["title"])
    return figure


def draw_coordinates(
    axes: Axes,
    x: np.ndarray,
    theta: np.ndarray,
    *,
    highlight: Sequence[str] = CIRCUIT,
    line: style.LineStyle = "-",
    width: float = 2.8,
    marker: str = "",
) -> None:
    """Draw one curve for each coordinate, found again by its name as gid.

    Args:
        axes: the panel.
        x: [X], what the coordinates are drawn against.
        theta: [X, 19], in the order of `pseudo_parameters.COORDINATES`.
        highlight: names of the strong curves.
        line: line style.
        width: of the strong curves, in points; the pale ones have a little over half of it.
        marker: at every point; none by default.
    """
    for k, name in enumerate(COORDINATES):
        strong = name in highlight
        axes.plot(
            x,
            theta[:, k],
            color=style.color(name),
            linestyle=line,
            linewidth=width if strong else 0.54 * width,
            marker=marker,
            markersize=8 if strong else 4.5,
            zorder=4 if strong else 2,
            gid=name,
        )


def label_coordinates(
    axes: Axes,
    ends: np.ndarray,
    *,
    highlight: Sequence[str] = CIRCUIT,
    apart: float = 0.075,
    last: float | None = None,
) -> None:
    """Name the strong curves at their ends, and in smaller letters those others that end away from zero.

    Args:
        axes: the panel, with everything drawn in it.
        ends: [19], the last values, in the order of `pseudo_parameters.COORDINATES`.
        highlight: names of the strong curves.
        apart: smallest distance of two names, as a fraction of the panel's height.
        last: where on the horizontal axis the curves end; at the right edge by default.
    """
    found = dict(zip(COORDINATES, ends.tolist(), strict=True))
    named = {name: end for name, end in found.items() if name in highlight or abs(end) > AWAY_FROM_ZERO}
    style.label_ends(axes, named, small=[name for name in named if name not in highlight], apart=apart, last=last)


def draw_loss(axes: Axes, t: np.ndarray, loss: np.ndarray) -> None:
    """Draw a loss over a scale that includes 0.

    Args:
        axes: the panel.
        t: [T], in flow time.
        loss: L [T].
    """
    axes.plot(t, loss, color=style.color("loss"), linewidth=2.4, gid="loss")
    axes.set_ylabel("loss", fontsize=style.FONT["label"])
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(loss))))


def add_key_of_the_quiet(figure: Figure, highlight: Sequence[str] = CIRCUIT) -> None:
    """Put the names of the pale curves to the right of all panels.

    Args:
        figure: the figure.
        highlight: names of the strong curves, which stand at their ends and not in the key.
    """
    quiet = [
        Line2D([], [], color=style.color(name), linewidth=3, label=style.display(name))
        for name in COORDINATES
        if name not in highlight
    ]
    figure.legend(
        handles=quiet,
        loc="outside right center",
        handlelength=1.3,
        labelspacing=0.35,
        borderpad=1.0,
        fontsize=style.FONT["legend"],
        frameon=False,
    )


def key_of_models(trained: str = "full model") -> list[Line2D]:
    """Handles for a key: what is drawn solid and what is dashed.

    Args:
        trained: words for the trained model.
    """
    return [
        Line2D([], [], color=style.GRAY, linewidth=2, linestyle="-", label="reduced flow"),
        Line2D([], [], color=style.GRAY, linewidth=2, linestyle=style.LINES["full"], label=trained),
    ]


def _run(
    time_name: str, name: str, time: ArrayLike, coordinates: ArrayLike, count: int
) -> tuple[np.ndarray, np.ndarray]:
    t, theta = np.asarray(time, dtype=float), np.asarray(coordinates, dtype=float)
    if t.ndim != 1 or t.size == 0:
        raise ArgumentError(time_name, t.shape, "a list of at least one time")
    if theta.shape != (t.size, count):
        raise ArgumentError(name, theta.shape, f"of shape ({t.size}, {count})")
    return t, theta
