"""Emergence time as a curve over the threshold, and where along it the order of the three coordinates changes.

`python -m experiments.thresholds --output DIR` writes times.csv, loss.csv, order_changes.csv, orders.csv, exponents.csv
and the figure.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy import optimize

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.dynamics.emergence import crossing_targets, crossings_of
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.thresholds import plot_thresholds
from induction_dynamics.pseudo_parameters import COORDINATES
from induction_dynamics.scaling.laws import fit_laws
from induction_dynamics.scaling.points import Point, Row
from induction_dynamics.scaling.study import run_sweep
from induction_dynamics.scaling.sweep import run_points, sweep
from induction_dynamics.task import Task

THREE = ("gamma_3", "beta_2", "alpha_3")
MEASURES = (*THREE, "loss")
RUN = ("model", "query", "context_length", "seed")

THRESHOLDS = tuple(
    sorted(
        {0.02, 0.475, 0.49, 0.51, 0.525}
        | {round(0.05 * i, 2) for i in range(1, 31)}
        | {round(1.5 + 0.1 * i, 1) for i in range(1, 16)}
    )
)
"""Of the coordinates: denser where gamma_3 has a plateau at 1/2, and up to 1.5, which it hardly exceeds."""

FRACTIONS = (0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)
"""Of the loss at its start."""


@dataclasses.dataclass(frozen=True)
class ThresholdsConfig:
    """What is run.

    Args:
        output: folder for the tables and the figure.
        ledger: folder of the trainings, which go on from there.
        context_lengths: N of the reduced flows.
        fit_lengths: N of the power laws at each of `compared`, reduced flows.
        compared: thresholds at which orders and exponents are compared.
        models: reduced flows.
        queries: of all models.
        trained_length: N of the trained model.
        seeds: of its trainings; none leaves it out.
        batch_size: sequences per training step.
        step: flow time per training step.
        shared_frames: sequences that share a random frame.
        horizon: flow time at which a run is given up, in units of N^2.
        thresholds: of the coordinates, increasing.
    """

    output: Path = Path("build/figures/thresholds")
    ledger: Path = Path("build/ledgers/thresholds")
    context_lengths: tuple[int, ...] = (4, 8, 16, 64, 1024, 10**6)
    fit_lengths: tuple[int, ...] = (4, 6, 8, 11, 16, 23, 32, 45, 64)
    compared: tuple[float, ...] = (0.1, 0.5)
    models: tuple[str, ...] = ("circuit", "subspace")
    queries: tuple[str, ...] = ("last", "uniform")
    trained_length: int = 8
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 256
    step: float = 0.125
    shared_frames: int = 16
    horizon: float = 12.0
    thresholds: tuple[float, ...] = THRESHOLDS

    def __post_init__(self):
        if len(self.thresholds) < 2 or list(self.thresholds) != sorted(set(self.thresholds)):
            raise ArgumentError("thresholds", self.thresholds, "increasing, at least 2")
        if not (self.context_lengths and self.models and self.queries):
            raise ArgumentError("context_lengths", self.context_lengths, "at least one, as models and queries")


def main(config: ThresholdsConfig, command: str = "make figures ONLY=thresholds") -> None:
    """Run every flow and every training, time each crossing, and find where the order changes.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    jax.config.update("jax_enable_x64", True)
    times: list[dict[str, Any]] = []
    losses: list[dict[str, Any]] = []
    targets = crossing_targets(MEASURES, config.thresholds, FRACTIONS)
    with progress(lines=True) as tell:
        reduced = [
            Point(Task(n, query=query), model, horizon=config.horizon)
            for model in config.models
            for query in config.queries
            for n in config.context_lengths
        ]
        flows: dict[int, list[dict[str, Any]]] = {}
        own: dict[int, list[dict[str, Any]]] = {}
        for place, run in run_points(reduced, targets, tell):
            flows[place] = [vars(row) for row in Row.of(reduced[place], crossings_of(run, targets))]
            found = changes_of_run(run, config.thresholds[0], config.thresholds[-1])
            own[place] = [_about(flows[place][0]) | change for change in found]
        trained = [
            Point(
                Task(config.trained_length, query=query),
                "full",
                horizon=config.horizon,
                seed=seed,
                batch_size=config.batch_size,
                step=config.step,
                shared_frames=config.shared_frames,
            )
            for query in config.queries
            for seed in config.seeds
        ]
        rows = [row for place in range(len(reduced)) for row in flows[place]]
        if trained:
            asked = {"measures": MEASURES, "thresholds": config.thresholds, "loss_fractions": FRACTIONS}
            rows += run_sweep(trained, config.ledger, **asked, on_progress=tell).rows()
        exponents = _exponents(config, tell)
    for _, group in itertools.groupby(rows, key=lambda row: tuple(row[name] for name in RUN)):
        curve, fallen = _tables(list(group))
        times += curve
        losses += fallen
    changes = [change for place in range(len(reduced)) for change in own[place]]
    for key, group in itertools.groupby(times, key=lambda row: tuple(row[name] for name in RUN)):
        if key[0] == "full":
            changes += changes_of_curves(list(group))
    tables = {"times": times, "loss": losses, "order_changes": changes, "orders": _orders(times)}
    record(
        config.output,
        config=config,
        command=command,
        figures={"thresholds": plot_thresholds(times, changes)},
        tables={name: table for name, table in (tables | {"exponents": exponents}).items() if table},
    )


