"""Head scores: exact on heads built by hand, beside slow twins in loops, and one sentence for what they cannot take."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from induction_dynamics.errors import ArgumentError
from induction_dynamics.heads import (
    KINDS,
    duplicate_token_scores,
    head_scores,
    in_context_learning_score,
    induction_scores,
    previous_token_scores,
    sought_keys,
)

BOTH = pytest.mark.parametrize("strict", [False, True])
REPEATED = np.tile(np.arange(5), 3)
"""A token at i stood at i - 5, and from i = 10 on at i - 10 too."""


def uniform(length, strict):
    """What a head attends to that tells no keys apart."""
    seen = np.tri(length, k=-int(strict))
    return seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)


def random_attention(rng, shape, strict):
    """Rows of random attention, [*shape] with the last two axes query and key."""
    weights = rng.exponential(size=shape) * np.tri(shape[-1], k=-int(strict))
    return weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)


def attends_to(keys, strict):
    """A head whose query i attends to the key keys[i] only."""
    attention = uniform(len(keys), strict)
    for i, j in enumerate(keys):
        if j is not None:
            attention[i] = 0
            attention[i, j] = 1
    return attention


def slow_scores(attention, tokens, strict):
    """The three definitions, a position at a time; [layers][heads] and chance, None where no position qualifies."""
    found = {}
    for kind in KINDS:
        spent, chance = [], []
        for sequence, heads in zip(tokens, attention, strict=True):
            for i in range(len(sequence)):
                earlier = [j for j in range(i) if sequence[j] == sequence[i]]
                keys = {
                    "previous_token": [i - 1] if i else [],
                    "duplicate_token": earlier,
                    "induction": [j + 1 for j in earlier if j + 1 != i],
                }[kind]
                if keys:
                    spent.append(sum(heads[:, :, i, j] for j in keys))
                    chance.append(len(keys) / (i if strict else i + 1))
        found[kind] = (np.mean(spent, axis=0), np.mean(chance)) if spent else None
    return found


@BOTH
def test_perfect_heads(strict):
    """Each of three heads scores 1 at what it does."""
    length = len(REPEATED)
    previous = attends_to([None, *range(length - 1)], strict)
    duplicate = attends_to([None] * 5 + list(range(length - 5)), strict)
    successor = attends_to([None] * 5 + list(range(1, length - 4)), strict)
    found = head_scores([[previous, duplicate], [successor, uniform(length, strict)]], REPEATED, strict=strict)
    assert list(found) == list(KINDS)
    assert found["previous_token"].score[0, 0] == 1
    assert found["duplicate_token"].score[0, 1] == 1 and found["induction"].score[1, 0] == 1
    assert found["induction"].score[0].tolist() == [0, 0] and found["duplicate_token"].score[0, 0] == 0
    for kind in KINDS:
        assert found[kind].above_chance[1, 1] == pytest.approx(0, abs=1e-15)
        assert found[kind].score.shape == (2, 2) and 0 < found[kind].chance < 1


@pytest.mark.parametrize(
    ("strict", "previous", "duplicate"),
    [(False, (1 / 2 + 1 / 3 + 1 / 4) / 3, (1 / 3 + 1 / 4) / 2), (True, (1 + 1 / 2 + 1 / 3) / 3, (1 / 2 + 1 / 3) / 2)],
)
def test_chance_by_hand(strict, previous, duplicate):
    found = head_scores(uniform(4, strict)[None, None], [5, 6, 5, 6], strict=strict)
    chance = [found[kind].chance for kind in KINDS]
    np.testing.assert_allclose(chance, [previous, duplicate, duplicate], rtol=1e-15)


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_uniform_attention_is_chance(strict, seed):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 7, size=(4, 23))
    attention = np.broadcast_to(uniform(23, strict), (4, 2, 3, 23, 23))
    for scores in head_scores(attention, tokens, strict=strict).values():
        np.testing.assert_allclose(scores.above_chance, np.zeros((2, 3)), rtol=0, atol=1e-15)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(*[st.integers(1, 3)] * 3, st.integers(2, 9)),
    vocabulary=st.integers(1, 6),
    strict=st.booleans(),
    batched=st.booleans(),
)
def test_the_slow_twin(seed, sizes, vocabulary, strict, batched):
    batch, layers, heads, length = sizes if batched else (1, *sizes[1:])
    rng = np.random.default_rng(seed)
    attention = random_attention(rng, (batch, layers, heads, length, length), strict)
    tokens = rng.integers(-1, vocabulary - 1, size=(batch, length))
    expected = slow_scores(attention, tokens, strict)
    if not batched:
        attention, tokens = attention[0], tokens[0]
    scores = {
        "previous_token": lambda: previous_token_scores(attention, strict=strict),
        "duplicate_token": lambda: duplicate_token_scores(attention, tokens, strict=strict),
        "induction": lambda: induction_scores(attention, tokens, strict=strict),
    }
    for kind, twin in expected.items():
        if twin is None:
            with pytest.raises(ArgumentError, match="tokens must be of sequences in which a token comes back"):
                scores[kind]()
            continue
        found = scores[kind]()
        np.testing.assert_allclose(found.score, twin[0], rtol=1e-13, atol=1e-16)
        assert found.chance == pytest.approx(twin[1], rel=1e-13)
        np.testing.assert_array_equal(found.above_chance, found.score - found.chance)
    if None not in expected.values():
        together = head_scores(attention, tokens, strict=strict)
        for kind in KINDS:
            np.testing.assert_array_equal(together[kind].score, scores[kind]().score)
            assert together[kind].chance == scores[kind]().chance


def test_a_batch_is_the_mean_over_its_positions():
    """Not over its sequences: the first has one position that qualifies, the second five."""
    rng = np.random.default_rng(0)
    attention = random_attention(rng, (2, 1, 2, 8, 8), False)
    tokens = np.array([[1, 2, 3, 4, 5, 6, 7, 1], [1, 2, 3, 1, 2, 3, 1, 2]])
    one, other = (induction_scores(attention[place], tokens[place]) for place in (0, 1))
    both = induction_scores(attention, tokens)
    np.testing.assert_allclose(both.score, (one.score + 5 * other.score) / 6, rtol=1e-14)
    assert both.chance == pytest.approx((one.chance + 5 * other.chance) / 6, rel=1e-14)
    # a sequence that has none adds nothing
    tokens[0] = range(8)
    assert induction_scores(attention, tokens).chance == pytest.approx(other.chance, rel=1e-14)


@BOTH
def test_a_token_after_itself_is_no_successor(strict):
    """Of a, a, a only the last has one, at position 1; a head that attends to itself or to position 0 scores 0."""
    here = attends_to([None, 0, 0 if strict else 2], strict)
    assert induction_scores(here[None, None], [4, 4, 4], strict=strict) == (0, 1 / 2 if strict else 1 / 3)
    assert induction_scores(attends_to([None, 0, 1], strict)[None, None], [4, 4, 4], strict=strict).score == 1
    with pytest.raises(ArgumentError, match=r"not only right after itself; got '\[4 4 5\]'"):
        induction_scores(uniform(3, strict)[None, None], [4, 4, 5], strict=strict)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16, jnp.bfloat16])
@pytest.mark.parametrize("length", [3, 129, 385])
def test_attention_of_few_digits(dtype, length):
    """Rows of equal numbers, all rounded the same way: the worst sums, up to 2^-8 from 1 in bfloat16."""
    exact = uniform(length, False)[None, None]
    tokens = np.arange(length) % 2
    rough = head_scores(exact.astype(dtype), tokens)
    for kind, scores in head_scores(exact, tokens).items():
        assert scores.chance == rough[kind].chance
        # summed in float64 whatever it is
        np.testing.assert_array_equal(
            rough[kind].score, head_scores(exact.astype(dtype).astype(np.float64), tokens)[kind].score
        )
        np.testing.assert_allclose(rough[kind].score, scores.score, rtol=2**-8)


def test_arrays_of_any_kind():
    attention, tokens = uniform(6, False)[None, None], np.array([1, 2, 3, 1, 2, 3])
    expected = induction_scores(attention, tokens)
    of_numpy = attention.astype(">f8"), attention.astype(np.longdouble), np.asfortranarray(attention)
    for other in (attention.tolist(), jnp.asarray(attention), *of_numpy):
        for x in (tokens.tolist(), jnp.asarray(tokens), tokens.astype(np.uint8)):
            assert induction_scores(other, x) == expected
    assert previous_token_scores([[np.eye(2, dtype=int).tolist()]]).score == 0


GOOD = uniform(4, False)[None, None]


def changed(place, number, attention=GOOD):
    other = attention.copy()
    other[0, 0][place] = number
    return other


SHAPE = (
    r"must be of shape \[layers, heads, length, length\] or \[batch, layers, heads, length, length\], none of them 0"
)
REFUSED = [
    (GOOD[0], [1, 1, 1, 1], False, rf"attention {SHAPE}; got \(1, 4, 4\)\."),
    (GOOD[:, :, :3], [1, 1, 1], False, rf"attention {SHAPE}; got \(1, 1, 3, 4\)\."),
    (np.zeros((1, 0, 4, 4)), [1, 1, 1, 1], False, rf"attention {SHAPE}; got \(1, 0, 4, 4\)\."),
    (GOOD.astype(str), [1, 1, 1, 1], False, r"attention must be real numbers; got '<U\d+'\."),
    (GOOD.astype("V8"), [1, 1, 1, 1], False, r"attention must be real numbers; got '\|V8'\."),
    (GOOD + 0j, [1, 1, 1, 1], False, r"attention must be real numbers; got 'complex128'\."),
    ([[[[1.0], [1.0, 2.0]]]], [1, 1], False, r"attention must be what numpy makes an array of \(.*\); got 'list'\."),
    (changed((2, 1), np.nan), [1, 1, 1, 1], False, r"attention must be finite; got nan\."),
    (changed((2, 1), np.inf), [1, 1, 1, 1], False, r"attention must be finite; got inf\."),
    (changed((2, 1), -np.inf), [1, 1, 1, 1], False, r"attention must be finite; got -inf\."),
    (changed((2, 1), -0.25), [1, 1, 1, 1], False, r"attention must be at least 0; got -0\.25\."),
    (
        changed((2, 3), 0.01),
        [1, 1, 1, 1],
        False,
        r"attention must be 0 above the diagonal, where the mask hides keys from a query; got 0\.01\.",
    ),
    (
        GOOD,
        [1, 1, 1, 1],
        True,
        r"attention must be 0 on and above the diagonal, where the strict mask hides keys from a query; got 1\.0\.",
    ),
    (
        changed((3, 1), 0.5),
        [1, 1, 1, 1],
        False,
        r"attention must be of rows that sum to 1 within 0\.005 \(here row 3 of layer 0, head 0 has another sum\); "
        r"got 1\.25\.",
    ),
    (changed((0, 0), 0.0), [1, 1, 1, 1], False, r"here row 0 of layer 0, head 0 has another sum\); got 0\.0\."),
    (changed((1, 0), 0.0, uniform(4, True)[None, None]), [1, 1, 1, 1], True, r"here row 1 of layer 0, head 0 .* 0\.0"),
    (np.ones((2, 3, 1, 1)), [1], False, r"attention must be of at least 2 positions; got \(2, 3, 1, 1\)\."),
    (GOOD, [1, 1, 1], False, r"tokens must be of the shape that fits attention, \(4,\); got \(3,\)\."),
    (GOOD, [[1, 1, 1, 1]], False, r"tokens must be of the shape that fits attention, \(4,\); got \(1, 4\)\."),
    (GOOD[None], [1, 1, 1, 1], False, r"tokens must be of the shape that fits attention, \(1, 4\); got \(4,\)\."),
    (GOOD, [1.0, 1.0, 1.0, 1.0], False, r"tokens must be whole numbers; got 'float64'\."),
    (GOOD, ["a", "b", "a", "b"], False, r"tokens must be whole numbers; got '<U1'\."),
    (GOOD, [True] * 4, False, r"tokens must be whole numbers; got 'bool'\."),
    (GOOD, [1, 2, 3, 4], False, r"tokens must be of sequences in which a token comes back; got '\[1 2 3 4\]'\."),
]


@pytest.mark.parametrize(("attention", "tokens", "strict", "sentence"), REFUSED)
def test_attention_and_tokens_that_are_refused(attention, tokens, strict, sentence):
    with pytest.raises(ArgumentError, match=sentence) as caught:
        head_scores(attention, tokens, strict=strict)
    assert caught.value.argument == sentence.partition(" ")[0] or sentence.startswith("here")
    assert "\n" not in str(caught.value)


def test_a_wrong_row_is_found_where_it_is():
    attention = np.tile(GOOD, (3, 2, 1, 1))[None]
    attention[0, 2, 0, 3] /= 2
    with pytest.raises(ArgumentError, match=r"\(here row 3 of layer 2, head 0 has another sum\); got 0\.5\."):
        previous_token_scores(attention)


def test_long_sequences_are_told_in_short():
    with pytest.raises(ArgumentError, match=r"comes back; got '\[ *0 +1 +2 \.\.\. 497 498 499\]'\."):
        duplicate_token_scores(uniform(500, False)[None, None], np.arange(500))


@BOTH
def test_scores_as_sums(strict):
    """Factors on attention at hand elsewhere, of all positions and of some."""
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 5, size=(3, 11))
    attention = random_attention(rng, (3, 2, 2, 11, 11), strict)
    expected = head_scores(attention, tokens, strict=strict)
    for kind, (factors, chance) in sought_keys(tokens, strict=strict).items():
        np.testing.assert_allclose(np.einsum("blhij,bij->lh", attention, factors), expected[kind].score, rtol=1e-13)
        assert chance == expected[kind].chance
    # one position of the last sequence only: what its row spends
    place = next(i for i in range(10, 0, -1) if tokens[2, i] in tokens[2, : i - 1])
    counted = np.zeros((3, 11), bool)
    counted[2, place] = True
    some = sought_keys(tokens, strict=strict, positions={"induction": counted})
    keys = [j + 1 for j in range(place - 1) if tokens[2, j] == tokens[2, place]]
    spent = np.einsum("blhij,bij->lh", attention, some["induction"].factors)
    np.testing.assert_allclose(spent, attention[2, :, :, place, keys].sum(axis=0), rtol=1e-13)
    assert some["induction"].chance == pytest.approx(len(keys) / (place if strict else place + 1), rel=1e-14)
    assert some["duplicate_token"].chance == expected["duplicate_token"].chance


def test_sums_that_are_refused():
    for tokens, told in ((np.arange(4), r"int64 \(4,\)"), (np.zeros((1, 4)), r"float64 \(1, 4\)")):
        with pytest.raises(
            ArgumentError, match=rf"tokens must be whole numbers, of shape \[batch, length\]; got '{told}'"
        ):
            sought_keys(tokens)
    with pytest.raises(ArgumentError, match=r"tokens must be sequences of at least 2 tokens; got \(3, 1\)\."):
        sought_keys(np.zeros((3, 1), int))
    with pytest.raises(ArgumentError, match="positions must be positions of which one has such a key; got 'induction'"):
        sought_keys(np.array([[1, 2, 1]]), positions={"induction": np.array([True, True, False])})


def test_in_context_learning():
    losses = np.random.default_rng(0).random((3, 4, 10))
    expected = np.mean([[losses[a, b, 7] - losses[a, b, 2] for b in range(4)] for a in range(3)])
    assert in_context_learning_score(losses, early=2, late=7) == pytest.approx(expected, rel=1e-14)
    assert in_context_learning_score(losses[0, 0].astype(np.float32), early=0, late=9) == pytest.approx(
        losses[0, 0, 9] - losses[0, 0, 0], rel=1e-6
    )
    assert isinstance(in_context_learning_score([[3, 1]], early=0, late=1), float)


@pytest.mark.parametrize(
    ("losses", "early", "late", "sentence"),
    [
        ([[1.0, np.inf]], 0, 1, r"losses must be finite; got inf\."),
        (np.zeros((0, 3)), 0, 1, r"losses must be of shape \[\.\.\., length\], none of them 0; got \(0, 3\)\."),
        (np.array(1.0), 0, 1, r"losses must be of shape \[\.\.\., length\], none of them 0; got \(\)\."),
        (["a"], 0, 1, r"losses must be real numbers; got '<U1'\."),
        (np.zeros(5), -1, 3, r"early must be a place among 5 losses, from 0 on, and not the last; got -1\."),
        (np.zeros(5), 4, 4, r"early must be a place among 5 losses, from 0 on, and not the last; got 4\."),
        (np.zeros(5), 1, 1, r"late must be a place among 5 losses, from 2 to 4; got 1\."),
        (np.zeros(5), 1, 5, r"late must be a place among 5 losses, from 2 to 4; got 5\."),
    ],
)
def test_losses_that_are_refused(losses, early, late, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        in_context_learning_score(losses, early=early, late=late)
