"""What the reduced flow must do whatever its numbers are: semigroup, descent, symmetry, subsets, outcomes."""

import itertools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import Polynomial
from scipy import integrate as scipy_integrate

from induction_dynamics.dynamics import flow
from induction_dynamics.dynamics.emergence import emergence_times
from induction_dynamics.dynamics.flow import solve_flow
from induction_dynamics.pseudo_parameters import COORDINATES, lift, metric, project
from induction_dynamics.reduced.loss import reduced_loss
from induction_dynamics.task import Task, sample_sequences
from induction_dynamics.transformer.disentangled import Weights, batch_loss

CIRCUIT = ("alpha_3", "beta_2", "gamma_3")
WITH_GAMMA_4 = (*CIRCUIT, "gamma_4")
STOP = tuple((measure, 0.5) for measure in (*CIRCUIT, "loss"))
RUNS = [
    ("circuit", "last", 4),
    ("circuit", "last", 100_000),
    ("circuit", "last", 10**9),
    ("circuit", "uniform", 64),
    ("subspace", "last", 16),
    ("subspace", "uniform", 4),
]


def column(trajectory, name):
    return trajectory.coordinates[:, COORDINATES.index(name)]


def same_run(first, second, rtol, atol=0.0):
    """Whether two runs pass through the same states, compared where both are recorded or interpolated."""
    end = min(first.time[-1], second.time[-1])
    times = np.concatenate([[0.0], np.geomspace(1e-3 * end, end, 60)])
    for one, other in zip(first.at(np.minimum(times, end)), second.at(np.minimum(times, end)), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def times_of(trajectory, **asked):
    return np.array([emergence.time for emergence in emergence_times(trajectory, **asked)], float)


@pytest.mark.parametrize("model, query, length", RUNS)
def test_the_loss_never_rises(model, query, length, run_of):
    trajectory = run_of(model, query, length).trajectory
    assert np.all(np.diff(trajectory.time) >= 0)  # it stands still where a step is shorter than its rounding
    # A plateau is flat to rounding.
    assert np.all(np.diff(trajectory.loss) <= 1e-15)


def test_the_loss_never_rises_at_another_rotation(turned):
    assert np.all(np.diff(turned.trajectory.loss) <= 1e-15)


def energy_balance(run, model):
    """Each group's fall of the loss, and the integral of g^T G^-1 g dt by Newton and Cotes on its records.

    Both are polynomials in the group's parameter; dt is the derivative of time's.
    """
    places = [COORDINATES.index(name) for name in (CIRCUIT if model == "circuit" else COORDINATES)]
    loss, degree = reduced_loss(run.task, model), run.trajectory.degree
    gradients = np.asarray(jax.jit(jax.vmap(jax.grad(loss)))(jnp.asarray(run.trajectory.coordinates)))[:, places]
    inverse = np.linalg.inv(metric(run.task.rotation)[np.ix_(places, places)])
    rates = np.einsum("ti,ij,tj->t", gradients, inverse, gradients)
    groups = degree * np.arange((len(rates) - 1) // degree)[:, None] + np.arange(degree + 1)
    basis = [Polynomial.fit(np.arange(degree + 1) / degree, one, degree, domain=[0, 1]) for one in np.eye(degree + 1)]
    speeds = run.trajectory.time[groups] @ np.array([one.deriv()(np.arange(degree + 1) / degree) for one in basis])
    weights = scipy_integrate.newton_cotes(degree, 1)[0] / degree
    falls = -np.diff(run.trajectory.loss[::degree])
    return falls, (rates[groups] * speeds) @ weights


@pytest.mark.parametrize("model, query, length", [run for run in RUNS if run[2] < 100])
def test_the_loss_falls_at_the_squared_gradient(model, query, length, run_of):
    """dL/dt = -||grad||^2, integrated over every group of records."""
    falls, integrals = energy_balance(run_of(model, query, length), model)
    # a step's polynomial is known to the tolerance, its slope to less
    np.testing.assert_allclose(falls, integrals, rtol=1e-5, atol=1e-10)
    assert np.sum(falls) == pytest.approx(np.sum(integrals), rel=1e-7)


def test_the_loss_falls_at_the_gradient_in_the_metric(turned):
    """dL/dt = -g^T G^-1 g at 60 degrees."""
    falls, integrals = energy_balance(turned, "subspace")
    np.testing.assert_allclose(falls, integrals, rtol=1e-5, atol=1e-10)
    assert np.sum(falls) == pytest.approx(np.sum(integrals), rel=1e-7)


@pytest.mark.parametrize("model, query, length", RUNS)
def test_both_sides_of_a_threshold(model, query, length, run_of):
    run = run_of(model, query, length)
    for measure, time in run.times.items():
        sides = np.array([time * (1 - 1e-12), time * (1 + 1e-12)])  # coordinates creep: by 1e-12 N^2 |grad|^2
        coordinates, loss = run.trajectory.at(np.minimum(sides, run.trajectory.time[-1]))
        if measure == "loss":
            assert loss[0] > run.trajectory.loss[0] / 2 >= loss[1]
        else:
            before, after = coordinates[:, COORDINATES.index(measure)]
            assert before < 0.5 <= after


@pytest.mark.parametrize(
    "model, task",
    [
        ("circuit", Task(16)),
        ("subspace", Task(4, query="uniform")),
        ("subspace", Task(4, query="uniform", rotation=60.0)),
    ],
    ids=["circuit", "subspace", "turned"],
)
def test_semigroup(model, task):
    """flow(t1 + t2) = flow(t2) after flow(t1)."""
    first = solve_flow(task, model, horizon=1.3)
    start = dict(zip(COORDINATES, map(float, first.coordinates[-1]), strict=True))
    if model == "circuit":
        start = {name: start[name] for name in CIRCUIT}
    then = solve_flow(task, model, horizon=0.9, start=start)
    whole = solve_flow(task, model, horizon=2.2)
    np.testing.assert_array_equal(then.coordinates[0], first.coordinates[-1])
    assert first.time[-1] + then.time[-1] == pytest.approx(whole.time[-1], rel=1e-12)
    # three runs, each with an error of its own within the tolerance
    np.testing.assert_allclose(then.coordinates[-1], whole.coordinates[-1], rtol=1e-7, atol=1e-8)
    assert then.loss[-1] == pytest.approx(whole.loss[-1], rel=1e-7)


def test_the_circuit_is_the_subspace_with_the_others_held(run_of):
    circuit = run_of("circuit", "last", 4).trajectory
    held = solve_flow(Task(4), "subspace", active=CIRCUIT, stop=STOP)
    np.testing.assert_allclose(times_of(held), times_of(circuit), rtol=1e-12)
    same_run(held, circuit, rtol=1e-9, atol=1e-9)
    others = [place for place, name in enumerate(COORDINATES) if name not in CIRCUIT]
    assert np.all(held.coordinates[:, others] == 0)


@pytest.mark.slow
def test_the_circuit_is_the_subspace_with_the_others_held_on_sampled_matrices():
    task = Task(3, 8, inputs="isotropic", query="uniform")
    circuit = solve_flow(task, "circuit", samples=16, stop=STOP)
    held = solve_flow(task, "subspace", samples=16, active=CIRCUIT, stop=STOP)
    # sums of three terms and of twelve, nine of them zero, are rounded apart, and estimated errors and steps with them
    assert len(held.time) == len(circuit.time)
    np.testing.assert_allclose(held.coordinates, circuit.coordinates, rtol=0, atol=2e-9)
    np.testing.assert_allclose(times_of(held), times_of(circuit), rtol=2e-9)


@pytest.mark.parametrize("rotation", [60.0, 137.0])
def test_rotation_does_not_change_the_circuit(rotation, run_of):
    turned = solve_flow(Task(4, rotation=rotation), "circuit", stop=STOP)
    np.testing.assert_allclose(times_of(turned), times_of(run_of("circuit", "last", 4).trajectory), rtol=1e-12)


@pytest.mark.slow
def test_rotation_does_not_change_the_circuit_of_the_gram_form(run_of):
    """Held coordinates leave the metric of the others: the identity."""
    turned = solve_flow(Task(4, rotation=60.0), "subspace", active=CIRCUIT, stop=STOP)
    np.testing.assert_allclose(times_of(turned), times_of(run_of("circuit", "last", 4).trajectory), rtol=2e-8)


ALL = {"thresholds": (0.01, 0.1, 0.5, 0.9, 0.99), "loss_fractions": (0.99, 0.9, 0.5, 0.1, 0.01)}
ALL_STOP = [*((name, 0.99) for name in CIRCUIT), ("loss", 0.01)]


@pytest.mark.parametrize("length", [2, 16, 1000, 100_000, 10**9])
def test_the_circuits_own_form_is_its_flow(length):
    """Another equation, another parameter than time, another solver: the same crossings at every threshold."""
    task = Task(length)
    # a start given, be it zero, is no business of the circuit's own form
    general = solve_flow(task, "circuit", start={"gamma_3": 0.0}, horizon=1e4, stop=ALL_STOP)
    own = solve_flow(task, "circuit", horizon=1e4, stop=ALL_STOP)
    assert len(general.time) != len(own.time)
    np.testing.assert_allclose(times_of(general, **ALL), times_of(own, **ALL), rtol=2e-8)


@pytest.fixture
def explicit(monkeypatch):
    """Solve a closed form by Tsit5, as if it were a mean over Gram matrices."""

    def solve(*args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(flow, "has_closed_form", lambda task, model: False)
            return solve_flow(*args, **options)

    return solve


@pytest.mark.parametrize(
    "model, query",
    [
        ("circuit", "last"),
        pytest.param("circuit", "uniform", marks=pytest.mark.slow),
        pytest.param("subspace", "last", marks=pytest.mark.slow),
        pytest.param("subspace", "uniform", marks=pytest.mark.slow),
    ],
)
def test_explicit_and_implicit_solvers_agree(model, query, run_of, explicit):
    implicit = run_of(model, query, 4).trajectory
    found = explicit(Task(4, query=query), model, stop=STOP)
    assert (found.degree, implicit.degree) == (4, 7)
    np.testing.assert_allclose(times_of(found), times_of(implicit), rtol=2e-8)


@pytest.mark.slow
def test_explicit_and_implicit_solvers_agree_on_four_coordinates(explicit):
    by_default = solve_flow(Task(4), active=WITH_GAMMA_4, stop=STOP)
    found = explicit(Task(4), active=WITH_GAMMA_4, stop=STOP)
    np.testing.assert_allclose(times_of(found), times_of(by_default), rtol=2e-8)
    assert times_of(found)[0] < 0.7 * 3.9677 * 16  # gamma_4 hastens alpha_3


@pytest.mark.slow
@pytest.mark.parametrize("query, length", [("last", 16)])
def test_agrees_with_kvaerno5(query, length, run_of):
    """At each crossing time diffrax's implicit solver misses the threshold by less than the time's error moves it."""
    run = run_of("subspace", query, length)
    loss = reduced_loss(run.task, "subspace")
    slope = jax.grad(loss)
    times = np.array([run.times[name] for name in (*CIRCUIT, "loss")])
    order = np.argsort(times)
    scale = float(length) ** 2
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda s, theta, args: -scale * slope(theta)),
        diffrax.Kvaerno5(),
        t0=0.0,
        t1=float(times.max() / scale),
        dt0=1e-3 / length,
        y0=jnp.zeros(19),
        saveat=diffrax.SaveAt(ts=jnp.asarray(times[order] / scale)),
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-11),
        max_steps=1 << 16,
    )
    assert solution.ys is not None
    for place, theta in zip(order, solution.ys, strict=True):
        value, gradient = jax.value_and_grad(loss)(theta)
        if place == 3:
            late = (value - 0.25) / jnp.sum(jnp.square(gradient))
        else:
            column = COORDINATES.index(CIRCUIT[place])
            late = (theta[column] - 0.5) / gradient[column]
        assert abs(float(late)) < 3e-8 * times[place], (query, length, place)


