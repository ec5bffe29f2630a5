"""How long do emergence times of all nineteen coordinates take at lengths up to a thousand million, and other solvers'?

`python -m experiments.benchmarks.subspace_sweep --output DIR` writes subspace_sweep.csv and subspace_sweep.json.
"""

import dataclasses
import functools
import json
import math
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float
from scipy.integrate import LSODA, Radau

from experiments.benchmarks.circuit_sweep import distinct_lengths
from experiments.benchmarks.kvaerno import MEASURES
from experiments.benchmarks.lsoda import Signal, first_crossings
from experiments.benchmarks.stopwatch import interleaved, keep, process, spread
from experiments.recorder import run_script
from induction_dynamics.dynamics.flow import ACCURACY
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.reduced.loss import ReducedLoss, reduced_loss
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.sweep import sweep
from induction_dynamics.task import Task

Times = Mapping[str, float | None]

_EXACT = 1e-10  # accuracy of the times that others are compared with
_SOLVERS = {"LSODA": LSODA, "Radau": Radau}


@dataclasses.dataclass(frozen=True)
class SubspaceSweepConfig:
    """What is measured.

    Args:
        output: folder for the table.
        queries: which pair is queried.
        lengths: number of context lengths of the whole command, from 4 to `longest`; 0 for no command.
        longest: largest N.
        single: N of single runs, warm.
        rival: those N of them that scipy's solvers are run at, with the loss's own gradient and Hessian.
        kvaerno: those of them that diffrax's Kvaerno5 is run at, in a process of its own.
        tolerances: of a step of the other solvers, relative; the absolute one is a hundredth of it. Of them each of
            scipy's is timed at the first that makes its times right to the accuracy that is asked of the package, and
            Kvaerno5 at the first.
        rounds: measurements of single runs, in turns with the rivals'.
        patience: seconds after which a rival is given up.
    """

    output: Path = Path("build/benchmarks")
    queries: tuple[str, ...] = ("last", "uniform")
    lengths: int = 60
    longest: int = 10**9
    single: tuple[int, ...] = (64, 10**6, 10**9)
    rival: tuple[int, ...] = (64,)
    kvaerno: tuple[int, ...] = (64,)
    tolerances: tuple[float, ...] = (1e-7, 1e-8, 1e-9, 1e-10)
    rounds: int = 3
    patience: float = 300.0


def main(config: SubspaceSweepConfig) -> None:
    """Measure, and keep the table."""
    jax.config.update("jax_enable_x64", True)
    rows = [row for query in config.queries for length in config.single for row in _single(length, query, config)]
    if config.lengths:
        lengths = distinct_lengths(4, config.longest, config.lengths)
        rows += [_row("command", "cold", query, None, len(lengths), _cold(lengths, query)) for query in config.queries]
    keep(config, "subspace_sweep", rows)


def _row(
    what: str,
    start: str,
    query: str,
    context_length: int | None,
    points: int,
    seconds: list[float],
) -> dict[str, Any]:
    found = spread(seconds)
    return {
        "what": what,
        "start": start,
        "query": query,
        "context_length": context_length,
        "points": points,
        "tolerance": None,
        "error": None,
        **found,
        "seconds_per_length": found["seconds"] / points,
        "over_sweep": None,
    }


def _single(length: int, query: str, config: SubspaceSweepConfig) -> list[dict[str, Any]]:
    """Ours and the rivals at one length."""
    task = Task(length, query=query)
    solvers = _SOLVERS if length in config.rival else {}
    solved: dict[str, Times] = {}

    def ours() -> None:
        solved["sweep"] = _swept(task, ACCURACY)

    def rival(name: str) -> None:
        solved[name] = rival_times(task, name, tolerances[name], config.patience)

    ours()
    exact, tolerances = _swept(task, _EXACT), {"sweep": ACCURACY}
    for name in solvers:
        for tolerances[name] in config.tolerances:
            rival(name)  # the first time compiles
            error = _error(solved[name], exact)
            if error is None or error <= ACCURACY:
                break
    taken = interleaved({"sweep": ours, **{name: functools.partial(rival, name) for name in solvers}}, config.rounds)
    if length in config.kvaerno:
        found = _kvaerno(length, query, config)
        taken |= {"Kvaerno5": found["seconds"], "Kvaerno5, first": [found["first"]]}
        for name in ("Kvaerno5", "Kvaerno5, first"):
            solved[name], tolerances[name] = found["times"], config.tolerances[0]
    median = spread(taken["sweep"])["seconds"]
    rows = []
    for name, seconds in taken.items():
        what, _, first = name.partition(", ")
        row = _row(what, "cold" if first else "warm", query, length, 1, seconds)
        more = {"tolerance": tolerances[name], "error": _error(solved[name], exact)}
        rows.append(row | more | {"over_sweep": row["seconds"] / median})
    return rows


