"""Sweeps: the order of rows, what is computed together, and what is said meanwhile."""

import dataclasses
import math
import re

import numpy as np
import pytest

from induction_dynamics.dynamics import solvers
from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES, emergence_times
from induction_dynamics.dynamics.flow import solve_flow
from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.errors import ArgumentError
from induction_dynamics.scaling import sweep as sweep_module
from induction_dynamics.scaling.points import MODELS, Point, Row
from induction_dynamics.scaling.sweep import run_points, sweep
from induction_dynamics.task import Task
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.starts import Start
from induction_dynamics.training.train import train


def circuit(length, query="last", **options):
    return Point(Task(length, query=query), "circuit", **options)


def full(length, **options):
    training = {"seed": 5, "batch_size": 32, "step": 0.25, **options}
    return Point(Task(length, query="uniform"), "full", **training)


def times_of(rows):
    return np.array([row.time for row in rows], float)


MIXED = [
    circuit(64),
    full(2, horizon=3.0),
    circuit(8),
    circuit(64, horizon=2.0),
    circuit(1000),
]


@pytest.fixture(scope="module")
def mixed():
    return sweep(MIXED)


def test_rows_follow_the_points(mixed):
    assert len(mixed) == len(MIXED) * len(DEFAULT_MEASURES)
    for place, point in enumerate(MIXED):
        for row, measure in zip(mixed[4 * place : 4 * place + 4], DEFAULT_MEASURES, strict=True):
            assert (row.context_length, row.query, row.model) == (
                point.task.context_length,
                point.task.query,
                point.model,
            )
            assert (row.measure, row.threshold, row.horizon) == (measure, 0.5, point.horizon)
            assert (row.embedding_dim, row.inputs, row.rotation) == (point.task.embedding_dim, "orthonormal", 90.0)
            assert (row.seed, row.batch_size, row.step) == (point.seed, point.batch_size, point.step)
            assert (row.time_unit, row.samples) == ("flow", None)
            assert (row.time is None) == (row.outcome != "emerged") and (row.time is None) <= (row.sustained is None)


def test_fields_of_a_row():
    """Those of the document (README), and those beside them."""
    assert [field.name for field in dataclasses.fields(Row)] == [
        *("context_length", "embedding_dim", "inputs", "query", "rotation", "model", "measure", "threshold", "time"),
        *(
            "time_unit",
            "outcome",
            "sustained",
            "seed",
            "batch_size",
            "step",
            "samples",
            "horizon",
            "accuracy",
            "copies",
        ),
        *("optimizer", "learning_rate", "steps", "sequences", "start", "hold", "training"),
    ]


@pytest.mark.parametrize("place", range(len(MIXED)))
def test_a_point_gives_the_same_rows_alone(place, mixed):
    assert sweep([MIXED[place]]) == mixed[4 * place : 4 * place + 4]  # to the last bit


def test_repeated_points_give_repeated_rows(mixed):
    rows = sweep([circuit(8), circuit(8), circuit(8)])
    assert rows[:4] == rows[4:8] == rows[8:]
    np.testing.assert_allclose(times_of(rows[:4]), times_of(mixed[8:12]), rtol=1e-9)


def test_thresholds_and_fractions():
    rows = sweep([circuit(8)], measures=["loss", "beta_2"], thresholds=[0.5, 1.0], loss_fractions=[0.9, 0.5, 0.1])
    assert [(row.measure, row.threshold) for row in rows] == [
        ("loss", 0.9),
        ("loss", 0.5),
        ("loss", 0.1),
        ("beta_2", 0.5),
        ("beta_2", 1.0),
    ]
    assert np.all(np.diff(times_of(rows)[:3]) > 0) and np.all(np.diff(times_of(rows)[3:]) > 0)


def test_no_points_no_rows():
    assert sweep([]) == []


class Solved(Exception):
    """Stands for a run that must not begin."""


@pytest.fixture
def no_runs(monkeypatch):
    def refuse(*args, **kwargs):
        raise Solved

    monkeypatch.setattr(sweep_module, "solve_flows", refuse)
    monkeypatch.setattr(sweep_module, "run_training", refuse)


@pytest.fixture
def batches(monkeypatch):
    """What is given to the solver, recorded and not solved; a run that fails at its start stands in for each."""
    from induction_dynamics.dynamics.trajectory import Trajectory

    given = []
    failed = Trajectory(np.zeros(1), np.zeros((1, 19)), np.ones(1), np.zeros(1), "solver_failed")

    def solve(tasks, model, **options):
        given.append((tasks, model, options))
        return [failed] * len(tasks)

    def run_training(settings, seeds, stop, **options):
        given.append(([settings.task], "full", {"seed": seeds[0], "horizon": settings.horizon}))
        return [failed]

    monkeypatch.setattr(sweep_module, "solve_flows", solve)
    monkeypatch.setattr(sweep_module, "run_training", run_training)
    return given


