"""Crossings, their order and their outcomes, on runs whose crossings are known."""

import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from induction_dynamics.dynamics.emergence import (
    DEFAULT_MEASURES,
    LOSS,
    MEASURES,
    Emergence,
    crossing_targets,
    emergence_order,
    emergence_times,
)
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import COORDINATES


def run_of(time, degree=1, loss=None, outcome="horizon_reached", **coordinates):
    """A run with the given coordinates (functions of time, or values), the others 0, and a loss of 1 throughout."""
    time = np.asarray(time, float)

    def values(what):
        return np.asarray(what(time) if callable(what) else what, float)

    table = np.zeros((len(time), 19))
    for name, what in coordinates.items():
        table[:, COORDINATES.index(name)] = values(what)
    losses = np.ones(len(time)) if loss is None else values(loss)
    return Trajectory(time, table, losses, np.zeros(len(time)), outcome, degree)


def only(emergences):
    (emergence,) = emergences
    return emergence


def times_of(emergences):
    return np.array([emergence.time for emergence in emergences], float)


def test_a_straight_line_to_the_last_digit():
    run = run_of(np.arange(9) * 0.25, alpha_3=lambda t: 0.7 * t - 0.1)
    found = emergence_times(run, measures=["alpha_3"], thresholds=[0.2, 0.5, 1.1])
    np.testing.assert_allclose(times_of(found), np.array([0.3, 0.6, 1.2]) / 0.7, rtol=1e-14)
    assert [e.threshold for e in found] == [0.2, 0.5, 1.1]
    assert {e.outcome for e in found} == {"emerged"}


@pytest.mark.parametrize("root", [0.1, 0.5, 1.2345678901234, 1.75, 1.999])
@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("degree", [4, 7])
def test_a_quartic_to_the_last_digit(root, groups, degree):
    time = np.linspace(0, 2, degree * groups + 1)
    run = run_of(time, degree, gamma_3=lambda t: 0.5 + (t - root) * (1 + t + t**2 / 3 + t**3))
    found = only(emergence_times(run, measures=["gamma_3"]))
    assert found.time == pytest.approx(root, rel=1e-14)


def test_a_quartic_in_uneven_steps_of_any_unit():
    unit = 1e12
    time = unit * np.concatenate([np.linspace(0, 1e-3, 5)[:-1], np.linspace(1e-3, 0.4, 5)[:-1], np.linspace(0.4, 3, 5)])
    root = 0.0007 * unit, 0.123 * unit, 2.5 * unit
    for where in root:
        run = run_of(time, 4, beta_2=lambda t, where=where: 0.5 + (t / where) ** 4 - 1)
        assert only(emergence_times(run, measures=["beta_2"])).time == pytest.approx(where, rel=1e-13)


@pytest.mark.parametrize("bend", [1.0, 1e3])
def test_a_crossing_where_time_is_curved(bend):
    """Time and coordinate are polynomials in the group's own parameter: t = s + bend s^3, alpha_3 = s^2."""
    parameter = np.linspace(0, 1, 8)
    run = run_of(parameter + bend * parameter**3, 7, alpha_3=parameter**2, loss=1 - parameter**4)
    found = emergence_times(run, measures=["alpha_3", "loss"], thresholds=[0.09, 0.5], loss_fractions=[0.25])
    places = np.array([0.3, 0.5**0.5, 0.75**0.25])
    np.testing.assert_allclose(times_of(found), places + bend * places**3, rtol=1e-13)


def test_a_crossing_while_time_stands_still():
    parameter = np.linspace(0, 1, 8)
    time = np.concatenate([parameter, np.ones(7), 1 + parameter[1:]])
    rising = np.concatenate([0.1 * parameter, 0.1 + 0.8 * parameter[1:], 0.9 + parameter[1:]])
    run = run_of(time, 7, alpha_3=rising, loss=2 - rising)
    found = emergence_times(run, measures=["alpha_3", "loss"], thresholds=[0.05, 0.5, 1.4], loss_fractions=[0.75])
    np.testing.assert_allclose(times_of(found), [0.5, 1.0, 1.5, 1.0], rtol=1e-13)


