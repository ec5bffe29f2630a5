"""Ledgers whose emergence times follow known laws, up to noise that differs with the seed; nothing is computed."""

import dataclasses
import math

import numpy as np

from induction_dynamics.dynamics.emergence import Emergence
from induction_dynamics.scaling.ledger import Entry, open_ledger
from induction_dynamics.scaling.points import Point
from induction_dynamics.task import Task

LENGTHS = (4, 6, 8, 12, 16, 24, 32)
LAWS = {
    "gamma_3": lambda n: 3 * n**1.5,
    "alpha_3": lambda n: n**2 / (0.5 * math.log(n) + 0.3),
    "loss": lambda n: 2 * n**2,
}
"""A power, a quadratic with a logarithm, and one that all laws contain."""


def point(length, model="full", **options):
    """A point of the full model with seed 0 unless told otherwise."""
    names = {field.name for field in dataclasses.fields(Task)}
    task = Task(length, **{name: options.pop(name) for name in names & set(options)})
    training = {"seed": 0, "batch_size": 64, "step": 0.25} if model == "full" else {}
    return Point(task, model, **(training | options))


def entry(where, noise=0.02, factor=1.0, without=(), outcome="horizon_reached"):
    """A point's entry; measures named `without` have no time, for the reason given."""
    length, found = where.task.context_length, []
    drawn = np.random.default_rng([length, where.seed or 0, where.batch_size or 0]).normal(size=len(LAWS))
    for (measure, law), deviation in zip(LAWS.items(), drawn, strict=True):
        time = factor * law(length) * math.exp(noise * deviation if where.model == "full" else 0.0)
        if measure in without:
            found.append(Emergence(measure, 0.5, None, outcome, None))
        else:
            found.append(Emergence(measure, 0.5, time, "emerged", True))
    return Entry(where, tuple(found), "stopped")


def runs(seeds=3, lengths=LENGTHS, model="full", factor=1.0, **options):
    """Entries over context lengths and seeds; of a reduced model without seeds."""
    if model != "full":
        return [entry(point(length, model, **options), factor=factor) for length in lengths]
    return [entry(point(n, seed=seed, **options), factor=factor) for n in lengths for seed in range(seeds)]


def rows_of(entries, **more):
    return [row | more for one in entries for row in one.rows()]


def fill(folder, entries):
    with open_ledger(folder) as ledger:
        for one in entries:
            ledger.put(one)
    return folder
