"""Three coordinates when the queried pair stands several times in the context: the exact mean over all placements."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from induction_dynamics.reduced.circuit import COMBINATIONS, PLACES
from induction_dynamics.reduced.logistic import logistic

_NODES = 96  # of the integral over s: right to 1e-12 for |beta| up to 20, to 1e-8 up to the largest
_LARGEST = 30.0
_LOWEST, _HIGHEST = 3.4, 3.75  # e^(-s Z) is 1 before the first node, and 0 beyond the last, to rounding


class CopiesLoss(eqx.Module):
    r"""The population loss of alpha_3, beta_2 and gamma_3 for orthonormal inputs and m copies, at any rotation.

    Written alpha, beta, gamma below. Of the N places of pairs a random set S of m holds the queried pair (with the
    query last, N is one of them). With c_k the number of members of S below k, and g_k, u_k, v_k as in `CircuitLoss`,
    the query's score is beta c_k v_k of an item and beta c_k u_k of a label at k, and beta (g_k + c_k u_k) of a label
    in S. With E = e^score,

        Z = sum of all E,   X = sum of the items' E in S,   Y = sum of the labels' E in S,
        Q = sum of E^2 over all tokens that are not in S,

        loss = 1/2 E_S [(1 - gamma Y/Z)^2 + gamma^2 (X^2 + Q)/Z^2].

    The mean over the many sets is exact: 1/Z = int_0^inf e^{-sZ} ds and 1/Z^2 = int_0^inf s e^{-sZ} ds turn it into
    means of e^{-sZ} times polynomials in sums over places, and these follow from place to place, for each number c of
    copies met so far, as S is drawn from the first place to the last. The integral over s is a double-exponential
    quadrature, right to 1e-12 for |beta| up to 20 and to 1e-8 up to 30; beyond, which no run from zero comes near, the
    loss is NaN, and a run ends as `nonfinite`. One set alone costs O(N); this costs O(N m) times the number of nodes,
    and there are N!/(m! (N - m)!) sets.

    Args:
        context_length: N, a traced number, so that one compilation serves every N up to the number of places.
        copies: m, likewise.
        place: 1, 2, .., at least N of them.
        met: c = 0, 1, .., at least up to m.
        query: `last` or `uniform`.

    References:
        H. Takahasi and M. Mori, Double exponential formulas for numerical integration, Publ. RIMS 9 (1974) 721-741.
    """

    context_length: Float[Array, ""]
    copies: Float[Array, ""]
    place: Float[Array, " places"]
    met: Float[Array, " states"]
    query: str = eqx.field(static=True)

    @property
    def combinations(self) -> Float[np.ndarray, "combinations 19"]:
        """The loss is a function of these combinations of the coordinates: of three of them."""
        return COMBINATIONS

    def __call__(self, coordinates: Float[Array, "19"]) -> Float[Array, ""]:
        """The loss at coordinates theta [19], of which three are read."""
        alpha, beta, gamma = (coordinates[place] for place in PLACES)

        # Two coordinates against as many places: forward derivatives need no memory of the way, and are cheaper.
        @jax.custom_jvp
        def means(at: Float[Array, "2"], law: "CopiesLoss") -> Float[Array, "2"]:
            return _means(at, law)

        @means.defjvp
        def _(primals, tangents):
            at, law = primals

            def along(direction):
                return jax.jvp(lambda x: _means(x, law), (at,), (direction,))

            value, jacobian = jax.vmap(along, out_axes=(None, 1))(jnp.eye(2))
            return value, jacobian @ tangents[0]

        right, squares = means(jnp.stack([alpha, beta]), self)
        loss = (1 - 2 * gamma * right + jnp.square(gamma) * squares) / 2
        return loss + jnp.where(jnp.abs(beta) <= _LARGEST, 0.0, jnp.nan)


def _means(at: Float[Array, "2"], law: CopiesLoss) -> Float[Array, "2"]:
    """E_S [Y/Z] and E_S [(X^2 + Y^2 + Q)/Z^2] at (alpha, beta)."""
    alpha, beta = at
    pairs = law.context_length
    # Attention sums to one, so that every score is between 0 and beta; with this no E is above 1, nor Z above 2N.
    shift = jnp.maximum(beta, 0)
    s, weights = _nodes(jax.lax.stop_gradient(beta), pairs)  # where the nodes are does not matter

    def pass_place(state: Float[Array, "4 met nodes"], k: Float[Array, ""]):
        # There are no more copies before k than places; further states are empty, and must not overflow.
        met = jnp.minimum(law.met, k - 1)
        others = jnp.maximum(2 * k - 2, 1)
        begun = k > 1  # the first label has no other token to attend to
        own = jnp.where(begun, logistic(alpha - jnp.log(others)), 1)
        rest = logistic(jnp.log(others) - alpha) / others
        item = jnp.exp(beta * met / others - shift)
        label = jnp.exp(beta * met * rest - shift)
        right = jnp.exp(beta * (own + met * rest) - shift)
        chance = _chance(k, law)
        passing = (1 - chance)[:, None] * jnp.exp(-s[None] * (item + label)[:, None])
        taking = chance[:, None] * jnp.exp(-s[None] * (item + right)[:, None])
        count, items, labels, squares = state
        both, more = jnp.square(item) + jnp.square(label), jnp.square(item) + jnp.square(right)
        passed = [count, items, labels, squares + both[:, None] * count]
        taken = [
            count,
            items + item[:, None] * count,
            labels + right[:, None] * count,
            squares + 2 * (item[:, None] * items + right[:, None] * labels) + more[:, None] * count,
        ]
        one_more = jnp.pad((taking[None] * jnp.stack(taken))[:, :-1], ((0, 0), (1, 0), (0, 0)))
        return jnp.where(k <= pairs, passing[None] * jnp.stack(passed) + one_more, state), None

    begin = jnp.zeros((4, len(law.met), _NODES)).at[0, 0].set(1.0)
    (_, _, labels, squares), _ = jax.lax.scan(pass_place, begin, law.place)
    all_met = law.copies.astype(int)
    return jnp.stack([weights @ labels[all_met], (weights * s) @ squares[all_met]])


def _nodes(beta: Float[Array, ""], pairs: Float[Array, ""]) -> tuple[Float[Array, " nodes"], Float[Array, " nodes"]]:
    """Nodes and weights of the integral over s, for any Z from 2N e^(-|beta|) to 2N."""
    first, last = -_LOWEST, _HIGHEST + jnp.abs(beta)
    y = first + (last - first) * jnp.linspace(0, 1, _NODES)
    # to the left s falls doubly exponentially, to the right e^(-sZ) does
    s = jnp.exp(y - jnp.exp(-y)) / (2 * pairs)
    return s, (y[1] - y[0]) * s * (1 + jnp.exp(-y))


def _chance(k: Float[Array, ""], law: CopiesLoss) -> Float[Array, " states"]:
    """That place k holds a copy, given how many there were before it."""
    pairs, left = law.context_length, law.copies - law.met
    if law.query == "uniform":
        return jnp.clip(left / jnp.maximum(pairs - k + 1, 1), 0, 1)
    before = jnp.clip((left - 1) / jnp.maximum(pairs - k, 1), 0, 1)
    return jnp.where(k < pairs, before, jnp.ones_like(before))