@pytest.mark.parametrize(
    "model, query, length",
    [
        ("subspace", "last", 16),
        pytest.param("circuit", "uniform", 64, marks=pytest.mark.slow),
        pytest.param("subspace", "uniform", 4, marks=pytest.mark.slow),
        pytest.param("subspace", "uniform", 64, marks=pytest.mark.slow),
        pytest.param("subspace", "last", 10**6, marks=pytest.mark.slow),
        pytest.param("subspace", "last", 10**9, marks=pytest.mark.slow),
    ],
)
def test_accuracy(model, query, length):
    """Crossings of every threshold at the default accuracy and at a hundredth of it."""
    task = Task(length, query=query)
    runs = [solve_flow(task, model, horizon=100.0, stop=ALL_STOP, accuracy=each) for each in (1e-7, 1e-9)]
    assert {run.outcome for run in runs} == {"emerged"}
    loose, tight = (times_of(run, **ALL) for run in runs)
    assert np.isfinite(tight).all()
    error = np.abs(loose / tight - 1)
    print(f"{error.max():.1e}")
    assert error.max() < 3e-8


@pytest.mark.parametrize("accuracy", [1e-2, 1e-4, 1e-10])
def test_accuracy_is_that_of_the_times(accuracy, run_of):
    found = times_of(solve_flow(Task(64), "circuit", stop=STOP, accuracy=accuracy))
    # the reference was asked for 1e-7
    np.testing.assert_allclose(found, times_of(run_of("circuit", "last", 64).trajectory), rtol=accuracy + 2e-8)


