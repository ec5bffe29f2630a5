"""The full model against a slow, literal implementation, and its exact structural zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.task import Sequences, Task, sample_sequences
from induction_dynamics.transformer.disentangled import (
    Weights,
    batch_loss,
    forward,
    strictly_causal_softmax,
    zero_weights,
)

TASKS = (
    Task(1, 4),
    Task(3, 8, "isotropic", "uniform", 40.0),
    Task(3, 8, "orthonormal", "uniform"),
)

# the same few shapes throughout, so that little is compiled
BATCH = 3
draw = jax.jit(sample_sequences, static_argnums=(0, 2, 3))
compute = jax.jit(forward)
differentiate = jax.jit(jax.value_and_grad(batch_loss))


def softmax(scores):
    exponentials = [np.exp(score - max(scores)) for score in scores]
    return [one / sum(exponentials) for one in exponentials]


def literal(weights, tokens, positions):
    """One sequence, position by position: the answer, A1 and the query's layer-2 attention a."""
    W1, W2, W3 = weights
    length, dim = tokens.shape
    x0 = [np.concatenate([tokens[i], positions[i]]) for i in range(length)]
    attention_1 = np.zeros((length, length))
    x1 = []
    for i in range(length):
        average = np.zeros(2 * dim)
        if i > 0:
            attention_1[i, :i] = softmax([x0[i] @ W1 @ x0[j] for j in range(i)])
            for j in range(i):
                average += attention_1[i, j] * x0[j]
        x1.append(np.concatenate([x0[i], average]))
    last = length - 1
    attention_2 = softmax([x1[last] @ W2 @ x1[j] for j in range(last)])
    retrieved = np.zeros(4 * dim)
    for j in range(last):
        retrieved += attention_2[j] * x1[j]
    return W3 @ np.concatenate([x1[last], retrieved]), attention_1, np.array(attention_2)


def literal_loss(weights, sequences):
    losses = []
    for tokens, positions, query in zip(*map(np.asarray, sequences), strict=True):
        answer = literal(weights, tokens, positions)[0]
        losses.append(np.sum((tokens[2 * query + 1] - answer) ** 2) / 2)
    return np.mean(losses)


def random_weights(dim, seed=0, scale=0.7):
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=shape) for shape in ((2 * dim, 2 * dim), (4 * dim, 4 * dim), (dim, 8 * dim))]


def as_weights(matrices, dtype=jnp.float64):
    return Weights(*(jnp.asarray(matrix, dtype) for matrix in matrices))


