"""Gradient descent of the full model on fresh samples, projected onto the subspace as it goes."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from induction_dynamics.dynamics.emergence import check_target, crossings_of
from induction_dynamics.dynamics.flow import flow_time_of_steps, learning_rate_of_step
from induction_dynamics.dynamics.trajectory import Trajectory, check_horizon
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import project
from induction_dynamics.task import Task, sample_sequences, split_seed
from induction_dynamics.transformer.disentangled import Weights, batch_loss, zero_weights

LARGEST_STEP = 1e6
"""Largest flow time of a step: far beyond every stable one, and no overflow by itself."""

LARGEST_DIM = 4096
"""Largest D of the full model, with 2 GB of weights."""

_CHUNK = 64  # steps between two looks from the host
_MOST_STEPS = 2**31 - 1 - _CHUNK


class Pending(NamedTuple):
    """Between two records: the weights of the last one, and the update that leads to the next."""

    weights: Weights
    update: PyTree[Array]


class Records(NamedTuple):
    """What is recorded before each step: of the weights W_s that the step starts from, and on the step's own batch."""

    coordinates: Float[Array | np.ndarray, "step 19"]
    loss: Float[Array | np.ndarray, " step"]
    off_subspace: Float[Array | np.ndarray, " step"]


def train(
    task: Task,
    *,
    horizon: float = 12.0,
    batch_size: int = 256,
    step: float = 0.25,
    seed: int = 0,
    stop: Sequence[tuple[str, float]] = (),
    dtype: jnp.dtype | type = jnp.float32,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> Trajectory:
    r"""Train all 28 D^2 weights from zero: W <- W - eta grad_W loss, a fresh batch for every step.

    The learning rate is eta = step * D, so that each step advances flow time by `step` and the run lies on the time
    axis of the reduced flow (`dynamics.flow.flow_time_of_steps`). Coordinates, loss and off-subspace fraction are
    recorded before every update.

    Args:
        task: the task, with N and D.
        horizon: flow time at which the run is given up, in units of N^2.
        batch_size: B, sequences per step.
        step: flow time per step, at most 1e6; up to about 1.1 is linearly stable without noise.
        seed: of the data.
        stop: measures and thresholds, as in `emergence.crossing_targets`. The run ends once all have been crossed and
            another 1 % of it has passed (to see whether the crossings hold).
        dtype: of weights and data.
        on_progress: called from the host now and then with steps done, steps at most, and the last loss.

    Returns:
        The run, a record before each step up to the horizon, with the loss on that step's own batch and the weights of
        the last record; its outcome is one of `trajectory.OUTCOMES`.

    Raises:
        ArgumentError: a value out of range.

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
    check_training(task, horizon, batch_size, step)
    for target in stop:
        check_target(*target)
    steps = horizon * task.context_length**2 / step
    learning_rate = learning_rate_of_step(step, task.embedding_dim)
    most = int(steps * (1 + 1e-12)) + 1  # records; the last is at the horizon or just before
    data = split_seed(seed).data
    zero = zero_weights(task.embedding_dim, dtype)
    pending = Pending(weights=zero, update=zero)
    chunks: list[Records] = []
    outcome = "horizon_reached"
    while len(chunks) * _CHUNK < most:
        span = jnp.asarray([len(chunks) * _CHUNK, most], jnp.int32)
        pending, records = _advance(pending, data, span, jnp.asarray(learning_rate, dtype), task, batch_size, _CHUNK)
        wanted = most - len(chunks) * _CHUNK
        chunks.append(Records(*(np.asarray(record, np.float64)[:wanted] for record in records)))
        if on_progress is not None:
            on_progress(min(len(chunks) * _CHUNK, most), most, float(chunks[-1].loss[-1]))
        if not all(np.isfinite(record).all() for record in chunks[-1]):
            outcome = "nonfinite"
            break
        # Looked at ever more rarely, so that looking costs no more than in proportion to the run.
        look = len(chunks) % max(1, len(chunks) // 32) == 0
        if stop and look and _has_passed(_trajectory(chunks, learning_rate, task, outcome), stop):
            outcome = "emerged"
            break
    run = _trajectory(chunks, learning_rate, task, outcome)
    return dataclasses.replace(run, weights=pending.weights if outcome != "nonfinite" else None)


def check_training(task: Task, horizon: float, batch_size: int, step: float) -> None:
    """Refuse what `train` does not take.

    Args:
        task: gives N and D.
        horizon: in units of N^2.
        batch_size: B.
        step: flow time per step.

    Raises:
        ArgumentError: a value out of range, too many steps, or a model that is too wide.
    """
    check_width(task)
    check_horizon(horizon)
    if not 0 < step <= LARGEST_STEP:
        raise ArgumentError("step", step, f"a flow time above 0, at most {LARGEST_STEP:g}")
    if horizon * task.context_length**2 / step > _MOST_STEPS:
        raise ArgumentError("step", step, f"a flow time that reaches the horizon within {_MOST_STEPS} steps")
    if batch_size < 1:
        raise ArgumentError("batch_size", batch_size, "at least 1")


def check_width(task: Task) -> None:
    """Refuse a full model whose 28 D^2 weights are more than a workstation trains.

    Args:
        task: gives D, and N where D is the default for it.

    Raises:
        ArgumentError: D is larger than 4096.
    """
    if task.embedding_dim > LARGEST_DIM:
        if task == Task(task.context_length, 0, task.inputs, task.query, task.rotation):
            reason = f"so small that the full model's width ({task.embedding_dim}) is at most {LARGEST_DIM}"
            raise ArgumentError("context_length", task.context_length, reason)
        raise ArgumentError("embedding_dim", task.embedding_dim, f"at most {LARGEST_DIM} for the full model")


@functools.partial(jax.jit, static_argnames=("task", "batch_size", "steps"))
def _advance(
    pending: Pending,
    data: PRNGKeyArray,
    span: Int[Array, "2"],
    learning_rate: Float[Array, ""],
    task: Task,
    batch_size: int,
    steps: int,
) -> tuple[Pending, Records]:
    """Take `steps` steps; step s draws its batch from the key folded with s, whatever chunk it falls in.

    Args:
        pending: the weights of the last record, and the update that leads to the next.
        data: key of the data.
        span: number of the first step, and the number of records after which the weights stay as they are.
        learning_rate: eta.
        task: the task.
        batch_size: B.
        steps: how many.
    """
    begun, most = span
    optimizer = optax.sgd(learning_rate)
    state = optimizer.init(eqx.filter(pending.weights, eqx.is_array))  # empty: gradient descent remembers nothing

    def one(pending: Pending, index: Array) -> tuple[Pending, Records]:
        moves = begun + index < most
        weights = jax.tree.map(lambda w, u: jnp.where(moves, w + u, w), pending.weights, pending.update)
        key = jax.random.fold_in(data, begun + index)
        sequences = sample_sequences(task, key, batch_size, weights.W1.dtype)
        loss, gradient = jax.value_and_grad(batch_loss)(weights, sequences)
        projection = project(weights, task.rotation)
        records = Records(projection.coordinates, loss, projection.off_subspace.total)
        update, _ = optimizer.update(gradient, state)
        return Pending(weights, update), records

    return jax.lax.scan(one, pending, jnp.arange(steps, dtype=jnp.int32))


def _trajectory(chunks: Sequence[Records], learning_rate: float, task: Task, outcome: str) -> Trajectory:
    records = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
    finite = np.isfinite(records[0]).all(axis=1) & np.isfinite(records[1]) & np.isfinite(records[2])
    length = len(finite) if finite.all() else int(np.argmin(finite))
    coordinates, loss, off_subspace = (record[:length] for record in records)
    time = np.arange(length) * flow_time_of_steps(1.0, learning_rate, task.embedding_dim)
    return Trajectory(time, coordinates, loss, off_subspace, outcome)


def _has_passed(trajectory: Trajectory, stop: Sequence[tuple[str, float]]) -> bool:
    crossings = crossings_of(trajectory, stop)
    return all(crossing.time is not None and crossing.sustained is not None for crossing in crossings)
