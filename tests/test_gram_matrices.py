"""Gram matrices of given vectors, and the laws of those drawn without vectors."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from induction_dynamics import gram_matrices as gram_module
from induction_dynamics.gram_matrices import (
    GramMatrices,
    gram_matrices,
    orthonormal_gram_matrices,
    sample_gram_matrices,
)
from induction_dynamics.pseudo_parameters import rotation_matrix
from induction_dynamics.reduced.gram import GramLoss
from induction_dynamics.task import Task, sample_sequences

ROTATIONS = (30.0, 90.0, 137.0, 270.0, -45.0)
BATCH, SAMPLES = 20, 10_240
LEVEL = 1e-3
"""Of each test over all its statistics together; the keys are fixed."""

TASKS = (
    Task(3, 24, "isotropic", "uniform"),
    # fewer dimensions than vectors: of the positions alone, then of the tokens as well
    Task(3, 6, "isotropic", "last", 40.0),
    Task(4, 4, "isotropic", "uniform", -60.0),
    Task(2, 2, "isotropic", "last", 270.0),
    Task(1, 64, "isotropic", "uniform", 30.0),
)
COORDINATES = np.random.default_rng(7).normal(size=(3, 19))


@pytest.fixture(params=TASKS, ids=lambda task: f"{task.context_length}-{task.embedding_dim}-{task.rotation:g}")
def task(request):
    return request.param


@functools.cache
def drawn(task):
    return sample_gram_matrices(task, jax.random.key(0), SAMPLES)


@functools.cache
def of_vectors(task):
    return gram_matrices(task, sample_sequences(task, jax.random.key(1), SAMPLES, jnp.float64))


# Given vectors


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("inputs", ["orthonormal", "isotropic"])
def test_gram_matrices_are_inner_products(inputs, rotation, key):
    task = Task(3, 8, inputs, "uniform", rotation)
    sequences = sample_sequences(task, key, BATCH, jnp.float64)
    gram = gram_matrices(task, sequences)
    turned = np.asarray(rotation_matrix(8, rotation))
    for b in range(BATCH):
        t, r = np.asarray(sequences.tokens[b]), np.asarray(sequences.positions[b])
        keys, length = range(6), range(7)
        np.testing.assert_allclose(gram.tokens[b], [[t[i] @ t[j] for j in keys] for i in keys], atol=1e-14)
        np.testing.assert_allclose(gram.positions[b], [[r[i] @ r[j] for j in length] for i in length], atol=1e-14)
        turned_rows = [[r[i] @ turned @ r[j] for j in length] for i in length]
        np.testing.assert_allclose(gram.rotated[b], turned_rows, atol=1e-14)
        z = r[:, :4] + 1j * r[:, 4:]
        hermitian = np.array([[np.sum(z[i] * z[j].conj()) for j in length] for i in length])
        np.testing.assert_allclose(gram.positions[b], np.real(hermitian), atol=1e-14)
        turned_back = np.exp(-1j * math.radians(rotation)) * hermitian
        np.testing.assert_allclose(gram.rotated[b], np.real(turned_back), atol=1e-14)


def test_a_label_attends_to_its_item_by_the_sign_of_the_rotated_gram_matrix():
    gram = orthonormal_gram_matrices(Task(3))
    expected = np.zeros((7, 7))
    for k in range(3):
        expected[2 * k + 1, 2 * k], expected[2 * k, 2 * k + 1] = 1, -1
    np.testing.assert_array_equal(gram.rotated, expected)
    np.testing.assert_array_equal(gram.positions, np.eye(7))
    np.testing.assert_array_equal(gram.tokens, np.eye(6))


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("pairs, dim", [(1, 4), (3, 8)])
def test_orthonormal_gram_matrices_are_those_of_every_sequence(pairs, dim, rotation, key):
    task = Task(pairs, dim, query="uniform", rotation=rotation)
    samples = gram_matrices(task, sample_sequences(task, key, BATCH, jnp.float64))
    for exact, sampled in zip(orthonormal_gram_matrices(task), samples, strict=True):
        np.testing.assert_allclose(sampled, np.broadcast_to(exact, sampled.shape), atol=1e-14)


def test_sampled_orthonormal_gram_matrices_are_all_the_same(key):
    gram = sample_gram_matrices(Task(3), key, 70)
    assert [matrix.shape for matrix in gram] == [(70, 6, 6), (70, 7, 7), (70, 7, 7)]
    for exact, sampled in zip(orthonormal_gram_matrices(Task(3)), gram, strict=True):
        np.testing.assert_array_equal(sampled, np.broadcast_to(exact, sampled.shape))


# Drawn without vectors: what holds of each


@pytest.mark.parametrize("samples", [1, 70])
def test_number_of_samples_and_their_key(samples, key):
    task = Task(2, 6, "isotropic", rotation=30.0)
    gram, again, other = (sample_gram_matrices(task, which, samples) for which in (key, key, jax.random.key(1)))
    assert [matrix.shape for matrix in gram] == [(samples, 4, 4), (samples, 5, 5), (samples, 5, 5)]
    for first, second, third in zip(gram, again, other, strict=True):
        assert first.dtype == jnp.float64
        np.testing.assert_array_equal(first, second)
        assert not np.any(np.all(first == third, axis=(1, 2)))
        assert len(np.unique(np.asarray(first), axis=0)) == samples


def close(first, second):
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-13)


def test_structure_is_that_of_vectors(task):
    """A label's vector is M times its item's, and M keeps inner products."""
    tokens, positions, rotated = (np.asarray(matrix) for matrix in drawn(task))
    items, labels = np.arange(0, 2 * task.context_length, 2), np.arange(1, 2 * task.context_length, 2)
    query = 2 * task.context_length
    close(tokens.mT, tokens)
    close(positions.mT, positions)
    close(positions[:, labels][:, :, labels], positions[:, items][:, :, items])
    close(rotated[:, labels], positions[:, items])
    close(rotated[:, :, items], positions[:, :, labels])
    close(rotated[:, query, items], positions[:, query, labels])
    close(rotated[:, labels, query], positions[:, items, query])
    close(rotated + rotated.mT, 2 * math.cos(task.angle) * positions)
    if task.right_angled:
        close(rotated.mT, -rotated)


def test_rank_is_that_of_as_many_vectors(task):
    """Tokens are independent; an item and its label span z's complex line, of two real dimensions."""
    tokens, positions, _ = drawn(task)
    vectors = {"tokens": (tokens, 2 * task.context_length), "positions": (positions, 2 * task.context_length + 1)}
    for matrices, count in vectors.values():
        values = np.linalg.eigvalsh(matrices)
        largest = values[:, -1:]
        rank = min(count, task.embedding_dim)
        assert np.all(values > -1e-13 * largest)
        assert np.all(values[:, : count - rank] < 1e-13 * largest)
        assert np.all(values[:, count - rank :] > 1e-13 * largest)


