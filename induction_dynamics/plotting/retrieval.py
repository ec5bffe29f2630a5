"""Layer 2 as an associative memory: what it retrieves in contexts longer than those it was trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style

Row = Mapping[str, Any]

QUERIES = ("last", "uniform")

_TITLES = {"circuit": "the circuit's flow", "full": "all 28 D$^2$ weights trained"}
_LINES: dict[str, style.LineStyle] = {"last": "-", "uniform": (0, (5.0, 2.0))}
_FILLS = {"last": "full", "uniform": "none"}
_PALEST = 0.68
_SHORTEST = 0.08
"""Of N*/N0 as drawn: before emergence it is 1/N0, which tells nothing."""


def plot_retrieval(
    weights: Sequence[Row], moments: Sequence[Row], flows: Sequence[Row], losses: Sequence[Row]
) -> Figure:
    r"""Draw the retrieval weight b over the context length N, the length N* at which it fails, and the loss over N.

    A row of panels for each query and a column for each model: b measured with all weights (marks), predicted by the
    formula of three coordinates (dotted) and by all nineteen (solid, where a model has them), in one grey for each
    moment of the training at N0; means over the seeds. In the last column N*/N0 over flow time t/N0^2, of the
    circuit's flows (lines) and where measured (marks), and the loss of the trained coordinates at other N.

    Args:
        weights: rows of `model`, `query`, `trained_length`, `moment`, `context_length`, `three`, `nineteen` and
            `measured`, the last two None where there is nothing.
        moments: rows of `model`, `query`, `trained_length`, `moment` and `fails_measured`, None where b did not fall.
        flows: rows of `query`, `trained_length`, `time_per_square` and `fails_per_length`, None likewise.
        losses: rows of `model`, `query`, `trained_length`, `moment`, `context_length` and `loss`.

    Returns:
        The figure.

    Raises:
        ArgumentError: a table is empty.

    Example:
        >>> about = {"model": "circuit", "query": "last", "trained_length": 8, "moment": 4.0}
        >>> b = [about | {"context_length": n, "three": 1 / n, "nineteen": 1 / n, "measured": 1 / n} for n in (2, 4)]
        >>> fails = [about | {"fails_measured": 2.0}]
        >>> flows = [about | {"time_per_square": t, "fails_per_length": t} for t in (1.0, 10.0)]
        >>> losses = [about | {"context_length": n, "loss": 0.1 * n} for n in (2, 4)]
        >>> len(plot_retrieval(b, fails, flows, losses).axes)
        3
    """
    for name, rows in {"weights": weights, "moments": moments, "flows": flows, "losses": losses}.items():
        if not rows:
            raise ArgumentError(name, list(rows), "at least one row")
    models, times = (sorted({row[name] for row in weights}, key=_order) for name in ("model", "moment"))
    shades = {time: _shade(place, len(times)) for place, time in enumerate(times)}
    figure = style.new_figure(5.2 * (len(models) + 1), 9.6)
    panels = figure.subplots(2, len(models) + 1, squeeze=False)
    for row, query in enumerate(QUERIES):
        for column, model in enumerate(models):
            here = [one for one in weights if (one["model"], one["query"]) == (model, query)]
            axes = panels[row, column]
            if not here:
                axes.remove()
                continue
            _draw_weights(axes, here, shades)
            title = f"{_TITLES.get(model, model)}, query {query}"
            axes.set_title(title, fontsize=style.FONT["title"])
            if column == 0:
                axes.set_ylabel("retrieval weight b", fontsize=style.FONT["label"])
    _draw_flows(panels[0, -1], flows, moments)
    _draw_losses(panels[1, -1], losses, shades)
    style.add_key_below(figure, _key(shades, models), columns=4)
    return figure


def _order(value: Any) -> Any:
    """Of models the circuit first and those without a title last; of moments their own."""
    known = list(_TITLES)
    return (known.index(value) if value in known else len(known), value) if isinstance(value, str) else value


def _shade(place: int, count: int) -> str:
    level = _PALEST * (1 - place / max(count - 1, 1))
    return to_hex((level, level, level))


def _means(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    """Context lengths and the means over the seeds, where there is a number."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row[name] is not None:
            found.setdefault(row["context_length"], []).append(row[name])
    lengths = sorted(found)
    return lengths, [float(np.mean(found[n])) for n in lengths]


def _draw_weights(axes: Axes, rows: Sequence[Row], shades: Mapping[float, str]) -> None:
    model = rows[0]["model"]
    for time, shade in shades.items():
        here = [row for row in rows if row["moment"] == time]
        about = f"{model} {rows[0]['query']} {time:g}"
        axes.plot(
            *_means(here, "three"), color=shade, linestyle=style.LINES["circuit"], linewidth=2.0, gid=f"three {about}"
        )
        if model != "circuit":
            axes.plot(*_means(here, "nineteen"), color=shade, linewidth=2.0, gid=f"nineteen {about}")
        axes.plot(
            *_means(here, "measured"),
            color=shade,
            marker=style.MARKERS.get(model, "^"),
            markersize=7.0,
            linestyle="none",
            gid=f"measured {about}",
        )
    axes.axhline(0.5, color=style.GRAY, linewidth=1.0, zorder=1, gid="level")
    lengths = [row["context_length"] for row in rows]
    style.set_decades(axes, float(min(lengths)), float(max(lengths)))
    axes.set_ylim(-0.03, 1.03)
    style.dress(axes)
    _mark_trained(axes, rows[0]["trained_length"])
    axes.set_xlabel("context length N", fontsize=style.FONT["label"])


