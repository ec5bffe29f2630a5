"""The full model: a two-layer disentangled transformer with 28 D^2 weights.

Axes: B batch, L sequence (2N + 1 tokens), K keys of layer 2 (2N, all but the query), D width.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from induction_dynamics.task import Sequences


class Weights(eqx.Module):
    """The 28 D^2 trained numbers.

    Args:
        W1: 2D x 2D, layer 1's merged key-query matrix (query side left, key side right).
        W2: 4D x 4D, layer 2's.
        W3: D x 8D, the output matrix.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from induction_dynamics import Weights
        >>> weights = Weights(W1=jnp.eye(12), W2=jnp.zeros((24, 24)), W3=jnp.zeros((6, 48)))
        >>> dim = weights.embedding_dim
        >>> dim, sum(leaf.size for leaf in jax.tree.leaves(weights)) == 28 * dim**2
        (6, True)
    """

    W1: Float[Array, "twice_dim twice_dim"]
    W2: Float[Array, "four_dim four_dim"]
    W3: Float[Array, "dim eight_dim"]

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self.W3.shape[0]


class Output(NamedTuple):
    """What a forward pass computes.

    Args:
        prediction: the model's answer at the query.
        attention_1: A1, rows attend to columns; row 1 is zero.
        attention_2: the query's attention to the 2N tokens before it.
    """

    prediction: Float[Array, "batch dim"]
    attention_1: Float[Array, "batch length length"]
    attention_2: Float[Array, "batch keys"]


def zero_weights(embedding_dim: int, dtype: jnp.dtype | type = jnp.float32) -> Weights:
    """The start of training: W1 = W2 = W3 = 0.

    Args:
        embedding_dim: D.
        dtype: floating type.
    """
    dim = embedding_dim
    return Weights(
        W1=jnp.zeros((2 * dim, 2 * dim), dtype),
        W2=jnp.zeros((4 * dim, 4 * dim), dtype),
        W3=jnp.zeros((dim, 8 * dim), dtype),
    )


def strictly_causal_softmax(scores: Float[Array, "*batch length length"]) -> Float[Array, "*batch length length"]:
    """Softmax of each row over the columns before it; the first row, which has none, is zero.

    The mask comes before the division, so neither the first row nor its gradient is ever 0/0.
    """
    length = scores.shape[-1]
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((length, length), bool), k=-1), scores.shape)
    zero = jnp.zeros((), scores.dtype)
    largest = jnp.max(jnp.where(mask, scores, jnp.finfo(scores.dtype).min), axis=-1, keepdims=True)
    exponentials = jnp.where(mask, jnp.exp(jnp.where(mask, scores - jax.lax.stop_gradient(largest), zero)), zero)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    return exponentials / jnp.where(total > 0, total, jnp.ones((), scores.dtype))


def forward(weights: Weights, sequences: Sequences) -> Output:
    r"""The forward pass.

        x0_i = [t_i ; r_i]
        A1_ij = softmax over j < i of x0_i^T W1 x0_j
        x1_i = [x0_i ; sum_j A1_ij x0_j]
        a_j  = softmax over j < n of x1_n^T W2 x1_j
        out  = W3 [x1_n ; sum_j a_j x1_j]

    Only the query's row of layer 2 is computed, and the averages A1 x0 only where they are read: elsewhere A1 is
    applied to one number a position, (A1 x0_j) . k = A1 (x0_j . k), and sum_j a_j (A1 x0)_j = (a A1) x0.

    Args:
        weights: W1, W2, W3.
        sequences: tokens t and position vectors r, each [B, L, D].

    Example:
        >>> import jax, numpy as np
        >>> from induction_dynamics.task import Task, sample_sequences
        >>> task = Task(context_length=2)
        >>> output = forward(zero_weights(task.embedding_dim), sample_sequences(task, jax.random.key(0), 1))
        >>> print(np.asarray(output.attention_1[0]).round(2))  # alike to every token before
        [[0.   0.   0.   0.   0.  ]
         [1.   0.   0.   0.   0.  ]
         [0.5  0.5  0.   0.   0.  ]
         [0.33 0.33 0.33 0.   0.  ]
         [0.25 0.25 0.25 0.25 0.  ]]
    """
    dim = weights.embedding_dim
    x0_BxLxE = jnp.concatenate([sequences.tokens, sequences.positions], axis=-1)
    keys_BxKxE = x0_BxLxE[:, :-1]
    projected_BxLxE = jnp.einsum("ble,ef->blf", x0_BxLxE, weights.W1)
    attention_1 = strictly_causal_softmax(jnp.einsum("ble,bme->blm", projected_BxLxE, x0_BxLxE))
    to_keys_BxKxK = attention_1[:, :-1, :-1]

    averaged_BxE = jnp.einsum("bk,bke->be", attention_1[:, -1, :-1], keys_BxKxE)
    query_BxF = jnp.concatenate([x0_BxLxE[:, -1], averaged_BxE], axis=-1)
    side_BxF = jnp.einsum("bf,fg->bg", query_BxF, weights.W2)
    direct_BxK = jnp.einsum("bke,be->bk", keys_BxKxE, side_BxF[:, : 2 * dim])
    through_BxK = jnp.einsum("bke,be->bk", keys_BxKxE, side_BxF[:, 2 * dim :])
    scores_BxK = direct_BxK + jnp.einsum("bkm,bm->bk", to_keys_BxKxK, through_BxK)
    attention_2 = jax.nn.softmax(scores_BxK, axis=-1)

    pulled_back_BxK = jnp.einsum("bk,bkm->bm", attention_2, to_keys_BxKxK)
    retrieved_BxF = jnp.concatenate(
        [
            jnp.einsum("bk,bke->be", attention_2, keys_BxKxE),
            jnp.einsum("bk,bke->be", pulled_back_BxK, keys_BxKxE),
        ],
        axis=-1,
    )
    x2_BxG = jnp.concatenate([query_BxF, retrieved_BxF], axis=-1)
    return Output(jnp.einsum("dg,bg->bd", weights.W3, x2_BxG), attention_1, attention_2)


def batch_loss(weights: Weights, sequences: Sequences) -> Float[Array, ""]:
    """Half the mean over the batch of ||y_q - out||^2.

    Args:
        weights: W1, W2, W3.
        sequences: the batch.
    """
    error = forward(weights, sequences).prediction - sequences.target
    return jnp.sum(error * error) / (2 * error.shape[0])
