"""What the loss has fallen by and its gradient, right to rounding of their own size, however small that is.

Along the flow's plateaus the loss differs from 1/2 by 1/(2N) or less and the gradients are of the order of 1/N^2.
"""

import decimal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.reduced.gram import orthonormal_gram_loss
from induction_dynamics.reduced.loss import reduced_loss
from induction_dynamics.reduced.mesh import mesh_of
from induction_dynamics.reduced.subspace import SubspaceLoss
from induction_dynamics.task import Task

QUERIES = ("last", "uniform")
LIVE = ("alpha_1", "alpha_3", "beta_1", "beta_2", "beta_3", "beta_4", "beta_10", "beta_12", *COORDINATES[-4:])
"""One coordinate of each of the twelve combinations."""

MOST = 33  # points at a time, so that few shapes are compiled
GAMMAS = [COORDINATES.index(name) for name in COORDINATES if name.startswith("gamma")]
OTHERS = [place for place in range(len(COORDINATES)) if place not in GAMMAS]

# Along the flow from zero: on its plateau, at its end, and in the fall of the loss.
PLACES = {
    ("last", 1000): [
        [0.0051, 0.396, 0.109, 0.126, 8.7e-8, -3.18e-4, -0.103, -2.0e-4, -0.00106, 0.997, 1.01, -1.006],
        [0.0264, 1.213, 0.256, 0.4, 1.17e-6, -6.93e-4, -0.23, -5.26e-4, -0.00117, 0.955, 1.058, -1.012],
        [0.0624, 9.99, 0.39, 5.91, 4e-6, -8.43e-4, -0.352, -4.3e-4, 0.116, 0.175, 3.7, -1.53],
    ],
    ("uniform", 1000): [
        [5.8e-4, 0.0339, -1.74e-4, 0.297, 1.5e-11, 1.79e-5, -0.0356, 8.6e-5, -5.0e-4, 0.46, 0.543, -0.00217],
        [0.00404, 0.268, -4.75e-5, 0.873, 1.3e-10, 4.5e-5, -0.09, 2.7e-4, -5.02e-4, 0.23, 0.776, -0.00295],
        [0.0131, 7.96, -0.00254, 6.79, -1.59e-8, 1.13e-4, -0.164, 0.00249, 0.0163, -1.186, 3.69, -0.248],
    ],
    ("last", 10**9): [
        [1.67e-5, 0.0602, 0.0058, 0.00596, 1.6e-17, -5.8e-11, -0.00579, -3e-11, -1e-9, 0.99998, 1.00002, -1.0],
        [5e-4, 0.381, 0.0321, 0.038, 2.7e-15, -3.2e-10, -0.0316, -1.9e-10, -1e-9, 0.99939, 1.00061, -1.0],
        [0.0027, 1.288, 0.0762, 0.1316, 3.5e-14, -7.3e-10, -0.0736, -6.2e-10, -1e-9, 0.99433, 1.00567, -1.0],
    ],
    ("uniform", 10**9): [
        [2.6e-6, 0.001135, -2.9e-10, 0.0494, 1.1e-26, 1.1e-12, -0.00227, 1.3e-11, -5e-10, 0.49878, 0.50122, -5.5e-9],
        [8.1e-5, 0.0367, -1.9e-10, 0.2833, 1.4e-24, 6.4e-12, -0.0127, 7.5e-11, -5e-10, 0.46172, 0.53828, -4.8e-9],
        [5.4e-4, 0.2987, -1.1e-10, 0.8227, 1.1e-23, 1.7e-11, -0.033, 2.2e-10, -5e-10, 0.24071, 0.75929, -5.8e-9],
    ],
}


def embedded(points):
    """Coordinates with those of `LIVE` at the points."""
    coordinates = np.zeros((len(points), len(COORDINATES)))
    coordinates[:, [COORDINATES.index(name) for name in LIVE]] = points
    return jnp.asarray(coordinates)


@eqx.filter_jit
def _differentiated(loss, coordinates):
    values, gradients = jax.vmap(jax.value_and_grad(loss))(coordinates)
    return values, jax.vmap(loss.drop)(coordinates), gradients


