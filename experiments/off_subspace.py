"""How much of the trained weights is off the subspace: sampling noise, and what a random start leaves.

`python -m experiments.off_subspace --output DIR` writes curves.csv, ends.csv and fits.csv (noise), starts.csv,
times.csv and limits.csv (random starts), and the figure.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.random_starts import Case, Training, limits, random_starts
from experiments.recorder import record, run_script
from induction_dynamics.cli.progress import progress
from induction_dynamics.errors import ArgumentError
from induction_dynamics.plotting.off_subspace import plot_off_subspace
from induction_dynamics.pseudo_parameters import PLACES
from induction_dynamics.scaling.least_squares import fit_terms
from induction_dynamics.scaling.ledger import Records, read_runs
from induction_dynamics.scaling.points import Point
from induction_dynamics.scaling.study import run_sweep
from induction_dynamics.task import Task

_MOST_RECORDS = 1 << 14
_SERIES = ("inputs", "context_length", "embedding_dim", "batch_size", "step")

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class OffSubspaceConfig:
    """What is trained, all with one query of each task.

    Args:
        output: folder for the tables and the figure.
        ledger: folder that keeps finished trainings, so that an experiment that was stopped goes on from there.
        noise: inputs, N, D and batch sizes of the trainings from zero, query uniform.
        steps: flow times per step of further trainings of the first of these.
        steps_batch: their batch size.
        noise_seeds: of each.
        noise_horizon: their end, in units of N^2.
        starts: N, D, query and scales of the trainings from random starts, orthonormal inputs.
        alone: N, D and query of trainings in which one of W1, W2, W3 starts at random.
        alone_scale: its scale.
        seeds: of the random starts.
        horizon: end of the trainings from random starts, in units of N^2.
        batch_size: of the trainings from random starts.
        step: flow time per step, where nothing else is said.
    """

    output: Path = Path("build/figures/off_subspace")
    ledger: Path = Path("build/ledgers/off_subspace")
    noise: tuple[tuple[str, int, int, tuple[int, ...]], ...] = (
        ("orthonormal", 4, 10, (16, 64, 256, 1024, 4096)),
        ("isotropic", 4, 16, (16, 64, 256, 1024)),
        ("orthonormal", 6, 14, (16, 64, 256)),
    )
    steps: tuple[float, ...] = (0.0625, 0.125, 0.5, 1.0)
    steps_batch: int = 256
    noise_seeds: tuple[int, ...] = (0, 1, 2, 3)
    noise_horizon: float = 4.0
    starts: tuple[tuple[int, int, str, tuple[float, ...]], ...] = (
        (4, 10, "uniform", (0.0, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0)),
        (4, 10, "last", (0.0, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 1.0, 2.0, 3.0)),
        (4, 40, "uniform", (0.0, 0.1, 0.3, 0.5, 1.0, 2.0)),
    )
    alone: tuple[tuple[int, int, str], ...] = ((4, 10, "uniform"), (4, 40, "uniform"))
    alone_scale: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)
    horizon: float = 12.0
    batch_size: int = 256
    step: float = 0.25

    def __post_init__(self):
        for *_, scales in self.starts:
            if list(scales) != sorted(set(scales)) or 0.0 not in scales:
                raise ArgumentError("starts", scales, "of scales that increase from 0 on")
        if not self.noise or any(len(batches) < 3 for *_, batches in self.noise) or len(self.steps) < 2:
            raise ArgumentError("noise", self.noise, "at least one, each with three batch sizes, and two further steps")
        for name in ("seeds", "noise_seeds"):
            if len(getattr(self, name)) < 2:
                raise ArgumentError(name, getattr(self, name), "at least two, for a scatter")


def main(config: OffSubspaceConfig, command: str = "make figures ONLY=off_subspace") -> None:
    """Train from zero at every batch size and from every random start, and record what is off the subspace.

    Args:
        config: what is run.
        command: what makes the same again.
    """
    jax.config.update("jax_enable_x64", True)
    with progress(lines=True) as tell:
        run_sweep(_noise_points(config), config.ledger / "noise", measures=(), records=_MOST_RECORDS, on_progress=tell)
        training = Training(config.seeds, config.horizon, config.batch_size, config.step)
        starts, times = random_starts(_cases(config), training, config.ledger / "starts", tell or _say_nothing)
    runs = read_runs(config.ledger / "noise")
    curves, ends = _curves(config, runs), _ends(config, runs)
    fits = _fits(config, ends)
    record(
        config.output,
        config=config,
        command=command,
        figures={"off_subspace": plot_off_subspace(curves, ends, fits, starts, times)},
        tables={
            "curves": curves,
            "ends": ends,
            "fits": fits,
            "starts": starts,
            "times": times,
            "limits": limits(times),
        },
    )


def fraction_after_one_step(task: Task, batch_size: int) -> float:
    r"""Off-subspace fraction after the first step from zero: the root of the ratio of its expected squares.

    At zero weights only W3 has a gradient, and a sequence's is -y_q x2^T, with every attention even. With the weight
    c_m = 1/(2N) sum_{k > m} 1/(k - 1) of token m in the average of averages, and C the mean of c_2q over the queries,

        E||g||^2 = 2 + 2/N + 2 sum_m c_m^2,    E||P g||^2 = (1/(2 N^2) + E c_2q^2) / D,
        ||E g||^2 = (1/(2 N^2) + C^2) / D,

    of which a batch of B leaves (E||g||^2 - E||P g||^2) / B off the subspace and
    ||E g||^2 (1 - 1/B) + E||P g||^2 / B on it.

    Args:
        task: with orthonormal inputs at right angles.
        batch_size: B.

    Raises:
        ArgumentError: other inputs.
    """
    if task.inputs != "orthonormal" or not task.right_angled:
        raise ArgumentError("task", task, "of orthonormal inputs, at 90 degrees")
    pairs, dim = task.context_length, task.embedding_dim
    average = np.array([sum(1 / (k - 1) for k in range(m + 1, 2 * pairs + 1)) for m in range(1, 2 * pairs + 1)])
    average /= 2 * pairs
    labels = average[1::2] if task.query == "uniform" else average[-1:]
    whole = 2 + 2 / pairs + 2 * float(np.sum(average**2))
    noisy = (1 / (2 * pairs**2) + float(np.mean(labels**2))) / dim
    mean = (1 / (2 * pairs**2) + float(np.mean(labels)) ** 2) / dim
    off, on = (whole - noisy) / batch_size, mean + (noisy - mean) / batch_size
    return math.sqrt(off / (off + on))


def _say_nothing(done: int, total: int, words: str) -> None:
    """Where there is no terminal to tell."""


def _cases(config: OffSubspaceConfig) -> list[Case]:
    cases = [Case(n, dim, query, "all", scale) for n, dim, query, scales in config.starts for scale in scales]
    return cases + [Case(*task, name, config.alone_scale) for task in config.alone for name in PLACES]


def _noise_points(config: OffSubspaceConfig) -> list[Point]:
    inputs, pairs, dim, _ = config.noise[0]
    cases = [(one[:3], size, config.step) for one in config.noise for size in one[3]]
    cases += [((inputs, pairs, dim), config.steps_batch, step) for step in config.steps]
    return [
        Point(
            Task(pairs, dim, inputs=inputs, query="uniform"),
            "full",
            horizon=config.noise_horizon,
            seed=seed,
            batch_size=size,
            step=step,
        )
        for (inputs, pairs, dim), size, step in dict.fromkeys(cases)
        for seed in config.noise_seeds
    ]


def _series(config: OffSubspaceConfig, runs: dict[Point, Records]) -> Iterator[tuple[Row, list[Records]]]:
    """The runs of all seeds that are otherwise alike."""
    points = _noise_points(config)
    for first in range(0, len(points), len(config.noise_seeds)):
        values = {**vars(points[first].task), "batch_size": points[first].batch_size, "step": points[first].step}
        together = points[first : first + len(config.noise_seeds)]
        yield {name: values[name] for name in _SERIES}, [runs[point] for point in together]


def _norms(run: Records) -> tuple[np.ndarray, np.ndarray]:
    """Norms of the weights' parts on and off the subspace, both divided by sqrt(D)."""
    on = np.linalg.norm(run.coordinates, axis=1)
    return on, on * run.off_subspace / np.sqrt(1 - run.off_subspace**2)


