"""Ablations of a standard transformer: whole heads, or single terms of its scores and logits.

Axes as in `standard`: B batch, L sequence, M keys, H heads of a layer, K width of a head, D width, V vocabulary.
"""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from induction_dynamics.errors import ArgumentError, whole_number
from induction_dynamics.pseudo_parameters import CIRCUIT
from induction_dynamics.transformer.standard import StandardOutput, StandardWeights, standard_forward

ABLATIONS = ("zero", "mean", "pattern")

_FIRST = ("t", "p")
_SECOND = ("t", "p", "1t", "1p")
_LAST = (*_SECOND, *(f"2{part}" for part in _SECOND))

PATHS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    **{f"scores_1:{query},{key}": (0, (query, key)) for query in _FIRST for key in _FIRST},
    **{f"scores_2:{query},{key}": (1, (query, key)) for query in _SECOND for key in _SECOND},
    **{f"logits:{part}": (2, (part,)) for part in _LAST},
}
"""All terms of two layers' scores and of the logits, by name: where each is added, and the parts that it multiplies.

A part is `t` (the token's embedding), `p` (the position's vector), or what layer 1 or 2 moved here of a part that it
read, all heads together: `1p`, `2t`, `21t`. In scores the first part is the query's, the second the key's.
"""

CIRCUIT_PATHS: Mapping[str, str] = {"alpha_3": "scores_1:p,p", "beta_2": "scores_2:t,1t", "gamma_3": "logits:2t"}
"""The three of these that are the circuit's."""


def ablate_heads(
    weights: StandardWeights,
    tokens: Int[Array | np.ndarray, "batch length"],
    heads: Sequence[tuple[int, int]],
    how: str = "zero",
    reference: Int[Array | np.ndarray, "references others"] | None = None,
    scaled: bool = False,
) -> StandardOutput:
    r"""The forward pass without what some heads add to the residual stream, W_O sum_j A_ij W_V x_j.

        zero       0 is added instead
        mean       its mean over sequences of the model as it is, at the same position, is added instead
        pattern    0 is added instead, and every head of every layer attends as it does in the model as it is

    The third takes away only what the head moves, not what that does to attention above it. Where nothing above attends
    otherwise without it, as of heads of the last layer, it is `zero`.

    Args:
        weights: of the model.
        tokens: the sequences.
        heads: layer and head of each that is ablated, from 0.
        how: `zero`, `mean` or `pattern`.
        reference: the sequences of the mean, as long as `tokens`; by default `tokens`.
        scaled: whether scores are divided by sqrt(K).

    Raises:
        ArgumentError: there is no such head or way, or the reference is of another length.

    Source:
        `pattern`: Olsson et al., In-context Learning and Induction Heads, arXiv 2209.11895 ("pattern-preserving").

    Example:
        >>> import jax, numpy as np
        >>> from induction_dynamics import Architecture, initial_weights
        >>> from induction_dynamics.transformer.ablation import ablate_heads
        >>> weights = initial_weights(Architecture(vocabulary=5, length=3), jax.random.key(0))
        >>> logits = ablate_heads(weights, np.array([[4, 0, 2]]), [(0, 0), (1, 0)]).logits
        >>> direct = weights.unembedding @ (weights.tokens[2] + weights.positions[2])
        >>> bool(np.allclose(logits[0, 2], direct, atol=1e-6))
        True
    """
    if how not in ABLATIONS:
        raise ArgumentError("how", how, f"one of {', '.join(ABLATIONS)}")
    ablated = _by_layer(weights, heads)
    tokens = jnp.asarray(tokens)
    seen = tokens if reference is None else jnp.asarray(reference)
    if seen.shape[1] != tokens.shape[1]:
        raise ArgumentError("reference", seen.shape[1], f"of as many positions as the tokens, {tokens.shape[1]}")
    instead: dict[int, Array] = {}
    kept: dict[int, Array] = {}

    def watch(layer: int, name: str, value: Array) -> Array:
        if name == "heads" and how == "mean":
            instead[layer] = jnp.mean(value, axis=0, keepdims=True)
        if name == "attention":
            kept[layer] = value
        return value

    def edit(layer: int, name: str, value: Array) -> Array:
        if name == "attention" and how == "pattern":
            return kept[layer]
        if name == "heads":
            gone = jnp.zeros(weights.heads, bool).at[jnp.asarray(ablated[layer], int)].set(True)
            other = jnp.broadcast_to(instead.get(layer, jnp.zeros_like(value)), value.shape)
            return jnp.where(gone[None, :, None, None], other, value)
        return value

    if how != "zero":
        standard_forward(weights, seen if how == "mean" else tokens, scaled, edit=watch)
    return standard_forward(weights, tokens, scaled, edit=edit)