def changes_of_run(run: Trajectory, lowest: float, highest: float) -> list[dict[str, Any]]:
    """Where two of the three coordinates are equal for the first time that either is as large: there their times are.

    Args:
        run: of a reduced flow.
        lowest: threshold from which on it counts.
        highest: threshold up to which.
    """
    places = [COORDINATES.index(name) for name in THREE]
    values = run.coordinates[:, places]
    found = []
    for one, other in itertools.combinations(range(3), 2):
        ahead = values[:, one] - values[:, other]
        for at in np.flatnonzero(ahead[:-1] * ahead[1:] < 0):

            def lead(time: float, pair: tuple[int, int] = (places[one], places[other])) -> float:
                coordinates = run.at(np.array([time]))[0][0]
                return float(coordinates[pair[0]] - coordinates[pair[1]])

            bracket = float(run.time[at]), float(run.time[at + 1])
            root: Any = optimize.root_scalar(lead, bracket=bracket, xtol=1e-300, rtol=1e-14)
            time = float(root.root)
            level = float(run.at(np.array([time]))[0][0, places[one]])
            first = np.all(values[: at + 1, [one, other]] <= level * (1 + 1e-6))
            if first and lowest <= level <= highest:
                before, after = (one, other) if ahead[at] > 0 else (other, one)
                found.append(_change(THREE[before], THREE[after], level, time))
    return sorted(found, key=lambda change: change["threshold"])


def changes_of_curves(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same from the times of one run at a row of thresholds, ln T being straight between two of them.

    Args:
        rows: of the table `times`, by increasing threshold.
    """
    found = []
    for one, other in itertools.combinations(THREE, 2):
        both = [row for row in rows if row[one] is not None and row[other] is not None]
        for low, high in itertools.pairwise(both):
            gap, next_gap = (math.log(row[one] / row[other]) for row in (low, high))
            if gap * next_gap < 0:
                part = gap / (gap - next_gap)
                level = low["threshold"] + part * (high["threshold"] - low["threshold"])
                time = math.exp((1 - part) * math.log(low[one]) + part * math.log(high[one]))
                before, after = (one, other) if gap < 0 else (other, one)
                found.append(_about(low) | _change(before, after, level, time))
    return sorted(found, key=lambda change: change["threshold"])


def _change(before: str, after: str, threshold: float, time: float) -> dict[str, Any]:
    return {"first_below": before, "first_above": after, "threshold": threshold, "time": time}


def _about(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in RUN}


def _tables(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The times of one run: a row for each threshold of the coordinates, and one for each fraction of the loss."""
    curves: dict[float, dict[str, dict[str, Any]]] = {}
    losses = []
    for row in rows:
        if row["measure"] == "loss":
            losses.append(_about(row) | {name: row[name] for name in ("threshold", "time", "outcome")})
        else:
            curves.setdefault(row["threshold"], {})[row["measure"]] = row
    times = []
    for threshold, found in sorted(curves.items()):
        reasons = {found[name]["outcome"] for name in THREE} - {"emerged"}
        times.append(
            _about(rows[0])
            | {"threshold": threshold}
            | {name: found[name]["time"] for name in THREE}
            | {
                "never": " ".join(name for name in THREE if found[name]["time"] is None) or None,
                "outcome": " ".join(sorted(reasons)) or "emerged",
            }
        )
    return times, losses


def _orders(times: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stretches of neighbouring thresholds with the same order; what never emerged is last, in brackets."""

    def order(row: dict[str, Any]) -> str:
        timed = sorted((row[name], name) for name in THREE if row[name] is not None)
        return " < ".join([*(name for _, name in timed), *(f"({name})" for name in THREE if row[name] is None)])

    found = []
    for _, group in itertools.groupby(times, key=lambda row: (*(row[name] for name in RUN), order(row))):
        rows = list(group)
        ends = {"first": rows[0]["threshold"], "last": rows[-1]["threshold"]}
        found.append(_about(rows[0]) | ends | {"order": order(rows[0])})
    return found


def _exponents(config: ThresholdsConfig, tell: Any) -> list[dict[str, Any]]:
    """Power laws of short contexts at each of the thresholds compared."""
    if not config.fit_lengths:
        return []
    points = [
        Point(Task(n, query=query), model)
        for model in config.models
        for query in config.queries
        for n in config.fit_lengths
    ]
    rows = sweep(points, measures=THREE, thresholds=config.compared, on_progress=tell)
    curves: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        curves.setdefault((row.model, row.query, row.measure, row.threshold), []).append(row)
    found = []
    for key, curve in curves.items():
        lengths = [row.context_length for row in curve]
        p = fit_laws(lengths, [row.time for row in curve], noise_free=True)[0].parameters["p"]
        names = dict(zip(("model", "query", "measure", "threshold"), key, strict=True))
        found.append(names | {"first": lengths[0], "last": lengths[-1], "points": len(curve)} | _named(p))
    return found


def _named(p: Any) -> dict[str, float]:
    return {"p": p.value, "low": p.low, "high": p.high}


if __name__ == "__main__":
    run_script(main, ThresholdsConfig, __doc__)
