"""The stiff integrator on its own: equations whose solutions are known, orders, tolerances, and ways to end."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate as scipy_integrate
from scipy import linalg, stats

from induction_dynamics.dynamics import radau
from induction_dynamics.dynamics.radau import STAGES, integrate

TABLEAUS = (1, 3, 5, STAGES)  # odd: one eigenvalue is real, and the error estimate uses it
FRACTIONS = np.arange(1, STAGES + 1) / STAGES
RATES = 10.0 ** -np.arange(10)


def decay(rates, y):
    return -rates * y, jnp.sum(jnp.square(y))


def linear(matrix, y):
    return matrix @ y, jnp.sum(jnp.square(y))


def logistic(rate, y):
    return rate * y * (1 - y), jnp.sum(jnp.square(1 - y))


def blow_up(_, y):
    return jnp.square(y), jnp.sum(y)


def turning(_, y):
    """A rotation at a speed that depends on the radius, 1 where that is 1."""
    speed = 0.8 + 0.2 * jnp.sum(jnp.square(y))
    return speed * jnp.stack([-y[1], y[0]]), jnp.sum(jnp.square(y))


def van_der_pol(stiffness, y):
    position, speed = y
    return jnp.stack([speed, stiffness * ((1 - jnp.square(position)) * speed - position)]), jnp.sum(jnp.square(y))


def robertson(_, y):
    slow, fast, back = 0.04 * y[0], 3e7 * jnp.square(y[1]), 1e4 * y[1] * y[2]
    return jnp.stack([back - slow, slow - back - fast, fast]), jnp.sum(y)


def falling_off_an_edge(_, y):
    """Not a number from y = 1 on, which is reached at t = 1."""
    return jnp.ones_like(y) + 0 * jnp.sqrt(1 - y), jnp.sum(y)


def never(y, fraction):
    return jnp.zeros_like(fraction, bool)


def half(y, fraction):
    return fraction <= 0.5


@functools.partial(jax.jit, static_argnums=(0, 1, 6))
def jitted(flow, arrived, run, start, horizon, rtol, max_steps):
    return integrate(functools.partial(flow, run), arrived, start, horizon, rtol, max_steps)


def solve(flow, runs, start, horizons, rtol=1e-9, max_steps=300, arrived=never):
    """Steps of several runs as arrays of numpy, which have a leading axis of runs."""
    runs, horizons = np.asarray(runs, float), np.broadcast_to(np.asarray(horizons, float), len(runs))
    start = np.broadcast_to(np.asarray(start, float), (len(runs), np.shape(start)[-1]))
    each = zip(*map(jnp.asarray, (runs, start, horizons)), strict=True)
    steps = [jitted(flow, arrived, *of_run, jnp.asarray(rtol), max_steps) for of_run in each]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *steps)


def records(steps, run=0):
    """Times [step, stage] and values [step, stage, y] of one run."""
    taken = int(steps.taken[run])
    start, length = steps.start[run, :taken, None], steps.length[run, :taken, None]
    return start + length * FRACTIONS, steps.values[run, :taken]


@pytest.mark.parametrize("stages", TABLEAUS)
def test_the_points_are_those_of_collocation(stages):
    tableau = radau._tableau(stages)
    points, exponents = tableau.points, np.arange(1, stages + 1)
    assert points[-1] == 1 and np.all(np.diff(points) > 0) and points[0] > 0
    # integrals of polynomials up to each point, and up to the end of twice their degree
    powers = points[:, None] ** exponents
    np.testing.assert_allclose(tableau.matrix @ (powers / points[:, None]), powers / exponents, atol=1e-13)
    high = np.arange(1, 2 * stages)
    np.testing.assert_allclose(tableau.matrix[-1] @ points[:, None] ** (high - 1), 1 / high, rtol=1e-12)
    miss = tableau.matrix[-1] @ points ** (2 * stages - 1) - 1 / (2 * stages)
    assert abs(miss) > 1e-9


def test_small_tableaus_are_those_of_the_books():
    np.testing.assert_allclose(radau._tableau(1).matrix, [[1.0]])
    np.testing.assert_allclose(radau._tableau(2).matrix, [[5 / 12, -1 / 12], [3 / 4, 1 / 4]], rtol=1e-14)
    root = math.sqrt(6)
    expected = [
        [(88 - 7 * root) / 360, (296 - 169 * root) / 1800, (-2 + 3 * root) / 225],
        [(296 + 169 * root) / 1800, (88 + 7 * root) / 360, (-2 - 3 * root) / 225],
        [(16 - root) / 36, (16 + root) / 36, 1 / 9],
    ]
    np.testing.assert_allclose(radau._tableau(3).matrix, expected, rtol=1e-13)


@pytest.mark.parametrize("stages", TABLEAUS)
def test_the_matrix_is_that_of_its_eigenvalues(stages):
    tableau = radau._tableau(stages)
    eigenvalues = tableau.eigenvalues
    assert len(eigenvalues) == (stages + 1) // 2
    assert np.all(np.real(eigenvalues) > 0)
    np.testing.assert_allclose(tableau.into @ tableau.matrix, eigenvalues[:, None] * tableau.into, atol=1e-12)
    np.testing.assert_allclose(
        np.real(tableau.back @ (eigenvalues[:, None] * tableau.into)), tableau.matrix, atol=1e-13
    )
    np.testing.assert_allclose(np.real(tableau.back @ tableau.into), np.eye(stages), atol=1e-12)
    assert abs(eigenvalues[tableau.real].imag) < 1e-13


@pytest.mark.parametrize("stages", TABLEAUS)
def test_the_method_is_stable_however_long_the_step(stages):
    """R(z) of y' = z y: at most 1 on the imaginary axis, zero at infinity, and e^z to order 2s - 1."""
    matrix = radau._tableau(stages).matrix

    def growth(z):
        return np.linalg.solve(np.eye(stages) - z * matrix, np.ones(stages))[-1]

    for size in np.geomspace(1e-3, 1e8, 40):
        assert abs(growth(1j * size)) <= 1 + 1e-12
    assert abs(growth(-1e9)) < 1e-7
    if stages == 1:  # backward Euler
        assert growth(-3.0) == 1 / 4
        return
    sizes = np.geomspace(0.6, 1.2, 5) * stages / 3
    misses = [abs(growth(1j * size) - np.exp(1j * size)) for size in sizes]
    slope = np.polyfit(np.log(sizes), np.log(misses), 1)[0]
    assert slope == pytest.approx(2 * stages, abs=0.25)