def ablate_terms(
    weights: StandardWeights,
    tokens: Int[Array | np.ndarray, "batch length"],
    terms: Sequence[str],
    only: bool = False,
    diagonal: bool = False,
    scaled: bool = False,
) -> StandardOutput:
    r"""The forward pass of two layers without some terms of their scores and logits, or with nothing else.

    But for its two softmaxes the model is linear in what it reads, so that scores and logits are sums of terms
    (`PATHS`), and each can be left out exactly. The circuit's are, with t_i and p_i the vectors of token i and of
    position i, A and A' the attention of layers 1 and 2, W' of layer 2, and heads h of layer 1 and g of layer 2:

        alpha_3    scores of layer 1, every head:   (W_Q p_i) . (W_K p_j)
        beta_2     scores of layer 2, every head:   (W_Q' t_i) . W_K' sum_h W_O sum_k A_jk W_V t_k
        gamma_3    logits:                          W_U sum_g W_O' sum_j A'_ij W_V' t_j

    All else is computed anew with what is left. With `only`, scores and logits are the named terms alone: 0 where none
    is named, hence uniform attention or equal logits.

    With `diagonal` a term is its part that the progress measures speak of: of alpha_3 the scores of j = i - 1 (of all
    i, of which the measure adds up the second positions), of beta_2 those to which t_k = t_i contributes, of gamma_3
    what t_j adds to its own logit.

    Args:
        weights: of a model of two layers.
        tokens: the sequences.
        terms: names of `CIRCUIT` or of `PATHS`; none may be named as well.
        only: whether these stay, rather than go.
        diagonal: whether only their diagonals stay or go; of terms of `CIRCUIT`.
        scaled: whether scores are divided by sqrt(K).

    Raises:
        ArgumentError: the model has another number of layers, there is no such term, or it has no diagonal.

    Example:
        >>> import jax, numpy as np
        >>> from induction_dynamics import Architecture, initial_weights
        >>> from induction_dynamics.transformer.ablation import ablate_terms
        >>> weights = initial_weights(Architecture(vocabulary=5, length=3), jax.random.key(0))
        >>> bool(ablate_terms(weights, np.array([[4, 0, 2]]), ["alpha_3"], only=True).logits.any())
        False
    """
    if weights.layers != 2:
        raise ArgumentError("weights", weights.layers, "of two layers")
    known = CIRCUIT if diagonal else (*CIRCUIT, *PATHS)
    for term in terms:
        if term not in known:
            raise ArgumentError("terms", term, f"names out of {', '.join(known)}")
    tokens = jnp.asarray(tokens)
    named = dict.fromkeys(CIRCUIT_PATHS.get(term, term) for term in terms)
    at_place = [[PATHS[name][1] for name in named if PATHS[name][0] == place] for place in range(3)]
    embedded = weights.tokens[tokens]
    parts = {"t": embedded, "p": jnp.broadcast_to(weights.positions[None, : tokens.shape[1]], embedded.shape)}
    attention: list[Array] = []

    def edit(layer: int, name: str, value: Array) -> Array:
        if name == "attention":
            attention.append(value)
            read = {part for place in at_place for names in place for part in names}
            needed = [part for part in parts if any(f"{layer + 1}{part}" in name for name in read)]
            parts.update({f"{layer + 1}{part}": _moved(weights, layer, value, parts[part]) for part in needed})
        if name not in ("scores", "logits"):
            return value
        total = jnp.zeros_like(value)
        if diagonal and at_place[layer]:
            total = _DIAGONALS[layer](weights, tokens, attention)
        elif name == "scores":
            # the keys that meet the same query are summed first: far fewer products
            for query in dict.fromkeys(query for query, _ in at_place[layer]):
                keys = sum(parts[key] for other, key in at_place[layer] if other == query)
                asked = jnp.einsum("bld,hkd->bhlk", parts[query], weights.query[layer])
                offered = jnp.einsum("bmd,hkd->bhmk", keys, weights.key[layer])
                total = total + jnp.einsum("bhlk,bhmk->bhlm", asked, offered)
        elif at_place[layer]:
            total = jnp.einsum("bld,vd->blv", sum(parts[part] for (part,) in at_place[layer]), weights.unembedded_by)
        if scaled and name == "scores":
            total = total / jnp.asarray(math.sqrt(weights.query.shape[2]), total.dtype)
        return total if only else value - total

    return standard_forward(weights, tokens, scaled, edit=edit)