def differentiated(loss, points):
    """The loss, the drop [points] and the gradient of the loss [points, 19], of up to `MOST` points."""
    repeated = np.resize(np.asarray(points, float), (MOST, len(LIVE)))
    return [np.asarray(found)[: len(points)] for found in _differentiated(loss, embedded(repeated))]


class Sums:
    """Over pairs met one after the other: their weights, what they give to earlier tokens, their own coefficients."""

    def __init__(self):
        self.weight = self.given = self.linear = self.square = decimal.Decimal(0)

    def __iter__(self):
        return iter((self.weight, self.given, self.linear, self.square))

    def add(self, item, label, gives, coefficients):
        self.weight += item + label
        self.given += gives
        self.linear += sum(coefficients)
        self.square += sum(one**2 for one in coefficients)


def exact_drop(pairs, query, point):
    """1/2 - loss from the attention of every token, with so many digits that no difference costs any that count.

    For the queried pair q the pairs before it and those after it enter through four sums each.
    """
    alpha_1, alpha_3, beta_1, beta_2, b3, b4, beta_10, beta_12, gamma_1, gamma_2, gamma_3, gamma_4 = point
    zero, one = decimal.Decimal(0), decimal.Decimal(1)
    w = 1 / (alpha_1.exp() + 2 * pairs - 1)
    h, own_weight = alpha_1.exp() * w, alpha_3.exp()
    d = h - w
    kappa = beta_2 + d * (b4 - beta_12)
    shapes = []  # of layer 1, and the scores of item and label
    for k in range(1, pairs + 1):
        u = 1 / (own_weight + 2 * k - 2) if k > 1 else zero
        v, seen = (one / (2 * k - 2), one) if k > 1 else (zero, zero)
        g = 1 - (2 * k - 2) * u
        item = b3 * w + b4 * w * seen + beta_10 * w
        shapes.append((g, u, v, item, b3 * w + b4 * w - beta_10 * w + beta_12 * w * g))

    later, after = [tuple(Sums())], Sums()
    if query == "uniform":
        for g, u, v, item, label in reversed(shapes):
            item, label = (item + kappa * v).exp(), (label + kappa * u).exp()
            here = gamma_4 * after.given
            coefficients = gamma_3 * item + gamma_4 * label * g + here, gamma_3 * label + here
            after.add(item, label, label * u + item * v, coefficients)
            later.append(tuple(after))

    losses, before = [], Sums()
    for q, (g, u, v, item, label) in enumerate(shapes, start=1):
        if query == "uniform" or q == pairs:
            own_item = (item + beta_1 + b3 * d).exp()
            own_label = (label + beta_2 * g + b4 * d * g - beta_10 * d).exp()
            weight, given, linear, square = before
            after_weight, after_given, after_linear, after_square = later[pairs - q if query == "uniform" else 0]
            total = weight + after_weight + own_item + own_label
            everywhere, from_later = gamma_2 * w, gamma_4 * after_given / total
            reached = everywhere + gamma_4 * (given + own_label * u + own_item * v) / total + from_later
            asked = gamma_1 + gamma_2 * h + (gamma_3 * own_item + gamma_4 * own_label * g) / total + from_later
            squares = (square + 2 * reached * total * linear + after_square) / total**2
            squares += 2 * everywhere * after_linear / total
            squares += 2 * (q - 1) * reached**2 + 2 * (pairs - q) * everywhere**2
            squares += asked**2 + (everywhere + gamma_3 * own_label / total + from_later - 1) ** 2
            losses.append(squares / 2)
        item, label = item.exp(), label.exp()
        gives = label * u + item * v
        # less what all tokens before q have in common: the gifts of all pairs before q
        here = gamma_4 * (before.given + gives)
        before.add(item, label, gives, (gamma_3 * item + gamma_4 * label * g - here, gamma_3 * label - here))
    return one / 2 - sum(losses, zero) / len(losses)