@pytest.mark.parametrize("stages", TABLEAUS)
def test_records_and_error_of_polynomials(stages):
    tableau = radau._tableau(stages)
    exponents = np.arange(1, stages + 1)
    powers = tableau.points[:, None] ** exponents
    np.testing.assert_allclose(tableau.coefficients @ powers, np.eye(stages), atol=1e-9)
    evenly = (exponents / stages)[:, None] ** exponents
    np.testing.assert_allclose(tableau.evenly @ powers, evenly, atol=1e-12)
    np.testing.assert_allclose(tableau.evenly[-1], np.eye(stages)[-1], atol=1e-12)
    # y = t^k: the estimate is lambda times its slope at 0, and weights of its values
    slopes = tableau.eigenvalues[tableau.real].real * (exponents == 1)
    np.testing.assert_allclose(slopes + tableau.error @ powers, 0, atol=1e-11)
    assert abs(tableau.error @ tableau.points ** (stages + 1)) > 1e-6


def attempt(flow, size):
    """One step of a given length from y."""
    one = jax.jit(
        lambda y, length: radau._attempt(
            functools.partial(flow, 1.0),
            jnp.asarray(1e-14),
            y,
            length,
            jnp.zeros((STAGES, size)),
            jnp.zeros_like(length),
        )
    )
    return lambda y, length: np.asarray(one(jnp.asarray(y), jnp.asarray(float(length))).stages)


def slope_of(lengths, errors):
    return np.polyfit(np.log(lengths), np.log(errors), 1)[0]


def test_order():
    """On a nonlinear rotation: 2s - 1 at the end of several steps, s + 1 for the polynomial inside one."""
    step = attempt(turning, 2)

    def exact(time):
        return np.stack([np.cos(time), np.sin(time)], axis=-1)

    end, counts, ends = 12.0, np.array([4, 5, 6, 7, 8]), []
    for count in counts:
        y = np.array([1.0, 0.0])
        for _ in range(count):
            y = y + step(y, end / count)[-1]
        ends.append(np.abs(y - exact(end)).max())
    print("ends", ends)
    assert -slope_of(counts, ends) == pytest.approx(2 * STAGES - 1, abs=0.6)

    within = np.linspace(0, 1, 201)[1:]
    lengths, errors = np.geomspace(0.3, 1.2, 5), []
    for length in lengths:
        shape = within[:, None] ** np.arange(1, STAGES + 1) @ radau._TABLEAU.coefficients
        between = np.array([1.0, 0.0]) + shape @ step(np.array([1.0, 0.0]), length)
        errors.append(np.abs(between - exact(length * within)).max())
    print("inside", errors)
    assert slope_of(lengths, errors) == pytest.approx(STAGES + 1, abs=0.3)