def test_large_widths_are_drawn_and_near_to_orthonormal():
    """Each entry's deviation from the orthonormal one has a variance of order 1/D: the slope of its root is -1/2."""
    widths, found = (10**2, 10**4, 10**6, 10**8), []
    for width in widths:
        task = Task(2, width, "isotropic", "uniform", 50.0)
        gram, limit = sample_gram_matrices(task, jax.random.key(2), 512), orthonormal_gram_matrices(task)
        off = [np.asarray(one) - np.asarray(other) for one, other in zip(gram, limit, strict=True)]
        found.append([math.sqrt(np.mean(matrix**2)) for matrix in off])
        # E |S_t - I|^2, the mean over entries
        squares = np.mean(off[0] ** 2, axis=(1, 2)) * width
        assert abs(squares.mean() - 5 / 4) < 4 * squares.std(ddof=1) / math.sqrt(512)
    for roots in np.array(found).T:
        slope, _ = np.polyfit(np.log(widths), np.log(roots), 1)
        assert slope == pytest.approx(-0.5, abs=0.005)


# Drawn without vectors: their law


def moments_off(task, gram):
    """By how many standard errors each mean and covariance of entries misses its exact value.

    With p_a of independent Normal(0, 1/D) entries and Q, R in span{I, J} rotations by angles u, v,

        E p_a . Q p_b = [a = b] cos u,
        Cov(p_a . Q p_b, p_c . R p_d) = ([a = c][b = d] cos(u - v) + [a = d][b = c] cos(u + v)) / D,

    and all of S_t, S_r and S_m are such, tokens with u = 0 and independent of positions.
    """
    length = 2 * task.context_length + 1
    token, place = np.arange(length - 1), np.arange(length)
    base, turned = 1000 + place // 2, np.where(place < length - 1, place % 2, 0)
    angle = task.angle * (turned[None, :] - turned[:, None])
    first = np.concatenate([np.repeat(token, length - 1), *2 * [np.repeat(base, length)]])
    second = np.concatenate([np.tile(token, length - 1), *2 * [np.tile(base, length)]])
    angles = np.concatenate([np.zeros((length - 1) ** 2), angle.ravel(), angle.ravel() + task.angle])

    entries = np.concatenate([np.asarray(matrix).reshape(SAMPLES, -1) for matrix in gram], axis=1)
    centred = entries - (first == second) * np.cos(angles)

    def same(one, other):
        return one[:, None] == other[None, :]

    covariance = (
        same(first, first) * same(second, second) * np.cos(angles[:, None] - angles[None, :])
        + same(first, second) * same(second, first) * np.cos(angles[:, None] + angles[None, :])
    ) / task.embedding_dim
    products, squares = (power.T @ power / SAMPLES for power in (centred, centred**2))

    def off(missed, variance):
        return np.abs(missed) / np.sqrt(variance / SAMPLES + 1e-24)

    return {
        "means": off(centred.mean(axis=0), np.diag(covariance)),
        "covariances": off(products - covariance, np.maximum(squares - products**2, 0)),
    }


def moments_bound(count):
    """Of `count` numbers of standard errors, by the level of all together."""
    return -stats.norm.ppf(LEVEL / 2 / count)


