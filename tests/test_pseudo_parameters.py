"""The 19 coordinates: their names and places, the way to the weights and the way back."""

import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.pseudo_parameters import (
    BLOCKS,
    CIRCUIT,
    COORDINATES,
    PAIRS,
    lift,
    metric,
    project,
    rotation_matrix,
)
from induction_dynamics.task import Task, sample_sequences
from induction_dynamics.transformer.disentangled import Weights, zero_weights

ROTATIONS = (30.0, 90.0, 137.0, 270.0, -45.0)
STREAMS = ("t", "r", "A1t", "A1r", "A2t", "A2r", "A2A1t", "A2A1r")
TABLE = """
alpha_1  W1  t    t    I
alpha_2  W1  r    r    I
alpha_3  W1  r    r    M
beta_1   W2  t    t    I
beta_2   W2  t    A1t  I
beta_3   W2  A1t  t    I
beta_4   W2  A1t  A1t  I
beta_5   W2  r    r    I
beta_6   W2  r    r    M
beta_7   W2  r    A1r  I
beta_8   W2  r    A1r  M
beta_9   W2  A1r  r    I
beta_10  W2  A1r  r    M
beta_11  W2  A1r  A1r  I
beta_12  W2  A1r  A1r  M
gamma_1  W3  out  t      I
gamma_2  W3  out  A1t    I
gamma_3  W3  out  A2t    I
gamma_4  W3  out  A2A1t  I
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]
NAMES = [row[0] for row in ROWS]


def structure(dim, rotation, letter):
    identity = np.eye(dim)
    quarter_turn = np.kron([[0, -1], [1, 0]], np.eye(dim // 2))
    angle = math.radians(rotation)
    return identity if letter == "I" else math.cos(angle) * identity + math.sin(angle) * quarter_turn


def basis(dim, rotation):
    """The 19 basis matrices, each as the three weight matrices."""
    shapes = {"W1": (2, 2), "W2": (4, 4), "W3": (1, 8)}
    found = []
    for _, matrix, row, column, letter in ROWS:
        places = {name: np.zeros(shape) for name, shape in shapes.items()}
        places[matrix][0 if row == "out" else STREAMS.index(row), STREAMS.index(column)] = 1
        found.append({name: np.kron(place, structure(dim, rotation, letter)) for name, place in places.items()})
    return found


def flat(matrices):
    return np.concatenate([np.ravel(matrices[name]) for name in ("W1", "W2", "W3")])


def matrices_of(weights):
    return {name: np.asarray(getattr(weights, name)) for name in ("W1", "W2", "W3")}


def random_weights(dim, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (2 * dim, 2 * dim), (4 * dim, 4 * dim), (dim, 8 * dim)
    return Weights(*(jnp.asarray(rng.normal(size=shape)) for shape in shapes))


def test_names_in_order():
    assert list(COORDINATES) == NAMES
    assert len(set(COORDINATES)) == 19
    assert CIRCUIT == ("alpha_3", "beta_2", "gamma_3")


def test_blocks_are_the_table():
    for name, matrix, row, column, letter in ROWS:
        row_index = 0 if row == "out" else STREAMS.index(row)
        assert BLOCKS[name] == (matrix, row_index, STREAMS.index(column), letter)
    pairs = [("alpha_2", "alpha_3"), *((f"beta_{k}", f"beta_{k + 1}") for k in (5, 7, 9, 11))]
    assert [(COORDINATES[i], COORDINATES[j]) for i, j in PAIRS] == pairs


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_rotation_matrix_takes_items_to_labels(rotation, key):
    positions = sample_sequences(Task(2, 6, "isotropic", rotation=rotation), key, 1, jnp.float64).positions[0]
    turned = rotation_matrix(6, rotation)
    np.testing.assert_allclose(turned, structure(6, rotation, "M"), atol=1e-15)
    np.testing.assert_allclose(positions[1:4:2], positions[:4:2] @ turned.T, atol=1e-15)


def test_right_angles_are_exact():
    np.testing.assert_array_equal(rotation_matrix(4, 90.0), structure(4, 90.0, "M").round())
    np.testing.assert_array_equal(rotation_matrix(4, -90.0), -structure(4, 90.0, "M").round())
    np.testing.assert_array_equal(metric(90.0), np.eye(19))


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_lift_is_the_sum_of_basis_matrices(rotation):
    theta = np.random.default_rng(1).normal(size=19)
    weights = matrices_of(lift(jnp.asarray(theta), Task(2, 6, rotation=rotation)))
    for name, matrix in weights.items():
        expected = sum(value * one[name] for value, one in zip(theta, basis(6, rotation), strict=True))
        np.testing.assert_allclose(matrix, expected, atol=1e-15)


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("dim", [4, 10])
def test_projection_undoes_the_lift(dim, rotation):
    theta = jnp.asarray(np.random.default_rng(2).normal(size=19))
    coordinates, off_subspace = project(lift(theta, Task(1, dim, rotation=rotation)), rotation)
    np.testing.assert_allclose(coordinates, theta, rtol=1e-14, atol=1e-14)
    assert max(off_subspace) < 1e-14


DIMS = st.integers(1, 6).map(lambda half: 2 * half)
ANGLES = st.one_of(
    st.sampled_from([*ROTATIONS, 450.0]),
    st.floats(-720, 720).filter(lambda degrees: abs(math.sin(math.radians(degrees))) >= 1e-3),
)
# squares and their sums stay within the range of float64
SIZES = st.one_of(st.floats(-10, 10), st.floats(-1e150, 1e150))
anywhere = hypothesis.settings(deadline=None, max_examples=25, derandomize=True)


@anywhere
@hypothesis.given(dim=DIMS, rotation=ANGLES, theta=st.lists(SIZES, min_size=19, max_size=19))
def test_projection_undoes_the_lift_anywhere(dim, rotation, theta):
    """To rounding, of what else is in the same block: coordinates that are tiny beside others keep their digits."""
    sine = abs(math.sin(math.radians(rotation)))
    coordinates, off_subspace = project(
        lift(jnp.asarray(theta), Task(1, dim, "isotropic", rotation=rotation)), rotation
    )
    sizes = np.abs(theta)
    for first, second in PAIRS:  # the two share a block, and are told apart by sin(phi)
        sizes[[first, second]] = (sizes[first] + sizes[second]) / sine
    assert np.all(np.abs(coordinates - np.array(theta)) <= 2e-15 * sizes + 1e-300)
    # a I + b M may be smaller than its parts by sin(phi), but not by more
    assert max(off_subspace) <= 4e-15 / sine


@anywhere
@hypothesis.given(
    dim=DIMS,
    rotation=ANGLES,
    seed=st.integers(0, 2**16),
    factors=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
)
def test_projection_is_the_orthogonal_one(dim, rotation, seed, factors):
    """Linear, idempotent, and right-angled: W - lift(project(W)) meets no basis matrix, and Pythagoras holds."""
    sine, task = abs(math.sin(math.radians(rotation))), Task(1, dim, "isotropic", rotation=rotation)
    one, other = random_weights(dim, seed), random_weights(dim, seed + 1)
    both = jax.tree.map(lambda first, second: factors[0] * first + factors[1] * second, one, other)
    coordinates, off_subspace = project(one, rotation)
    summed = factors[0] * coordinates + factors[1] * project(other, rotation).coordinates
    np.testing.assert_allclose(project(both, rotation).coordinates, summed, rtol=0, atol=1e-12 / sine)

    nearest = lift(coordinates, task)
    again = project(nearest, rotation).coordinates
    np.testing.assert_allclose(again, coordinates, rtol=0, atol=1e-14 / sine**2)

    near, whole = flat(matrices_of(nearest)), flat(matrices_of(one))
    missed = whole - near
    columns = np.stack([flat(matrix) for matrix in basis(dim, rotation)])
    np.testing.assert_allclose(columns @ missed / dim, 0, atol=1e-13 / sine)
    assert near @ near + missed @ missed == pytest.approx(whole @ whole, rel=1e-13 / sine)
    assert float(off_subspace.total) == pytest.approx(np.linalg.norm(missed) / np.linalg.norm(whole), rel=1e-12)
    assert 0 <= float(off_subspace.total) <= 1


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_projection_is_least_squares(rotation):
    dim, weights = 6, random_weights(6)
    columns = np.stack([flat(one) for one in basis(dim, rotation)], axis=1)
    given = flat(matrices_of(weights))
    expected = np.linalg.lstsq(columns, given)[0]
    coordinates, off_subspace = project(weights, rotation)
    np.testing.assert_allclose(coordinates, expected, atol=1e-13)

    sizes = [matrix.size for matrix in matrices_of(weights).values()]
    missed = np.split(given - columns @ expected, np.cumsum(sizes)[:-1])
    norms = [np.linalg.norm(matrix) for matrix in matrices_of(weights).values()]
    fractions = [np.linalg.norm(part) / norm for part, norm in zip(missed, norms, strict=True)]
    total = np.linalg.norm(given - columns @ expected) / np.linalg.norm(given)
    np.testing.assert_allclose([*off_subspace], [*fractions, total], rtol=1e-13)


def test_zero_weights_miss_nothing():
    coordinates, off_subspace = project(zero_weights(4, jnp.float64), 30.0)
    np.testing.assert_array_equal(coordinates, 0)
    assert list(map(float, off_subspace)) == [0, 0, 0, 0]
    weights = random_weights(4)
    off_subspace = project(Weights(jnp.zeros_like(weights.W1), weights.W2, weights.W3)).off_subspace
    assert off_subspace.W1 == 0
    assert off_subspace.total > 0.9


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_metric_is_the_gram_matrix_of_the_basis(rotation):
    dim = 6
    flattened = np.stack([flat(one) for one in basis(dim, rotation)])
    np.testing.assert_allclose(metric(rotation), flattened @ flattened.T / dim, atol=1e-15)


def test_compiles():
    task, weights = Task(1, rotation=30.0), random_weights(4)
    compiled = jax.jit(lambda given: project(given, 30.0))(weights)
    for one, other in zip(jax.tree.leaves(compiled), jax.tree.leaves(project(weights, 30.0)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)
    theta = jnp.arange(19.0)
    for one, other in zip(
        jax.tree.leaves(jax.jit(lambda given: lift(given, task))(theta)),
        jax.tree.leaves(lift(theta, task)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def test_single_precision():
    theta = jnp.asarray(np.random.default_rng(3).normal(size=19), jnp.float32)
    weights = lift(theta, Task(1, rotation=137.0))
    projection = project(weights, 137.0)
    assert {leaf.dtype for leaf in jax.tree.leaves((weights, projection))} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(projection.coordinates, theta, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype, smallest, largest", [(jnp.float32, 1e-30, 1e30), (jnp.float64, 1e-290, 1e290)])
def test_the_fraction_of_the_smallest_and_the_largest_weights(dtype, smallest, largest, key):
    shapes = ((8, 8), (16, 16), (4, 32))
    plain = Weights(*(jax.random.normal(key, shape, dtype) for shape in shapes))
    expected = project(plain).off_subspace
    rounding = 16 * float(jnp.finfo(dtype).eps)
    for scale in (smallest, largest):
        found = project(
            jax.tree.map(lambda matrix, scale=scale: matrix * jnp.asarray(scale, dtype), plain)
        ).off_subspace
        np.testing.assert_allclose(np.array(found), np.array(expected), rtol=rounding)
    # Beside a matrix of another size the small ones do not count, and each keeps its own fraction.
    mixed = Weights(plain.W1 * jnp.asarray(smallest, dtype), plain.W2, 0 * plain.W3)
    found = project(mixed).off_subspace
    np.testing.assert_allclose([found.W1, found.total], [expected.W1, expected.W2], rtol=rounding)
    assert found.W3 == 0
