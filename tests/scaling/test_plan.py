"""Grids of points, and about what they cost."""

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from induction_dynamics.dynamics.emergence import crossing_targets
from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling.plan import Grid, estimate, log_spaced, seconds_of
from induction_dynamics.scaling.points import Point
from induction_dynamics.task import Task
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.pace import duration
from induction_dynamics.training.starts import Start

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


def test_what_an_optimizer_does_not_take_makes_no_further_points():
    grid = Grid(
        (2, 3),
        model=("subspace", "full"),
        optimizer=("gd", "sgd", "adam"),
        step=(0.25, 0.5),
        horizon=(3.0, 6.0),
        learning_rate=(0.1, 0.2),
        momentum=(0.5, 0.9),
        b1=(0.8, 0.9),
        clip=(1.0,),
        steps=(10, 20),
    )
    points = grid.points()
    assert len(points) == len(set(points))
    found = {}
    for point in points:
        name = point.optimizer.name if point.optimizer else "gd"
        found[point.model, name] = found.get((point.model, name), 0) + 1
    # horizons; and steps of flow time; and rates, momenta, numbers of steps; and rates, decays b1, numbers of steps
    assert found == {("subspace", "gd"): 4, ("full", "gd"): 8, ("full", "sgd"): 16, ("full", "adam"): 16}
    assert {point.optimizer.clip for point in points if point.optimizer} == {1.0}
    assert {(point.horizon, point.steps) for point in points if point.optimizer} == {(None, 10), (None, 20)}


def test_starts_holds_and_data_of_a_grid():
    grid = Grid(
        (2,),
        model=("circuit", "full"),
        start_scale=(0.0, 0.1),
        start=("none", "gamma_3=-1,alpha_3=0.5"),
        hold=("", "none", "beta_2=0@4,alpha_3"),
        sequences=(0, 512),
        shared_frames=(1, 2),
        dtype=("float32", "float64"),
    )
    points = grid.points()
    starts, holds = (Start(), Start(0.1)), ((), (Hold("alpha_3"), Hold("beta_2", 0.0, 4.0)))
    named = {"gamma_3": -1.0, "alpha_3": 0.5}
    starts += (Start(0.0, named), Start(0.1, named))
    whole = {"seed": 0, "batch_size": 256, "step": 0.25}
    expected = {
        Point(Task(2), "full", **whole, start=start, hold=hold, sequences=sequences, shared_frames=shared, dtype=dtype)
        for start, hold, sequences, shared, dtype in itertools.product(
            starts, holds, (None, 512), (1, 2), ("float32", "float64")
        )
    }
    expected |= {Point(Task(2), "circuit", start=start, hold=hold) for start in starts for hold in holds}
    assert set(points) == expected and len(points) == len(expected) == 64 + 4


@pytest.mark.parametrize(
    "options, message",
    [
        ({"clip": (1.0,)}, "clip must be left out with the optimizer gd .it is of sgd, adam, adamw.; got 1.0"),
        ({"optimizer": ("gd", "sgd"), "b2": (0.5,)}, "b2 must be left out with the optimizer gd, sgd .it is of adam"),
        ({"steps": (9,)}, "steps must be left out with the optimizer gd"),
        ({"optimizer": ("lion",)}, "optimizer must be one of gd, sgd, adam, adamw; got 'lion'"),
        ({"optimizer": ("adam",), "steps": (9,)}, "learning_rate must be given with the optimizer adam"),
        ({"optimizer": ("adam",), "learning_rate": (0.1,)}, "steps must be given with the optimizer adam"),
        ({"hold": ("beta_2=x",)}, "hold must be a coordinate, NAME.*; got 'beta_2=x'"),
        ({"hold": ("beta_2,beta_2=0",)}, "hold must be of each coordinate at most once"),
        ({"start": ("beta_2",)}, "start must be coordinates, NAME=VALUE joined by commas, or none; got 'beta_2'"),
        ({"sequences": (8,)}, "batch_size must be at most the number of sequences in the fixed set, which is 8"),
        ({"seed": tuple(range(2000)), "batch_size": tuple(range(1, 2001))}, "of at most 1000000 combinations"),
    ],
)
def test_a_training_that_is_none_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        Grid((2,), model=("full",), **options).points()


def test_a_training_without_flow_time_costs_its_steps():
    adam = {"seed": 0, "batch_size": 64, "optimizer": Optimizer("adam", learning_rate=0.01)}
    short, long = (Point(Task(4), "full", **adam, steps=steps) for steps in (100, 1000))
    assert seconds_of(long, TARGETS) == pytest.approx(10 * seconds_of(short, TARGETS))
    faster = dataclasses.replace(long, optimizer=Optimizer("adam", learning_rate=0.1))
    other = dataclasses.replace(long, optimizer=Optimizer("sgd", learning_rate=0.1))
    # the learning rate is no part of a program, the kind of the optimizer is
    assert estimate([long, faster]).compiling == estimate([long]).compiling < estimate([long, other]).compiling


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
