"""The population gradient stays in the span of the 19 basis matrices, and within it is the reduced loss's gradient.

Gradients of finite batches miss the span by sampling noise, which falls as 1/sqrt(samples); a wrongly drawn frame
leaves a part that does not.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments.benchmarks.frame_draws import qr_frames, qr_unitary_frames
from induction_dynamics import task as task_module
from induction_dynamics.gram_matrices import sample_gram_matrices
from induction_dynamics.pseudo_parameters import lift, metric, project
from induction_dynamics.reduced.gram import GramLoss
from induction_dynamics.task import Task, sample_sequences
from induction_dynamics.transformer.disentangled import batch_loss

CHUNK = 128
SIZES = tuple(2**power for power in range(1, 10))
"""Chunks: 2^8 .. 2^16 samples."""
FEW = 65
INPUTS = ("orthonormal", "isotropic")
COORDINATES = jnp.asarray(0.7 * np.random.default_rng(12).normal(size=(3, 19)))


@pytest.fixture(params=INPUTS)
def inputs(request):
    return request.param


@pytest.fixture
def wrong_frames(monkeypatch):
    """Orthonormal frames as the QR factorisation leaves them."""
    monkeypatch.setattr(task_module, "haar_frames", functools.partial(qr_frames, corrected=False))
    monkeypatch.setattr(task_module, "haar_unitary_frames", functools.partial(qr_unitary_frames, corrected=False))
    chunk_gradients.cache_clear()
    yield
    chunk_gradients.cache_clear()


@functools.cache
def chunk_gradients(task):
    """A function (coordinates, key, chunks) -> gradients of batches of CHUNK samples, leading axis: chunks."""

    def gradient(weights, key):
        return jax.grad(batch_loss)(weights, sample_sequences(task, key, CHUNK, jnp.float64))

    compiled = jax.jit(lambda weights, keys: jax.lax.map(lambda key: gradient(weights, key), keys))
    return lambda coordinates, key, chunks: compiled(lift(coordinates, task), jax.random.split(key, chunks))


def missed_and_whole(gradients, sizes, rotation=90.0):
    """Norms of what the projection misses and of all, of mean gradients over disjoint runs of chunks of given sizes."""
    found, start = [], 0
    for size in sizes:
        mean = jax.tree.map(lambda leaf, first=start, end=start + size: leaf[first:end].mean(axis=0), gradients)
        whole = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(mean)))
        found.append((whole * project(mean, rotation).off_subspace.total, whole))
        start += size
    return np.array(found).T


@pytest.mark.parametrize(
    "query, rotation, copies",
    [("uniform", 90.0, 1), ("last", 40.0, 2), pytest.param("uniform", 90.0, 3, marks=pytest.mark.slow)],
)
def test_off_subspace_gradient_falls_with_samples(inputs, query, rotation, copies, key):
    gradients = chunk_gradients(Task(3, 8, inputs, query, rotation, copies))(COORDINATES[0], key, FEW)
    (few, many), _ = missed_and_whole(gradients, (1, 64), rotation)
    assert 8 / 1.3 < few / many < 8 * 1.3


def test_off_subspace_gradient_of_wrong_frames_does_not(wrong_frames, key):
    gradients = chunk_gradients(Task(3, 8, query="uniform"))(COORDINATES[0], key, FEW)
    (_, many), (_, whole) = missed_and_whole(gradients, (1, 64))
    assert many > 0.2 * whole


def slope_interval(missed):
    """99 % t-interval of the slope of log norm against log samples."""
    fit: Any = stats.linregress(np.log(SIZES), np.log(missed))
    half = stats.t.ppf(0.995, len(SIZES) - 2) * fit.stderr
    return fit.slope - half, fit.slope + half


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("query, rotation", [("uniform", 90.0), ("last", 90.0), ("uniform", 40.0)])
def test_rate_of_the_off_subspace_gradient(inputs, query, rotation, which, key):
    gradients = chunk_gradients(Task(3, 8, inputs, query, rotation))(COORDINATES[which], key, sum(SIZES))
    missed, _ = missed_and_whole(gradients, SIZES, rotation)
    low, high = slope_interval(missed)
    assert low < -0.5 < high
    assert high - low < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("query", ["last", "uniform"])
def test_wrong_frames_have_no_such_rate(wrong_frames, query, key):
    gradients = chunk_gradients(Task(3, 8, query=query))(COORDINATES[0], key, sum(SIZES))
    missed, whole = missed_and_whole(gradients, SIZES)
    assert slope_interval(missed)[0] > -0.25
    assert missed[-1] > 0.2 * whole[-1]


def mean_and_error(values):
    """Mean over the first axis, and its standard error."""
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize("query, rotation", [("uniform", 90.0), pytest.param("last", 40.0, marks=pytest.mark.slow)])
def test_reduced_gradient_is_the_projected_one(query, rotation, key):
    """d loss/d theta_k = <B_k, grad_W loss>, that is D times the metric times the projection, in expectation."""
    task = Task(3, 8, "isotropic", query, rotation)
    full_key, gram_key = jax.random.split(key)
    gradients = chunk_gradients(task)
    samples = sample_gram_matrices(task, gram_key, 2048)

    @jax.jit
    def reduced_gradients(point):
        def of_one(gram):
            return jax.grad(GramLoss(jax.tree.map(lambda matrix: matrix[None], gram), query))(point)

        return jax.vmap(of_one)(samples)

    for point in COORDINATES:
        batches = gradients(point, full_key, FEW)
        projected = jax.vmap(lambda gradient: project(gradient, rotation).coordinates)(batches)
        full, full_error = mean_and_error(task.embedding_dim * np.asarray(projected) @ metric(rotation))
        reduced, reduced_error = mean_and_error(np.asarray(reduced_gradients(point)))
        error = np.hypot(full_error, reduced_error)
        assert np.all(np.abs(full - reduced) < 4 * error)
        # the comparison has teeth: most derivatives are several errors away from 0
        assert np.median(np.abs(full) / error) > 3
