"""The one type of every run: what it refuses, and what lies between its records."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from induction_dynamics.dynamics.flow import solve_flow
from induction_dynamics.dynamics.trajectory import OUTCOMES, Trajectory
from induction_dynamics.task import Task

NAMES = 19


def trajectory_of(time, degree, seed=0, outcome="horizon_reached"):
    """Every coordinate and the loss a polynomial of the given degree in time; returns them as well."""
    polynomials = np.random.default_rng(seed).normal(size=(degree + 1, NAMES + 1))

    def values(at):
        return np.polynomial.polynomial.polyval(np.asarray(at), polynomials).T.reshape(-1, NAMES + 1)

    records = values(time)
    run = Trajectory(time, records[:, :-1], records[:, -1], np.zeros(len(time)), outcome, degree)
    return run, values


@pytest.mark.parametrize("degree", [1, 2, 4])
@pytest.mark.parametrize("spacing", ["even", "geometric"])
def test_at_is_exact_on_polynomials(degree, spacing):
    groups = 5
    time = np.linspace(0, 2, groups * degree + 1)
    if spacing == "geometric":
        time = time**2 / 2
    run, values = trajectory_of(time, degree)
    asked = np.concatenate([np.linspace(0, 2, 101), time, time[:-1] + 1e-9])
    coordinates, loss = run.at(asked)
    expected = values(asked)
    np.testing.assert_allclose(coordinates, expected[:, :-1], atol=1e-13)
    np.testing.assert_allclose(loss, expected[:, -1], atol=1e-13)


@hypothesis.settings(deadline=None, max_examples=60, derandomize=True)
@hypothesis.given(
    degree=st.integers(1, 4),
    steps=st.lists(st.floats(-12, 3), min_size=1, max_size=6),
    unit=st.sampled_from([1e-12, 1.0, 1e12]),
    seed=st.integers(0, 2**16),
)
def test_at_is_exact_on_any_polynomials_between_any_steps(degree, steps, unit, seed):
    """Steps of lengths over fifteen decades, each with its own polynomial, which all meet at the records between."""
    rng = np.random.default_rng(seed)
    ends = np.append(0, np.cumsum(10.0 ** np.array(steps)))
    inner = np.sort(rng.uniform(0.1, 0.9, size=(len(steps), degree - 1)), axis=1)
    hypothesis.assume(np.all(np.diff(inner, axis=1) > 0.05))
    nodes = np.concatenate([np.zeros((len(steps), 1)), inner], axis=1)
    time = np.append((ends[:-1, None] + np.diff(ends)[:, None] * nodes).ravel(), ends[-1])
    hypothesis.assume(np.all(np.diff(time) > 1e-9 * ends[-1]))  # else the sum has lost the digits of the step

    def place(at):
        """Number of the step that holds a time, and where in it, from 0 to 1."""
        step = np.clip(np.searchsorted(ends, at, side="right") - 1, 0, len(steps) - 1)
        return step, (at - ends[step]) / np.diff(ends)[step]

    shapes = rng.normal(size=(len(steps), degree, NAMES + 1))
    joints = np.concatenate([np.zeros((1, NAMES + 1)), np.cumsum(shapes.sum(axis=1), axis=0)])

    def values(at):
        step, x = place(at)
        return joints[step] + np.einsum("ap,apc->ac", x[:, None] ** np.arange(1, degree + 1), shapes[step])

    records = values(time)
    run = Trajectory(unit * time, records[:, :-1], records[:, -1], np.zeros(len(time)), "horizon_reached", degree)
    between = rng.uniform(0, ends[-1], size=30)
    coordinates, loss = run.at(unit * between)
    # where in a step a time lies is known to 1e-16 of the run, 1e-7 of the shortest step
    tolerance = 1e-12 + 1e-13 * ends[-1] / np.diff(time).min()
    np.testing.assert_allclose(np.column_stack([coordinates, loss]), values(between), rtol=0, atol=tolerance)
    coordinates, loss = run.at(run.time)
    np.testing.assert_array_equal(np.column_stack([coordinates, loss]), records)


@pytest.mark.parametrize("degree", [1, 4])
def test_at_reads_records_back(degree):
    time = np.linspace(0, 3, 4 * degree + 1)
    values = np.random.default_rng(1).normal(size=(len(time), NAMES + 1))
    run = Trajectory(time, values[:, :-1], values[:, -1], np.zeros(len(time)), "emerged", degree)
    coordinates, loss = run.at(time)
    np.testing.assert_allclose(coordinates, values[:, :-1], atol=1e-13)
    np.testing.assert_allclose(loss, values[:, -1], atol=1e-13)


def test_groups_do_not_see_each_other():
    """Two groups of degree 4, the second one a different polynomial that joins at the common record."""
    time = np.linspace(0, 2, 9)
    shape = np.where(time <= 1, time**4, 1 + 3 * (time - 1))
    run = Trajectory(time, np.tile(shape[:, None], NAMES), shape, np.zeros(9), "emerged", 4)
    _, loss = run.at(np.array([0.3, 0.99, 1.0, 1.01, 1.7]))
    np.testing.assert_allclose(loss, [0.3**4, 0.99**4, 1, 1.03, 3.1], atol=1e-14)


def test_a_straight_line_between_the_records_of_a_trained_model():
    time = np.array([0.0, 0.25, 0.5])
    coordinates = np.zeros((3, NAMES))
    coordinates[:, 3] = [0.0, 1.0, 4.0]
    run = Trajectory(time, coordinates, np.array([1.0, 0.5, 0.25]), np.zeros(3), "emerged")
    between, loss = run.at(np.array([0.125, 0.375, 0.5]))
    np.testing.assert_allclose(between[:, 3], [0.5, 2.5, 4.0], rtol=1e-15)
    np.testing.assert_allclose(loss, [0.75, 0.375, 0.25], rtol=1e-15)


@pytest.mark.parametrize("degree", [1, 4])
def test_a_single_record_is_read_back(degree):
    run = Trajectory(np.zeros(1), np.full((1, NAMES), 2.0), np.array([0.5]), np.zeros(1), "nonfinite", degree)
    coordinates, loss = run.at(np.zeros(1))
    np.testing.assert_array_equal(coordinates, np.full((1, NAMES), 2.0))
    np.testing.assert_array_equal(loss, [0.5])


@pytest.mark.parametrize("asked", [-1e-9, 2.0 + 1e-9, 100.0])
def test_at_refuses_times_outside_the_run(asked):
    run, _ = trajectory_of(np.linspace(0, 2, 5), 4)
    with pytest.raises(ValueError, match=r"time must be within \[0, 2\], the span of the run\."):
        run.at(np.array([1.0, asked]))


def test_refuses_an_unknown_outcome():
    with pytest.raises(ValueError, match="outcome must be one of emerged, horizon_reached, .*; got 'finished'."):
        trajectory_of(np.linspace(0, 1, 5), 4, outcome="finished")


@pytest.mark.parametrize("records", [2, 4, 6, 8])
def test_refuses_records_that_do_not_fill_their_groups(records):
    with pytest.raises(ValueError, match=f"a degree of 4 does not divide {records - 1} intervals."):
        trajectory_of(np.linspace(0, 1, records), 4)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_takes_every_outcome(outcome):
    run, _ = trajectory_of(np.linspace(0, 1, 5), 4, outcome=outcome)
    assert run.outcome == outcome


def test_is_the_type_of_a_reduced_run():
    run = solve_flow(Task(16), "circuit", horizon=0.5)
    assert isinstance(run, Trajectory)
    coordinates, loss = run.at(run.time)
    np.testing.assert_allclose(coordinates, run.coordinates, atol=1e-13)
    np.testing.assert_allclose(loss, run.loss, rtol=1e-13)
