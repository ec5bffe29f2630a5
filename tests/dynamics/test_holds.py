"""Interventions: words for them, and the reduced flow that has them."""

import dataclasses
import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from induction_dynamics.dynamics import flow
from induction_dynamics.dynamics.emergence import emergence_times
from induction_dynamics.dynamics.flow import solve_flow, solve_flows
from induction_dynamics.dynamics.holds import ALLOWED, Hold, check_holds
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.reduced.loss import reduced_loss
from induction_dynamics.task import Task

LAST = Task(4)
TURNED = Task(3, query="uniform", rotation=60.0)
HORIZON = 3.0  # of LAST: flow time 48
OVERLAPPING = ("alpha_2 alpha_3", "beta_5 beta_6", "beta_7 beta_8", "beta_9 beta_10", "beta_11 beta_12")


def column(trajectory, name):
    return trajectory.coordinates[:, COORDINATES.index(name)]


def whole(**options):
    return solve_flow(LAST, "circuit", horizon=HORIZON, **options)


def starts(trajectory, since):
    """Places of the first and the last record of a jump."""
    at = np.flatnonzero(trajectory.time == since)
    return int(at[0]), int(at[-1])


def constrained(slope, gram, moving):
    """G_mm v = -dloss/dtheta_m on the coordinates that move, zero on the others."""

    def velocity(_, theta):
        change = np.zeros(19)
        change[moving] = np.linalg.solve(gram[np.ix_(moving, moving)], -np.asarray(slope(theta))[moving])
        return change

    return velocity


def twin(task, model, holds, times):
    """The constrained flow by LSODA, restarted at each onset."""
    slope = jax.jit(jax.grad(reduced_loss(task, model)))
    gram = np.eye(19)
    for pair in OVERLAPPING:
        first, second = map(COORDINATES.index, pair.split())
        gram[first, second] = gram[second, first] = np.cos(np.deg2rad(task.rotation))
    free = CIRCUIT if model == "circuit" else COORDINATES
    theta, found = np.zeros(19), []
    onsets = sorted({0.0, *(hold.since for hold in holds)})
    for since, until in zip(onsets, [*onsets[1:], times[-1]], strict=True):
        for hold in holds:
            if hold.since == since and hold.value is not None:
                theta[COORDINATES.index(hold.coordinate)] = hold.value
        still = [hold.coordinate for hold in holds if hold.since <= since]
        moving = [place for place, name in enumerate(COORDINATES) if name in free and name not in still]
        here = (times >= since) & ((times < until) | (until == times[-1]))
        solution = solve_ivp(
            constrained(slope, gram, moving), (since, until), theta, "LSODA", rtol=1e-11, atol=1e-13, dense_output=True
        )
        assert solution.success and solution.sol is not None
        found.extend(solution.sol(times[here]).T)
        theta = solution.y[:, -1]
    return np.array(found)


LATER = (Hold("beta_2", 0.8, since=6.0), Hold("gamma_3", since=14.0))
MANY = (
    Hold("beta_12", 0.3, since=4.0),  # leaves beta_11, with which it overlaps
    Hold("alpha_2", since=4.0),
    Hold("gamma_4", -0.5, since=7.5),
    Hold("beta_9", 0.2, since=9.0),
)