@pytest.mark.parametrize("length", [4, 1000])
def test_alone_and_beside_others(length, run_of):
    beside = run_of("circuit", "last", length).trajectory
    alone = solve_flow(Task(length), "circuit", stop=STOP)
    np.testing.assert_allclose(times_of(alone), times_of(beside), rtol=1e-12)
    assert len(alone.time) == len(beside.time)


def test_twelve_distinct_curves(run_of):
    """Of nineteen, five stay at zero and two pairs are twins, from zero at 90 degrees with orthonormal inputs."""
    trajectory = run_of("subspace", "uniform", 4).trajectory
    silent = ("alpha_2", "beta_5", "beta_6", "beta_7", "beta_8")
    for name in silent:
        assert np.all(column(trajectory, name) == 0), name
    for one, other in (("beta_3", "beta_9"), ("beta_4", "beta_11")):
        np.testing.assert_array_equal(column(trajectory, one), column(trajectory, other))
    distinct = [name for name in COORDINATES if name not in (*silent, "beta_9", "beta_11")]
    assert len(distinct) == 12
    for name in distinct:
        assert np.abs(column(trajectory, name)).max() > 1e-4, name
    for one, other in itertools.combinations(distinct, 2):
        assert np.abs(column(trajectory, one) - column(trajectory, other)).max() > 1e-4, (one, other)