def test_rates_over_nine_decades():
    """The error, also inside the steps, is proportional to the tolerance and below it."""
    tolerances, worst = (1e-3, 1e-5, 1e-7, 1e-9), []
    for rtol in tolerances:
        steps = solve(decay, RATES[None], np.ones((1, 10)), 1e9, rtol, 400)
        time, values = records(steps)
        exact = np.exp(-time[..., None] * RATES)
        worst.append(np.max(np.abs(values - exact) / (0.01 + exact)))
        assert not steps.failed[0] and time[-1, -1] == pytest.approx(1e9, rel=3e-16)
        # twice the order fits the ends
        ends = np.abs(values - exact)[:, -1] / (0.01 + exact[:, -1])
        assert ends.max() < 0.01 * worst[-1] + 1e-12
    print(np.array(worst) / tolerances)
    assert np.all(np.array(worst) < 0.3 * np.array(tolerances))  # 0.08 to 0.14
    assert slope_of(tolerances, worst) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "matrix",
    [
        [[-1e6, 3e5, 0.0], [2e5, -1e5, 4.0], [0.0, 7.0, -0.03]],
        [[0.0, 1.0, 0.0], [-25.0, -0.1, 1e3], [0.0, 0.0, -1e4]],  # oscillating, and far from normal
    ],
)
def test_stiff_linear_systems_against_the_matrix_exponential(matrix):
    matrix, y = np.array(matrix), np.array([1.0, -2.0, 0.5])
    time, values = records(solve(linear, matrix[None], y, 20.0))
    for at, found in zip(time[:, -1], values[:, -1], strict=True):
        np.testing.assert_allclose(found, linalg.expm(at * matrix) @ y, rtol=3e-9, atol=1e-10)


def test_logistic_growth_from_a_tiny_start():
    time, values = records(solve(logistic, [3.0], [1e-9], 40.0))
    exact = 1 / (1 + (1e9 - 1) * np.exp(-3 * time))
    # while y is below a hundredth its own size does not count, and e^(3t) carries on what is missed then
    np.testing.assert_allclose(values[..., 0], exact, rtol=3e-3, atol=0)
    time, values = records(solve(logistic, [3.0], [0.01], 40.0))
    np.testing.assert_allclose(values[..., 0], 1 / (1 + 99 * np.exp(-3 * time)), rtol=1e-8)


def test_a_step_may_be_shorter_than_the_rounding_of_time():
    """Of y' = y^2 time stands still at 1, and each step goes on to lower 1/y by its own length."""
    steps = solve(blow_up, [0.0], [1.0], 2.0, 1e-6, 400)
    time, values = records(steps)
    assert steps.failed[0] and not steps.stopped[0]
    ends = np.append(1.0, values[:, -1, 0])
    assert ends[-1] > 1e25 and np.all(np.isfinite(values))
    assert np.all(np.diff(ends) > 0) and time[-1, -1] == pytest.approx(1, rel=1e-6)
    still = np.diff(time[:, -1]) == 0
    assert np.count_nonzero(still) > 20
    taken = int(steps.taken[0])
    np.testing.assert_allclose(-np.diff(1 / ends), steps.length[0, :taken], rtol=1e-6)


def scipy_twin(flow, start, times, rtol=1e-11):
    return scipy_integrate.solve_ivp(
        lambda t, y: np.asarray(flow(jnp.asarray(y))[0]),
        (0, times[-1]),
        start,
        method="Radau",
        jac=lambda t, y: np.asarray(jax.jacfwd(lambda at: flow(at)[0])(jnp.asarray(y))),
        t_eval=times,
        rtol=rtol,
        atol=rtol / 1e4,
    ).y.T


