"""Nineteen coordinates, the exact population loss for orthonormal inputs at 90 degrees."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from induction_dynamics.pseudo_parameters import COORDINATES, combinations
from induction_dynamics.reduced.logistic import logistic
from induction_dynamics.reduced.mesh import Mesh

_ALONE = ("alpha_1", "alpha_3", "beta_1", "beta_2", "beta_10", "beta_12", *COORDINATES[-4:])
_COMBINATIONS = combinations(*((name,) for name in _ALONE), ("beta_3", "beta_9"), ("beta_4", "beta_11"))


class SubspaceLoss(eqx.Module):
    r"""The population loss of all 19 coordinates for orthonormal inputs with M = J, all queried pairs at once.

    With w = 1/(e^{alpha_1} + 2N - 1), h = e^{alpha_1} w the query's layer-1 attention (h on its own item), d = h - w;
    g_k = e^{alpha_3} u_k and u_k = 1/(e^{alpha_3} + 2k - 2) a label's layer-1 attention on its item and on each other
    earlier token, v_k = 1/(2k - 2) an item's on each (v_1 = 0); s_k = 0 for k = 1, else 1; b3 = beta_3 + beta_9,
    b4 = beta_4 + beta_11, kappa = beta_2 + d (b4 - beta_12), the layer-2 scores of pair k for the queried pair q are

        item k:   b3 w + b4 w s_k + beta_10 w                 + [k > q] kappa v_k + [k = q] (beta_1 + b3 d)
        label k:  b3 w + b4 w - beta_10 w + beta_12 w g_k     + [k > q] kappa u_k
                                                              + [k = q] (beta_2 g_q + d (b4 g_q - beta_10))

    and the output's coefficients follow by applying gamma_3 + gamma_4 A1^T to the attention. alpha_2 and
    beta_5 .. beta_8 have no effect: the query's position is orthogonal to every key's.

    Scores depend on k and on the class (before, queried, after) alone. Through A1 a pair collects what each pair after
    it gives to every earlier token, r_k = u_k e^{score of label k} + v_k e^{score of item k}. Summed over the 2 (k - 1)
    tokens before k instead, the coefficients of all pairs before q have the sum and the sum of squares

        sum_{k<q} [o_k + gamma_4 2 (k - 1) r_k],    sum_{k<q} [|own_k|^2 + 2 gamma_4 r_k (sum_{m<k} o_m
            + gamma_4 sum_{m<k} 2 (m - 1) r_m + gamma_4 (k - 1) r_k)]

    (own_k what item and label k get from their own scores, o_k its sum), so that the loss costs as much as the mesh has
    places. No two large numbers are subtracted: on the way to a plateau the gradients are of the order of 1/N^2, and
    are right to rounding of that.

    Args:
        mesh: the places k, and sums over pairs from values there.
        query: `last` or `uniform`.
    """

    mesh: Mesh
    query: str = eqx.field(static=True)

    @property
    def combinations(self) -> Float[np.ndarray, "combinations 19"]:
        """The loss is a function of these combinations of the coordinates, twelve of the nineteen."""
        return _COMBINATIONS

    def __call__(self, coordinates: Float[Array, "19"]) -> Float[Array, ""]:
        """The loss at coordinates theta [19]."""
        return 0.5 - self.drop(coordinates)

    def drop(self, coordinates: Float[Array, "19"]) -> Float[Array, ""]:
        """What the loss has fallen by, 1/2 - loss, with digits of its own.

        Args:
            coordinates: theta.
        """
        theta = _parameters(coordinates, self.mesh.context_length)
        at = _pairs(theta, self.mesh.pairs)
        # Where scores are very negative e^score - 1 has fewer digits than e^score, and 0 is subtracted instead of 1.
        queried = self.mesh.context_length[None] if self.query == "last" else self.mesh.pairs
        own = _pairs(theta, queried) if self.query == "last" else at
        lowest = self._lowest(theta, at, own)
        one = jax.lax.stop_gradient(jnp.where(lowest > -1, jnp.ones_like(lowest), jnp.zeros_like(lowest)))
        before = self._before(theta, at, one)
        if self.query == "last":
            zero = jnp.zeros_like(queried)
            nothing = _Side(jnp.zeros_like(one), zero, zero, zero, zero)
            return _drops(theta, own, before, nothing, zero, queried, zero, one)[0]
        after, collected = self._after(theta, at, one)
        remaining = self.mesh.context_length - self.mesh.pairs
        drops = _drops(theta, own, before, after, collected, queried, remaining, one)
        drops = jnp.where(self.mesh.present, drops, jnp.zeros_like(drops))
        return self.mesh.weights @ drops / self.mesh.context_length

    def _lowest(self, theta: "_Parameters", at: "_Pairs", own: "_Pairs") -> Float[Array, ""]:
        """The lowest score of other pairs, and of a pair that is alone the higher one of its two."""
        scores = [at.item, at.label]
        if self.query == "uniform":
            scores += [at.item + theta.kappa * at.v, at.label + theta.kappa * at.u]
        counted = self.mesh.present & (self.mesh.context_length > 1)
        others = jnp.where(counted[None], jnp.stack(scores), jnp.inf)
        alone = jnp.where(self.mesh.context_length > 1, jnp.inf, jnp.maximum(own.own_item, own.own_label)[:1])
        return jnp.minimum(jnp.min(others), jnp.min(alone))

    def _before(self, theta: "_Parameters", at: "_Pairs", one: Float[Array, ""]) -> "_Side":
        """Sums over the pairs before each queried one."""
        (item, label), (item_excess, label_excess), shift = self._exponentials(at.item, at.label, one)
        gamma_3, gamma_4 = theta.gamma[2:]
        given = at.u * label + at.v * item
        earlier_tokens = 2 * (self.mesh.pairs - 1)
        own = jnp.stack([gamma_3 * item_excess + gamma_4 * at.g * label, gamma_3 * label_excess])
        fields = jnp.stack([item + label, item_excess + label_excess, own.sum(0), earlier_tokens * given])
        sums, _ = self.mesh.sums(fields)
        own_so_far, given_so_far = sums[2:]
        through = own_so_far + gamma_4 * given_so_far + gamma_4 * earlier_tokens * given / 2
        squares = (jnp.square(own).sum(0) + 2 * gamma_4 * given * through)[None]
        if self.query == "last":
            sums, squares = ((values @ self.mesh.before_last)[:, None] for values in (fields, squares))
        else:
            squares, _ = self.mesh.sums(squares)
        weight, excess, own_so_far, given_so_far = sums
        return _Side(shift, weight, excess, own_so_far + gamma_4 * given_so_far, squares[0])

    def _after(
        self, theta: "_Parameters", at: "_Pairs", one: Float[Array, ""]
    ) -> tuple["_Side", Float[Array, " place"]]:
        """Sums over the pairs after each queried one, and of what those give to every token before them."""
        later = at.item + theta.kappa * at.v, at.label + theta.kappa * at.u
        (item, label), excess, shift = self._exponentials(*later, one)
        gamma_3, gamma_4 = theta.gamma[2:]
        fields = jnp.stack([item + label, excess.sum(0), at.u * label + at.v * item])
        _, (weight, all_excess, collected) = self.mesh.sums(fields)
        own = gamma_3 * excess + gamma_4 * collected[None]
        own = own.at[0].add(gamma_4 * at.g * label)
        _, (linear, square) = self.mesh.sums(jnp.stack([own.sum(0), jnp.square(own).sum(0)]))
        return _Side(shift, weight, all_excess, linear, square), collected

    def _exponentials(
        self, item: Float[Array, " place"], label: Float[Array, " place"], one: Float[Array, ""]
    ) -> tuple[Float[Array, "2 place"], Float[Array, "2 place"], Float[Array, ""]]:
        """e^score of items and labels, and e^score - `one`, both times e^-shift to keep them in range; the shift."""
        counted = self.mesh.present[None]
        scores = jnp.where(counted, jnp.stack([item, label]), jnp.zeros_like(item)[None])
        shift = jax.lax.stop_gradient(jnp.max(jnp.where(counted, scores, -jnp.inf)))
        shift = jnp.where(one > 0, jnp.maximum(shift, 0), shift)
        excess = _excess(scores, shift, one)
        values = jnp.exp(scores - shift)
        zero = jnp.zeros_like(values)
        return jnp.where(counted, values, zero), jnp.where(counted, excess, zero), shift


class _Parameters(NamedTuple):
    """The combinations of coordinates that the scores are made of (see `SubspaceLoss`)."""

    alpha_1: Float[Array, ""]
    alpha_3: Float[Array, ""]
    beta_1: Float[Array, ""]
    beta_2: Float[Array, ""]
    beta_10: Float[Array, ""]
    beta_12: Float[Array, ""]
    b3: Float[Array, ""]
    b4: Float[Array, ""]
    gamma: Float[Array, "4"]
    w: Float[Array, ""]
    d: Float[Array, ""]
    kappa: Float[Array, ""]


class _Pairs(NamedTuple):
    """Layer 1's attention of pair k, and its layer-2 scores before the queried pair and as the queried one."""

    g: Float[Array, " place"]
    u: Float[Array, " place"]
    v: Float[Array, " place"]
    item: Float[Array, " place"]
    label: Float[Array, " place"]
    own_item: Float[Array, " place"]
    own_label: Float[Array, " place"]