def rival_times(task: Task, solver: str, tolerance: float, patience: float = math.inf) -> dict[str, float]:
    """Times at which alpha_3, beta_2, gamma_3 reach 0.5 and the loss has halved, by scipy through jitted callbacks.

    Args:
        task: orthonormal inputs at 90 degrees.
        solver: `LSODA` or `Radau`.
        tolerance: relative, of a step; the absolute one is a hundredth of it.
        patience: seconds after which it is given up, with NaN for what has not been found.
    """
    loss, span = reduced_loss(task, "subspace"), float(task.context_length) ** 2
    begun = time.perf_counter()

    def flow(_: float, theta: np.ndarray) -> np.ndarray:
        if time.perf_counter() - begun > patience:
            raise _TooLong
        return -span * np.asarray(_gradient(loss, theta))

    places = {name: COORDINATES.index(name) for name in MEASURES[:-1]}
    signals: dict[str, Signal] = {name: lambda theta, place=place: theta[place] - 0.5 for name, place in places.items()}
    signals["loss"] = lambda theta: 0.25 - float(_value(loss, np.asarray(theta)))
    try:
        started = _SOLVERS[solver](
            flow,
            0.0,
            np.zeros(len(COORDINATES)),
            12.0,
            jac=lambda _, theta: -span * np.asarray(_hessian(loss, theta)),
            rtol=tolerance,
            atol=tolerance / 100,
        )
        return {name: span * at for name, at in first_crossings(started, signals).items()}
    except _TooLong:
        return dict.fromkeys(signals, math.nan)


class _TooLong(Exception):
    """Patience is at its end."""


@jax.jit
def _value(loss: ReducedLoss, theta: Float[Array, "19"]) -> Float[Array, ""]:
    return loss(theta)


@jax.jit
def _gradient(loss: ReducedLoss, theta: Float[Array, "19"]) -> Float[Array, "19"]:
    return jax.grad(lambda at: loss(at))(theta)


@jax.jit
def _hessian(loss: ReducedLoss, theta: Float[Array, "19"]) -> Float[Array, "19 19"]:
    return jax.hessian(lambda at: loss(at))(theta)


def _swept(task: Task, accuracy: float) -> Times:
    return {row.measure: row.time for row in sweep([Point(task, "subspace", accuracy=accuracy)])}


def _error(times: Times, exact: Times) -> float | None:
    """The largest relative error, None where a time was not found."""
    errors = []
    for name, right in exact.items():
        found = times[name]
        if found is None or right is None or math.isnan(found):
            return None
        errors.append(abs(found / right - 1))
    return max(errors)


def _kvaerno(length: int, query: str, config: SubspaceSweepConfig) -> dict[str, Any]:
    words = ["--context-length", str(length), "--query", query, "--tolerance", str(config.tolerances[0])]
    script = ["-m", "experiments.benchmarks.kvaerno", *words, "--rounds", str(config.rounds)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            return json.loads(process(script, Path(folder), config.patience)())
    except subprocess.TimeoutExpired:
        return {"first": config.patience, "seconds": [config.patience], "times": dict.fromkeys(MEASURES)}


def _cold(lengths: list[int], query: str) -> list[float]:
    """Seconds of the command line, from an empty cache to the last of its files."""
    with tempfile.TemporaryDirectory() as folder:
        output = ["--output", str(Path(folder) / "out"), "--json"]
        words = ["sweep", "--context-lengths", *map(str, lengths), "--query", query, *output]
        call = process(["-m", "induction_dynamics", *words], Path(folder) / "cache")
        return interleaved({"command": call}, 1, warm=False)["command"]


if __name__ == "__main__":
    run_script(main, SubspaceSweepConfig, __doc__)