@pytest.mark.parametrize(
    "task, model, holds",
    [
        pytest.param(Task(3, query="uniform"), "circuit", LATER, marks=pytest.mark.slow),
        (LAST, "circuit", LATER),
        (TURNED, "subspace", MANY),
        pytest.param(Task(3, query="uniform"), "subspace", MANY, marks=pytest.mark.slow),
        pytest.param(LAST, "subspace", (Hold("beta_1", 0.0), *MANY), marks=pytest.mark.slow),
    ],
    ids=["uniform", "own form, then collocation", "explicit, in the metric", "subspace", "subspace, last"],
)
def test_agrees_with_the_constrained_flow_by_scipy(task, model, holds):
    horizon = 2.0
    run = solve_flow(task, model, horizon=horizon, hold=holds)
    end = horizon * task.context_length**2
    times = np.sort([*np.linspace(0.0, end, 41), *(hold.since for hold in holds), 4.0 + 1e-6, 6.0 - 1e-9])
    expected = twin(task, model, holds, times)
    difference = np.abs(run.at(times)[0] - expected).max()
    print(f"{difference:.1e}")
    assert difference < 1e-7
    losses = jax.jit(jax.vmap(reduced_loss(task, model)))(jnp.asarray(expected))
    np.testing.assert_allclose(run.at(times)[1], losses, rtol=1e-7)
    assert run.time[-1] == end and run.outcome == "horizon_reached"
    assert run.degree == (4 if task is TURNED else 7)


@pytest.mark.parametrize("value", [0.0, 0.7, None])
def test_from_the_start_on_is_a_start_that_does_not_move(value):
    """The same numbers: alpha_3 and gamma_3 are active, beta_2 is not."""
    start = {"beta_2": 0.7 if value is None else 0.3, "gamma_3": 0.1}
    held = whole(start=start, hold=[Hold("beta_2", value)])
    fixed = {**start, "beta_2": start["beta_2"] if value is None else value}
    other = whole(start=fixed, active=("alpha_3", "gamma_3"))
    np.testing.assert_array_equal(held.coordinates, other.coordinates)
    np.testing.assert_array_equal(held.time, other.time)
    np.testing.assert_array_equal(held.loss, other.loss)


