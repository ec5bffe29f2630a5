"""When each part of the circuit emerges in standard transformers: a dot for each seed, a row for each kind of model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style

MEASURES = ("gamma_3", "beta_2", "alpha_3", "loss")
TITLES = {
    "chance": "above 5 standard deviations\nof chance for good",
    "half": "above half of where it ends\nfor good",
}
_LATE = 30.0  # steps beyond which the first row of dots needs the right side for itself
_PLACES = dict(zip(MEASURES, (0.27, 0.09, -0.09, -0.27), strict=True))

Row = Mapping[str, Any]


def plot_standard_emergence(steps: Sequence[Row], orders: Sequence[Row]) -> Figure:
    """Draw the step at which each seed's measures emerge, a panel for each level, and tell the most frequent order.

    Args:
        steps: `case`, `seed`, `level` (`chance` or `half`), `measure`, and `step`, None where it never emerges.
        orders: `case`, `level`, `order` (three names, earliest first, or `incomplete`) and the number of `seeds`.

    Returns:
        The figure.

    Raises:
        ArgumentError: there is nothing to draw.

    Example:
        >>> common = {"case": "one head", "seed": 0, "level": "chance"}
        >>> steps = [{**common, "measure": name, "step": at} for name, at in (("gamma_3", 10.0), ("alpha_3", 300.0))]
        >>> orders = [{"case": "one head", "level": "chance", "order": "gamma_3 beta_2 alpha_3", "seeds": 1}]
        >>> figure = plot_standard_emergence(steps, orders)
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['one head']
    """
    cases = list(dict.fromkeys(row["case"] for row in steps))
    levels = list(dict.fromkeys(row["level"] for row in steps))
    if not cases:
        raise ArgumentError("steps", list(steps), "at least one row")
    figure = style.new_figure(2.0 + 6.4 * len(levels), 2.6 + 0.95 * len(cases))
    panels = figure.subplots(1, len(levels), squeeze=False, sharex=True, sharey=True)[0]
    for axes, level in zip(panels, levels, strict=True):
        _draw(axes, cases, [row for row in steps if row["level"] == level])
        drawn = [row["step"] for row in steps if row["level"] == level and row["measure"] == MEASURES[0]]
        late = any(step is not None and step > _LATE for step in drawn)
        _tell_orders(axes, cases, [row for row in orders if row["level"] == level], late)
        axes.set_title(TITLES.get(level, level), fontsize=style.FONT["title"])
    panels[0].set_yticks(range(len(cases)), cases, fontsize=style.FONT["label"])
    panels[0].set_ylim(len(cases) - 0.45, -0.55)
    handles = [
        Line2D([], [], color=style.color(name), marker="o", linestyle="none", label=_label(name)) for name in MEASURES
    ]
    style.add_key_below(figure, handles, columns=4)
    return figure


def _label(name: str) -> str:
    if name == "loss":
        return "loss (half of its start)"
    letter, index = style.display(name).strip("$").split("_")
    return rf"$\tilde{{{letter}}}_{index}$"


def _draw(axes: Axes, cases: Sequence[str], rows: Sequence[Row]) -> None:
    for row in rows:
        if row["measure"] not in _PLACES or row["step"] is None:
            continue
        height = cases.index(row["case"]) - _PLACES[row["measure"]]
        axes.plot(
            max(row["step"], 1.0),
            height,
            marker="o",
            markersize=6,
            alpha=0.55,
            color=style.color(row["measure"]),
            markeredgewidth=0,
            gid=f"{row['case']} {row['measure']} {row['seed']}",
        )
    axes.set_xscale("log")
    style.dress(axes)
    axes.grid(False, axis="y")
    for place in range(1, len(cases)):
        axes.axhline(place - 0.5, color="#cccccc", linewidth=0.8)
    axes.set_xlabel("step", fontsize=style.FONT["label"])
    axes.tick_params(axis="y", length=0)


def _tell_orders(axes: Axes, cases: Sequence[str], rows: Sequence[Row], on_the_left: bool) -> None:
    for place, case in enumerate(cases):
        of_case = [row for row in rows if row["case"] == case]
        if not of_case:
            continue
        most, total = max(of_case, key=lambda row: row["seeds"]), int(np.sum([row["seeds"] for row in of_case]))
        words = most["order"]
        if words != "incomplete":
            words = ", ".join(style.display(name) for name in words.split())
        axes.annotate(
            f"{words}: {most['seeds']} of {total}",
            xy=(0.0 if on_the_left else 1.0, place - 0.32),
            xycoords=axes.get_yaxis_transform(),
            xytext=(6 if on_the_left else -4, 0),
            textcoords="offset points",
            ha="left" if on_the_left else "right",
            va="center",
            fontsize=style.FONT["legend"],
            color=style.GRAY,
        )
