import math
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting import style
from induction_dynamics.plotting.local_exponents import plot_local_exponents

LENGTHS = (4, 64, 1000, 10**9)


def series(model, query, measure, threshold=0.5):
    return {"model": model, "query": query, "measure": measure, "threshold": threshold}


def exponents_of(*names, slope=0.1):
    return [series(*names) | {"context_length": n, "exponent": 2 - slope / math.log(n)} for n in LENGTHS]


def fit_of(*names, low, high):
    return series(*names) | {"first": 4, "last": 64, "low": low, "high": high}


EXPONENTS = [
    *exponents_of("circuit", "last", "beta_2"),
    *exponents_of("circuit", "last", "alpha_3", slope=0.3),
    *exponents_of("subspace", "uniform", "alpha_3", slope=1.0),
    *exponents_of("subspace", "uniform", "gamma_3", 0.4),
]
FITS = [
    fit_of("circuit", "last", "beta_2", low=1.90, high=1.96),
    fit_of("subspace", "uniform", "alpha_3", low=1.70, high=1.701),
    fit_of("subspace", "uniform", "gamma_3", 0.4, low=1.0, high=1.1),
]


def artists(axes, gid) -> list[Any]:
    return [one for one in (*axes.lines, *axes.patches) if one.get_gid() == gid]


def test_exponents_are_drawn_as_they_are():
    axes = plot_local_exponents(EXPONENTS, FITS).axes[0]
    assert axes.get_title() == "three coordinates (circuit), query last"
    for measure, slope in (("beta_2", 0.1), ("alpha_3", 0.3)):
        (line,) = artists(axes, f"exponents {measure}")
        np.testing.assert_array_equal(np.asarray(line.get_xdata()), LENGTHS)
        np.testing.assert_allclose(np.asarray(line.get_ydata()), [2 - slope / math.log(n) for n in LENGTHS])
        assert line.get_color() == style.COLORS[measure]
        assert line.get_marker() == style.MARKERS["circuit"]


def test_the_line_is_two_or_two_less_one_over_ln_n():
    for axes, logarithmic in zip(plot_local_exponents(EXPONENTS, FITS).axes, (0, 1, 1, 1), strict=True):
        (law,) = artists(axes, "law")
        x, y = np.asarray(law.get_xdata()), np.asarray(law.get_ydata())
        np.testing.assert_allclose(y, 2 - logarithmic / np.log(x))
        assert x[0] < 4 and x[-1] > 10**9


def test_the_claim_is_a_band_over_all_lengths_and_what_was_fitted_is_shaded():
    figure = plot_local_exponents(EXPONENTS, FITS)
    first, last = figure.axes[0], figure.axes[-1]
    (band,) = artists(first, "claim beta_2")
    assert [band.get_y(), band.get_y() + band.get_height()] == pytest.approx([1.90, 1.96])
    assert [band.get_x(), band.get_width()] == [0, 1]  # of the panel
    assert to_hex(band.get_facecolor()) == style.COLORS["beta_2"]
    (fitted,) = artists(first, "fitted")
    assert [fitted.get_x(), fitted.get_x() + fitted.get_width()] == [4, 64]
    assert artists(first, "claim alpha_3") == []
    # a narrow one is widened about its middle until it is seen
    (narrow,) = artists(last, "claim alpha_3")
    assert narrow.get_y() + narrow.get_height() / 2 == pytest.approx(1.7005)
    assert narrow.get_height() > 0.01


def test_other_thresholds_are_left_out():
    last = plot_local_exponents(EXPONENTS, FITS).axes[-1]
    assert last.get_title() == "nineteen coordinates (subspace), query uniform"
    assert artists(last, "exponents gamma_3") == artists(last, "claim gamma_3") == []


def test_the_key_names_each_measure_once():
    (key,) = plot_local_exponents(EXPONENTS, FITS).legends
    words = [text.get_text() for text in key.get_texts()]
    assert words[:2] == [f"T of {style.display(name)}" for name in ("beta_2", "alpha_3")]
    assert len(words) == 4 and "warning" in words[-1]


def test_nothing_to_draw_is_refused():
    with pytest.raises(ArgumentError, match="exponents must be at least one at threshold 0.5"):
        plot_local_exponents(EXPONENTS[-4:], FITS)
