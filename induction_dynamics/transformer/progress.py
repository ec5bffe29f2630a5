"""Progress measures of a standard transformer: how much of each of the circuit's three structures its weights hold."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from induction_dynamics.errors import ArgumentError, whole_number
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.transformer.standard import StandardWeights


class ProgressMeasures(NamedTuple):
    """The three structures, for each head; or their spread.

    Args:
        alpha_3: of each head.
        beta_2: of each head of a layer (the last two axes) through each head of a layer below (the first two); 0 for
            pairs of heads that do not follow each other.
        gamma_3: of each head.
    """

    alpha_3: Float[Array | np.ndarray, "*some layers heads"]
    beta_2: Float[Array | np.ndarray, "*some layers heads layers heads"]
    gamma_3: Float[Array | np.ndarray, "*some layers heads"]


def progress_measures(
    weights: StandardWeights, second_positions: Sequence[int], scaled: bool = False
) -> ProgressMeasures:
    r"""How much of the circuit's structures the weights hold, each divided by its number of terms.

        alpha_3~ = 1/N sum over second positions i of (W_K p_{i-1}) . (W_Q p_i)           (token i looks at token i - 1)
        beta_2~  = 1/V sum over tokens v of (W_K' W_O W_V t_v) . (W_Q' t_v)   (a token looks where itself was retrieved)
        gamma_3~ = 1/V sum over tokens v of (W_U W_O W_V t_v)_v                       (what is looked at is put out)

    with W' of a layer above W. The first two are what the structure adds to a score, the third what it adds to the
    right logit, whatever D and V are. In two layers the circuit is alpha_3~ of the first, gamma_3~ of the second, and
    beta_2~ between them.

    Args:
        weights: of the model.
        second_positions: i, from 0 (`TokenTask.second_positions`).
        scaled: whether the model divides scores by sqrt(K): alpha_3~ and beta_2~ are then divided as well.

    Raises:
        ArgumentError: there are no second positions, or one is none of the model's with a position before it.

    Source:
        Musat et al., On the Emergence of Induction Heads for In-Context Learning, arXiv 2511.01033: the three sums, for
        one head and without the division.

    Example:
        >>> import jax
        >>> from induction_dynamics import Architecture, initial_weights, progress_measures
        >>> weights = initial_weights(Architecture(vocabulary=32, length=17, heads=4), jax.random.key(0))
        >>> [values.shape for values in progress_measures(weights, second_positions=range(1, 16, 2))]
        [(2, 4), (2, 4, 2, 4), (2, 4)]
    """
    second = _checked(second_positions, weights)
    first_vectors, second_vectors = weights.positions[second - 1], weights.positions[second]
    tokens = weights.tokens
    seeking = jnp.einsum("nd,lhkd->lhnk", second_vectors, weights.query)
    offering = jnp.einsum("nd,lhkd->lhnk", first_vectors, weights.key)
    alpha_3 = jnp.einsum("lhnk,lhnk->lh", seeking, offering) / len(second)

    moved = jnp.einsum("lhdk,lhkv->lhdv", weights.output, jnp.einsum("lhkd,vd->lhkv", weights.value, tokens))
    gamma_3 = jnp.einsum("vd,lhdv->lh", weights.unembedded_by, moved) / len(tokens)
    kept = jnp.einsum("mgkd,lhdv->lhmgkv", weights.key, moved)
    asked = jnp.einsum("mgkd,vd->mgkv", weights.query, tokens)
    beta_2 = jnp.einsum("lhmgkv,mgkv->lhmg", kept, asked) / len(tokens)
    beta_2 = jnp.where(_above(weights.layers), beta_2, jnp.zeros((), beta_2.dtype))
    if scaled:
        root = jnp.asarray(np.sqrt(weights.query.shape[2]), alpha_3.dtype)
        alpha_3, beta_2 = alpha_3 / root, beta_2 / root
    return ProgressMeasures(alpha_3, beta_2, gamma_3)


def chance_spread(weights: StandardWeights, second_positions: Sequence[int], scaled: bool = False) -> ProgressMeasures:
    r"""Standard deviation of each progress measure at random weights: "emerged" means many of these above 0.

    Random weights have the embeddings T and P of these, and matrices of independent entries of mean 0 with the root
    mean squares q, k, v, o and u of these. Then all three measures have mean 0, and exactly the variances

        alpha_3~: (q k / N)^2 K sum_ij (p_{i-1} . p_{j-1}) (p_i . p_j)
        beta_2~:  (q' k' o v / V)^2 K' D K sum_vw (t_v . t_w)^2
        gamma_3~: (u o v / V)^2 D K sum_v |t_v|^2,    if tied (o v / V)^2 K sum_vw (t_v . t_w)^2

    Measures of different heads are uncorrelated, so that variances of sums over heads are sums of these.

    Args:
        weights: of the model; at the start of training these are the spreads over starts, but for their own scatter.
        second_positions: see `progress_measures`.
        scaled: see there.

    Raises:
        ArgumentError: see there.

    Example:
        >>> import jax
        >>> from induction_dynamics import Architecture, chance_spread, initial_weights
        >>> architecture = Architecture(vocabulary=32, length=17, embedding_dim=128)
        >>> spread = chance_spread(initial_weights(architecture, jax.random.key(0)), range(1, 16, 2))
        >>> print(f"{spread.alpha_3[0, 0]:.3f}, {spread.gamma_3[1, 0]:.3f}")
        0.008, 0.002
    """
    second = _checked(second_positions, weights)
    width, head_width = weights.tokens.shape[1], weights.query.shape[2]
    first_vectors, second_vectors = weights.positions[second - 1], weights.positions[second]
    alike = jnp.sum((first_vectors @ first_vectors.T) * (second_vectors @ second_vectors.T))
    of_tokens = jnp.sum(jnp.square(weights.tokens @ weights.tokens.T))
    q, k, v, o = (
        jnp.sqrt(jnp.mean(jnp.square(each), axis=(2, 3)))
        for each in (weights.query, weights.key, weights.value, weights.output)
    )

    def root(number: int) -> Array:
        return jnp.asarray(np.sqrt(number), q.dtype)

    alpha_3 = q * k * root(head_width) * jnp.sqrt(jnp.maximum(alike, 0)) / len(second)
    through, into = o * v * jnp.sqrt(of_tokens) / len(weights.tokens), q * k * root(head_width)
    beta_2 = jnp.einsum("lh,mg->lhmg", through * root(width * head_width), into)
    beta_2 = jnp.where(_above(weights.layers), beta_2, jnp.zeros((), beta_2.dtype))
    if weights.unembedding is None:
        gamma_3 = through * root(head_width)
    else:
        u = jnp.sqrt(jnp.mean(jnp.square(weights.unembedding)))
        norm = jnp.sqrt(jnp.sum(jnp.square(weights.tokens)))
        gamma_3 = u * o * v * norm * root(width * head_width) / len(weights.tokens)
    if scaled:
        alpha_3, beta_2 = alpha_3 / root(head_width), beta_2 / root(head_width)
    return ProgressMeasures(alpha_3, beta_2, gamma_3)


def summed(measures: ProgressMeasures, squares: bool = False) -> Float[Array, "*some 3"]:
    """The three of the circuit, in the order of `CIRCUIT`, each summed over heads.

    alpha_3~ is summed over the layers but the last, beta_2~ over all pairs, gamma_3~ over the last layer.

    Args:
        measures: for each head.
        squares: whether they are standard deviations, of which the squares are summed.
    """
    below = measures.alpha_3[..., :-1, :] if measures.alpha_3.shape[-2] > 1 else measures.alpha_3
    parts = dict(alpha_3=below, beta_2=measures.beta_2, gamma_3=measures.gamma_3[..., -1:, :])
    axes = dict(alpha_3=(-2, -1), beta_2=(-4, -3, -2, -1), gamma_3=(-2, -1))
    if squares:
        return jnp.stack([jnp.sqrt(jnp.sum(jnp.square(parts[name]), axis=axes[name])) for name in CIRCUIT], axis=-1)
    return jnp.stack([jnp.sum(parts[name], axis=axes[name]) for name in CIRCUIT], axis=-1)


def _checked(second_positions: Sequence[int], weights: StandardWeights) -> np.ndarray:
    most = weights.positions.shape[0] - 1
    numbers = [whole_number(i) for i in second_positions]
    if not numbers or not all(i is not None and 1 <= i <= most for i in numbers):
        raise ArgumentError(
            "second_positions", tuple(second_positions), f"whole numbers from 1 to {most}, at least one"
        )
    return np.array(numbers)


def _above(layers: int) -> np.ndarray:
    """Whether the second of two layers is above the first."""
    return (np.arange(layers)[:, None] < np.arange(layers)[None, :])[:, None, :, None]
