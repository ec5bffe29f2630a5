"""The task: what it refuses, how a sequence is laid out, and the laws that its vectors are drawn from."""

import math
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.frame_draws import rival_sequences
from induction_dynamics.errors import ArgumentError
from induction_dynamics.task import Task, sample_sequences

# three pairs and width 8 throughout, in few batch sizes, so that little is compiled
BATCH, SAMPLES = 20, 20_000

PAIRS = "a whole number of pairs, at least 1"
ANGLE = "a finite angle in degrees, at least 0.06 away from any multiple of 180"
ORTHONORMAL_8 = "an even whole number, at least 8 (2N + 2, for N = 3 pairs of orthonormal inputs)"


def rotation_matrix(dim, rotation):
    half = dim // 2
    complex_structure = np.zeros((dim, dim))
    for i in range(half):
        complex_structure[i, half + i] = -1
        complex_structure[half + i, i] = 1
    return math.cos(math.radians(rotation)) * np.eye(dim) + math.sin(math.radians(rotation)) * complex_structure


@pytest.mark.parametrize(
    "argument, value, allowed",
    [
        *[("context_length", value, PAIRS) for value in (0, -3, True)],
        *[("inputs", value, "one of orthonormal, isotropic") for value in ("gaussian", "")],
        *[("query", value, "one of last, uniform") for value in ("first", "Last")],
        *[("rotation", value, ANGLE) for value in (0.0, 180.0, -180.0, 360.0, 0.05, 179.95, math.nan, math.inf)],
        *[("embedding_dim", value, ORTHONORMAL_8) for value in (6, 9, -8, True)],
    ],
)
def test_refuses(argument, value, allowed):
    message = f"{argument} must be {allowed}; got {value!r}."
    with pytest.raises(ArgumentError, match=re.escape(message)) as error:
        Task(**{"context_length": 3, argument: value})
    assert (error.value.argument, error.value.allowed) == (argument, allowed)
    assert isinstance(error.value, ValueError)


