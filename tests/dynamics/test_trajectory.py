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


@pytest.mark.parametrize("degree", [1, 2, 4, 7])
@pytest.mark.parametrize("ends", [np.linspace(0, 2, 6), np.array([0, 1e-9, 1e-5, 0.2, 0.3, 2.0])], ids=["even", "not"])
def test_at_is_exact_on_polynomials(degree, ends):
    time = np.append((ends[:-1, None] + np.diff(ends)[:, None] * np.arange(degree) / degree).ravel(), ends[-1])
    run, values = trajectory_of(time, degree)
    asked = np.concatenate([np.linspace(0, 2, 101), time, time[:-1] + 1e-10])
    coordinates, loss = run.at(asked)
    expected = values(asked)
    np.testing.assert_allclose(coordinates, expected[:, :-1], atol=1e-12)
    np.testing.assert_allclose(loss, expected[:, -1], atol=1e-12)


@hypothesis.settings(deadline=None, max_examples=60, derandomize=True)
@hypothesis.given(
    degree=st.integers(1, 7),
    steps=st.lists(st.floats(-12, 3), min_size=1, max_size=6),
    curved=st.booleans(),
    unit=st.sampled_from([1e-12, 1.0, 1e12]),
    seed=st.integers(0, 2**16),
)
def test_at_is_exact_on_any_polynomials_between_any_steps(degree, steps, curved, unit, seed):
    """Groups of lengths over fifteen decades, each with polynomials of its own for time and values in one parameter."""
    rng = np.random.default_rng(seed)
    lengths = 10.0 ** np.array(steps)
    ends = np.append(0, np.cumsum(lengths))
    hypothesis.assume(np.all(lengths > 1e-9 * degree * ends[-1]))  # else the sum has lost the digits of the step
    exponents = np.arange(1, degree + 1)
    # a time that rises throughout: its coefficients are positive
    bends = rng.uniform(0.1, 1, size=(len(steps), degree)) if curved else np.tile(exponents == 1, (len(steps), 1))
    bends = bends / bends.sum(axis=1, keepdims=True)
    shapes = rng.normal(size=(len(steps), degree, NAMES + 1))
    joints = np.concatenate([np.zeros((1, NAMES + 1)), np.cumsum(shapes.sum(axis=1), axis=0)])

    def at(step, parameter):
        powers = parameter[:, None] ** exponents
        time = ends[step] + lengths[step] * np.sum(powers * bends[step], axis=1)
        return time, joints[step] + np.einsum("ap,apc->ac", powers, shapes[step])

    step = np.repeat(np.arange(len(steps)), degree)
    time, records = at(step, np.tile(np.arange(degree) / degree, len(steps)))
    time, records = np.append(time, ends[-1]), np.append(records, joints[-1:], axis=0)
    run = Trajectory(unit * time, records[:, :-1], records[:, -1], np.zeros(len(time)), "horizon_reached", degree)
    asked, expected = at(rng.integers(0, len(steps), size=30), rng.uniform(size=30))
    coordinates, loss = run.at(np.minimum(unit * asked, run.time[-1]))
    # where in a group a time lies is known to 1e-16 of the run; slopes there are below 100 a group
    tolerance = 1e-11 + 1e-13 * ends[-1] / lengths.min()
    np.testing.assert_allclose(np.column_stack([coordinates, loss]), expected, rtol=0, atol=tolerance)
    coordinates, loss = run.at(run.time)
    np.testing.assert_allclose(np.column_stack([coordinates, loss]), records, rtol=0, atol=tolerance)


@pytest.mark.parametrize("degree", [4, 7])
def test_time_may_stand_still(degree):
    """In the second group values go on while time does not: of that time the run tells what it is after the group."""
    parameter = np.arange(degree + 1) / degree
    time = np.concatenate([parameter, np.ones(degree), 1 + parameter[1:]])
    values = np.concatenate([parameter**2, 1 + parameter[1:] ** 3, 2 + parameter[1:] / 2])
    run = Trajectory(time, np.tile(values[:, None], NAMES), 3 - values, np.zeros(len(time)), "emerged", degree)
    coordinates, loss = run.at(np.array([0.5, 1.0, 1.5, 2.0]))
    np.testing.assert_allclose(coordinates[:, 0], [0.25, 2.0, 2.25, 2.5], rtol=1e-13)
    np.testing.assert_allclose(loss, [2.75, 1.0, 0.75, 0.5], rtol=1e-13)


@pytest.mark.parametrize("degree", [4, 7])
def test_a_run_may_end_while_time_stands_still(degree):
    """Its last time is that of its last record."""
    time = np.append(np.arange(degree + 1) / degree, np.ones(degree))
    values = np.arange(len(time)) / degree
    run = Trajectory(time, np.tile(values[:, None], NAMES), 2 - values, np.zeros(len(time)), "emerged", degree)
    coordinates, loss = run.at(np.array([0.25, 1.0]))
    np.testing.assert_allclose(coordinates[:, 0], [0.25, 2.0], rtol=1e-13)
    np.testing.assert_allclose(loss, [1.75, 0.0], atol=1e-13)


@pytest.mark.parametrize("degree", [1, 4, 7])
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


@pytest.mark.parametrize("degree", [1, 4, 7])
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
