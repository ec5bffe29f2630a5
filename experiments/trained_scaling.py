"""Emergence times of the trained full model beside those of the reduced flows, at the same context lengths.

`python -m experiments.trained_scaling --output DIR` writes times.csv, ratios.csv, exponents.csv, batches.csv and the
figure. Stopped or killed, it goes on from its ledger.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.plotting.trained_scaling import plot_trained_scaling
from induction_dynamics.scaling.laws import fit_laws
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.study import run_sweep
from induction_dynamics.task import Task

MEASURES = ("gamma_3", "beta_2", "alpha_3", "loss")
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Thresholds of the coordinates, and fractions of its start for the loss."""

REDUCED = ("subspace", "circuit")


@dataclasses.dataclass(frozen=True)
class TrainedConfig:
    """What is run.

    Args:
        output: folder for the tables and the figure.
        ledger: folder that keeps what has been computed.
        last_lengths: N of the trained model and the flows, query last.
        uniform_lengths: likewise, query uniform.
        longest: N from which on one seed has to do.
        seeds: of the trainings.
        batch_size: sequences per training step.
        step: flow time per training step.
        shared_frames: sequences of a batch that share tokens and positions.
        larger_batch: batch size with which the longest runs of the query last are made once more, up to `alpha_3`: what
            of the trained model's deviation is noise falls in proportion.
    """

    output: Path = Path("build/figures/trained_scaling")
    ledger: Path = Path("build/ledgers/trained_scaling")
    last_lengths: tuple[int, ...] = (4, 6, 8, 12, 16)
    uniform_lengths: tuple[int, ...] = (4, 6, 8, 12, 16, 24, 32)
    longest: int = 24
    seeds: tuple[int, ...] = (0, 1, 2)
    batch_size: int = 256
    step: float = 0.125
    shared_frames: int = 16
    larger_batch: int = 1024


def main(config: TrainedConfig, command: str = "make figures ONLY=trained_scaling") -> None:
    """Train, solve the flows, and record times, their ratios and the exponents that each model shows.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    jax.config.update("jax_enable_x64", True)
    with progress(lines=True) as tell:
        rows = run_sweep(
            _points(config),
            config.ledger,
            measures=MEASURES,
            thresholds=LEVELS,
            loss_fractions=LEVELS,
            on_progress=tell,
        ).rows()
        compared = _compared(config)
        again = run_sweep(compared, config.ledger, measures=("alpha_3",), on_progress=tell).rows()
    names = ("model", "query", "context_length", "seed", "measure", "threshold", "time", "outcome", "sustained")
    times = [{name: row[name] for name in names} for row in rows]
    ratios, exponents = _ratios(times), _exponents(times)
    record(
        config.output,
        config=config,
        command=command,
        figures={"trained_scaling": plot_trained_scaling(times, ratios, exponents)},
        tables={"times": times, "ratios": ratios, "exponents": exponents, "batches": _batches(again)},
    )


def _points(config: TrainedConfig) -> list[Point]:
    points = []
    for query, lengths in (("last", config.last_lengths), ("uniform", config.uniform_lengths)):
        for length in lengths:
            task = Task(length, query=query)
            points += [Point(task, model) for model in REDUCED]
            seeds = config.seeds if length < config.longest else config.seeds[:1]
            points += [_trained(config, task, seed, config.batch_size) for seed in seeds]
    return points


def _trained(config: TrainedConfig, task: Task, seed: int, batch_size: int) -> Point:
    how = {"step": config.step, "shared_frames": config.shared_frames}
    return Point(task, "full", seed=seed, batch_size=batch_size, **how)


def _compared(config: TrainedConfig) -> list[Point]:
    """The longest with the query last at two batch sizes, and its flow."""
    if not config.last_lengths:
        return []
    task = Task(max(config.last_lengths))
    sizes = (config.batch_size, config.larger_batch)
    return [Point(task, "subspace"), *(_trained(config, task, config.seeds[0], size) for size in sizes)]


def _batches(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trained over reduced, by batch size; none where one of them has no time."""
    (reduced,) = [row["time"] for row in rows if row["model"] == "subspace"] or [None]
    names = ("query", "context_length", "batch_size", "measure", "threshold")
    return [
        {name: row[name] for name in names} | {"ratio": row["time"] / reduced if row["time"] and reduced else None}
        for row in rows
        if row["model"] == "full"
    ]


def _ratios(times: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trained over reduced (all nineteen), mean over the seeds, with the standard error of the mean.

    There is none where one of them has no time.
    """
    found: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for row in times:
        key = row["query"], row["context_length"], row["measure"], row["threshold"]
        time = math.nan if row["time"] is None else row["time"]
        found.setdefault(key, {}).setdefault(row["model"], []).append(time)
    rows = []
    for (query, length, measure, threshold), models in found.items():
        if not np.isfinite([*models["full"], *models["subspace"]]).all():
            continue
        (reduced,), trained = models["subspace"], np.array(models["full"])
        error = float(np.std(trained, ddof=1)) / math.sqrt(len(trained)) if len(trained) > 1 else None
        rows.append(
            {
                **{"query": query, "context_length": length, "measure": measure, "threshold": threshold},
                "seeds": len(trained),
                "ratio": float(trained.mean()) / reduced,
                "standard_error": None if error is None else error / reduced,
                "late": float(trained.mean()) - reduced,
            }
        )
    return rows


def _exponents(times: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The exponent p of T = c N^p with its 95 % interval, of each model over the same context lengths.

    Fitted to the means over the seeds: the misfit is that of the law, in which all seeds share.
    """
    found: dict[tuple[Any, ...], dict[int, list[float]]] = {}
    for row in times:
        if row["threshold"] == 0.5:
            curve = found.setdefault((row["query"], row["measure"], row["model"]), {})
            curve.setdefault(row["context_length"], []).append(math.nan if row["time"] is None else row["time"])
    rows = []
    for (query, measure, model), curve in found.items():
        lengths, values = list(curve), [float(np.mean(seeds)) for seeds in curve.values()]
        if sum(map(math.isfinite, values)) < 3:
            continue
        power = next(fit for fit in fit_laws(lengths, values, noise_free=model != "full") if fit.law == "power")
        p = power.parameters["p"]
        span = {"from": min(lengths), "to": max(lengths), "points": power.points}
        own = {"query": query, "measure": measure, "model": model}
        rows.append({**own, **span, "exponent": p.value, "low": p.low, "high": p.high})
    return rows


if __name__ == "__main__":
    run_script(main, TrainedConfig, __doc__)
