"""Who attends to whom in one sequence: both layers' attention at several stages of training."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style

_MOST_LABELS = 8


def plot_attention(stages: Mapping[str, tuple[ArrayLike, ArrayLike]], *, query: int) -> Figure:
    """Draw the attention of one sequence, a column for each stage.

    Above: layer 1, A1_ij of position i to position j < i, with the cells outlined that alpha_3 makes large, a label's
    attention to its item. Below: layer 2, the query's attention a_j to the 2N tokens before it, with the bar coloured
    that beta_2 makes large, y_q.

    Args:
        stages: title of each column (such as "before, t = 0") to A1 [L, L] and a [2N], with L = 2N + 1: one sequence's
            part of `transformer.disentangled.Output`.
        query: q, number of the queried pair, counted from 1.

    Returns:
        The figure.

    Raises:
        ArgumentError: no stages, shapes that do not fit, or a pair that does not exist.

    Example:
        >>> import numpy as np
        >>> before = np.tril(np.ones((5, 5)), -1) / np.maximum(np.arange(5), 1)[:, None], np.full(4, 0.25)
        >>> figure = plot_attention({"before": before}, query=2)
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['$x_{1}$', '$y_{1}$', '$x_{2}$', '$y_{2}$', '$x_q$']
    """
    if not stages:
        raise ArgumentError("stages", dict(stages), "at least one stage")
    pairs = (max(np.asarray(next(iter(stages.values()))[0]).shape, default=0) - 1) // 2
    checked = {title: _check(title, *stage, max(pairs, 1)) for title, stage in stages.items()}
    if not 1 <= query <= pairs:
        raise ArgumentError("query", query, f"from 1 to {pairs}")
    side = min(max(0.31 * (2 * pairs + 1), 3.0), 5.6)
    figure = style.new_figure(1.8 + (side + 0.5) * len(stages), side + 3.6)
    panels = figure.subplots(2, len(stages), squeeze=False, sharex=True, sharey="row", height_ratios=[side, 1.7])
    labels = _labels(pairs)
    for (upper, lower), (title, (layer_1, layer_2)) in zip(panels.T, checked.items(), strict=True):
        _draw_layer_1(upper, layer_1, pairs)
        _draw_layer_2(lower, layer_2, query)
        upper.set_title(title, fontsize=style.FONT["title"])
        for axis in (upper.xaxis, upper.yaxis, lower.xaxis):
            axis.set_ticks(range(2 * pairs + 1), labels, fontsize=style.FONT["tick"])
        upper.tick_params(labelbottom=True, length=0)
        lower.tick_params(axis="x", length=0)
        lower.set_xlabel("attended token", fontsize=style.FONT["label"])
    panels[0, 0].set_ylabel("layer 1:\nattending token", fontsize=style.FONT["label"])
    panels[1, 0].set_ylabel("layer 2: attention\nof the query", fontsize=style.FONT["label"])
    bar = figure.colorbar(ScalarMappable(Normalize(0.0, 1.0), style.SHADES), ax=panels[0].tolist(), aspect=25, pad=0.01)
    bar.set_label("attention", fontsize=style.FONT["label"])
    bar.ax.tick_params(labelsize=style.FONT["tick"])
    # side by side the two entries of the key are ten inches long
    style.add_key_below(figure, _key(query), columns=2 if figure.get_figwidth() > 10 else 1)
    return figure


def _check(title: str, attention_1: ArrayLike, attention_2: ArrayLike, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    layer_1, layer_2 = np.asarray(attention_1, dtype=float), np.asarray(attention_2, dtype=float)
    if layer_1.shape != (2 * pairs + 1, 2 * pairs + 1):
        allowed = f"an attention_1 of shape ({2 * pairs + 1}, {2 * pairs + 1})"
        raise ArgumentError(f"stages[{title!r}]", layer_1.shape, allowed)
    if layer_2.shape != (2 * pairs,):
        raise ArgumentError(f"stages[{title!r}]", layer_2.shape, f"an attention_2 of shape ({2 * pairs},)")
    return layer_1, layer_2


def _labels(pairs: int) -> list[str]:
    """Names of the tokens; in long sequences only those of every so many items, which leaves them room."""
    every = -(-pairs // _MOST_LABELS)
    shown = "xy" if every == 1 else "x"
    names = [
        f"${letter}_{{{k + 1}}}$" if letter in shown and k % every == 0 else "" for k in range(pairs) for letter in "xy"
    ]
    return [*names, "$x_q$"]


def _draw_layer_1(axes: Axes, attention: np.ndarray, pairs: int) -> None:
    masked = np.ma.masked_array(attention, mask=np.triu(np.ones_like(attention, dtype=bool)))
    axes.imshow(masked, cmap=style.SHADES, vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest", gid="layer 1")
    for k in range(pairs):
        cell = Rectangle((2 * k - 0.5, 2 * k + 0.5), 1, 1, fill=False, edgecolor=style.color("alpha_3"), linewidth=2.0)
        cell.set(gid=f"label {k + 1} to item {k + 1}", zorder=3)
        axes.add_patch(cell)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_layer_2(axes: Axes, attention: np.ndarray, query: int) -> None:
    colors = [style.GRAY] * attention.size
    colors[2 * query - 1] = style.color("beta_2")
    axes.bar(np.arange(attention.size), attention, width=0.8, color=colors)
    style.dress(axes)
    axes.grid(False, axis="x")
    axes.set_ylim(0.0, 1.0)


def _key(query: int) -> list[Patch]:
    alpha, beta = style.display("alpha_3"), style.display("beta_2")
    cell = Patch(facecolor="none", edgecolor=style.color("alpha_3"), linewidth=2.0)
    cell.set_label(f"made large by {alpha}: a label attends to its item")
    bar = Patch(color=style.color("beta_2"))
    bar.set_label(f"made large by {beta}: the query attends to $y_q$, here $y_{{{query}}}$")
    return [cell, bar]
