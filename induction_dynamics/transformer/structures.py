"""What two layers' weights do to tokens and positions: the matrices whose means are the progress measures."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from induction_dynamics.errors import ArgumentError
from induction_dynamics.transformer.standard import StandardWeights


class InterpretableStructures(NamedTuple):
    """Weights between embeddings on both sides, of each head of two layers.

    Args:
        positions: what a query's position (row) and a key's position (column) add to a score of the lower layer.
        retrieval: of each head of the lower layer, through each head of the upper one: what a query's token (row) and
            the token that its key has retrieved (column) add to a score of the upper layer.
        copying: what an attended token (column) adds to each token's logit (row) by a head of the upper layer.
    """

    positions: Float[Array | np.ndarray, "heads length length"]
    retrieval: Float[Array | np.ndarray, "heads heads vocabulary vocabulary"]
    copying: Float[Array | np.ndarray, "heads vocabulary vocabulary"]


def interpretable_structures(
    weights: StandardWeights, scaled: bool = False, *, layers: tuple[int, int] = (0, 1)
) -> InterpretableStructures:
    r"""Weights with the embeddings on both sides, where the circuit's three structures can be seen.

        positions = P W_Q^T W_K P^T                           (a subdiagonal: token i looks at token i - 1)
        retrieval = T W_Q'^T W_K' W_O W_V T^T                 (the diagonal: a token looks where itself was retrieved)
        copying   = W_U W_O' W_V' T^T                         (the diagonal: what is looked at is put out)

    with W of the lower layer and W' of the upper one. The means of the entries (i, i - 1) of the first, with i a second
    position, and of the diagonals of the other two are alpha_3~, beta_2~ and gamma_3~ of `progress_measures`.

    Args:
        weights: of the model.
        scaled: whether the model divides scores by sqrt(K): the first two are then divided as well.
        layers: the lower and the upper layer, counted from 0.

    Raises:
        ArgumentError: the model has no such layers, or the lower one is not below the upper one.

    Source:
        Musat et al., On the Emergence of Induction Heads for In-Context Learning, arXiv 2511.01033: the structure of
        weights that make an induction head.

    Example:
        >>> import jax
        >>> from induction_dynamics.transformer.standard import Architecture, initial_weights
        >>> weights = initial_weights(Architecture(vocabulary=32, length=17, heads=4), jax.random.key(0))
        >>> [matrices.shape for matrices in interpretable_structures(weights)]
        [(4, 17, 17), (4, 4, 32, 32), (4, 32, 32)]
    """
    lower, upper = layers
    if not 0 <= lower < upper < weights.layers:
        raise ArgumentError("layers", layers, f"two of the model's {weights.layers} layers, the lower one first")
    tokens, positions = weights.tokens, weights.positions
    seeking = jnp.einsum("id,hkd->hik", positions, weights.query[lower])
    offering = jnp.einsum("jd,hkd->hjk", positions, weights.key[lower])
    asked = jnp.einsum("ud,gkd->guk", tokens, weights.query[upper])
    moved = jnp.einsum("hdk,hkv->hdv", weights.output[lower], jnp.einsum("hkd,vd->hkv", weights.value[lower], tokens))
    kept = jnp.einsum("gkd,hdv->hgkv", weights.key[upper], moved)
    written = jnp.einsum("ud,gdk->guk", weights.unembedded_by, weights.output[upper])
    read = jnp.einsum("gkd,vd->gkv", weights.value[upper], tokens)
    root = jnp.asarray(np.sqrt(weights.query.shape[2]) if scaled else 1.0, seeking.dtype)
    return InterpretableStructures(
        positions=jnp.einsum("hik,hjk->hij", seeking, offering) / root,
        retrieval=jnp.einsum("guk,hgkv->hguv", asked, kept) / root,
        copying=jnp.einsum("guk,gkv->guv", written, read),
    )
