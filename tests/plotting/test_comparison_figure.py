import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from induction_dynamics.plotting import style
from induction_dynamics.plotting.comparison import plot_comparison
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES


def named(axes: Axes, gid: str) -> list[Line2D]:
    return [line for line in axes.lines if line.get_gid() == gid]


def heights(line: Line2D) -> np.ndarray:
    return np.asarray(line.get_ydata())


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[1].get_texts()]


def test_four_panels_over_one_flow_time(compared):
    figure = plot_comparison(compared(3))
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "coordinate",
        "trained - reduced",
        "loss",
        "off-subspace\nfraction",
    ]
    assert {axes.get_xlim() for axes in figure.axes} == {(0, 144)}
    figure.draw_without_rendering()
    assert figure.axes[0].child_axes[0].get_xlim() == pytest.approx((0, 4))
    assert figure.get_suptitle() == "N = 6, D = 14, orthonormal inputs, query uniform"


def test_reduced_is_broad_and_trained_dashed_upon_it_in_one_colour(compared):
    comparison = compared(3)
    axes = plot_comparison(comparison).axes[0]
    for k, name in enumerate(COORDINATES):
        reduced, trained = named(axes, name)
        assert (reduced.get_linestyle(), trained.get_linestyle()) == ("-", "--")
        assert reduced.get_linewidth() > 2 * trained.get_linewidth() and reduced.get_zorder() <= trained.get_zorder()
        assert (reduced.get_alpha() or 1) < 0.5 and trained.get_alpha() is None
        assert to_hex(reduced.get_color()) == to_hex(trained.get_color()) == style.COLORS[name]
        np.testing.assert_allclose(heights(reduced), comparison.reduced[0].coordinates[:, k])
        np.testing.assert_allclose(heights(trained), 1.04 * comparison.reduced[0].coordinates[:, k])


def test_residual_and_its_band_of_two_standard_errors(compared):
    comparison = compared(3)
    axes = plot_comparison(comparison).axes[1]
    theta = comparison.reduced[0].coordinates
    bands = {band.get_gid(): band for band in axes.collections if isinstance(band, FillBetweenPolyCollection)}
    assert set(bands) == set(COORDINATES)
    for k, name in enumerate(COORDINATES):
        (line,) = named(axes, name)
        np.testing.assert_allclose(heights(line), 0.04 * theta[:, k], atol=1e-12)
        assert (line.get_linewidth() > 1.5) == (name in CIRCUIT)
        # the seeds are 0.02, 0.04 and 0.06 times theta away: s = 0.02 theta
        last = np.asarray(bands[name].get_paths()[0].vertices)
        ends = last[last[:, 0] == 144, 1]
        error = 0.02 * abs(theta[-1, k]) / np.sqrt(3)
        assert (ends.min(), ends.max()) == pytest.approx(
            (0.04 * theta[-1, k] - 2 * error, 0.04 * theta[-1, k] + 2 * error)
        )
        assert to_hex(np.asarray(bands[name].get_facecolor())[0]) == style.COLORS[name]


def test_losses_and_the_part_off_the_subspace(compared):
    comparison = compared(3)
    loss, off = plot_comparison(comparison).axes[2:]
    (reduced,), (trained,) = named(loss, "loss"), named(loss, "loss of the trained model")
    np.testing.assert_allclose(heights(reduced), comparison.reduced[0].loss)
    np.testing.assert_allclose(heights(trained), comparison.trained_values[:, :, -1].mean(axis=0))
    assert reduced.get_linewidth() > trained.get_linewidth()
    seeds, (mean,) = named(off, "off subspace of one seed"), named(off, "off subspace")
    assert [heights(line)[-1] for line in seeds] == pytest.approx([0.1, 0.2, 0.3])
    assert heights(mean)[-1] == pytest.approx(0.2) and mean.get_linewidth() > seeds[0].get_linewidth()
    assert off.get_ylim()[0] == 0


def test_the_key_counts_the_seeds_and_explains_the_band(compared):
    figure = plot_comparison(compared(3))
    assert words(figure)[:3] == ["reduced flow", "full model, mean of 3 seeds", "2 standard errors over 3 seeds"]
    assert words(figure)[3] == "loss of the full model, each step's batch,\nmean of 3 seeds"
    assert len(figure.legends[0].get_texts()) == 16


def test_one_seed_has_no_band_and_no_mean(compared):
    figure = plot_comparison(compared(1))
    assert words(figure) == ["reduced flow", "full model, 1 seed", "loss of the full model, each step's batch"]
    assert not any("standard error" in word or "each seed" in word for word in words(figure))
    assert not figure.axes[1].collections and not named(figure.axes[3], "off subspace of one seed")


def test_the_title_tells_an_unusual_rotation(compared):
    title = plot_comparison(compared(1, inputs="isotropic", rotation=60.0)).get_suptitle()
    assert title == "N = 6, D = 24, isotropic inputs, query uniform, rotation 60°"
