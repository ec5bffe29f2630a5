import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.thresholds import plot_thresholds

LEVELS = (0.1, 0.5, 1.0, 2.0)


def run(model, query, n, seed=None, never=math.inf):
    """Times of one run; gamma_3 never reaches what is above `never`."""
    about = {"model": model, "query": query, "context_length": n, "seed": seed}
    return [
        about
        | {"threshold": x, "gamma_3": n * x if x < never else None, "beta_2": n**2 * x, "alpha_3": n**2 * math.sqrt(x)}
        for x in LEVELS
    ]


ROWS = [
    *run("circuit", "last", 4, never=1.0),
    *run("circuit", "last", 10**6),
    *run("subspace", "uniform", 4),
    *run("full", "uniform", 8, seed=0),
    *run("full", "uniform", 8, seed=1),
]
CHANGES = [
    {"model": "circuit", "query": "last", "context_length": 4, "threshold": 1.0, "time": 16.0},
    {"model": "full", "query": "uniform", "context_length": 8, "threshold": 1.0, "time": 64.0},
]


def drawn(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def panel(figure, title):
    (axes,) = [axes for axes in figure.axes if axes.get_title() == title]
    return axes


def test_curves_are_times_over_n_squared():
    axes = panel(plot_thresholds(ROWS, CHANGES), "three coordinates (circuit), query last")
    assert axes.get_yscale() == "log"
    (beta,) = drawn(axes, "beta_2 1000000")
    np.testing.assert_allclose(np.asarray(beta.get_xdata()), LEVELS)
    np.testing.assert_allclose(np.asarray(beta.get_ydata()), LEVELS)
    (alpha,) = drawn(axes, "alpha_3 4")
    np.testing.assert_allclose(np.asarray(alpha.get_ydata()), np.sqrt(LEVELS))


def test_what_never_emerged_is_a_gap():
    axes = panel(plot_thresholds(ROWS, CHANGES), "three coordinates (circuit), query last")
    (gamma,) = drawn(axes, "gamma_3 4")
    assert list(np.isnan(np.asarray(gamma.get_ydata(), dtype=float))) == [False, False, True, True]


def test_the_longest_has_the_coordinates_own_colour_and_the_widest_line():
    axes = panel(plot_thresholds(ROWS, CHANGES), "three coordinates (circuit), query last")
    (short,), (long,) = drawn(axes, "alpha_3 4"), drawn(axes, "alpha_3 1000000")
    assert to_rgb(long.get_color()) == pytest.approx(to_rgb(style.COLORS["alpha_3"]))
    assert sum(to_rgb(short.get_color())) > sum(to_rgb(long.get_color())) + 0.5
    assert long.get_linewidth() > short.get_linewidth()


def test_every_seed_has_its_curve_and_crossings_their_rings():
    figure = plot_thresholds(ROWS, CHANGES)
    trained = panel(figure, "all weights, trained (full), query uniform, N = 8")
    assert len(drawn(trained, "beta_2 8")) == 2
    for title, n in (("three coordinates (circuit), query last", 4), (trained.get_title(), 8)):
        (rings,) = drawn(panel(figure, title), "changes")
        assert np.asarray(rings.get_xydata()).tolist() == [[1.0, CHANGES[n == 8]["time"] / n**2]]
    assert drawn(panel(figure, "nineteen coordinates (subspace), query uniform"), "changes") == []


def test_the_usual_thresholds_are_marked_and_the_key_is_whole():
    figure = plot_thresholds(ROWS, CHANGES)
    for axes in figure.axes:
        assert [np.asarray(line.get_xdata())[0] for line in drawn(axes, "usual")] == [0.1, 0.5]
        assert axes.get_ylim()[0] >= 0.03
    (key,) = figure.legends
    words = [text.get_text() for text in key.get_texts()]
    assert words[:3] == [style.display(name) for name in ("gamma_3", "beta_2", "alpha_3")]
    assert words[3:] == ["thresholds 0.1, 0.5", "the order changes", "N = 4", "N = 8", "N = 10$^6$"]


def test_nothing_to_draw_is_refused():
    with pytest.raises(ArgumentError, match="rows must be at least one"):
        plot_thresholds([], [])
