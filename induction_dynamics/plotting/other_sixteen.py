"""What the sixteen coordinates beside the circuit's three do to the times of emergence."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatterMathtext, NullLocator

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style

Row = Mapping[str, Any]

_CLOCKS = ("beta_2", "alpha_3", "loss")
"""Measures that are drawn, from the top of each row down."""
_OVER_LENGTHS = ("alpha_3", "loss")
_APART = 0.24
"""Between the measures of one row, in rows."""
_KINDS = {"held": "all nineteen without it", "freed": "the circuit's three with it"}
_SETS: tuple[tuple[str, style.LineStyle], ...] = (
    ("D", (0, (1.2, 1.4))),
    ("^", (0, (5.0, 2.0))),
    ("v", (0, (6.0, 2.0, 1.2, 2.0))),
    ("P", (0, (9.0, 3.0))),
)
"""Marker and line of each set of held coordinates over N; that of none is the nineteen's."""
_TICKS = {
    3.0: (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5),
    math.inf: (0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
}
"""Round ratios, by the span of a panel up to which they are labelled."""


def plot_one_by_one(rows: Sequence[Row]) -> Figure:
    """Draw what each coordinate does to the times of emergence, alone or taken away alone.

    A panel for each query, and in it a row for each coordinate or sum of two. Full marks are flows of all nineteen in
    which it is held at zero, open marks those of the circuit's three and it. The horizontal axis is the time over that
    of the circuit; broken lines are at the times of all nineteen.

    Args:
        rows: with the keys `query`, `context_length`, `inputs`, `kind` (`nineteen`, `circuit`, `held` or `freed`),
            `group` (None for the first two), `measure` and `per_circuit`; of one context length. A ratio that is None
            is left out, and so are measures other than `beta_2`, `alpha_3` and `loss`.

    Returns:
        The figure.

    Raises:
        ArgumentError: there are no rows.

    Example:
        >>> base = {"query": "last", "context_length": 64, "inputs": "orthonormal", "measure": "loss"}
        >>> kinds = {"held": "gamma_4", "freed": "gamma_4", "nineteen": None, "circuit": None}
        >>> rows = [base | {"kind": kind, "group": group, "per_circuit": 0.5} for kind, group in kinds.items()]
        >>> [axes.get_title() for axes in plot_one_by_one(rows).axes]
        ['query last, orthonormal inputs, N = 64']
    """
    queries, groups = _queries_and_groups(rows)
    figure = style.new_figure(0.6 + 6.8 * len(queries), 2.2 + 0.42 * len(groups))
    panels = figure.subplots(1, len(queries), squeeze=False, sharey=True)[0]
    for axes, query in zip(panels, queries, strict=True):
        _draw_dots(axes, [row for row in rows if row["query"] == query], groups)
    style.add_key_below(figure, _dot_key(), columns=3)
    return figure


def plot_other_sixteen(rows: Sequence[Row], over_lengths: Sequence[Row]) -> Figure:
    """Draw `plot_one_by_one`, and below it how the ratios of some sets go on with the context length.

    Args:
        rows: see `plot_one_by_one`.
        over_lengths: with the keys `query`, `context_length`, `held` (names in one text, `none` for all nineteen), and
            for `alpha_3` and `loss` the time over that of the circuit, or None.

    Returns:
        The figure: a column for each query, and rows of panels for the dots, `alpha_3` and the loss.

    Raises:
        ArgumentError: there are no rows of either kind, or more than five sets.

    Example:
        >>> base = {"query": "last", "context_length": 64, "inputs": "orthonormal", "measure": "loss"}
        >>> kinds = {"held": "gamma_4", "freed": "gamma_4", "nineteen": None, "circuit": None}
        >>> rows = [base | {"kind": kind, "group": group, "per_circuit": 0.5} for kind, group in kinds.items()]
        >>> curve = {"query": "last", "held": "none", "alpha_3": 0.4, "loss": 0.5}
        >>> figure = plot_other_sixteen(rows, [curve | {"context_length": n} for n in (16, 64)])
        >>> [axes.get_xlabel() for axes in figure.axes][1:]
        ['context length N (item-label pairs)', 'context length N (item-label pairs)']
    """
    queries, groups = _queries_and_groups(rows)
    sets = list(dict.fromkeys(row["held"] for row in over_lengths))
    if not sets or len(sets) > len(_SETS) + 1:
        raise ArgumentError("over_lengths", sets, f"of 1 to {len(_SETS) + 1} sets")
    tall = [1.2 + 0.42 * len(groups), *(4.2 for _ in _OVER_LENGTHS)]
    figure = style.new_figure(0.6 + 6.8 * len(queries), 1.4 + sum(tall))
    panels = figure.subplots(len(tall), len(queries), squeeze=False, height_ratios=tall)
    for axes, query in zip(panels[0], queries, strict=True):
        _draw_dots(axes, [row for row in rows if row["query"] == query], groups)
    for axes in panels[0, 1:]:
        axes.tick_params(labelleft=False)
    for across, measure in zip(panels[1:], _OVER_LENGTHS, strict=True):
        for axes, query in zip(across, queries, strict=True):
            _draw_over_lengths(axes, [row for row in over_lengths if row["query"] == query], measure, sets)
            axes.set_title(f"{style.display(measure)}, query {query}", fontsize=style.FONT["title"])
    style.add_key_below(figure, _dot_key(), columns=3)
    return figure


def _queries_and_groups(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    if not rows:
        raise ArgumentError("rows", list(rows), "at least one")
    queries = [query for query in ("last", "uniform") if any(row["query"] == query for row in rows)]
    return queries, list(dict.fromkeys(row["group"] for row in rows if row["group"] is not None))


def _draw_dots(axes: Axes, rows: Sequence[Row], groups: Sequence[str]) -> None:
    style.dress(axes)
    axes.set_xscale("log")
    ratios = [1.0]
    for place, measure in enumerate(_CLOCKS):
        color, shift = style.color(measure), (place - 1) * _APART
        here = [row for row in rows if row["measure"] == measure and row["per_circuit"] is not None]
        ratios += [row["per_circuit"] for row in here]
        for row in here:
            if row["kind"] == "nineteen":
                axes.axvline(row["per_circuit"], color=color, linestyle=(0, (4.0, 2.0)), linewidth=1.3, gid="nineteen")
        for kind, fill in (("held", color), ("freed", "white")):
            found = {row["group"]: row["per_circuit"] for row in here if row["kind"] == kind}
            axes.plot(
                list(found.values()),
                [groups.index(group) + shift for group in found],
                linestyle="none",
                marker=style.MARKERS["subspace" if kind == "held" else "circuit"],
                markersize=7,
                markerfacecolor=fill,
                markeredgecolor=color,
                markeredgewidth=1.5,
                zorder=3,
                gid=f"{kind} {measure}",
            )
    axes.axvline(1.0, color=style.GRAY, linewidth=1.6, gid="circuit", zorder=1)
    axes.set_yticks(range(len(groups)), [style.display(group) for group in groups])
    axes.set_ylim(len(groups) - 0.45, -0.55)
    for between in range(1, len(groups)):
        axes.axhline(between - 0.5, color="#d0d0d0", linewidth=0.8, zorder=0)
    axes.grid(False, axis="y")
    _set_ratios(axes.xaxis, ratios)
    axes.set_xlim(min(ratios) / 1.06, max(ratios) * 1.06)
    axes.set_xlabel("time over the circuit's", fontsize=style.FONT["label"])
    first = rows[0]
    words = f"query {first['query']}, {first['inputs']} inputs, N = {first['context_length']}"
    axes.set_title(words, fontsize=style.FONT["title"])


def _draw_over_lengths(axes: Axes, rows: Sequence[Row], measure: str, sets: Sequence[str]) -> None:
    style.dress(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    color = style.color(measure)
    axes.axhline(1.0, color=style.GRAY, linewidth=1.6, gid="circuit", zorder=1)
    ratios, lengths = [1.0], [row["context_length"] for row in rows]
    looks = dict(zip([held for held in sets if held != "none"], _SETS, strict=False))
    for held in sets:
        here = [row for row in rows if row["held"] == held and row[measure] is not None]
        marker, line = looks.get(held, (style.MARKERS["subspace"], style.LINES["subspace"]))
        ratios += [row[measure] for row in here]
        axes.plot(
            [row["context_length"] for row in here],
            [row[measure] for row in here],
            color=color,
            linestyle=line,
            linewidth=1.8,
            marker=marker,
            markersize=6,
            markerfacecolor=color if held == "none" else "white",
            markeredgewidth=1.3,
            label=_in_words(held),
            gid=held,
        )
    decades = range(math.ceil(math.log10(min(lengths))), math.floor(math.log10(max(lengths))) + 1)
    axes.xaxis.set_major_locator(FixedLocator([10.0**k for k in decades]))
    axes.xaxis.set_major_formatter(LogFormatterMathtext())
    axes.xaxis.set_minor_locator(NullLocator())
    _set_ratios(axes.yaxis, ratios)
    span = np.log(max(ratios) / min(ratios)) + 0.1
    # room for the key above the highest curve
    axes.set_ylim(min(ratios) * math.exp(-0.06 * span), max(ratios) * math.exp(0.62 * span))
    axes.set_xlabel("context length N (item-label pairs)", fontsize=style.FONT["label"])
    axes.set_ylabel("time over the circuit's", fontsize=style.FONT["label"])
    axes.legend(loc="upper left", fontsize=style.FONT["legend"], framealpha=0.9, edgecolor="none", handlelength=3.2)


def _set_ratios(axis: Any, ratios: Sequence[float]) -> None:
    """Ticks at round ratios within reach."""
    low, high = min(ratios), max(ratios)
    ticks = next(ticks for span, ticks in _TICKS.items() if high / low < span)
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low / 1.3 <= tick <= high * 1.3]))
    axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _in_words(held: str) -> str:
    if held == "none":
        return "all nineteen"
    return "nineteen without " + ", ".join(style.display(name) for name in held.split())


def _dot_key() -> list[Line2D]:
    plain: dict[str, Any] = {"linestyle": "none", "markersize": 7, "markeredgewidth": 1.5, "color": style.GRAY}
    measures = [
        Line2D([], [], linestyle="none", marker="s", markersize=7, color=style.color(name), label=style.display(name))
        for name in _CLOCKS
    ]
    held = Line2D([], [], marker=style.MARKERS["subspace"], label=_KINDS["held"], **plain)
    freed = Line2D([], [], marker=style.MARKERS["circuit"], markerfacecolor="white", label=_KINDS["freed"], **plain)
    lines = {"linewidth": 1.3, "color": style.GRAY}
    nineteen = Line2D([], [], linestyle=(0, (4.0, 2.0)), label="all nineteen, by measure", **lines)
    return [*measures, held, freed, nineteen]
