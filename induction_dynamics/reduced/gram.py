"""Nineteen coordinates on given Gram matrices: isotropic inputs, any rotation, and the twin of the closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from induction_dynamics.gram_matrices import GramMatrices, orthonormal_gram_matrices
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.task import Task
from induction_dynamics.transformer.disentangled import strictly_causal_softmax


class GramLoss(eqx.Module):
    r"""Loss of the nineteen-coordinate model on sequences given by their Gram matrices, mean over samples and queries.

    Layer-1 scores are alpha_1 S_t + alpha_2 S_r + alpha_3 S_m, layer-2 scores are bilinear in the same; the output is a
    combination c of the sequence's tokens, and the loss is

        1/2 (e - c)^T S_t (e - c),  e one-hot at the label of the queried item.

    Every q is counted when the query is uniform: nothing is left to chance but the Gram matrices. Costs O(N^3) a
    sample with the query uniform, O(N^2) with the query last, and nothing in D.

    Args:
        gram: S_t, S_r, S_m, with one leading axis of samples.
        query: `last` or `uniform`.
    """

    gram: GramMatrices
    query: str = eqx.field(static=True)

    @property
    def combinations(self) -> Float[np.ndarray, "combinations 19"]:
        """The loss is a function of these combinations of the coordinates: of all nineteen."""
        return np.eye(len(COORDINATES))

    def __call__(self, coordinates: Float[Array, "19"]) -> Float[Array, ""]:
        """The loss at coordinates theta [19]."""
        pairs = self.gram.tokens.shape[-1] // 2
        queries = jnp.arange(pairs) if self.query == "uniform" else jnp.arange(pairs - 1, pairs)
        return jnp.mean(jax.vmap(lambda gram: _sample_loss(coordinates, gram, queries))(self.gram))


def orthonormal_gram_loss(task: Task) -> GramLoss:
    """The exact population loss for orthonormal inputs at any rotation: one sample stands for all."""
    single = GramMatrices(*(matrix[None] for matrix in orthonormal_gram_matrices(task)))
    return GramLoss(single, task.query)


def _sample_loss(coordinates: Float[Array, "19"], gram: GramMatrices, queries) -> Float[Array, ""]:
    alpha, beta, gamma = jnp.split(coordinates, [3, 15])
    tokens, length = gram.tokens, gram.positions.shape[-1]
    positions, query_positions = gram.positions[:-1, :-1], gram.positions[-1, :-1]
    rotated, query_rotated = gram.rotated[:-1, :-1], gram.rotated[-1, :-1]
    items = 2 * queries
    token_rows = tokens[items]

    # Layer 1: the 2N keys' rows, which no query changes, and the query's own row for each q.
    keys_A1 = strictly_causal_softmax(alpha[0] * tokens + alpha[1] * positions + alpha[2] * rotated)
    row = (alpha[1] * query_positions + alpha[2] * query_rotated)[None, :]
    query_A1 = jax.nn.softmax(alpha[0] * token_rows + row, axis=-1)

    # Layer 2: the query's features (t, r, A1t, A1r) against each key's own (t, r) and averaged (A1t, A1r) features.
    averaged_tokens, averaged_positions, averaged_rotated = (
        query_A1 @ matrix for matrix in (tokens, positions, rotated)
    )
    own = (
        beta[0] * token_rows
        + beta[2] * averaged_tokens
        + (beta[4] * query_positions + beta[5] * query_rotated)[None, :]
        + beta[8] * averaged_positions
        + beta[9] * averaged_rotated
    )
    averaged = (
        beta[1] * token_rows
        + beta[3] * averaged_tokens
        + (beta[6] * query_positions + beta[7] * query_rotated)[None, :]
        + beta[10] * averaged_positions
        + beta[11] * averaged_rotated
    )
    attention = jax.nn.softmax(own + averaged @ keys_A1.T, axis=-1)

    one_hot = jnp.eye(length - 1, dtype=tokens.dtype)
    error = (
        gamma[0] * one_hot[items]
        + gamma[1] * query_A1
        + gamma[2] * attention
        + gamma[3] * (attention @ keys_A1)
        - one_hot[items + 1]
    )
    return jnp.mean(jnp.einsum("qi,ij,qj->q", error, tokens, error)) / 2
