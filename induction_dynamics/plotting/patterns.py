"""Who attends to whom, of every head of a few layers, in one sequence of named tokens."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style

Cells = Sequence[tuple[int, int]]

MOST = {"layers": 4, "heads": 8, "tokens": 40}
"""What can be read at most: beyond, choose heads, or show the beginning of a sequence."""

# As in `plotting.attention`: colour is left to the coordinates; what is masked is white, and an attention of 0 is not.
_ROLES = {
    "alpha_3": "to the token before (a label to its item)",
    "beta_2": "to what followed the same token (the query to its label)",
}
_PER_TOKEN = 0.175
"""Inches: room for one letter of the size of a tick."""


def circuit_cells(
    tokens: Int[np.ndarray, " length"], counted: Bool[np.ndarray, " length"], second_positions: Sequence[int]
) -> dict[str, list[tuple[int, int]]]:
    """The cells (row, column) of a pattern that an induction head's two layers make large, by coordinate.

    `alpha_3`: second position i to i - 1, in the lower layers. `beta_2`: a position i whose answer counts to each
    second position that follows an earlier copy of token i, in the last layer.

    Args:
        tokens: of one sequence.
        counted: at which positions the answer counts (`TokenSequences.counted`).
        second_positions: whose tokens belong to the one before (`TokenTask.second_positions`).

    Example:
        >>> import numpy as np
        >>> circuit_cells(np.array([7, 1, 8, 2, 7]), np.arange(5) == 4, second_positions=(1, 3))  # 7 1 8 2, then 7?
        {'alpha_3': [(1, 0), (3, 2)], 'beta_2': [(4, 1)]}
    """
    seconds = sorted(int(i) for i in second_positions)
    queries = np.flatnonzero(counted).tolist()
    found = [(i, j) for i in queries for j in seconds if j - 1 < i and j <= i and tokens[j - 1] == tokens[i]]
    return {"alpha_3": [(i, i - 1) for i in seconds], "beta_2": found}


def plot_patterns(
    attention: ArrayLike,
    labels: Sequence[str],
    *,
    marked: Mapping[str, Cells] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the attention of every head in one sequence: a row for each layer, a column for each head.

    Layers of a single head lie side by side. A cell is the attention of its row's token to its column's token, on one
    scale of grey; what the mask hides is white. Marked cells are outlined: those of `alpha_3` in all layers but the
    last, those of `beta_2` in the last.

    Args:
        attention: A [layers, heads, L, L] of one sequence, of whatever model and framework.
        labels: a name for each of the L tokens; one letter, or a short word.
        marked: cells (row, column), counted from 0, by coordinate, `alpha_3` or `beta_2`; such as of `circuit_cells`.
        title: of the whole figure.

    Returns:
        The figure.

    Raises:
        ArgumentError: attention of another shape, or more of it than can be read; another number of labels; or a
            marked cell that does not exist.

    Example:
        >>> import numpy as np
        >>> uniform = np.tri(5) / np.arange(1, 6)[:, None]
        >>> figure = plot_patterns(np.stack([[uniform], [uniform]]), list("a1b2a"), marked={"beta_2": [(4, 1)]})
        >>> [axes.get_title() for axes in figure.axes[:2]], len(figure.axes[1].patches)
        (['layer 1', 'layer 2'], 1)
    """
    patterns = np.asarray(attention, dtype=float)
    cells = _check(patterns, labels, marked or {})
    layers, heads, length, _ = patterns.shape
    longest = max(len(name) for name in labels)
    rows, columns = (layers, heads) if heads > 1 else (1, layers)
    side = max(_PER_TOKEN * length, 2.6)
    beside = 0.1 * longest
    figure = style.new_figure(1.7 + (side + 0.25 + beside) * columns, 1.5 + (side + 0.45 + beside) * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(panels.flat):
        layer, head = divmod(place, heads)
        _draw(axes, patterns[layer, head])
        name = f"layer {layer + 1}" + (f", head {head + 1}" if heads > 1 else "")
        axes.set_title(name, fontsize=style.FONT["title"])
        _name_tokens(axes, labels, longest)
        for coordinate in _shown_in(layer, layers):
            _outline(axes, coordinate, cells.get(coordinate, ()))
    for axes in panels[:, 0]:
        axes.set_ylabel("attending token", fontsize=style.FONT["label"])
    for axes in panels[-1]:
        axes.set_xlabel("attended token", fontsize=style.FONT["label"])
    bar = figure.colorbar(
        ScalarMappable(Normalize(0.0, 1.0), style.SHADES), ax=panels.ravel().tolist(), aspect=12 * rows, pad=0.01
    )
    bar.set_label("attention", fontsize=style.FONT["label"])
    bar.ax.tick_params(labelsize=style.FONT["tick"])
    if key := [_explain(coordinate) for coordinate in _ROLES if cells.get(coordinate)]:
        style.add_key_below(figure, key, columns=2 if figure.get_figwidth() > 12 else 1)
    if title is not None:
        figure.suptitle(title, fontsize=style.FONT["title"])
    return figure


def _check(
    patterns: np.ndarray, labels: Sequence[str], marked: Mapping[str, Cells]
) -> dict[str, list[tuple[int, int]]]:
    if patterns.ndim != 4 or patterns.shape[2] != patterns.shape[3] or 0 in patterns.shape:
        raise ArgumentError("attention", patterns.shape, "of shape [layers, heads, L, L], none of them 0")
    for number, (what, most) in zip(patterns.shape[:3], MOST.items(), strict=True):
        if number > most:
            raise ArgumentError("attention", patterns.shape, f"of at most {most} {what}, which can still be read")
    length = patterns.shape[2]
    if len(labels) != length:
        raise ArgumentError("labels", len(labels), f"as many names as tokens, {length}")
    for coordinate, cells in marked.items():
        if coordinate not in _ROLES:
            raise ArgumentError("marked", coordinate, f"cells of {' or '.join(_ROLES)}")
        for cell in cells:
            if not all(0 <= place < length for place in cell):
                raise ArgumentError("marked", cell, f"cells (row, column) from 0 to {length - 1}")
    return {coordinate: list(cells) for coordinate, cells in marked.items()}


def _shown_in(layer: int, layers: int) -> tuple[str, ...]:
    """Coordinates whose cells a layer outlines; a single layer both."""
    if layers == 1:
        return tuple(_ROLES)
    return ("beta_2",) if layer == layers - 1 else ("alpha_3",)


def _draw(axes: Axes, pattern: np.ndarray) -> None:
    hidden = np.triu(np.ones_like(pattern, dtype=bool), k=1)
    masked = np.ma.masked_array(pattern, mask=hidden)
    axes.imshow(masked, cmap=style.SHADES, vmin=0.0, vmax=1.0, interpolation="nearest", gid="attention")
    axes.spines[["top", "right"]].set_visible(False)


def _name_tokens(axes: Axes, labels: Sequence[str], longest: int) -> None:
    """Every token by its name, both of them level with their cells."""
    upright = longest > 1
    axes.set_xticks(range(len(labels)), labels, fontsize=style.FONT["tick"], rotation=90 if upright else 0)
    axes.set_yticks(range(len(labels)), labels, fontsize=style.FONT["tick"])
    axes.tick_params(length=0, labelbottom=True, labelleft=True, pad=2.0)


def _outline(axes: Axes, coordinate: str, cells: Cells) -> None:
    for row, column in cells:
        cell = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=style.color(coordinate), linewidth=2.0)
        cell.set(gid=f"{coordinate}: {row} to {column}", zorder=3)
        axes.add_patch(cell)


def _explain(coordinate: str) -> Patch:
    entry = Patch(facecolor="none", edgecolor=style.color(coordinate), linewidth=2.0)
    entry.set_label(f"made large by {style.display(coordinate)}: {_ROLES[coordinate]}")
    return entry