def exact(pairs, query, point):
    """The drop, and the gradient of the loss by central differences of step 1e-25 (error 1e-50), both rounded once."""
    with decimal.localcontext(decimal.Context(prec=80, Emin=-(10**9), Emax=10**9)):
        point = [decimal.Decimal(float(value)) for value in point]
        step = decimal.Decimal(10) ** -25

        def slope(place):
            sides = [[*point[:place], point[place] + sign * step, *point[place + 1 :]] for sign in (-1, 1)]
            low, high = (exact_drop(pairs, query, side) for side in sides)
            return float((low - high) / (2 * step))

        return float(exact_drop(pairs, query, point)), np.array([slope(place) for place in range(len(point))])


def test_the_exact_drop_is_that_of_the_other_losses():
    """The reference itself, at points off the way, against a loss on Gram matrices that shares nothing with it."""
    points = np.random.default_rng(8).normal(size=(3, len(LIVE)))
    slopes = eqx.filter_jit(lambda loss, coordinates: jax.value_and_grad(loss)(coordinates))
    for query in QUERIES:
        loss = orthonormal_gram_loss(Task(5, query=query))
        for point, coordinates in zip(points, embedded(points), strict=True):
            drop, gradient = exact(5, query, point)
            value, slope = slopes(loss, coordinates)
            assert 0.5 - drop == pytest.approx(float(value), abs=1e-13)
            live = [COORDINATES.index(name) for name in LIVE]
            np.testing.assert_allclose(np.asarray(slope)[live], gradient, atol=1e-13)


@pytest.mark.parametrize(
    "pairs, query",
    [
        (16, "last"),
        pytest.param(16, "uniform", marks=pytest.mark.slow),
        (1000, "last"),
        pytest.param(1000, "uniform", marks=pytest.mark.slow),
        pytest.param(10**4, "last", marks=pytest.mark.slow),
    ],
)
def test_drop_and_gradient_keep_their_digits(pairs, query):
    loss, points = SubspaceLoss(mesh_of(pairs), query), PLACES[query, 1000]
    live = [COORDINATES.index(name) for name in LIVE]
    values, drops, gradients = differentiated(loss, points)
    np.testing.assert_array_equal(values, 0.5 - drops)
    for point, drop, gradient in zip(points, drops, gradients[:, live], strict=True):
        exact_value, exact_gradient = exact(pairs, query, point)
        assert drop == pytest.approx(exact_value, rel=5e-15)
        misses = np.abs(gradient - exact_gradient)
        print(f"{pairs * misses[-4:].max():.1e}", misses[:-4] / np.abs(exact_gradient[:-4]))
        assert np.all(misses[:-4] < 2e-13 * np.abs(exact_gradient[:-4]))
        # those of the gammas are sums of terms of the order of 1/N, which cancel on the plateau
        assert np.all(misses[-4:] < 5e-15 / pairs + 1e-14 * np.abs(exact_gradient[-4:]))


@pytest.mark.parametrize("query", QUERIES)
def test_noise_on_the_plateau_of_a_thousand_million_pairs(query):
    """Coordinates moved by a rounding: N^2 times the gradient moves by one of its own size, which is of the order of 1.

    But for the gammas, whose curvatures are of the order of 1/N: their gradients move by 1/N of a rounding.
    """
    pairs, rng = 10**9, np.random.default_rng(0)
    loss = reduced_loss(Task(pairs, query=query), "subspace")
    for point in PLACES[query, pairs]:
        moved = np.array(point) * (1 + 2.0**-52 * rng.integers(-1, 2, size=(MOST, len(point))))
        _, drops, gradients = differentiated(loss, moved)
        scatter = float(pairs) ** 2 * np.ptp(gradients, axis=0)
        print(f"{scatter[OTHERS].max():.1e} {scatter[GAMMAS].max():.1e}, {np.ptp(drops) * pairs:.1e}")
        assert scatter[OTHERS].max() < 2e-13
        assert scatter[GAMMAS].max() < 10 * 2.0**-52 * pairs
        assert np.ptp(drops) * pairs < 1e-15
        assert 0.2 < float(pairs) * drops[0] < 0.6
