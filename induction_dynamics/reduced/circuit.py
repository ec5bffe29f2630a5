"""Three coordinates, closed form: alpha_3, beta_2 and gamma_3 with the other sixteen held at 0."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES, combinations
from induction_dynamics.reduced.logistic import logistic
from induction_dynamics.reduced.mesh import Mesh

PLACES = tuple(COORDINATES.index(name) for name in CIRCUIT)
"""Of the three among the nineteen."""

COMBINATIONS = combinations(*((name,) for name in CIRCUIT))
"""What the circuit's losses are functions of: each of the three."""


class CircuitLoss(eqx.Module):
    r"""The population loss of alpha_3, beta_2 and gamma_3 for orthonormal inputs, at any rotation.

    Written alpha, beta, gamma below. With g_k = e^alpha/(e^alpha + 2k - 2) a label's layer-1 attention on its item,
    u_k = 1/(e^alpha + 2k - 2) on each other earlier token, and v_k = 1/(2k - 2) an item's on each (v_1 = 0):

    - query last, K = 2N - 1, b = e^{beta g_N}/(e^{beta g_N} + K):

        loss = 1/2 [(1 - gamma b)^2 + gamma^2 (1 - b)^2 / K]

    - query uniform, Z_q = 2q - 1 + e^{beta g_q} + sum_{k>q} (e^{beta u_k} + e^{beta v_k}):

        loss = mean_q 1/2 [1 - 2 gamma e^{beta g_q}/Z_q + gamma^2 (sum of squared attention weights)]

    Probabilities and their complements are computed each on its own, so that with the query last neither large
    coordinates nor N = 1e12 cost digits; with the query uniform, coordinates may be several hundred. O(1) work with the
    query last; with the query uniform as much as the mesh has places.

    Args:
        context_length: N, a traced number, so that one compilation serves every N.
        query: `last` or `uniform`.
        mesh: the places k, and sums over pairs from values there (query uniform only).
    """

    context_length: Float[Array, ""]
    query: str = eqx.field(static=True)
    mesh: Mesh | None = None

    @property
    def combinations(self) -> Float[np.ndarray, "combinations 19"]:
        """The loss is a function of these combinations of the coordinates: of three of them."""
        return COMBINATIONS

    def __call__(self, coordinates: Float[Array, "19"]) -> Float[Array, ""]:
        """The loss at coordinates theta [19], of which three are read."""
        alpha, beta, gamma = (coordinates[place] for place in PLACES)
        if self.mesh is None:
            return self._last(alpha, beta, gamma)
        return self._uniform(alpha, beta, gamma, self.mesh)

    def _last(self, alpha: Float[Array, ""], beta: Float[Array, ""], gamma: Float[Array, ""]) -> Float[Array, ""]:
        pairs = self.context_length
        log_keys = jnp.log(2 * pairs - 1)
        own_item = logistic(alpha - jnp.log(2 * pairs - 2))
        right = logistic(beta * own_item - log_keys)
        wrong = logistic(log_keys - beta * own_item)
        return (jnp.square(_shortfall(gamma, right, wrong)) + jnp.square(gamma * wrong) * jnp.exp(-log_keys)) / 2

    def _uniform(
        self, alpha: Float[Array, ""], beta: Float[Array, ""], gamma: Float[Array, ""], mesh: Mesh
    ) -> Float[Array, ""]:
        pair = mesh.pairs
        first = pair == 1
        zero, one = jnp.zeros_like(pair), jnp.ones_like(pair)
        others = jnp.where(first, one, 2 * pair - 2)
        log_others = jnp.log(others)
        g = jnp.where(first, one, logistic(alpha - log_others))
        u = logistic(log_others - alpha) / others

        # u_k and v_k are at most 1/2 for k > 1, so this keeps e^{beta u}, e^{2 beta u} and their sums in range
        shift = jnp.maximum(beta, 0) / 2
        counted = mesh.present & ~first
        label = jnp.where(counted, jnp.exp(beta * u - shift), zero)
        item = jnp.where(counted, jnp.exp(beta / others - shift), zero)
        _, (later, later_squares) = mesh.sums(jnp.stack([label + item, jnp.square(label) + jnp.square(item)]))
        log_earlier, log_later = jnp.log(2 * pair - 1), shift + _log_or_nothing(later)
        log_wrong = jnp.logaddexp(log_earlier, log_later)
        right = logistic(beta * g - log_wrong)
        wrong = logistic(log_wrong - beta * g)
        # sum over the wrong tokens of their squared share of the attention that goes wrong
        log_squares = 2 * shift + _log_or_nothing(later_squares)
        squares = jnp.exp(log_squares - 2 * log_wrong) + jnp.exp(log_earlier - 2 * log_wrong)
        spread = jnp.square(wrong) * squares
        losses = (jnp.square(_shortfall(gamma, right, wrong)) + jnp.square(gamma) * spread) / 2
        return mesh.weights @ jnp.where(mesh.present, losses, zero) / self.context_length


def _shortfall(gamma: Float[Array, ""], right: Float[Array, "*q"], wrong: Float[Array, "*q"]) -> Float[Array, "*q"]:
    """1 - gamma b, from b or from 1 - b, whichever is small."""
    return jnp.where(right < 0.5, 1 - gamma * right, (1 - gamma) + gamma * wrong)


def _log_or_nothing(sums: Float[Array, " pairs"]) -> Float[Array, " pairs"]:
    """Logarithm of sums, -inf (and no derivative) where nothing is summed."""
    some = sums > 0
    return jnp.where(some, jnp.log(jnp.where(some, sums, jnp.ones_like(sums))), -jnp.inf)
