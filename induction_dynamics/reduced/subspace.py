"""Nineteen coordinates, the exact population loss for orthonormal inputs at 90 degrees."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from induction_dynamics.reduced.logistic import logistic


class SubspaceLoss(eqx.Module):
    r"""The population loss of all 19 coordinates for orthonormal inputs with M = J, O(N) work for each queried pair.

    With w = 1/(e^{alpha_1} + 2N - 1), h = e^{alpha_1} w the query's layer-1 attention (h on its own item), d = h - w;
    g_k = e^{alpha_3} u_k and u_k = 1/(e^{alpha_3} + 2k - 2) a label's layer-1 attention on its item and on each other
    earlier token, v_k = 1/(2k - 2) an item's on each (v_1 = 0); s_k = 0 for k = 1, else 1; b3 = beta_3 + beta_9,
    b4 = beta_4 + beta_11, kappa = beta_2 + d (b4 - beta_12), the layer-2 scores of pair k for the queried pair q are

        item k:   b3 w + b4 w s_k + beta_10 w                 + [k > q] kappa v_k + [k = q] (beta_1 + b3 d)
        label k:  b3 w + b4 w - beta_10 w + beta_12 w g_k     + [k > q] kappa u_k
                                                              + [k = q] (beta_2 g_q + d (b4 g_q - beta_10))

    and the output's coefficients follow by applying gamma_3 + gamma_4 A1^T to the attention. alpha_2 and
    beta_5 .. beta_8 have no effect: the query's position is orthogonal to every key's.

    Args:
        context_length: N, a traced number, so that one compilation serves every N up to `padded_length`.
        query: `last` or `uniform`.
        padded_length: number of pairs that arrays are padded to, at least N.
    """

    context_length: Float[Array, ""]
    query: str = eqx.field(static=True)
    padded_length: int = eqx.field(static=True)

    def __call__(self, coordinates: Float[Array, "19"]) -> Float[Array, ""]:
        """The loss at coordinates theta [19]."""
        pairs = self.context_length
        if self.query == "last":
            return self._row(coordinates, pairs)
        queried = jnp.arange(1, self.padded_length + 1, dtype=pairs.dtype)
        rows = jax.vmap(self._row, in_axes=(None, 0))(coordinates, queried)
        return jnp.sum(jnp.where(queried <= pairs, rows, jnp.zeros_like(rows))) / pairs

    def _row(self, coordinates: Float[Array, "19"], queried: Float[Array, ""]) -> Float[Array, ""]:
        """Loss of one queried pair q, given as a number counted from 1."""
        pairs = self.context_length
        alpha_1, _, alpha_3, *rest = coordinates
        beta_1, beta_2, beta_3, beta_4, _, _, _, _, beta_9, beta_10, beta_11, beta_12, *gamma = rest
        b3, b4 = beta_3 + beta_9, beta_4 + beta_11

        pair = jnp.arange(1, self.padded_length + 1, dtype=pairs.dtype)
        zero, one = jnp.zeros_like(pair), jnp.ones_like(pair)
        first, present = pair == 1, pair <= pairs
        others = jnp.where(first, one, 2 * pair - 2)  # the first pair has no earlier token; kept away from log 0
        log_others = jnp.log(others)
        g = jnp.where(first, one, logistic(alpha_3 - log_others))
        u = jnp.where(first, zero, logistic(log_others - alpha_3) / others)
        v = jnp.where(first, zero, 1 / others)

        others_of_query = 2 * pairs - 1
        h = logistic(alpha_1 - jnp.log(others_of_query))
        w = logistic(jnp.log(others_of_query) - alpha_1) / others_of_query
        d = h - w
        kappa = beta_2 + d * (b4 - beta_12)
        own, later = pair == queried, pair > queried

        item = (b3 + beta_10) * w + b4 * w * jnp.where(first, zero, one)
        item = item + jnp.where(later, kappa * v, zero) + jnp.where(own, beta_1 + b3 * d, zero)
        label = (b3 + b4 - beta_10) * w + beta_12 * w * g
        label = label + jnp.where(later, kappa * u, zero)
        label = label + jnp.where(own, beta_2 * g + d * (b4 * g - beta_10), zero)

        scores = jnp.where(jnp.concatenate([present, present]), jnp.concatenate([item, label]), -jnp.inf)
        item, label = jnp.split(jax.nn.softmax(scores), 2)
        # The pull-back through A1 gives every token before pair k the same share of what pair k collected.
        shares = u * label + v * item
        from_later = jnp.cumsum(shares[::-1])[::-1] - shares
        query_item = jnp.where(own, one, zero)
        on_item = gamma[0] * query_item + gamma[1] * (w + d * query_item) + gamma[2] * item
        on_item = on_item + gamma[3] * (from_later + label * g)
        on_label = gamma[1] * w + gamma[2] * label + gamma[3] * from_later - query_item
        squares = jnp.square(on_item) + jnp.square(on_label)
        return jnp.sum(jnp.where(present, squares, zero)) / 2
