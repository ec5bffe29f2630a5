"""The reduced flow and the trained full model on one time axis: values, residual, and its standard error over seeds."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from induction_dynamics.dynamics.emergence import MEASURES
from induction_dynamics.dynamics.flow import ACCURACY, solve_flow
from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.dynamics.trajectory import Trajectory, check_horizon
from induction_dynamics.errors import ArgumentError
from induction_dynamics.reduced.loss import check_length, is_sampled
from induction_dynamics.task import Task
from induction_dynamics.training.pace import Pace
from induction_dynamics.training.settings import Settings, check_width
from induction_dynamics.training.starts import Start
from induction_dynamics.training.train import train_seeds

MOST_TIMES = 201
"""Records compared along a run, evenly spaced; a coordinate changes little between two of them."""


OFF_SUBSPACE = "off_subspace"

FLOW = "flow"
"""The unit of every time here."""


@dataclasses.dataclass(frozen=True)
class Deviation:
    """Where one measure of the trained model is furthest from the reduced flow, in the mean over the seeds.

    Args:
        measure: a coordinate or `loss`.
        residual: mean over the seeds of trained minus reduced, of the largest size over the run.
        time: flow time at which it is so large.
        time_unit: `flow`.
        standard_error: of that mean; None with a single seed.
        reduced: value of the reduced flow then, in the mean over the seeds.
        trained: value of the trained model then, in the mean over the seeds.
        largest_of_a_seed: largest |trained - reduced| of any seed at any time.
    """

    measure: str
    residual: float
    time: float
    time_unit: str = dataclasses.field(default=FLOW, init=False)
    standard_error: float | None
    reduced: float
    trained: float
    largest_of_a_seed: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs of one task, the reduced flow and the trained model, a pair for each seed.

    Args:
        task: the task.
        seeds: of the pairs.
        time: t, flow times that all runs reach, at records of the trained ones.
        reduced: flow of all 19 coordinates for each seed; all the same where its loss is exact, each on its own Gram
            matrices where it is sampled.
        trained: gradient descent on all weights for each seed; its loss is that of each step's own batch.

    Example:
        >>> import jax
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> task = idyn.Task(context_length=2, query="uniform")
        >>> comparison = idyn.compare(task, seeds=(0, 1, 2), horizon=5.0, batch_size=64)
        >>> place = idyn.COORDINATES.index("beta_2")
        >>> len(comparison.trained_values), float(comparison.time[-1])  # 5 N^2
        (3, 20.0)
        >>> bool(comparison.standard_error[-1, place] < 0.1 < comparison.reduced_values[0, -1, place])
        True
    """

    task: Task
    seeds: tuple[int, ...]
    time: Float[np.ndarray, " time"]
    reduced: tuple[Trajectory, ...]
    trained: tuple[Trajectory, ...]

    @functools.cached_property
    def reduced_values(self) -> Float[np.ndarray, "seed time 20"]:
        """Coordinates and loss of the reduced flow, in the order of `emergence.MEASURES`."""
        return np.stack([_values(run, self.time) for run in self.reduced])

    @functools.cached_property
    def trained_values(self) -> Float[np.ndarray, "seed time 20"]:
        """Coordinates and loss of the trained model, in the order of `emergence.MEASURES`."""
        return np.stack([_values(run, self.time) for run in self.trained])

    @property
    def off_subspace(self) -> Float[np.ndarray, "seed time"]:
        """||W - sum_k theta_k B_k|| / ||W|| of the trained model."""
        return np.stack([run.off_subspace[np.searchsorted(run.time, self.time)] for run in self.trained])

    @property
    def residual(self) -> Float[np.ndarray, "time 20"]:
        """Mean over the seeds of trained minus reduced."""
        return np.mean(self.trained_values - self.reduced_values, axis=0)

    @property
    def standard_error(self) -> Float[np.ndarray, "time 20"] | None:
        """Standard error of the residual over the seeds, s / sqrt(seeds); None with a single seed."""
        return _standard_error(self.trained_values - self.reduced_values)

    def curves(self) -> list[dict[str, Any]]:
        """A row for each time and measure: reduced (mean), trained (a column for each seed), residual, standard error.

        Measures are those of `emergence.MEASURES` and `off_subspace`, which is 0 for the reduced flow.
        """
        reduced = np.append(self.reduced_values, np.zeros_like(self.off_subspace)[..., None], axis=2)
        trained = np.append(self.trained_values, self.off_subspace[..., None], axis=2)
        residual, error = np.mean(trained - reduced, axis=0), _standard_error(trained - reduced)
        reduced = reduced.mean(axis=0)
        return [
            {
                "time": time,
                "time_unit": FLOW,
                "measure": measure,
                "reduced": float(reduced[at, k]),
                **{f"trained_{seed}": float(run[at, k]) for seed, run in zip(self.seeds, trained, strict=True)},
                "residual": float(residual[at, k]),
                "standard_error": None if error is None else float(error[at, k]),
            }
            for k, measure in enumerate((*MEASURES, OFF_SUBSPACE))
            for at, time in enumerate(self.time.tolist())
        ]

    def largest_deviations(self) -> list[Deviation]:
        """The largest deviation of each measure, in the order of `emergence.MEASURES`."""
        residual, error = self.residual, self.standard_error
        reduced, trained = self.reduced_values.mean(axis=0), self.trained_values.mean(axis=0)
        single = np.max(np.abs(self.trained_values - self.reduced_values), axis=(0, 1))
        places = np.argmax(np.abs(residual), axis=0)
        return [
            Deviation(
                measure=measure,
                residual=float(residual[place, k]),
                time=float(self.time[place]),
                standard_error=None if error is None else float(error[place, k]),
                reduced=float(reduced[place, k]),
                trained=float(trained[place, k]),
                largest_of_a_seed=float(single[k]),
            )
            for k, (measure, place) in enumerate(zip(MEASURES, places, strict=True))
        ]


