"""The full model as one would first write it: every position of both layers, and no gradient by hand."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from induction_dynamics.task import Sequences
from induction_dynamics.transformer.disentangled import Weights


def plain_loss(weights: Weights, sequences: Sequences) -> Float[Array, ""]:
    """Half the mean over the batch of ||y_q - out||^2.

    Args:
        weights: W1, W2, W3.
        sequences: the batch.
    """
    x0 = jnp.concatenate([sequences.tokens, sequences.positions], axis=-1)
    x1 = jnp.concatenate([x0, _attend(x0, weights.W1)], axis=-1)
    x2 = jnp.concatenate([x1, _attend(x1, weights.W2)], axis=-1)
    error = x2[:, -1] @ weights.W3.T - sequences.target
    return jnp.mean(jnp.sum(error**2, axis=-1)) / 2


def _attend(stream: Float[Array, "batch length width"], matrix: Float[Array, "width width"]) -> Array:
    """What each position takes from those before it."""
    scores = stream @ matrix @ jnp.swapaxes(stream, 1, 2)
    earlier = jnp.tril(jnp.ones(scores.shape[1:], scores.dtype), -1)[None]
    attention = jax.nn.softmax(scores - 1e9 * (1 - earlier), axis=-1) * earlier  # the first has none to attend to
    return attention @ stream