def test_robertson_against_scipy():
    """Three reactions with rates from 0.04 to 3e7."""
    start = np.array([1.0, 0.0, 0.0])
    steps = solve(robertson, [0.0], start, 1e4)
    time, values = records(steps)
    chosen = slice(None, None, 8)
    twin = scipy_twin(jax.jit(functools.partial(robertson, 0.0)), start, time[chosen, -1])
    # the second is of the order of 1e-5, less than the tolerance's hundredth
    np.testing.assert_allclose(values[chosen, -1], twin, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(values.sum(axis=-1), 1, rtol=1e-12)


def test_van_der_pol_against_scipy():
    """Slow parts, and jumps a thousandth as long; a whole period of it."""
    start = np.array([2.0, -2 / 3])
    steps = solve(van_der_pol, [1e3], start, 2.0, max_steps=2000)
    time, values = records(steps)
    flow = jax.jit(functools.partial(van_der_pol, 1e3))
    slow = np.abs(values[:, -1, 1]) < 3  # in a jump the time of it counts, not its shape
    chosen = np.flatnonzero(slow)[::12]
    twin = scipy_twin(flow, start, time[chosen, -1], 1e-9)
    assert values[..., 0].max() > 1.9 and values[..., 0].min() < -1.9
    np.testing.assert_allclose(values[chosen, -1], twin, rtol=1e-6)


HORIZONS = (1e-12, 0.03, 0.1, 0.7, 1.0, 12.3456789, 1e3, 1e9)


@pytest.fixture(scope="module")
def decays():
    """Of several rates to horizons of several sizes."""
    rates = np.stack([RATES * factor for factor in np.geomspace(1e-3, 10, len(HORIZONS))])
    return rates, solve(decay, rates, np.ones((1, 10)), HORIZONS)


def test_horizons_are_met(decays):
    rates, steps = decays
    assert not steps.failed.any() and not steps.stopped.any()
    assert len(set(steps.taken.tolist())) > 3
    for run, horizon in enumerate(HORIZONS):
        time, values = records(steps, run)
        # the sum of a step's start and length is rounded
        assert time[-1, -1] == pytest.approx(horizon, rel=3e-16)
        assert time[0, -1] <= min(horizon, 0.1) and np.all(np.diff(time.ravel()) > 0)
        np.testing.assert_allclose(values[-1, -1], np.exp(-rates[run] * horizon), rtol=1e-10, atol=1e-12)
    # a run shorter than the first step is one step
    assert steps.taken[0] == steps.taken[1] == steps.taken[2] == 1


def test_arrival():
    """The loss of a decay at rate 1 is halved at ln(2)/2: the run ends with the first step beyond."""
    rates = np.array([[1.0], [1e-3], [0.0]])
    steps = solve(decay, rates, np.full((3, 1), 5.0), [100.0, 1e6, 50.0], arrived=half)
    np.testing.assert_array_equal(steps.stopped, [True, True, False])
    assert not steps.failed.any()
    for run, rate in enumerate((1.0, 1e-3)):
        time, _ = records(steps, run)
        start = steps.start[run, int(steps.taken[run]) - 1]
        assert start < math.log(2) / (2 * rate) <= time[-1, -1]
    # at rest: nothing happens until the horizon, in steps that grow as fast as they may
    time, values = records(steps, 2)
    assert np.all(values == 5.0) and time[-1, -1] == 50.0 and steps.taken[2] <= 5


def test_a_run_may_have_arrived_at_its_start():
    steps = solve(decay, [[1.0]], [[1.0]], 1.0, arrived=lambda y, fraction: fraction <= 1)
    assert (steps.taken[0], steps.stopped[0], steps.failed[0]) == (0, True, False)


def test_exhaustion():
    """With as many steps as it needs a run is at its horizon, with one fewer it has failed and keeps what it has."""
    whole = solve(decay, [[3.0]], [[1.0]], 30.0)
    taken = int(whole.taken[0])
    enough = solve(decay, [[3.0]], [[1.0]], 30.0, max_steps=taken)
    short = solve(decay, [[3.0]], [[1.0]], 30.0, max_steps=taken - 1)
    assert not enough.failed[0] and enough.taken[0] == taken
    assert short.failed[0] and short.taken[0] == taken - 1
    np.testing.assert_array_equal(short.values[0, : taken - 1], whole.values[0, : taken - 1])


def test_not_a_number():
    steps = solve(falling_off_an_edge, [0.0, 0.0, 0.0], [[0.0], [2.0], [np.nan]], [5.0, 5.0, 0.5], max_steps=50)
    assert steps.failed.all() and not steps.stopped.any()
    time, values = records(steps, 0)
    assert 0.99 < time[-1, -1] <= 1 and np.all(np.isfinite(values))
    np.testing.assert_allclose(values[..., 0], time, rtol=1e-12)
    assert steps.taken[1] == steps.taken[2] == 0


def test_the_fewer_the_tolerance_the_fewer_steps():
    """A step is the tolerance to the power 1/(s + 1)."""
    tolerances, counts = (1e-4, 1e-6, 1e-8, 1e-10), []
    for rtol in tolerances:
        steps = solve(turning, [0.0], [1.0, 0.0], 60.0, rtol)
        time, values = records(steps)
        exact = np.stack([np.cos(time), np.sin(time)], axis=-1)
        # errors of the radius make the angle's grow with the square of time
        assert np.abs(values - exact).max() < 10 * rtol
        counts.append(int(steps.taken[0]))
    fit = stats.linregress(np.log(tolerances), np.log(counts))
    assert fit.slope == pytest.approx(-1 / (STAGES + 1), abs=0.02)  # pyright: ignore[reportAttributeAccessIssue]
