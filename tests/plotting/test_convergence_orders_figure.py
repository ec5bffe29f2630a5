import re

import numpy as np
import pytest
from matplotlib.colors import to_hex

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.convergence_orders import plot_convergence_orders

STEPS, BATCHES = (1.0, 0.5, 0.25), (16, 64, 256)


def row_of(query, distance, step, batch, mean, error: float | None = 0.0, inputs="orthonormal"):
    return {
        "inputs": inputs,
        "query": query,
        "step": step,
        "batch_size": batch,
        "distance": distance,
        "mean": mean,
        "standard_error": error,
    }


def slope_of(query, distance, law, slope, batch=None, inputs="orthonormal"):
    return {
        "inputs": inputs,
        "query": query,
        "law": law,
        "batch_size": batch,
        "distance": distance,
        "slope": slope,
        "low": slope - 0.05,
        "high": slope + 0.05,
    }


MEANS = [
    *(row_of("last", "coordinates", h, 256, 2 * h, 0.1 * h) for h in STEPS),
    *(row_of("last", "coordinates", h, None, 3 * h, None) for h in STEPS),
    *(row_of("uniform", "weights", 0.25, batch, 8 / batch**0.5, 0.01) for batch in BATCHES),
    *(row_of("uniform", "weights", 0.25, batch, 9 / batch**0.5, 0.01, "isotropic") for batch in BATCHES),
    *(row_of("uniform", "scatter", h, batch, (h / batch) ** 0.5, None) for h in STEPS for batch in BATCHES),
    *(row_of("last", "alpha_3", h, batch, h * (2 - 30 / batch)) for h in STEPS for batch in BATCHES),
    row_of("last", "largest_weights", 0.25, 256, 5.0),
]
SLOPES = [
    slope_of("last", "coordinates", "step", 1.0, 256),
    slope_of("last", "coordinates", "step", 1.0),
    slope_of("uniform", "weights", "batch_size", -0.5),
    slope_of("uniform", "weights", "batch_size", -0.5, inputs="isotropic"),
    slope_of("uniform", "scatter", "step/batch_size", 0.5),
]
TERMS = [{"coordinate": "alpha_3", "a": 2.0, "b": -30.0}]


@pytest.fixture
def panels():
    return plot_convergence_orders(MEANS, SLOPES, TERMS, law_step=0.25, law_batch=256).axes


def drawn(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def words(axes):
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def marks(axes):
    """Means and their errors, in the order of the key."""
    return [(np.asarray(bar[0].get_xydata()), bar[0], bar[2]) for bar in axes.containers]


def test_distances_over_the_step_with_and_without_noise(panels):
    (noisy, line, bars), (endless, hollow, _) = marks(panels[0])
    np.testing.assert_allclose(noisy, [(h, 2 * h) for h in STEPS])
    np.testing.assert_allclose(endless, [(h, 3 * h) for h in STEPS])
    assert hollow.get_markerfacecolor() == "white" != line.get_markerfacecolor()
    heights = [np.ptp(np.asarray(segment)[:, 1]) for segment in bars[0].get_segments()]
    np.testing.assert_allclose(heights, [0.2 * h for h in STEPS])
    assert words(panels[0]) == [
        "coordinates, last: slope 1.00 [0.95, 1.05]",
        "coordinates, last, without noise: slope 1.00 [0.95, 1.05]",
    ]
    assert panels[0].get_xlabel() == "step h (flow time)"
    assert panels[0].get_title() == "the step, at B = 256 and without noise"


def test_distances_over_the_batch_of_both_inputs(panels):
    (orthonormal, first, _), (isotropic, other, _) = marks(panels[1])
    np.testing.assert_allclose(orthonormal, [(b, 8 / b**0.5) for b in BATCHES])
    np.testing.assert_allclose(isotropic, [(b, 9 / b**0.5) for b in BATCHES])
    assert to_hex(first.get_color()) != to_hex(other.get_color())
    assert words(panels[1])[1] == "weights, uniform, isotropic: slope −0.50 [−0.55, −0.45]"


def test_powers_go_through_exact_data_and_gray_lines_have_the_expected_slopes(panels):
    for axes, slope in zip(panels[:2], (1.0, -0.5), strict=True):
        for power, (points, _, _) in zip(drawn(axes, "power"), marks(axes), strict=True):
            x, y = np.asarray(power.get_xdata()), np.asarray(power.get_ydata())
            order = np.argsort(points[:, 0])
            np.testing.assert_allclose(x, points[order[[0, -1]], 0])
            np.testing.assert_allclose(y, points[order[[0, -1]], 1])
        (reference,) = drawn(axes, "reference")
        x, y = np.asarray(reference.get_xdata()), np.asarray(reference.get_ydata())
        assert np.diff(np.log(y))[0] / np.diff(np.log(x))[0] == pytest.approx(slope)
    assert not drawn(panels[2], "reference")


def test_the_scatter_lies_over_step_per_batch(panels):
    ((points, _, _),) = marks(panels[2])
    np.testing.assert_allclose(points[:, 1], points[:, 0] ** 0.5)
    assert len(points) == len(STEPS) * len(BATCHES)


def test_terms_are_a_plus_b_over_the_batch(panels):
    axes = panels[3]
    (line,) = drawn(axes, "terms")
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    np.testing.assert_allclose(y, 2 - 30 * x)
    assert x.min() < 1 / 256 and x.max() > 1 / 16
    assert to_hex(line.get_color()) == style.COLORS["alpha_3"]
    points = np.concatenate([xy for xy, _, _ in marks(axes)])
    np.testing.assert_allclose(points[:, 1], 2 - 30 * points[:, 0])
    assert len({bar[1].get_marker() for bar in marks(axes)}) == len(STEPS)
    assert words(axes) == [
        f"{style.display('alpha_3')}: a = 2, b = −30",
        *(f"h = {step:g}" for step in STEPS),
    ]


def test_the_title_is_that_of_the_whole_figure():
    figure = plot_convergence_orders(MEANS, SLOPES, TERMS, law_step=0.25, law_batch=256, title="N = 4")
    assert figure.get_suptitle() == "N = 4"
    assert len({axes.get_title() for axes in figure.axes}) == 4


def test_refused():
    with pytest.raises(ArgumentError, match=re.escape("means must be at least one row")):
        plot_convergence_orders([], [], [], law_step=0.25, law_batch=256)