def test_semigroup():
    """Held from T on: the run up to T, and from there one in which the coordinate is not active."""
    since = 9.0
    run = whole(hold=[Hold("beta_2", since=since)])
    before = solve_flow(LAST, "circuit", horizon=since / 16)
    state = dict(zip(COORDINATES, map(float, before.coordinates[-1]), strict=True))
    start = {name: state[name] for name in CIRCUIT}
    after = solve_flow(LAST, "circuit", horizon=HORIZON - since / 16, start=start, active=("alpha_3", "gamma_3"))
    times = np.linspace(since, run.time[-1], 50)
    there = np.minimum(times - since, after.time[-1])
    for one, other in zip(run.at(times), after.at(there), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(run.coordinates[: len(before.time)], before.coordinates)


@pytest.mark.parametrize("value", [None, 0.9])
def test_nothing_is_changed_before_and_the_coordinate_rests_after(value):
    since = 20.0
    plain, run = whole(), whole(hold=[Hold("beta_2", value, since=since)])
    first, last = starts(run, since)
    # all but the step that ends at the onset is the same
    same = first - run.degree + 1
    assert same > 10
    for name in ("time", "coordinates", "loss"):
        np.testing.assert_array_equal(getattr(run, name)[:same], getattr(plain, name)[:same])
    np.testing.assert_allclose(run.coordinates[first], plain.at(np.array([since]))[0][0], rtol=1e-9, atol=1e-12)
    held = column(run, "beta_2")[last:]
    assert len(held) > 20 and np.all(held == held[0])
    assert held[0] == (column(run, "beta_2")[first] if value is None else value)
    assert np.all(np.diff(run.time) >= 0) and run.time[-1] == HORIZON * 16
    assert last - first == (0 if value is None else run.degree)
    assert column(run, "alpha_3")[-1] != column(plain, "alpha_3")[-1]


@pytest.mark.parametrize("value", [0.9, -0.4])
def test_a_jump_is_a_group_without_length(value):
    since = 20.0
    run = whole(hold=[Hold("beta_2", value, since=since)])
    first, last = starts(run, since)
    assert first % run.degree == 0 and last == first + run.degree and (len(run.time) - 1) % run.degree == 0
    # it alone jumps
    others = [place for place, name in enumerate(COORDINATES) if name != "beta_2"]
    assert np.all(run.coordinates[first : last + 1, others] == run.coordinates[first, others])
    assert len(set(np.sign(np.diff(column(run, "beta_2")[first : last + 1])))) == 1
    assert len(set(np.sign(np.diff(run.loss[first : last + 1])))) == 1
    losses = jax.vmap(reduced_loss(LAST, "circuit"))(jnp.asarray(run.coordinates[[first, last]]))
    np.testing.assert_allclose(run.loss[[first, last]], losses, rtol=1e-8)
    # at the onset itself, the state is the one after
    coordinates, loss = run.at(np.array([np.nextafter(since, 0), since]))
    np.testing.assert_allclose(coordinates, run.coordinates[[first, last]], rtol=1e-12)
    np.testing.assert_allclose(loss, run.loss[[first, last]], rtol=1e-12)


def test_thresholds_are_crossed_by_jumps():
    since = 13.7
    run = whole(hold=[Hold("beta_2", 3.0, since=since)])
    found = emergence_times(run, measures=["beta_2", "gamma_3"], thresholds=[0.01, 0.5, 2.0, 3.0, 3.1])
    times = {(e.measure, e.threshold): e.time for e in found}
    early = times["beta_2", 0.01]
    assert early is not None and early < since
    for threshold in (0.5, 2.0, 3.0):
        assert times["beta_2", threshold] == since
    assert all(e.sustained for e in found if e.measure == "beta_2" and e.time == since)
    assert times["beta_2", 3.1] is None
    # others are as ever: gamma_3 has crossed before
    plain = emergence_times(whole(), measures=["gamma_3"])[0].time
    assert times["gamma_3", 0.5] == pytest.approx(plain, rel=1e-9)


def test_what_is_held_at_zero_never_emerges():
    for since in (0.0, 1.0):
        run = whole(hold=[Hold("beta_2", 0.0, since=since)])
        found = emergence_times(run, measures=["beta_2", "gamma_3"])
        assert [(e.outcome, e.time is None) for e in found] == [("horizon_reached", True), ("emerged", False)]


def test_emergence_after_a_jump_is_accurate():
    """At the default accuracy against the finest: times from t = 0, fractions of the loss at t = 0."""
    holds = [Hold("beta_2", 1.0, since=10.0), Hold("gamma_3", since=40.0)]
    asked = {"measures": ["alpha_3", "gamma_3", "loss"], "thresholds": (0.1, 0.5), "loss_fractions": (0.8, 0.7)}
    times = [
        np.array([e.time for e in emergence_times(run, **asked)], float)
        for run in (solve_flow(LAST, "circuit", horizon=6.0, hold=holds, accuracy=each) for each in (1e-7, 1e-10))
    ]
    assert np.sum(times[0] > 10) >= 4
    np.testing.assert_allclose(*times, rtol=1e-7)


def test_the_loss_waited_for_is_a_fraction_of_the_first():
    """The jump takes some of it away: a fraction of what is left would be reached later."""
    holds = [Hold("beta_2", 3.0, since=10.0)]
    run = whole(hold=holds, stop=[("loss", 0.75)])
    before, after = run.loss[-1 - run.degree], run.loss[-1]
    assert run.outcome == "emerged" and run.time[-1] > 10.0
    assert before > 0.75 * run.loss[0] >= after
    after_jump = run.loss[starts(run, 10.0)[1]]
    assert after > 0.75 * after_jump
    (found,) = emergence_times(run, measures=["loss"], loss_fractions=[0.75])
    (unhurried,) = emergence_times(whole(hold=holds), measures=["loss"], loss_fractions=[0.75])
    assert found.time == pytest.approx(unhurried.time, rel=1e-9)


def test_a_run_ends_with_the_jump_that_it_waited_for():
    holds = [Hold("beta_2", 3.0, since=10.0)]
    run = whole(hold=holds, stop=[("beta_2", 2.0), ("gamma_3", 0.2)])
    assert run.outcome == "emerged" and run.time[-1] == 10.0
    assert column(run, "beta_2")[-1] == 3.0 and column(run, "beta_2")[-1 - run.degree] < 0.5
    np.testing.assert_array_equal(run.at(np.array([10.0]))[0][0], run.coordinates[-1])


def test_a_run_that_ends_before_the_onset_has_no_jump():
    stop = [("gamma_3", 0.5)]
    run, plain = whole(hold=[Hold("beta_2", 3.0, since=30.0)], stop=stop), whole(stop=stop)
    assert run.outcome == "emerged" and run.time[-1] < 30.0
    np.testing.assert_array_equal(run.coordinates, plain.coordinates)


@pytest.mark.parametrize("since", [HORIZON * 16, 1e9])
def test_an_onset_at_the_horizon_or_beyond_does_nothing(since):
    run, plain = whole(hold=[Hold("beta_2", 3.0, since=since)]), whole()
    for field in dataclasses.fields(plain):
        np.testing.assert_array_equal(getattr(run, field.name), getattr(plain, field.name))


def test_all_held_stands_still():
    at_once = whole(start={"gamma_3": 0.5}, hold=[Hold(name) for name in CIRCUIT])
    assert np.all(at_once.coordinates == at_once.coordinates[0]) and at_once.coordinates[0].sum() == 0.5
    later = whole(hold=[Hold("alpha_3", 1.0, since=12.0), Hold("beta_2", since=12.0), Hold("gamma_3", since=20.0)])
    rest = later.time > 20.0
    assert np.any(rest) and np.all(later.coordinates[rest] == later.coordinates[-1])
    for run in (at_once, later):
        assert run.outcome == "horizon_reached" and run.time[-1] == HORIZON * 16
        loss = float(reduced_loss(LAST, "circuit")(jnp.asarray(run.coordinates[-1])))
        np.testing.assert_allclose(run.at(np.array([30.0, 47.0]))[1], loss, rtol=1e-12)


def test_all_held_stands_still_in_the_explicit_solver():
    run = solve_flow(TURNED, horizon=2.0, hold=[Hold(name, since=7.0) for name in COORDINATES])
    rest = run.time >= 7.0
    assert run.outcome == "horizon_reached" and run.time[-1] == 18.0 and run.degree == 4
    assert np.sum(rest) > 4 and np.all(run.coordinates[rest] == run.coordinates[-1])
    assert np.all(np.diff(run.time) >= 0)


def test_several_onsets_at_once_and_close_together():
    one = [Hold("beta_2", 0.5, since=10.0), Hold("alpha_3", 0.25, since=10.0)]
    both = whole(hold=one)
    first, last = starts(both, 10.0)
    assert last - first == both.degree
    assert column(both, "beta_2")[last] == 0.5 and column(both, "alpha_3")[last] == 0.25
    # nearly at once: the same run, to what moves in between
    close = whole(hold=[one[0], Hold("alpha_3", 0.25, since=10.0 + 1e-9)])
    np.testing.assert_allclose(both.coordinates[-1], close.coordinates[-1], atol=1e-9)
    assert np.all(np.diff(close.time) >= 0)
    shortest = whole(hold=[Hold("beta_2", 0.5, since=1e-300)])
    start = whole(hold=[Hold("beta_2", 0.5)])
    np.testing.assert_allclose(shortest.coordinates[-1], start.coordinates[-1], atol=1e-9)


def test_a_coordinate_that_does_not_move_can_jump():
    """gamma_3 alone: gamma_3' = b - gamma_3 (b^2 + (1 - b)^2/K), and b is what beta_2 says."""
    keys, own, since = 7.0, 1 / 7, 5.0
    run = solve_flow(LAST, "circuit", active=["gamma_3"], hold=[Hold("beta_2", 10.0, since=since)], horizon=1.0)

    def settled(beta, time, start):
        right = 1 / (1 + keys * np.exp(-beta * own))
        rate = right**2 + (1 - right) ** 2 / keys
        return right / rate + (start - right / rate) * np.exp(-rate * time)

    before = settled(0.0, since, 0.0)
    assert run.at(np.array([since]))[0][0][COORDINATES.index("gamma_3")] == pytest.approx(before, rel=1e-8)
    assert column(run, "gamma_3")[-1] == pytest.approx(settled(10.0, 16.0 - since, before), rel=1e-8)
    assert np.all(column(run, "beta_2")[run.time > since] == 10.0) and np.all(column(run, "alpha_3") == 0)


def test_a_single_pair():
    """alpha_3 has no gradient, b = 1/(1 + e^-beta_2), and gamma_3 relaxes as above with K = 1."""
    since, beta = 2.0, 1.5
    run = solve_flow(Task(1), "circuit", horizon=6.0, hold=[Hold("beta_2", beta, since=since)])
    _, last = starts(run, since)
    right = 1 / (1 + np.exp(-beta))
    rate = right**2 + (1 - right) ** 2
    gamma = column(run, "gamma_3")
    expected = right / rate + (gamma[last] - right / rate) * np.exp(-rate * (run.time[last:] - since))
    np.testing.assert_allclose(gamma[last:], expected, rtol=1e-8)
    assert np.all(column(run, "alpha_3") == 0)


def test_where_nothing_moves():
    """All attention on the right label and gamma_3 = 1: a minimum."""
    holds = [Hold("beta_2", 1e4, since=10.0), Hold("gamma_3", 1.0, since=10.0)]
    run = whole(hold=holds)
    assert run.outcome == "horizon_reached" and run.time[-1] == HORIZON * 16
    _, last = starts(run, 10.0)
    assert np.all(run.loss[last:] == 0) and np.all(run.coordinates[last:] == run.coordinates[last])
    waited = whole(hold=holds, stop=[("loss", 0.01)])
    assert waited.outcome == "emerged" and waited.time[-1] == 10.0


def test_a_jump_out_of_range_ends_the_run_before_it():
    run, plain = whole(hold=[Hold("gamma_3", 1e200, since=20.0)]), whole()
    assert run.outcome == "nonfinite" and run.time[-1] == 20.0
    np.testing.assert_allclose(run.coordinates[-1], plain.at(np.array([20.0]))[0][0], rtol=1e-9, atol=1e-12)
    assert np.all(np.isfinite(run.coordinates)) and np.all(np.isfinite(run.loss))


def test_a_solver_that_fails_after_an_onset_keeps_what_was_before(monkeypatch):
    holds = [Hold("beta_2", 0.5, since=20.0), Hold("gamma_3", since=40.0)]
    complete = whole(hold=holds)
    monkeypatch.setattr(flow, "_IMPLICIT_STEPS", 2)
    run = whole(hold=holds)
    assert run.outcome == "solver_failed" and 20.0 < run.time[-1] < 40.0
    np.testing.assert_allclose(run.coordinates, complete.coordinates[: len(run.time)], rtol=1e-12)


def test_side_by_side():
    """Held from the start, several lengths are solved together; with a later onset each by itself."""
    tasks = [Task(2), Task(4), Task(5)]
    early = {"horizon": 2.0, "hold": [Hold("beta_2", 0.4), Hold("gamma_3", 1e3, since=1e6)]}
    for task, run in zip(tasks, solve_flows(tasks, "circuit", **early), strict=True):
        alone = solve_flow(task, "circuit", **early)
        np.testing.assert_allclose(run.coordinates[-1], alone.coordinates[-1], rtol=1e-12)
        assert run.outcome == alone.outcome == "horizon_reached" and run.time[-1] == 2 * task.context_length**2
    later = {"horizon": 2.0, "hold": [Hold("beta_2", 0.4, since=9.0)]}  # beyond the horizon of the first
    for task, run in zip(tasks, solve_flows(tasks, "circuit", **later), strict=True):
        alone = solve_flow(task, "circuit", **later)
        np.testing.assert_array_equal(run.coordinates, alone.coordinates)
        assert (column(run, "beta_2")[-1] == 0.4) == (task.context_length > 2)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Hold("delta_1"), "hold must be of coordinates, which are alpha_1, "),
        (lambda: Hold("beta_2", float("nan")), "hold must be at a finite value; got nan."),
        (lambda: Hold("beta_2", float("inf")), "hold must be at a finite value; got inf."),
        (lambda: Hold("beta_2", 0.0, -1.0), "hold must be from a finite time on, at least 0; got -1.0."),
        (lambda: Hold("beta_2", 0.0, float("inf")), "hold must be from a finite time on, at least 0; got inf."),
        (lambda: Hold("beta_2", 0.0, float("nan")), "hold must be from a finite time on, at least 0; got nan."),
        (
            lambda: solve_flow(LAST, hold=[Hold("beta_2"), Hold("beta_2", 1.0, 5.0)]),
            "hold must be of each coordinate at most once; got 'beta_2'.",
        ),
        (
            lambda: solve_flow(LAST, "circuit", hold=[Hold("alpha_1")]),
            "hold must be of alpha_3, beta_2, gamma_3 for this model; got 'alpha_1'.",
        ),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ArgumentError, match=re.escape(message)) as error:
        make()
    assert error.value.argument == "hold"


