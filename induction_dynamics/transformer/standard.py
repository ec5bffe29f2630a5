"""A standard transformer: attention only, additive residual stream, separate query, key, value and output matrices.

Axes: B batch, L sequence, M keys (L as well), H heads of a layer, K width of a head, D width, V vocabulary.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray

from induction_dynamics.errors import ArgumentError, whole_number

EMBEDDINGS = ("fixed", "learned")

Edit = Callable[[int, str, Array], Array]
"""What may change a forward pass on its way: called with the number of the layer, what it is shown, and its value."""

_LARGEST = {
    "vocabulary": 2**16,
    "length": 2**13 + 1,
    "embedding_dim": 2**12,
    "layers": 64,
    "heads": 256,
    "head_dim": 2**12,
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    r"""Sizes of a standard transformer, and which of its weights are trained.

    Args:
        vocabulary: V, number of tokens.
        length: longest sequence, in tokens.
        embedding_dim: D, width of the residual stream.
        layers: number of layers, each of attention alone.
        heads: H, of each layer.
        head_dim: K, width of a head; the default, 0, stands for D/H.
        scaled: whether scores are divided by sqrt(K).
        tokens: whether the token embeddings are `fixed` as drawn, or `learned`.
        positions: the same of the position vectors.
        tied: whether the unembedding is the token embeddings themselves.

    Raises:
        ArgumentError: a value out of range; the message names the argument and what is allowed.

    Example:
        >>> from induction_dynamics import Architecture
        >>> Architecture(vocabulary=32, length=17, embedding_dim=128, heads=4).head_dim
        32
    """

    vocabulary: int
    length: int
    embedding_dim: int = 128
    layers: int = 2
    heads: int = 1
    head_dim: int = 0
    scaled: bool = False
    tokens: str = "fixed"
    positions: str = "fixed"
    tied: bool = False

    def __post_init__(self):
        if self.head_dim == 0 and not isinstance(self.head_dim, bool):
            dim, heads = whole_number(self.embedding_dim), whole_number(self.heads)
            if dim and heads and heads > 0:
                if dim % heads:
                    raise ArgumentError("heads", heads, f"a divisor of embedding_dim, {dim}, unless head_dim is given")
                object.__setattr__(self, "head_dim", dim // heads)
        for name, largest in _LARGEST.items():
            value = whole_number(getattr(self, name))
            if value is None or not 1 <= value <= largest:
                raise ArgumentError(name, getattr(self, name), f"a whole number from 1 to {largest}")
            object.__setattr__(self, name, value)
        for name in ("tokens", "positions"):
            if getattr(self, name) not in EMBEDDINGS:
                raise ArgumentError(name, getattr(self, name), f"one of {', '.join(EMBEDDINGS)}")
        for name in ("scaled", "tied"):
            if not isinstance(getattr(self, name), bool):
                raise ArgumentError(name, getattr(self, name), "true or false")


class StandardWeights(eqx.Module):
    """All numbers of a standard transformer.

    Args:
        tokens: T, an embedding for each token.
        positions: P, a vector for each position.
        query: W_Q of each head of each layer.
        key: W_K.
        value: W_V.
        output: W_O.
        unembedding: W_U, a row for each token; None if it is T.

    Example:
        >>> import jax
        >>> from induction_dynamics import Architecture, initial_weights
        >>> weights = initial_weights(Architecture(vocabulary=32, length=17, heads=4), jax.random.key(0))
        >>> weights.query.shape, weights.output.shape
        ((2, 4, 32, 128), (2, 4, 128, 32))
    """

    tokens: Float[Array, "vocabulary dim"]
    positions: Float[Array, "length dim"]
    query: Float[Array, "layers heads head_dim dim"]
    key: Float[Array, "layers heads head_dim dim"]
    value: Float[Array, "layers heads head_dim dim"]
    output: Float[Array, "layers heads dim head_dim"]
    unembedding: Float[Array, "vocabulary dim"] | None

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.query.shape[0]

    @property
    def heads(self) -> int:
        """H, of each layer."""
        return self.query.shape[1]

    @property
    def unembedded_by(self) -> Float[Array, "vocabulary dim"]:
        """W_U, or T if they are tied."""
        return self.tokens if self.unembedding is None else self.unembedding


def initial_weights(
    architecture: Architecture, key: PRNGKeyArray, scale: float = 0.5, dtype: jnp.dtype | type = jnp.float32
) -> StandardWeights:
    """Weights at the start of training: matrices Normal(0, scale^2 / D), embeddings Normal(0, 1 / D).

    Args:
        architecture: sizes.
        key: jax random key.
        scale: of the matrices.
        dtype: floating type.

    Raises:
        ArgumentError: the scale is negative, or lost in the floating type.

    Example:
        >>> import jax
        >>> from induction_dynamics import Architecture, initial_weights
        >>> weights = initial_weights(Architecture(vocabulary=100, length=9, embedding_dim=100), jax.random.key(0))
        >>> print(f"{(weights.tokens**2).sum(axis=1).mean():.1f}, {(weights.query[0]**2).mean() * 100:.2f}")
        1.0, 0.25
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not (math.isfinite(scale) and scale >= 0):
        raise ArgumentError("scale", scale, "a finite number, at least 0")
    a = architecture
    if scale > float(jnp.finfo(dtype).max):
        raise ArgumentError("scale", scale, f"a finite number of type {jnp.dtype(dtype).name}")
    inwards, outwards = (
        (a.layers, a.heads, a.head_dim, a.embedding_dim),
        (a.layers, a.heads, a.embedding_dim, a.head_dim),
    )
    shapes = [(a.vocabulary, a.embedding_dim), (a.length, a.embedding_dim), inwards, inwards, inwards, outwards]
    shapes += [(a.vocabulary, a.embedding_dim)]
    scales = [1.0, 1.0] + 5 * [scale]
    drawn = [
        jnp.asarray(size / math.sqrt(a.embedding_dim), dtype) * jax.random.normal(each, shape, dtype)
        for each, shape, size in zip(jax.random.split(key, 7), shapes, scales, strict=True)
    ]
    return StandardWeights(*drawn[:6], unembedding=None if a.tied else drawn[6])


