"""Orders of convergence: how far gradient descent on all weights is from the reduced flow, by step and batch size.

Three distances from the flow theta*(t), whose weights W* are in the subspace, all in units of a coordinate:

- `coordinates`, |theta - theta*|, Euclidean over the nineteen;
- `weights`, ||W - W*|| / sqrt(D), the same with the part of W off the subspace: since the basis is orthogonal with
  ||B_k||^2 = D, its square is |theta - theta*|^2 + ||W_off||^2 / D, and ||W_off||^2 / D = |theta|^2 f^2 / (1 - f^2) by
  the off-subspace fraction f;
- `scatter`, the noise in theta alone: the root of the sum of its variances over the seeds.

With h the flow time of a step and B the batch, for small h and h/B: discretisation moves theta by O(h), and sampling
noise moves W by O(sqrt(h/B)). With orthonormal inputs and the query last every sequence has the same gradient along the
subspace while the weights are in it, so that noise moves theta in second order only, by O(h/B), and theta - theta* is
h (a + b/B): of order 1 in h at any batch, and level in B. With the query uniform, or isotropic inputs, noise moves
theta in first order as well: the mean square of theta - theta* is |h (a + b/B)|^2 + c h/B. The flow of isotropic inputs
has the error of its own sample of Gram matrices, below which their `coordinates` do not fall.

`python -m experiments.convergence_orders --output DIR` writes distances.csv (a row for each training), means.csv (over
the seeds), slopes.csv (fitted exponents), terms.csv (a and b of three coordinates) and the figure.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.dynamics.flow import solve_flow
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.convergence_orders import plot_convergence_orders
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.reduced.loss import ReducedLoss, reduced_loss
from induction_dynamics.scaling.least_squares import fit_terms
from induction_dynamics.scaling.ledger import Records, read_runs
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.study import run_sweep
from induction_dynamics.task import Task

NEVER = ("alpha_3", 1e6)
"""What no run reaches, so that each goes on to its horizon."""


SCATTER = "scatter"
WITHOUT_NOISE = ("coordinates", "largest_coordinates")
FALLING = (*WITHOUT_NOISE, "weights", "largest_weights", SCATTER)
"""What a law is fitted to: at one flow time, `largest` over the run; infinite batches never leave the subspace."""

LEVEL = ("inputs", "query", "step", "batch_size")
CONFIDENCE = 0.95

SMALL = 1 / 100
"""Largest h/B of which terms are fitted: beyond, noise changes the coordinates by more than its leading orders."""


@dataclasses.dataclass(frozen=True)
class OrdersConfig:
    """What is run.

    Args:
        output: folder for the tables and the figure.
        ledger: folder of the trainings done so far, with which a run that was stopped goes on.
        context_length: N.
        steps: h, flow time per training step; whole numbers of them make a unit of flow time.
        batch_sizes: B, sequences per training step.
        law_step: step at which the law in the batch size is fitted, the only one with isotropic inputs.
        law_batch: batch size at which the law in the step is fitted; larger batches have the one step above.
        queries: with orthonormal inputs.
        isotropic: queries with isotropic inputs.
        seeds: of the trainings.
        horizon: flow time to which all run, in units of N^2; distances are compared at each unit of flow time.
        at: flow time at which distances are fitted, in units of N^2.
        samples: Gram matrices in the reduced loss of isotropic inputs.
    """

    output: Path = Path("build/figures/convergence_orders")
    ledger: Path = Path("build/ledgers/convergence_orders")
    context_length: int = 4
    steps: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125, 0.0625)
    batch_sizes: tuple[int, ...] = (16, 64, 256, 1024, 4096)
    law_step: float = 0.25
    law_batch: int = 256
    queries: tuple[str, ...] = ("last", "uniform")
    isotropic: tuple[str, ...] = ("uniform",)
    seeds: tuple[int, ...] = (0, 1, 2)
    horizon: float = 4.0
    at: float = 3.0
    samples: int = 8192

    def __post_init__(self):
        for name in ("steps", "batch_sizes"):
            if len(set(getattr(self, name))) < 3:
                raise ArgumentError(name, getattr(self, name), "at least three, for a slope with an interval")
        if any(not (0 < step <= 1 and (1 / step).is_integer()) for step in self.steps):
            raise ArgumentError("steps", self.steps, "such that whole numbers of them make a unit of flow time")
        if len(set(self.seeds)) < 2:
            raise ArgumentError("seeds", self.seeds, "at least two, for the scatter")
        for name, known in (("law_step", self.steps), ("law_batch", self.batch_sizes)):
            if getattr(self, name) not in known:
                raise ArgumentError(name, getattr(self, name), f"one of {', '.join(map(str, known))}")

    @property
    def tasks(self) -> list[Task]:
        """Of each inputs and query."""
        asked = [("orthonormal", query) for query in self.queries] + [("isotropic", query) for query in self.isotropic]
        return [Task(self.context_length, inputs=inputs, query=query) for inputs, query in asked]

    @property
    def times(self) -> np.ndarray:
        """Units of flow time at which distances are compared, from 1 to the horizon."""
        return np.arange(1, math.floor(self.horizon * self.context_length**2) + 1).astype(float)

    def points(self, task: Task) -> list[Point]:
        """The trainings of a task."""
        return [
            Point(task, "full", horizon=self.horizon, seed=seed, batch_size=batch, step=step)
            for step in self.steps
            for batch in self.batch_sizes
            for seed in self.seeds
            if step == self.law_step or (batch <= self.law_batch and task.inputs == "orthonormal")
        ]


def main(config: OrdersConfig, command: str = "make figures ONLY=convergence_orders") -> None:
    """Train at every step and batch size, and fit how the distances fall.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    jax.config.update("jax_enable_x64", True)
    points = [point for task in config.tasks for point in config.points(task)]
    with progress(lines=True) as tell:
        run_sweep(
            points, config.ledger, measures=NEVER[:1], thresholds=NEVER[1:], records=_records(config), on_progress=tell
        )
    runs = read_runs(config.ledger)
    distances: list[dict[str, Any]] = []
    for task in config.tasks:
        flow = _reduced(config, task)
        trained = {point: runs[point] for point in config.points(task)}
        distances += [_distances(config, point, run, flow) for point, run in trained.items()]
        if task.inputs == "orthonormal":
            distances += _without_noise(config, task, flow)
    means = _means(distances)
    slopes, terms = _slopes(config, means), _terms(means)
    figure = plot_convergence_orders(
        means, slopes, terms, law_step=config.law_step, law_batch=config.law_batch, title=_words(config)
    )
    record(
        config.output,
        config=config,
        command=command,
        figures={"convergence_orders": figure},
        tables={"distances": distances, "means": means, "slopes": slopes, "terms": terms},
    )


