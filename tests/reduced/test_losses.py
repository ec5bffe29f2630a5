"""One loss, written four ways: in closed form, as sums over pairs, on Gram matrices, and as the full model."""

import decimal
import itertools

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.gram_matrices import gram_matrices
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.reduced.circuit import CircuitLoss
from induction_dynamics.reduced.gram import GramLoss, orthonormal_gram_loss
from induction_dynamics.reduced.mesh import exact_mesh
from induction_dynamics.reduced.subspace import SubspaceLoss
from induction_dynamics.task import Sequences, Task, sample_sequences

PADDED, DIM = 8, 18
SCALES = (0.0, 0.3, 1.0, 1.0, 2.0, 5.0)
SIZES = (1, 2, 3, 5, 8)
QUERIES = ("last", "uniform")
ROTATIONS = (30.0, 137.0, 200.0, -45.0)
ALL = list(range(19))
THREE = [COORDINATES.index(name) for name in CIRCUIT]
OTHERS = [place for place in ALL if place not in THREE]


def random_coordinates(active=ALL, seed=0):
    """Coordinates at several scales, the first point all 0; those not active are 0 throughout."""
    coordinates = np.zeros((len(SCALES), 19))
    coordinates[:, active] = np.random.default_rng(seed).normal(size=(len(SCALES), len(active)))
    coordinates *= np.array(SCALES)[:, None]
    return jnp.asarray(coordinates)


def embedded(*points):
    """Coordinates of points (alpha_3, beta_2, gamma_3), all others at 0."""
    coordinates = np.zeros((len(points), 19))
    coordinates[:, THREE] = points
    return jnp.asarray(coordinates)


@eqx.filter_jit
def differentiated(loss, coordinates):
    """Values [points] and gradients [points, 19]."""
    return jax.vmap(jax.value_and_grad(loss))(coordinates)


def differentiated_in_turn(loss, coordinates):
    """The same for any number of points, in as many at a time as is compiled already."""
    step = len(SCALES)
    padded = jnp.concatenate([coordinates, jnp.zeros((-len(coordinates) % step, 19))])
    results = [differentiated(loss, padded[start : start + step]) for start in range(0, len(padded), step)]
    return [np.concatenate(parts)[: len(coordinates)] for parts in zip(*results, strict=True)]


def assert_agree(first, second, tolerance=1e-12):
    """Values and gradients within the tolerance, relative to 1 + |value|."""
    (value, gradient), (other_value, other_gradient) = (map(np.asarray, result) for result in (first, second))
    scale = 1 + np.abs(value)
    assert np.all(np.abs(value - other_value) <= tolerance * scale)
    assert np.all(np.abs(gradient - other_gradient) <= tolerance * scale[:, None])


def circuit(task, sequences=None, padded=PADDED):
    return circuit_on(exact_mesh(task.context_length, padded), task.query)


def circuit_on(mesh, query):
    return CircuitLoss(mesh.context_length, query, mesh if query == "uniform" else None)


def subspace(task, sequences=None, padded=PADDED):
    return SubspaceLoss(exact_mesh(task.context_length, padded), task.query)


def gram(task, sequences):
    return GramLoss(gram_matrices(task, sequences), task.query)


def exact_gram(task, sequences=None):
    return orthonormal_gram_loss(task)


INSTANCES = [
    *[(circuit, THREE, Task(n, DIM, query=query)) for n in SIZES for query in QUERIES],
    *[(circuit, THREE, Task(3, DIM, query=query, rotation=30.0)) for query in QUERIES],
    *[(subspace, ALL, Task(n, DIM, query=query)) for n in SIZES for query in QUERIES],
    *[(subspace, ALL, Task(3, 8, query=query)) for query in QUERIES],
    *[(exact_gram, ALL, Task(3, DIM, query=query)) for query in QUERIES],
    *[(exact_gram, ALL, Task(3, DIM, query="uniform", rotation=rotation)) for rotation in ROTATIONS],
    *[(gram, ALL, Task(n, DIM, "isotropic", "uniform")) for n in SIZES],
    *[(gram, ALL, Task(n, DIM, "isotropic", "last")) for n in (1, 3)],
    *[(gram, ALL, Task(3, 8, "isotropic", "uniform", rotation)) for rotation in (90.0, *ROTATIONS)],
    # the circuit on isotropic inputs: the Gram form with the sixteen others at 0
    *[(gram, THREE, Task(3, DIM, "isotropic", query)) for query in QUERIES],
]


