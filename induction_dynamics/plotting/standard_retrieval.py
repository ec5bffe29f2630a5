"""Layer 2 of standard transformers as an associative memory: what it retrieves in contexts of other lengths."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style

Row = Mapping[str, Any]

PREDICTIONS = ("two", "binding", "placed")
"""Predicted retrieval weights: of two numbers, of beta_2~ and layer 1's attention, and with mean scores by place."""

_TITLES = {"next": "query at its own place", "trained": "query as placed in training"}
_PLACES = {"next": "query at its own place", "trained": "as in training"}
_LINES: dict[str, style.LineStyle] = {"two": (0, (1.2, 1.4)), "binding": (0, (5.0, 2.0)), "placed": "-"}
_WORDS = {
    "two": r"predicted: $\tilde{\alpha}_3$, $\tilde{\beta}_2$ alone",
    "binding": r"predicted: $\tilde{\beta}_2$ × what layer 1 delivers",
    "placed": "predicted: the same + means by place",
}
_MARKERS = {"next": "o", "trained": "D"}
_PALEST = 0.72


def plot_standard_retrieval(weights: Sequence[Row]) -> Figure:
    r"""Draw the retrieval weight b over the context length N, measured and predicted, and the accuracy below.

    At the top b with the query's position vector that of its place (left) and that of the training (right): measured
    (marks) and predicted (lines, dotted from two numbers, dashed with layer 1's attention, solid with the mean of all
    other scores at each place), in one grey for each moment of the training, in the order in which they come; means
    over the seeds. Below the accuracy of both, and b by where the pair that is asked for stands: at places of the
    training or beyond. Beyond the trained length, which is marked, position vectors were never seen in training.

    Args:
        weights: rows of `seed`, `moment`, `trained_length`, `query_at` (`next` or `trained`), `context_length`,
            `measured`, `two`, `binding`, `placed`, `accuracy`, `within` and `beyond`, None where there is none.

    Returns:
        The figure.

    Raises:
        ArgumentError: no rows.

    Example:
        >>> about = {"seed": 0, "moment": "end", "trained_length": 2, "query_at": "next", "accuracy": 1.0}
        >>> b = dict.fromkeys(("measured", "two", "binding", "placed", "within"), 0.9) | {"beyond": None}
        >>> len(plot_standard_retrieval([about | b | {"context_length": n} for n in (1, 2)]).axes)
        4
    """
    if not weights:
        raise ArgumentError("weights", list(weights), "at least one row")
    moments = list(dict.fromkeys(row["moment"] for row in weights))
    shades = {moment: _shade(place, len(moments)) for place, moment in enumerate(moments)}
    figure = style.new_figure(11.5, 9.4)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    for axes, (place, title) in zip(panels[0], _TITLES.items(), strict=True):
        for moment, shade in shades.items():
            here = _chosen(weights, place, moment)
            for name in PREDICTIONS:
                about = f"{name} {place} {moment}"
                axes.plot(*_means(here, name), color=shade, linestyle=_LINES[name], linewidth=1.8, gid=about)
            _mark(axes, here, "measured", shade, place, f"measured {place} {moment}")
        axes.set_title(f"retrieval weight, {title}", fontsize=style.FONT["title"])
    for moment, shade in shades.items():
        for place in _TITLES:
            here = _chosen(weights, place, moment)
            axes = panels[1, 0]
            axes.plot(*_means(here, "accuracy"), color=shade, linewidth=1.2)
            _mark(axes, here, "accuracy", shade, place, f"accuracy {place} {moment}")
        here = _chosen(weights, "trained", moment)
        for name, line in (("within", "-"), ("beyond", (0, (5.0, 2.0)))):
            axes = panels[1, 1]
            axes.plot(*_means(here, name), color=shade, linewidth=1.2, linestyle=line)
            _mark(axes, here, name, shade, "trained", f"{name} {moment}")
    panels[1, 0].set_title("accuracy, both", fontsize=style.FONT["title"])
    panels[1, 1].set_title("b by where the pair stands, query as in training", fontsize=style.FONT["title"])
    panels[0, 0].set_ylabel("retrieval weight b", fontsize=style.FONT["label"])
    panels[1, 0].set_ylabel("accuracy", fontsize=style.FONT["label"])
    panels[1, 1].set_ylabel("retrieval weight b", fontsize=style.FONT["label"])
    for axes in panels.flat:
        _dress(axes, weights[0]["trained_length"], sorted({row["context_length"] for row in weights}))
    for axes in panels[1]:
        axes.set_xlabel("context length N", fontsize=style.FONT["label"])
    panels[1, 1].legend(
        handles=[
            Line2D([], [], color="black", linewidth=1.2, label="at places of the training"),
            Line2D([], [], color="black", linewidth=1.2, linestyle=(0, (5.0, 2.0)), label="beyond them"),
        ],
        loc="center right",
        bbox_to_anchor=(1.0, 0.33),
        fontsize=style.FONT["legend"],
        frameon=False,
        handlelength=3,
    )
    style.add_key_below(figure, _key(shades), columns=3)
    return figure


def _worded(moment: str) -> str:
    """`half - 100` is 100 steps before half of the answers are right."""
    words = moment.replace("half", "half solved").replace("-", "−")
    return f"{words} steps" if words[-1].isdigit() else words


def _shade(place: int, count: int) -> str:
    level = _PALEST * (1 - place / max(count - 1, 1))
    return to_hex((level, level, level))


def _chosen(rows: Sequence[Row], place: str, moment: str) -> list[Row]:
    return [row for row in rows if (row["query_at"], row["moment"]) == (place, moment)]


def _means(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    """Context lengths and the means over the seeds, where there is a number."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row[name] is not None:
            found.setdefault(row["context_length"], []).append(row[name])
    lengths = sorted(found)
    return lengths, [float(np.mean(found[n])) for n in lengths]


def _mark(axes: Axes, rows: Sequence[Row], name: str, shade: str, place: str, gid: str) -> None:
    """Means over the seeds."""
    axes.plot(*_means(rows, name), color=shade, marker=_MARKERS[place], markersize=6.0, linestyle="none", gid=gid)


def _dress(axes: Axes, trained_length: int, lengths: Sequence[int]) -> None:
    axes.set_ylim(-0.03, 1.12)
    axes.set_xlim(0, lengths[-1] + 1)
    axes.axhline(0.5, color=style.GRAY, linewidth=1.0, zorder=1, gid="level")
    axes.axvline(
        trained_length, color=style.GRAY, linewidth=1.0, linestyle=(0, (2.0, 2.0)), zorder=1, gid="trained length"
    )
    axes.annotate(
        f"N$_0$ = {trained_length}",
        (trained_length, 1.0),
        (4, -1),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        va="top",
        fontsize=style.FONT["legend"],
        color=style.GRAY,
    )
    style.dress(axes)
    axes.tick_params(labelbottom=True, labelleft=True)


def _key(shades: Mapping[str, str]) -> list[Artist]:
    key: list[Artist] = [
        Line2D([], [], color=shade, linewidth=5.0, label=_worded(moment)) for moment, shade in shades.items()
    ]
    key += [
        Line2D([], [], color="black", linewidth=1.8, linestyle=_LINES[name], label=_WORDS[name]) for name in PREDICTIONS
    ]
    return key + [
        Line2D(
            [], [], color="black", marker=_MARKERS[place], markersize=7.0, linestyle="none", label=f"measured, {words}"
        )
        for place, words in _PLACES.items()
    ]
