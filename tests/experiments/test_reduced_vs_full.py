"""The claims of figures/reduced_vs_full, and that the experiment makes its numbers."""

import numpy as np
import pytest

from experiments.recorder import read_table
from experiments.reduced_vs_full import OverlayConfig, main
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES

INPUTS = ("orthonormal", "isotropic")


def columns(rows):
    """By measure, a column of numbers for each quantity."""
    found = {}
    for row in rows:
        measure = found.setdefault(row["measure"], {})
        for name, value in row.items():
            measure.setdefault(name, []).append(value)
    return {
        measure: {name: np.array(values) for name, values in named.items() if name != "measure"}
        for measure, named in found.items()
    }


@pytest.fixture
def curves(table):
    return {inputs: columns(table("reduced_vs_full", f"{inputs}_curves")) for inputs in INPUTS}


@pytest.fixture
def deviations(table):
    return {
        inputs: {row["measure"]: row for row in table("reduced_vs_full", f"{inputs}_deviations")} for inputs in INPUTS
    }


@pytest.mark.parametrize("inputs", INPUTS)
def test_no_coordinate_is_ever_a_tenth_away(curves, deviations, inputs):
    for measure in (*COORDINATES, "loss"):
        curve = curves[inputs][measure]
        assert np.max(np.abs(curve["residual"])) < 0.1
        assert abs(deviations[inputs][measure]["residual"]) == pytest.approx(np.max(np.abs(curve["residual"])))
        seeds = np.stack([curve[f"trained_{seed}"] for seed in (0, 1, 2)])
        np.testing.assert_allclose(np.mean(seeds, axis=0) - curve["reduced"], curve["residual"], atol=1e-8)
    assert max(curves[inputs][name]["reduced"][-1] for name in CIRCUIT) > 3


@pytest.mark.parametrize("inputs", INPUTS)
def test_the_deviation_is_a_delay_of_the_trained_model(curves, inputs):
    """The steepest rise is where they differ most; shifted by one small time they agree far better."""
    for measure in CIRCUIT:
        curve = curves[inputs][measure]
        time, reduced = curve["time"], curve["reduced"]
        trained = reduced + curve["residual"]
        window = (time > 60) & (time < 120)
        delays = np.linspace(0, 2, 201)
        misfits = [np.max(np.abs(np.interp(time - delay, time, reduced) - trained)[window]) for delay in delays]
        best = delays[int(np.argmin(misfits))]
        assert 0.3 < best < 1.3, (measure, best)
        assert min(misfits) < 0.5 * misfits[0], (measure, min(misfits), misfits[0])


@pytest.mark.parametrize("inputs, least, most", [("orthonormal", 0.031, 0.034), ("isotropic", 0.09, 0.097)])
def test_off_subspace_is_sampling_noise_of_the_stated_size(curves, inputs, least, most):
    off = curves[inputs]["off_subspace"]
    for seed in (0, 1, 2):
        assert least < off[f"trained_{seed}"][-1] < most


@pytest.mark.parametrize("inputs", INPUTS)
def test_at_the_end_they_agree_within_one_percent_in_the_three(curves, inputs):
    for measure in CIRCUIT:
        curve = curves[inputs][measure]
        assert abs(curve["residual"][-1] / curve["reduced"][-1]) < 0.015


def test_the_experiment_makes_the_committed_numbers(tmp_path, curves):
    main(OverlayConfig(tmp_path, inputs=("orthonormal",), seeds=(0,)))
    made = columns(read_table(tmp_path / "orthonormal_curves.csv"))
    for measure, committed in curves["orthonormal"].items():
        np.testing.assert_allclose(made[measure]["reduced"], committed["reduced"], rtol=1e-6, atol=1e-8)
        # float32 training on another machine rounds otherwise
        np.testing.assert_allclose(made[measure]["trained_0"], committed["trained_0"], atol=1e-2)
    assert {file.name for file in tmp_path.iterdir()} == {
        *("orthonormal.png", "orthonormal.svg", "orthonormal_curves.csv", "orthonormal_deviations.csv", "config.json")
    }