def _mark_trained(axes: Axes, length: int) -> None:
    axes.axvline(length, color=style.GRAY, linewidth=1.0, linestyle=(0, (2.0, 2.0)), zorder=1, gid="trained")
    axes.annotate(
        f"N$_0$ = {length}",
        (length, 0.02),
        (-4, 0),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        ha="right",
        fontsize=style.FONT["legend"],
        color=style.GRAY,
    )


def _draw_flows(axes: Axes, flows: Sequence[Row], moments: Sequence[Row]) -> None:
    for query in QUERIES:
        for length in sorted({row["trained_length"] for row in flows if row["query"] == query}):
            here = [row for row in flows if (row["query"], row["trained_length"]) == (query, length)]
            here = [row for row in here if row["fails_per_length"] is not None]
            time, fails = ([row[name] for row in here] for name in ("time_per_square", "fails_per_length"))
            axes.plot(time, fails, color="black", linewidth=1.8, linestyle=_LINES[query], gid=f"{query} {length}")
            if here:
                axes.annotate(
                    f"{length}",
                    (time[-1], fails[-1]),
                    (5, 0),
                    textcoords="offset points",
                    va="bottom" if query == "uniform" else "top",
                    fontsize=12.0,
                )
    for row in moments:
        if row["fails_measured"] is not None:
            axes.plot(
                row["moment"],
                row["fails_measured"] / row["trained_length"],
                marker=style.MARKERS.get(row["model"], "^"),
                markersize=8.0,
                color="black",
                fillstyle=_FILLS[row["query"]],
                linestyle="none",
                zorder=3,
                gid=f"fails {row['model']} {row['query']}",
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=_SHORTEST)
    axes.set_xlim(right=12 * max(row["time_per_square"] for row in flows))
    style.dress(axes)
    axes.axhline(1.0, color=style.GRAY, linewidth=1.0, zorder=1, gid="trained")
    handles = [Line2D([], [], color="black", linewidth=1.8, linestyle=_LINES[query]) for query in QUERIES]
    words = [f"query {query}" for query in QUERIES]
    axes.legend(handles, words, loc="lower right", fontsize=style.FONT["legend"], frameon=False, handlelength=3)
    axes.set_title("retrieval fails at N* (beside lines: N$_0$)", fontsize=style.FONT["title"])
    axes.set_xlabel("flow time t / N$_0^2$", fontsize=style.FONT["label"])
    axes.set_ylabel("N* / N$_0$", fontsize=style.FONT["label"])


def _draw_losses(axes: Axes, losses: Sequence[Row], shades: Mapping[float, str]) -> None:
    model = max((row["model"] for row in losses), key=_order)
    drawn = [row for row in losses if row["model"] == model]
    for query in QUERIES:
        for time, shade in shades.items():
            here = [row for row in drawn if (row["query"], row["moment"]) == (query, time)]
            if here:
                axes.plot(
                    *_means(here, "loss"),
                    color=shade,
                    linewidth=2.0,
                    linestyle=_LINES[query],
                    gid=f"loss {model} {query} {time:g}",
                )
    axes.set_yscale("log")
    lengths = [row["context_length"] for row in drawn]
    style.set_decades(axes, float(min(lengths)), float(max(lengths)))
    style.dress(axes)
    axes.axhline(0.5, color=style.GRAY, linewidth=1.0, zorder=1, gid="nothing put out")
    _mark_trained(axes, drawn[0]["trained_length"])
    axes.set_title(f"loss, {_TITLES.get(model, model)}", fontsize=style.FONT["title"])
    axes.set_xlabel("context length N", fontsize=style.FONT["label"])
    axes.set_ylabel("loss", fontsize=style.FONT["label"])


def _key(shades: Mapping[float, str], models: Sequence[str]) -> list[Artist]:
    key: list[Artist] = [
        Line2D([], [], color=shade, linewidth=5.0, label=f"t = {time:g} N$_0^2$") for time, shade in shades.items()
    ]
    key.append(
        Line2D([], [], color="black", linewidth=2.0, linestyle=style.LINES["circuit"], label="three coordinates")
    )
    if any(model != "circuit" for model in models):
        key.append(Line2D([], [], color="black", linewidth=2.0, label="all nineteen"))
    measured = {"circuit": "measured, circuit", "full": "measured, trained"}
    return key + [
        Line2D(
            [],
            [],
            color="black",
            marker=style.MARKERS.get(model, "^"),
            markersize=8.0,
            linestyle="none",
            label=measured.get(model, f"measured, {model}"),
        )
        for model in models
    ]