def _curves(config: OffSubspaceConfig, runs: dict[Point, Records]) -> list[Row]:
    """The fraction over flow time, in its mean, least and most over the seeds, at times evenly spaced in ln t."""
    rows = []
    for about, several in _series(config, runs):
        time = several[0].time
        fractions = np.stack([run.off_subspace for run in several])
        norms = np.mean([_norms(run) for run in several], axis=0)
        for place in np.unique(np.geomspace(1, len(time) - 1, 33).round().astype(int)):
            values = (time[place], *(of(fractions[:, place]) for of in (np.mean, np.min, np.max)), *norms[:, place])
            names = ("time", "off_subspace", "least", "most", "norm_on", "norm_off")
            rows.append(about | {name: float(value) for name, value in zip(names, values, strict=True)})
    return rows


def _ends(config: OffSubspaceConfig, runs: dict[Point, Records]) -> list[Row]:
    """The fraction at the end and after one step, of every run."""
    rows = []
    for about, several in _series(config, runs):
        task = Task(about["context_length"], about["embedding_dim"], inputs=about["inputs"], query="uniform")
        expected = fraction_after_one_step(task, about["batch_size"]) if task.inputs == "orthonormal" else None
        for seed, run in zip(config.noise_seeds, several, strict=True):
            values = {"time": run.time[-1], "off_subspace": run.off_subspace[-1], "after_one_step": run.off_subspace[1]}
            values = {name: float(value) for name, value in values.items()}
            rows.append({**about, "seed": seed, **values, "expected_after_one_step": expected})
    return rows


