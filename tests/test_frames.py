"""Frames: orthonormal to rounding whatever is drawn, of the Haar law, and shared as they say."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from experiments.benchmarks.frame_draws import qr_frames, qr_unitary_frames
from induction_dynamics import frames
from induction_dynamics.errors import ArgumentError
from induction_dynamics.frames import haar_frames, haar_unitary_frames
from induction_dynamics.pseudo_parameters import lift, project
from induction_dynamics.task import Task, sample_sequences
from induction_dynamics.transformer.disentangled import batch_loss

SAMPLES = 20_000
TOLERANCE = {jnp.float32: 1e-5, jnp.float64: 3e-14}
REAL = [(1, 1), (2, 2), (10, 33), (32, 64)]
MORE_REAL = [(1, 2), (2, 4), (3, 3), (9, 9), (64, 64)]
UNITARY = [(1, 1), (3, 4), (17, 17)]
MORE_UNITARY = [(1, 2), (2, 2), (9, 9), (17, 32)]


def slow(*cases):
    return [pytest.param(*case, marks=pytest.mark.slow) for case in cases]


def as_complex(rows):
    half = rows.shape[-1] // 2
    rows = np.asarray(rows)
    return rows[..., :half] + 1j * rows[..., half:]


def off_orthonormal(rows):
    """By how much the inner products of frames miss those of orthonormal ones; infinite for NaN."""
    products = rows @ rows.swapaxes(-1, -2).conj()
    return np.nan_to_num(np.abs(products - np.eye(rows.shape[-2])), nan=np.inf).max()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("count, dim", REAL + slow(*MORE_REAL))
def test_frames_are_orthonormal(count, dim, dtype, key):
    found = haar_frames(key, 500, count, dim, dtype)
    assert (found.shape, found.dtype) == ((500, count, dim), jnp.dtype(dtype))
    assert off_orthonormal(np.asarray(found)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("count, half", UNITARY + slow(*MORE_UNITARY))
def test_unitary_frames_are_orthonormal(count, half, dtype, key):
    found = haar_unitary_frames(key, 500, count, half, dtype)
    assert (found.shape, found.dtype) == ((500, count, 2 * half), jnp.dtype(dtype))
    assert off_orthonormal(as_complex(found)) < TOLERANCE[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("dim, samples", [(4, 100_000), (16, 100_000), (64, 20_000), (256, 200)])
def test_no_draw_is_ill_conditioned(dim, samples, dtype, key):
    """Square frames, whose Gram matrices of normal vectors would be singular to rounding many times."""
    draws = {
        "real": jax.jit(lambda key: haar_frames(key, min(samples, 1000), dim, dim, dtype)),
        "unitary": jax.jit(lambda key: haar_unitary_frames(key, min(samples, 1000), dim // 2, dim // 2, dtype)),
    }
    for number in range(-(-samples // 1000)):
        for name, draw in draws.items():
            rows = draw(jax.random.fold_in(key, number))
            rows = as_complex(rows) if name == "unitary" else np.asarray(rows)
            assert off_orthonormal(rows) < TOLERANCE[dtype]


def standard_errors_off(values, exact):
    """By how many standard errors the mean of a statistic of each sample misses its exact value, part by part."""
    values = np.asarray(values).reshape(len(values), -1).mean(axis=1)
    parts = [(values.real, np.real(exact)), (values.imag, np.imag(exact))]
    return max(abs(x.mean() - m) / max(x.std(ddof=1) / math.sqrt(len(x)), 1e-300) for x, m in parts if x.any())


def real_moments(q):
    """Statistics of frames of at least two vectors in R^d, with their exact means."""
    count, d = q.shape[1:]
    return {
        "first": (q, 0),
        "corner": (q[:, 0, 0], 0),
        "diagonal": (np.diagonal(q, axis1=1, axis2=2), 0),
        "last diagonal": (q[:, -1, count - 1], 0),
        "second": (q[:, 0, 0] ** 2, 1 / d),
        "last second": (q[:, -1, -1] ** 2, 1 / d),
        "covariance": (q[:, 0, 0] * q[:, -1, -1], 0),
        "fourth": (q**4, 3 / (d * (d + 2))),
        "last fourth": (q[:, -1, 0] ** 4, 3 / (d * (d + 2))),
        "same row": (q[:, -1, 0] ** 2 * q[:, -1, 1] ** 2, 1 / (d * (d + 2))),
        "elsewhere": (q[:, 0, 0] ** 2 * q[:, -1, 1] ** 2, (d + 1) / ((d - 1) * d * (d + 2))),
        "square of four": (
            q[:, 0, 0] * q[:, 0, 1] * q[:, -1, 0] * q[:, -1, 1],
            -1 / ((d - 1) * d * (d + 2)),
        ),
    }


def unitary_moments(z):
    """Statistics of frames of at least two vectors in C^d, with their exact means."""
    count, d = z.shape[1:]
    return {
        "first": (z, 0),
        "diagonal": (np.diagonal(z, axis1=1, axis2=2), 0),
        "last diagonal": (z[:, -1, count - 1], 0),
        "squared": (z**2, 0),
        "second": (np.abs(z[:, 0, 0]) ** 2, 1 / d),
        "last second": (np.abs(z[:, -1, -1]) ** 2, 1 / d),
        "fourth": (np.abs(z) ** 4, 2 / (d * (d + 1))),
        "same row": (np.abs(z[:, -1, 0] * z[:, -1, 1]) ** 2, 1 / (d * (d + 1))),
        "elsewhere": (np.abs(z[:, 0, 0] * z[:, -1, 1]) ** 2, 1 / (d**2 - 1)),
        "square of four": (z[:, 0, 0] * z[:, -1, 1] * np.conj(z[:, 0, 1] * z[:, -1, 0]), -1 / (d * (d**2 - 1))),
    }


def members(draw, key, shared):
    """The last members of independent groups of up to three that share a frame; of all frames where none do."""
    if shared == 1:
        return np.asarray(draw(key, SAMPLES, shared=1))
    return np.asarray(draw(key, 3 * SAMPLES, shared=3))[2::3]


@pytest.mark.parametrize("shared", [1, 3])
@pytest.mark.parametrize("count, dim", [(3, 5), *slow((2, 2), (5, 5))])
def test_moments_of_frames(count, dim, shared, key):
    def draw(key, batch, shared):
        return haar_frames(key, batch, count, dim, jnp.float32, shared)

    moments = real_moments(members(draw, key, shared).astype(float))
    off = {name: standard_errors_off(*both) for name, both in moments.items()}
    assert max(off.values()) < 4.5, off


@pytest.mark.parametrize("shared", [1, 3])
@pytest.mark.parametrize("count, half", [(4, 4), *slow((2, 2), (2, 3))])
def test_moments_of_unitary_frames(count, half, shared, key):
    def draw(key, batch, shared):
        return haar_unitary_frames(key, batch, count, half, jnp.float32, shared)

    moments = unitary_moments(as_complex(members(draw, key, shared)).astype(complex))
    off = {name: standard_errors_off(*both) for name, both in moments.items()}
    assert max(off.values()) < 4.5, off


def agreement(one, other):
    """p-values of the two-sample tests of Kolmogorov and Smirnov, by statistic."""
    tests: dict[str, Any] = {name: stats.ks_2samp(one[name], other[name]) for name in one}
    return {name: test.pvalue for name, test in tests.items()}


def real_statistics(rows):
    rows = np.asarray(rows)
    return {
        "corner": rows[:, 0, 0],
        "last": rows[:, -1, -1],
        "last diagonal": rows[:, -1, rows.shape[1] - 1],
        "minor": rows[:, 0, 0] * rows[:, 1, 1] - rows[:, 0, 1] * rows[:, 1, 0],
        "trace": np.trace(rows, axis1=1, axis2=2),
    }


def unitary_statistics(rows):
    z = as_complex(rows)
    return {
        "corner": z[:, 0, 0].real,
        "phase": np.angle(z[:, 0, 0]),
        "last phase": np.angle(z[:, -1, z.shape[1] - 1]),
        "phase of the trace": np.angle(np.trace(z, axis1=1, axis2=2)),
        "trace": np.abs(np.trace(z, axis1=1, axis2=2)),
        "last": np.abs(z[:, -1, -1]),
    }


FAMILIES = {
    "real": (haar_frames, qr_frames, real_statistics),
    "unitary": (haar_unitary_frames, qr_unitary_frames, unitary_statistics),
}


@pytest.mark.parametrize("count, dim", [(4, 4), *slow((3, 6))])
@pytest.mark.parametrize("family", ["real", "unitary"])
def test_the_law_is_that_of_corrected_factorisations(family, count, dim, key):
    draw, rival, statistics = FAMILIES[family]
    ours = statistics(draw(key, SAMPLES, count, dim, jnp.float64))
    other = jax.random.key(7)
    theirs = statistics(rival(other, SAMPLES, count, dim, jnp.float64))
    wrong = statistics(rival(other, SAMPLES, count, dim, jnp.float64, corrected=False))
    assert min(agreement(ours, theirs).values()) > 1e-4
    # the same test finds frames without the correction out
    assert min(agreement(wrong, theirs).values()) < 1e-12


def test_determinants_of_square_frames(key):
    signs = np.linalg.det(np.asarray(haar_frames(key, SAMPLES, 5, 5)))
    np.testing.assert_allclose(np.abs(signs), 1, atol=1e-5)
    assert abs(signs.mean()) < 4 / math.sqrt(SAMPLES)
    phases = np.angle(np.linalg.det(as_complex(haar_unitary_frames(key, SAMPLES, 4, 4))))
    assert stats.kstest(phases, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-4


# Shared frames.


def between(rows, one, other):
    return rows[one] @ rows[other].T.conj()


@pytest.mark.parametrize("unitary", [False, True])
def test_groups_share_their_vectors(unitary, key):
    batch, shared, count = 11, 4, 5
    draw = haar_unitary_frames if unitary else haar_frames
    rows = draw(key, batch, count, 9, jnp.float64, shared)
    rows = as_complex(rows) if unitary else np.asarray(rows)
    assert rows.shape == (batch, count, 9) and off_orthonormal(rows) < 1e-13
    orders = set()
    for one in range(batch):
        for other in range(one):
            products = np.abs(between(rows, one, other))
            same = np.isclose(products, 1, atol=1e-12)
            if one // shared == other // shared:
                assert (same.sum(axis=0) == 1).all() and (same.sum(axis=1) == 1).all()
                np.testing.assert_allclose(products[~same], 0, atol=1e-12)
                orders.add(tuple(np.argmax(same, axis=1)))
                entries = between(rows, one, other)[same]
                assert len(set(np.sign(entries.real))) == 2 and (not unitary or np.abs(entries.imag).max() > 0.1)
            else:
                assert not same.any()
    assert len(orders) > 10


@pytest.mark.parametrize("draw", [haar_frames, pytest.param(haar_unitary_frames, marks=pytest.mark.slow)])
def test_sharing_with_none_is_not_sharing(draw, key):
    alone = draw(key, 6, 3, 4, jnp.float64)
    np.testing.assert_array_equal(draw(key, 6, 3, 4, jnp.float64, 1), alone)
    np.testing.assert_array_equal(draw(key, 1, 3, 4, jnp.float64, 50), alone[:1])
    everything = draw(key, 6, 3, 4, jnp.float64, 50)
    np.testing.assert_array_equal(everything, draw(key, 6, 3, 4, jnp.float64, 6))


def test_groups_are_independent_and_members_of_one_are_not(key):
    rows = np.asarray(haar_frames(key, 6 * SAMPLES, 4, 4, jnp.float32, 3)).astype(float).reshape(SAMPLES, 6, 4, 4)
    projector = rows[:, :, :2].swapaxes(2, 3) @ rows[:, :, :2]
    overlap = np.einsum("sgij,shij->sgh", projector, projector)
    # onto two random planes of R^4: E tr(P Q) = 2 * 2 / 4
    assert standard_errors_off(overlap[:, 0, 3], 1) < 4
    assert standard_errors_off(overlap[:, 2, 3], 1) < 4
    # the same plane, that of the other two vectors, or one in common: 1/6, 1/6 and 4/6
    np.testing.assert_allclose(
        np.bincount(np.rint(overlap[:, 0, 2]).astype(int)) / SAMPLES, [1 / 6, 4 / 6, 1 / 6], atol=0.015
    )


@pytest.mark.parametrize("shared", [0, -1])
def test_refuses_to_share_with_fewer_than_none(shared, key):
    with pytest.raises(ArgumentError, match=f"shared must be a whole number, at least 1; got {shared}"):
        sample_sequences(Task(2), key, 4, shared=shared)


@pytest.mark.parametrize("shared", [*slow((1,)), 16])
def test_off_subspace_gradient_falls_with_samples(shared, key):
    task, coordinates = Task(3, 8, query="uniform"), jnp.asarray(0.7 * np.random.default_rng(12).normal(size=19))
    sizes = (1, 4, 16, 64)
    weights, chunk = lift(coordinates, task), 128

    @jax.jit
    def gradients(keys):
        def one(key):
            return jax.value_and_grad(batch_loss)(weights, sample_sequences(task, key, chunk, jnp.float64, shared))[1]

        return jax.lax.map(one, keys)

    repeats = 6
    found = gradients(jax.random.split(key, repeats * sum(sizes)))
    missed, start = [], 0
    for size in sizes:
        squares = []
        for _ in range(repeats):
            mean = jax.tree.map(lambda leaf, first=start, end=start + size: leaf[first:end].mean(axis=0), found)
            whole = sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(mean))
            squares.append(whole * project(mean).off_subspace.total ** 2)
            start += size
        missed.append(math.sqrt(np.mean(squares)))
    slope = np.polyfit(np.log(sizes), np.log(missed), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.1)


# How they are computed.


@pytest.mark.parametrize("platform", ["cuda", "tpu", "cpu"])
@pytest.mark.parametrize("shared", [1, 4])
def test_draws_lower_without_calls_of_libraries(platform, shared, key):
    def draw(key):
        return sample_sequences(Task(4, query="uniform"), key, 8, jnp.float32, shared)

    exported = jax.export.export(jax.jit(draw), platforms=[platform])(key)
    text = exported.mlir_module()
    assert exported.platforms == (platform,) and "callback" not in text
    for name in ("lapack", "geqrf", "householder", "potrf", "cholesky", "trsm", "triangular_solve"):
        assert name not in text.lower()


@pytest.mark.parametrize("draw", [haar_frames, haar_unitary_frames])
def test_a_sequence_does_not_depend_on_the_others(draw, key):
    many = draw(key, 40, 5, 6, jnp.float64)
    np.testing.assert_allclose(draw(key, 3, 5, 6, jnp.float64), many[:3], atol=1e-14)
    assert len(np.unique(np.asarray(many)[:, 0, 0])) == 40


@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("draw", [haar_frames, haar_unitary_frames])
def test_draws_can_be_mapped(draw, shared, key):
    keys = jax.random.split(key, 3)
    mapped = jax.vmap(lambda key: draw(key, 4, 3, 4, jnp.float64, shared))(keys)
    for one, each in zip(keys, mapped, strict=True):
        np.testing.assert_allclose(draw(one, 4, 3, 4, jnp.float64, shared), each, atol=1e-14)


def test_words_are_those_of_jax(key):
    counters = jnp.arange(24, dtype=jnp.uint32)
    ours = jnp.concatenate(frames._threefry(key, counters[:12], counters[12:]))
    np.testing.assert_array_equal(ours, threefry_2x32(jax.random.key_data(key), counters))


def test_words_of_all_places_differ(key):
    words = [frames._words(key, (7, 5, 6), number) for number in range(2)]
    both = np.asarray(words, np.uint64).transpose(0, 2, 3, 4, 1).reshape(-1, 2)
    assert len(np.unique(both, axis=0)) == 2 * 7 * 5 * 6


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_numbers_are_normal(dtype, key):
    keep = np.ones((20, 100), bool)
    normal = functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))(
        lambda key, batch, count, width, dtype: frames._normals(key, batch, count, width, dtype, keep)
    )
    drawn = np.asarray(normal(key, 1000, 20, 100, dtype)).astype(float).ravel()
    assert stats.kstest(drawn, stats.norm.cdf).pvalue > 1e-4 and (drawn != 0).all()
    for power in range(1, 9):
        exact = 0 if power % 2 else math.prod(range(power - 1, 0, -2))
        assert standard_errors_off(drawn**power, exact) < 4.5
    for threshold in (3.0, 4.0):
        expected = 2 * stats.norm.sf(threshold) * drawn.size
        assert abs((np.abs(drawn) > threshold).sum() - expected) < 4.5 * math.sqrt(expected)
    neighbours = drawn[1:] * drawn[:-1]
    assert standard_errors_off(neighbours, 0) < 4.5


def test_the_tangent():
    place = np.linspace(0, 1, 10_001)
    polynomial = place * np.polynomial.polynomial.polyval(place**2, frames._TANGENT)
    np.testing.assert_allclose(polynomial, np.tan(np.pi / 8 * place), atol=1e-9)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_no_number_is_zero(dtype):
    """A vector of zeros has no direction: whatever the words, also at the ends of their range, numbers are not 0."""
    ends = jnp.asarray([0, 1, 2**31 - 1, 2**31, 2**32 - 1], jnp.uint32)
    uniform = frames._between(ends, ends if dtype == jnp.float64 else None, dtype)
    assert (uniform > 0).all() and (uniform < 1).all() and (jnp.log(uniform) < 0).all()
    part = frames._between(jnp.arange(2**23, dtype=jnp.uint32) << np.uint32(9), None, jnp.float32).astype(dtype)
    part = jnp.concatenate([part, 1 - jnp.asarray(2.0 ** -np.arange(2, 53), dtype)])
    above, below = jax.jit(frames._cosine)(part)
    found, epsilon = np.asarray(above / below)[np.asarray(part) < 1], np.finfo(dtype).eps
    assert (found > 0).all()
    exact = np.cos(np.pi / 2 * np.asarray(part).astype(float))[np.asarray(part) < 1]
    np.testing.assert_allclose(found, exact, atol=4 * epsilon)
