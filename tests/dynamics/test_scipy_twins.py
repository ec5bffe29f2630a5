"""The package's emergence times against NumPy and SciPy alone (`twins`), from two pairs to a million."""

import functools
import json

import numpy as np
import pytest
from scipy import integrate

from induction_dynamics.dynamics.emergence import emergence_times
from induction_dynamics.dynamics.flow import solve_flows
from induction_dynamics.task import Task
from tests.dynamics import twin_losses, twins

TABLE = json.loads(twins.TABLE.read_text())
ROWS = {(row["model"], row["query"], row["context_length"]): row for row in TABLE["rows"]}
STOP = [*((measure, twins.THRESHOLDS[-1]) for measure in twins.MEASURES[:3]), ("loss", twins.THRESHOLDS[0])]
ACCURACY = 1e-9
LOOSE = 1e-9  # of a live twin; the table's are finer

# Lengths that share one program, solved together. By default the first of each, but for the last of the four.
TOGETHER = {
    ("circuit", "last"): ((2, 4, 10, 64, 1000, 100_000, 1_000_000),),
    ("circuit", "uniform"): ((1024, 10_000, 100_000, 1_000_000), (2, 4), (64,)),
    ("subspace", "last"): ((2, 4, 16), (64,), (1000, 10_000, 100_000, 1_000_000)),
    ("subspace", "uniform"): ((2, 4, 16), (64,), (1000, 10_000, 100_000, 1_000_000)),
}


def batches():
    for (model, query), groups in TOGETHER.items():
        for place, lengths in enumerate(groups):
            slow = place > 0 or (model, query) == ("subspace", "uniform")
            longest = f"{model}-{query}-up to {lengths[-1]}"
            yield pytest.param(model, query, lengths, id=longest, marks=[pytest.mark.slow] if slow else [])


def points():
    for model, query, pairs in ROWS:
        slow = pairs > 64 or (model == "subspace" and pairs != 4)
        yield pytest.param(model, query, pairs, id=f"{model}-{query}-{pairs}", marks=[pytest.mark.slow] if slow else [])


def bound(model, query, measure, relative):
    """Relative, and more for gamma_3 where it stays near 1/2 for long, so that its times magnify every error."""
    return relative + (3e-9 if (model, query, measure) == ("subspace", "uniform", "gamma_3") else 0)


def relative_differences(found, expected):
    """Of the times that there are; those that are missing must be missing in both."""
    assert [time is None for time in found] == [time is None for time in expected]
    return np.array([abs(a / b - 1) for a, b in zip(found, expected, strict=True) if b is not None])


def test_every_point_is_in_the_table():
    listed = {(*kind, pairs) for kind, lengths in twins.LENGTHS.items() for pairs in lengths}
    assert listed == set(ROWS) == {(*kind, n) for kind, groups in TOGETHER.items() for group in groups for n in group}


@pytest.mark.parametrize("query", ["last", "uniform"])
@pytest.mark.parametrize("pairs", [1, 3, 4])
def test_twin_of_the_subspace_is_the_attention_model(pairs, query):
    model = twin_losses.subspace(twin_losses.Sums(pairs), query)
    for nineteen in np.random.default_rng(pairs).normal(size=(3, 19)):
        theta = twin_losses.live_of(nineteen)
        loss, gradient = model(theta)
        assert loss == pytest.approx(twin_losses.attention_loss(nineteen, pairs, query), rel=1e-13)
        np.testing.assert_allclose(
            gradient, twin_losses.complex_step(lambda x: model(x)[0], theta), rtol=1e-12, atol=1e-14
        )
        # and without complex numbers
        numeric = [(model(theta + move)[0] - model(theta - move)[0]) / 2e-5 for move in 1e-5 * np.eye(12)]
        np.testing.assert_allclose(gradient, numeric, atol=1e-8)


