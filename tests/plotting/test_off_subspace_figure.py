import re

import numpy as np
import pytest
from matplotlib.colors import to_hex

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.off_subspace import MEASURES, plot_off_subspace

BATCHES = (16, 64, 256)
TIMES = (0.25, 1.0, 64.0)
SCALES = (0.0, 0.1, 1.0)
TASKS = [
    {"inputs": inputs, "context_length": 4, "embedding_dim": dim}
    for inputs, dim in (("orthonormal", 10), ("isotropic", 16))
]
STARTS = [
    {"context_length": 4, "embedding_dim": dim, "query": query, "matrices": "all"}
    for dim, query in ((10, "uniform"), (10, "last"), (40, "uniform"))
]


def fraction(batch, time, step=0.25):
    return np.sqrt(step / batch / time)


CURVES = [
    task
    | {"batch_size": batch, "step": step, "time": time, "off_subspace": fraction(batch, time, step)}
    | {"least": 0.9 * fraction(batch, time), "most": 1.1 * fraction(batch, time)}
    for task in TASKS
    for step in (0.25, 0.5)
    for batch in BATCHES
    for time in TIMES
]
ENDS = [
    row | {"seed": seed, "expected_after_one_step": 0.9 if row["inputs"] == "orthonormal" else None}
    for row in CURVES
    if row["time"] == 64.0
    for seed in (0, 1)
]
FITS = [
    task | {"fitted": name, "value": value, "low": value - 0.01, "high": value + 0.01}
    for task in TASKS
    for name, value in (
        ("batch_exponent", -0.53),
        ("batch_exponent_of_the_largest_two", -0.5),
        ("noise_of_three", 0.25 / 64),
    )
]
RUNS = [
    start
    | {"scale": scale, "seed": seed, "answered": 1 - scale / 8}
    | {"captured_of_weights": 1 - scale / 2, "captured_of_movement": 1 - scale / 4}
    for start in STARTS
    for scale in SCALES
    for seed in (0, 1)
]
EMERGED = [
    row | {"measure": measure, "per_flow_from_zero": 1 + row["scale"] * (1 + row["seed"])}
    for row in RUNS
    for measure in MEASURES
]
ALONE = [row | {"matrices": "W2", "per_flow_from_zero": 7.0} for row in EMERGED if row["embedding_dim"] == 10]


def drawn(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def words(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.fixture(scope="module")
def panels():
    return plot_off_subspace(CURVES, ENDS, FITS, RUNS, [*EMERGED, *ALONE]).axes


def test_the_fraction_over_time_for_each_batch_of_the_first_task(panels):
    axes = panels[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_title() == "from zero: orthonormal, N = 4, D = 10"
    for batch in BATCHES:
        (line,) = drawn(axes, f"batch {batch}")
        np.testing.assert_array_equal(np.asarray(line.get_xdata()), TIMES)
        np.testing.assert_allclose(np.asarray(line.get_ydata()), [fraction(batch, time) for time in TIMES])
    assert [text.get_text() for text in axes.texts] == [f"B = {batch}" for batch in BATCHES]
    circles = drawn(axes, "expected")
    assert [np.asarray(line.get_xydata()).tolist() for line in circles] == [[[0.25, 0.9]]] * 3


def test_the_fraction_at_the_end_with_lines_of_slope_one_half(panels):
    axes = panels[1]
    marks, lines = drawn(axes, "ends"), drawn(axes, "slope -1/2")
    assert len(marks) == len(lines) == 2
    for mark, line in zip(marks, lines, strict=True):
        assert sorted(set(np.asarray(mark.get_xdata()).tolist())) == list(BATCHES)
        x, y = np.log(np.asarray(line.get_xdata(), float)), np.log(np.asarray(line.get_ydata(), float))
        np.testing.assert_allclose(np.diff(y) / np.diff(x), -0.5)
        np.testing.assert_allclose(np.exp(y), [fraction(batch, 64.0) for batch in BATCHES])
    assert words(axes)[0] == (
        "orthonormal, N = 4, D = 10: exponent\n-0.53 [-0.54, -0.52], largest two -0.50 [-0.51, -0.49]"
    )
    assert axes.get_title().startswith("at t = 4 N$^2$")


def test_times_against_the_scale_of_the_start(panels):
    axes = panels[2]
    shown = [style.display(measure) for measure in MEASURES]
    assert words(axes) == [*shown, "loss, D = 40"]
    for container, measure in zip(axes.containers, (*MEASURES, "loss"), strict=True):
        line = container.lines[0]
        assert np.asarray(line.get_xdata()).tolist() == [0.1, 1.0]
        np.testing.assert_allclose(np.asarray(line.get_ydata()), [1.15, 2.5])
        assert to_hex(line.get_color()) == style.color(measure)
    assert all(len(np.asarray(line.get_xdata())) == 0 for line in drawn(axes, "never loss"))


def test_what_does_not_emerge_has_a_cross_at_the_top():
    never = [row | {"per_flow_from_zero": None} if row["scale"] == 1.0 else row for row in EMERGED]
    figure = plot_off_subspace(CURVES, ENDS, FITS, RUNS, never)
    crosses = drawn(figure.axes[2], "never alpha_3")
    assert [np.asarray(line.get_xdata()).tolist() for line in crosses] == [[1.0]]
    figure.draw_without_rendering()


def test_what_is_captured(panels):
    axes = panels[3]
    for gid, values in (("captured_of_weights", [0.95, 0.5]), ("captured_of_movement", [0.975, 0.75])):
        lines = drawn(axes, gid)
        assert len(lines) == len(STARTS)
        for line in lines:
            np.testing.assert_allclose(np.asarray(line.get_ydata()), values)
    (answered,) = drawn(axes, "answered")
    np.testing.assert_allclose(np.asarray(answered.get_ydata()), [1 - 0.1 / 8, 1 - 1 / 8])
    assert words(axes)[:3] == [
        f"N = 4, D = {dim}, query {query}" for dim, query in ((10, "uniform"), (10, "last"), (40, "uniform"))
    ]


def test_every_panel_has_its_axes_named_and_is_drawn(panels):
    assert all(axes.get_xlabel() and axes.get_ylabel() and axes.get_title() for axes in panels)
    panels[0].figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"curves": []}, "curves must be at least one row; got []."),
        ({"times": []}, "times must be at least one row; got []."),
        ({"starts": [row for row in RUNS if row["scale"] == 0]}, "starts must be with a scale above 0; got []."),
    ],
)
def test_refused(changes, message):
    given = {"curves": CURVES, "ends": ENDS, "fits": FITS, "starts": RUNS, "times": EMERGED}
    with pytest.raises(ArgumentError, match=re.escape(message)):
        plot_off_subspace(**(given | changes))
