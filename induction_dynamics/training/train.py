"""Training of the full model, projected onto the subspace as it goes."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from induction_dynamics.dynamics.emergence import check_target, crossings_of
from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import project
from induction_dynamics.task import Task, split_seed
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.saving import Checkpoints, Ended, Saved, Store
from induction_dynamics.training.settings import Settings, check_dtype, check_seed
from induction_dynamics.training.starts import Start, starting_weights
from induction_dynamics.training.steps import (
    Inputs,
    Records,
    State,
    advance,
    everywhere,
    first_state,
    fixed_set,
    held_from,
    mesh_of,
)
from induction_dynamics.transformer.disentangled import Weights

LOOK = 64
"""Steps between two looks at whether a run has passed what it waits for; also the most that run without a word."""

_PATIENCE = 0.5  # seconds between two looks from the host, once the speed is known


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
    states = [
        first_state(starting_weights(settings.start, settings.task, stream.initialisation, dtype), recipe, rate)
        for stream in streams
    ]
    sets = [
        fixed_set(settings.task, stream.data, settings.sequences, settings.shared_frames, dtype)
        for stream in streams
        if settings.sequences
    ]
    keys = [stream.data for stream in streams]
    inputs = Inputs(
        data=jnp.stack(keys) if several else keys[0],
        learning_rate=rate,
        dataset=_stacked(sets, several) if sets else None,
        held=held_from(settings.hold, settings.time_of_step, dtype),
    )
    state = _stacked(states, several)
    if mesh is not None:
        state, inputs = everywhere((state, inputs), mesh)
    run = _Run(settings, len(seeds), stop, state)
    store = None if checkpoints is None else Store(checkpoints, settings, tuple(seeds), stop)
    with store or contextlib.nullcontext():
        if store is not None and (saved := store.latest(run.state)) is not None:
            run.go_on(saved if mesh is None else dataclasses.replace(saved, state=everywhere(saved.state, mesh)))
        while not run.over:
            begun = time.monotonic()
            count = run.steps_to_go(store.every if store else 0)
            first, number = (jnp.asarray(value, jnp.int32) for value in (run.done, count))
            state, records = advance(run.state, inputs, first, number, recipe, LOOK, mesh)
            run.take(state, records, count)
            run.pace(count, time.monotonic() - begun)
            if on_progress is not None:
                on_progress(run.done, settings.most, run.last_loss)
            if store is not None and (run.over or run.done % store.every == 0):
                store.save(run.saved())
    return run.trajectories()


def _tuple(hold: Any) -> tuple[Any, ...]:
    return tuple(hold) if isinstance(hold, Sequence) and not isinstance(hold, str) else (hold,)


class _Run:
    """A training as the host sees it: the state, all records so far, and which seeds have come to their ends."""

    def __init__(self, settings: Settings, seeds: int, stop: Sequence[tuple[str, float]], state: State):
        self.state = state
        self.done = 0
        self.last_loss = float("nan")
        self._settings, self._seeds, self._stop = settings, seeds, stop
        self._records: list[Records] = []
        self._ended: dict[int, Ended] = {}
        # of several processes all must take the same steps at once
        self._at_once = 1 if jax.process_count() == 1 else LOOK

    @property
    def over(self) -> bool:
        return self.done >= self._settings.most or len(self._ended) == self._seeds

    def steps_to_go(self, every: int) -> int:
        """Steps to the next look, the next checkpoint or the end, but no more than go by in a moment."""
        ends = [self._settings.most, (self.done // LOOK + 1) * LOOK]
        if every:
            ends.append((self.done // every + 1) * every)
        return min(min(ends) - self.done, self._at_once)

    def pace(self, count: int, seconds: float) -> None:
        """Find how many steps go by in a moment; what is compiled first counts as slow."""
        if jax.process_count() > 1:
            return
        fitting = int(_PATIENCE / max(seconds / count, 1e-9))
        self._at_once = min(max(fitting, 1), 8 * self._at_once, LOOK)

    def take(self, state: State, records: Records, count: int) -> None:
        """Keep what some steps have left, and see who has ended."""
        self.state = state
        rows = [np.asarray(leaf, np.float64) for leaf in records]
        if not self._several:
            rows = [row[None] for row in rows]
        self._records.append(Records(*(row[:, :count] for row in rows)))
        self.done += count
        self.last_loss = float(np.mean(self._records[-1].loss[:, -1]))
        self._look()

    @property
    def _several(self) -> bool:
        return self._seeds > 1

    def _look(self) -> None:
        latest = self._records[-1]
        due = self._recorded(self.done - latest.loss.shape[1], self.done)
        for seed in range(self._seeds):
            if seed in self._ended:
                continue
            seen = (latest.loss[seed], latest.coordinates[seed][due], latest.off_subspace[seed][due])
            if not all(np.isfinite(values).all() for values in seen):
                self._ended[seed] = Ended(self.done, "nonfinite", None)
        # Looked at ever more rarely, so that looking costs no more than in proportion to the run.
        number = -(-self.done // LOOK)
        at_a_look = self.done % LOOK == 0 or self.done == self._settings.most
        if not self._stop or not at_a_look or number % max(1, number // 32):
            return
        for seed in range(self._seeds):
            if seed not in self._ended and _has_passed(self._trajectory(seed, "emerged"), self._stop):
                self._ended[seed] = Ended(self.done, "emerged", self._weights(seed))

    def _recorded(self, first: int, last: int) -> np.ndarray:
        """Which of the steps have a record of their coordinates."""
        return np.arange(first, last) % self._settings.record_every == 0

    def _weights(self, seed: int) -> Weights:
        """Those of a seed's last record; a copy, since the state is given away with the next steps."""
        return jax.tree.map(lambda leaf: jnp.array(leaf[seed] if self._several else leaf), self.state.weights)

    def _trajectory(self, seed: int, outcome: str, length: int | None = None) -> Trajectory:
        coordinates, loss, off_subspace = (
            np.concatenate([part[seed] for part in parts])[:length] for parts in zip(*self._records, strict=True)
        )
        kept = np.flatnonzero(self._recorded(0, len(loss)))
        finite = np.isfinite(coordinates[kept]).all(axis=1) & np.isfinite(off_subspace[kept])
        # up to the first loss or record that is not
        bad = np.flatnonzero(~np.isfinite(loss))
        finite &= kept < (bad[0] if len(bad) else len(loss))
        kept = kept[: len(kept) if finite.all() else int(np.argmin(finite))]
        time = kept * self._settings.time_of_step
        for hold in self._settings.hold:
            # a record at the beginning of a hold is after it, also when both times are told apart by rounding alone
            time = np.where(np.abs(time - hold.since) <= 1e-12 * hold.since, hold.since, time)
        return Trajectory(
            time, coordinates[kept], loss[kept], off_subspace[kept], outcome, time_unit=self._settings.time_unit
        )

    def trajectories(self) -> list[Trajectory]:
        """The runs, each with the weights of its last record."""
        runs = []
        for seed in range(self._seeds):
            ended = self._ended.get(seed) or Ended(self.done, "horizon_reached", self._weights(seed))
            run = self._trajectory(seed, ended.outcome, ended.done)
            if ended.weights is not None:
                run = self._with_last(run, ended, seed)
            runs.append(run)
        return runs

    def _with_last(self, run: Trajectory, ended: Ended, seed: int) -> Trajectory:
        """The run with its weights, and a record of them if there is none yet."""
        assert ended.weights is not None
        last = ended.done - 1
        if last % self._settings.record_every:
            loss = np.concatenate([part.loss[seed] for part in self._records])[last]
            found = project(ended.weights, self._settings.task.rotation)
            run = dataclasses.replace(
                run,
                time=np.append(run.time, last * self._settings.time_of_step),
                coordinates=np.concatenate([run.coordinates, np.asarray(found.coordinates, np.float64)[None]]),
                loss=np.append(run.loss, loss),
                off_subspace=np.append(run.off_subspace, float(found.off_subspace.total)),
            )
        return dataclasses.replace(run, weights=ended.weights)

    def saved(self) -> Saved:
        """All that a later process needs to go on."""
        return Saved(self.done, self.state, self._records, self._ended)

    def go_on(self, saved: Saved) -> None:
        """Begin where another process has ended."""
        self.done, self.state, self._ended = saved.done, saved.state, dict(saved.ended)
        self._records = list(saved.records)
        self.last_loss = float(np.mean(self._records[-1].loss[:, -1]))


def _stacked(leaves: Sequence[Any], several: bool) -> Any:
    return jax.tree.map(lambda *each: jnp.stack(each), *leaves) if several else leaves[0]


def _has_passed(trajectory: Trajectory, stop: Sequence[tuple[str, float]]) -> bool:
    crossings = crossings_of(trajectory, stop)
    return all(crossing.time is not None and crossing.sustained is not None for crossing in crossings)