def test_at_another_rotation_the_metric_keeps_alpha_2_at_zero(turned):
    """There d loss/d alpha_2 = cos(phi) d loss/d alpha_3, and G^-1 takes (cos(phi), 1) to (0, 1)."""
    end = jnp.asarray(turned.trajectory.coordinates[-1])
    gradient = np.asarray(jax.jit(jax.grad(reduced_loss(turned.task, "subspace")))(end))
    assert abs(gradient[2]) > 1e-3
    assert gradient[1] == pytest.approx(gradient[2] / 2, rel=1e-9)
    assert np.abs(column(turned.trajectory, "alpha_2")).max() < 1e-12
    assert column(turned.trajectory, "alpha_3")[-1] > 0.5


def test_held_coordinates_stay_where_they_start():
    start = {"beta_1": -0.4, "gamma_4": 0.2, "alpha_1": 0.3, "gamma_3": 0.1}
    trajectory = solve_flow(Task(4), active=CIRCUIT, start=start, horizon=1.0)
    for name in COORDINATES:
        if name in CIRCUIT:
            assert column(trajectory, name)[0] == start.get(name, 0.0)
            assert column(trajectory, name)[-1] > start.get(name, 0.0) + 0.01
        else:
            assert np.all(column(trajectory, name) == start.get(name, 0.0)), name