@pytest.mark.parametrize("query", ["last", "uniform"])
@pytest.mark.parametrize("pairs", [3, 4])
def test_twin_of_the_circuit_is_the_attention_model(pairs, query):
    last, hessian = twin_losses.circuit_last(pairs)
    sums = twin_losses.Sums(pairs)
    model = last if query == "last" else twin_losses.circuit_uniform(sums)
    whole = twin_losses.subspace(sums, query)
    for theta in np.random.default_rng(pairs).normal(size=(3, 3)):
        nineteen, twelve = np.zeros(19), np.zeros(12)
        nineteen[[2, 4, 17]] = theta  # alpha_3, beta_2, gamma_3
        places = list(twin_losses.PLACES["subspace"])
        twelve[places] = theta
        loss, gradient = model(theta)
        assert loss == pytest.approx(twin_losses.attention_loss(nineteen, pairs, query), rel=1e-13)
        np.testing.assert_allclose(gradient, whole(twelve)[1][places], rtol=1e-12, atol=1e-14)
        if query == "last":
            curvature = twin_losses.complex_step(lambda x: whole(x)[1], twelve)[np.ix_(places, places)]
            np.testing.assert_allclose(hessian(theta), curvature, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("query", ["last", "uniform"])
@pytest.mark.parametrize("alpha_3, beta_2", [(0.1, 0.1), (3.0, 3.0), (8.0, 5.0), (20.0, 8.0)])
def test_quadrature_of_the_twins_is_the_direct_sum(alpha_3, beta_2, query):
    """Also to rounding relative to the gradients, of order 1/N^2: against direct sums in extended precision."""
    pairs = 20_000
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("no extended precision")
    quick, direct = twin_losses.Sums(pairs), twin_losses.Sums(pairs, head=pairs)
    assert len(quick.k) < 600 and len(direct.k) == pairs
    direct.k, direct.weights = direct.k.astype(np.longdouble), direct.weights.astype(np.longdouble)
    theta = np.array([0.1, alpha_3, -0.2, beta_2, 0.3, -0.1, 0.2, 0.4, 0.05, 0.4, 0.7, -0.6])
    models = [(twin_losses.subspace(sums, query), theta) for sums in (quick, direct)]
    if query == "uniform":
        models += [(twin_losses.circuit_uniform(sums), theta[[1, 3, 10]]) for sums in (quick, direct)]
    for (model, at), (exact, _) in zip(models[::2], models[1::2], strict=True):
        loss, gradient = model(at)
        exact_loss, exact_gradient = exact(at.astype(np.longdouble))
        assert abs(loss / exact_loss - 1) < 1e-14
        # The gammas relax at rates of order 1/N: what counts there is the absolute error.
        fast = np.arange(len(at)) >= (2 if len(at) == 3 else 8)
        np.testing.assert_array_less(
            np.abs(gradient - exact_gradient),
            np.where(fast, 1e-15, 1e-12 * np.abs(exact_gradient) + 1e-15 / pairs**2),
        )


@pytest.mark.parametrize("model, query, pairs", list(points()))
def test_table_of_the_twins_is_made_anew(model, query, pairs):
    found, listed = twins.first_crossings(model, query, pairs, LOOSE), ROWS[model, query, pairs]
    for measure in twins.MEASURES:
        off = relative_differences(found.times[measure], listed["times"][measure])
        assert off.max() < bound(model, query, measure, 1e-9), (measure, off)


def test_differences_in_the_table_are_small():
    for (model, query, pairs), row in ROWS.items():
        for measure in twins.MEASURES:
            off = [difference for difference in row["differences"][measure] if difference is not None]
            assert max(off) < bound(model, query, measure, 3e-11), (model, query, pairs, measure)


@functools.cache
def solved(model, query, lengths):
    tasks = [Task(pairs, query=query) for pairs in lengths]
    # With two pairs the loss takes longer than the default horizon to fall to a hundredth.
    return solve_flows(tasks, model, stop=STOP, horizon=twins.HORIZON, accuracy=ACCURACY)


@pytest.mark.parametrize("model, query, lengths", list(batches()))
def test_package_agrees_with_the_twins(model, query, lengths):
    differences = {}
    for pairs, run in zip(lengths, solved(model, query, lengths), strict=True):
        found = emergence_times(run, thresholds=twins.THRESHOLDS, loss_fractions=twins.THRESHOLDS[::-1])
        for measure in twins.MEASURES:
            times = [emergence.time for emergence in found if emergence.measure == measure]
            off = relative_differences(times, ROWS[model, query, pairs]["times"][measure])
            print(model, query, pairs, measure, *(f"{x:.1e}" for x in off))
            if off.max() > bound(model, query, measure, ACCURACY):
                differences[pairs, measure] = off
    assert not differences


def test_two_pairs_with_the_query_last_come_to_rest_before_alpha_3_is_one_half():
    """All nineteen: the loss vanishes with alpha_3 = 0.4876."""
    model = twin_losses.subspace(twin_losses.Sums(2), "last")
    times = ROWS["subspace", "last", 2]["times"]
    assert [time is None for time in times["alpha_3"]] == [False, False, True, True, True]
    assert None not in times["beta_2"] + times["gamma_3"] + times["loss"]
    rest = integrate.solve_ivp(
        lambda t, theta: -twin_losses.MOBILITY * model(theta)[1], (0, 1e3), np.zeros(12), "Radau", rtol=1e-9, atol=1e-11
    ).y[:, -1]
    assert model(rest)[0] < 1e-15
    assert rest[twin_losses.LIVE.index("alpha_3")] == pytest.approx(0.4876, abs=5e-5)