@st.composite
def rising_runs(draw):
    """Records of a coordinate that rises from 0 over many scales of time and of size, and the run's degree."""
    degree, groups = draw(st.sampled_from([1, 2, 4, 7])), draw(st.integers(1, 5))
    scales = st.floats(-9, 3).map(lambda power: 10.0**power)
    if degree == 1:
        lengths, rises = (draw(st.lists(scales, min_size=groups, max_size=groups)) for _ in range(2))
        time, values = (np.cumsum([0.0, *parts]) for parts in (lengths, rises))
    else:  # the polynomial between the records rises as well
        time = np.linspace(0, draw(scales), degree * groups + 1)
        slopes = st.one_of(st.just(0.0), st.floats(1e-3, 10))
        coefficients = draw(st.lists(slopes, min_size=degree, max_size=degree).filter(any))
        values = draw(scales) * np.polynomial.polynomial.polyval(time / time[-1], [0, *coefficients])
    hypothesis.assume(np.all(np.diff(time) > 0) and np.all(np.diff(values) > 0))
    return time, values, degree


@hypothesis.settings(deadline=None, max_examples=60, derandomize=True)
@hypothesis.given(run=rising_runs(), fractions=st.lists(st.floats(1e-6, 1.2), min_size=1, max_size=6))
def test_of_a_rising_run(run, fractions):
    """Between the records on either side of the threshold, a root, and no earlier for a higher threshold."""
    time, values, degree = run
    losses = 3 * (1 - values / (2 * values[-1]))
    trajectory = run_of(time, degree, alpha_3=values, loss=losses)
    thresholds = sorted(fraction * values[-1] for fraction in fractions)
    levels = [1 - min(fraction, 1.1) / 2 for fraction in sorted(fractions)]
    rising = emergence_times(trajectory, measures=["alpha_3"], thresholds=thresholds)
    falling = emergence_times(trajectory, measures=["loss"], loss_fractions=levels)
    for found, signal, asked in ((rising, values, thresholds), (falling, -losses, [-3 * level for level in levels])):
        reached = np.array([threshold for threshold in asked if threshold <= signal[-1]])
        assert [emergence.outcome for emergence in found] == ["emerged"] * len(reached) + ["horizon_reached"] * (
            len(found) - len(reached)
        )
        times = times_of(found)[: len(reached)]
        after = np.searchsorted(signal, reached)
        assert np.all((time[after - 1] <= times) & (times <= time[after]))
        assert np.all(np.diff(times) >= -1e-15 * time[-1])
        # the time is right to rounding, which is as much as the coordinate can tell where it is steep
        column, sign = (2, 1) if found is rising else (-1, -1)
        for side in (-1, 1):
            near = np.clip(times + side * 1e-14 * time[after], 0, time[-1])
            seen = sign * np.column_stack(trajectory.at(near))[:, column]
            assert np.all(side * (seen - reached) >= -1e-14 * np.abs(signal).max())


def test_the_loss_falls_through_fractions_of_its_start():
    run = run_of(np.linspace(0, 4, 17), 4, loss=lambda t: 3 * (1 - t / 4) ** 2)
    found = emergence_times(run, measures=["loss"], loss_fractions=[0.81, 0.25, 0.01])
    np.testing.assert_allclose(times_of(found), [0.4, 2.0, 3.6], rtol=1e-14)
    assert [(e.measure, e.threshold) for e in found] == [(LOSS, 0.81), (LOSS, 0.25), (LOSS, 0.01)]


def test_a_crossing_on_a_record():
    run = run_of([0, 1, 2, 3], alpha_3=[0, 0.25, 0.5, 1.0], loss=[2, 1, 0.5, 0.4])
    found = emergence_times(run, measures=["alpha_3", "loss"])
    assert [e.time for e in found] == [2.0, 1.0]


def test_the_first_of_several_crossings():
    """Up at 0.5, down at 1.5, up again at 2.5."""
    run = run_of([0, 1, 2, 3], alpha_3=[0, 1, 0, 1], beta_2=[0, 0, 0, 1])
    found = emergence_times(run, measures=["alpha_3", "beta_2"])
    assert [e.time for e in found] == [0.5, 2.5]


def test_falling_is_not_emerging():
    run = run_of([0, 1, 2], alpha_3=[0, -1, -2], loss=[1, 2, 3], outcome="horizon_reached")
    found = emergence_times(run, measures=["alpha_3", "loss"])
    assert [(e.time, e.outcome, e.sustained) for e in found] == [(None, "horizon_reached", None)] * 2


