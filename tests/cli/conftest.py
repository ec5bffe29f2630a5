"""Runs in the place of the real ones: T = N^2 / (ln N + 1), with a factor per measure; nothing is computed."""

import importlib
import math

import numpy as np
import pytest

from induction_dynamics.dynamics.emergence import Emergence
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.scaling.sweep import Row

FACTORS = {"alpha_3": 1.0, "beta_2": 0.5, "gamma_3": 0.25, "loss": 0.5}


def row(point, measure, threshold, time, outcome="emerged"):
    sustained = True if point.model == "full" and time is not None else None
    return Row.of(point, [Emergence(measure, threshold, time, outcome, sustained)])[0]


def pretend(points, *, measures, thresholds, loss_fractions, on_progress=None, on_run=None):
    """Rows as the real sweep gives them; only coordinates of the circuit emerge."""
    rows = []
    for done, point in enumerate(points):
        if on_progress is not None:
            on_progress(done, len(points), point.model)
        n = point.task.context_length
        for measure in measures:
            for level in loss_fractions if measure == "loss" else thresholds:
                time = n**2 / (math.log(n) + 1) * FACTORS.get(measure, math.inf) * level
                if not time <= point.horizon * n**2:
                    rows.append(row(point, measure, level, None, "horizon_reached"))
                else:
                    rows.append(row(point, measure, level, time * (1 + (point.seed or 0) / 100)))
    return rows


def pretend_run(task, *args, horizon, **options):
    """A run that rises in a straight line to 1 at the horizon, in the place of a flow or a training."""
    time = np.array([0.0, horizon * float(task.context_length) ** 2])
    ends = np.array([0.0, 1.0])
    return Trajectory(time, np.tile(ends[:, None], (1, 19)), 0.5 - 0.5 * ends, 0.1 * ends, "horizon_reached")


@pytest.fixture
def pretended(monkeypatch):
    """The calls made to the sweep, which is replaced by `pretend`, as the runs of a comparison are by `pretend_run`."""
    calls = []
    comparison = importlib.import_module("induction_dynamics.training.comparison")
    monkeypatch.setattr(comparison, "train", pretend_run)
    monkeypatch.setattr(comparison, "solve_flow", pretend_run)

    def sweep(points, **asked):
        calls.append((list(points), asked))
        return pretend(points, **asked)

    monkeypatch.setattr(importlib.import_module("induction_dynamics.scaling.sweep"), "sweep", sweep)
    return calls
