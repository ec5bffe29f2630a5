"""Runs in the place of the real ones: T = N^2 / (ln N + 1), with a factor per measure; nothing is computed."""

import contextlib
import importlib
import math
import os
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest

from induction_dynamics.dynamics.emergence import Emergence
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.scaling import study, workers
from induction_dynamics.scaling.ledger import Records
from induction_dynamics.scaling.points import Row
from tests.cli.pretended_standard import pretend_standard_seeds

FACTORS = {"alpha_3": 1.0, "beta_2": 0.5, "gamma_3": 0.25, "loss": 0.5}


def crossing(point, measure, threshold):
    """Only coordinates of the circuit emerge."""
    n = point.task.context_length
    time = n**2 / (math.log(n) + 1) * FACTORS.get(measure, math.inf) * threshold
    if not time <= end_of(point):
        return Emergence(measure, threshold, None, "horizon_reached", None)
    sustained = True if point.model == "full" else None
    return Emergence(measure, threshold, time * (1 + (point.seed or 0) / 100), "emerged", sustained)


def end_of(point):
    """When a run is given up, in the unit of its time."""
    return point.steps if point.horizon is None else point.horizon * point.task.context_length**2


def pretend(points, *, measures, thresholds, loss_fractions, on_progress=None, on_run=None, train_with=None):
    """Rows as the real sweep gives them."""
    rows = []
    for done, point in enumerate(points):
        if on_progress is not None:
            on_progress(done, len(points), point.model)
        if on_run is not None:
            on_run(pretend_run(point.task, horizon=end_of(point) / point.task.context_length**2))
        for measure in measures:
            for level in loss_fractions if measure == "loss" else thresholds:
                rows += Row.of(point, [crossing(point, measure, level)])
    return rows


def pretend_run(task, *args, horizon, **options):
    """A run that rises in a straight line to 1 at the horizon, in the place of a flow or a training."""
    time = np.array([0.0, horizon * float(task.context_length) ** 2])
    ends = np.array([0.0, 1.0])
    return Trajectory(time, np.tile(ends[:, None], (1, 19)), 0.5 - 0.5 * ends, 0.1 * ends, "horizon_reached")


def pretend_batch(batch):
    """What came of a batch of a sweep into a folder."""
    crossings = [[crossing(point, *target) for target in batch.targets] for point in batch.points]
    records = []
    if batch.records:
        ends = [end_of(point) / point.task.context_length**2 for point in batch.points]
        runs = [pretend_run(point.task, horizon=end) for point, end in zip(batch.points, ends, strict=True)]
        records = [Records.of(run, batch.records) for run in runs]
    outcomes = ["emerged" if all(one.time is not None for one in found) else "horizon_reached" for found in crossings]
    return study.Finished(crossings, outcomes, records, "2025-11-22T12:00:00+00:00", 0.001, study.provenance_here())


@contextlib.contextmanager
def thread_for_processes(*count_threads_and_settings):
    """What works in the place of further processes."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def pretended(monkeypatch):
    """The calls made, each with its points and what was asked of them: of a sweep into a folder one for each batch.

    In the place of a sweep in memory is `pretend`, of a batch `pretend_batch`, of the runs of a comparison
    `pretend_run`, of trainings of standard transformers `pretend_standard_seeds`; nor are there further processes.
    """
    calls = []
    comparison = importlib.import_module("induction_dynamics.training.comparison")
    monkeypatch.setattr(comparison, "train_seeds", lambda task, seeds, **more: [pretend_run(task, **more)] * len(seeds))
    monkeypatch.setattr(comparison, "solve_flow", pretend_run)

    def sweep(points, **asked):
        calls.append((list(points), asked))
        return pretend(points, **asked)

    def compute(batch, tell=None):
        calls.append((list(batch.points), {"targets": list(batch.targets), "records": batch.records}))
        return pretend_batch(batch)

    monkeypatch.setattr(importlib.import_module("induction_dynamics.scaling.sweep"), "sweep", sweep)
    monkeypatch.setattr(study, "compute", compute)
    monkeypatch.setattr(workers, "processes", thread_for_processes)
    standard = importlib.import_module("induction_dynamics.training.standard")
    monkeypatch.setattr(standard, "train_standard_seeds", pretend_standard_seeds)
    # a sweep says in the environment how many threads there are
    with mock.patch.dict(os.environ):
        yield calls


@pytest.fixture
def drawn(monkeypatch):
    """Pictures of sweeps that cost nothing."""
    style = importlib.import_module("induction_dynamics.plotting.style")
    picture = importlib.import_module("induction_dynamics.plotting.emergence_times")
    monkeypatch.setattr(picture, "plot_emergence_times", lambda *rows_and_fits, **more: "figure")
    monkeypatch.setattr(style, "save_figure", lambda figure, path: path.write_text(str(figure)))
