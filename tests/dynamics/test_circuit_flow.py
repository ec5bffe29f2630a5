"""Many circuits at once, against other people's integrators, exact limits, and themselves at a tighter tolerance."""

import functools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import Polynomial
from scipy import integrate, optimize

from induction_dynamics.dynamics.circuit_flow import Levels, solve_circuit_last
from induction_dynamics.dynamics.collocation import STAGES

THRESHOLDS = (0.01, 0.1, 0.5, 0.9, 0.99)
FRACTIONS = (0.99, 0.9, 0.5, 0.1, 0.01)
TARGETS = [(name, level) for name in ("alpha", "beta", "gamma") for level in THRESHOLDS]
TARGETS += [("loss", fraction) for fraction in FRACTIONS]
PARAMETER = np.arange(STAGES + 1) / STAGES
ALL = Levels(0.99, 0.99, 0.99, 0.01)
NEVER = Levels(math.inf, math.inf, math.inf, math.inf)
NOTHING = Levels(-math.inf, -math.inf, -math.inf, math.inf)

# 32 runs share one compilation
LENGTHS = (2, 3, 4, 5, 10, 16, 50, 64, 71, 1000, 16384, 100_000, 10**6, 10**7, 10**8, 10**9)
ANY = tuple(int(round(length)) for length in np.geomspace(7, 9e8, 32 - len(LENGTHS)))


def solve(lengths, levels=ALL, horizon=1e4, rtol=1e-7, max_steps=96):
    pairs = jnp.asarray(np.asarray(lengths, float))
    nodes = solve_circuit_last(pairs, horizon * jnp.square(pairs), levels, rtol, max_steps)
    return {name: np.asarray(values) for name, values in nodes._asdict().items()}


@functools.cache
def solved(rtol):
    return solve(LENGTHS + ANY, rtol=rtol, max_steps=192)


def group_at(index):
    first = (index - 1) // STAGES * STAGES
    return slice(first, first + STAGES + 1)


def polynomial(records):
    return Polynomial.fit(PARAMETER, records, STAGES, domain=[0, 1])


def root(function, low, high):
    crosses = function(low) < 0 < function(high)
    return optimize.root_scalar(function, bracket=(low, high), xtol=1e-15).root if crosses else high


def crossing(nodes, run, name, level):
    """Time of the first crossing, by a root of the step's polynomial."""
    rising = level / 2 - nodes["loss"][run] if name == "loss" else nodes[name][run] - level
    index = int(np.argmax(rising >= 0))
    assert index > 0, (name, level)
    group = group_at(index)
    measure, time = polynomial(rising[group]), polynomial(nodes["time"][run, group])
    place = index - group.start
    return float(time(root(measure, PARAMETER[place - 1], PARAMETER[place])))


def times(nodes, run):
    return np.array([crossing(nodes, run, *target) for target in TARGETS])


def flow(pairs):
    """Right-hand side and loss, written from the definition with logistic functions of numbers."""

    def attention(alpha, beta):
        odds = (2 * pairs - 2) * math.exp(-alpha)
        wrong_odds = (2 * pairs - 1) * math.exp(-beta / (1 + odds))
        return 1 / (1 + odds), odds / (1 + odds), 1 / (1 + wrong_odds), wrong_odds / (1 + wrong_odds)

    def velocity(_, state):
        alpha, beta, gamma = state
        item, elsewhere, right, wrong = attention(alpha, beta)
        shortfall = 1 - gamma + gamma * wrong if right > 0.5 else 1 - gamma * right
        push = gamma * (shortfall + gamma * wrong / (2 * pairs - 1)) * right * wrong
        rise = right * shortfall - gamma * wrong**2 / (2 * pairs - 1)
        return np.array([push * beta * item * elsewhere, push * item, rise])

    def loss(state):
        alpha, beta, gamma = state
        _, _, right, wrong = attention(alpha, beta)
        shortfall = 1 - gamma + gamma * wrong if right > 0.5 else 1 - gamma * right
        return (shortfall**2 + (gamma * wrong) ** 2 / (2 * pairs - 1)) / 2

    return velocity, loss


