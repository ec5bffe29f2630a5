"""Emergence times of trained models on the curves of the reduced flows, and their ratio."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from induction_dynamics.plotting import style

MEASURES = ("gamma_3", "beta_2", "alpha_3", "loss")
_SHIFTS = dict(zip(MEASURES, (0.955, 0.985, 1.015, 1.045), strict=True))
_AGREEMENT = 0.01

Row = Mapping[str, Any]


def plot_trained_scaling(times: Sequence[Row], ratios: Sequence[Row], exponents: Sequence[Row]) -> Figure:
    """Draw T against N at threshold 0.5, a column for each query, and below it the ratio of trained to reduced.

    Args:
        times: `model` (`full`, `subspace`, `circuit`), `query`, `context_length`, `measure`, `threshold`, `time` in
            flow time or None.
        ratios: `query`, `context_length`, `measure`, `threshold`, `ratio` (mean over seeds, trained over nineteen
            coordinates) and its `standard_error` or None.
        exponents: `query`, `measure`, `model`, `exponent`, `low`, `high` of a power law.

    Returns:
        The figure.

    Example:
        >>> common = {"query": "uniform", "measure": "loss", "threshold": 0.5}
        >>> times = [{**common, "model": "full", "context_length": n, "time": 2.0 * n**2} for n in (4, 8)]
        >>> ratios = [{**common, "context_length": n, "ratio": 1.01, "standard_error": None} for n in (4, 8)]
        >>> figure = plot_trained_scaling(times, ratios, [])
        >>> figure.axes[0].get_title()
        'query uniform, orthonormal inputs'
    """
    queries = list(dict.fromkeys(row["query"] for row in times))
    figure = style.new_figure(7.2 * len(queries), 10.2)
    panels = figure.subplots(2, len(queries), squeeze=False, sharex="col", sharey="row", height_ratios=(1.75, 1))
    for column, query in enumerate(queries):
        upper, lower = panels[:, column]
        _draw_times(upper, [row for row in times if row["query"] == query and row["threshold"] == 0.5])
        _draw_ratios(lower, [row for row in ratios if row["query"] == query and row["threshold"] == 0.5])
        _tell_exponents(upper, [row for row in exponents if row["query"] == query])
        upper.set_title(f"query {query}, orthonormal inputs", fontsize=style.FONT["title"])
        lower.set_xlabel("context length N (item-label pairs)", fontsize=style.FONT["label"])
        style.set_length_ticks(lower, sorted({row["context_length"] for row in times if row["query"] == query}))
        if column == 0:
            upper.set_ylabel("emergence time T (flow time)", fontsize=style.FONT["label"])
            lower.set_ylabel("trained / nineteen coordinates", fontsize=style.FONT["label"])
    style.add_key_below(figure, _key(), columns=4 if len(queries) > 1 else 2)
    return figure


def _draw_times(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set(xscale="log", yscale="log")
    style.dress(axes)
    for measure in MEASURES:
        for model in ("circuit", "subspace", "full"):
            own = [row for row in rows if (row["measure"], row["model"]) == (measure, model)]
            own = sorted((row for row in own if row["time"] is not None), key=lambda row: row["context_length"])
            trained = model == "full"
            axes.plot(
                [row["context_length"] for row in own],
                [row["time"] for row in own],
                color=style.color(measure),
                linestyle="none" if trained else style.LINES[model],
                linewidth=1.8,
                marker=style.MARKERS[model] if trained else "",
                markersize=8,
                markerfacecolor="none",
                markeredgewidth=1.6,
                gid=f"{model} {measure}",
                zorder=4 if trained else 2,
            )


def _draw_ratios(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_xscale("log")
    style.dress(axes)
    axes.axhspan(1 - _AGREEMENT, 1 + _AGREEMENT, color="#ececec", zorder=0)
    axes.axhline(1.0, color=style.GRAY, linewidth=1.0, zorder=1)
    for row in rows:
        # side by side
        place = row["context_length"] * _SHIFTS[row["measure"]]
        axes.errorbar(
            [place],
            [row["ratio"]],
            yerr=[2 * (row["standard_error"] or 0.0)],
            color=style.color(row["measure"]),
            marker=style.MARKERS["full"],
            markersize=7,
            markerfacecolor="none" if row["standard_error"] is not None else "white",
            markeredgewidth=1.6,
            linewidth=1.4,
            capsize=3 if row["standard_error"] is not None else 0,
            gid="ratio",
        )


def _tell_exponents(axes: Axes, rows: Sequence[Row]) -> None:
    """The exponents side by side: trained, nineteen coordinates, three."""
    lines = []
    for measure in MEASURES:
        by_model = {row["model"]: row for row in rows if row["measure"] == measure}
        if not {"full", "subspace", "circuit"} <= set(by_model):
            continue
        words = []
        for model in ("full", "subspace", "circuit"):
            row = by_model[model]
            words.append(f"{row['exponent']:.2f} ± {(row['high'] - row['low']) / 2:.2f}")
        lines.append(f"{style.display(measure)}:  " + "   ".join(words))
    if lines:
        head = "exponent p of T ~ N$^p$:  trained,  nineteen,  three"
        axes.text(
            0.03,
            0.97,
            "\n".join([head, *lines]),
            transform=axes.transAxes,
            ha="left",
            va="top",
            fontsize=style.FONT["legend"] - 1,
            bbox={"facecolor": "white", "edgecolor": "#d0d0d0", "alpha": 0.9},
            gid="exponents",
        )


def _key() -> list[Line2D | Patch]:
    colors = [Line2D([], [], color=style.color(name), linewidth=6, label=style.display(name)) for name in MEASURES]
    models = [
        Line2D([], [], color=style.GRAY, linestyle=style.LINES["circuit"], linewidth=1.8, label="three coordinates"),
        Line2D([], [], color=style.GRAY, linestyle=style.LINES["subspace"], linewidth=1.8, label="nineteen"),
        Line2D(
            [],
            [],
            color=style.GRAY,
            linestyle="none",
            marker=style.MARKERS["full"],
            markerfacecolor="none",
            markersize=8,
            markeredgewidth=1.6,
            label="trained, each seed (below: mean, 2 std. errors)",
        ),
    ]
    band = Patch(color="#ececec", label=f"within {_AGREEMENT:.0%}")
    return [*colors, *models, band]
