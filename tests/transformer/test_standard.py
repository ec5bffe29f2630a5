"""The standard transformer against itself written out by hand, and its progress measures against sums and samples."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.transformer.progress import chance_spread, progress_measures, summed
from induction_dynamics.transformer.standard import (
    Architecture,
    StandardWeights,
    initial_weights,
    standard_forward,
    trained_part,
)

SMALL: dict[str, Any] = {"vocabulary": 7, "length": 6, "embedding_dim": 8, "heads": 2}


def drawn(key, scale=2.0, **changes):
    return initial_weights(Architecture(**{**SMALL, **changes}), key, scale, jnp.float64)


def by_hand(weights, tokens, scaled):
    """One sequence, head by head, query by query."""
    w: dict[str, Any] = {name: None if x is None else np.asarray(x) for name, x in vars(weights).items()}
    x = w["tokens"][tokens] + w["positions"][: len(tokens)]
    layers, heads, width, _ = w["query"].shape
    attention = np.zeros((layers, heads, len(tokens), len(tokens)))
    for layer in range(layers):
        added = np.zeros_like(x)
        for head in range(heads):
            for i in range(len(tokens)):
                asked = w["query"][layer, head] @ x[i]
                scores = np.array([asked @ (w["key"][layer, head] @ x[j]) for j in range(i + 1)])
                if scaled:
                    scores = scores / np.sqrt(width)
                weight = np.exp(scores - scores.max())
                attention[layer, head, i, : i + 1] = weight / weight.sum()
                mixed = sum(attention[layer, head, i, j] * (w["value"][layer, head] @ x[j]) for j in range(i + 1))
                added[i] += w["output"][layer, head] @ mixed
        x = x + added
    unembedding = w["tokens"] if w["unembedding"] is None else w["unembedding"]
    return x @ unembedding.T, attention


@pytest.mark.parametrize(
    "changes",
    [{}, {"scaled": True}, {"tied": True}, {"layers": 3}, {"heads": 1}, {"head_dim": 5}, {"layers": 1, "heads": 4}],
    ids=str,
)
def test_forward_is_what_it_says(changes, key):
    weights = drawn(key, **changes)
    scaled = changes.get("scaled", False)
    tokens = np.array([[3, 1, 4, 1, 5, 6], [0, 0, 2, 2, 0, 1]], np.int32)
    output = standard_forward(weights, jnp.asarray(tokens), scaled)
    for row, logits, attention in zip(tokens, output.logits, output.attention, strict=True):
        expected = by_hand(weights, row, scaled)
        np.testing.assert_allclose(logits, expected[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(attention, expected[1], rtol=1e-12, atol=1e-14)
    last = standard_forward(weights, jnp.asarray(tokens), scaled, last_only=True)
    np.testing.assert_allclose(last.logits[:, 0], output.logits[:, -1], rtol=1e-12)


def test_nothing_comes_from_later_tokens(key):
    """Exact zeros, not small numbers."""
    weights = drawn(key)
    one, other = jnp.array([[3, 1, 4, 1]]), jnp.array([[3, 1, 4, 5]])
    first, second = standard_forward(weights, one).logits, standard_forward(weights, other).logits
    np.testing.assert_array_equal(first[:, :3], second[:, :3])
    assert float(abs(first[:, 3] - second[:, 3]).max()) > 1e-3


def test_an_edit_that_changes_nothing_changes_nothing(key):
    weights, tokens, seen = drawn(key), jnp.array([[3, 1, 4, 1]]), []

    def edit(layer, name, value):
        seen.append((layer, name, value.shape))
        return value

    plain, shown = standard_forward(weights, tokens), standard_forward(weights, tokens, edit=edit)
    np.testing.assert_allclose(shown.logits, plain.logits, rtol=1e-13)
    square = (1, 2, 4, 4)
    of_layer = [("scores", square), ("attention", square), ("heads", (1, 2, 4, 8))]
    assert seen == [(layer, *each) for layer in (0, 1) for each in of_layer] + [(2, "logits", (1, 4, 7))]


def test_an_edit_is_used(key):
    weights, tokens = drawn(key), jnp.array([[3, 1, 4, 1]])
    silent = standard_forward(weights, tokens, edit=lambda layer, name, x: 0 * x if name == "heads" else x)
    x = weights.tokens[tokens[0]] + weights.positions[:4]
    np.testing.assert_allclose(silent.logits[0], x @ weights.unembedded_by.T, rtol=1e-12)


def test_more_tokens_than_positions(key):
    with pytest.raises(ArgumentError, match="tokens must be at most as many as there are positions, 6; got 9."):
        standard_forward(drawn(key), jnp.zeros((1, 9), jnp.int32))


@pytest.mark.parametrize("token", [-1, 7])
def test_a_token_that_there_is_not(token, key):
    with pytest.raises(ArgumentError, match=f"tokens must be numbers from 0 to 6; got {token}."):
        standard_forward(drawn(key), jnp.array([[0, token]]))


@pytest.mark.parametrize("tokens", ["fixed", "learned"])
@pytest.mark.parametrize("positions", ["fixed", "learned"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_parts_make_the_whole(tokens, positions, tied, key):
    architecture = Architecture(**SMALL, tokens=tokens, positions=positions, tied=tied)
    weights = initial_weights(architecture, key)
    trained, fixed = trained_part(architecture, weights)
    assert (trained.tokens is None, trained.positions is None) == (tokens == "fixed", positions == "fixed")
    assert (trained.unembedding is None) == tied and trained.query is not None
    whole = eqx.combine(trained, fixed)
    assert eqx.tree_equal(whole, weights)


def test_the_start_has_its_law(key):
    weights = initial_weights(Architecture(64, 64, 64, heads=4), key, scale=0.5, dtype=jnp.float64)
    for name, x in vars(weights).items():
        size = 1.0 if name in ("tokens", "positions") else 0.25
        # the mean of n squares of a Normal has a relative standard deviation of sqrt(2/n)
        assert float(jnp.mean(x**2)) * 64 == pytest.approx(size, rel=5 * np.sqrt(2 / x.size)), name
    assert not initial_weights(Architecture(**SMALL), key, scale=0.0).query.any()


def test_progress_measures_are_their_sums(key):
    weights = drawn(key, layers=3)
    second = (1, 3, 5)
    measures = progress_measures(weights, second)
    T, P, U = (np.asarray(x) for x in (weights.tokens, weights.positions, weights.unembedding))
    Q, K, V, W = (np.asarray(x) for x in (weights.query, weights.key, weights.value, weights.output))
    for layer in range(3):
        for head in range(2):
            alpha = np.mean([(K[layer, head] @ P[i - 1]) @ (Q[layer, head] @ P[i]) for i in second])
            gamma = np.trace(U @ W[layer, head] @ V[layer, head] @ T.T) / len(T)
            assert float(measures.alpha_3[layer, head]) == pytest.approx(alpha, rel=1e-12)
            assert float(measures.gamma_3[layer, head]) == pytest.approx(gamma, rel=1e-12)
            for above in range(3):
                for other in range(2):
                    moved = W[layer, head] @ V[layer, head] @ T.T
                    terms = (K[above, other] @ moved) * (Q[above, other] @ T.T)
                    beta = terms.sum() / len(T) if above > layer else 0.0
                    assert float(measures.beta_2[layer, head, above, other]) == pytest.approx(beta, rel=1e-12)
    halved, spread = progress_measures(weights, second, True), chance_spread(weights, second, True)
    for part, whole in zip(halved[:2], measures[:2], strict=True):
        np.testing.assert_allclose(part * 2, whole, rtol=1e-12)  # heads of width 4
    np.testing.assert_allclose(spread[1] * 2, chance_spread(weights, second)[1], rtol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_the_spread_is_that_of_random_weights(tied, key):
    """Over 3,000 draws of all matrices; the embeddings stay."""
    given = drawn(key, tied=tied, scale=0.7, heads=1, head_dim=4)
    second, number = (1, 3, 5), 3000

    def draw(one):
        random = drawn(one, tied=tied, scale=0.7, heads=1, head_dim=4)
        weights = StandardWeights(
            given.tokens, given.positions, random.query, random.key, random.value, random.output, random.unembedding
        )
        return progress_measures(weights, second)

    found = jax.lax.map(draw, jax.random.split(key, number), batch_size=100)

    def rms(x):
        return jnp.full_like(x, 0.7 / np.sqrt(8))

    alike = StandardWeights(
        given.tokens,
        given.positions,
        rms(given.query),
        rms(given.key),
        rms(given.value),
        rms(given.output),
        None if given.unembedding is None else rms(given.unembedding),
    )
    expected = chance_spread(alike, second)
    for name, values, spread in zip(found._fields, found, expected, strict=True):
        values, spread = np.asarray(values).reshape(number, -1), np.asarray(spread).ravel()
        there = spread > 0
        assert there.any()
        np.testing.assert_array_equal(values[:, ~there], 0.0)
        # products of Gaussians have heavy tails, so the spread of a sample spread is estimated from the sample itself
        squares = values[:, there] ** 2
        error = squares.std(axis=0) / np.sqrt(number)
        np.testing.assert_array_less(abs(squares.mean(axis=0) - spread[there] ** 2), 5 * error, err_msg=name)
        np.testing.assert_array_less(abs(values[:, there].mean(axis=0)), 5 * spread[there] / np.sqrt(number))
    sums = np.asarray(jax.vmap(summed)(found))
    of_sums = np.asarray(summed(expected, squares=True))
    assert sums.std(axis=0) == pytest.approx(of_sums, rel=0.15)


def test_sums_are_of_the_circuits_layers(key):
    weights = drawn(key)
    measures = progress_measures(weights, (1, 3, 5))
    expected = [measures.alpha_3[0].sum(), measures.beta_2[0, :, 1, :].sum(), measures.gamma_3[1].sum()]
    np.testing.assert_allclose(summed(measures), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"heads": 3}, "heads must be a divisor of embedding_dim, 8, unless head_dim is given; got 3."),
        ({"heads": 0}, "heads must be a whole number from 1 to 256; got 0."),
        ({"vocabulary": 0}, "vocabulary must be a whole number from 1 to 65536; got 0."),
        ({"layers": 1000}, "layers must be a whole number from 1 to 64; got 1000."),
        ({"embedding_dim": 0}, "embedding_dim must be"),
        ({"head_dim": -1}, "head_dim must be"),
        ({"tokens": "random"}, "tokens must be one of fixed, learned; got 'random'."),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(ArgumentError) as refused:
        Architecture(**{**SMALL, **changes})
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("second", [(), (0,), (6,), (-1, 1)])
def test_second_positions_that_are_none(second, key):
    for function in (progress_measures, chance_spread):
        with pytest.raises(ArgumentError, match="second_positions must be whole numbers from 1 to 5, at least one"):
            function(drawn(key), second)


def test_a_scale_that_is_lost(key):
    with pytest.raises(ArgumentError, match="scale must be a finite number of type float32"):
        initial_weights(Architecture(**SMALL), key, 1e300)


@pytest.mark.parametrize("scale", [-1.0, float("nan")])
def test_a_scale_that_is_none(scale, key):
    with pytest.raises(ArgumentError, match="scale must be a finite number, at least 0"):
        initial_weights(Architecture(**SMALL), key, scale)
