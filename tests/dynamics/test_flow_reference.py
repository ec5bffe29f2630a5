"""The reduced flow against reference times, its limits, its first integral, and other people's integrators."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from induction_dynamics.dynamics.emergence import emergence_times
from induction_dynamics.dynamics.flow import solve_flow
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.reduced.loss import reduced_loss
from induction_dynamics.task import Task

REFERENCE = json.loads((Path(__file__).parents[1] / "data" / "reference_times.json").read_text())
SLOW = {
    ("subspace", "uniform", 32),
    ("subspace", "uniform", 64),
}
CIRCUIT_PLACES = [COORDINATES.index(name) for name in ("alpha_3", "beta_2", "gamma_3")]


def unit(measure, length):
    return length if measure == "gamma_3" else length**2


def rows(kind):
    for row in REFERENCE[kind]:
        point = (row["model"], row["query"], row["context_length"])
        yield pytest.param(row, id="-".join(map(str, point)), marks=[pytest.mark.slow] if point in SLOW else [])


def close(expected, decimals):
    """To the digits given, and the errors that the flow is allowed."""
    return pytest.approx(expected, rel=0, abs=0.5 * 10.0**-decimals + 1e-8 * expected)


def test_reference_names_its_origin():
    assert "Independent" in REFERENCE["origin"]


@pytest.mark.parametrize("row", list(rows("rows")))
def test_reference_times(row, run_of):
    length = row["context_length"]
    run = run_of(row["model"], row["query"], length)
    assert run.trajectory.outcome == "emerged"
    for measure, expected in row["times"].items():
        found = run.time(measure) / unit(measure, length)
        assert found == close(expected, row["decimals"]), measure


@pytest.mark.parametrize("row", list(rows("edge_cases")))
def test_one_and_two_pairs(row, run_of):
    run = run_of(row["model"], row["query"], row["context_length"])
    for measure, expected in row["times"].items():
        if expected is None:
            assert run.times[measure] is None
        else:
            assert run.time(measure) == close(expected, row["decimals"])


def test_one_pair_leaves_alpha_where_it_is(run_of):
    run = run_of("circuit", "last", 1)
    assert run.trajectory.outcome == "horizon_reached"
    assert np.all(run.trajectory.coordinates[:, COORDINATES.index("alpha_3")] == 0)
    outcomes = {emergence.measure: emergence.outcome for emergence in emergence_times(run.trajectory)}
    assert outcomes == {"alpha_3": "horizon_reached", "beta_2": "emerged", "gamma_3": "emerged", "loss": "emerged"}


@pytest.mark.parametrize("query", ["last", "uniform"])
def test_one_pair_of_all_coordinates(query, run_of):
    """One pair: the query is the last in any case, and no coordinate can tell its label from its item by attention."""
    run = run_of("subspace", query, 1)
    assert run.trajectory.outcome == "horizon_reached" and run.times["alpha_3"] is None
    assert np.all(run.trajectory.coordinates[:, COORDINATES.index("alpha_3")] == 0)
    np.testing.assert_allclose(run.time("loss"), run_of("subspace", "last", 1).time("loss"), rtol=1e-9)


def test_two_pairs_of_all_coordinates(run_of):
    """alpha_3 is left behind: the last pair is known by other means."""
    run = run_of("subspace", "last", 2)
    assert run.trajectory.outcome == "horizon_reached" and run.trajectory.loss[-1] < 0.05
    assert run.times["alpha_3"] is None and run.time("gamma_3") < run.time("loss") < run.time("beta_2")


# Found by this flow, whose times they pin down; the last row with a hundredth of the tolerance.
LONGEST = {
    ("last", 10**6): {"gamma_3": 1.86742949, "beta_2": 0.601251171, "alpha_3": 0.239842835, "loss": 0.639876576},
    ("last", 10**9): {"gamma_3": 1.86743097, "beta_2": 0.409095079, "alpha_3": 0.157322701, "loss": 0.414950186},
    ("uniform", 10**6): {"gamma_3": 39.7055885, "beta_2": 0.234509699, "alpha_3": 0.386658843, "loss": 0.474082926},
    ("uniform", 10**9): {"beta_2": 0.161517765, "alpha_3": 0.263078210, "loss": 0.324514743},
}


@pytest.mark.slow
@pytest.mark.parametrize("query, length", LONGEST)
def test_a_million_and_a_thousand_million_pairs(query, length, run_of):
    run = run_of("subspace", query, length)
    assert run.trajectory.outcome == "emerged"
    for measure, expected in LONGEST[query, length].items():
        # with the query uniform gamma_3 creeps through one half: there the default accuracy is that of its value
        # (those of the longest have been seen 3e-8 apart, well within the accuracy asked for)
        creeps = query == "uniform" and measure == "gamma_3"
        assert run.time(measure) / unit(measure, length) == pytest.approx(expected, rel=1e-6 if creeps else 5e-8)
    # (lead) with the query last gamma_3 emerges at 1.86743 N
    if query == "last":
        assert run.time("gamma_3") / length == pytest.approx(1.86743, abs=5e-6)


def test_two_pairs_go_on_past_the_loss(run_of):
    run = run_of("circuit", "last", 2)
    assert run.time("loss") < run.time("alpha_3") <= run.trajectory.time[-1]


@pytest.mark.slow
@pytest.mark.parametrize("row", REFERENCE["partly_active"], ids=["three and gamma_4", "all but gamma_4"])
def test_gamma_4_alone_hastens_alpha_3(row):
    length = row["context_length"]
    active = row.get("active") or [name for name in COORDINATES if name not in row["held"]]
    trajectory = solve_flow(Task(length), active=active, stop=[("alpha_3", 0.5)])
    (emergence,) = emergence_times(trajectory, measures=["alpha_3"])
    assert emergence.time is not None
    assert emergence.time / length**2 == close(row["times"]["alpha_3"], row["decimals"])


@pytest.mark.parametrize("length", [2, 4, 16, 64, 1000, 100_000, 10**9])
def test_first_integral(length, run_of):
    """alpha + (e^alpha - 1)/(2N - 2) = beta^2/2 along the three-coordinate flow with the query last."""
    trajectory = run_of("circuit", "last", length).trajectory
    alpha, beta, _ = trajectory.coordinates[:, CIRCUIT_PLACES].T
    left, right = alpha + np.expm1(alpha) / (2 * length - 2), beta**2 / 2
    assert alpha[-1] > 0.5
    # as much as an error of beta_2 in time moves it; within the steps as well as at their ends
    np.testing.assert_allclose(left, right, rtol=3e-8, atol=1e-20)


@pytest.mark.parametrize("length", [4, 1000, 100_000])
def test_first_integral_of_the_general_solver(length):
    """The same along the flow that does not know of it."""
    trajectory = solve_flow(Task(length), "circuit", start={"gamma_3": 0.0}, horizon=1e4, stop=[("alpha_3", 4.0)])
    alpha, beta, _ = trajectory.coordinates[:, CIRCUIT_PLACES].T
    left, right = alpha + np.expm1(alpha) / (2 * length - 2), beta**2 / 2
    assert alpha[-1] > 4
    steps = slice(None, None, trajectory.degree)
    np.testing.assert_allclose(left[steps], right[steps], rtol=1e-8, atol=1e-10)
    # Inside a step by the tolerance, that of small coordinates a hundredth of that of large ones.
    np.testing.assert_allclose(left, right, rtol=1e-7, atol=1e-9)


def rate(lengths, differences):
    """Exponent of N in the differences, with its 95 % interval."""
    fit: Any = stats.linregress(np.log(lengths), np.log(differences))
    half = stats.t.ppf(0.975, len(lengths) - 2) * fit.stderr
    return fit.slope, fit.slope - half, fit.slope + half


@pytest.mark.parametrize(
    "measure, end, lengths, exponent",
    [
        ("beta_2", 0.5, (64, 256, 1000, 4096, 16384, 100_000), -1),
        ("alpha_3", 1.0, (64, 256, 1000, 4096, 16384, 100_000), -1),
        ("gamma_3", None, (4, 8, 16, 32, 64), -2),
    ],
)
def test_approach_to_the_limits(measure, end, lengths, exponent, run_of):
    """T_beta/N^2 -> 4 I(1/2) and T_alpha/N^2 -> 4 I(1) as 1/N; T_gamma/N -> 2 ln 2 as 1/N^2."""
    limit = 2 * math.log(2) if end is None else 4 * math.sqrt(math.pi / 2) * special.erf(end / math.sqrt(2))
    scaled = np.array([run_of("circuit", "last", n).time(measure) / unit(measure, n) for n in lengths])
    slope, low, high = rate(lengths, np.abs(scaled - limit))
    print(f"{measure}: {slope:.4f} [{low:.4f}, {high:.4f}]")
    assert slope == pytest.approx(exponent, abs=0.03)
    assert high - low < 0.1
    if measure == "beta_2":
        # T_beta/N^2 = 1.9197 (1 + 0.83/N + ...)
        np.testing.assert_allclose(np.array(lengths[:4]) * (scaled[:4] / limit - 1), 0.83, atol=0.02)


def test_approach_of_the_loss_is_slow_and_not_monotone(run_of):
    limit = 2 * math.sqrt(2 * math.pi)
    lengths = np.array([64, 256, 1000, 4096, 16384, 100_000])
    scaled = np.array([run_of("circuit", "last", int(n)).time("loss") / n**2 for n in lengths])
    assert run_of("circuit", "last", 4).time("loss") / 4**2 > limit > scaled[-1]
    assert np.all(np.diff(scaled) > 0)
    slope, *_ = rate(lengths, limit - scaled)
    assert -0.95 < slope < -0.7


def circuit_last(pairs):
    """Loss and velocity dtheta/dt of the three coordinates with the query last, differentiated by hand."""
    others = 2 * pairs - 1

    def parts(theta):
        alpha, beta, gamma = theta
        a = special.expit(alpha - math.log(2 * pairs - 2))
        b = special.expit(beta * a - math.log(others))
        wrong = special.expit(math.log(others) - beta * a)
        return beta, gamma, a, b, wrong, special.expit(math.log(2 * pairs - 2) - alpha)

    def loss(theta):
        _, gamma, _, b, wrong, _ = parts(theta)
        return ((1 - gamma * b) ** 2 + gamma**2 * wrong**2 / others) / 2

    def velocity(theta):
        beta, gamma, a, b, wrong, not_a = parts(theta)
        by_b = -gamma * (1 - gamma * b) - gamma**2 * wrong / others
        by_score = by_b * b * wrong
        return -np.array([by_score * beta * a * not_a, by_score * a, -b * (1 - gamma * b) + gamma * wrong**2 / others])

    return loss, velocity


@pytest.mark.parametrize("method", ["Radau", "LSODA"])
@pytest.mark.parametrize("pairs", [16, 1000])
def test_agrees_with_scipy_on_the_circuit(pairs, method, run_of):
    loss, velocity = circuit_last(pairs)
    run = run_of("circuit", "last", pairs)

    # The twin's own derivative first: a central difference of its own loss.
    theta, step = np.array([0.7, 1.3, 0.9]), 1e-5
    numeric = [(loss(theta - step * e) - loss(theta + step * e)) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(velocity(theta), numeric, rtol=1e-6, atol=1e-10)

    # Rescaled time s = t/N^2, since roots of a dense output carry an absolute tolerance.
    half = loss(np.zeros(3)) / 2
    end = 1.01 * run.trajectory.time[-1] / pairs**2
    solution = integrate.solve_ivp(
        lambda s, theta: pairs**2 * velocity(theta),
        (0, end),
        np.zeros(3),
        method=method,
        rtol=1e-12,
        atol=1e-14,
        dense_output=True,
    )
    assert solution.success

    def crossing(signal):
        values = np.array([signal(theta) for theta in solution.y.T])
        after = int(np.argmax(values >= 0))
        at = optimize.brentq(lambda s: signal(solution.sol(s)), solution.t[after - 1], solution.t[after], xtol=1e-15)
        return at * pairs**2

    twin = {
        name: crossing(lambda theta, i=i: theta[i] - 0.5) for i, name in enumerate(("alpha_3", "beta_2", "gamma_3"))
    }
    twin["loss"] = crossing(lambda theta: half - loss(theta))
    for measure, time in twin.items():
        assert run.time(measure) == pytest.approx(time, rel=1e-8), measure


def scipy_flow(task, horizon, times, **sampling):
    """Nineteen coordinates at the given times, by an explicit method with the metric put in by hand."""
    gradient = jax.jit(jax.grad(reduced_loss(task, "subspace", **sampling)))
    cosine = math.cos(task.angle)
    inverse = np.eye(19)
    for first in (1, 7, 9, 11, 13):  # alpha_2, beta_5, beta_7, beta_9, beta_11, each with the next
        inverse[first : first + 2, first : first + 2] = np.array([[1, -cosine], [-cosine, 1]]) / (1 - cosine**2)
    return integrate.solve_ivp(
        lambda t, theta: -inverse @ np.asarray(gradient(jnp.asarray(theta))),
        (0, horizon),
        np.zeros(19),
        method="DOP853",
        t_eval=times,
        rtol=1e-10,
        atol=1e-12,
    ).y.T


def test_agrees_with_scipy_at_another_rotation(turned):
    times = np.linspace(0, turned.trajectory.time[-1], 25)
    found, _ = turned.trajectory.at(times)
    assert np.abs(found[-1]).max() > 1
    np.testing.assert_allclose(found, scipy_flow(turned.task, times[-1], times), atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("query, rotation", [("uniform", 60.0), ("last", 90.0)])
def test_agrees_with_scipy_on_sampled_gram_matrices(query, rotation):
    task, sampling = Task(3, 8, inputs="isotropic", query=query, rotation=rotation), dict[str, Any](samples=16, seed=3)
    trajectory = solve_flow(task, horizon=6.0, **sampling)
    times = np.linspace(0, trajectory.time[-1], 25)
    found, _ = trajectory.at(times)
    assert np.abs(found[-1]).max() > 1
    np.testing.assert_allclose(found, scipy_flow(task, times[-1], times, **sampling), atol=2e-5)