@pytest.mark.parametrize("task", TASKS, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float64, 1e-12), (jnp.float32, 2e-4)])
def test_forward_is_the_definition(task, dtype, tolerance, key):
    sequences = draw(task, key, BATCH, jnp.float64)
    given = Sequences(sequences.tokens.astype(dtype), sequences.positions.astype(dtype), sequences.query)
    matrices = random_weights(task.embedding_dim)
    output = compute(as_weights(matrices, dtype), given)
    loss, _ = differentiate(as_weights(matrices, dtype), given)
    assert {leaf.dtype for leaf in (*output, loss)} == {jnp.dtype(dtype)}
    for b in range(BATCH):
        expected = literal(matrices, np.asarray(sequences.tokens[b]), np.asarray(sequences.positions[b]))
        for computed, exact in zip(output, expected, strict=True):
            np.testing.assert_allclose(computed[b], exact, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(loss, literal_loss(matrices, sequences), rtol=tolerance)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_gradient_by_finite_differences(task, key):
    sequences = draw(task, key, BATCH, jnp.float64)
    matrices = random_weights(task.embedding_dim, seed=1)
    _, gradient = differentiate(as_weights(matrices), sequences)
    rng, step = np.random.default_rng(2), 1e-5
    for which, exact in enumerate((gradient.W1, gradient.W2, gradient.W3)):
        for _ in range(6):
            place = tuple(rng.integers(exact.shape))
            sides = []
            for sign in (1, -1):
                moved = [matrix.copy() for matrix in matrices]
                moved[which][place] += sign * step
                sides.append(literal_loss(moved, sequences))
            assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(float(exact[place]), rel=1e-6, abs=1e-8)


def test_shapes_of_the_start():
    weights = zero_weights(6)
    assert weights.embedding_dim == 6
    assert sum(leaf.size for leaf in jax.tree.leaves(weights)) == 28 * 6**2
    assert all(leaf.dtype == jnp.float32 and not leaf.any() for leaf in jax.tree.leaves(weights))


def test_layer_1_sees_only_earlier_tokens(key):
    task = TASKS[1]
    sequences = draw(task, key, BATCH, jnp.float64)
    weights = as_weights(random_weights(task.embedding_dim))
    attention = np.asarray(forward(weights, sequences).attention_1)
    for j in range(task.sequence_length):
        other = compute(
            weights,
            sequences._replace(
                tokens=sequences.tokens.at[:, j].add(1.0), positions=sequences.positions.at[:, j].add(1.0)
            ),
        )
        np.testing.assert_array_equal(other.attention_1[:, :j], attention[:, :j])
        assert not np.array_equal(other.attention_1[:, j + 1 :], attention[:, j + 1 :]) or j >= task.sequence_length - 1
    np.testing.assert_array_equal(attention[:, 0], 0)
    np.testing.assert_array_equal(attention, np.tril(attention, -1))
    np.testing.assert_allclose(attention[:, 1:].sum(axis=-1), 1, rtol=1e-14)


def test_derivatives_by_later_tokens_are_exactly_zero(key):
    task = TASKS[1]
    sequences = draw(task, key, BATCH, jnp.float64)
    weights = as_weights(random_weights(task.embedding_dim))

    def rows(tokens):
        return forward(weights, sequences._replace(tokens=tokens)).attention_1[0]

    derivative = np.asarray(jax.jacobian(rows)(sequences.tokens))[:, :, 0]
    reached = np.any(derivative != 0, axis=(1, 3))
    # one earlier token always gets all the attention: its row does not move
    np.testing.assert_array_equal(reached[2:], np.tril(np.ones_like(reached))[2:])
    assert not reached[:2].any()


def test_the_query_is_no_key_of_layer_2(key):
    task = TASKS[1]
    sequences = draw(task, key, BATCH, jnp.float64)
    weights = as_weights(random_weights(task.embedding_dim))
    attention = compute(weights, sequences).attention_2
    assert attention.shape == (BATCH, 2 * task.context_length)
    np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=1e-14)
    # with zero scores and a W3 that reads A2t, the answer is the mean of the tokens before the query
    dim = task.embedding_dim
    reads = zero_weights(dim, jnp.float64).W3.at[:, 4 * dim : 5 * dim].set(jnp.eye(dim))
    zero = zero_weights(dim, jnp.float64)
    answer = compute(Weights(zero.W1, zero.W2, reads), sequences).prediction
    np.testing.assert_allclose(answer, sequences.tokens[:, :-1].mean(axis=1), atol=1e-15)


@pytest.mark.parametrize("task", TASKS, ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_nothing_is_ever_undefined(task, scale, key):
    sequences = draw(task, key, BATCH, jnp.float64)
    weights = as_weights(random_weights(task.embedding_dim, scale=scale))
    with jax.debug_nans(True):
        value, gradient = differentiate(weights, sequences)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_strictly_causal_softmax(shift):
    scores = np.random.default_rng(4).normal(size=(5, 5))
    expected = np.zeros((5, 5))
    for i in range(1, 5):
        expected[i, :i] = softmax(list(scores[i, :i]))
    # what the mask hides may be anything
    scores[np.triu_indices(5)] = 1e300
    np.testing.assert_allclose(strictly_causal_softmax(jnp.asarray(scores)), expected, rtol=1e-14)
    moved = np.where(np.tri(5, k=-1) > 0, scores + shift, scores)
    np.testing.assert_allclose(strictly_causal_softmax(jnp.asarray(moved)), expected, rtol=1e-9)
    gradient = jax.grad(lambda given: jnp.sum(jnp.square(strictly_causal_softmax(given))))(jnp.asarray(moved))
    np.testing.assert_array_equal(np.asarray(gradient)[np.triu_indices(5)], 0)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_zero_weights(dtype, key):
    task, length = TASKS[2], 7
    weights = zero_weights(task.embedding_dim, dtype)
    sequences = draw(task, key, BATCH, dtype)
    output = compute(weights, sequences)
    uniform = np.zeros((length, length), dtype)
    for i in range(1, length):
        uniform[i, :i] = 1 / i
    epsilon = np.finfo(dtype).eps
    np.testing.assert_allclose(output.attention_1, np.broadcast_to(uniform, (BATCH, length, length)), rtol=2 * epsilon)
    np.testing.assert_allclose(output.attention_2, np.full((BATCH, length - 1), 1 / (length - 1)), rtol=2 * epsilon)
    np.testing.assert_array_equal(output.prediction, 0)
    loss, gradient = differentiate(weights, sequences)
    np.testing.assert_allclose(loss, 0.5, rtol=10 * epsilon)
    # nothing reads the attention as long as W3 = 0
    np.testing.assert_array_equal(gradient.W1, 0)
    np.testing.assert_array_equal(gradient.W2, 0)
    assert np.any(gradient.W3 != 0)
