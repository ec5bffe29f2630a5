"""All 28 D^2 weights as they are, and where in them the nineteen coordinates sit."""

import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.pseudo_parameters import (
    BLOCKS,
    CIRCUIT,
    COLUMNS,
    COORDINATES,
    PLACES,
    ROWS,
    STREAMS,
    project,
)
from induction_dynamics.transformer.disentangled import Weights

_COLORS = "RdBu_r"


def plot_weights(weights: Weights, *, title: str | None = None) -> Figure:
    """Draw W1, W2 and W3 as heat maps of D x D blocks, on one colour scale, symmetric about 0.

    A block is one stream of the query side (row) times one of the key side (column); the rows of W3 are the output.
    Each coordinate is written along its stripe with its value, of `pseudo_parameters.project` at 90 degrees: with I, a
    multiple of the identity, along the diagonal; with M = [[0, -I], [I, 0]] along the lower of its two stripes.

    Args:
        weights: W1 [2D, 2D], W2 [4D, 4D], W3 [D, 8D].
        title: of the whole figure.

    Returns:
        The figure.

    Raises:
        ArgumentError: matrices whose shapes do not fit each other.

    Example:
        >>> from induction_dynamics.transformer.disentangled import zero_weights
        >>> figure = plot_weights(zero_weights(4), title="before training")
        >>> [len(axes.texts) for axes in figure.axes[:3]]
        [3, 12, 4]
    """
    matrices = {name: np.asarray(getattr(weights, name), dtype=float) for name in PLACES}
    shapes = {name: matrix.shape for name, matrix in matrices.items()}
    dim = weights.embedding_dim
    wanted = {name: (ROWS[name] * dim, COLUMNS[name] * dim) for name in PLACES}
    if shapes != wanted:
        raise ArgumentError("weights", shapes, f"of shapes {wanted}")
    found = project(Weights(**{name: jnp.asarray(matrix) for name, matrix in matrices.items()})).coordinates
    values = dict(zip(COORDINATES, np.asarray(found, dtype=float).tolist(), strict=True))
    largest = max(float(np.max(np.abs(matrix))) for matrix in matrices.values()) or 1.0
    figure = style.new_figure(13.0, 9.2)
    grid = figure.add_gridspec(2, 2, width_ratios=[2.3, 4], height_ratios=[4, 1.3])
    left = grid[0, 0].subgridspec(2, 1)
    for name, place in (("W1", left[0]), ("W2", grid[0, 1]), ("W3", grid[1, :])):
        _draw(figure.add_subplot(place), name, matrices[name], values, largest)
    _explain(figure, figure.add_subplot(left[1]), largest)
    if title is not None:
        figure.suptitle(title, fontsize=style.FONT["title"])
    return figure


def _draw(axes: Axes, name: str, matrix: np.ndarray, values: Mapping[str, float], largest: float) -> None:
    axes.imshow(matrix, cmap=_COLORS, vmin=-largest, vmax=largest, interpolation="nearest", gid=name)
    rows, columns = ROWS[name], COLUMNS[name]
    dim = matrix.shape[1] // columns
    for axis, blocks in ((axes.yaxis, rows), (axes.xaxis, columns)):
        labels = [_stream(stream) for stream in STREAMS[:blocks]] if blocks > 1 else ["out"]
        axis.set_ticks((np.arange(blocks) + 0.5) * dim - 0.5, labels, fontsize=style.FONT["tick"])
        axis.set_tick_params(length=0)
    for lines, count in ((axes.axhline, rows), (axes.axvline, columns)):
        for k in range(1, count):
            lines(k * dim - 0.5, color=style.GRAY, linewidth=0.8)
    for coordinate in COORDINATES[PLACES[name]]:
        _name_stripe(axes, coordinate, values[coordinate], dim)
    if name != "W3":
        axes.set_xlabel("key side", fontsize=style.FONT["label"])
        axes.set_ylabel("query side", fontsize=style.FONT["label"])
    axes.set_anchor("NW")
    axes.set_title(f"${name[0]}_{name[1]}$", fontsize=style.FONT["title"])


def _stream(name: str) -> str:
    """Such as $A_2A_1t$ for A2A1t."""
    return "$" + re.sub("([0-9])", r"_\1", name) + "$"


def _name_stripe(axes: Axes, coordinate: str, value: float, dim: int) -> None:
    """Write along the stripe, close to its upper side: between I and M there is room for a line of text."""
    strong, block = coordinate in CIRCUIT, BLOCKS[coordinate]
    across, down = (0.5, 0.5) if block.structure == "I" else (0.25, 0.75)
    # the corner of two cells of the stripe; + 0.0 makes zero of a minus zero
    corner = (block.column + across) * dim, (block.row + down) * dim - 1.0
    axes.annotate(
        rf"{style.display(coordinate, bold=strong)}$\,{block.structure}:\,{round(value, 2) + 0.0:.2f}$",
        xy=corner,
        rotation=-45,
        rotation_mode="anchor",
        ha="center",
        va="bottom",
        color=style.color(coordinate) if strong else "#333333",
        fontsize=style.FONT["legend"],
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        gid=coordinate,
    )


def _explain(figure: Figure, axes: Axes, largest: float) -> None:
    axes.set_axis_off()
    words = (
        "each name runs along its stripe, with its value",
        "$I$   the identity",
        "$M = [[0, -I], [I, 0]]$   the rotation of",
        "      a label's position, here by 90°",
        "$t$, $r$   token, position vector",
        "$A_1t$, $A_1r$   averages by layer 1's attention",
        "$A_2t$, $A_2r$, ...   averages by layer 2's",
    )
    axes.text(0.0, 1.0, "\n".join(words), fontsize=style.FONT["legend"], va="top", linespacing=1.6, gid="key")
    bar = axes.inset_axes((0.0, 0.1, 0.9, 0.07))
    figure.colorbar(ScalarMappable(Normalize(-largest, largest), _COLORS), cax=bar, orientation="horizontal")
    bar.set_xlabel("weight, in all three matrices", fontsize=style.FONT["label"])
    bar.tick_params(labelsize=style.FONT["tick"])