def _by_layer(weights: StandardWeights, heads: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The heads named, of each layer."""
    found: list[list[int]] = [[] for _ in range(weights.layers)]
    for pair in heads:
        layer, head = (whole_number(each) for each in pair)
        if layer is None or head is None or not (0 <= layer < weights.layers and 0 <= head < weights.heads):
            allowed = f"pairs of a layer from 0 to {weights.layers - 1} and a head from 0 to {weights.heads - 1}"
            raise ArgumentError("heads", pair, allowed)
        found[layer].append(head)
    return found


def _moved(
    weights: StandardWeights,
    layer: int,
    attention: Float[Array, "batch heads length length"],
    part: Float[Array, "batch length dim"],
) -> Float[Array, "batch length dim"]:
    """What a layer adds of a part that it reads: sum over heads of W_O sum_j A_ij W_V part_j."""
    read = jnp.einsum("bmd,hkd->bhmk", part, weights.value[layer])
    mixed = jnp.einsum("bhlm,bhmk->bhlk", attention, read)
    return jnp.einsum("bhlk,hdk->bld", mixed, weights.output[layer])


def _diagonal_alpha_3(weights: StandardWeights, tokens: Int[Array, "batch length"], attention: list[Array]) -> Array:
    positions = weights.positions[: tokens.shape[1]]
    asked = jnp.einsum("ld,hkd->hlk", positions[1:], weights.query[0])
    offered = jnp.einsum("md,hkd->hmk", positions[:-1], weights.key[0])
    places = jnp.arange(1, tokens.shape[1])
    shape = (tokens.shape[0], weights.heads, tokens.shape[1], tokens.shape[1])
    along = jnp.broadcast_to(jnp.einsum("hlk,hlk->hl", asked, offered)[None], (*shape[:2], len(places)))
    return jnp.zeros(shape, along.dtype).at[:, :, places, places - 1].set(along)


def _diagonal_beta_2(weights: StandardWeights, tokens: Int[Array, "batch length"], attention: list[Array]) -> Array:
    moved = jnp.einsum("hdk,hkv->hdv", weights.output[0], jnp.einsum("hkd,vd->hkv", weights.value[0], weights.tokens))
    asked = jnp.einsum("gkd,vd->gkv", weights.query[1], weights.tokens)
    matched = jnp.einsum("hgkv,gkv->hgv", jnp.einsum("gkd,hdv->hgkv", weights.key[1], moved), asked)
    same = (tokens[:, :, None] == tokens[:, None, :]).astype(matched.dtype)
    return jnp.einsum("bhmj,hgbj,blj->bglm", attention[0], matched[:, :, tokens], same)


def _diagonal_gamma_3(weights: StandardWeights, tokens: Int[Array, "batch length"], attention: list[Array]) -> Array:
    moved = jnp.einsum("hdk,hkv->hdv", weights.output[1], jnp.einsum("hkd,vd->hkv", weights.value[1], weights.tokens))
    own = jnp.einsum("vd,hdv->hv", weights.unembedded_by, moved)
    spelled = jax.nn.one_hot(tokens, weights.tokens.shape[0], dtype=own.dtype)
    return jnp.einsum("bhlj,hbj,bjv->blv", attention[1], own[:, tokens], spelled)


_DIAGONALS = (_diagonal_alpha_3, _diagonal_beta_2, _diagonal_gamma_3)
