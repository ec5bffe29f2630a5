import re
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.checkpoints import OFF_SUBSPACE, plot_checkpoints
from induction_dynamics.pseudo_parameters import COORDINATES

X = np.array([0.0, 1.0, 4.0, 20.0])
THETA = np.tanh(X[:, None] / 6) * np.linspace(-1, 3, 19)
MISSED = np.linspace(0.01, 0.2, 16).reshape(4, 4)


def test_the_curves_are_the_numbers():
    upper, lower = plot_checkpoints(X, THETA, MISSED, time_unit="flow").axes
    assert [line.get_gid() for line in upper.lines] == list(COORDINATES)
    for line, values in zip(upper.lines, THETA.T, strict=True):
        np.testing.assert_array_equal(np.asarray(line.get_xdata()), X)
        np.testing.assert_array_equal(np.asarray(line.get_ydata()), values)
        assert to_hex(line.get_color()) == style.COLORS[str(line.get_gid())]
    assert [line.get_gid() for line in lower.lines] == list(OFF_SUBSPACE) == ["W1", "W2", "W3", "total"]
    for line, values in zip(lower.lines, MISSED.T, strict=True):
        np.testing.assert_array_equal(np.asarray(line.get_ydata()), values)
    strong = {str(line.get_gid()) for line in upper.lines if line.get_linewidth() > 2}
    assert strong == {"alpha_3", "beta_2", "gamma_3"}


@pytest.mark.parametrize(("unit", "words"), [("flow", "flow time t"), ("checkpoint", "checkpoint")])
def test_the_axis_says_what_is_counted(unit, words):
    figure = plot_checkpoints(X, THETA, MISSED, time_unit=unit)
    assert figure.axes[1].get_xlabel() == words


def test_few_files_stand_at_their_numbers_and_many_do_not():
    labels = ["a.npz", "$b$.npz", "x" * 40 + ".npz", "d.npz"]
    figure = plot_checkpoints(np.arange(4), THETA, MISSED, time_unit="checkpoint", labels=labels)
    figure.draw_without_rendering()
    shown = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert shown == ["a.npz", r"\$b\$.npz", "…" + "x" * 19 + ".npz", "d.npz"]
    many = np.arange(40)
    figure = plot_checkpoints(many, np.zeros((40, 19)), np.zeros((40, 4)), time_unit="checkpoint", labels=["x"] * 40)
    figure.draw_without_rendering()
    ticks = figure.axes[1].get_xticks()
    assert len(ticks) < 15 and np.array_equal(ticks, np.rint(ticks))


def test_one_checkpoint_is_drawn_without_a_warning():
    plot_checkpoints([0.0], np.zeros((1, 19)), np.zeros((1, 4)), time_unit="flow").draw_without_rendering()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.array([])}, "positions must be a list of at least one position; got (0,)."),
        ({"coordinates": THETA[1:]}, "coordinates must be of shape (4, 19); got (3, 19)."),
        ({"off_subspace": MISSED[:, :3]}, "off_subspace must be of shape (4, 4); got (4, 3)."),
        ({"time_unit": "step"}, "time_unit must be flow or checkpoint; got 'step'."),
        ({"labels": ["a"]}, "labels must be as many as positions (4); got 1."),
    ],
)
def test_refused(changes, message):
    arguments: dict[str, Any] = {"positions": X, "coordinates": THETA, "off_subspace": MISSED, "time_unit": "flow"}
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_checkpoints(**(arguments | changes))