def _fits(config: OffSubspaceConfig, ends: Sequence[Row]) -> list[Row]:
    """Exponents of the fraction f in batch size B and step, and f^2 in powers of 1/B, with 95 % t-intervals.

    f^2 = floor + noise / B, and the same with a term in 1 / B^2 for what noise does to itself. The scatter of f^2 is in
    proportion to f^2, so that B f^2 = noise + floor B + .. has errors of one size.
    """
    rows = []
    for inputs, pairs, dim, sizes in config.noise:
        about = {"inputs": inputs, "context_length": pairs, "embedding_dim": dim}
        here = [row for row in ends if all(row[name] == value for name, value in about.items())]
        batches = [row for row in here if row["step"] == config.step and row["batch_size"] in sizes]
        largest = [row for row in batches if row["batch_size"] in sorted(sizes)[-2:]]
        size, fraction = (np.array([row[name] for row in batches], float) for name in ("batch_size", "off_subspace"))
        found = {
            "batch_exponent": _exponent(batches, "batch_size"),
            "batch_exponent_of_the_largest_two": _exponent(largest, "batch_size"),
            **_least_squares({"noise": 1 + 0 * size, "floor": size}, size * fraction**2),
        }
        three = {"noise_of_three": 1 + 0 * size, "floor_of_three": size, "second_of_three": 1 / size}
        found |= _least_squares(three, size * fraction**2)
        steps = [row for row in here if row["batch_size"] == config.steps_batch]
        if len(kinds := sorted({row["step"] for row in steps})) > 2:
            found["step_exponent"] = _exponent(steps, "step")
            smallest = [row for row in steps if row["step"] in kinds[:2]]
            found["step_exponent_of_the_smallest_two"] = _exponent(smallest, "step")
        rows += [about | {"fitted": name, **fit} for name, fit in found.items()]
    return rows


def _exponent(rows: Sequence[Row], name: str) -> Row:
    """Of the fraction at the end, in one of its causes."""
    cause, fraction = (np.log([row[column] for row in rows]) for column in (name, "off_subspace"))
    return _least_squares({"constant": 1 + 0 * cause, "exponent": cause}, fraction)["exponent"]


def _least_squares(terms: dict[str, np.ndarray], values: np.ndarray) -> dict[str, Row]:
    """Coefficients of the terms, each with its 95 % t-interval."""
    found, _ = fit_terms(terms, values)
    return {name: {**dataclasses.asdict(interval), "points": len(values)} for name, interval in found.items()}


if __name__ == "__main__":
    run_script(main, OffSubspaceConfig, __doc__)
