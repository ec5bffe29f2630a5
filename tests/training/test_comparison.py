"""Reduced against trained: residual, standard error and largest deviation, by hand and on real runs."""

import inspect

import numpy as np
import pytest
from scipy import stats

from induction_dynamics.cli.options import CompareOptions
from induction_dynamics.dynamics.emergence import MEASURES
from induction_dynamics.dynamics.flow import solve_flow
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.task import Task
from induction_dynamics.training.comparison import MOST_TIMES, Comparison, compare
from induction_dynamics.training.train import train

TASK = Task(2, query="uniform")


def run(values, off=None, degree=1, outcome="horizon_reached"):
    """A run at times 0, 1, 2, ... from coordinates and loss side by side."""
    values = np.asarray(values, float)
    off = np.zeros(len(values)) if off is None else off
    return Trajectory(np.arange(len(values), dtype=float), values[:, :-1], values[:, -1], off, outcome, degree)


@pytest.fixture
def drawn():
    """A comparison of random numbers: three seeds, five times."""
    rng = np.random.default_rng(0)
    reduced, trained = rng.normal(size=(3, 5, 20)), rng.normal(size=(3, 5, 20))
    off = rng.uniform(size=(3, 5))
    comparison = Comparison(
        TASK,
        (4, 7, 9),
        np.arange(5.0),
        tuple(run(values, degree=4) for values in reduced),
        tuple(run(values, noise) for values, noise in zip(trained, off, strict=True)),
    )
    return comparison, reduced, trained, off


def test_residual_and_standard_error_are_those_of_the_seeds(drawn):
    comparison, reduced, trained, off = drawn
    np.testing.assert_allclose(comparison.residual, np.mean(trained - reduced, axis=0), atol=1e-15)
    np.testing.assert_allclose(comparison.standard_error, stats.sem(trained - reduced, axis=0), rtol=1e-13)
    np.testing.assert_array_equal(comparison.off_subspace, off)


def test_the_largest_deviation_is_the_largest(drawn):
    comparison, reduced, trained, _ = drawn
    residual = np.mean(trained - reduced, axis=0)
    for k, found in enumerate(comparison.largest_deviations()):
        at = int(found.time)
        assert found.measure == MEASURES[k] and found.time_unit == "flow"
        assert found.residual == pytest.approx(residual[at, k], abs=1e-15)
        assert abs(found.residual) == np.max(np.abs(comparison.residual[:, k]))
        assert found.trained - found.reduced == pytest.approx(found.residual, abs=1e-14)
        assert found.standard_error == pytest.approx(stats.sem(trained[:, at, k] - reduced[:, at, k]), rel=1e-13)
        assert found.largest_of_a_seed == np.max(np.abs(comparison.trained_values - comparison.reduced_values)[..., k])


def test_curves_hold_every_seed_and_the_off_subspace_fraction(drawn):
    comparison, reduced, trained, off = drawn
    rows = comparison.curves()
    assert len(rows) == 5 * 21
    for row in rows:
        at = int(row["time"])
        assert list(row)[:3] == ["time", "time_unit", "measure"] and row["time_unit"] == "flow"
        if row["measure"] == "off_subspace":
            mine, other = off[:, at], np.zeros(3)
        else:
            k = MEASURES.index(row["measure"])
            mine, other = trained[:, at, k], reduced[:, at, k]
        np.testing.assert_allclose([row[f"trained_{seed}"] for seed in (4, 7, 9)], mine, atol=1e-15)
        np.testing.assert_allclose(
            [row["reduced"], row["residual"], row["standard_error"]],
            [other.mean(), np.mean(mine - other), stats.sem(mine - other)],
            atol=1e-15,
        )


def test_one_seed_has_no_standard_error(drawn):
    comparison, *_ = drawn
    alone = Comparison(TASK, (4,), comparison.time, comparison.reduced[:1], comparison.trained[:1])
    assert alone.standard_error is None
    assert {found.standard_error for found in alone.largest_deviations()} == {None}
    assert {row["standard_error"] for row in alone.curves()} == {None}


@pytest.fixture(scope="module")
def orthonormal():
    return compare(TASK, seeds=(0, 1, 0), horizon=6.0, batch_size=32)