def test_numbers_of_any_kind_are_floats():
    hold = Hold("alpha_3", np.float64(1.5), np.float64(3))
    assert type(hold.value) is type(hold.since) is float
    assert hold == Hold("alpha_3", 1.5, 3.0) and str(hold) == "alpha_3=1.5@3.0"


finite = st.floats(allow_nan=False, allow_infinity=False)


@hypothesis.settings(deadline=None, derandomize=True)
@hypothesis.given(
    st.builds(
        Hold,
        st.sampled_from(COORDINATES),
        st.none() | finite,
        st.floats(min_value=0, allow_infinity=False),
    )
)
def test_words_are_read_as_they_are_written(hold):
    assert Hold.read(str(hold)) == hold


@pytest.mark.parametrize(
    "word, hold",
    [
        ("beta_2=0", Hold("beta_2", 0.0)),
        ("alpha_3=1.5@40", Hold("alpha_3", 1.5, 40.0)),
        ("gamma_4@1e2", Hold("gamma_4", None, 100.0)),
        ("gamma_4", Hold("gamma_4")),
        ("beta_12=-2e-3@0", Hold("beta_12", -0.002)),
    ],
)
def test_words(word, hold):
    assert Hold.read(word) == hold


@pytest.mark.parametrize(
    "word",
    ["", "delta_1", "beta_2=", "beta_2@", "beta_2=x", "beta_2=1=2", "beta_2@1@2", "beta_2@1=2", "=1", "beta_2 =1"],
)
def test_words_that_say_nothing(word):
    with pytest.raises(ArgumentError, match=re.escape(f"hold must be {ALLOWED}; got {word!r}.")):
        Hold.read(word)


@pytest.mark.parametrize("word", ["beta_2=nan", "beta_2=inf", "beta_2@-1", "beta_2@nan"])
def test_words_for_what_cannot_be(word):
    with pytest.raises(ArgumentError, match="hold must be (at a finite value|from a finite time on)"):
        Hold.read(word)


def test_holds_are_put_in_order():
    holds = (Hold("gamma_3", 1.0), Hold("alpha_1"), Hold("beta_2", since=3.0))
    assert [hold.coordinate for hold in check_holds(holds)] == ["alpha_1", "beta_2", "gamma_3"]
    assert check_holds(()) == ()