def test_refuses_other_types_where_none_are_checked():
    """A user's run, without the type checks that the tests switch on."""
    given = [
        ("context_length", PAIRS, (2.5, "4", math.nan, math.inf, None)),
        ("embedding_dim", ORTHONORMAL_8, (8.0, "8")),
    ]
    cases = [(name, value, allowed) for name, allowed, values in given for value in values]
    code = "\n".join(
        [
            "from math import inf, nan",
            "from induction_dynamics.task import Task",
            f"for name, value, _ in {cases!r}:",
            "    try:",
            "        Task(**{'context_length': 3, name: value})",
            "    except ValueError as error:",
            "        print(error)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [f"{name} must be {allowed}; got {value!r}." for name, value, allowed in cases]
    assert done.stderr == ""


@pytest.mark.parametrize("dim", [1, 3, -2])
def test_refuses_a_width_of_isotropic_inputs(dim):
    with pytest.raises(ArgumentError, match=f"embedding_dim must be an even whole number, at least 2; got {dim}."):
        Task(3, dim, "isotropic")


def test_takes_what_is_just_allowed():
    assert Task(1, 4).embedding_dim == 4
    assert Task(3, 2, "isotropic").embedding_dim == 2
    assert Task(3, rotation=0.06).rotation == 0.06
    assert Task(3, rotation=-179.94).rotation == -179.94


@pytest.mark.parametrize("pairs", [1, 2, 7])
def test_default_widths_and_length(pairs):
    assert Task(pairs).embedding_dim == 2 * pairs + 2
    assert Task(pairs, inputs="isotropic").embedding_dim == 4 * pairs
    assert Task(pairs).sequence_length == 2 * pairs + 1
    assert Task(pairs, 40).embedding_dim == 40
    assert (Task(pairs).inputs, Task(pairs).query, Task(pairs).rotation) == ("orthonormal", "last", 90.0)
    assert Task(pairs, rotation=60.0).angle == pytest.approx(math.pi / 3)


@pytest.mark.parametrize("query", ["last", "uniform"])
@pytest.mark.parametrize(
    "inputs, rotation, dtype",
    [
        ("orthonormal", 90.0, jnp.float32),
        ("orthonormal", 137.0, jnp.float64),
        ("isotropic", 90.0, jnp.float64),
        ("isotropic", 137.0, jnp.float64),
    ],
)
def test_layout_is_the_table(inputs, query, rotation, dtype, key):
    pairs, dim, batch = 3, 8, BATCH
    task = Task(pairs, dim, inputs, query, rotation)
    sequences = sample_sequences(task, key, batch, dtype)
    tokens, positions, queried, target = map(np.asarray, (*sequences, sequences.target))
    assert tokens.shape == positions.shape == (batch, 7, dim)
    assert tokens.dtype == positions.dtype == target.dtype == dtype

    turned = rotation_matrix(dim, rotation)
    expected_tokens, expected_positions = np.full_like(tokens, np.nan), np.full_like(positions, np.nan)
    expected_target = np.full_like(target, np.nan)
    for b in range(batch):
        q = queried[b] + 1
        x = {k: tokens[b, 2 * k - 2] for k in range(1, pairs + 1)}
        y = {k: tokens[b, 2 * k - 1] for k in range(1, pairs + 1)}
        p = {k: positions[b, 2 * k - 2] for k in range(1, pairs + 2)}
        for k in range(1, pairs + 1):
            expected_tokens[b, 2 * k - 1 - 1], expected_positions[b, 2 * k - 1 - 1] = x[k], p[k]
            expected_tokens[b, 2 * k - 1], expected_positions[b, 2 * k - 1] = y[k], turned @ p[k]
        expected_tokens[b, 2 * pairs], expected_positions[b, 2 * pairs] = x[q], p[pairs + 1]
        expected_target[b] = y[q]
    np.testing.assert_array_equal(tokens, expected_tokens)
    np.testing.assert_allclose(positions, expected_positions, atol=10 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(target, expected_target)


def test_draws_are_repeatable_and_independent(key):
    task = Task(3, 8, "isotropic", "uniform")
    again = [sample_sequences(task, which, BATCH) for which in (key, key, jax.random.key(1))]
    for first, second, other in zip(*again, strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, other)


def test_query_laws(key):
    pairs = 3
    last = sample_sequences(Task(pairs, 8, "isotropic", "last"), key, BATCH, jnp.float64).query
    np.testing.assert_array_equal(last, pairs - 1)
    queried = sample_sequences(Task(pairs, 8, "isotropic", "uniform"), key, SAMPLES, jnp.float64).query
    counts = np.bincount(queried, minlength=pairs)
    assert counts.size == pairs
    error = math.sqrt(SAMPLES * (1 / pairs) * (1 - 1 / pairs))
    assert np.all(np.abs(counts - SAMPLES / pairs) <= 4 * error)


@pytest.mark.parametrize("pairs, dim", [(1, 4), (3, 8)])
def test_orthonormal_frames(pairs, dim, key):
    sequences = sample_sequences(Task(pairs, dim), key, BATCH, jnp.float64)
    tokens = sequences.tokens[:, :-1]
    np.testing.assert_allclose(
        tokens @ tokens.mT, np.broadcast_to(np.eye(2 * pairs), (BATCH, 2 * pairs, 2 * pairs)), atol=1e-14
    )
    base = np.asarray(sequences.positions[:, ::2])
    both = np.concatenate([base, base @ rotation_matrix(dim, 90.0).T], axis=1)
    identity = np.eye(2 * pairs + 2)
    np.testing.assert_allclose(
        both @ both.swapaxes(1, 2), np.broadcast_to(identity, both.shape[:1] + identity.shape), atol=1e-14
    )


def standard_errors_off(moments):
    """By how many standard errors the mean of each statistic misses its exact value."""
    off = {}
    for name, (values, exact) in moments.items():
        values = values.reshape(len(values), -1).mean(axis=1)
        off[name] = abs(values.mean() - exact) / (values.std(ddof=1) / math.sqrt(len(values)))
    return off


def frame_moments(sequences):
    """Moments of Haar frames, tokens in R^D and positions z in C^{D/2}, with their exact values."""
    pairs, dim = 3, 8
    real = np.asarray(sequences.tokens[:, :-1])
    base = np.asarray(sequences.positions[:, ::2])
    half = dim // 2
    unitary = base[..., :half] + 1j * base[..., half:]
    trace = np.trace(real, axis1=1, axis2=2)
    return {
        "real diagonal": (np.diagonal(real, axis1=1, axis2=2), 0),
        "real first": (real, 0),
        "real second": (real[:, :1, :1] ** 2, 1 / dim),
        "real trace squared": (trace**2, 2 * pairs / dim),
        "real fourth": (real**4, 3 / (dim * (dim + 2))),
        "real two entries": (real[:, 0, 0] ** 2 * real[:, 1, 1] ** 2, (dim + 1) / ((dim - 1) * dim * (dim + 2))),
        "complex diagonal": (np.diagonal(unitary, axis1=1, axis2=2).real, 0),
        "complex second": (np.abs(unitary[:, :1, :1]) ** 2, 1 / half),
        "complex fourth": (np.abs(unitary) ** 4, 2 / (half * (half + 1))),
    }


@pytest.mark.parametrize("shared", [1, 1000])
def test_orthonormal_frames_are_haar(shared, key):
    # of groups that share a frame, one sequence each
    draw = jax.vmap(lambda key: sample_sequences(Task(3, 8), key, min(shared, 3), jnp.float64, shared))
    sequences = jax.tree.map(lambda leaf: leaf[:, -1], draw(jax.random.split(key, SAMPLES)))
    assert max(standard_errors_off(frame_moments(sequences)).values()) < 4


def test_frames_without_the_phase_correction_are_not_haar(key):
    off = standard_errors_off(frame_moments(rival_sequences(Task(3, 8), key, SAMPLES, jnp.float64, corrected=False)))
    assert min(off["real diagonal"], off["complex diagonal"]) > 20


def test_isotropic_vectors_are_normal(key):
    dim = 8
    sequences = sample_sequences(Task(3, dim, "isotropic", rotation=50.0), key, SAMPLES, jnp.float64)
    tokens = np.asarray(sequences.tokens[:, :-1])
    positions = np.asarray(sequences.positions[:, ::2])
    everything = np.concatenate([tokens, positions], axis=1)
    first, second = np.triu_indices(everything.shape[1], 1)
    products = (everything[:, first] * everything[:, second]).sum(axis=-1)
    moments = {
        "first": (everything, 0),
        "second": (everything**2, 1 / dim),
        "fourth": (everything**4, 3 / dim**2),
        "sixth": (everything**6, 15 / dim**3),
        "between entries": (everything[..., 0] ** 2 * everything[..., 1] ** 2, 1 / dim**2),
        "between vectors": (products, 0),
        "between vectors squared": (products**2, 1 / dim),
    }
    assert max(standard_errors_off(moments).values()) < 4
