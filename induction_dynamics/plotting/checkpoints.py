"""The nineteen coordinates along a series of weights on disk, over what they leave unexplained."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.coordinates import add_key_of_the_quiet, draw_coordinates, label_coordinates
from induction_dynamics.pseudo_parameters import COORDINATES

AXES = {"flow": "flow time t", "checkpoint": "checkpoint"}
"""Words on the horizontal axis for each unit of time."""

OFF_SUBSPACE: dict[str, tuple[str, style.LineStyle]] = {
    "W1": ("#9a9a9a", (0, (1.2, 1.4))),
    "W2": ("#9a9a9a", (0, (5.0, 2.0))),
    "W3": ("#9a9a9a", "-"),
    "total": ("#000000", "-"),
}
"""Colour and line style of each off-subspace fraction, in the order of `pseudo_parameters.OffSubspace`."""

_MOST_LABELS = 12
_LONGEST_LABEL = 24


def plot_checkpoints(
    positions: ArrayLike,
    coordinates: ArrayLike,
    off_subspace: ArrayLike,
    *,
    time_unit: str,
    labels: Sequence[str] = (),
) -> Figure:
    """Draw the coordinates of each checkpoint, and below them ||W - sum_k theta_k B_k|| / ||W||.

    Args:
        positions: [F], increasing; flow time of each checkpoint, or its number.
        coordinates: theta [F, 19], in the order of `pseudo_parameters.COORDINATES`.
        off_subspace: [F, 4], of W1, W2, W3 and in total.
        time_unit: `flow` where the positions are flow times, else `checkpoint`.
        labels: name of each checkpoint, to stand at its number where there are few; not with flow times.

    Returns:
        The figure.

    Raises:
        ArgumentError: no positions, shapes that do not fit, or another unit.

    Example:
        >>> import numpy as np
        >>> rising = np.linspace(0.0, 1.0, 5)[:, None] * np.linspace(-1.0, 3.0, 19)
        >>> figure = plot_checkpoints(np.arange(5), rising, np.full((5, 4), 0.1), time_unit="checkpoint")
        >>> [len(axes.lines) for axes in figure.axes]
        [19, 4]
    """
    if time_unit not in AXES:
        raise ArgumentError("time_unit", time_unit, " or ".join(AXES))
    x, theta, missed = (np.asarray(values, dtype=float) for values in (positions, coordinates, off_subspace))
    if x.ndim != 1 or x.size == 0:
        raise ArgumentError("positions", x.shape, "a list of at least one position")
    for name, values, columns in (("coordinates", theta, len(COORDINATES)), ("off_subspace", missed, 4)):
        if values.shape != (x.size, columns):
            raise ArgumentError(name, values.shape, f"of shape ({x.size}, {columns})")
    if len(labels) not in (0, x.size):
        raise ArgumentError("labels", len(labels), f"as many as positions ({x.size})")

    figure = style.new_figure(9.6, 7.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    draw_coordinates(upper, x, theta, marker="o" if x.size <= 4 * _MOST_LABELS else "")
    for column, (name, (color, line)) in enumerate(OFF_SUBSPACE.items()):
        lower.plot(x, missed[:, column], color=color, linestyle=line, linewidth=2.4, label=name, gid=name)
    upper.set_ylabel("coordinate", fontsize=style.FONT["label"])
    lower.set_ylabel("off-subspace\nfraction", fontsize=style.FONT["label"])
    lower.set_xlabel(AXES[time_unit], fontsize=style.FONT["label"])
    for axes in (upper, lower):
        style.dress(axes)
    margin = 0.02 * (x[-1] - x[0]) if x.size > 1 else 0.5
    lower.set_xlim(x[0] - margin, x[-1] + margin)
    lower.set_ylim(0.0, 1.05 * max(float(missed.max()), 0.01))
    place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.2}
    lower.legend(**place, ncols=4, handlelength=2.2, fontsize=style.FONT["legend"], frameon=False)
    if time_unit == "checkpoint":
        if labels and x.size <= _MOST_LABELS:
            names = dict(zip(x, map(_short, labels), strict=True))
            lower.xaxis.set_major_locator(FixedLocator(list(x)))
            lower.xaxis.set_major_formatter(FuncFormatter(lambda value, _: names.get(value, "")))
            lower.xaxis.set_minor_locator(NullLocator())
            lower.tick_params(axis="x", rotation=30)
            for label in lower.get_xticklabels():
                label.set_horizontalalignment("right")
        else:
            lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_coordinates(upper, theta[-1], last=float(x[-1]))
    add_key_of_the_quiet(figure)
    return figure


def _short(label: str) -> str:
    # A dollar sign would begin a formula.
    cut = label if len(label) <= _LONGEST_LABEL else f"…{label[1 - _LONGEST_LABEL :]}"
    return cut.replace("$", r"\$")
