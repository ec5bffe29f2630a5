"""What several copies of the queried pair gain, and whether context length over copies is all that counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from induction_dynamics.plotting import style

MEASURES = ("beta_2", "alpha_3", "loss")

_LEVELS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)

Row = Mapping[str, Any]


def plot_burstiness(gains: Sequence[Row]) -> Figure:
    """Draw, for each query, T(N, 1)/T(N, m) of `alpha_3` against m, and T(N, m)/T(N/m, 1) against N/m.

    Args:
        gains: `model`, `query`, `measure`, `threshold`, `context_length`, `copies`, `gain`, `leading` (what leading
            order predicts of it), `against_effective_length` or None.

    Returns:
        The figure.

    Example:
        >>> row = {"model": "circuit", "query": "last", "measure": "alpha_3", "threshold": 0.5, "context_length": 64}
        >>> row |= {"copies": 2, "gain": 9.0, "leading": 10.3, "against_effective_length": 0.5}
        >>> plot_burstiness([row]).axes[0].get_title()
        'query last, orthonormal inputs'
    """
    queries = list(dict.fromkeys(row["query"] for row in gains))
    figure = style.new_figure(7.2 * len(queries), 10.4)
    panels = figure.subplots(2, len(queries), squeeze=False, sharey="row", sharex="row")
    for column, query in enumerate(queries):
        own = [row for row in gains if row["query"] == query and row["threshold"] == 0.5]
        upper, lower = panels[:, column]
        _draw_gains(upper, [row for row in own if row["measure"] == "alpha_3"])
        _draw_effective(lower, [row for row in own if row["model"] == "circuit"])
        upper.set_title(f"query {query}, orthonormal inputs", fontsize=style.FONT["title"])
        upper.set_xlabel("copies m of the queried pair", fontsize=style.FONT["label"])
        lower.set_xlabel("N / m  (pairs for each copy)", fontsize=style.FONT["label"])
        if column == 0:
            alpha = style.display("alpha_3")
            upper.set_ylabel(f"{alpha} sooner by:  T(N, 1) / T(N, m)", fontsize=style.FONT["label"])
            lower.set_ylabel("T(N, m) / T(N/m, 1), three coordinates", fontsize=style.FONT["label"])
    return figure


def _tint(name: str, share: float) -> tuple[float, float, float]:
    """A colour mixed with white."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(style.color(name)))
    return red, green, blue


def _draw_gains(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set(xscale="log", yscale="log")
    style.dress(axes)
    lengths = sorted({row["context_length"] for row in rows if row["model"] == "circuit"})
    handles = []
    for place, length in enumerate(lengths):
        tint = _tint("alpha_3", 0.3 + 0.7 * place / max(len(lengths) - 1, 1))
        own = sorted(
            (row for row in rows if (row["model"], row["context_length"]) == ("circuit", length)),
            key=lambda row: row["copies"],
        )
        (line,) = axes.plot(
            [1, *(row["copies"] for row in own)],
            [1.0, *(row["gain"] for row in own)],
            color=tint,
            marker=style.MARKERS["circuit"],
            linewidth=1.8,
            label=f"three, N = {length}",
            gid=f"circuit {length}",
        )
        handles.append(line)
    if lengths:
        longest = [row for row in rows if (row["model"], row["context_length"]) == ("circuit", lengths[-1])]
        longest = sorted(longest, key=lambda row: row["copies"])
        words = "leading order" if longest and _is_square(longest) else f"leading order, N = {lengths[-1]}"
        (line,) = axes.plot(
            [1, *(row["copies"] for row in longest)],
            [1.0, *(row["leading"] for row in longest)],
            color=style.GRAY,
            linestyle=(0, (4, 2)),
            linewidth=1.6,
            label=words,
            gid="leading",
        )
        handles.append(line)
    for model, words in (("subspace", "nineteen"), ("full", "trained")):
        own = [row for row in rows if row["model"] == model]
        for length in sorted({row["context_length"] for row in own}):
            here = sorted((row for row in own if row["context_length"] == length), key=lambda row: row["copies"])
            (line,) = axes.plot(
                [row["copies"] for row in here],
                [row["gain"] for row in here],
                linestyle="none",
                marker=style.MARKERS[model],
                markersize=6 + 2 * (model == "full") + 1.2 * np.log2(length / 4),
                markerfacecolor="none",
                markeredgecolor="#000000" if model == "full" else style.OTHER_COLOR,
                markeredgewidth=1.5,
                label=f"{words}, N = {length}",
                gid=f"{model} {length}",
                zorder=5,
            )
            handles.append(line)
    axes.legend(handles=handles, fontsize=style.FONT["legend"] - 1.5, frameon=False, loc="upper left")
    _whole_ticks(axes, sorted({1, *(row["copies"] for row in rows)}))


def _is_square(rows: Sequence[Row]) -> bool:
    return all(row["leading"] == row["copies"] ** 2 for row in rows)


def _whole_ticks(axes: Axes, values: Sequence[int]) -> None:
    axes.set_xticks(values, [str(value) for value in values])
    axes.set_xticks([], minor=True)


def _draw_effective(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set(xscale="log", yscale="log")
    style.dress(axes)
    axes.axhline(1.0, color=style.GRAY, linewidth=1.4)
    copies = sorted({row["copies"] for row in rows})
    for measure in MEASURES:
        for place, several in enumerate(copies):
            own = [
                row
                for row in rows
                if (row["measure"], row["copies"]) == (measure, several) and row["against_effective_length"] is not None
            ]
            own = sorted(own, key=lambda row: row["context_length"])
            axes.plot(
                [row["context_length"] / several for row in own],
                [row["against_effective_length"] for row in own],
                color=style.color(measure),
                linewidth=1.0 + 0.7 * place,
                marker="o",
                markersize=3.5 + 1.2 * place,
                gid=f"{measure} {several}",
            )
    handles = [
        *(Line2D([], [], color=style.color(name), linewidth=6, label=style.display(name)) for name in MEASURES),
        *(
            Line2D(
                [],
                [],
                color=style.GRAY,
                marker="o",
                linewidth=1.0 + 0.7 * place,
                markersize=3.5 + 1.2 * place,
                label=f"m = {several}",
            )
            for place, several in enumerate(copies)
        ),
        Line2D([], [], color=style.GRAY, linewidth=1.4, label="N/m rules"),
    ]
    axes.legend(handles=handles, fontsize=style.FONT["legend"] - 1.5, frameon=False, ncols=2, loc="lower left")
    known = [row for row in rows if row["against_effective_length"] is not None]
    _whole_ticks(axes, sorted({row["context_length"] // row["copies"] for row in known}))
    levels = [
        level for level in _LEVELS if any(abs(level / row["against_effective_length"] - 1) < 0.6 for row in known)
    ]
    axes.set_yticks(levels, [f"{level:g}" for level in levels])
    axes.set_yticks([], minor=True)
