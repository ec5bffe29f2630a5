"""Sums over pairs at logarithmic cost, against the sums term by term."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.reduced.circuit import CircuitLoss
from induction_dynamics.reduced.mesh import EXACT, HEAD, exact_mesh, logarithmic_mesh, mesh_of, places_of
from induction_dynamics.reduced.subspace import SubspaceLoss

LENGTHS = (1, 2, 100, HEAD, HEAD + 1, 300, 2 * HEAD, 1000, 10**5)
THREE = jnp.array([COORDINATES.index(name) for name in CIRCUIT])


def functions(k):
    """Of the kinds that the losses sum, from smooth to steep."""
    log = jnp.log(k)
    return jnp.stack([1 / (k + 3), 1 / (1 + jnp.exp(3 - log)), jnp.exp(5 / (1 + 0.02 * k)), jnp.square(log) + 1])


@pytest.mark.parametrize("pairs", LENGTHS)
def test_sums_are_those_of_the_terms(pairs):
    exact, mesh = exact_mesh(pairs), logarithmic_mesh(pairs)
    head = int(mesh.counted.sum())
    terms, values = functions(exact.pairs), functions(mesh.pairs)
    before, after = mesh.sums(values)
    total = np.cumsum(np.asarray(terms), axis=1)
    np.testing.assert_allclose(values @ mesh.weights, total[:, -1], rtol=1e-14)
    np.testing.assert_allclose(values @ mesh.before_last, total[:, -1] - terms[:, -1], rtol=1e-14, atol=1e-13)
    np.testing.assert_allclose((before + values)[:, :head], total[:, :head], rtol=1e-14)
    np.testing.assert_allclose((after + before + values)[:, :head], total[:, -1:] * np.ones(head), rtol=1e-14)
    if pairs > HEAD:
        tail = (before + values + after)[:, HEAD:]
        np.testing.assert_allclose(tail, total[:, -1:] * np.ones(tail.shape[1]), rtol=1e-14)
        # the sum up to a place that is no pair is that of the smooth continuation, which agrees at the pairs around
        k = np.asarray(mesh.pairs[HEAD:])
        order = np.argsort(k)
        continued = (before + values)[:, HEAD:][:, order]
        assert np.all(continued[:, :-1] <= continued[:, 1:]) and np.all(np.diff(k[order]) > 0)
        below, above = (np.clip(f(k[order]).astype(int), 1, pairs) - 1 for f in (np.floor, np.ceil))
        slack = 1e-12 * total[:, -1:]
        assert np.all(total[:, below] - slack <= continued) and np.all(continued <= total[:, above] + slack)


def test_a_mesh_of_each_size():
    assert [places_of(pairs) for pairs in (1, 16, 17, 64, 65, 10**12)] == [64, 64, 64, 64, 512, 512]
    for pairs in (1, 16, 17, 64, 65, 10**12):
        assert len(mesh_of(pairs).pairs) == places_of(pairs)
    assert len(mesh_of(EXACT).counted) == EXACT


@eqx.filter_jit
def differentiated(loss, points):
    return jax.lax.map(jax.value_and_grad(loss), points)


def subspace(mesh, query):
    return SubspaceLoss(mesh, query)


def circuit(mesh, query):
    return CircuitLoss(mesh.context_length, query, mesh)


def points_on_the_way():
    """Coordinates of several sizes, with the three from their start to well beyond emergence."""
    points = jnp.asarray(np.random.default_rng(3).normal(size=(6, 19)) * np.array([0, 0.1, 0.3, 1, 1, 2])[:, None])
    three = [(0.0, 0.0, 0.0), (0.1, 0.5, 0.9), (5.0, 4.0, 1.5), (9.0, 7.0, 2.0), (14.0, 9.0, 1.0), (20.0, 12.0, 1.2)]
    return points.at[:, THREE].set(jnp.asarray(three))


@pytest.mark.parametrize("make, query", [(subspace, "last"), (subspace, "uniform"), (circuit, "uniform")])
@pytest.mark.parametrize("pairs", [100, 300, 1000, 10**4, pytest.param(10**6, marks=pytest.mark.slow)])
def test_the_loss_at_logarithmic_cost_is_that_at_linear_cost(make, query, pairs):
    points = points_on_the_way()
    value, gradient = differentiated(make(logarithmic_mesh(pairs), query), points)
    exact_value, exact_gradient = differentiated(make(exact_mesh(pairs), query), points)
    np.testing.assert_allclose(value, exact_value, rtol=0, atol=1e-12 * (1 + np.max(np.abs(exact_value))))
    np.testing.assert_allclose(gradient, exact_gradient, rtol=0, atol=1e-11 * (1 + np.max(np.abs(exact_gradient))))


@pytest.mark.parametrize("make, query", [(subspace, "last"), (subspace, "uniform"), (circuit, "uniform")])
def test_a_thousand_million_pairs(make, query):
    value, gradient = differentiated(make(logarithmic_mesh(10**9), query), points_on_the_way())
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    assert float(value[0]) == pytest.approx(0.5, rel=1e-14)
    # at zero only the gammas move: gamma_3 by one correct token among 2N
    assert float(gradient[0, THREE[2]]) == pytest.approx(-1 / (2 * 10**9), rel=1e-6)
