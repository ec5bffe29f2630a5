"""Emergence times in long contexts beside the laws that they approach."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.scaling.laws import local_log_slopes
from induction_dynamics.scaling.limits import MEASURES, AsymptoticLaw, asymptotic_law

Row = Mapping[str, Any]

_ROOM = 1.6
"""Height of a panel of level series over that of the highest, for the key."""
_TITLES = {
    "circuit": "three coordinates (circuit)",
    "subspace": "nineteen coordinates (subspace)",
    "gamma_3": style.display("gamma_3"),
}
_LAW: dict[str, Any] = {"linestyle": (0, (4.0, 2.0)), "linewidth": 1.6, "zorder": 2, "gid": "law"}


@dataclasses.dataclass(frozen=True)
class _Series:
    model: str
    query: str
    measure: str
    threshold: float
    n: np.ndarray
    time: np.ndarray
    law: AsymptoticLaw | None

    @property
    def panel(self) -> str:
        """The model; `gamma_3` for what is learned on the way to the plateau."""
        return self.model if self.law is not None and self.law.growth != "N" else "gamma_3"

    @property
    def words(self) -> str:
        plain = self.threshold == 0.5 or self.measure == "loss"
        return style.display(self.measure) + ("" if plain else f" at {self.threshold:g}")


def plot_asymptotics(rows: Sequence[Row]) -> Figure:
    r"""Draw emergence times T against context length N, divided so that the law they approach is a straight line.

    A column for each query. For each model a panel: T / N^2, which tends to a limit, where the law is c N^2; and
    N^2 / T, which grows in ln N with slope 1 / c, where it is c N^2 / ln N. The lowest panel has T / N of gamma_3, of
    both models. Marks are the times; broken lines are the laws of `asymptotic_law`: a limit as it is, a slope drawn
    through the last mark, since what is added to it is not known. The keys tell the last value, or the slope between
    the last two marks, and its limit.

    Args:
        rows: emergence times on orthonormal inputs of the models `circuit` and `subspace`: mappings with the keys of
            `scaling.points.Row`, of which `model`, `query`, `measure` (`gamma_3`, `beta_2`, `alpha_3` or `loss`),
            `threshold`, `context_length` and `time` are read. A row whose `time` is None is left out.

    Returns:
        The figure.

    Raises:
        ArgumentError: no row has a time, or a model, query, measure or threshold that `asymptotic_law` refuses.

    Example:
        >>> row = {"model": "circuit", "query": "last", "measure": "loss", "threshold": 0.5}
        >>> figure = plot_asymptotics([row | {"context_length": n, "time": 5.0 * n**2} for n in (10, 1000, 100000)])
        >>> [axes.get_title() for axes in figure.axes]
        ['three coordinates (circuit), query last']
    """
    series = _series_of(rows)
    queries = [query for query in ("last", "uniform") if any(one.query == query for one in series)]
    heights = {"circuit": 5.2, "subspace": 5.2, "gamma_3": 4.4}
    kinds = [kind for kind in heights if any(one.panel == kind for one in series)]
    tall = [heights[kind] for kind in kinds]
    figure = style.new_figure(0.6 + 6.8 * len(queries), 0.3 + sum(tall))
    panels = figure.subplots(len(kinds), len(queries), squeeze=False, height_ratios=tall)
    lengths = np.concatenate([one.n for one in series])
    for across, kind in zip(panels, kinds, strict=True):
        for axes, query in zip(across, queries, strict=True):
            here = [one for one in series if (one.panel, one.query) == (kind, query)]
            style.set_decades(axes, float(lengths.min()), float(lengths.max()))
            style.dress(axes)
            axes.set_title(f"{_TITLES[kind]}, query {query}", fontsize=style.FONT["title"])
            axes.set_visible(bool(here))
            if any(one.law is not None and one.law.growth == "N^2/log N" for one in here):
                _draw_rising(axes, here)
            elif here:
                _draw_level(axes, here)
            axes.set_xlabel("context length N (item-label pairs)", fontsize=style.FONT["label"])
    return figure


def _series_of(rows: Sequence[Row]) -> list[_Series]:
    found: dict[tuple[str, str, str, float], dict[int, float]] = {}
    for row in rows:
        key = (row["model"], row["query"], row["measure"], float(row["threshold"]))
        if row["time"] is not None:
            found.setdefault(key, {})[row["context_length"]] = row["time"]
    if not found:
        raise ArgumentError("rows", list(rows), "at least one with a time")
    series = []
    for key, times in found.items():
        n = np.array(sorted(times))
        series.append(_Series(*key, n, np.array([times[length] for length in n]), asymptotic_law(*key)))
    return sorted(series, key=lambda one: (one.model, MEASURES.index(one.measure), one.threshold))


def _draw_level(axes: Axes, here: Sequence[_Series]) -> None:
    """T / N or T / N^2, and the limits."""
    power = 1 if here[0].panel == "gamma_3" else 2
    for one in here:
        value = _per(one, power)
        model = f"{one.model}, " if power == 1 else ""
        words = f"{model}{one.words}: {value[-1]:.4f}"
        if one.law is None:
            words = f"{model}{one.words}: {value[-1]:.1f}, no limit"
        else:
            axes.axhline(one.law.constant, color=style.color(one.measure), **_LAW)
            words += f" → {one.law.constant:.4f}"
        _mark(axes, one, value, words)
    axes.set_ylim(0, _ROOM * max(float(np.max(_per(one, power))) for one in here))
    axes.set_ylabel("T / N" if power == 1 else "T / N$^2$", fontsize=style.FONT["label"])
    _add_key(axes, "last value → limit")


def _draw_rising(axes: Axes, here: Sequence[_Series]) -> None:
    """N^2 / T, and straight lines in ln N with the slopes of the laws."""
    for one in here:
        assert one.law is not None
        value = 1 / _per(one, 2)
        expected = 1 / one.law.constant
        slope = f"{local_log_slopes(one.n, one.time)[1][-1]:.4f}" if one.n.size > 1 else "one point"
        ends = np.array(axes.get_xlim())
        axes.plot(ends, value[-1] + expected * np.log(ends / one.n[-1]), color=style.color(one.measure), **_LAW)
        _mark(axes, one, value, f"{one.words}: {slope} → {expected:.4f}")
    axes.set_ylim(0, 1.12 * max(float(np.max(1 / _per(one, 2))) for one in here))
    axes.set_ylabel("N$^2$ / T", fontsize=style.FONT["label"])
    _add_key(axes, "slope in ln N at the end → limit")


def _per(one: _Series, power: int) -> np.ndarray:
    """T / N^power."""
    return one.time / one.n.astype(float) ** power


def _mark(axes: Axes, one: _Series, value: np.ndarray, words: str) -> None:
    color = style.color(one.measure)
    axes.plot(
        one.n,
        value,
        marker=style.MARKERS[one.model],
        markersize=6,
        markerfacecolor=color if one.threshold == 0.5 else "white",
        markeredgecolor=color,
        markeredgewidth=1.4,
        linestyle="none",
        zorder=3,
        label=words,
        gid="times",
    )


def _add_key(axes: Axes, title: str) -> None:
    handles = [line for line in axes.lines if line.get_gid() == "times"]
    law = Line2D([], [], color=style.GRAY, linestyle=_LAW["linestyle"], linewidth=_LAW["linewidth"], label="law")
    axes.legend(
        handles=[*handles, law],
        loc="upper left",
        title=title,
        alignment="left",
        fontsize=style.FONT["legend"],
        title_fontsize=style.FONT["legend"],
        framealpha=0.9,
        edgecolor="none",
        handlelength=1.6,
        borderpad=0.2,
    )
