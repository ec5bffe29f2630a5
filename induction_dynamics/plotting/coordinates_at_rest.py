"""Where the nineteen coordinates end, against context length."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.coordinates import add_key_of_the_quiet, draw_coordinates, label_coordinates
from induction_dynamics.pseudo_parameters import COORDINATES


def plot_coordinates_at_rest(
    context_lengths: Sequence[int], coordinates: Mapping[str, ArrayLike], *, subtitle: str | None = None
) -> Figure:
    """Draw the final values theta_k against the context length N, a panel for each series.

    The circuit's three are strong and named at their ends; so are those of the sixteen others that are further than
    `coordinates.AWAY_FROM_ZERO` from 0 at the largest N, in smaller letters.

    Args:
        context_lengths: N, increasing, at least 1.
        coordinates: title of each panel to theta [lengths, 19], in the order of `pseudo_parameters.COORDINATES`.
        subtitle: over all panels, such as the time at which the values were taken.

    Returns:
        The figure.

    Raises:
        ArgumentError: no lengths or none that increase, no panels, shapes that do not fit, or values that are not
            finite.

    Example:
        >>> import numpy as np
        >>> ends = np.linspace([-0.5] * 19, np.linspace(-1.0, 4.0, 19), 3)
        >>> figure = plot_coordinates_at_rest([4, 8, 16], {"query last": ends, "query uniform": ends})
        >>> [axes.get_title() for axes in figure.axes]
        ['query last', 'query uniform']
    """
    lengths = np.asarray(context_lengths)
    if lengths.ndim != 1 or lengths.size == 0 or lengths[0] < 1 or np.any(np.diff(lengths) <= 0):
        raise ArgumentError("context_lengths", list(context_lengths), "whole numbers of at least 1, increasing")
    if not coordinates:
        raise ArgumentError("coordinates", dict(coordinates), "at least one series")
    figure = style.new_figure(2.0 + 5.8 * len(coordinates), 6.4)
    panels = figure.subplots(1, len(coordinates), squeeze=False, sharey=True)[0]
    tables = [_table(title, values, lengths.size) for title, values in coordinates.items()]
    for axes, title, theta in zip(panels, coordinates, tables, strict=True):
        axes.set_xscale("log")
        draw_coordinates(axes, lengths, theta, marker="o")
        axes.axhline(0.0, color=style.GRAY, linewidth=1.2, zorder=1, gid="zero")
        style.dress(axes)
        style.set_length_ticks(axes, [int(n) for n in lengths])
        axes.set_title(title, fontsize=style.FONT["title"])
        axes.set_xlabel("context length N", fontsize=style.FONT["label"])
    panels[0].set_ylabel("coordinate", fontsize=style.FONT["label"])
    for axes, theta in zip(panels, tables, strict=True):
        label_coordinates(axes, theta[-1], apart=0.055, last=float(lengths[-1]))
    add_key_of_the_quiet(figure)
    if subtitle is not None:
        figure.suptitle(subtitle, fontsize=style.FONT["label"])
    return figure


def _table(title: str, values: ArrayLike, count: int) -> np.ndarray:
    theta = np.asarray(values, dtype=float)
    if theta.shape != (count, len(COORDINATES)):
        raise ArgumentError(f"coordinates[{title!r}]", theta.shape, f"of shape ({count}, {len(COORDINATES)})")
    if not np.all(np.isfinite(theta)):
        raise ArgumentError(f"coordinates[{title!r}]", theta[~np.isfinite(theta)].tolist(), "finite")
    return theta
