"""Local exponents of emergence times, and what a power law fitted to short contexts claims of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.scaling.limits import asymptotic_law

Row = Mapping[str, Any]

_TITLES = {"circuit": "three coordinates (circuit)", "subspace": "nineteen coordinates (subspace)"}
_LAW: dict[str, Any] = {"color": style.GRAY, "linestyle": (0, (4.0, 2.0)), "linewidth": 1.8}
_NARROWEST = 0.012
"""Height of a claimed band at least, in exponents, so that a narrow one is seen."""


def plot_local_exponents(exponents: Sequence[Row], fits: Sequence[Row]) -> Figure:
    r"""Draw p(N) = d ln T / d ln N of emergence times T against context length N, and the p that a short fit claims.

    A row of panels for each model and a column for each query. The broken line is the exponent of the law that the
    loss has there: 2 of N^2, 2 - 1/ln N of N^2 / ln N. A time of order N tends to 1. A hatched band is the interval of
    p that a power law fitted to the shaded lengths claims for all N. Of `gamma_3` only the threshold 1/2 is drawn.

    Args:
        exponents: mappings with `model`, `query`, `measure`, `threshold`, `context_length` and `exponent`.
        fits: mappings with `model`, `query`, `measure`, `threshold`, `first` and `last` (N of the fit), `low` and
            `high` (of p).

    Returns:
        The figure.

    Raises:
        ArgumentError: there are no exponents.

    Example:
        >>> row = {"model": "circuit", "query": "last", "measure": "loss", "threshold": 0.5}
        >>> exponents = [row | {"context_length": n, "exponent": 2.0} for n in (10, 1000, 100000)]
        >>> fit = row | {"first": 4, "last": 64, "low": 1.98, "high": 2.0}
        >>> [axes.get_title() for axes in plot_local_exponents(exponents, [fit]).axes]
        ['three coordinates (circuit), query last']
    """
    shown = [row for row in exponents if row["threshold"] == 0.5]
    if not shown:
        raise ArgumentError("exponents", list(exponents), "at least one at threshold 0.5")
    models = [model for model in _TITLES if any(row["model"] == model for row in shown)]
    queries = [query for query in ("last", "uniform") if any(row["query"] == query for row in shown)]
    figure = style.new_figure(0.6 + 6.8 * len(queries), 1.2 + 4.6 * len(models))
    panels = figure.subplots(len(models), len(queries), squeeze=False, sharex=True, sharey=True)
    lengths = [row["context_length"] for row in shown]
    for across, model in zip(panels, models, strict=True):
        for axes, query in zip(across, queries, strict=True):
            style.dress(axes)
            here = [row for row in shown if (row["model"], row["query"]) == (model, query)]
            claims = [row for row in fits if (row["model"], row["query"], row["threshold"]) == (model, query, 0.5)]
            style.set_decades(axes, float(min(lengths)), float(max(lengths)))
            law = asymptotic_law(model, query, "loss")
            assert law is not None
            _draw_law(axes, logarithmic=law.growth == "N^2/log N")
            _draw(axes, here, claims)
            axes.set_title(f"{_TITLES[model]}, query {query}", fontsize=style.FONT["title"])
            axes.set_ylim(0.88, 2.12)
            axes.set_ylabel("d ln T / d ln N", fontsize=style.FONT["label"])
            axes.set_xlabel("context length N (item-label pairs)", fontsize=style.FONT["label"])
    measures = [
        measure
        for measure in ("gamma_3", "beta_2", "alpha_3", "loss")
        if any(row["measure"] == measure for row in shown)
    ]
    handles: list[Artist] = [
        Line2D([], [], color=style.color(name), marker="o", markersize=5, label=f"T of {style.display(name)}")
        for name in measures
    ]
    handles += [
        Line2D([], [], **_LAW, label="law: 2 of N$^2$, 2 − 1/ln N of N$^2$/ln N"),
        Patch(
            facecolor="#d8d8d8", hatch="////", edgecolor="white", label="warning: p claimed by a fit to the shaded N"
        ),
    ]
    style.add_key_below(figure, handles, columns=3 if len(queries) > 1 else 1)
    return figure


def _draw_law(axes: Axes, *, logarithmic: bool) -> None:
    n = np.geomspace(*axes.get_xlim(), 400)
    n = n[n > 1.5]
    axes.plot(n, 2 - logarithmic / np.log(n), zorder=2, gid="law", **_LAW)


def _draw(axes: Axes, here: Sequence[Row], claims: Sequence[Row]) -> None:
    for row in claims:
        middle, half = (row["low"] + row["high"]) / 2, max(row["high"] - row["low"], _NARROWEST) / 2
        band = axes.axhspan(middle - half, middle + half, facecolor=style.color(row["measure"]), edgecolor="white")
        band.set(alpha=0.22, hatch="////", linewidth=0, zorder=1, gid=f"claim {row['measure']}")
    if claims:
        fitted = axes.axvspan(min(row["first"] for row in claims), max(row["last"] for row in claims))
        fitted.set(facecolor="#f0f0f0", edgecolor="none", zorder=0, gid="fitted")
    for measure in dict.fromkeys(row["measure"] for row in here):
        own = sorted((row["context_length"], row["exponent"]) for row in here if row["measure"] == measure)
        axes.plot(
            *zip(*own, strict=True),
            color=style.color(measure),
            marker=style.MARKERS[here[0]["model"]],
            markersize=4.5,
            linewidth=1.2,
            zorder=3,
            gid=f"exponents {measure}",
        )
