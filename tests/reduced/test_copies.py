"""Several copies of the queried pair: the exact mean over placements against each placement in turn, and the model."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.dynamics.emergence import emergence_times
from induction_dynamics.dynamics.flow import solve_flow
from induction_dynamics.errors import ArgumentError
from induction_dynamics.gram_matrices import gram_matrices, with_copies
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES, lift
from induction_dynamics.reduced.copies import CopiesLoss
from induction_dynamics.reduced.gram import GramLoss, orthonormal_gram_loss
from induction_dynamics.reduced.loss import is_sampled, reduced_loss
from induction_dynamics.task import (
    Task,
    every_placement,
    number_of_placements,
    sample_placements,
    sample_sequences,
)
from induction_dynamics.training.train import train
from induction_dynamics.transformer.disentangled import batch_loss

QUERIES = ("last", "uniform")
POINTS = ((0.0, 0.0, 0.0), (0.3, -0.5, 2.0), (1.5, 2.5, 1.2), (-2.0, 4.0, 0.7), (5.0, 9.0, 1.0), (2.0, -8.0, 3.0))
SHAPES = ((2, 2), (5, 2), (6, 3), (8, 5), (7, 7))


def embedded(alpha, beta, gamma):
    """The three among the nineteen."""
    return (
        jnp.zeros(19)
        .at[jnp.asarray([COORDINATES.index(name) for name in CIRCUIT])]
        .set(jnp.asarray([alpha, beta, gamma]))
    )


@eqx.filter_jit
def differentiated(loss, theta):
    return jax.value_and_grad(loss)(theta)


def by_hand(pairs, held, alpha, beta, gamma):
    """The loss of one placement, token by token as the docstring of the closed form has it; places from 1."""
    scores, right, asked = [], [], []
    for k in range(1, pairs + 1):
        before = sum(place < k for place in held)
        own = math.exp(alpha) / (math.exp(alpha) + 2 * k - 2)
        rest = 1 / (math.exp(alpha) + 2 * k - 2)
        scores += [beta * before / max(2 * k - 2, 1), beta * (own * (k in held) + before * rest)]
        right += [False, k in held]
        asked += [k in held, False]
    attention = np.exp(np.array(scores) - max(scores))
    attention /= attention.sum()
    right, asked = np.array(right), np.array(asked)
    others = np.square(attention[~(right | asked)]).sum()
    answered, repeated = attention[right].sum(), attention[asked].sum()
    return ((1 - gamma * answered) ** 2 + gamma**2 * (repeated**2 + others)) / 2


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(("pairs", "copies"), SHAPES)
def test_the_mean_over_placements_is_that_of_each_in_turn(pairs, copies, query):
    places = range(1, pairs + 1)
    sets = [held for held in itertools.combinations(places, copies) if query == "uniform" or pairs in held]
    assert len(sets) == number_of_placements(Task(pairs, query=query, copies=copies))
    loss = eqx.filter_jit(
        CopiesLoss(jnp.asarray(float(pairs)), jnp.asarray(float(copies)), jnp.arange(1.0, 9.0), jnp.arange(9.0), query)
    )
    for point in POINTS:
        expected = np.mean([by_hand(pairs, held, *point) for held in sets])
        assert float(loss(embedded(*point))) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("query", QUERIES)
def test_the_closed_form_is_the_gram_form_with_gradients(query):
    task = Task(6, query=query, copies=3)
    closed, gram = reduced_loss(task, "circuit"), orthonormal_gram_loss(task)
    for point in POINTS:
        (value, gradient), (other, others) = (differentiated(loss, embedded(*point)) for loss in (closed, gram))
        assert float(value) == pytest.approx(float(other), rel=1e-12, abs=1e-12)
        three = [COORDINATES.index(name) for name in CIRCUIT]
        np.testing.assert_allclose(gradient[np.array(three)], others[np.array(three)], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("query", QUERIES)
def test_a_large_beta_is_right_or_no_number(query):
    """Where attention is all on a few tokens Z differs by e^|beta| between placements, and the integral needs nodes."""
    task = Task(6, query=query, copies=2)
    closed, gram = reduced_loss(task, "circuit"), orthonormal_gram_loss(task)
    for beta, tolerance in ((20.0, 1e-11), (-20.0, 1e-11), (30.0, 1e-7), (-30.0, 1e-7)):
        for alpha in (0.0, 3.0, 8.0):
            point = embedded(alpha, beta, 1.1)
            (value, gradient), (other, others) = (differentiated(loss, point) for loss in (closed, gram))
            assert float(value) == pytest.approx(float(other), abs=tolerance)
            assert float(gradient[2]) == pytest.approx(float(others[2]), abs=30 * tolerance)
    assert math.isnan(float(closed(embedded(3.0, 31.0, 1.0)))) and math.isnan(float(closed(embedded(3.0, -200.0, 1.0))))
    run = solve_flow(task, "circuit", start={"beta_2": 60.0})
    assert run.outcome in ("nonfinite", "solver_failed")


def test_many_copies_do_not_overflow():
    """Where all pairs are copies there is one placement; states that no placement reaches have scores beyond any."""
    task, point = Task(300, query="uniform", copies=300), (0.5, 6.0, 0.9)
    value, gradient = differentiated(reduced_loss(task, "circuit"), embedded(*point))
    assert float(value) == pytest.approx(by_hand(300, tuple(range(1, 301)), *point), rel=1e-11)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("query", QUERIES)
def test_one_copy_is_the_circuit_of_one_pair(query):
    plain = reduced_loss(Task(300, query=query), "circuit")
    loss = CopiesLoss(jnp.asarray(300.0), jnp.asarray(1.0), jnp.arange(1.0, 513.0), jnp.arange(2.0), query)
    for point in POINTS:
        (value, gradient), (other, others) = (differentiated(loss, embedded(*point)) for loss in (loss, plain))
        assert float(value) == pytest.approx(float(other), rel=1e-13, abs=1e-13)
        np.testing.assert_allclose(gradient, others, rtol=1e-11, atol=1e-13)


def test_second_derivatives_are_differences_of_the_first():
    loss, theta = reduced_loss(Task(5, copies=2), "circuit"), embedded(1.0, 2.0, 0.8)
    slope = eqx.filter_jit(lambda at, way: jax.jvp(jax.grad(loss), (at,), (way,))[1])
    for name in CIRCUIT:
        way = jnp.zeros(19).at[COORDINATES.index(name)].set(1.0)
        ends = [differentiated(loss, theta + sign * 1e-5 * way)[1] for sign in (1, -1)]
        np.testing.assert_allclose(slope(theta, way), (ends[0] - ends[1]) / 2e-5, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("inputs", ["orthonormal", "isotropic"])
@pytest.mark.parametrize("query", QUERIES)
def test_gram_form_is_the_full_model_on_lifted_weights(inputs, query):
    task = Task(4, 10, inputs, query, copies=2)
    sequences = sample_sequences(task, jax.random.key(3), 12, jnp.float64)
    theta = jnp.asarray(np.random.default_rng(0).normal(size=19))
    gram = GramLoss(gram_matrices(task, sequences), query, sequences.query)
    full = batch_loss(lift(theta, task), sequences)
    assert float(gram(theta)) == pytest.approx(float(full), rel=1e-12)


@pytest.mark.parametrize("query", QUERIES)
def test_copies_put_into_gram_matrices_are_those_of_the_sequences(query):
    single, several = (Task(5, 14, "isotropic", query, copies=copies) for copies in (1, 3))
    key = jax.random.key(7)
    plain, repeated = (sample_sequences(task, key, 6, jnp.float64) for task in (single, several))
    assert (plain.query == repeated.query).all() and (plain.positions == repeated.positions).all()
    placements = sample_placements(several, jax.random.split(key, 3)[2], 6)
    for one, other in zip(
        with_copies(gram_matrices(single, plain), placements), gram_matrices(several, repeated), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-14)


@pytest.mark.parametrize("query", QUERIES)
def test_placements_are_drawn_evenly(query):
    task, count = Task(5, query=query, copies=3), 6000
    drawn, every = sample_placements(task, jax.random.key(0), count), every_placement(task)
    assert (drawn.held.sum(axis=1) == 3).all() and (every.held.sum(axis=1) == 3).all()
    for query_of, held in (drawn, every):
        assert held[jnp.arange(len(held)), query_of].all()
    assert query == "uniform" or (drawn.query == 4).all()
    names = [tuple(row) for row in np.asarray(every.held).tolist()]
    assert len(set(names)) == len(names) == number_of_placements(task)
    found = np.array([names.index(tuple(row)) for row in np.asarray(drawn.held).tolist()])
    counts = np.bincount(found, minlength=len(names))
    # chi-squared of as many kinds less one: mean that, variance twice that
    expected = count / len(names)
    chi_squared = np.square(counts - expected).sum() / expected
    assert chi_squared < len(names) - 1 + 5 * math.sqrt(2 * (len(names) - 1))
    asked = np.bincount(np.asarray(drawn.query), minlength=5) / count
    assert query == "last" or np.abs(asked - 0.2).max() < 5 * math.sqrt(0.16 / count)


def test_sequences_repeat_the_queried_pair_and_no_other():
    sequences = sample_sequences(Task(6, query="uniform", copies=4), jax.random.key(1), 5, jnp.float64)
    tokens = np.asarray(sequences.tokens)
    for row, query in zip(tokens, np.asarray(sequences.query), strict=True):
        alike = np.isclose(row[:-1:2] @ row[-1], 1)
        assert alike.sum() == 4 and alike[query]
        labels = row[1:-1:2]
        np.testing.assert_allclose(labels[alike] @ labels[query], 1)
        np.testing.assert_allclose(labels[~alike] @ labels[query], 0, atol=1e-12)
        assert np.linalg.matrix_rank(row[:-1]) == 2 * (6 - 4 + 1)


@pytest.mark.parametrize("query", ["uniform", pytest.param("last", marks=pytest.mark.slow)])
def test_the_flow_of_the_closed_form_is_that_of_the_gram_form(query):
    task, stop = Task(3, query=query, copies=2), [(name, 0.4) for name in CIRCUIT]
    fast = solve_flow(task, "circuit", stop=stop)
    slow = solve_flow(task, "subspace", active=CIRCUIT, stop=stop)
    for measure in CIRCUIT:
        one, other = (emergence_times(run, measures=[measure], thresholds=[0.4])[0].time for run in (fast, slow))
        assert one == pytest.approx(other, rel=1e-6)


def test_training_follows_the_reduced_flow():
    task = Task(4, query="uniform", copies=2)
    runs = solve_flow(task, horizon=4.0), train(task, horizon=4.0, batch_size=512, step=0.125, dtype="float64")
    for reduced, trained in zip(*(emergence_times(run, measures=CIRCUIT) for run in runs), strict=True):
        assert trained.time == pytest.approx(reduced.time, rel=0.03)  # the step's delay of some 0.1 in 4


def test_more_placements_than_can_be_counted_are_sampled():
    few, many = Task(16, copies=2), Task(16, query="uniform", copies=8)
    assert not is_sampled(few, "subspace") and is_sampled(many, "subspace") and not is_sampled(many, "circuit")
    theta = embedded(1.0, 2.0, 0.8)
    exact = float(reduced_loss(many, "circuit")(theta))
    samples = 400
    losses = [float(reduced_loss(many, "subspace", samples=samples, seed=seed)(theta)) for seed in range(4)]
    error = np.std(losses, ddof=1)
    assert 0 < error < 0.01 and abs(np.mean(losses) - exact) < 5 * error / 2


def test_too_long_a_context_is_refused():
    with pytest.raises(ArgumentError, match="context_length must be at most 1024 for circuit.*, 2 copies; got 1025"):
        reduced_loss(Task(1025, copies=2), "circuit")
    with pytest.raises(ArgumentError, match="at most 64 for subspace"):
        reduced_loss(Task(65, copies=2), "subspace")


@pytest.mark.parametrize("copies", [0, 5, -1])
def test_a_task_refuses_copies_that_it_has_no_place_for(copies):
    with pytest.raises(
        ArgumentError, match="copies must be a whole number, at least 1 and at most the number of pairs"
    ):
        Task(4, copies=copies)