class _Side(NamedTuple):
    """Sums over the pairs on one side of each queried one, of e^(score - shift) and of what follows from it.

    Args:
        shift: see above.
        weight: of e^score.
        excess: of e^score - 1.
        linear: of the output's coefficients, without what all tokens of this side have in common.
        square: of their squares.
    """

    shift: Float[Array, ""]
    weight: Float[Array, " place"]
    excess: Float[Array, " place"]
    linear: Float[Array, " place"]
    square: Float[Array, " place"]


def _parameters(coordinates: Float[Array, "19"], pairs: Float[Array, ""]) -> _Parameters:
    alpha_1, alpha_3, rest = coordinates[0], coordinates[2], coordinates[3:]
    beta_1, beta_2, beta_3, beta_4, _, _, _, _, beta_9, beta_10, beta_11, beta_12, *_ = rest
    others = 2 * pairs - 1
    h = logistic(alpha_1 - jnp.log(others))
    w = logistic(jnp.log(others) - alpha_1) / others
    near = jnp.abs(alpha_1) < 1
    d = jnp.where(near, w * jnp.expm1(jnp.where(near, alpha_1, jnp.zeros_like(alpha_1))), h - w)
    b3, b4 = beta_3 + beta_9, beta_4 + beta_11
    kappa = beta_2 + d * (b4 - beta_12)
    return _Parameters(alpha_1, alpha_3, beta_1, beta_2, beta_10, beta_12, b3, b4, coordinates[-4:], w, d, kappa)


