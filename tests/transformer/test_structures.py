"""The three structures against literal sums over single embeddings, and against the progress measures."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.errors import ArgumentError
from induction_dynamics.transformer.progress import progress_measures
from induction_dynamics.transformer.standard import Architecture, StandardWeights, initial_weights
from induction_dynamics.transformer.structures import interpretable_structures

SECOND = (1, 3, 5)
# one program each, rather than one for each product
compute = jax.jit(interpretable_structures, static_argnames=("scaled", "layers"))
measure = jax.jit(progress_measures, static_argnums=(1, 2))
SIZES: dict[str, Any] = {"vocabulary": 5, "length": 7, "embedding_dim": 8, "heads": 2}


def weights_of(key, **changes):
    return initial_weights(Architecture(**(SIZES | changes)), key, scale=1.3, dtype=jnp.float64)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_means_of_diagonals_are_the_progress_measures(key, tied, scaled):
    weights = weights_of(key, tied=tied)
    positions, retrieval, copying = compute(weights, scaled)
    measures = measure(weights, SECOND, scaled)
    rows, before = np.array(SECOND), np.array(SECOND) - 1
    np.testing.assert_allclose(positions[:, rows, before].mean(axis=-1), measures.alpha_3[0], rtol=1e-12)
    diagonal = np.diagonal(retrieval, axis1=-2, axis2=-1).mean(axis=-1)
    np.testing.assert_allclose(diagonal, measures.beta_2[0, :, 1], rtol=1e-12)
    np.testing.assert_allclose(np.diagonal(copying, axis1=-2, axis2=-1).mean(axis=-1), measures.gamma_3[1], rtol=1e-12)


def test_every_entry_by_itself(key):
    drawn = weights_of(key)
    positions, retrieval, copying = map(np.asarray, compute(drawn))
    weights = jax.tree.map(np.asarray, drawn)
    T, P, W_U = weights.tokens, weights.positions, weights.unembedding
    W_Q, W_K, W_V, W_O = weights.query, weights.key, weights.value, weights.output
    for head in range(2):
        for i in range(7):
            for j in range(7):
                expected = (W_Q[0, head] @ P[i]) @ (W_K[0, head] @ P[j])
                assert positions[head, i, j] == pytest.approx(expected, abs=1e-12)
        for u in range(5):
            for v in range(5):
                expected = W_U[u] @ W_O[1, head] @ W_V[1, head] @ T[v]
                assert copying[head, u, v] == pytest.approx(expected, abs=1e-12)
                for lower in range(2):
                    retrieved = W_O[0, lower] @ W_V[0, lower] @ T[v]
                    expected = (W_Q[1, head] @ T[u]) @ (W_K[1, head] @ retrieved)
                    assert retrieval[lower, head, u, v] == pytest.approx(expected, abs=1e-12)


def test_any_two_layers_of_more(key):
    weights = weights_of(key, layers=3)
    query, key_, value, output = (each[1:] for each in (weights.query, weights.key, weights.value, weights.output))
    upper = StandardWeights(weights.tokens, weights.positions, query, key_, value, output, weights.unembedding)
    found = compute(weights, layers=(1, 2))
    for one, other in zip(found, compute(upper), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("layers", [(0, 2), (1, 0), (1, 1), (-1, 1)])
def test_refused(key, layers):
    message = f"layers must be two of the model's 2 layers, the lower one first; got {layers}."
    with pytest.raises(ArgumentError, match=re.escape(message)):
        interpretable_structures(weights_of(key), layers=layers)