def compare(
    task: Task,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    horizon: float = 5.0,
    batch_size: int = 256,
    step: float = 0.25,
    samples: int = 2048,
    accuracy: float = ACCURACY,
    start: Start | None = None,
    hold: Sequence[Hold] = (),
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Comparison:
    r"""Run the reduced flow of all 19 coordinates and the training of the full model from zero, on one time axis.

    Residual: r_k(t) = mean over seeds of [theta_k(t) of the trained weights - theta_k(t) of the reduced flow], with
    its standard error over the seeds. On isotropic inputs the reduced loss is sampled anew for each seed, so the
    standard error contains the sampling error of both.

    Args:
        task: the task, with N and D.
        seeds: at least one, each for a pair of runs; repeated ones count once.
        horizon: flow time to which all run, in units of N^2.
        batch_size: B, sequences per training step.
        step: flow time per training step; at least one must fit before the horizon.
        samples: Gram matrices in the reduced loss (isotropic inputs only).
        accuracy: of the reduced flow, see `solve_flow`.
        start: what both start from; of a random part the reduced flow knows nothing. By default zero.
        hold: coordinates that are held in both.
        on_progress: called now and then with runs done, runs in all, and words.

    Returns:
        The runs; where one ends early (see its outcome), the times compared end there too.

    Raises:
        ArgumentError: a value out of range.
        ValueError: jax_enable_x64 is off.

    Example:
        >>> import jax
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> task = idyn.Task(context_length=2, query="uniform")
        >>> comparison = idyn.compare(task, seeds=(0, 1), horizon=5.0, batch_size=64)
        >>> comparison.residual.shape == (len(comparison.time), 20)
        True
        >>> worst = comparison.largest_deviations()[2]
        >>> worst.measure, abs(worst.residual) < 0.5
        ('alpha_3', True)
    """
    seeds = tuple(dict.fromkeys(seeds))
    if not seeds:
        raise ArgumentError("seeds", seeds, "at least one seed")
    # before anything is computed
    check_length(task, "subspace")
    check_width(task)
    check_horizon(horizon)
    end = horizon * float(task.context_length) ** 2
    if step > end * (1 + 1e-12):
        # both would be compared at t = 0 alone, where both are 0
        raise ArgumentError("step", step, f"a flow time of at most the horizon's {end:g}")
    sampled = is_sampled(task, "subspace")
    total = (len(seeds) if sampled else 1) + len(seeds)
    tell = on_progress or (lambda done, total, words: None)

    words = f"full, N = {task.context_length}, {len(seeds)} seeds"
    tell(0, total, words)
    settings = Settings(task, horizon=horizon, step=step)
    pace = Pace(settings.most, settings.time_of_step, settings.time_unit)
    trained = train_seeds(
        task,
        seeds,
        horizon=horizon,
        batch_size=batch_size,
        step=step,
        start=start,
        hold=hold,
        on_progress=lambda steps, most, loss: tell(0, total, f"{words}: {pace(steps, loss)}"),
    )
    reduced: list[Trajectory] = []
    options = {"horizon": horizon, "samples": samples, "accuracy": accuracy, "hold": hold}
    coordinates = dict(start.coordinates) if start else None
    for seed in seeds if sampled else seeds[:1]:
        tell(len(trained) + len(reduced), total, f"subspace, N = {task.context_length}")
        reduced.append(solve_flow(task, "subspace", seed=seed, start=coordinates, **options))
    tell(total, total, f"N = {task.context_length}")
    if not sampled:
        reduced *= len(seeds)
    return Comparison(task, seeds, _common_times(reduced, trained), tuple(reduced), tuple(trained))


def _common_times(reduced: Sequence[Trajectory], trained: Sequence[Trajectory]) -> Float[np.ndarray, " time"]:
    end = min(run.time[-1] for run in (*reduced, *trained))
    shortest = min(trained, key=lambda run: len(run.time))
    # a last record may be at the horizon but for rounding
    times = np.minimum(shortest.time[shortest.time <= end * (1 + 1e-12)], end)
    places = np.linspace(0, len(times) - 1, min(len(times), MOST_TIMES)).round().astype(int)
    return times[places]


def _values(run: Trajectory, time: Float[np.ndarray, " time"]) -> Float[np.ndarray, "time 20"]:
    coordinates, loss = run.at(time)
    return np.concatenate([coordinates, loss[:, None]], axis=1)


def _standard_error(values: Float[np.ndarray, "seed time measure"]) -> Float[np.ndarray, "time measure"] | None:
    if len(values) < 2:
        return None
    return np.std(values, axis=0, ddof=1) / math.sqrt(len(values))
