"""Heads of a pretrained language model: which there are, and what is lost without them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style

Row = Mapping[str, Any]

_NAMES = {"previous_token": "previous-token", "induction": "induction", "duplicate_token": "duplicate-token"}
_REPLACED = {"mean": "their mean", "zero": "zero"}
_COLORS = {"previous_token": "alpha_3", "induction": "beta_2"}
"""The coordinate whose colour a kind of head has: what a trained circuit does in that coordinate."""

_ROOM = 1.5
"""Height of the panel of scores in units of the intact model's, for the key."""

_SIDES = {
    "both": ("-", "o", "keys and queries"),
    "keys": (style.LINES["full"], "^", "keys alone"),
    "queries": (style.LINES["circuit"], "v", "queries alone"),
}


def plot_pretrained_heads(
    heads: Sequence[Row], losses: Sequence[Row], ablations: Sequence[Row], composition: Sequence[Row]
) -> Figure:
    r"""Draw maps of two scores over all heads, the loss by position, and what is lost without some heads.

    Above, the attention to the token before and to what followed the last copy, less chance, in the colours of the
    coordinates that they are in the reduced model, $\alpha_3$ and $\beta_2$. In the middle, the loss of each token of a
    random segment that stands twice, with two standard errors; and the mean induction score of the watched heads when
    K previous-token heads in layers below are replaced by their mean, in the whole pass or on the side of the keys
    or of the queries alone, in units of that of the intact model. Below, how much higher the loss is without K heads,
    on the second copy and on a text; open marks are heads replaced by zero, filled ones by their mean. Bands are the
    range over draws of as many other heads of the same layers (replaced by their mean), and lines in them their mean.

    Args:
        heads: a row for each head: `layer`, `head`, and `previous_token` and `induction` with their `..._chance`.
        losses: a row for each token: `position`, `copy` (1 or 2), `loss` in nats, `standard_error`.
        ablations: rows of `kind` (`mean` or `zero`; others are left out), `which` (`induction` or `previous_token`),
            `count` K, `draw` (None for the heads of the highest scores), `second_change`, `text_change` in nats.
        composition: rows of `kind`, `count`, `draw`, `side` (`both`, `keys`, `queries`), `measured`, `layer` (None for
            the mean over heads), `score` and `intact`. Those of kind `mean`, measured `induction`, are drawn.

    Returns:
        The figure.

    Raises:
        ArgumentError: a table is empty.

    Example:
        >>> head = {"layer": 0, "head": 0, "previous_token": 0.5, "previous_token_chance": 0.1}
        >>> heads = [head | {"induction": 0.2, "induction_chance": 0.1}]
        >>> losses = [{"position": i, "copy": 1 + i // 2, "loss": 9.0, "standard_error": 0.1} for i in (1, 2)]
        >>> change = {"kind": "mean", "count": 1, "draw": None, "second_change": 2.0, "text_change": 0.1}
        >>> ablations = [change | {"which": which} for which in ("induction", "previous_token")]
        >>> composed = {"kind": "mean", "count": 1, "draw": None, "side": "both", "measured": "induction"}
        >>> composition = [composed | {"layer": None, "score": 0.4, "intact": 0.8}]
        >>> len(plot_pretrained_heads(heads, losses, ablations, composition).axes)
        8
    """
    given = {"heads": heads, "losses": losses, "ablations": ablations, "composition": composition}
    for name, rows in given.items():
        if not rows:
            raise ArgumentError(name, list(rows), "at least one row")
    figure = style.new_figure(14.4, 14.0)
    maps, middle, below = figure.subplots(3, 2, height_ratios=(3.6, 5.2, 5.2))
    for axes, kind in zip(maps, _COLORS, strict=True):
        _draw_map(figure, axes, heads, kind)
    _draw_losses(middle[0], losses)
    _draw_composition(middle[1], composition)
    for axes, name, title in zip(
        below, ("second_change", "text_change"), ("second copy of random tokens", "English text"), strict=True
    ):
        _draw_ablations(axes, ablations, name)
        axes.set_title(f"without K heads: {title}", fontsize=style.FONT["title"])
    handles = below[0].get_legend_handles_labels()[0]
    half = len(handles) // 2  # of each kind of head, which are to stand above each other
    style.add_key_below(
        figure, [handle for pair in zip(handles[:half], handles[half:], strict=True) for handle in pair], columns=3
    )
    return figure