def _pairs(theta: _Parameters, pair: Float[Array, " place"]) -> _Pairs:
    first = pair == 1
    zero, one = jnp.zeros_like(pair), jnp.ones_like(pair)
    others = jnp.where(first, one, 2 * pair - 2)  # the first pair has no earlier token; kept away from log 0
    g = jnp.where(first, one, logistic(theta.alpha_3 - jnp.log(others)))
    u = jnp.where(first, zero, logistic(jnp.log(others) - theta.alpha_3) / others)
    v = jnp.where(first, zero, 1 / others)
    item = theta.beta_10 * theta.w - jnp.where(first, theta.b4 * theta.w, zero)
    label = -theta.beta_10 * theta.w + theta.beta_12 * theta.w * g
    own_item = item + theta.beta_1 + theta.b3 * theta.d
    own_label = label + theta.beta_2 * g + theta.d * (theta.b4 * g - theta.beta_10)
    return _Pairs(g, u, v, item, label, own_item, own_label)


def _drops(
    theta: _Parameters,
    own: _Pairs,
    before: _Side,
    after: _Side,
    collected: Float[Array, " place"],
    queried: Float[Array, " place"],
    remaining: Float[Array, " place"],
    one: Float[Array, ""],
) -> Float[Array, " place"]:
    """1/2 - 1/2 ||y_q - out||^2 for each queried pair q, with q - 1 pairs before it and `remaining` after it."""
    gamma_1, gamma_2, gamma_3, gamma_4 = theta.gamma
    log_total = jax.scipy.special.logsumexp(
        jnp.stack([_log_weight(before), _log_weight(after), own.own_item, own.own_label]), axis=0
    )
    earlier, later = (_share(side, log_total) for side in (before, after))
    label = jnp.exp(own.own_label - log_total)
    item_excess, label_excess = (_excess(score, log_total, one) for score in (own.own_item, own.own_label))
    # What both layers' averages have in common, and by how much layer 2 gives less than layer 1 to an average token.
    lack = _lack(theta, own, before, after, log_total)
    everywhere = jnp.where(one > 0, (gamma_2 + gamma_3) * theta.w - gamma_3 * lack, gamma_2 * theta.w)
    from_later = gamma_4 * later * collected
    reached = everywhere + gamma_4 * (own.u * label + own.v * jnp.exp(own.own_item - log_total)) + from_later
    repeated = gamma_1 + gamma_2 * theta.d + everywhere + gamma_3 * item_excess + gamma_4 * label * own.g + from_later
    asked = everywhere + gamma_3 * label_excess + from_later
    squares = [
        jnp.square(earlier) * before.square + 2 * earlier * reached * before.linear,
        2 * (queried - 1) * jnp.square(reached),
        jnp.square(later) * after.square + 2 * later * everywhere * after.linear,
        2 * remaining * jnp.square(everywhere),
        jnp.square(repeated),
        jnp.square(asked),
    ]
    return asked - sum(squares[1:], squares[0]) / 2


