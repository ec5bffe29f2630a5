"""Grids of points, and about what they cost."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from induction_dynamics.dynamics.emergence import crossing_targets
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.plan import Grid, duration, estimate, log_spaced, seconds_of
from induction_dynamics.scaling.sweep import Point
from induction_dynamics.task import Task

TARGETS = crossing_targets(("alpha_3", "loss"), (0.5,), (0.5,))


def test_a_grid_is_every_combination_that_makes_a_difference():
    grid = Grid(
        context_lengths=(2, 3),
        model=("circuit", "subspace", "full"),
        inputs=("orthonormal", "isotropic"),
        query=("last", "uniform"),
        batch_size=(8, 16),
        step=(0.1, 0.2),
        samples=(32, 64),
        accuracy=(1e-7, 1e-9),
        seed=(0, 1, 2),
    )
    points = grid.points()
    assert len(points) == len(set(points))
    tasks = 2 * 2
    counts = {
        ("circuit", "orthonormal"): tasks * 2,  # accuracies
        ("subspace", "orthonormal"): tasks * 2,
        ("circuit", "isotropic"): tasks * 2 * 2 * 3,  # accuracies, samples, seeds
        ("subspace", "isotropic"): tasks * 2 * 2 * 3,
        ("full", "orthonormal"): tasks * 2 * 2 * 3,  # batch sizes, steps, seeds
        ("full", "isotropic"): tasks * 2 * 2 * 3,
    }
    found = {key: 0 for key in counts}
    for point in points:
        found[point.model, point.task.inputs] += 1
    assert found == counts


def test_a_grid_is_the_product_of_its_options():
    options = {"rotation": (90.0, 60.0), "embedding_dim": (8, 10), "horizon": (1.0, 2.0)}
    points = Grid((2, 3), **options).points()
    expected = {
        Point(Task(length, dim, rotation=rotation), "subspace", horizon=horizon)
        for length, rotation, dim, horizon in itertools.product((2, 3), *options.values())
    }
    assert set(points) == expected and len(points) == len(expected)


def test_a_combination_that_no_task_takes_is_refused():
    with pytest.raises(ArgumentError, match="embedding_dim must be an even whole number, at least 10"):
        Grid((2, 4), embedding_dim=(6,)).points()
    with pytest.raises(ArgumentError, match="context_length must be at most 64"):
        Grid((65,), rotation=(90.0, 60.0)).points()


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 50))
def test_log_spaced(first, last, per_decade):
    first, last = sorted((first, last))
    lengths = log_spaced(first, last, per_decade)
    assert lengths[0] == first and lengths[-1] == last and lengths == sorted(set(lengths))
    assert len(lengths) <= math.log10(last / first) * per_decade + 2


def test_more_work_costs_more():
    full = [Point(Task(n), "full", seed=0, batch_size=b, step=0.25) for n in (4, 8, 16) for b in (64, 256)]
    costs = [seconds_of(point, TARGETS) for point in full]
    assert costs == sorted(costs) and costs[0] > 0.1
    assert seconds_of(full[0], crossing_targets(("alpha_1",), (0.5,), (0.5,))) > costs[0]  # never: to the horizon
    wide = Point(Task(4, 64), "full", seed=0, batch_size=64, step=0.25)
    assert seconds_of(wide, TARGETS) > 5 * costs[0]
    circuit, subspace = (Point(Task(10**6, query="uniform"), model) for model in ("circuit", "subspace"))
    assert seconds_of(circuit) < seconds_of(subspace)
    isotropic = [
        Point(Task(n, inputs="isotropic"), "subspace", seed=0, samples=s) for n, s in ((4, 64), (8, 64), (8, 128))
    ]
    assert [round(seconds_of(point) / seconds_of(isotropic[0])) for point in isotropic] == [1, 4, 8]
    turned = Point(Task(4, rotation=60.0), "subspace")
    assert 0 < seconds_of(turned) < 10


def test_an_estimate_counts_each_program_once():
    lengths = (100, 1000, 10**6)
    one, three = (estimate([Point(Task(n), "subspace") for n in ns]) for ns in (lengths[:1], lengths))
    assert one.compiling == three.compiling > 0
    assert three.seconds == pytest.approx(3 * one.seconds)
    assert estimate([]) == type(one)(0.0, 0.0)


@pytest.mark.parametrize(
    "seconds, words", [(0.0, "0 s"), (1e-3, "1 s"), (99.4, "99 s"), (100.0, "2 min"), (1e5, "27.8 h")]
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
