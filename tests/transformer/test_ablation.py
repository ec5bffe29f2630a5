"""Ablations against a forward pass with explicit loops, in which every part of the residual stream is kept apart."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.transformer.ablation import (
    ABLATIONS,
    CIRCUIT_PATHS,
    PATHS,
    ablate_heads,
    ablate_terms,
)
from induction_dynamics.transformer.standard import Architecture, initial_weights, standard_forward

VOCABULARY, LENGTH, HEADS = 5, 4, 2
EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
DIAGONALS = {CIRCUIT_PATHS[name]: f"diagonal {name}" for name in CIRCUIT}


@pytest.fixture(scope="module")
def weights():
    """Weights so large that attention is far from uniform."""
    architecture = Architecture(VOCABULARY, LENGTH, embedding_dim=6, heads=HEADS, head_dim=3, scaled=True)
    return initial_weights(architecture, jax.random.key(3), scale=2.5, dtype=jnp.float64)


@pytest.fixture(scope="module")
def tokens():
    # tokens that come again, as the diagonals need
    return np.array([[1, 4, 1, 3], [0, 2, 2, 0], [3, 3, 1, 4]])


def literal(weights, sequence, kept):
    """One sequence: logits and attention, with each term of a score or logit added only if `kept(its name)`."""
    w = jax.tree.map(np.asarray, weights)
    length, root = len(sequence), np.sqrt(w.query.shape[2])
    parts = {"t": [w.tokens[v] for v in sequence], "p": [w.positions[i] for i in range(length)]}
    attention = np.zeros((2, HEADS, length, length))
    for layer in range(2):
        for head in range(HEADS):
            for i in range(length):
                scores = np.zeros(i + 1)
                for j in range(i + 1):
                    for asking, asked in parts.items():
                        for offering, offered in parts.items():
                            name = f"scores_{layer + 1}:{asking},{offering}"
                            term = (w.query[layer, head] @ asked[i]) @ (w.key[layer, head] @ offered[j]) / root
                            if name not in DIAGONALS or kept(name) == kept(DIAGONALS[name]):
                                scores[j] += term * kept(name)
                                continue
                            # the diagonal goes another way than the rest of its term
                            if layer == 0:
                                own = term if j == i - 1 else 0.0
                            else:
                                matches = [k for k in range(j + 1) if sequence[k] == sequence[i]]
                                moved = sum(
                                    attention[0, h, j, k] * (w.output[0, h] @ (w.value[0, h] @ parts["t"][k]))
                                    for h in range(HEADS)
                                    for k in matches
                                ) + np.zeros_like(asked[i])
                                own = (w.query[1, head] @ asked[i]) @ (w.key[1, head] @ moved) / root
                            scores[j] += kept(name) * (term - own) + kept(DIAGONALS[name]) * own
                powers = np.exp(scores - scores.max())
                attention[layer, head, i, : i + 1] = powers / powers.sum()
        added = {}
        for part, vectors in parts.items():
            added[f"{layer + 1}{part}"] = [
                sum(
                    attention[layer, h, i, j] * (w.output[layer, h] @ (w.value[layer, h] @ vectors[j]))
                    for h in range(HEADS)
                    for j in range(i + 1)
                )
                for i in range(length)
            ]
        parts.update(added)
    logits = np.zeros((length, VOCABULARY))
    for i in range(length):
        for part, vectors in parts.items():
            name, term = f"logits:{part}", w.unembedding @ vectors[i]
            if name not in DIAGONALS or kept(name) == kept(DIAGONALS[name]):
                logits[i] += term * kept(name)
                continue
            own = np.zeros(VOCABULARY)
            for h in range(HEADS):
                for j in range(i + 1):
                    moved = w.output[1, h] @ (w.value[1, h] @ parts["t"][j])
                    own[sequence[j]] += attention[1, h, i, j] * (w.unembedding[sequence[j]] @ moved)
            logits[i] += kept(name) * (term - own) + kept(DIAGONALS[name]) * own
    return logits, attention


def twin(weights, tokens, kept):
    pairs = [literal(weights, sequence, lambda name: float(kept(name))) for sequence in tokens]
    return np.array([logits for logits, _ in pairs]), np.array([attention for _, attention in pairs])


def assert_same(output, expected):
    np.testing.assert_allclose(output.logits, expected[0], **EXACT)
    np.testing.assert_allclose(output.attention, expected[1], **EXACT)


def test_all_terms_together_are_the_model(weights, tokens):
    assert len(PATHS) == 4 + 16 + 8 and tuple(CIRCUIT_PATHS) == CIRCUIT
    expected = twin(weights, tokens, lambda name: True)
    assert_same(standard_forward(weights, jnp.asarray(tokens), scaled=True), expected)
    assert_same(ablate_terms(weights, tokens, [], scaled=True), expected)
    assert_same(ablate_terms(weights, tokens, list(PATHS), only=True, scaled=True), expected)


@pytest.mark.parametrize("terms", [[name] for name in CIRCUIT] + [["alpha_3", "gamma_3"], list(CIRCUIT)], ids="+".join)
def test_the_circuits_terms_alone_and_removed(weights, tokens, terms):
    names = {CIRCUIT_PATHS[term] for term in terms}
    diagonals = {f"diagonal {term}" for term in terms}

    def whole(only):
        return lambda name: (name in names | diagonals) == only

    def along(only):
        return lambda name: (name in diagonals) == only

    for only in (False, True):
        assert_same(ablate_terms(weights, tokens, terms, only, scaled=True), twin(weights, tokens, whole(only)))
        found = ablate_terms(weights, tokens, terms, only, diagonal=True, scaled=True)
        assert_same(found, twin(weights, tokens, along(only)))


def test_any_other_term(weights, tokens):
    chosen = ["scores_1:t,p", "scores_2:1t,p", "scores_2:p,1p", "logits:21p", "logits:t"]
    diagonals = set(DIAGONALS.values())
    removed = twin(weights, tokens, lambda name: name not in chosen)
    assert_same(ablate_terms(weights, tokens, chosen, scaled=True), removed)
    kept = [*chosen, "beta_2", CIRCUIT_PATHS["beta_2"]]
    alone = twin(weights, tokens, lambda name: name in kept or name in diagonals & {"diagonal beta_2"})
    assert_same(ablate_terms(weights, tokens, kept, only=True, scaled=True), alone)


def test_what_is_left_of_nothing(weights, tokens):
    output = ablate_terms(weights, tokens, [], only=True)
    assert not np.asarray(output.logits).any()
    uniform = np.tril(np.ones((LENGTH, LENGTH))) / np.arange(1, LENGTH + 1)[:, None]
    np.testing.assert_allclose(output.attention, np.broadcast_to(uniform, output.attention.shape), **EXACT)


def heads_literally(weights, tokens, heads, how, reference):
    """Logits by loops; `kept` attention and means are of the model as it is."""
    w = jax.tree.map(np.asarray, weights)

    def forward(sequence, instead, attention):
        x = [w.tokens[v] + w.positions[i] for i, v in enumerate(sequence)]
        seen, every = np.zeros((2, HEADS, len(x), len(x))), {}
        for layer in range(2):
            total = [np.zeros_like(x[0]) for _ in x]
            for head in range(HEADS):
                for i in range(len(x)):
                    scores = [(w.query[layer, head] @ x[i]) @ (w.key[layer, head] @ x[j]) for j in range(i + 1)]
                    row = np.exp(np.array(scores) - max(scores))
                    row = row / row.sum() if attention is None else attention[layer, head, i, : i + 1]
                    seen[layer, head, i, : i + 1] = row
                    mixed = sum(row[j] * x[j] for j in range(i + 1))
                    every[layer, head, i] = w.output[layer, head] @ (w.value[layer, head] @ mixed)
                    total[i] = total[i] + instead.get((layer, head, i), every[layer, head, i])
            x = [old + new for old, new in zip(x, total, strict=True)]
        return np.array([w.unembedding @ each for each in x]), seen, every

    intact = [forward(sequence, {}, None) for sequence in reference]
    places = [(layer, head, i) for layer, head in heads for i in range(tokens.shape[1])]
    means = {place: np.mean([added[place] for _, _, added in intact], axis=0) for place in places}
    instead = means if how == "mean" else {place: np.zeros(w.tokens.shape[1]) for place in places}
    fixed = [forward(sequence, {}, None)[1] if how == "pattern" else None for sequence in tokens]
    found = [forward(sequence, instead, attention) for sequence, attention in zip(tokens, fixed, strict=True)]
    return np.array([logits for logits, _, _ in found]), np.array([attention for _, attention, _ in found])


@pytest.mark.parametrize("how", ABLATIONS)
@pytest.mark.parametrize("heads", [[(0, 1)], [(1, 0)], [(0, 0), (1, 1)], [(0, 0), (0, 1)]], ids=str)
def test_heads(weights, tokens, how, heads):
    other = np.array([[0, 0, 4, 2], [1, 2, 3, 4]])
    assert_same(ablate_heads(weights, tokens, heads, how), heads_literally(weights, tokens, heads, how, tokens))
    found = ablate_heads(weights, tokens, heads, how, reference=other)
    assert_same(found, heads_literally(weights, tokens, heads, how, other))


def test_without_any_head_the_embeddings_alone_are_read(weights, tokens):
    every = [(layer, head) for layer in range(2) for head in range(HEADS)]
    direct = weights.tokens[tokens] + weights.positions[None, :LENGTH]
    for how in ("zero", "pattern"):
        logits = ablate_heads(weights, tokens, every, how).logits
        np.testing.assert_allclose(logits, direct @ weights.unembedding.T, **EXACT)


def test_patterns_matter_only_below_another_layer(weights, tokens):
    last, first = (
        [ablate_heads(weights, tokens, [head], how) for how in ("zero", "pattern")] for head in ((1, 0), (0, 0))
    )
    assert_same(last[0], (last[1].logits, last[1].attention))
    assert np.abs(np.asarray(first[0].logits - first[1].logits)).max() > 0.1


def test_no_head_and_scaled_scores(weights, tokens):
    for scaled in (False, True):
        intact = standard_forward(weights, jnp.asarray(tokens), scaled)
        for how in ABLATIONS:
            assert_same(ablate_heads(weights, tokens, [], how, scaled=scaled), (intact.logits, intact.attention))


REFUSED = {
    "how must be one of zero, mean, pattern; got 'none'.": lambda w, x: ablate_heads(w, x, [(0, 0)], "none"),
    "heads must be pairs of a layer from 0 to 1 and a head from 0 to 1; got (0, 2).": lambda w, x: ablate_heads(
        w, x, [(0, 2)]
    ),
    "got (2, 0).": lambda w, x: ablate_heads(w, x, [(2, 0)]),
    "got (-1, 0).": lambda w, x: ablate_heads(w, x, [(-1, 0)]),
    "reference must be of as many positions as the tokens, 4; got 3.": lambda w, x: ablate_heads(
        w, x, [(0, 0)], "mean", x[:, :3]
    ),
    "terms must be names out of alpha_3, beta_2, gamma_3, scores_1:t,t": lambda w, x: ablate_terms(w, x, ["beta_1"]),
    "terms must be names out of alpha_3, beta_2, gamma_3; got 'logits:t'.": lambda w, x: ablate_terms(
        w, x, ["logits:t"], diagonal=True
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(weights, tokens, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        REFUSED[message](weights, tokens)


def test_terms_of_another_number_of_layers_are_refused(tokens):
    deep = initial_weights(Architecture(VOCABULARY, LENGTH, embedding_dim=4, layers=3), jax.random.key(0))
    with pytest.raises(ArgumentError, match=re.escape("weights must be of two layers; got 3.")):
        ablate_terms(deep, tokens, ["alpha_3"])
    assert ablate_heads(deep, tokens, [(2, 0)]).attention.shape[1] == 3
