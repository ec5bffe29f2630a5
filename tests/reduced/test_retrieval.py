"""Layer 2 as a modern Hopfield network: the closed form beside the full model, an explicit update, and its limits."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES, lift
from induction_dynamics.reduced.loss import reduced_loss
from induction_dynamics.reduced.retrieval import (
    failing_length,
    limiting_lengths,
    mean_retrieval,
    retrieval_weights,
)
from induction_dynamics.task import Sequences, Task, sample_sequences
from induction_dynamics.transformer.disentangled import forward

DIM = 18
POINTS = ((0.0, 0.0), (0.7, 1.3), (4.0, 6.0), (-1.5, 3.0), (3.0, -2.0), (9.0, 12.0))


def theta_of(alpha, beta, gamma=1.0):
    theta = np.zeros(19)
    theta[[COORDINATES.index(name) for name in CIRCUIT]] = alpha, beta, gamma
    return jnp.asarray(theta)


def asked_for_each(pairs):
    """One context, asked for each of its pairs in turn."""
    drawn = sample_sequences(Task(pairs, DIM), jax.random.key(pairs), 1, dtype=jnp.float64)
    tokens = jnp.repeat(drawn.tokens, pairs, axis=0)
    tokens = tokens.at[:, -1].set(tokens[:, 0:-1:2][jnp.arange(pairs), jnp.arange(pairs)])
    return Sequences(tokens, jnp.repeat(drawn.positions, pairs, axis=0), jnp.arange(pairs))


@pytest.mark.parametrize("pairs", range(1, 9))
def test_it_is_what_the_full_model_attends_to_the_right_label(pairs):
    sequences, run = asked_for_each(pairs), jax.jit(forward)
    for alpha, beta in POINTS:
        attention = np.asarray(run(lift(theta_of(alpha, beta), Task(pairs, DIM)), sequences).attention_2)
        right = attention[np.arange(pairs), 2 * np.arange(pairs) + 1]
        assert np.max(np.abs(retrieval_weights(alpha, beta, pairs) - right)) < 1e-12
        assert retrieval_weights(alpha, beta, pairs, "last") == pytest.approx(right[-1:], abs=1e-12)
        assert mean_retrieval(alpha, beta, pairs) == pytest.approx(np.mean(right), abs=1e-12)
        assert mean_retrieval(alpha, beta, pairs, "last") == pytest.approx(right[-1], abs=1e-12)


def test_it_is_one_update_of_a_hopfield_network():
    """Patterns A1 t and state x_q; the update of the energy, and what goes out, from vectors."""
    pairs, (alpha, beta, gamma) = 5, (2.0, 4.0, 1.7)
    sequences = asked_for_each(pairs)
    output = jax.jit(forward)(lift(theta_of(alpha, beta, gamma), Task(pairs, DIM)), sequences)
    tokens = np.asarray(sequences.tokens[:, :-1])
    patterns = np.asarray(output.attention_1)[:, :-1, :-1] @ tokens
    for q in range(pairs):
        state = np.asarray(sequences.tokens[q, -1])
        overlaps = patterns[q] @ state

        def interaction(xi, stored=patterns[q]):
            """-lse(beta, K xi), of the energy beside |xi|^2/2."""
            return -np.logaddexp.reduce(beta * stored @ xi) / beta

        shares = np.exp(beta * overlaps) / np.sum(np.exp(beta * overlaps))
        small = 1e-5 * np.eye(DIM)
        slope = [(interaction(state + e) - interaction(state - e)) / 2e-5 for e in small]
        assert np.max(np.abs(slope + shares @ patterns[q])) < 1e-9
        assert shares[2 * q + 1] == pytest.approx(retrieval_weights(alpha, beta, pairs)[q], abs=1e-12)
        # each label is put out with its own share
        assert np.max(np.abs(tokens[q] @ np.asarray(output.prediction[q]) - gamma * shares)) < 1e-12
        # the gap of overlaps: g_q at the right label, and nothing before it
        assert overlaps[2 * q + 1] == pytest.approx(math.exp(alpha) / (math.exp(alpha) + 2 * q), abs=1e-12)
        assert np.max(np.abs(overlaps[: 2 * q]), initial=0.0) < 1e-12


def test_the_loss_is_a_function_of_it():
    """With the query last, and its slope by gamma at 0 with the query uniform: minus the mean retrieval weight."""
    evaluate = eqx.filter_jit(lambda loss, theta: loss(theta))
    for pairs in (1, 3, 4096):
        loss = reduced_loss(Task(pairs, query="last"), "circuit")
        for alpha, beta in POINTS[:4]:
            b = mean_retrieval(alpha, beta, pairs, "last")
            expected = ((1 - 1.3 * b) ** 2 + (1.3 * (1 - b)) ** 2 / (2 * pairs - 1)) / 2
            assert float(evaluate(loss, theta_of(alpha, beta, 1.3))) == pytest.approx(expected, rel=1e-12)
    slope = eqx.filter_jit(jax.grad(lambda theta, loss: loss(theta)))
    slopes = slope(theta_of(3.0, 5.0, 0.0), reduced_loss(Task(100, query="uniform"), "circuit"))
    expected = -mean_retrieval(3.0, 5.0, 100)
    assert float(slopes[COORDINATES.index("gamma_3")]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("pairs", [10, 1000, 100_000])
def test_it_keeps_its_digits(pairs):
    """Beside sums in extended precision, from the first label to the last."""
    for alpha, beta in ((8.0, 30.0), (2.0, 3.0)):
        k = np.arange(1, pairs + 1, dtype=np.longdouble)
        grown = np.exp(np.longdouble(alpha))
        later = np.exp(beta / (grown + 2 * k[1:] - 2)) + np.exp(beta / (2 * k[1:] - 2))
        later = np.append(np.cumsum(later[::-1])[::-1], 0)
        right = np.exp(beta * grown / (grown + 2 * k - 2))
        expected = (right / (right + 2 * k - 1 + later)).astype(float)
        assert np.max(np.abs(retrieval_weights(alpha, beta, pairs) / expected - 1)) < 1e-9


def test_nothing_overflows():
    for alpha in (-1e3, 0.0, 1e3):
        for beta in (-1e3, 0.0, 1e3):
            for pairs, query in ((1, "uniform"), (2, "uniform"), (10**5, "uniform"), (1, "last"), (10**9, "last")):
                weights = retrieval_weights(alpha, beta, pairs, query)
                assert np.all((weights >= 0) & (weights <= 1))
    assert retrieval_weights(0.0, 0.0, 7) == pytest.approx(np.full(7, 1 / 14), rel=1e-12)
    assert mean_retrieval(1e3, 1e3, 10**6) == pytest.approx(1.0)
    assert mean_retrieval(0.0, 1e3, 10**9, "last") == pytest.approx(1 / (2e9), rel=1e-5)


def last_at(alpha, beta, length):
    """b of a real context length, with the query last."""
    grown = math.exp(alpha)
    return 1 / (1 + (2 * length - 1) * math.exp(-beta * grown / (grown + 2 * length - 2)))


def test_with_the_query_last_it_falls_everywhere_and_through_the_level_at_the_failing_length():
    for alpha, beta in ((0.0, 3.0), (4.0, 6.0), (9.0, 12.0), (-3.0, 9.0), (12.0, 3.0)):
        weights = [mean_retrieval(alpha, beta, n, "last") for n in range(1, 300)]
        assert np.all(np.diff(weights) < 0)
        for level in (0.1, 0.5, 0.9):
            found = failing_length(alpha, beta, "last", level)
            assert found is not None and last_at(alpha, beta, found) == pytest.approx(level, abs=1e-10)
            assert last_at(alpha, beta, found * (1 - 1e-6)) > level > last_at(alpha, beta, found * (1 + 1e-6))
            assert mean_retrieval(alpha, beta, math.ceil(found) + 1, "last") < level


def test_with_the_query_uniform_it_is_the_first_length_below():
    for alpha, beta in ((0.0, 3.0), (4.0, 6.0), (6.0, 8.0), (7.0, 20.0)):
        for level in (0.3, 0.5, 0.9):
            found = failing_length(alpha, beta, "uniform", level)
            assert found is not None
            means = [mean_retrieval(alpha, beta, n) for n in range(1, int(found) + 50)]
            below = 1 + np.flatnonzero(np.array(means) < level)
            # and it stays below, which bisection takes for granted
            assert below[0] == found and len(below) == len(means) + 1 - found


def test_the_mean_over_the_queries_rises_only_near_one():
    """Whatever rises may be below the level and above it again."""
    generator, rose = np.random.default_rng(0), []
    for _ in range(200):
        alpha, beta = float(generator.uniform(-3, 14)), float(generator.uniform(0, 40))
        means = np.array([mean_retrieval(alpha, beta, n) for n in range(1, 65)])
        rose += means[:-1][np.diff(means) > 1e-13].tolist()
    assert rose and min(rose) > 0.98
    assert mean_retrieval(20.0, 20.0, 3) > mean_retrieval(20.0, 20.0, 2)


def test_where_it_never_held_and_where_it_never_fails():
    assert failing_length(5.0, 0.0, "last") == 1.0 and failing_length(5.0, 1.0, "last", 0.9) == 1.0
    assert failing_length(5.0, 1.0, "uniform", 0.9) == 1.0
    assert failing_length(1e3, 1e3, "uniform") is None
    assert failing_length(1e4, 1e3, "last") == math.inf
    # exactly b = level with one pair
    assert failing_length(5.0, math.log(9.0), "last", 0.9) == pytest.approx(1.0, abs=1e-9)


def test_the_limits_are_bounds_and_are_reached():
    for alpha, beta in ((0.0, 2.0), (4.0, 6.0), (9.0, 12.0), (3.0, 40.0), (14.0, 4.0)):
        found, bounds = failing_length(alpha, beta, "last"), limiting_lengths(alpha, beta)
        assert found is not None and found < min(bounds) * (1 + 1e-9)
    # layer 1 perfect: what is missing is of the order of beta 2N/e^alpha
    memory = limiting_lengths(20.0, 8.0).memory
    assert memory == pytest.approx((1 + math.exp(8)) / 2)
    assert failing_length(20.0, 8.0, "last") == pytest.approx(memory, rel=1e-4)
    # contexts far beyond e^alpha: 2N ln 2N = beta e^alpha
    binding = limiting_lengths(2.0, 1e8).binding
    keys = 2 * binding - 1
    assert keys * math.log(keys) == pytest.approx(1e8 * math.exp(2), rel=1e-12)
    assert failing_length(2.0, 1e8, "last") == pytest.approx(binding, rel=1e-5)
    assert limiting_lengths(0.0, 1e4).memory == math.inf


def test_the_step_function_of_the_query_uniform():
    """N* = e^alpha (beta/ln 2N* - 1) to leading order: some 5 % at e^alpha = 400, less in longer contexts."""
    errors = []
    for alpha, beta in ((6.0, 8.0), (9.0, 12.0), (11.0, 16.0)):
        found = failing_length(alpha, beta, "uniform")
        last = failing_length(alpha, beta, "last")
        assert found is not None and last is not None
        errors.append(found / (math.exp(alpha) * (beta / math.log(2 * found) - 1)) - 1)
        assert 1.6 < found / last < 2
    assert 0.1 > abs(errors[0]) > abs(errors[1]) > abs(errors[2])


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: retrieval_weights(1.0, 1.0, 0), "context_length"),
        (lambda: retrieval_weights(1.0, 1.0, 3, "first"), "query"),
        (lambda: retrieval_weights(math.nan, 1.0, 3), "alpha"),
        (lambda: mean_retrieval(1.0, math.inf, 3), "beta"),
        (lambda: failing_length(1.0, -1.0), "beta"),
        (lambda: failing_length(1.0, 1.0, "first"), "query"),
        (lambda: failing_length(1.0, 1.0, level=1.0), "level"),
        (lambda: limiting_lengths(1.0, 0.0), "beta"),
        (lambda: limiting_lengths(math.inf, 1.0), "alpha"),
    ],
)
def test_what_is_refused(call, argument):
    with pytest.raises(ArgumentError) as refusal:
        call()
    assert refusal.value.argument == argument