@pytest.fixture(params=INSTANCES, ids=lambda p: "-".join(map(str, (p[0].__name__, len(p[1]), *vars(p[2]).values()))))
def instance(request):
    """(maker of a loss, the coordinates that it covers, task)."""
    return request.param


def two_sequences(task, key):
    """The first pairs of as long a sequence as D allows: one shape to draw for all lengths."""
    longest = Task(task.embedding_dim // 2 - 1, task.embedding_dim, task.inputs, task.query, task.rotation)
    drawn = sample_sequences(longest, key, 2, jnp.float64)
    places = jnp.array([*range(2 * task.context_length), 2 * longest.context_length])
    query = jnp.full_like(drawn.query, task.context_length - 1)
    tokens = drawn.tokens[:, places].at[:, -1].set(drawn.tokens[:, 2 * task.context_length - 2])
    return Sequences(tokens, drawn.positions[:, places], query)


def test_every_form_is_the_full_model(instance, full_model, key):
    make, active, task = instance
    sequences = two_sequences(task, key)
    coordinates = random_coordinates(active)
    value, gradient = differentiated(make(task, sequences), coordinates)
    exact_value, exact_gradient = full_model(task, sequences, coordinates)
    if make is circuit:  # which knows nothing of the others' derivatives
        assert not np.any(gradient[:, OTHERS])
        exact_gradient[:, OTHERS] = 0
    assert_agree((exact_value, exact_gradient), (value, gradient))


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("n", SIZES)
def test_circuit_is_the_subspace_with_the_others_at_0(n, query):
    task, coordinates = Task(n, query=query), random_coordinates(THREE, seed=1)
    value, gradient = differentiated(subspace(task), coordinates)
    assert_agree(
        (value, gradient[:, THREE]), (lambda v, g: (v, g[:, THREE]))(*differentiated(circuit(task), coordinates))
    )


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("make", [circuit, subspace])
def test_padding_changes_nothing(make, query):
    task, coordinates = Task(3, query=query), random_coordinates(seed=2)
    exact = differentiated(make(task, padded=3), coordinates)
    assert_agree(exact, differentiated(make(task), coordinates), 2e-15)


@pytest.mark.parametrize("query", QUERIES)
def test_gradient_by_finite_differences(query):
    loss, point = subspace(Task(5, query=query)), random_coordinates(seed=3)[2]
    step = 1e-5
    moved = point[None] + step * jnp.concatenate([jnp.zeros((1, 19)), jnp.eye(19), -jnp.eye(19)])
    values, gradients = differentiated_in_turn(loss, moved)
    np.testing.assert_allclose((values[1:20] - values[20:]) / (2 * step), gradients[0], atol=1e-9)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("make", [subspace, exact_gram])
def test_dead_and_merged_coordinates(make, query):
    """alpha_2 and beta_5 .. beta_8 have no effect; beta_3 and beta_9, beta_4 and beta_11 enter as their sums."""
    value, gradient = differentiated(make(Task(3, DIM, query=query)), random_coordinates(seed=4))
    slope = {name: np.asarray(gradient[:, place]) for place, name in enumerate(COORDINATES)}
    scale = 1e-14 * (1 + np.asarray(value))
    for name in ("alpha_2", "beta_5", "beta_6", "beta_7", "beta_8"):
        assert np.all(np.abs(slope[name]) <= scale)
    for name, same in (("beta_3", "beta_9"), ("beta_4", "beta_11")):
        assert np.all(np.abs(slope[name] - slope[same]) <= scale)
        assert np.any(slope[name] != 0)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("make, number", [(circuit, 3), (subspace, 12), (exact_gram, 19)])
def test_the_gradient_is_in_the_span_of_the_combinations(make, number, query):
    """And in no smaller one; each coordinate is in one combination at most, so that they are orthogonal."""
    loss = make(Task(3, DIM, query=query))
    rows = loss.combinations
    assert rows.shape == (number, 19) and np.all(np.isin(rows, (0, 1)))
    assert np.all(rows.sum(axis=0) <= 1) and np.all(rows.sum(axis=1) >= 1)
    value, gradient = (np.asarray(found) for found in differentiated(loss, random_coordinates(seed=9)))
    within = gradient @ rows.T / rows.sum(axis=1) @ rows
    assert np.all(np.abs(within - gradient) <= 1e-14 * (1 + np.abs(value))[:, None])
    if make is not exact_gram:  # which at right angles has no more than twelve either, but does not know it
        assert np.linalg.matrix_rank(rows @ gradient.T, tol=1e-12) == min(number, len(SCALES))


@pytest.mark.parametrize("query", QUERIES)
def test_three_coordinates_have_the_same_loss_at_any_rotation(query):
    coordinates = random_coordinates(THREE, seed=5)
    value, gradient = differentiated(exact_gram(Task(3, DIM, query=query)), coordinates)
    for rotation in ROTATIONS:
        turned = differentiated(exact_gram(Task(3, DIM, query=query, rotation=rotation)), coordinates)
        assert_agree((value, gradient[:, THREE]), (turned[0], turned[1][:, THREE]))


def test_loss_of_isotropic_inputs_is_the_mean_over_samples(key):
    task = Task(3, DIM, "isotropic", "uniform")
    matrices = gram_matrices(task, two_sequences(task, key))
    coordinates = random_coordinates(seed=6)
    together = differentiated(GramLoss(matrices, "uniform"), coordinates)
    alone = [
        differentiated(GramLoss(jax.tree.map(lambda m, i=i: m[i : i + 1], matrices), "uniform"), coordinates)
        for i in (0, 1)
    ]
    assert_agree(together, jax.tree.map(lambda first, second: (first + second) / 2, *alone))


# The three-coordinate loss in decimal arithmetic of 120 digits, token by token.

EXACT = decimal.Context(prec=120, Emin=-(10**9), Emax=10**9)


def exact_circuit(pairs, query, alpha, beta, gamma):
    """Sums over the keys, each with its layer-2 score; query last at any length by the number of keys alone."""
    with decimal.localcontext(EXACT):
        item = alpha.exp()
        own = [item / (item + (2 * k - 2)) for k in (range(1, pairs + 1) if query == "uniform" else [pairs])]
        if query == "last":
            right, wrong = (beta * own[0]).exp(), 2 * pairs - 1
            total = right + wrong
            return ((1 - gamma * right / total) ** 2 + gamma**2 * wrong / total**2) / 2
        label = {k: (beta / (item + (2 * k - 2))).exp() for k in range(2, pairs + 1)}
        items = {k: (beta / (2 * k - 2)).exp() for k in range(2, pairs + 1)}
        losses = []
        for q in range(1, pairs + 1):
            weights = [decimal.Decimal(1)] * (2 * q - 1)
            for k in range(q + 1, pairs + 1):
                weights += [label[k], items[k]]
            right = (beta * own[q - 1]).exp()
            total = sum(weights) + right
            losses.append(((1 - gamma * right / total) ** 2 + sum((gamma * one / total) ** 2 for one in weights)) / 2)
        return sum(losses) / pairs


def exact_differentiated(pairs, query, point):
    """The value, and central differences of step 1e-30 (error 1e-60), both rounded once."""
    with decimal.localcontext(EXACT):
        point = [decimal.Decimal(float(value)) for value in point]
        step = decimal.Decimal(10) ** -30
        slopes = []
        for place in range(3):
            sides = []
            for sign in (1, -1):
                moved = list(point)
                moved[place] += sign * step
                sides.append(exact_circuit(pairs, query, *moved))
            slopes.append(float((sides[0] - sides[1]) / (2 * step)))
        return float(exact_circuit(pairs, query, *point)), np.array(slopes)


def circuit_of_length(pairs, query, points, padded=PADDED):
    mesh = exact_mesh(pairs, padded) if query == "uniform" else exact_mesh(pairs, 1)
    loss = circuit_on(mesh, query)
    value, gradient = differentiated_in_turn(loss, embedded(*points))
    return value, gradient[:, THREE]


@hypothesis.settings(deadline=None, max_examples=40, derandomize=True, database=None)
@hypothesis.given(
    pairs=st.integers(1, PADDED),
    query=st.sampled_from(QUERIES),
    point=st.tuples(*[st.floats(-30, 30)] * 3),
)
def test_circuit_is_the_direct_sum(pairs, query, point):
    value, gradient = circuit_of_length(pairs, query, [point])
    exact_value, exact_gradient = exact_differentiated(pairs, query, point)
    assert_agree((np.array([exact_value]), exact_gradient[None]), (value, gradient), 2e-14)


@pytest.mark.parametrize("pairs", [20, 64])
def test_longer_circuit_is_the_direct_sum(pairs):
    points = [(1.0, 2.0, 0.5), (6.0, -9.0, -1.0), (4.0, 70.0, 1.0)]
    value, gradient = circuit_of_length(pairs, "uniform", points, padded=64)
    for place, point in enumerate(points):
        exact_value, exact_gradient = exact_differentiated(pairs, "uniform", point)
        assert_agree(([exact_value], exact_gradient[None]), ([value[place]], gradient[place][None]), 2e-14)


# from the start to beyond emergence at N = 1e12, and points off the way
WAY = [
    (0.0, 0.0, 0.0),
    (0.001, 0.3, 0.5),
    (1.0, 2.0, 0.999),
    (20.0, 6.3, 1.0),
    (26.0, 7.4, 1.0),
    (29.0, 9.0, 0.7),
    (30.5, 30.0, 0.99),
    (31.0, 40.0, 1 - 1e-12),
    (33.0, 60.0, 1.0),
    (35.0, 35.0, -2.0),
    (-15.0, 25.0, 3.0),
    (25.0, -8.0, 0.4),
    (50.0, 28.0, 0.99),
]


@pytest.mark.parametrize("pairs", [2, 1000, 10**12])
def test_circuit_last_keeps_its_digits(pairs):
    value, gradient = circuit_of_length(pairs, "last", WAY)
    for place, point in enumerate(WAY):
        exact_value, exact_gradient = exact_differentiated(pairs, "last", point)
        # the exponent beta g is rounded, and the loss is a square
        tolerance = 1e-14 + 2 * np.finfo(float).eps * abs(point[1])
        assert value[place] == pytest.approx(exact_value, rel=tolerance, abs=0), point
        np.testing.assert_allclose(gradient[place], exact_gradient, rtol=1e-10, atol=0, err_msg=str(point))


LARGE = {
    ("last", 1): 700.0,
    ("last", 10**12): 700.0,
    ("uniform", 1): 600.0,
    ("uniform", 8): 600.0,
}


@pytest.mark.parametrize("query, pairs", LARGE)
def test_large_coordinates(query, pairs):
    size = LARGE[query, pairs]
    points = list(itertools.product((-size, 0.0, size), repeat=3))
    value, gradient = circuit_of_length(pairs, query, points)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    for place, point in enumerate(points):
        exact_value, exact_gradient = exact_differentiated(pairs, query, point)
        assert value[place] == pytest.approx(exact_value, rel=1e-12), point
        scale = 1 + np.abs(exact_gradient).max()
        np.testing.assert_allclose(gradient[place], exact_gradient, rtol=0, atol=1e-12 * scale, err_msg=str(point))


def test_circuit_uniform_at_a_million_pairs():
    pairs = 10**6
    points = [(0.0, 0.0, 0.0), (5.0, 3.0, 0.9), (600.0, 600.0, 600.0), (-600.0, 600.0, -600.0), (600.0, -600.0, 1.0)]
    loss = circuit_on(exact_mesh(pairs), "uniform")
    single = eqx.filter_jit(lambda point: jax.value_and_grad(loss)(point))
    results = [single(point) for point in embedded(*points)]
    assert all(np.isfinite(value) and np.isfinite(gradient).all() for value, gradient in results)
    assert float(results[0][0]) == 0.5
    # at zero only gamma moves, by -(one correct token among 2N)
    np.testing.assert_allclose(results[0][1][THREE[2]], -1 / (2 * pairs), rtol=1e-12)
    # far out on the way of learning the answer is right for every q
    learned = single(embedded((600.0, 600.0, 1.0))[0])
    assert float(learned[0]) < 1e-12


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_subspace_of_wide_spread(n, query):
    rng = np.random.default_rng(7)
    points = jnp.asarray(
        np.concatenate([rng.choice([-50.0, 0.0, 50.0], size=(30, 19)), rng.uniform(-50, 50, size=(30, 19))])
    )
    value, gradient = differentiated_in_turn(subspace(Task(n, query=query)), points)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    assert np.all(value >= 0)
