import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES, emergence_times
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.emergence_order import plot_emergence_order
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES

# gamma_3 and beta_2 rise fast, alpha_3 slowly: at threshold 1 in this order, and beta_2 ends at 2
PARABOLAS = {"gamma_3": 3.0, "beta_2": 2.0, "alpha_3": 1.2}


def curves(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_gid()): line for line in axes.lines}


def uneven_run():
    """theta = c (t / 100)^2 and L = (1 - (t / 100)^2) / 2, in groups of records that last ever longer."""
    time = np.append(np.linspace(0, 10, 5)[:-1], np.linspace(10, 100, 5))
    theta = np.zeros((9, 19))
    for name, size in PARABOLAS.items():
        theta[:, COORDINATES.index(name)] = size * (time / 100) ** 2
    return Trajectory(time, theta, 0.5 - (time / 100) ** 2 / 2, 0 * time, "horizon_reached", degree=4)


def test_one_column_for_each_run(run):
    figure = plot_emergence_order({"first": run, "second": run, "third": run}, context_length=6)
    upper, lower = figure.axes[:3], figure.axes[3:]
    assert [axes.get_title().splitlines()[0] for axes in upper] == ["first", "second", "third"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["coordinate", "", "", "loss", "", ""]
    assert {axes.get_xlabel() for axes in lower} == {"flow time t"}
    assert all(axes.child_axes[0].get_xlabel() == "t / N$^2$   (N = 6)" for axes in upper)
    assert len({axes.get_ylim() for axes in upper}) == len({axes.get_ylim() for axes in lower}) == 1


def test_curves_follow_the_run_between_records_that_lie_far_apart():
    upper, lower = plot_emergence_order({"run": uneven_run()}, context_length=5).axes
    for name, size in PARABOLAS.items():
        line = curves(upper)[name]
        t = np.asarray(line.get_xdata())
        assert len(t) == 600 and np.ptp(np.diff(t)) < 1e-9
        np.testing.assert_allclose(np.asarray(line.get_ydata()), size * (t / 100) ** 2, atol=1e-9)
    line = curves(lower)["loss"]
    expected = 0.5 - (np.asarray(line.get_xdata()) / 100) ** 2 / 2
    np.testing.assert_allclose(np.asarray(line.get_ydata()), expected, atol=1e-9)


def test_first_crossings_are_marked_where_they_happen():
    run = uneven_run()
    upper, lower = plot_emergence_order({"run": run}, context_length=5, threshold=1.0).axes
    for emergence in emergence_times(run, thresholds=(1.0,)):
        name, axes = emergence.measure, lower if emergence.measure == "loss" else upper
        dot = curves(axes)[f"crossing of {name}"]
        (time,), (height,) = np.asarray(dot.get_xdata()), np.asarray(dot.get_ydata())
        expected = 100 * np.sqrt(0.5 if name == "loss" else 1 / PARABOLAS[name])
        assert time == pytest.approx(emergence.time) == pytest.approx(expected)
        assert height == pytest.approx(0.25 if name == "loss" else 1.0)
        assert to_hex(dot.get_color()) == style.COLORS[name]
        for panel in (upper, lower):
            assert list(np.asarray(curves(panel)[f"time of {name}"].get_xdata())) == [time, time]
    assert [list(np.asarray(curves(axes)["threshold"].get_ydata())) for axes in (upper, lower)] == [[1, 1], [0.25] * 2]


def test_the_title_tells_the_order_and_what_never_emerged():
    axes = plot_emergence_order({"run": uneven_run()}, context_length=5, threshold=1.5).axes[0]
    title = axes.get_title().splitlines()[1]
    order = [title.index(style.display(name)) for name in ("gamma_3", "loss", "beta_2", "alpha_3")]
    assert order == sorted(order)
    assert "70.71" in title and title.endswith("never $\\alpha_{3}$")
    assert "crossing of alpha_3" not in curves(axes) and "crossing of beta_2" in curves(axes)


def test_strong_curves_are_the_labelled_ones_and_the_key_has_the_rest(run):
    figure = plot_emergence_order({"run": run}, context_length=6)
    drawn = curves(figure.axes[0])
    assert {name for name in COORDINATES if drawn[name].get_linewidth() > 2} == set(DEFAULT_MEASURES) - {"loss"}
    away = {name for name, end in zip(COORDINATES, run.coordinates[-1], strict=True) if abs(end) > 0.3}
    named = away | set(CIRCUIT)
    assert away - set(CIRCUIT) and set(COORDINATES) - named
    assert {text.get_text() for text in figure.axes[0].texts} == {style.display(name) for name in named}
    assert [len(key.get_texts()) for key in figure.legends] == [16, 1]
    assert "coordinate 0.5, loss half its start" in figure.legends[1].get_texts()[0].get_text()


def test_a_run_that_starts_beyond_the_threshold_is_marked_at_its_start(run):
    high = dataclasses.replace(run, coordinates=run.coordinates + 1.0)
    dot = curves(plot_emergence_order({"run": high}, context_length=6).axes[0])["crossing of alpha_3"]
    assert (list(np.asarray(dot.get_xdata())), list(np.asarray(dot.get_ydata()))) == ([0.0], [1.0])


def test_a_single_record_is_drawn_without_a_warning():
    one = Trajectory(np.zeros(1), np.zeros((1, 19)), np.ones(1), np.zeros(1), "solver_failed")
    plot_emergence_order({"run": one}, context_length=6).draw_without_rendering()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": {}}, "runs must be at least one run; got {}."),
        ({"context_length": 0}, "context_length must be at least 1; got 0."),
        ({"threshold": 0.0}, "threshold must be finite and above 0; got 0.0."),
        ({"threshold": float("inf")}, "threshold must be finite and above 0; got inf."),
    ],
)
def test_refused(run, changes, message):
    arguments: dict[str, Any] = {"runs": {"run": run}, "context_length": 6}
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_emergence_order(**(arguments | changes))
