from typing import Any

import numpy as np
import pytest
from scipy import stats

from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.least_squares import fit_terms


def test_terms_as_scipy_fits_a_straight_line():
    rng = np.random.default_rng(0)
    x = np.linspace(3.0, 20.0, 12)
    y = 0.3 * x - 2 + rng.normal(0, 0.1, 12)
    found, left = fit_terms({"slope": x, "constant": np.ones(12)}, y, confidence=0.9)
    line: Any = stats.linregress(x, y)
    quantile = stats.t.ppf(0.95, 10)
    for name, value, error in (
        ("slope", line.slope, line.stderr),
        ("constant", line.intercept, line.intercept_stderr),
    ):
        interval = found[name]
        expected = [value, value - quantile * error, value + quantile * error]
        assert [interval.value, interval.low, interval.high] == pytest.approx(expected, rel=1e-9)
    assert left == pytest.approx(np.sqrt(np.mean((y - line.slope * x - line.intercept) ** 2)), rel=1e-9)


def test_terms_of_very_different_sizes_are_found():
    n = np.geomspace(16.0, 1e6, 20)
    terms = {"a": np.log(n), "b": np.ones(20), "c": 1 / n**2}
    found, left = fit_terms(terms, -4 * np.log(n) + 7 + 1e-3 / n**2)
    assert [found[name].value for name in terms] == pytest.approx([-4, 7, 1e-3], rel=1e-6)
    assert left < 1e-12


def test_as_many_terms_as_values_are_refused():
    with pytest.raises(ArgumentError, match="values must be more than 2, the number of terms"):
        fit_terms({"a": np.ones(2), "b": np.arange(2.0)}, np.ones(2))


def test_terms_of_which_one_is_the_sum_of_others_are_refused():
    x = np.linspace(1.0, 2.0, 5)
    for other in (2 * x, np.zeros(5)):
        with pytest.raises(ArgumentError, match="terms must be such that none is a sum of the others"):
            fit_terms({"a": x, "b": other}, x**2)