def test_the_runs_are_those_of_the_two_models(orthonormal):
    assert orthonormal.seeds == (0, 1)
    assert orthonormal.time[0] == 0 and orthonormal.time[-1] == 24.0
    for seed, trained in zip(orthonormal.seeds, orthonormal.trained, strict=True):
        alone = train(TASK, horizon=6.0, batch_size=32, seed=seed)
        np.testing.assert_array_equal(trained.coordinates, alone.coordinates)
        np.testing.assert_array_equal(trained.loss, alone.loss)
    flow = solve_flow(TASK, "subspace", horizon=6.0)
    for reduced in orthonormal.reduced:
        np.testing.assert_array_equal(reduced.coordinates, flow.coordinates)


def test_both_start_from_zero(orthonormal):
    np.testing.assert_array_equal(orthonormal.reduced_values[:, 0, :-1], 0)
    np.testing.assert_array_equal(orthonormal.trained_values[:, 0, :-1], 0)
    assert orthonormal.off_subspace[0, 0] == 0


def test_the_trained_model_follows_the_flow(orthonormal):
    worst = max(orthonormal.largest_deviations(), key=lambda found: abs(found.residual))
    assert 0 < abs(worst.residual) < 0.1  # the largest coordinate is above 1; two seeds, batches of 32
    assert np.max(orthonormal.reduced_values[..., :-1]) > 1


def test_on_isotropic_inputs_each_seed_has_a_reduced_loss_of_its_own():
    task = Task(1, inputs="isotropic", embedding_dim=4)
    comparison = compare(task, seeds=(0, 1), horizon=6.0, batch_size=16, samples=64)
    one, other = comparison.reduced
    assert np.max(np.abs(one.coordinates[-1] - other.coordinates[-1])) > 1e-3
    flow = solve_flow(task, "subspace", horizon=6.0, samples=64, seed=1)
    np.testing.assert_array_equal(other.coordinates, flow.coordinates)


def test_a_run_that_diverges_ends_the_comparison_where_it_ends():
    comparison = compare(Task(6, query="uniform"), seeds=(0,), horizon=12.0, batch_size=8, step=12.0)
    (trained,) = comparison.trained
    assert trained.outcome == "nonfinite" and trained.weights is None
    assert comparison.time[-1] <= trained.time[-1] < 12 * 36
    assert all(np.isfinite(found.residual) for found in comparison.largest_deviations())


def test_a_long_run_is_thinned_with_both_ends():
    comparison = compare(TASK, seeds=(0,), horizon=12.0, batch_size=4, step=0.1)
    assert len(comparison.time) == MOST_TIMES
    assert comparison.time[0] == 0 and comparison.time[-1] == pytest.approx(48.0)
    assert len(np.unique(comparison.time)) == MOST_TIMES


def test_progress_goes_up_to_all_runs():
    told = []
    compare(TASK, seeds=(0, 1), horizon=4.0, batch_size=4, on_progress=lambda *said: told.append(said))
    done = [entry[0] for entry in told]
    assert done == sorted(done) and told[-1][:2] == (3, 3)
    assert {entry[1] for entry in told} == {3}


def test_what_is_refused():
    with pytest.raises(ArgumentError, match="seeds must be at least one seed"):
        compare(TASK, seeds=())
    with pytest.raises(ArgumentError, match="context_length must be at most 64"):
        compare(Task(65, query="uniform", inputs="isotropic"))
    with pytest.raises(ArgumentError, match="batch_size must be at least 1"):
        compare(TASK, batch_size=0)
    with pytest.raises(ArgumentError, match="horizon must be finite and above 0"):
        compare(TASK, horizon=float("nan"))


def test_at_least_one_step_fits():
    """Else both would be compared at 0, where they agree perfectly."""
    with pytest.raises(ArgumentError, match=r"step must be a flow time of at most the horizon's 4; got 4\.001"):
        compare(TASK, horizon=1.0, step=4.001)
    comparison = compare(TASK, seeds=(0,), horizon=1.0, step=4.0, batch_size=2)
    assert comparison.time.tolist() == [0.0, 4.0]


def test_the_default_horizon_is_that_of_the_command():
    assert inspect.signature(compare).parameters["horizon"].default == CompareOptions(1).horizon