def test_batches_hold_companions_only(batches):
    points = [
        *(circuit(n) for n in (4096, 4, 10**9)),
        *(circuit(n, "uniform") for n in (4, 64, 65, 200)),
        *(Point(Task(n), "subspace") for n in (16, 4, 17)),
        *(Point(Task(n, rotation=60.0), "subspace") for n in (4, 5)),
        *(Point(Task(n, rotation=60.0), "circuit") for n in (4, 5)),
        *(Point(Task(n, inputs="isotropic"), "circuit", seed=2, samples=7) for n in (4, 5)),
        circuit(4, horizon=3.0),
        full(4),
        full(4, seed=6),
    ]
    sweep(points)
    together = [(model, sorted({task.context_length for task in tasks})) for tasks, model, _ in batches]
    assert together == [
        ("circuit", [4, 4096, 10**9]),
        ("circuit", [4, 64, 65, 200]),
        ("subspace", [4, 16, 17]),
        ("subspace", [4]),
        ("subspace", [5]),
        ("circuit", [4, 5]),
        ("circuit", [4]),
        ("circuit", [5]),
        ("circuit", [4]),
        ("full", [4]),
        ("full", [4]),
    ]
    for tasks, *_ in batches:
        assert len({(task.inputs, task.query, task.rotation) for task in tasks}) == 1
    assert [(o["samples"], o["seed"]) for t, _, o in batches if t[0].inputs == "isotropic"] == [(7, 2), (7, 2)]
    assert [o["horizon"] for *_, o in batches].count(3.0) == 1
    assert [o["seed"] for _, model, o in batches if model == "full"] == [5, 6]


def test_batches_are_no_wider_than_they_should_be(batches):
    sweep([circuit(n) for n in range(1, 2151)])
    # a single pair is solved by another method
    assert [[task.context_length for task in tasks] for tasks, *_ in batches] == [
        [1],
        list(range(2, 2050)),
        list(range(2050, 2151)),
    ]
    batches.clear()
    sweep([Point(Task(n, query="uniform"), "subspace") for n in (17, 18, 19, 20, 21, 65, 10**6)])
    assert [[task.context_length for task in tasks] for tasks, *_ in batches] == [[17, 18, 19, 20], [21, 65, 10**6]]