@pytest.mark.parametrize(
    ("length", "method"),
    [(2, "DOP853"), (3, "DOP853"), (4, "DOP853"), (10, "DOP853"), (64, "DOP853"), (1000, "DOP853"), (100_000, "Radau")],
)
def test_crossings_against_scipy(length, method):
    """Scipy's state at each crossing time misses the threshold by less than it moves in 1e-7 of that time."""
    found = times(solved(1e-7), LENGTHS.index(length))
    velocity, loss = flow(length)
    state, now = np.zeros(3), 0.0
    rtol, atol = (1e-12, 1e-14) if method == "DOP853" else (1e-11, 1e-13)
    for index in np.argsort(found, kind="stable"):
        time, (name, level) = found[index], TARGETS[index]
        if time > now:
            state = integrate.solve_ivp(velocity, (now, time), state, method, rtol=rtol, atol=atol).y[:, -1]
            now = time
        speed = velocity(now, state)
        if name == "loss":
            late = (loss(state) - level / 2) / float(speed @ speed)
        else:
            place = ("alpha", "beta", "gamma").index(name)
            late = (level - state[place]) / speed[place]
        assert abs(late) < 1e-7 * time, (name, level)


@pytest.mark.parametrize("rtol", [1e-7, 1e-9])
def test_crossings_keep_to_the_tolerance(rtol):
    loose, tight = solved(rtol), solved(1e-11)
    assert loose["stopped"].all() and tight["stopped"].all()
    for run, length in enumerate(LENGTHS + ANY):
        np.testing.assert_allclose(times(loose, run), times(tight, run), rtol=rtol, err_msg=str(length))


@pytest.mark.parametrize(
    ("length", "gamma", "beta", "alpha", "loss"),
    [
        (4, 1.38382024, 2.35424848, 3.96774292, 5.17849162),
        (16, 1.38613923, 2.02184179, 3.52078327, 4.88871653),
        (64, 1.38628466, 1.94461518, 3.44464565, 4.93218329),
        (1000, 1.38629432, 1.92128210, 3.42386543, 5.00111623),
        (100_000, 1.38629436, 1.91971668, 3.42251121, 5.01300380),
    ],
)
def test_reference_table(length, gamma, beta, alpha, loss):
    nodes, run = solved(1e-9), LENGTHS.index(length)
    for name, expected in (("gamma", gamma * length), ("beta", beta * length**2), ("alpha", alpha * length**2)):
        assert crossing(nodes, run, name, 0.5) == pytest.approx(expected, rel=4e-9), name
    assert crossing(nodes, run, "loss", 0.5) == pytest.approx(loss * length**2, rel=4e-9)


def test_limits():
    nodes, run, length = solved(1e-9), LENGTHS.index(10**9), 1e9
    lowered = {level: integrate.quad(lambda s: math.exp(-s * s / 2), 0, level)[0] for level in (0.5, 1.0)}
    assert crossing(nodes, run, "gamma", 0.5) == pytest.approx(2 * math.log(2) * length, rel=1e-8)
    assert crossing(nodes, run, "beta", 0.5) == pytest.approx(4 * lowered[0.5] * length**2, rel=1e-8)
    assert crossing(nodes, run, "alpha", 0.5) == pytest.approx(4 * lowered[1.0] * length**2, rel=1e-8)
    assert crossing(nodes, run, "loss", 0.5) == pytest.approx(2 * math.sqrt(2 * math.pi) * length**2, rel=1e-7)


def test_two_pairs_lose_before_alpha():
    nodes, run = solved(1e-9), LENGTHS.index(2)
    assert crossing(nodes, run, "loss", 0.5) == pytest.approx(19.96173523, rel=1e-9)
    assert crossing(nodes, run, "alpha", 0.5) == pytest.approx(20.29949158, rel=1e-9)
    waiting = solve((2,), Levels(0.5, 0.5, 0.5, 0.5))
    assert waiting["stopped"][0] and waiting["alpha"][0, -1] >= 0.5


def test_records_lie_on_the_flow():
    nodes = solved(1e-9)
    for run, length in enumerate(LENGTHS + ANY):
        alpha, beta, gamma = nodes["alpha"][run], nodes["beta"][run], nodes["gamma"][run]
        integral = alpha + np.expm1(alpha) / (2 * length - 2)
        np.testing.assert_allclose(integral, beta**2 / 2, rtol=1e-8, atol=1e-25)
        _, loss = flow(length)
        ends = slice(None, None, STAGES)
        there = [loss(state) for state in zip(alpha[ends], beta[ends], gamma[ends], strict=True)]
        np.testing.assert_allclose(nodes["loss"][run][ends], there, rtol=1e-6)
        between = [loss(state) for state in zip(alpha, beta, gamma, strict=True)]
        np.testing.assert_allclose(nodes["loss"][run], between, rtol=1e-6, atol=1e-8)


