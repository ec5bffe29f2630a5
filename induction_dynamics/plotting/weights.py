"""All 28 D^2 weights as they are, and where in them the nineteen coordinates sit."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.pseudo_parameters import BLOCKS, Block
from induction_dynamics.transformer.disentangled import Weights

_STREAMS = ("$t$", "$r$", "$A_1t$", "$A_1r$", "$A_2t$", "$A_2r$", "$A_2A_1t$", "$A_2A_1r$")
_BLOCKS_OF = {"W1": (2, 2), "W2": (4, 4), "W3": (1, 8)}
"""Blocks of each matrix, rows and columns."""


def plot_weights(weights: Weights, *, title: str | None = None) -> Figure:
    """Draw W1, W2 and W3 as heat maps of D x D blocks, each with its own colour scale, symmetric about 0.

    A block is one stream of the query side (row) times one of the key side (column); the rows of W3 are the output.
    The name of each coordinate stands in its block: with I, a multiple of the identity, at the upper right; with M, of
    the rotation, at the lower left.

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
    matrices = {name: np.asarray(getattr(weights, name), dtype=float) for name in _BLOCKS_OF}
    shapes = {name: matrix.shape for name, matrix in matrices.items()}
    dim = weights.embedding_dim
    wanted = {name: (rows * dim, columns * dim) for name, (rows, columns) in _BLOCKS_OF.items()}
    if shapes != wanted:
        raise ArgumentError("weights", shapes, f"of shapes {wanted}")
    figure = style.new_figure(13.0, 9.0)
    grid = figure.add_gridspec(2, 2, width_ratios=[2.8, 4], height_ratios=[4, 1.3])
    left = grid[0, 0].subgridspec(2, 1)
    for name, place in (("W1", left[0]), ("W2", grid[0, 1]), ("W3", grid[1, :])):
        _draw(figure, figure.add_subplot(place), name, matrices[name], dim)
    _explain(figure.add_subplot(left[1]))
    if title is not None:
        figure.suptitle(title, fontsize=style.FONT["title"])
    return figure


def _draw(figure: Figure, axes: Axes, name: str, matrix: np.ndarray, dim: int) -> None:
    largest = float(np.max(np.abs(matrix))) or 1.0
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest", gid=name)
    rows, columns = _BLOCKS_OF[name]
    for axis, blocks in ((axes.yaxis, rows), (axes.xaxis, columns)):
        labels = _STREAMS[:blocks] if blocks > 1 else ("out",)
        axis.set_ticks((np.arange(blocks) + 0.5) * dim - 0.5, labels, fontsize=style.FONT["tick"])
        axis.set_tick_params(length=0)
    for lines, count in ((axes.axhline, rows), (axes.axvline, columns)):
        for k in range(1, count):
            lines(k * dim - 0.5, color=style.GRAY, linewidth=0.8)
    for coordinate, block in BLOCKS.items():
        if block.matrix == name:
            _name_block(axes, coordinate, block, dim)
    if name != "W3":
        axes.set_xlabel("key side", fontsize=style.FONT["label"])
        axes.set_ylabel("query side", fontsize=style.FONT["label"])
    axes.set_anchor("NW")
    axes.set_title(f"${name[0]}_{name[1]}$", fontsize=style.FONT["title"])
    # Placed on the panel itself, since a square panel is smaller than the room that it was given.
    bar = axes.inset_axes((1 + 0.06 / columns, 0.0, 0.11 / columns, 1.0))
    figure.colorbar(image, cax=bar)
    bar.tick_params(labelsize=style.FONT["tick"] - 0.5)


def _name_block(axes: Axes, coordinate: str, block: Block, dim: int) -> None:
    """I runs from the upper left to the lower right and M on either side of it: two corners are free of both."""
    strong, upper = coordinate in style.STRONG, block.structure == "I"
    right, bottom = (block.column + 1) * dim - 0.5, (block.row + 1) * dim - 0.5
    axes.annotate(
        rf"{style.display(coordinate, bold=strong)}$\,{block.structure}$",
        xy=(right, bottom - dim) if upper else (right - dim, bottom),
        xytext=(-3, -3) if upper else (3, 3),
        textcoords="offset points",
        ha="right" if upper else "left",
        va="top" if upper else "bottom",
        color=style.color(coordinate) if strong else "#333333",
        fontsize=style.FONT["legend"],
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        gid=coordinate,
    )


def _explain(axes: Axes) -> None:
    axes.set_axis_off()
    words = (
        "$I$   the identity",
        "$M$  the rotation of a label's position",
        "$t$, $r$   token, position vector",
        "$A_1t$, $A_1r$   averages by layer 1's attention",
        "$A_2t$, $A_2r$, ...   averages by layer 2's",
    )
    axes.text(0.0, 0.5, "\n".join(words), fontsize=style.FONT["legend"], va="center", linespacing=1.6, gid="key")