def test_a_failing_point_does_not_stop_the_others(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(solvers, "_CIRCUIT_STEPS", (30,))  # attempts; the longest alone needs more
        rows = sweep([circuit(10**9), circuit(16), circuit(64)], measures=["loss"])
    assert [row.outcome for row in rows] == ["solver_failed", "emerged", "emerged"]
    assert [row.time is None for row in rows] == [True, False, False]
    rows = sweep([full(2, step=80.0, horizon=2000.0), full(2, horizon=1.0)], measures=["alpha_3"], thresholds=[1e6])
    assert [row.outcome for row in rows] == ["nonfinite", "horizon_reached"]


def test_progress_is_monotone_and_ends_at_the_total(batches):
    told = []
    points = [circuit(n) for n in (4, 8)] + [full(2), circuit(4, "uniform"), full(3)]
    sweep(points, on_progress=lambda *words: told.append(words))
    done, totals, words = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert (done[0], done[-1], set(totals)) == (0, 5, {5})
    assert words[0] == "circuit, query last, N = 4 to 8"
    assert "full, query uniform, N = 3" in words


def test_training_says_how_far_it_is():
    told = []
    sweep([full(2, horizon=3.0)], on_progress=lambda *words: told.append(words))
    assert {words[:2] for words in told[:-1]} == {(0, 1)} and told[-1][:2] == (1, 1)
    last = r"full, query uniform, N = 2: step 48 of at most 48, flow time 12, loss 0\.\d+(, [^ ]+ steps/s, .* left)?"
    assert re.fullmatch(last, told[-2][2])


def test_a_training_without_flow_time():
    optimizer = Optimizer("adam", learning_rate=0.1)
    point = full(2, batch_size=8, optimizer=optimizer, steps=16, sequences=8, start=Start(0.1))
    told = []
    rows = sweep(
        [point], measures=["gamma_3", "beta_9"], thresholds=[0.2], on_progress=lambda *say: told.append(say[2])
    )
    run = train(
        point.task,
        **{"optimizer": optimizer, "steps": 16, "batch_size": 8, "sequences": 8, "start": Start(0.1), "seed": 5},
    )
    expected = emergence_times(run, measures=["gamma_3", "beta_9"], thresholds=[0.2])
    assert [(row.time, row.outcome) for row in rows] == [(one.time, one.outcome) for one in expected]
    assert [row.outcome for row in rows] == ["emerged", "horizon_reached"] and 1 < (rows[0].time or 0) < 16
    for row in rows:
        assert (row.time_unit, row.optimizer, row.learning_rate, row.steps) == ("steps", "adam", 0.1, 16)
        assert (row.horizon, row.step, row.sequences, row.start, row.hold) == (None, None, 8, "scale=0.1", None)
    assert told[0] == "full, adam, query uniform, N = 2" and "step 16 of at most 16, loss" in told[-2]


def test_holds_and_starts_of_reduced_flows_are_those_of_a_flow():
    start, hold = {"gamma_3": 0.1}, (Hold("alpha_3", 0.0),)
    points = [circuit(n, start=Start(0.5, start), hold=hold) for n in (4, 8)]
    rows = sweep(points, measures=["alpha_3", "gamma_3"])
    assert [(row.start, row.hold) for row in rows] == 4 * [("gamma_3=0.1", "alpha_3=0.0")]
    assert [row.outcome for row in rows] == ["horizon_reached", "emerged"] * 2
    run = solve_flow(Task(8), "circuit", start=start, hold=hold, horizon=12.0)
    (expected,) = emergence_times(run, measures=["gamma_3"])
    assert rows[3].time == pytest.approx(expected.time, rel=1e-6)


def test_a_point_without_what_its_optimizer_needs():
    adam = Optimizer("adam", learning_rate=0.1)
    with pytest.raises(ArgumentError, match="steps must be given with the optimizer adam, which has no flow time"):
        full(2, optimizer=adam)
    with pytest.raises(ArgumentError, match="steps must be left out with the optimizer gd"):
        full(2, steps=5)
    with pytest.raises(ArgumentError, match="horizon must be given for a run with flow time"):
        full(2, horizon=None)
    with pytest.raises(ArgumentError, match="batch_size must be at most the number of sequences in the fixed set"):
        full(2, sequences=4)
    point = full(2, optimizer=adam, steps=5, horizon=3.0)
    assert (point.horizon, point.step) == (None, None)
    with pytest.raises(ArgumentError, match="start must be of alpha_3, beta_2, gamma_3 for the model circuit"):
        circuit(2, start=Start(coordinates={"gamma_4": 1.0}))
    assert circuit(2, start=Start(0.5), optimizer=adam, steps=5, sequences=9, dtype="float64") == circuit(2)


def test_points_come_out_as_they_are_done():
    points = [circuit(8), full(2), circuit(4), circuit(6)]
    found = dict(run_points(points, [("gamma_3", 0.5)]))
    assert set(found) == {0, 1, 2, 3}
    assert {trajectory.outcome for trajectory in found.values()} == {"emerged"}
    # About 2N ln 2 for each, within the last step; training looks at its stop between two chunks only.
    for place, length in ((0, 8), (2, 4), (3, 6)):
        time = found[place].time
        assert time[-1 - found[place].degree] < 2 * length * math.log(2) * 0.99 < time[-1]
    assert (found[0].degree, found[1].degree) == (7, 1)


@pytest.mark.parametrize(
    "task, model",
    [
        (Task(65, rotation=60.0), "subspace"),
        (Task(10**9, query="uniform", rotation=60.0), "subspace"),
        (Task(65, inputs="isotropic"), "circuit"),
    ],
)
def test_too_long_is_refused_before_anything_runs(task, model, no_runs):
    with pytest.raises(ArgumentError, match=rf"context_length must be at most \d+ for {model}, query .*; got \d+\."):
        sweep([circuit(4), Point(task, model, seed=0, samples=1)])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"measures": ["delta"]}, "measures must be one of "),
        ({"thresholds": [0.0]}, "thresholds must be finite and above 0; got 0.0."),
        ({"loss_fractions": [1.5]}, "loss_fractions must be strictly between 0 and 1; got 1.5."),
    ],
)
def test_refuses_before_anything_runs(options, message, no_runs):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        sweep([circuit(4)], **options)


def test_points_are_checked():
    assert MODELS == ("circuit", "subspace", "full")
    with pytest.raises(ArgumentError, match=re.escape("model must be one of circuit, subspace, full; got 'half'.")):
        Point(Task(4), "half")
    whole = {"seed": 0, "batch_size": 8, "step": 0.25}
    for name in whole:
        with pytest.raises(ArgumentError, match=f"{name} must be given for the model full on orthonormal inputs"):
            Point(Task(4), "full", **{**whole, name: None})
    for name in ("seed", "samples"):
        with pytest.raises(ArgumentError, match=f"{name} must be given for the model circuit on isotropic inputs"):
            Point(Task(4, inputs="isotropic"), "circuit", **{"seed": 0, "samples": 8, name: None})
    assert circuit(4).seed is None and dataclasses.replace(circuit(4), horizon=1.0).horizon == 1.0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"horizon": 0.0}, "horizon must be finite and above 0; got 0.0."),
        ({"horizon": math.nan}, "horizon must be finite and above 0; got nan."),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 to 1000000000; got 0."),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295; got -1."),
        ({"step": 0.0}, "step must be a flow time above 0"),
        ({"step": 1e-9}, "step must be a flow time that reaches the horizon within"),
    ],
)
def test_a_point_takes_what_its_run_takes(options, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        full(4, **options)


def test_a_point_keeps_only_what_bears_on_it():
    point = Point(Task(4), "circuit", seed=3, batch_size=8, step=0.25, samples=2)
    assert point == circuit(4)
    trained = full(4, accuracy=1e-3, samples=7)
    assert trained == full(4)
    with pytest.raises(ArgumentError, match="samples must be a whole number from 1"):
        Point(Task(4, inputs="isotropic"), "circuit", seed=3, samples=0)
