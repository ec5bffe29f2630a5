"""The claims of figures/emergence_order, and that the experiment makes its numbers."""

import numpy as np
import pytest

from experiments.emergence_order import OrderConfig, main
from experiments.recorder import read_table
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES

INPUTS = ("orthonormal", "isotropic")


@pytest.fixture
def curves(table):
    """For each kind of inputs, a column of numbers for each quantity."""
    rows = table("emergence_order", "curves")
    return {
        inputs: {
            name: np.array([row[name] for row in rows if row["inputs"] == inputs])
            for name in rows[0]
            if name != "inputs"
        }
        for inputs in INPUTS
    }


@pytest.fixture
def times(table):
    return {(row["inputs"], row["measure"]): row["time"] for row in table("emergence_order", "crossings")}


@pytest.mark.parametrize("inputs", INPUTS)
def test_gamma_then_beta_then_alpha_then_the_loss(times, inputs):
    order = [times[inputs, measure] for measure in ("gamma_3", "beta_2", "alpha_3", "loss")]
    assert order == sorted(order)
    # and not by a hair
    assert order[1] > 2 * order[0] and order[2] > 1.5 * order[1] and order[3] > 1.1 * order[2]


@pytest.mark.parametrize("inputs", INPUTS)
def test_the_loss_waits_for_the_last_of_the_three(curves, times, inputs):
    curve = curves[inputs]
    at_alpha = np.interp(times[inputs, "alpha_3"], curve["time"], curve["loss"]) / curve["loss"][0]
    assert 0.79 < at_alpha < 0.81
    at_beta = np.interp(times[inputs, "beta_2"], curve["time"], curve["loss"]) / curve["loss"][0]
    assert at_beta > 0.88


@pytest.mark.parametrize("inputs", INPUTS)
def test_the_three_end_largest(curves, inputs):
    sizes = {name: abs(curves[inputs][name][-1]) for name in COORDINATES}
    assert set(sorted(sizes, key=sizes.__getitem__)[-3:]) == set(CIRCUIT)


@pytest.mark.parametrize("inputs", INPUTS)
def test_curves_cross_where_the_table_says(curves, times, inputs):
    for measure in CIRCUIT:
        # a straight line between 601 records
        value = np.interp(times[inputs, measure], curves[inputs]["time"], curves[inputs][measure])
        assert value == pytest.approx(0.5, abs=1e-4)


def test_the_loss_never_rises(curves):
    for curve in curves.values():
        assert np.all(np.diff(curve["loss"]) <= 0)


@pytest.mark.parametrize("inputs", ["orthonormal", pytest.param("isotropic", marks=pytest.mark.slow)])
def test_the_experiment_makes_the_committed_numbers(tmp_path, curves, times, inputs):
    main(OrderConfig(tmp_path, inputs=(inputs,), times=61))
    made = read_table(tmp_path / "curves.csv")
    assert len(made) == 61
    for name, committed in curves[inputs].items():
        np.testing.assert_allclose([row[name] for row in made], committed[::10], rtol=1e-7, atol=1e-9)
    for row in read_table(tmp_path / "crossings.csv"):
        assert row["time"] == pytest.approx(times[inputs, row["measure"]], rel=1e-7)
    assert (tmp_path / "emergence_order.png").exists() and (tmp_path / "emergence_order.svg").exists()