def _lack(
    theta: _Parameters, own: _Pairs, before: _Side, after: _Side, log_total: Float[Array, " place"]
) -> Float[Array, " place"]:
    """By how much w exceeds 1/Z_q; where little, from w Z_q - 1 = w (sum of e^score - 1, less e^{alpha_1} - 1)."""
    far = jnp.asarray(40.0)
    parts = [side.excess * jnp.exp(jnp.minimum(side.shift, far)) for side in (before, after)]
    parts += [jnp.expm1(jnp.minimum(score, far)) for score in (own.own_item, own.own_label)]
    more = theta.w * (jnp.sum(jnp.stack(parts), axis=0) - jnp.expm1(jnp.minimum(theta.alpha_1, far)))
    near = jnp.abs(more) < 0.5
    small = jnp.where(near, more, jnp.zeros_like(more))
    # Only asked for where scores are not very negative.
    inverse = jnp.exp(-jnp.maximum(log_total, -far))
    return jnp.where(near, theta.w * small / (1 + small), theta.w - inverse)


def _excess(
    score: Float[Array, "*scores"], shift: Float[Array, "..."], one: Float[Array, ""]
) -> Float[Array, "*scores"]:
    """e^-shift (e^score - one)."""
    small = (score < 1) & (one > 0)
    little = jnp.where(small, score, jnp.zeros_like(score))
    lowered = jnp.exp(-jnp.where(one > 0, shift, jnp.zeros_like(shift)))
    return jnp.where(small, lowered * jnp.expm1(little), jnp.exp(score - shift) - one * lowered)


def _log_weight(side: _Side) -> Float[Array, " place"]:
    some = side.weight > 0
    return jnp.where(some, side.shift + jnp.log(jnp.where(some, side.weight, jnp.ones_like(side.weight))), -jnp.inf)


def _share(side: _Side, log_total: Float[Array, " place"]) -> Float[Array, " place"]:
    """e^shift/Z_q, 0 where the side has no pair."""
    return jnp.where(side.weight > 0, jnp.exp(side.shift - log_total), jnp.zeros_like(log_total))