def _words(config: OrdersConfig) -> str:
    inputs = "orthonormal inputs" + (" unless told" if config.isotropic else "")
    seeds = f"mean and standard error of {len(config.seeds)} seeds"
    return f"N = {config.context_length}, {inputs}, t = {config.at:g} N$^2$, {seeds}"


def _records(config: OrdersConfig) -> int:
    """So many that there is one at each unit of flow time, whatever the step."""
    return len(config.times) + 1


def _reduced(config: OrdersConfig, task: Task) -> Float[np.ndarray, "time 19"]:
    run = solve_flow(task, "subspace", horizon=config.horizon, samples=config.samples)
    return run.at(config.times)[0]


def _distances(config: OrdersConfig, point: Point, run: Records, flow: Float[np.ndarray, "time 19"]) -> dict[str, Any]:
    """Of one training; those of one that overflowed are not finite."""
    theta = np.full((len(config.times), len(COORDINATES)), np.nan)
    fraction = np.zeros(len(config.times))
    if run.time[-1] >= config.times[-1] * (1 - 1e-9):
        theta, fraction = run.coordinates[1:], run.off_subspace[1:]
    off = np.linalg.norm(theta, axis=1) * fraction / np.sqrt(1 - fraction**2)
    return _row(config, point.task, point.step, point.batch_size, point.seed, theta - flow, off)


def _row(
    config: OrdersConfig,
    task: Task,
    step: float | None,
    batch_size: int | None,
    seed: int | None,
    away: Float[np.ndarray, "time 19"],
    off: Float[np.ndarray, " time"],
) -> dict[str, Any]:
    """Distances at the flow time at which they are fitted, and their largest over the run."""
    place = int(np.searchsorted(config.times, config.at * config.context_length**2))
    coordinates = np.linalg.norm(away, axis=1)
    weights = np.hypot(coordinates, off)
    numbers = {
        "coordinates": coordinates[place],
        "weights": weights[place],
        "largest_coordinates": coordinates.max(),
        "largest_weights": weights.max(),
        **{name: away[place, k] for k, name in enumerate(COORDINATES)},
    }
    about = {"inputs": task.inputs, "query": task.query, "step": step, "batch_size": batch_size, "seed": seed}
    return about | {name: float(number) if np.isfinite(number) else None for name, number in numbers.items()}


def _without_noise(config: OrdersConfig, task: Task, flow: Float[np.ndarray, "time 19"]) -> list[dict[str, Any]]:
    """Gradient descent on the population loss, which is that of infinite batches: no batch size and no seed."""
    loss = reduced_loss(task, "subspace")
    rows = []
    for step in config.steps:
        theta = np.asarray(_descend(loss, jnp.asarray(step), len(config.times), round(1 / step)))
        rows.append(_row(config, task, step, None, None, theta - flow, np.zeros(len(theta))))
    return rows


