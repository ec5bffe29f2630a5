"""Nineteen coordinates on given Gram matrices: isotropic inputs, any rotation, and the twin of the closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from induction_dynamics.gram_matrices import GramMatrices, orthonormal_gram_matrices, with_copies
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.task import Placements, Task, every_placement
from induction_dynamics.transformer.disentangled import strictly_causal_softmax


class GramLoss(eqx.Module):
    r"""Loss of the nineteen-coordinate model on sequences given by their Gram matrices, mean over samples and queries.

    Layer-1 scores are alpha_1 S_t + alpha_2 S_r + alpha_3 S_m, layer-2 scores are bilinear in the same; the output is a
    combination c of the sequence's tokens, and the loss is

        1/2 (e - c)^T S_t (e - c),  e one-hot at the label of the queried item.

    Every q is counted when the query is uniform and nothing says which pair is queried: nothing is left to chance but
    the Gram matrices. Costs O(N^3) a sample then, O(N^2) otherwise, and nothing in D.

    Args:
        gram: S_t, S_r, S_m, with one leading axis of samples.
        query: `last` or `uniform`.
        queried: the pair queried in each sample, counted from 0, where that is given (several copies of it: any one).
    """

    gram: GramMatrices
    query: str = eqx.field(static=True)
    queried: Int[Array, " samples"] | None = None

    @property
    def combinations(self) -> Float[np.ndarray, "combinations 19"]:
        """The loss is a function of these combinations of the coordinates: of all nineteen."""
        return np.eye(len(COORDINATES))

    def __call__(self, coordinates: Float[Array, "19"]) -> Float[Array, ""]:
        """The loss at coordinates theta [19]."""
        if self.queried is not None:
            return jnp.mean(jax.vmap(lambda gram, q: _sample_loss(coordinates, gram, q[None]))(self.gram, self.queried))
        pairs = self.gram.tokens.shape[-1] // 2
        queries = jnp.arange(pairs) if self.query == "uniform" else jnp.arange(pairs - 1, pairs)
        return jnp.mean(jax.vmap(lambda gram: _sample_loss(coordinates, gram, queries))(self.gram))


def orthonormal_gram_loss(task: Task) -> GramLoss:
    """The exact population loss for orthonormal inputs at any rotation: one sample stands for all, or one placement."""
    every = orthonormal_gram_matrices(task)
    if task.copies > 1:
        return gram_loss_of_copies(task, every_placement(task))
    return GramLoss(GramMatrices(*(matrix[None] for matrix in every)), task.query)


def gram_loss_of_copies(task: Task, placements: Placements) -> GramLoss:
    """The loss for orthonormal inputs at any rotation, mean over given placements of the queried pair.

    Args:
        task: gives the number of pairs and the rotation M.
        placements: of which each counts once.
    """
    count = len(placements.query)
    every = orthonormal_gram_matrices(task)
    gram = GramMatrices(*(jnp.broadcast_to(matrix, (count, *matrix.shape)) for matrix in every))
    return GramLoss(with_copies(gram, placements), task.query, placements.query)


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
