import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.text import Text

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.coordinates import plot_coordinates
from induction_dynamics.plotting.emergence_times import plot_emergence_times
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES

TIMES = np.linspace(0, 144, 50)
THETA = np.tanh(TIMES[:, None] / 60) * np.linspace(-1, 3, 19)
LOSS = 0.5 * np.exp(-TIMES / 50)


def curves(lines: list[Line2D]) -> dict[str, Line2D]:
    return {str(line.get_gid()): line for line in lines}


def test_nineteen_curves_over_the_loss():
    figure = plot_coordinates(TIMES, THETA, LOSS, context_length=6, title="a run")
    upper, lower = figure.axes
    drawn = curves(list(upper.lines))
    assert tuple(drawn) == COORDINATES
    for k, name in enumerate(COORDINATES):
        np.testing.assert_array_equal(np.asarray(drawn[name].get_ydata()), THETA[:, k])
        assert to_hex(drawn[name].get_color()) == style.COLORS[name]
    np.testing.assert_array_equal(np.asarray(curves(list(lower.lines))["loss"].get_ydata()), LOSS)
    assert (upper.get_ylabel(), lower.get_ylabel(), lower.get_xlabel()) == ("coordinate", "loss", "flow time t")
    assert upper.get_xscale() == upper.get_yscale() == "linear"
    assert figure.get_suptitle() == "a run"


def test_axis_at_the_top_counts_in_n_squared():
    figure = plot_coordinates(TIMES, THETA, LOSS, context_length=6)
    figure.draw_without_rendering()
    (top,) = figure.axes[0].child_axes
    assert top.get_xlim() == pytest.approx((0, 4))
    assert top.get_xlabel() == "t / N$^2$   (N = 6)"


def test_highlighted_curves_are_strong_and_labelled():
    axes = plot_coordinates(TIMES, THETA, context_length=6, highlight=("alpha_3", "gamma_4")).axes[0]
    strong = {name for name, line in curves(list(axes.lines)).items() if line.get_linewidth() > 2}
    assert strong == {"alpha_3", "gamma_4"}
    large = {text.get_text() for text in axes.texts if float(text.get_fontsize()) > 15}
    assert large == {r"$\alpha_{3}$", r"$\gamma_{4}$"}


def test_quiet_curves_that_end_away_from_zero_are_labelled_in_smaller_letters():
    ends = dict.fromkeys(COORDINATES, 0.0) | {"beta_10": -0.31, "gamma_2": 0.29, "alpha_3": 0.1}
    theta = TIMES[:, None] / 144 * np.array(list(ends.values()))
    axes = plot_coordinates(TIMES, theta, context_length=6).axes[0]
    sizes = {text.get_text(): float(text.get_fontsize()) for text in axes.texts}
    assert {text for text, size in sizes.items() if size < 15} == {r"$\beta_{10}$"}
    assert set(sizes) == {style.display(name) for name in (*CIRCUIT, "beta_10")}


def test_the_key_names_the_quiet_curves():
    (key,) = plot_coordinates(TIMES, THETA, context_length=6).legends
    assert len(key.get_texts()) == 16
    for text, handle in zip(key.get_texts(), key.legend_handles, strict=True):
        name = next(name for name in COORDINATES if style.display(name) == text.get_text())
        assert isinstance(handle, Line2D) and to_hex(handle.get_color()) == style.COLORS[name]


def test_labels_of_equal_ends_do_not_overlap():
    figure = plot_coordinates(TIMES, 0 * THETA, context_length=6)
    figure.draw_without_rendering()
    # without the lines that lead back to the ends
    boxes = sorted(Text.get_window_extent(text).y0 for text in figure.axes[0].texts)
    assert len(boxes) == 3 and np.diff(boxes).min() > 15


def test_second_run_is_dashed_in_the_same_colours():
    figure = plot_coordinates(TIMES, THETA, LOSS, context_length=6, overlay=(2 * TIMES[::5], THETA[::5]))
    lines = list(figure.axes[0].lines)
    assert len(lines) == 2 * 19
    for first, second in zip(lines[:19], lines[19:], strict=True):
        assert first.get_color() == second.get_color()
        assert first.get_linestyle() == "-" and second.get_linestyle() == "--"
    assert figure.axes[0].get_xlim() == (0, 2 * TIMES[45])
    assert [text.get_text() for text in figure.legends[1].get_texts()] == ["reduced flow", "full model"]


@pytest.mark.parametrize("name", ["alpha_3", "beta_2", "gamma_3", "gamma_4"])
def test_a_coordinate_has_the_same_colour_in_both_pictures(name):
    row: dict[str, Any] = {"context_length": 6, "inputs": "orthonormal", "query": "last", "model": "circuit"}
    row |= {"measure": name, "threshold": 0.5, "time": 60.0, "outcome": "emerged", "horizon": 12.0}
    (point,) = plot_emergence_times([row]).axes[0].lines
    line = curves(list(plot_coordinates(TIMES, THETA, context_length=6).axes[0].lines))[name]
    assert to_hex(point.get_markeredgecolor()) == to_hex(line.get_color())


def test_jax_arrays_and_single_times_are_drawn_without_a_warning():
    plot_coordinates(jnp.zeros(1), jnp.zeros((1, 19)), jnp.ones(1), context_length=1).draw_without_rendering()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": []}, "time must be a list of at least one time; got (0,)."),
        ({"coordinates": THETA[:, :3]}, "coordinates must be of shape (50, 19); got (50, 3)."),
        ({"loss": LOSS[1:]}, "loss must be as long as time (50,); got (49,)."),
        ({"context_length": 0}, "context_length must be at least 1; got 0."),
        ({"highlight": ("alpha_3", "delta")}, "highlight must be among alpha_1, "),
        ({"overlay": (TIMES[1:], THETA)}, "overlay must be of shape (49, 19); got (50, 19)."),
    ],
)
def test_refused(changes, message):
    arguments: dict[str, Any] = {"time": TIMES, "coordinates": THETA, "loss": LOSS, "context_length": 6}
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_coordinates(**(arguments | changes))