def test_a_start_beyond_the_threshold_counts_at_once():
    run = run_of([0, 1, 2], alpha_3=[0.5, 0.6, 0.7], beta_2=[0.9, 0.1, 0.9])
    found = emergence_times(run, measures=["alpha_3", "beta_2"])
    assert [(e.time, e.outcome) for e in found] == [(0.0, "emerged")] * 2


@pytest.mark.parametrize(
    "outcome, expected",
    [
        ("horizon_reached", "horizon_reached"),
        ("solver_failed", "solver_failed"),
        ("nonfinite", "nonfinite"),
        ("emerged", "stopped"),  # the run stopped for what else was asked
    ],
)
def test_never_says_why(outcome, expected):
    run = run_of([0, 1], outcome=outcome, gamma_3=[0, 1])
    found = {e.measure: e for e in emergence_times(run, measures=["alpha_3", "gamma_3"])}
    assert (found["alpha_3"].time, found["alpha_3"].outcome) == (None, expected)
    assert (found["gamma_3"].time, found["gamma_3"].outcome) == (0.5, "emerged")


def test_a_run_of_one_record():
    run = run_of([0.0], 4, gamma_3=[2.0], outcome="nonfinite")
    found = {e.measure: (e.time, e.outcome) for e in emergence_times(run)}
    assert found["gamma_3"] == (0.0, "emerged")
    assert found["alpha_3"] == found["loss"] == (None, "nonfinite")


def test_sustained_looks_at_the_next_hundredth_of_the_run():
    """1,001 records over [0, 100], so that a hundredth is 1.0, ten records."""
    time = np.linspace(0, 100, 1001)
    steady = np.where(time > 39.95, 0.4, 1.0)
    shaky, late, unsure = steady.copy(), steady.copy(), np.where(time > 99.45, 0.4, 1.0)
    shaky[405] = 0.6
    late[415] = 0.6
    shaky_end = unsure.copy()
    shaky_end[998] = 0.6
    expected = {"steady": True, "shaky": False, "late": True, "unsure": None, "shaky end": False}
    for (name, answer), loss in zip(expected.items(), (steady, shaky, late, unsure, shaky_end), strict=True):
        found = only(emergence_times(run_of(time, loss=loss), measures=["loss"]))
        assert found.outcome == "emerged"
        assert found.time == pytest.approx(99.4 + 0.1 * 5 / 6 if "un" in name or "end" in name else 39.9 + 0.1 * 5 / 6)
        assert found.sustained is answer, name


def test_a_noisy_coordinate_is_flagged_too():
    time = np.linspace(0, 100, 1001)
    noisy = np.where(time > 50, 0.6, 0.0)
    noisy[505] = 0.4
    assert only(emergence_times(run_of(time, beta_2=noisy), measures=["beta_2"])).sustained is False


def test_one_answer_for_each_measure_and_threshold_in_order():
    run = run_of(np.linspace(0, 4, 41), alpha_3=lambda t: t, beta_2=lambda t: t / 2, loss=lambda t: 1 - t / 4)
    found = emergence_times(
        run, measures=["beta_2", "loss", "alpha_3"], thresholds=[1.0, 0.5], loss_fractions=[0.5, 0.25]
    )
    assert [(e.measure, e.threshold) for e in found] == [
        ("beta_2", 1.0),
        ("beta_2", 0.5),
        ("loss", 0.5),
        ("loss", 0.25),
        ("alpha_3", 1.0),
        ("alpha_3", 0.5),
    ]
    np.testing.assert_allclose(times_of(found), [2, 1, 2, 3, 1, 0.5], rtol=1e-14)


def test_many_measures_at_once_as_one_by_one():
    rng = np.random.default_rng(4)
    time = np.linspace(0, 3, 41)
    table = np.cumsum(rng.exponential(size=(41, 19)) * rng.uniform(0, 0.2, size=19), axis=0) - 0.1
    run = Trajectory(time, table, np.exp(-time), np.zeros(41), "horizon_reached", 4)
    thresholds, fractions = [0.1, 0.5, 2.0], [0.9, 0.1]
    together = emergence_times(run, measures=MEASURES, thresholds=thresholds, loss_fractions=fractions)
    alone = [
        only(
            emergence_times(run, measures=[name], loss_fractions=[level])
            if name == LOSS
            else emergence_times(run, measures=[name], thresholds=[level])
        )
        for name, level in crossing_targets(MEASURES, thresholds, fractions)
    ]
    assert len(together) == 19 * 3 + 2
    assert [(e.measure, e.threshold, e.outcome, e.sustained) for e in together] == [
        (e.measure, e.threshold, e.outcome, e.sustained) for e in alone
    ]
    np.testing.assert_allclose(times_of(together), times_of(alone), rtol=1e-14)
    assert {e.outcome for e in together} == {"emerged", "horizon_reached"}