@functools.partial(jax.jit, static_argnames="query")
def losses(gram, query):
    """Of each sample at each of the coordinates."""
    at = jnp.asarray(COORDINATES)
    return jax.lax.map(
        lambda one: jax.vmap(GramLoss(jax.tree.map(lambda matrix: matrix[None], one), query))(at), gram, batch_size=1000
    )


def statistics(task, gram):
    """Numbers of each sample that the two ways of drawing must give the same laws; names to arrays."""
    tokens, positions, rotated = (np.asarray(matrix) for matrix in gram)
    real, mixed = positions[:, ::2, ::2], rotated[:, ::2, ::2]
    bases = real + 1j * (mixed - math.cos(task.angle) * real) / math.sin(task.angle)
    found = {
        "token norm": tokens[:, -1, -1],
        "tokens": tokens[:, 0, -1],
        "item norm": positions[:, -3, -3],
        "item and its label": positions[:, 0, 1],
        "label and query": positions[:, 1, -1],
        "item to its label": rotated[:, 0, 1],
        "item to query": rotated[:, 0, -1],
        "real and imaginary": positions[:, 0, -1] * rotated[:, 0, -1],
        "tokens and positions": tokens[:, 0, 1] * positions[:, 0, -1],
    }
    for name, matrices, rank in (("S_t", tokens, task.embedding_dim), ("H", bases, task.embedding_dim // 2)):
        values = np.linalg.eigvalsh(matrices)
        found |= {
            f"largest eigenvalue of {name}": values[:, -1],
            f"smallest eigenvalue of {name} but zeros": values[:, -min(rank, values.shape[1])],
            f"trace of {name}": values.sum(axis=1),
        }
        if matrices.shape[1] > 2:
            around = matrices[:, 0, 1] * matrices[:, 1, 2] * matrices[:, 2, 0]
            found |= {f"around three of {name}": np.real(around), f"around three of {name}, imaginary": np.imag(around)}
    for place, values in enumerate(np.asarray(losses(gram, task.query)).T):
        found[f"loss {place}"] = values
    # what has no law but that of rounding
    return {name: np.round(values, 9) for name, values in found.items()}


def smallest_level(first, second):
    """The level at which the Kolmogorov-Smirnov tests of all statistics together would tell the two laws apart."""
    tests: list[Any] = [stats.ks_2samp(first[name], second[name]) for name in first]
    return min(test.pvalue for test in tests) * len(tests)


def test_means_and_covariances_of_all_entries(task):
    for given in (drawn(task), of_vectors(task)):
        for off in moments_off(task, given).values():
            assert off.max() < moments_bound(off.size)


def test_laws_are_those_of_vectors(task):
    assert smallest_level(statistics(task, drawn(task)), statistics(task, of_vectors(task))) > LEVEL


def test_mean_and_variance_of_the_loss_are_those_of_vectors(task):
    one, other = (np.asarray(losses(gram, task.query)) for gram in (drawn(task), of_vectors(task)))
    centre = (one.mean(axis=0) + other.mean(axis=0)) / 2
    for power in (1, 2):
        first, second = (one - centre) ** power, (other - centre) ** power
        error = np.sqrt((first.var(axis=0) + second.var(axis=0)) / SAMPLES)
        assert np.all(np.abs(first.mean(axis=0) - second.mean(axis=0)) < moments_bound(6) * error)


@pytest.fixture
def traced_anew():
    """Sampling follows what is patched, and what was compiled meanwhile is forgotten."""
    compiled: Any = gram_module._sample_isotropic
    compiled.clear_cache()
    yield
    compiled.clear_cache()


def forget_degrees(monkeypatch, task):
    """All of a diagonal with as many degrees of freedom as its first entry."""
    gamma = jax.random.gamma
    monkeypatch.setattr(jax.random, "gamma", lambda key, shapes: gamma(key, jnp.full_like(shapes, shapes[0])))
    return sample_gram_matrices(task, jax.random.key(0), SAMPLES)


def forget_what_is_below(monkeypatch, task):
    """Vectors that are orthogonal, though of the right lengths."""
    monkeypatch.setattr(jax.random, "normal", lambda key, shape, dtype: jnp.zeros(shape, dtype))
    return sample_gram_matrices(task, jax.random.key(0), SAMPLES)


def take_the_other_sign(monkeypatch, task):
    """S_m = Re(e^{i phi} H)."""
    gram = drawn(task)
    return gram._replace(rotated=gram.rotated.mT)


def take_another_width(monkeypatch, task):
    """Positions of four dimensions less."""
    narrow = Task(task.context_length, task.embedding_dim - 4, "isotropic", task.query, task.rotation)
    return GramMatrices(drawn(task).tokens, *drawn(narrow)[1:])


@pytest.mark.parametrize("wrong", [forget_degrees, forget_what_is_below, take_the_other_sign, take_another_width])
def test_a_wrong_law_is_found(wrong, monkeypatch, traced_anew):
    task = TASKS[0]
    with monkeypatch.context() as patch:
        gram = wrong(patch, task)
    assert max(off.max() / moments_bound(off.size) for off in moments_off(task, gram).values()) > 2
    assert smallest_level(statistics(task, gram), statistics(task, of_vectors(task))) < 1e-9