def _descend(loss: ReducedLoss, step: Array, times: int, steps_per_time: int) -> Float[Array, "time 19"]:
    """Descend by theta <- theta - h grad loss from zero; theta after each unit of flow time."""

    def one(theta: Array, _: None) -> tuple[Array, None]:
        return theta - step * jax.grad(loss)(theta), None

    def unit(theta: Array, _: None) -> tuple[Array, Array]:
        theta, _ = jax.lax.scan(one, theta, length=steps_per_time)
        return theta, theta

    return jax.jit(lambda: jax.lax.scan(unit, jnp.zeros(len(COORDINATES)), length=times)[1])()


def _means(distances: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the seeds, with standard errors: each distance, its scatter, and theta_k - theta*_k of the three.

    Trainings of which a seed overflowed are left out.
    """
    levels: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in distances:
        levels.setdefault(tuple(row[name] for name in LEVEL), []).append(row)
    means = []
    for level, rows in levels.items():
        if any(row["weights"] is None for row in rows):
            continue
        noisy = rows[0]["seed"] is not None
        for name in (*(FALLING if noisy else WITHOUT_NOISE), *CIRCUIT):
            if name == SCATTER:
                away = np.array([[row[one] for one in COORDINATES] for row in rows])
                value, error = math.sqrt(float(np.var(away, axis=0, ddof=1).sum())), None
            else:
                values = np.array([row[name] for row in rows])
                value = float(values.mean())
                error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if noisy else None
            means.append(
                dict(zip(LEVEL, level, strict=True)) | {"distance": name, "mean": value, "standard_error": error}
            )
    return means


def _slopes(config: OrdersConfig, means: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Slopes d ln distance / d ln x of the means, for x the step, the batch size or their quotient h/B.

    By least squares; the t-intervals at 95 % take the levels' misfits to be independent, and hold noise and curvature.
    """
    slopes = []
    for task in config.tasks:
        of_task = [row for row in means if (row["inputs"], row["query"]) == (task.inputs, task.query)]
        for law, kept in (
            ("step", lambda row: row["batch_size"] == config.law_batch),
            ("step", lambda row: row["batch_size"] is None),
            ("batch_size", lambda row: row["batch_size"] is not None and row["step"] == config.law_step),
            ("step/batch_size", lambda row: row["distance"] == SCATTER and row["inputs"] == "orthonormal"),
        ):
            for distance in FALLING:
                rows = [row for row in of_task if row["distance"] == distance and kept(row)]
                x = np.array([_abscissa(row, law) for row in rows])
                if len(set(x)) < 3:
                    continue
                slope, half = _fitted(np.log(x), np.log([row["mean"] for row in rows]))
                slopes.append(
                    {
                        "inputs": task.inputs,
                        "query": task.query,
                        "law": law,
                        "step": config.law_step if law == "batch_size" else None,
                        "batch_size": rows[0]["batch_size"] if law == "step" else None,
                        "distance": distance,
                        "slope": slope,
                        "low": slope - half,
                        "high": slope + half,
                        "points": len(rows),
                    }
                )
    return slopes


def _abscissa(row: dict[str, Any], law: str) -> float:
    return row["step"] / row["batch_size"] if law == "step/batch_size" else float(row[law])


def _fitted(x: Float[np.ndarray, " level"], y: Float[np.ndarray, " level"]) -> tuple[float, float]:
    """The slope of a straight line and the half width of its t-interval."""
    found, _ = fit_terms({"slope": x - x.mean(), "constant": np.ones_like(x)}, y, confidence=CONFIDENCE)
    return found["slope"].value, (found["slope"].high - found["slope"].low) / 2


def _terms(means: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Terms a and b of (theta_k - theta*_k) / h = a + b/B + h (c + d/B + e/B^2), query last, by weighted least squares.

    That is what there is to second order in h. The scatter of the left side falls as 1/B, hence weights B. Beside a is
    what infinite batches have, extrapolated to h = 0 from their two smallest steps.
    """
    terms = []
    for name in CIRCUIT:
        rows = [row for row in means if (row["inputs"], row["query"], row["distance"]) == ("orthonormal", "last", name)]
        noisy = [row for row in rows if row["batch_size"] is not None and row["step"] / row["batch_size"] <= SMALL]
        if len(noisy) < 6:
            continue
        h, batch = (np.array([row[column] for row in noisy], float) for column in ("step", "batch_size"))
        columns = {"a": batch, "b": np.ones_like(h), "c": h * batch, "d": h, "e": h / batch}
        fitted, _ = fit_terms(columns, batch * np.array([row["mean"] for row in noisy]) / h, confidence=CONFIDENCE)
        fine, finest = sorted((row for row in rows if row["batch_size"] is None), key=lambda row: -row["step"])[-2:]
        last, before = (row["mean"] / row["step"] for row in (finest, fine))
        exact = last - (before - last) * finest["step"] / (fine["step"] - finest["step"])
        found = {"coordinate": name, "points": len(noisy), "a_without_noise": exact}
        for term in ("a", "b"):
            found |= {term: fitted[term].value, f"{term}_low": fitted[term].low, f"{term}_high": fitted[term].high}
        terms.append(found)
    return terms


if __name__ == "__main__":
    run_script(main, OrdersConfig, __doc__)