def test_defaults():
    assert DEFAULT_MEASURES == ("alpha_3", "beta_2", "gamma_3", "loss")
    assert [(e.measure, e.threshold) for e in emergence_times(run_of([0, 1]))] == [(m, 0.5) for m in DEFAULT_MEASURES]


@pytest.mark.parametrize("threshold", [0.0, -1.0, np.inf, np.nan])
def test_refuses_thresholds(threshold):
    with pytest.raises(ArgumentError, match=re.escape(f"thresholds must be finite and above 0; got {threshold!r}.")):
        emergence_times(run_of([0, 1]), thresholds=[0.5, threshold])


@pytest.mark.parametrize("fraction", [0.0, 1.0, 1.5, -0.5, np.nan, np.inf])
def test_refuses_loss_fractions(fraction):
    message = f"loss_fractions must be strictly between 0 and 1; got {fraction!r}."
    with pytest.raises(ArgumentError, match=re.escape(message)):
        emergence_times(run_of([0, 1]), loss_fractions=[fraction])


def test_refuses_unknown_measures():
    with pytest.raises(ArgumentError, match=re.escape("measures must be one of alpha_1, ")) as error:
        crossing_targets(["alpha_3", "delta"], [0.5], [0.5])
    assert (error.value.argument, error.value.value) == ("measures", "delta")


def emerged(measure, threshold, time):
    return Emergence(measure, threshold, time, "horizon_reached" if time is None else "emerged", None)


def test_order_with_ties_and_never():
    found = [
        emerged("alpha_3", 0.5, 3.0),
        emerged("beta_2", 0.5, 1.0),
        emerged("gamma_3", 0.5, 1.0 + 1e-9),
        emerged("gamma_4", 0.5, None),
        emerged("loss", 0.25, None),
        emerged("loss", 0.5, 5.0),
    ]
    (order,) = emergence_order(found)
    assert order.threshold == 0.5
    assert order.groups == (("beta_2", "gamma_3"), ("alpha_3",), ("loss to 0.5",))
    assert order.never == ("gamma_4", "loss to 0.25")
    assert str(order) == "beta_2 = gamma_3, alpha_3, loss to 0.5; never gamma_4, loss to 0.25"


def test_order_at_every_threshold_has_the_losses():
    found = [emerged("alpha_3", 0.5, 1.0), emerged("alpha_3", 2.0, 4.0), emerged("beta_2", 0.5, 2.0)]
    found += [emerged("beta_2", 2.0, 3.0), emerged("loss", 0.5, 3.5)]
    low, high = emergence_order(found)
    assert (low.threshold, low.groups) == (0.5, (("alpha_3",), ("beta_2",), ("loss to 0.5",)))
    assert (high.threshold, high.groups) == (2.0, (("beta_2",), ("loss to 0.5",), ("alpha_3",)))


def test_order_when_nothing_or_everything_emerged():
    (nothing,) = emergence_order([emerged("alpha_3", 0.5, None), emerged("beta_2", 0.5, None)])
    assert (nothing.groups, str(nothing)) == ((), "never alpha_3, beta_2")
    (everything,) = emergence_order([emerged("beta_2", 0.5, 2.0), emerged("alpha_3", 0.5, 1.0)])
    assert (everything.never, str(everything)) == ((), "alpha_3, beta_2")
    (at_once,) = emergence_order([emerged("beta_2", 0.5, 0.0), emerged("alpha_3", 0.5, 0.0)])
    assert at_once.groups == (("alpha_3", "beta_2"),)


def test_ties_are_relative():
    near, far = 1e12, 1e12 * (1 + 1e-3)
    found = [emerged("alpha_3", 0.5, near), emerged("beta_2", 0.5, far)]
    assert emergence_order(found)[0].groups == (("alpha_3",), ("beta_2",))
    assert emergence_order(found, tie=1e-2)[0].groups == (("alpha_3", "beta_2"),)
