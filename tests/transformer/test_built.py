"""The circuit built by hand: its measures exactly, its loss by hand, and what it answers wrongly and why."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.token_task import TokenSequences, TokenTask, sample_tokens
from induction_dynamics.training.standard_steps import token_loss
from induction_dynamics.transformer.ablation import ablate_heads, ablate_terms
from induction_dynamics.transformer.built import built_circuit
from induction_dynamics.transformer.progress import progress_measures
from induction_dynamics.transformer.standard import standard_forward

TASKS = (TokenTask(4, 10), TokenTask(4, 10, kind="repeated"))


def built(task, *strengths, **named):
    return built_circuit(
        task.vocabulary, task.sequence_length, task.second_positions, *strengths, **named, dtype=jnp.float64
    )


def drawn(task, key):
    """400 sequences, as jax has them."""
    return TokenSequences(*map(jnp.asarray, sample_tokens(task, key, 400)))


def answered(logits, sequences):
    loss, accuracy = token_loss(logits, sequences.answers, sequences.counted)
    return float(loss), float(accuracy)


def answered_last(weights, tokens, answer):
    logits = standard_forward(weights, jnp.array([tokens])).logits[:, -1:]
    loss, accuracy = token_loss(logits, jnp.array([[answer]]), jnp.array([[True]]))
    return float(loss), float(accuracy)


@pytest.mark.parametrize("task", TASKS, ids=str)
@pytest.mark.parametrize("first", [0.0, 7.0])
def test_the_measures_are_what_was_put_in_and_nothing_else(task, first):
    found = progress_measures(built(task, 3.0, 5.0, 0.25, first=first), task.second_positions)
    assert [np.asarray(values).ravel().tolist() for values in found] == [[3.0, 0.0], [0.0, 5.0, 0.0, 0.0], [0.0, 0.25]]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_three_terms_are_the_whole_model(task, key):
    tokens = jnp.asarray(sample_tokens(task, key, 20).tokens)
    weights = built(task, 3.0, 5.0, 2.0)
    whole = standard_forward(weights, tokens)
    for diagonal in (False, True):
        alone = ablate_terms(weights, tokens, CIRCUIT, only=True, diagonal=diagonal)
        for one, other in zip(alone, whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
        nothing = ablate_terms(weights, tokens, CIRCUIT, diagonal=diagonal)
        assert np.abs(np.asarray(nothing.logits)).max() < 1e-13
        uniform = np.tril(np.ones(tokens.shape[1:] * 2)) / np.arange(1, tokens.shape[1] + 1)[:, None]
        np.testing.assert_allclose(nothing.attention, np.broadcast_to(uniform, nothing.attention.shape), atol=1e-12)
    pushed = ablate_terms(built(task, 3.0, 5.0, 2.0, first=4.0), tokens, [*CIRCUIT, "scores_2:t,p"], only=True)
    expected = standard_forward(built(task, 3.0, 5.0, 2.0, first=4.0), tokens)
    np.testing.assert_allclose(pushed.logits, expected.logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "alpha, beta, gamma, first", [(0.0, 0.0, 1.0, 0.0), (2.0, 3.0, 4.0, 0.0), (2.0, 3.0, 4.0, 1.5)]
)
def test_the_loss_of_one_pair_by_hand(alpha, beta, gamma, first):
    """x y x of V = 6: x alone retrieves itself, y attends to x by sigmoid(alpha), the query to 2/3 of x."""
    weights = built_circuit(6, 3, (1,), alpha, beta, gamma, first, dtype=jnp.float64)
    scores = np.array([beta - first, beta / (1 + math.exp(-alpha)), 2 * beta / 3])
    w = np.exp(scores) / np.exp(scores).sum()
    item, label = gamma * (w[0] + w[2]), gamma * w[1]
    by_hand = math.log(math.exp(item) + math.exp(label) + 4) - label
    loss, accuracy = answered_last(weights, [4, 2, 4], 2)
    assert loss == pytest.approx(by_hand, rel=1e-12)
    # without `first` the item itself wins
    assert accuracy == float(label > item) == (0.0 if first == 0 else float(w[1] > w[0] + w[2]))


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_sharp_it_solves_the_task_but_where_the_first_token_comes_again(task, key):
    sequences = drawn(task, key)
    logits = standard_forward(built(task), jnp.asarray(sequences.tokens)).logits
    tokens, answers, counted = map(np.asarray, sequences)
    right = np.asarray(logits.argmax(-1)) == answers
    like_first = tokens == tokens[:, :1]
    # once only: from its third time on two tokens after it outweigh the one at position 0
    again = like_first & (np.cumsum(like_first, axis=1) == 2)
    if task.kind == "pairs":
        again[:, :-1], again[:, -1] = False, like_first[:, -1]
    expected_wrong = counted & again & (answers != tokens)
    assert expected_wrong.sum() > 50
    np.testing.assert_array_equal(counted & ~right, expected_wrong)
    assert np.asarray(logits.argmax(-1))[expected_wrong].tolist() == tokens[expected_wrong].tolist()
    loss, accuracy = answered(
        standard_forward(built(task, first=200.0), jnp.asarray(sequences.tokens)).logits, sequences
    )
    assert accuracy == pytest.approx(1.0, abs=1e-12) and loss < 1e-10


def test_a_label_like_the_query_does_no_harm_and_a_second_position_after_it_does():
    """x1 y1 x2 y2 x2 with y1 = x2: position 2 retrieves y1 by a third, or wholly if it attends to the one before."""
    # half of the attention is then on position 2, whose token is 2, and half on position 3; four tokens have none
    for second, expected in (((1, 3), math.log(1 + 5 * math.exp(-30))), ((1, 2, 3), math.log(2 + 4 * math.exp(-15)))):
        weights = built_circuit(6, 5, second, dtype=jnp.float64)
        loss, _ = answered_last(weights, [1, 2, 2, 3, 2], 3)
        assert loss == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_each_part_is_necessary(task, key):
    sequences = drawn(task, jax.random.fold_in(key, 1))
    weights = built(task, first=200.0)
    loss = math.nan
    for term in CIRCUIT:
        loss, accuracy = answered(ablate_terms(weights, sequences.tokens, [term]).logits, sequences)
        assert accuracy < 0.6 and loss > 0.7
    assert loss == pytest.approx(math.log(task.vocabulary), rel=1e-12)
    # layer 1 acts by what layer 2 attends to, and by nothing else
    kept = ablate_heads(weights, sequences.tokens, [(0, 0)], "pattern")
    np.testing.assert_allclose(
        kept.logits, standard_forward(weights, jnp.asarray(sequences.tokens)).logits, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, (1,)), "vocabulary must be a whole number, at least 1; got 0."),
        ((5, 1, (1,)), "length must be a whole number, at least 2; got 1."),
        ((5, 5, ()), "second_positions must be whole numbers from 1 to 4; got []."),
        ((5, 5, (0,)), "second_positions must be whole numbers from 1 to 4; got [0]."),
        ((5, 5, (5,)), "second_positions must be whole numbers from 1 to 4; got [5]."),
        ((5, 5, (1,), math.inf), "alpha must be a finite number; got inf."),
        ((5, 5, (1,), 1.0, math.nan), "beta must be a finite number; got nan."),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        built_circuit(*arguments)