def test_time_never_falls_and_records_end_with_the_run():
    nodes = solved(1e-7)
    assert (np.diff(nodes["time"], axis=1) >= 0).all()
    for name in ("time", "alpha", "beta", "gamma", "loss"):
        for values, steps in zip(nodes[name], nodes["steps"], strict=True):
            assert (values[STAGES * steps :] == values[-1]).all()


def test_alone_and_beside_others():
    lengths = LENGTHS + ANY
    beside = solved(1e-7)
    for chosen in ([3], [31, 0, 12], list(range(20))):
        some = solve([lengths[run] for run in chosen], max_steps=192)
        for name, values in some.items():
            np.testing.assert_array_equal(values, beside[name][chosen], err_msg=name)


@pytest.mark.parametrize("horizon", [1e-9, 0.5, 4.0, 12.0, 1e5])
def test_horizon_is_met_exactly(horizon):
    nodes = solve(LENGTHS, NEVER, horizon, max_steps=160)
    assert not nodes["stopped"].any() and not nodes["failed"].any()
    np.testing.assert_array_equal(nodes["time"][:, -1], horizon * np.square(np.array(LENGTHS, float)))
    assert (np.diff(nodes["time"], axis=1) >= 0).all()
    assert (np.diff(nodes["loss"], axis=1) <= 1e-9).all()


@pytest.mark.parametrize("length", [3, 64])
def test_late_state_against_scipy(length):
    nodes, run = solve(LENGTHS, NEVER, 1e5, max_steps=160), LENGTHS.index(length)
    velocity, loss = flow(length)
    state = integrate.solve_ivp(velocity, (0, 1e5 * length**2), np.zeros(3), "Radau", rtol=1e-10, atol=1e-13).y[:, -1]
    found = [nodes[name][run, -1] for name in ("alpha", "beta", "gamma", "loss")]
    np.testing.assert_allclose(found, [*state, loss(state)], rtol=1e-6)


def test_semigroup():
    """A run cut at its horizon is the longer run up to there, between records as well as at its end."""
    lengths, ended = (4, 50, 1000), 4.5
    whole, cut = solve(lengths, NEVER, 7.0, max_steps=160), solve(lengths, NEVER, ended, max_steps=160)
    for run in range(len(lengths)):
        steps = int(cut["steps"][run])
        same = slice(0, STAGES * (steps - 1) + 1)
        group = slice(same.stop - 1, same.stop + STAGES)
        end = root(polynomial(whole["time"][run, group] - ended * lengths[run] ** 2), 0, 1)
        for name in ("time", "alpha", "beta", "gamma", "loss"):
            np.testing.assert_array_equal(cut[name][run, same], whole[name][run, same])
            there = polynomial(whole[name][run, group])(end * PARAMETER)
            np.testing.assert_allclose(cut[name][run, group], there, rtol=1e-11, err_msg=name)


def test_levels():
    for levels in (NOTHING, Levels(0.5, -math.inf, -math.inf, math.inf), Levels(-math.inf, 1.0, 0.9, 0.9)):
        nodes = solve(LENGTHS, levels, max_steps=192)
        assert nodes["stopped"].all() and not nodes["failed"].any()
        beyond = np.full(nodes["time"].shape, True)
        for name, level in zip(("alpha", "beta", "gamma"), levels, strict=False):
            beyond &= nodes[name] >= level
        beyond &= nodes["loss"] <= levels.loss_fraction / 2
        ends = STAGES * (nodes["steps"] - 1)
        assert beyond[:, -1].all()
        assert not beyond[np.arange(len(LENGTHS)), ends][nodes["steps"] > 1].any()


def test_far_behind_the_fall():
    """Gamma follows 1/b along the corner of width 1/K and after, up to losses of 1e-8."""
    lengths = np.array(LENGTHS, float)
    nodes = solve(LENGTHS, Levels(-math.inf, -math.inf, -math.inf, 1e-8), 1e12, max_steps=192)
    assert nodes["stopped"].all()
    end = {name: nodes[name][:, -1] for name in ("alpha", "beta", "gamma", "loss")}
    right = 1 / (1 + (2 * lengths - 1) * np.exp(-end["beta"] / (1 + (2 * lengths - 2) * np.exp(-end["alpha"]))))
    np.testing.assert_allclose(end["gamma"] * right, 1, rtol=2e-4)
    large = lengths >= 1e6
    fallen = nodes["time"][large, -1] / lengths[large] ** 2
    np.testing.assert_allclose(fallen, 2 * math.sqrt(2 * math.pi), rtol=1e-4)


def test_giving_up():
    nodes = solve(LENGTHS, max_steps=4)
    assert nodes["failed"].all() and not nodes["stopped"].any()
    assert np.isfinite(nodes["time"]).all()
