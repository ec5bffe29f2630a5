"""Training of the full model, projected onto the subspace as it goes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from induction_dynamics.dynamics.emergence import check_target, crossings_of
from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import project
from induction_dynamics.task import Task, split_seed
from induction_dynamics.training.engine import (
    Ended,
    Run,
    State,
    carry_out,
    everywhere,
    first_state,
    mesh_of,
    side_by_side,
)
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.saving import Checkpoints, Store
from induction_dynamics.training.settings import Settings, check_dtype, check_seed
from induction_dynamics.training.starts import Start, starting_weights
from induction_dynamics.training.steps import Inputs, Recipe, Records, fixed_set, held_from
from induction_dynamics.transformer.disentangled import Weights


def train(
    task: Task,
    *,
    horizon: float = 12.0,
    batch_size: int = 256,
    step: float = 0.25,
    seed: int = 0,
    stop: Sequence[tuple[str, float]] = (),
    optimizer: Optimizer | None = None,
    steps: int | None = None,
    start: Start | Weights | None = None,
    sequences: int | None = None,
    shared_frames: int = 1,
    hold: Sequence[Hold] = (),
    dtype: Any = "float32",
    record_every: int = 1,
    devices: Sequence[Any] = (),
    checkpoints: Checkpoints | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> Trajectory:
    r"""Train all 28 D^2 weights; by default by gradient descent from zero on a fresh batch for every step.

    By default W <- W - eta grad_W loss with the learning rate eta = step x D, so that each step advances flow time by
    `step` and the run lies on the time axis of the reduced flow (`dynamics.flow.flow_time_of_steps`). With another
    optimizer there is no flow time, and the run is told in steps. Coordinates, loss and off-subspace fraction are
    recorded before every update.

    Args:
        task: the task, with N and D.
        horizon: flow time at which the run is given up, in units of N^2 (optimizer gd).
        batch_size: B, sequences per step.
        step: flow time per step, at most 1e6; up to about 1.1 is linearly stable without noise (optimizer gd).
        seed: of all that is random: the start and the data.
        stop: measures and thresholds, as in `emergence.crossing_targets`. The run ends once all have been crossed and
            another 1 % of it has passed (to see whether the crossings hold).
        optimizer: how gradients become updates; by default gradient descent.
        steps: number of steps after which the run is given up (optimizers other than gd, which need it).
        start: what training starts from: coordinates and a random part, or weights; by default zero.
        sequences: number of sequences in a fixed set, of which each step takes `batch_size` distinct ones, drawn anew;
            by default every step has fresh ones.
        shared_frames: see `sample_sequences`.
        hold: coordinates that are held at a value from some time on: every update is projected so as to leave them.
        dtype: `float32` or `float64`, of weights and data.
        record_every: steps between two records; emergence is found by straight lines between them.
        devices: jax devices, of this process and of others, among which the sequences of a batch are shared evenly;
            by default one. The run is the same to rounding.
        checkpoints: where the state is saved now and then, to go on after an interruption.
        on_progress: called from the host now and then with steps done, steps at most, and the last loss.

    Returns:
        The run, a record before each step up to its end, with the loss on that step's own batch and the weights of
        the last record; its outcome is one of `trajectory.OUTCOMES`.

    Raises:
        ArgumentError: a value out of range.
        ValueError: float64 is asked for and jax_enable_x64 is off.

    Example:
        >>> import induction_dynamics as idyn
        >>> task = idyn.Task(context_length=2, query="uniform")
        >>> run = idyn.train(task, horizon=10.0, batch_size=64)
        >>> float(run.time[-1]), run.outcome  # 10 N^2
        (40.0, 'horizon_reached')
        >>> found = idyn.project(run.weights)
        >>> bool(abs(found.coordinates.astype(float) - run.coordinates[-1]).max() < 1e-5)
        True
    """
    settings = Settings(
        task=task,
        horizon=horizon,
        batch_size=batch_size,
        step=step,
        optimizer=optimizer or Optimizer(),
        steps=steps,
        start=start,
        sequences=sequences,
        shared_frames=shared_frames,
        hold=_tuple(hold),
        dtype=dtype,
        record_every=record_every,
    )
    return run_training(settings, (seed,), stop, devices, checkpoints, on_progress)[0]


def train_seeds(
    task: Task,
    seeds: Sequence[int],
    *,
    stop: Sequence[tuple[str, float]] = (),
    devices: Sequence[Any] = (),
    checkpoints: Checkpoints | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
    **options: Any,
) -> list[Trajectory]:
    """`train` for several seeds side by side: one program, whose steps are those of all seeds at once.

    Every run is that of `train` with its seed, to rounding, and ends where that one does.

    Args:
        task: the task, with N and D.
        seeds: one for each run.
        stop: see `train`, as for all that follow.
        devices: among which each seed's batch is shared.
        checkpoints: of all seeds together.
        on_progress: told the mean of the seeds' losses.
        **options: further options of `train`.

    Returns:
        The runs, in the order of the seeds.

    Raises:
        ArgumentError: no seeds; or see `train`.
        ValueError: see `train`.

    Example:
        >>> import induction_dynamics as idyn
        >>> task = idyn.Task(context_length=2, query="uniform")
        >>> runs = idyn.train_seeds(task, seeds=(0, 1, 2), horizon=10.0, batch_size=64)
        >>> len(runs), bool(abs(runs[1].coordinates - idyn.train(task, horizon=10.0, batch_size=64, seed=1).coordinates
        ...     ).max() < 1e-3)
        (3, True)
    """
    if not len(seeds):
        raise ArgumentError("seeds", tuple(seeds), "at least one seed")
    given = {"hold": _tuple(options.pop("hold", ())), "optimizer": options.pop("optimizer", None) or Optimizer()}
    settings = Settings(task, **given, **options)
    return run_training(settings, tuple(seeds), stop, devices, checkpoints, on_progress)


def run_training(
    settings: Settings,
    seeds: Sequence[int],
    stop: Sequence[tuple[str, float]] = (),
    devices: Sequence[Any] = (),
    checkpoints: Checkpoints | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> list[Trajectory]:
    """`train_seeds` with its options put together; a single seed runs without an axis for it.

    Args:
        settings: of the training.
        seeds: at least one.
        stop: see `train`, as for all that follow.
        devices: see above.
        checkpoints: see above.
        on_progress: see above.

    Raises:
        ArgumentError: see `train`.
        ValueError: see `train`.
    """
    for target in stop:
        check_target(*target)
    seeds = [check_seed(seed) for seed in seeds]
    check_dtype(settings.dtype)
    mesh = mesh_of(devices, settings.batch_size)
    several = len(seeds) > 1
    dtype = jnp.dtype(settings.dtype)
    recipe = settings.recipe(several)
    rate = jnp.asarray(settings.learning_rate, dtype)
    streams = [split_seed(seed) for seed in seeds]
    sets = [
        fixed_set(settings.task, stream.data, settings.sequences, settings.shared_frames, dtype)
        for stream in streams
        if settings.sequences
    ]
    inputs = Inputs(
        data=side_by_side([stream.data for stream in streams], several),
        learning_rate=rate,
        dataset=side_by_side(sets, several) if sets else None,
        held=held_from(settings.hold, settings.time_of_step, dtype),
    )
    starts = [starting_weights(settings.start, settings.task, stream.initialisation, dtype) for stream in streams]
    state = side_by_side([first_state(weights, recipe.transformation(inputs)) for weights in starts], several)
    if mesh is not None:
        state, inputs = everywhere((state, inputs), mesh)
    run = _Run(settings, recipe, len(seeds), stop, state)
    store = None if checkpoints is None else Store(checkpoints, settings, tuple(seeds), stop, Records)
    carry_out(run, recipe, inputs, store, mesh, on_progress)
    return run.trajectories()


def _tuple(hold: Any) -> tuple[Any, ...]:
    return tuple(hold) if isinstance(hold, Sequence) and not isinstance(hold, str) else (hold,)


class _Run(Run):
    """A training of the full model."""

    settings: Settings

    def __init__(self, settings: Settings, recipe: Recipe, seeds: int, stop: Sequence[tuple[str, float]], state: State):
        super().__init__(settings, recipe, seeds, state)
        self._stop = stop

    @property
    def waits(self) -> bool:
        return bool(self._stop)

    def passed(self, seed: int) -> bool:
        return _has_passed(self._trajectory(seed, "emerged"), self._stop)

    def _trajectory(self, seed: int, outcome: str, length: int | None = None) -> Trajectory:
        coordinates, loss, off_subspace = (
            np.concatenate([part[seed] for part in parts])[:length] for parts in zip(*self.records, strict=True)
        )
        kept = np.flatnonzero(self.recorded(0, len(loss)))
        finite = np.isfinite(coordinates[kept]).all(axis=1) & np.isfinite(off_subspace[kept])
        # up to the first loss or record that is not
        bad = np.flatnonzero(~np.isfinite(loss))
        finite &= kept < (bad[0] if len(bad) else len(loss))
        kept = kept[: len(kept) if finite.all() else int(np.argmin(finite))]
        time = kept * self.settings.time_of_step
        for hold in self.settings.hold:
            # a record at the beginning of a hold is after it, also when both times are told apart by rounding alone
            time = np.where(np.abs(time - hold.since) <= 1e-12 * hold.since, hold.since, time)
        return Trajectory(
            time, coordinates[kept], loss[kept], off_subspace[kept], outcome, time_unit=self.settings.time_unit
        )

    def trajectories(self) -> list[Trajectory]:
        """The runs, each with the weights of its last record."""
        runs = []
        for seed in range(self._seeds):
            ended = self.end_of(seed)
            run = self._trajectory(seed, ended.outcome, ended.done)
            if ended.weights is not None:
                run = self._with_last(run, ended, seed)
            runs.append(run)
        return runs

    def _with_last(self, run: Trajectory, ended: Ended, seed: int) -> Trajectory:
        """The run with its weights, and a record of them if there is none yet."""
        assert ended.weights is not None
        last = ended.done - 1
        if last % self.settings.record_every:
            loss = np.concatenate([part.loss[seed] for part in self.records])[last]
            found = project(ended.weights, self.settings.task.rotation)
            run = dataclasses.replace(
                run,
                time=np.append(run.time, last * self.settings.time_of_step),
                coordinates=np.concatenate([run.coordinates, np.asarray(found.coordinates, np.float64)[None]]),
                loss=np.append(run.loss, loss),
                off_subspace=np.append(run.off_subspace, float(found.off_subspace.total)),
            )
        return dataclasses.replace(run, weights=ended.weights)


def _has_passed(trajectory: Trajectory, stop: Sequence[tuple[str, float]]) -> bool:
    crossings = crossings_of(trajectory, stop)
    return all(crossing.time is not None and crossing.sustained is not None for crossing in crossings)