def trained_part(architecture: Architecture, weights: StandardWeights) -> tuple[StandardWeights, StandardWeights]:
    """What is trained, and what stays as drawn: two trees with None for what the other has (`equinox.combine` joins).

    Args:
        architecture: says which embeddings are learned.
        weights: all.
    """
    moves = jax.tree.map(lambda leaf: True, weights)
    embeddings = (architecture.tokens == "learned", architecture.positions == "learned")
    moves = eqx.tree_at(lambda each: (each.tokens, each.positions), moves, embeddings)
    return eqx.partition(weights, moves)


class StandardOutput(NamedTuple):
    """What a forward pass computes.

    Args:
        logits: of the next token at each position, or at the last one alone.
        attention: of each head, rows attend to columns.
    """

    logits: Float[Array, "batch positions vocabulary"]
    attention: Float[Array, "batch layers heads length length"]


def causal_softmax(scores: Float[Array, "*batch length length"]) -> Float[Array, "*batch length length"]:
    """Softmax of each row over its own column and those before it.

    Args:
        scores: rows attend to columns.
    """
    length = scores.shape[-1]
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((length, length), bool)), scores.shape)
    return jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)


def standard_forward(
    weights: StandardWeights,
    tokens: Int[Array, "batch length"],
    scaled: bool = False,
    *,
    last_only: bool = False,
    edit: Edit | None = None,
) -> StandardOutput:
    r"""The forward pass.

        x_i = T[token i] + P[i]
        A_ij = softmax over j <= i of (W_Q x_i) . (W_K x_j)        (divided by sqrt(K) if scaled), for each head
        x_i <- x_i + sum over heads of W_O sum_j A_ij W_V x_j      layer after layer
        logits_i = W_U x_i

    Args:
        weights: of the model.
        tokens: at most as many as there are position vectors.
        scaled: whether scores are divided by sqrt(K).
        last_only: whether logits are computed at the last position alone.
        edit: changes the pass on its way (see `Edit`): it is shown the `scores` [B, H, L, L] of each layer, its
            `attention` [B, H, L, L], its `heads`, which each add [B, H, L, D] to the residual stream, and at last, with
            the number of layers, the `logits`; what it returns is used instead.

    Raises:
        ArgumentError: more tokens than position vectors, or (unless they are traced) a token that there is not.

    Example:
        >>> import jax, numpy as np
        >>> from induction_dynamics import Architecture, initial_weights, standard_forward
        >>> weights = initial_weights(Architecture(vocabulary=5, length=3), jax.random.key(0), scale=0.0)
        >>> print(np.asarray(standard_forward(weights, jax.numpy.array([[4, 0, 2]])).attention[0, 0, 0]).round(2))
        [[1.   0.   0.  ]
         [0.5  0.5  0.  ]
         [0.33 0.33 0.33]]
    """
    length = tokens.shape[1]
    if not isinstance(tokens, Tracer):
        _check_tokens(tokens, len(weights.tokens))
    if length > weights.positions.shape[0]:
        raise ArgumentError("tokens", length, f"at most as many as there are positions, {weights.positions.shape[0]}")
    show = edit or (lambda layer, name, value: value)
    x_BxLxD = weights.tokens[tokens] + weights.positions[None, :length]
    attention = []
    for layer in range(weights.layers):
        q_BxHxLxK = jnp.einsum("bld,hkd->bhlk", x_BxLxD, weights.query[layer])
        k_BxHxMxK = jnp.einsum("bmd,hkd->bhmk", x_BxLxD, weights.key[layer])
        v_BxHxMxK = jnp.einsum("bmd,hkd->bhmk", x_BxLxD, weights.value[layer])
        scores_BxHxLxM = jnp.einsum("bhlk,bhmk->bhlm", q_BxHxLxK, k_BxHxMxK)
        if scaled:
            scores_BxHxLxM = scores_BxHxLxM / jnp.asarray(math.sqrt(q_BxHxLxK.shape[-1]), scores_BxHxLxM.dtype)
        pattern_BxHxLxM = show(layer, "attention", causal_softmax(show(layer, "scores", scores_BxHxLxM)))
        mixed_BxHxLxK = jnp.einsum("bhlm,bhmk->bhlk", pattern_BxHxLxM, v_BxHxMxK)
        if edit is None:
            x_BxLxD = x_BxLxD + jnp.einsum("bhlk,hdk->bld", mixed_BxHxLxK, weights.output[layer])
        else:
            added_BxHxLxD = jnp.einsum("bhlk,hdk->bhld", mixed_BxHxLxK, weights.output[layer])
            x_BxLxD = x_BxLxD + show(layer, "heads", added_BxHxLxD).sum(axis=1)
        attention.append(pattern_BxHxLxM)
    if last_only:
        x_BxLxD = x_BxLxD[:, -1:]
    logits_BxLxV = show(weights.layers, "logits", jnp.einsum("bld,vd->blv", x_BxLxD, weights.unembedded_by))
    return StandardOutput(logits_BxLxV, jnp.stack(attention, axis=1))


def _check_tokens(tokens: Int[Array, "batch length"], vocabulary: int) -> None:
    """Refuse what indexing would silently replace by another token."""
    for token in (int(jnp.min(tokens)), int(jnp.max(tokens))) if tokens.size else ():
        if not 0 <= token < vocabulary:
            raise ArgumentError("tokens", token, f"numbers from 0 to {vocabulary - 1}")