def _draw_map(figure: Figure, axes: Axes, heads: Sequence[Row], kind: str) -> None:
    shape = 1 + max(row["head"] for row in heads), 1 + max(row["layer"] for row in heads)
    score = np.full(shape, np.nan)
    for row in heads:
        score[row["head"], row["layer"]] = row[kind] - row[f"{kind}_chance"]
    color = style.color(_COLORS[kind])
    shades = LinearSegmentedColormap.from_list(kind, ["#ffffff", color, "#101010"])
    image = axes.imshow(score, cmap=shades, vmin=0, vmax=1, aspect="auto", origin="lower", gid=kind)
    axes.tick_params(labelsize=style.FONT["tick"])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"{_NAMES[kind]} heads", fontsize=style.FONT["title"])
    axes.set_xlabel("layer", fontsize=style.FONT["label"])
    axes.set_ylabel("head", fontsize=style.FONT["label"])
    bar = figure.colorbar(image, ax=axes, pad=0.02, aspect=14)
    bar.set_label("attention above chance", fontsize=style.FONT["legend"])
    bar.ax.tick_params(labelsize=style.FONT["tick"])


def _draw_losses(axes: Axes, losses: Sequence[Row]) -> None:
    for copy, words in ((1, "first copy"), (2, "second copy")):
        here = [row for row in losses if row["copy"] == copy]
        position, mean, error = (
            np.array([row[name] for row in here]) for name in ("position", "loss", "standard_error")
        )
        color = style.color("loss") if copy == 2 else style.GRAY
        axes.plot(position, mean, color=color, linewidth=2.0, label=words, gid=f"copy {copy}")
        axes.fill_between(position, mean - 2 * error, mean + 2 * error, color=color, alpha=0.25, linewidth=0)
    axes.set_ylim(bottom=0)
    style.dress(axes)
    axes.set_title("loss on repeated random tokens", fontsize=style.FONT["title"])
    axes.set_xlabel("position of the predicted token", fontsize=style.FONT["label"])
    axes.set_ylabel("loss (nats)", fontsize=style.FONT["label"])
    axes.legend(loc="upper right", fontsize=style.FONT["legend"], frameon=False)


def _draw_composition(axes: Axes, composition: Sequence[Row]) -> None:
    here = [row for row in composition if (row["kind"], row["measured"], row["layer"]) == ("mean", "induction", None)]
    color = style.color(_COLORS["previous_token"])
    for side, (line, marker, words) in _SIDES.items():
        own = [row for row in here if row["side"] == side and row["draw"] is None]
        axes.plot(
            [row["count"] for row in own],
            [row["score"] / row["intact"] for row in own],
            color=color,
            linestyle=line,
            marker=marker,
            ms=7,
            linewidth=1.8,
            label=words,
            gid=side,
        )
    others = [
        (row["count"], row["score"] / row["intact"])
        for row in here
        if row["side"] == "both" and row["draw"] is not None
    ]
    _draw_range(axes, others, style.GRAY, "as many others of their layers")
    axes.set_ylim(0, _ROOM)
    _dress_counts(axes, [row["count"] for row in here])
    axes.set_title("induction score without K previous-token heads", fontsize=style.FONT["title"])
    axes.set_ylabel("score / score of the intact model", fontsize=style.FONT["label"])
    axes.legend(loc="upper left", ncols=2, fontsize=style.FONT["legend"], frameon=False, handlelength=2.6)


def _draw_ablations(axes: Axes, ablations: Sequence[Row], name: str) -> None:
    for which, coordinate in _COLORS.items():
        color = style.color(coordinate)
        for kind in ("mean", "zero"):
            own = [row for row in ablations if (row["kind"], row["which"]) == (kind, which)]
            best = [row for row in own if row["draw"] is None]
            axes.plot(
                [row["count"] for row in best],
                [row[name] for row in best],
                color=color,
                linestyle="-" if kind == "mean" else style.LINES["full"],
                marker=style.MARKERS["full"],
                mfc=color if kind == "mean" else "white",
                ms=6.5,
                linewidth=1.8,
                label=f"{_NAMES[which]} heads, replaced by {_REPLACED[kind]}",
                gid=f"{which} {kind}",
            )
            others = [(row["count"], row[name]) for row in own if row["draw"] is not None]
            if kind == "mean":
                _draw_range(axes, others, color, f"as many others of the layers of {_NAMES[which]} heads")
    axes.axhline(0, color=style.GRAY, linewidth=1.0, zorder=1)
    _dress_counts(axes, [row["count"] for row in ablations if row["count"]])
    axes.set_ylabel("loss less that of the intact model (nats)", fontsize=style.FONT["label"])


def _draw_range(axes: Axes, values: Sequence[tuple[int, float]], color: str, words: str) -> None:
    counts = sorted({count for count, _ in values})
    each = [[value for count, value in values if count == k] for k in counts]
    if counts:
        axes.fill_between(counts, [min(v) for v in each], [max(v) for v in each], color=color, alpha=0.18, linewidth=0)
        axes.plot(
            counts, [float(np.mean(v)) for v in each], color=color, linewidth=1.2, alpha=0.7, label=words, gid="others"
        )


def _dress_counts(axes: Axes, counts: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted({float(count) for count in counts})))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    style.dress(axes)
    axes.set_xlabel("K, heads taken out", fontsize=style.FONT["label"])