TURNED = Task(2, 6, query="last", rotation=60.0)
INVERSE = np.linalg.inv(metric(60.0))


@pytest.fixture(scope="module")
def slope():
    """d loss/d theta of the reduced loss of `TURNED`."""
    return jax.jit(jax.grad(reduced_loss(TURNED, "subspace")))


@jax.jit
def sampled_gradient(weights: Weights, key) -> Weights:
    """grad_W of the full model's loss, over fresh sequences."""
    return jax.grad(batch_loss)(weights, sample_sequences(TURNED, key, 1024, jnp.float64))


def test_velocity_is_that_of_the_full_weights_at_another_rotation(key, slope):
    """-grad_W of the population loss is sum_k (dtheta_k/dt') B_k, with dtheta/dt = -G^-1 d loss/d theta, t = t'/D."""
    theta = jnp.asarray(np.random.default_rng(5).normal(size=19))
    gradient = np.asarray(slope(theta))
    velocity = -INVERSE @ gradient
    weights = lift(theta, TURNED)
    groups = [sampled_gradient(weights, each) for each in jax.random.split(key, 64)]

    # The coordinates: exact for every sample, since these inputs all have the same Gram matrices.
    for each in groups[:4]:
        moved = -TURNED.embedding_dim * np.asarray(project(each, 60.0).coordinates)
        np.testing.assert_allclose(moved, velocity, rtol=1e-9, atol=1e-11)

    # And every one of the 28 D^2 entries, within the error of the mean; not so without the metric.
    def misses(velocity):
        expected = lift(jnp.asarray(velocity), TURNED)
        sizes = []
        for name in ("W1", "W2", "W3"):
            entries = -TURNED.embedding_dim * np.stack([np.asarray(getattr(each, name)) for each in groups])
            error = entries.std(axis=0, ddof=1) / np.sqrt(len(groups))
            wrong = entries.mean(axis=0) - np.asarray(getattr(expected, name))
            sizes.append((np.abs(wrong) / np.maximum(error, 1e-12)).ravel())
        return np.concatenate(sizes)

    assert misses(velocity).size == 28 * 36
    assert misses(velocity).max() < 5.5  # of 1,008 entries, t distributed with 63 degrees of freedom
    assert misses(-gradient).max() > 20


def test_euler_steps_on_the_full_weights_stay_with_the_reduced_ones(key, slope):
    """A few steps on all 28 D^2 weights, with gradients over many sequences, at 60 degrees."""
    step, steps, repeats = 0.2, 3, 24
    theta = 0.7 * np.random.default_rng(6).normal(size=19)
    ends = []
    for repeat in jax.random.split(key, repeats):
        weights = lift(jnp.asarray(theta), TURNED)
        for each in jax.random.split(repeat, steps):
            gradient = sampled_gradient(weights, each)
            weights = jax.tree.map(lambda w, g: w - step * TURNED.embedding_dim * g, weights, gradient)
        ends.append(np.asarray(project(weights, 60.0).coordinates))
    with_metric, without = theta, theta
    for _ in range(steps):
        with_metric = with_metric - step * INVERSE @ np.asarray(slope(jnp.asarray(with_metric)))
        without = without - step * np.asarray(slope(jnp.asarray(without)))
    error = np.std(ends, axis=0, ddof=1) / np.sqrt(repeats)
    distance = np.abs(np.mean(ends, axis=0) - with_metric)
    print(f"distance {distance.max():.1e}, standard error {error.max():.1e}")
    assert error.max() < 2e-3 * np.abs(with_metric - theta).max()
    # Beside its scatter a mean over samples has a bias of the order of its noise squared.
    assert np.all(distance < 5.5 * error + 1e-4)
    assert np.abs(np.mean(ends, axis=0) - without).max() > 50 * error.max()
