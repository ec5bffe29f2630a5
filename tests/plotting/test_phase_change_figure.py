import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.phase_change import CHANCE, phase_change, plot_phase_change
from induction_dynamics.pseudo_parameters import CIRCUIT

STEPS = np.arange(0, 1001, 10)


def run_of(**changes: Any) -> SimpleNamespace:
    """A run whose loss falls about step 500, with curves that all differ."""
    loss = 3.4 / (1 + np.exp((STEPS - 500) / 20)) + 0.05
    summed = np.tanh(STEPS[:, None] / np.array([900.0, 600.0, 300.0])) * np.array([2.0, 15.0, 10.0])
    deviations = summed * np.array([-20.0, 100.0, 30.0])
    scores = {
        kind: np.stack(
            [np.stack([STEPS * (0.1 + k + layer) / 1e4, -STEPS / 1e4], axis=1) for layer in range(2)], axis=1
        )
        for k, kind in enumerate(("previous_token", "duplicate_token", "induction"))
    }
    fields = {"steps": STEPS, "loss": loss, "accuracy": 1 - loss / 4, "summed": summed, "deviations": deviations}
    return SimpleNamespace(**(fields | {"head_scores": scores} | changes))


def found(steps: Any, loss: Any, **options: Any) -> tuple[float, float]:
    """The phase change, where there is one."""
    change = phase_change(steps, loss, **options)
    assert change is not None
    return change


def shortest_by_search(steps, loss, share=0.5, points=20_001):
    """The same from a fine grid of steps: the shortest stretch on it in which the running least loses enough."""
    grid = np.linspace(steps[0], steps[-1], points)
    least = np.interp(grid, steps, np.minimum.accumulate(loss))
    wanted = share * (least[0] - least[-1])
    # falling values, turned round, can be searched
    ends = points - np.searchsorted(least[::-1], least - wanted, side="right")
    reached = ends < points
    lengths = grid[np.minimum(ends, points - 1)] - grid
    return lengths[reached].min(), grid[1] - grid[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_no_stretch_is_shorter(seed, share):
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.uniform(1, 20, 40))
    loss = 4 - np.cumsum(rng.exponential(size=40) ** 3) / 40 + rng.normal(scale=0.02, size=40)
    first, last = found(steps, loss, share=share)
    least = np.minimum.accumulate(loss)
    fall = np.interp(first, steps, least) - np.interp(last, steps, least)
    assert fall == pytest.approx(share * (least[0] - least[-1]), rel=1e-9)
    shortest, spacing = shortest_by_search(steps, loss, share)
    assert last - first <= shortest + 1e-9 and shortest - (last - first) < 3 * spacing


def test_of_a_logistic_fall_it_is_the_middle_half():
    # L = 1/(1 + e^x) falls by half between x = -ln 3 and ln 3
    x = np.linspace(-30, 30, 6001)
    first, last = found(x, 1 / (1 + np.exp(x)))
    assert (first, last) == pytest.approx((-np.log(3), np.log(3)), abs=0.02)  # spacing 0.01


def test_a_rise_in_between_counts_for_nothing():
    assert phase_change([0, 10, 20, 30, 40], [4.0, 3.0, 3.5, 3.0, 0.0]) == (30.0, pytest.approx(30.0 + 20 / 3))


@pytest.mark.parametrize(
    "loss", [[3.0, 3.0, 3.0], [3.0, 3.1, 3.4], [3.0, 2.9, 2.8], [3.0, np.nan, 0.0], [np.nan, 3.0, 0.0], [0.0, 0.0, 0.0]]
)
def test_without_a_fall_there_is_none(loss):
    assert phase_change([0, 10, 20], loss) is None


def test_what_follows_an_overflow_is_left_out():
    assert phase_change([0, 10, 20, 30], [4.0, 2.0, np.inf, 0.0]) == phase_change([0, 10], [4.0, 2.0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": [1.0]}, "loss must be one for each of one or more steps, of shape (3,); got (1,)."),
        ({"steps": [], "loss": []}, "loss must be one for each of one or more steps, of shape (0,); got (0,)."),
        ({"steps": [0, 20, 10]}, "steps must be increasing; got [0.0, 20.0, 10.0]."),
        ({"share": 1.0}, "share must be above 0 and below 1; got 1.0."),
    ],
)
def test_refused(changes, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        phase_change(**({"steps": [0, 10, 20], "loss": [3.0, 2.0, 1.0]} | changes))


def shaded(axes: Axes, gid: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the one patch of a name begins and ends, across and up."""
    (band,) = [patch for patch in axes.patches if patch.get_gid() == gid]
    assert isinstance(band, Rectangle)
    return (band.get_x(), band.get_x() + band.get_width()), (band.get_y(), band.get_y() + band.get_height())


def curve(axes, gid):
    (line,) = [line for line in axes.lines if line.get_gid() == gid]
    return line


def test_every_curve_is_that_of_the_run():
    run = run_of()
    figure = plot_phase_change(run)  # pyright: ignore[reportArgumentType]
    loss, progress, deviations, scores, accuracy = figure.axes
    np.testing.assert_array_equal(curve(loss, "loss").get_xydata(), np.stack([STEPS, run.loss], axis=1))
    np.testing.assert_array_equal(curve(accuracy, "accuracy").get_ydata(), run.accuracy)
    for axes, values in ((progress, run.summed), (deviations, run.deviations)):
        for place, name in enumerate(CIRCUIT):
            line = curve(axes, name)
            np.testing.assert_array_equal(line.get_ydata(), values[:, place])
            assert to_hex(line.get_color()) == style.COLORS[name]
    for kind, values in run.head_scores.items():
        for layer in range(2):
            best = curve(scores, f"{kind}, layer {layer + 1}")
            np.testing.assert_array_equal(best.get_ydata(), values[:, layer].max(axis=1))
            grey = to_hex(best.get_color())
            assert grey[1:3] == grey[3:5] == grey[5:7]
    assert figure.axes[3].get_xlabel() == "step" and deviations.get_yscale() == "symlog"


def test_the_phase_change_is_shaded_everywhere_and_what_is_chance_once():
    run = run_of()
    figure = plot_phase_change(run)  # pyright: ignore[reportArgumentType]
    change = found(run.steps, run.loss)
    for axes in figure.axes[:4]:
        assert shaded(axes, "phase change")[0] == pytest.approx(change)
    assert shaded(figure.axes[2], "chance")[1] == (-CHANCE, CHANCE)
    assert f"from {change[0]:.0f} to {change[1]:.0f}" in figure.axes[0].get_title()


def test_without_a_phase_change_nothing_is_shaded():
    figure = plot_phase_change(run_of(loss=np.full(STEPS.shape, 3.4)))  # pyright: ignore[reportArgumentType]
    assert not any(patch.get_gid() == "phase change" for axes in figure.axes for patch in axes.patches)
    assert figure.axes[0].get_title() == ""


def test_a_single_record_is_refused():
    run = run_of(steps=np.array([0]))
    with pytest.raises(ArgumentError, match="run must be of at least two records; got 1"):
        plot_phase_change(run)  # pyright: ignore[reportArgumentType]
