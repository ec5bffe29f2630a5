"""Sums over the pairs of a context, exactly or at logarithmic cost.

A reduced loss sums functions f(k) of the pair k = 1 .. N: up to a pair, beyond it, and over all. They are smooth in
log k, so that beyond an exact head Gauss panels in log k and the Euler-Maclaurin formula take the place of the terms:

    sum_{k=a+1}^{b} f(k) = int_a^b f dk + C f(b) - C f(a),   C f = f/2 + f'/12 - f'''/720 + ...

The remainder is below rounding for k of some hundred (the next term is f^(5)/30240, and f^(j) ~ f/k^j).
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from numpy.polynomial import Legendre
from numpy.polynomial.legendre import leggauss, legvander

HEAD = 256
"""Pairs summed one by one."""

PANELS, NODES = 16, 16
"""Gauss panels between the head and N, evenly spaced in log k, and the nodes of each."""

EXACT = 64
"""Number of places of the exact mesh that flows are solved on."""


def _operators() -> tuple[np.ndarray, ...]:
    """Nodes, weights, and what takes values at the nodes to integral, derivatives and end values on [-1, 1]."""
    nodes, weights = leggauss(NODES)
    basis = [Legendre.basis(degree) for degree in range(NODES)]
    coefficients = np.linalg.inv(legvander(nodes, NODES - 1))
    integral = np.stack([polynomial.integ(lbnd=-1)(nodes) for polynomial in basis], axis=1) @ coefficients
    derivative = np.stack([polynomial.deriv()(nodes) for polynomial in basis], axis=1) @ coefficients
    first, last = (np.array([polynomial(end) for polynomial in basis]) @ coefficients for end in (-1.0, 1.0))
    powers = [np.linalg.matrix_power(derivative, order) for order in (1, 2, 3)]
    return nodes, weights, np.concatenate([integral, *powers]).T, first, last


_ABOVE = np.triu(np.ones((max(NODES, PANELS, HEAD // NODES),) * 2), 1)
_X, _WEIGHTS, _OPERATORS, _FIRST, _LAST = _operators()


class Mesh(eqx.Module):
    """Places k at which functions of the pair are evaluated, and sums over pairs from their values there.

    The same shape for every N, so that one compilation serves all.

    Args:
        context_length: N.
        pairs: k, whole numbers in the head, then the nodes of the panels, which are not.
        counted: which places of the head are pairs summed one by one.
        half_width: of a panel in log k; 1 where there is none.
        weights: sum_{k=1}^{N} f(k) = weights . f.
        before_last: sum_{k=1}^{N-1} f(k) = before_last . f.
    """

    context_length: Float[Array, ""]
    pairs: Float[Array, " place"]
    counted: Bool[Array, " head"]
    half_width: Float[Array, ""]
    weights: Float[Array, " place"]
    before_last: Float[Array, " place"]

    @property
    def present(self) -> Bool[Array, " place"]:
        """Whether a place takes part in the sums."""
        return self.weights != 0

    def sums(
        self, values: Float[Array, "field place"]
    ) -> tuple[Float[Array, "field place"], Float[Array, "field place"]]:
        """Sums over all pairs before each place, and over all after it.

        Args:
            values: f(k) at the places, a row for each function.
        """
        size = len(self.counted)
        head = jnp.where(self.counted, values[:, :size], jnp.zeros_like(values[:, :size]))
        before, after = _on_both_sides(head)
        if len(self.pairs) == size:
            return before, after
        some = jnp.where(self.weights[-1] != 0, jnp.ones_like(self.half_width), jnp.zeros_like(self.half_width))
        shape = (len(values), -1, NODES)
        tail, k = values[:, size:].reshape(shape) * some, self.pairs[size:].reshape((1, *shape[1:]))
        derivatives = jnp.split(tail @ _OPERATORS[:, NODES:], 3, axis=-1)
        correction = tail / 2 + _corrections(derivatives, k, self.half_width)
        measure = tail * k * self.half_width
        panel = measure @ _WEIGHTS
        within = measure @ _OPERATORS[:, :NODES]
        earlier, later = panel @ _ABOVE[:PANELS, :PANELS], panel @ _ABOVE[:PANELS, :PANELS].T
        at_head, at_end = correction[:, 0] @ _FIRST, correction[:, -1] @ _LAST
        rest = panel.sum(1) + at_end - at_head
        to_here = head.sum(1)[:, None, None] + earlier[..., None] + within + correction - at_head[:, None, None]
        from_here = (later + panel)[..., None] - within + at_end[:, None, None] - correction
        flat = (len(values), -1)
        return (
            jnp.append(before, (to_here - tail).reshape(flat), axis=1),
            jnp.append(after + rest[:, None], from_here.reshape(flat), axis=1),
        )


def _on_both_sides(values: Float[Array, "field place"]) -> tuple[Float[Array, "field place"], ...]:
    """Sums of the values before each place and of those after it."""
    count, size = values.shape
    if size > HEAD or size % NODES:
        nothing = jnp.zeros_like(values[:, :1])
        up, down = jnp.cumsum(values, axis=1), jnp.cumsum(values[:, ::-1], axis=1)[:, ::-1]
        return jnp.append(nothing, up[:, :-1], axis=1), jnp.append(down[:, 1:], nothing, axis=1)
    # Products with triangles compile far faster than scans.
    blocks = values.reshape(count, -1, NODES)
    whole = blocks.sum(2)
    across, within = _ABOVE[: whole.shape[1], : whole.shape[1]], _ABOVE[:NODES, :NODES]
    sides = ((whole @ turned(across))[..., None] + blocks @ turned(within) for turned in (np.asarray, np.transpose))
    before, after = (side.reshape(values.shape) for side in sides)
    return before, after


def mesh_of(context_length: int) -> Mesh:
    """The mesh that a flow at N is solved on: exact up to `EXACT` pairs, and beyond logarithmic; of one shape each.

    Args:
        context_length: N.
    """
    places = places_of(context_length)
    return logarithmic_mesh(context_length) if places > EXACT else exact_mesh(context_length, places)


def places_of(context_length: int) -> int:
    """Number of places of `mesh_of`: flows of equal numbers share a compiled program.

    Args:
        context_length: N.
    """
    return EXACT if context_length <= EXACT else HEAD + PANELS * NODES


def exact_mesh(context_length: int, padded_length: int | None = None) -> Mesh:
    """Every pair is a place: linear cost.

    Args:
        context_length: N.
        padded_length: number of places, at least N.
    """
    pairs = np.arange(1, (padded_length or context_length) + 1, dtype=float)
    counted = pairs <= context_length
    return _mesh(context_length, pairs, counted, 1.0, counted.astype(float), (pairs < context_length).astype(float))


def logarithmic_mesh(context_length: int) -> Mesh:
    """A fixed number of places for every N: exact up to `HEAD` pairs, beyond them to rounding.

    Args:
        context_length: N.
    """
    some = context_length > HEAD
    # The panels always span a factor of two: derivatives on narrower ones would lose digits.
    head = min(HEAD, context_length // 2) if some else context_length
    low, high = (head, context_length) if some else (HEAD, 2 * HEAD)
    edges = np.linspace(np.log(low), np.log(high), PANELS + 1)
    half_width = float(edges[1] - edges[0]) / 2
    k = np.exp((edges[1:] + edges[:-1])[:, None] / 2 + half_width * _X)
    weights = k * half_width * _WEIGHTS
    correction = np.eye(NODES) / 2 + _corrections(np.split(_OPERATORS[:, NODES:].T, 3), k[:, :, None], half_width)
    weights[0] -= _FIRST @ correction[0]
    weights[-1] += _LAST @ correction[-1]
    counted = np.arange(1, HEAD + 1) <= head
    summed = np.append(counted, weights * some)
    places = np.append(np.arange(1, HEAD + 1, dtype=float), k)
    last = np.append(np.arange(1, HEAD + 1) == context_length, np.zeros_like(k))
    last[-NODES:] = _LAST * some
    return _mesh(context_length, places, counted, half_width, summed, summed - last)


def _corrections(derivatives, k, half_width):
    """f'/12 - f'''/720 from the first three derivatives in the panels' own coordinate."""
    one, two, three = (value / half_width**order for order, value in enumerate(derivatives, start=1))
    return one / (12 * k) - (three - 3 * two + 2 * one) / (720 * k**3)


def _mesh(context_length: int, *arrays: np.ndarray | float) -> Mesh:
    return Mesh(jnp.asarray(float(context_length)), *map(jnp.asarray, arrays))
