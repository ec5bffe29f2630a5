"""The gradient by hand against the derivative of the definition; what it needs of memory, and where it can run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.task import Sequences, Task, sample_sequences
from induction_dynamics.transformer import gradient
from induction_dynamics.transformer.disentangled import Weights, batch_loss, zero_weights
from induction_dynamics.transformer.gradient import loss_and_gradient

TASKS = (
    Task(1, 4),
    Task(3, 8, "isotropic", "uniform", 40.0),
    Task(3, 8, "orthonormal", "uniform"),
)
draw = jax.jit(sample_sequences, static_argnums=(0, 2, 3))
by_definition = jax.jit(jax.value_and_grad(batch_loss))
by_hand = jax.jit(loss_and_gradient)


def random_weights(dim, seed=0, scale=0.7, dtype=jnp.float64):
    rng = np.random.default_rng(seed)
    zero = zero_weights(dim, dtype)
    return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), dtype), zero)


def assert_same(found, expected, tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * max(np.max(np.abs(other)), 1e-300))


@pytest.mark.parametrize(
    "task, dtype, tolerance",
    [*((task, jnp.float64, 1e-12) for task in TASKS), (TASKS[1], jnp.float32, 1e-4)],
    ids=str,
)
def test_it_is_the_derivative_of_the_definition(task, dtype, tolerance, key):
    sequences = draw(task, key, 3, dtype)
    for seed, scale in enumerate((0.0, 0.2, 1.0)):
        weights = random_weights(task.embedding_dim, seed, scale, dtype)
        assert_same(by_hand(weights, sequences), by_definition(weights, sequences), tolerance)


# the last takes eight blocks of two sequences, some of which are missing
WAYS = (loss_and_gradient, gradient._at_once, functools.partial(gradient._in_blocks, most=2000.0))


@pytest.mark.parametrize("size, way", [(1, 0), (3, 1), (10, 2)], ids=["one sequence", "all at once", "in blocks"])
def test_of_any_number_of_sequences(size, way, key):
    task = TASKS[1]
    sequences, weights = draw(task, key, size, jnp.float64), random_weights(task.embedding_dim)
    batch = gradient._Batch(sequences.tokens, sequences.positions, sequences.target)
    found = jax.jit(WAYS[way])(weights, sequences if way == 0 else batch)
    assert_same(found, by_definition(weights, sequences), 1e-12)


def test_several_runs_side_by_side(key):
    task = TASKS[1]
    sequences = [draw(task, jax.random.fold_in(key, run), 3, jnp.float64) for run in range(2)]
    weights = [random_weights(task.embedding_dim, seed=run) for run in range(2)]
    stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs) for runs in (weights, sequences)]
    together = jax.jit(jax.vmap(loss_and_gradient))(*stacked)
    for run in range(2):
        alone = by_definition(weights[run], sequences[run])
        assert_same(jax.tree.map(lambda leaf, run=run: leaf[run], together), alone, 1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_nothing_is_ever_undefined(scale, key):
    task = TASKS[2]
    sequences = draw(task, key, 3, jnp.float64)
    weights = random_weights(task.embedding_dim, scale=scale)
    with jax.debug_nans(True):
        found = by_hand(weights, sequences)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_what_diverged_is_not_hidden(key):
    task = TASKS[2]
    weights = random_weights(task.embedding_dim)
    diverged = Weights(weights.W1 * np.inf, weights.W2, weights.W3)
    assert not np.isfinite(by_hand(diverged, draw(task, key, 3, jnp.float64))[0])


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_it_lowers(platform):
    def arguments():
        vectors = jnp.zeros((512, 65, 66), jnp.float32)
        return zero_weights(66), Sequences(vectors, vectors, jnp.zeros(512, jnp.int32))

    exported = jax.export.export(by_hand, platforms=[platform])(*jax.eval_shape(arguments))
    assert exported.platforms == (platform,)
    assert "callback" not in exported.mlir_module()
    # only a CPU takes the batch in blocks
    assert ("stablehlo.while" in exported.mlir_module()) == (platform == "cpu")


# Memory of the program that takes all at once, and of the one in blocks; nothing runs.


@functools.cache
def memory(compute, pairs, dim, size):
    """Bytes beside arguments and results, and bytes of the arguments."""

    def arguments():
        vectors = jnp.zeros((size, 2 * pairs + 1, dim), jnp.float32)
        return zero_weights(dim), gradient._Batch(vectors, vectors, vectors[:, 0])

    analysis = jax.jit(compute).lower(*jax.eval_shape(arguments)).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes, analysis.argument_size_in_bytes


@pytest.mark.parametrize("compute", [gradient._at_once, gradient._in_blocks])
def test_memory_grows_like_the_attention_and_the_weights(compute):
    for pairs, size in ((8, 64), (32, 512)):
        length, dim = 2 * pairs + 1, 2 * pairs + 2
        temporary, arguments = memory(compute, pairs, dim, size)
        assert temporary <= 12 * (size * length**2 + 28 * dim**2) * 4
    # the largest at twice the width
    wide, more = memory(compute, 32, 132, 512)
    assert wide / temporary <= more / arguments


def test_blocks_need_no_more_memory_for_a_larger_batch():
    few, many = (memory(gradient._in_blocks, 32, 66, size)[0] for size in (512, 4096))
    factors = 17 * 66 * (4096 - 512) * 4  # of dW2 and dW3
    assert many - few <= 2 * factors
