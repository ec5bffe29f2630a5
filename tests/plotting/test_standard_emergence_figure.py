import numpy as np
import pytest
from matplotlib.colors import to_hex

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.standard_emergence import MEASURES, plot_standard_emergence

STEPS = [
    {"case": case, "seed": seed, "level": level, "measure": measure, "step": 10.0 * (place + 1) + seed}
    for case in ("one", "another")
    for seed in (0, 1)
    for level in ("chance", "half")
    for place, measure in enumerate(MEASURES)
]
ORDERS = [
    {"case": "one", "level": "chance", "order": "gamma_3 beta_2 alpha_3", "seeds": 2},
    {"case": "another", "level": "chance", "order": "incomplete", "seeds": 1},
]


def dots(axes):
    return {str(line.get_gid()): line for line in axes.lines if line.get_gid()}


def test_a_dot_for_each_seed_at_its_step():
    figure = plot_standard_emergence(STEPS, ORDERS)
    for axes, level in zip(figure.axes, ("chance", "half"), strict=True):
        found = dots(axes)
        rows = [row for row in STEPS if row["level"] == level]
        assert len(found) == len(rows)
        for row in rows:
            dot = found[f"{row['case']} {row['measure']} {row['seed']}"]
            assert dot.get_xdata() == [row["step"]]
            assert round(float(np.asarray(dot.get_ydata())[0])) == ("one", "another").index(row["case"])
            assert to_hex(dot.get_color()) == style.color(row["measure"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["one", "another"]
    top, bottom = figure.axes[0].get_ylim()[::-1]
    assert top < 0 < 1 < bottom


def test_what_never_emerges_has_no_dot():
    rows = [row | {"step": None} if row["measure"] == "alpha_3" else row for row in STEPS]
    assert not any("alpha_3" in gid for axes in plot_standard_emergence(rows, ORDERS).axes for gid in dots(axes))


def test_the_most_frequent_order_is_told():
    axes = plot_standard_emergence(STEPS, ORDERS).axes[0]
    words = [text.get_text() for text in axes.texts]
    assert words == [r"$\gamma_{3}$, $\beta_{2}$, $\alpha_{3}$: 2 of 2", "incomplete: 1 of 1"]


def test_nothing_to_draw():
    with pytest.raises(ArgumentError, match="steps must be at least one row"):
        plot_standard_emergence([], [])
