"""Ledgers of invented entries, of which nothing is computed, and what their labelled arrays must hold."""

import dataclasses
import math
import zlib

import numpy as np

from induction_dynamics.dynamics.emergence import Emergence
from induction_dynamics.scaling.ledger import NOT_COMPUTED, Entry, Records, open_ledger
from induction_dynamics.scaling.points import Point
from induction_dynamics.task import Task
from induction_dynamics.training.optimizers import Optimizer

DIMENSIONS = ("model", "inputs", "query", "context_length", "seed", "measure", "threshold")
TARGETS = (("gamma_3", 0.5), ("loss", 0.25), ("alpha_3", 3.0), ("alpha_3", 0.5))
WORDS = ("optimizer", "start", "hold", "training")
TRAINING = {"seed": 0, "batch_size": 32, "step": 0.25}


def circuit(length, **options):
    names = {field.name for field in dataclasses.fields(Task)}
    task = {name: options.pop(name) for name in names & set(options)}
    return Point(Task(length, **task), "circuit", **options)


def full(length, **options):
    return dataclasses.replace(circuit(length), model="full", **(TRAINING | options))


def by_steps(length, name="adam", *, learning_rate=0.01, momentum=None, steps=500, **options):
    """A training without flow time."""
    optimizer = Optimizer(name, learning_rate=learning_rate, momentum=momentum)
    return full(length, optimizer=optimizer, steps=steps, **options)


def entry(point, targets=TARGETS, run="emerged", reason=""):
    """Invented times, no two alike; of those at 3 none."""
    crossings = []
    for measure, level in targets:
        time = point.task.context_length**2 / 7 + zlib.crc32(repr((point, measure, level)).encode()) / 2**40
        if run != "emerged" or level == 3.0:
            crossings.append(Emergence(measure, level, None, "horizon_reached" if run == "emerged" else run, None))
        else:
            sustained = {"gamma_3": False, "loss": None}.get(measure, True)
            crossings.append(Emergence(measure, level, time, "emerged", sustained))
    return Entry(point, tuple(crossings), run, reason)


def records(length, start=0.0):
    time = start + np.arange(length) ** 2.0
    return Records(time, np.multiply.outer(time, np.arange(19.0)), 0.5 / (1 + time), 0.1 * time)


def fill(folder, *sessions):
    """A ledger of entries, each with its records if there are any, written in several sessions."""
    for session in sessions:
        with open_ledger(folder) as ledger:
            for one in session:
                found, run = one if isinstance(one, tuple) else (one, None)
                ledger.put(found, run, 0 if run is None else len(run.time))
    return folder


MIXED = [
    entry(circuit(16)),
    entry(circuit(1)),
    entry(circuit(4, query="uniform")),
    entry(dataclasses.replace(circuit(4), model="subspace")),
    entry(Point(Task(4, inputs="isotropic"), "subspace", seed=7, samples=64), TARGETS[:2]),
    *(entry(full(length, seed=seed)) for length in (1, 16) for seed in (0, 2, 11)),
]
FAILED = [
    entry(circuit(64), run="solver_failed", reason="its step\n became  0"),
    entry(full(64), run="nonfinite"),
    entry(full(64, seed=1), run="nonfinite"),
    entry(circuit(10**6, query="uniform"), (), NOT_COMPUTED, "not enough memory"),
]


def check_cells(ds, entries):
    """Each time is at its labels, and nothing is anywhere else."""
    extra = [name for name in ds.time.dims if name not in DIMENSIONS]
    count = 0
    for one in entries:
        for row in one.rows():
            wanted = {name: row[name] for name in (*DIMENSIONS, *extra)}
            nothing = {"seed": -1} | {name: "" if name in WORDS else 0 for name in extra}
            cell = ds.sel({name: nothing[name] if value is None else value for name, value in wanted.items()})
            assert cell.time.shape == ()
            assert cell.time.item() == row["time"] or (row["time"] is None and math.isnan(cell.time))
            assert cell.outcome.item() == row["outcome"]
            assert cell.sustained.item() == {None: -1, False: 0, True: 1}[row["sustained"]]
            assert cell.embedding_dim.item() == row["embedding_dim"]
            assert ds.attrs.get("time_unit") or cell.time_unit.item() == row["time_unit"]
            count += 1
    assert (ds.outcome != "").sum() == (ds.sustained != -2).sum() == count > 0
    assert np.isfinite(ds.time).sum() == (ds.outcome == "emerged").sum()
