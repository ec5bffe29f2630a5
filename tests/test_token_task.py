import jax
import numpy as np
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.token_task import TokenTask, sample_tokens


def drawn(task, number=400):
    return (np.asarray(part) for part in sample_tokens(task, jax.random.key(1), number))


def test_pairs_hold_their_answer_once():
    task = TokenTask(context_length=5, vocabulary=9)
    tokens, answers, counted = drawn(task)
    items, labels, query = tokens[:, 0:-1:2], tokens[:, 1:-1:2], tokens[:, -1]
    assert all(len(set(row)) == 5 for row in items.tolist())
    place = items == query[:, None]
    assert (place.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(answers[:, -1], labels[place])
    np.testing.assert_array_equal(answers[:, :-1], tokens[:, 1:])
    assert counted[:, -1].all() and not counted[:, :-1].any()
    assert tokens.min() >= 0 and tokens.max() == 8


def test_pairs_are_drawn_from_all_of_the_vocabulary_alike():
    task = TokenTask(context_length=3, vocabulary=6)
    tokens, _, _ = drawn(task, 6000)
    for place in range(7):
        share = np.bincount(tokens[:, place], minlength=6) / 6000
        np.testing.assert_allclose(share, 1 / 6, atol=5 * np.sqrt(5 / 36 / 6000))
    queried = (tokens[:, 0:-1:2] == tokens[:, -1:]).mean(axis=0)
    np.testing.assert_allclose(queried, 1 / 3, atol=5 * np.sqrt(2 / 9 / 6000))


def test_the_last_query_is_of_the_last_pair():
    tokens, answers, _ = drawn(TokenTask(4, 8, query="last"))
    np.testing.assert_array_equal(tokens[:, -1], tokens[:, -3])
    np.testing.assert_array_equal(answers[:, -1], tokens[:, -2])


@pytest.mark.parametrize("period", ["varied", "fixed"])
def test_segments_are_repeated(period):
    task = TokenTask(context_length=6, vocabulary=7, kind="repeated", period=period)
    tokens, answers, counted = drawn(task)
    assert tokens.shape == (400, task.sequence_length) == (400, 12)
    periods = np.argmax(counted, axis=1)
    assert set(periods.tolist()) == ({6} if period == "fixed" else {3, 4, 5, 6})
    for row, following, counts, size in zip(tokens, answers, counted, periods, strict=True):
        segment = row[:size]
        assert len(set(segment.tolist())) == size
        np.testing.assert_array_equal(row, np.resize(segment, 12))
        np.testing.assert_array_equal(following, np.resize(segment, 13)[1:])
        np.testing.assert_array_equal(counts, np.arange(12) >= size)


def test_what_counts_can_be_known_from_the_context():
    """The token stood there before, and what follows it is what followed it then."""
    tokens, answers, counted = drawn(TokenTask(5, 11, kind="repeated"))
    for row, following, counts in zip(tokens, answers, counted, strict=True):
        for place in np.flatnonzero(counts):
            before = np.flatnonzero(row[:place] == row[place])
            assert {following[place]} == set(row[before + 1])


def test_second_positions():
    assert TokenTask(3, 9).second_positions == (1, 3, 5)
    assert TokenTask(2, 9, kind="repeated").second_positions == (1, 2, 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 8), "context_length must be a whole number from 1 to 4096; got 0."),
        ((1, 8, "repeated"), "context_length must be a whole number from 2 to 4096; got 1."),
        ((4, 3), "vocabulary must be a whole number from 4"),
        ((1, 1), "vocabulary must be a whole number from 2"),
        ((4, 10**9), "vocabulary must be"),
        ((4, 8, "triples"), "kind must be one of pairs, repeated; got 'triples'."),
        ((4, 8, "pairs", "first"), "query must be one of last, uniform"),
        ((4, 8, "repeated", "last", "none"), "period must be one of varied, fixed"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ArgumentError) as refused:
        TokenTask(*arguments)
    assert str(refused.value).startswith(message)
