"""A step of training of the full model, and what it records: pure functions, of which `engine` makes a program."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.pseudo_parameters import COORDINATES, lift, metric, project
from induction_dynamics.task import Sequences, Task, sample_sequences
from induction_dynamics.training.engine import BATCH, State
from induction_dynamics.training.optimizers import Optimizer, mixing_dtypes, transformation
from induction_dynamics.transformer.disentangled import Weights
from induction_dynamics.transformer.gradient import loss_and_gradient

_DATASET = 2**32 - 1  # folded into the key of the data for a fixed set, as no step is


class Held(NamedTuple):
    """Holds, for each coordinate: the first step that starts from it (if any), whether at a value, and which."""

    since: Int[Array, "19"]
    is_set: Bool[Array, "19"]
    value: Float[Array, "19"]


class Inputs(NamedTuple):
    """What a step reads and never changes.

    Args:
        data: key of the data; step s draws from it folded with s.
        learning_rate: eta.
        dataset: the fixed set of sequences, if there is one.
        held: coordinates that are held.
    """

    data: PRNGKeyArray
    learning_rate: Float[Array, ""]
    dataset: Sequences | None
    held: Held


class Records(NamedTuple):
    """What is recorded before each step: of the weights W_s that the step starts from, and on the step's own batch.

    Coordinates and off-subspace fraction are NaN at steps of which they are not recorded.
    """

    coordinates: Float[Array | np.ndarray, "*seeds step 19"]
    loss: Float[Array | np.ndarray, "*seeds step"]
    off_subspace: Float[Array | np.ndarray, "*seeds step"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All of a training that its compiled program depends on.

    Args:
        task: the task.
        batch_size: B, sequences per step.
        optimizer: how a gradient becomes an update.
        steps: of the whole run, where a schedule depends on it; else 0.
        sequences: number of sequences in a fixed set; 0 for fresh ones at every step.
        shared_frames: see `task.sample_sequences`.
        held: whether coordinates are held.
        record_every: steps between two records of the coordinates.
        several: whether there are several seeds, side by side along a leading axis of state, inputs and records.
    """

    rare = ("coordinates", "off_subspace")
    one_by_one = False

    task: Task
    batch_size: int
    optimizer: Optimizer
    steps: int
    sequences: int
    shared_frames: int
    held: bool
    record_every: int
    several: bool

    @property
    def axes(self) -> Inputs:
        """Of the inputs, which have an axis for the seeds."""
        return Inputs(data=0, learning_rate=None, dataset=0, held=None)  # pyright: ignore[reportArgumentType]

    def transformation(self, inputs: Inputs) -> optax.GradientTransformation:
        """From gradients to updates."""
        return transformation(self.optimizer, inputs.learning_rate, self.steps)

    def blank(self, weights: Weights) -> Records:
        """A record of nothing."""
        nothing = jnp.full((), jnp.nan, weights.W1.dtype)
        return Records(jnp.full((len(COORDINATES),), jnp.nan, weights.W1.dtype), nothing, nothing)

    def one_step(
        self,
        state: State,
        inputs: Inputs,
        number: Int[Array, ""],
        optimizer: optax.GradientTransformation,
        mesh: Mesh | None,
    ) -> tuple[State, Records]:
        """Step s draws its batch from the key folded with s."""
        return _step(state, inputs, number, self, optimizer, mesh)


def held_from(holds: Sequence[Hold], step: float, dtype: jnp.dtype | type) -> Held:
    """Holds by the number of the step at which they begin.

    Args:
        holds: at most one for each coordinate.
        step: time that a step takes, in the unit of `Hold.since`.
        dtype: floating type of the weights.
    """
    since, value = np.full(len(COORDINATES), 2**31 - 1, np.int64), np.zeros(len(COORDINATES))
    is_set = np.zeros(len(COORDINATES), bool)
    for hold in holds:
        place = COORDINATES.index(hold.coordinate)
        # the first record at or after that time, but for rounding
        since[place] = min(np.ceil(hold.since / step * (1 - 1e-12)), 2**31 - 1)
        value[place], is_set[place] = hold.value or 0.0, hold.value is not None
    return Held(jnp.asarray(since.astype(np.int32)), jnp.asarray(is_set), jnp.asarray(value, dtype))


def fixed_set(task: Task, data: PRNGKeyArray, number: int, shared_frames: int, dtype: jnp.dtype | type) -> Sequences:
    """The sequences of a training on a fixed set.

    Args:
        task: the task.
        data: key of the data.
        number: how many.
        shared_frames: see `task.sample_sequences`.
        dtype: floating type.
    """
    return sample_sequences(task, jax.random.fold_in(data, _DATASET), number, dtype, shared_frames)


def _step(
    state: State,
    inputs: Inputs,
    number: Int[Array, ""],
    recipe: Recipe,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None,
) -> tuple[State, Records]:
    weights = jax.tree.map(jnp.add, state.weights, state.update)
    if recipe.held:
        weights = _set(weights, inputs.held, number, recipe.task)
    sequences = _batch(inputs, number, recipe, weights.W1.dtype)
    loss, gradient = _loss_and_gradient(weights, sequences, mesh)
    update: Any
    with mixing_dtypes():
        update, memory = optimizer.update(gradient, state.memory, weights)  # pyright: ignore[reportArgumentType]
    if recipe.held:
        update = _leave(update, inputs.held, number, recipe.task)

    def look() -> tuple[Float[Array, "19"], Float[Array, ""]]:
        projection = project(weights, recipe.task.rotation)
        return projection.coordinates, projection.off_subspace.total

    if recipe.record_every == 1:
        coordinates, off_subspace = look()
    else:
        nothing = jnp.full((len(COORDINATES),), jnp.nan, loss.dtype), jnp.full((), jnp.nan, loss.dtype)
        coordinates, off_subspace = jax.lax.cond(number % recipe.record_every == 0, look, lambda: nothing)
    return State(weights, update, memory), Records(coordinates, loss, off_subspace)


def _batch(inputs: Inputs, number: Int[Array, ""], recipe: Recipe, dtype: jnp.dtype) -> Sequences:
    """Fresh sequences, or distinct ones of the fixed set, drawn anew for every step."""
    key = jax.random.fold_in(inputs.data, number)
    if inputs.dataset is None:
        return sample_sequences(recipe.task, key, recipe.batch_size, dtype, recipe.shared_frames)
    if recipe.batch_size == recipe.sequences:
        return inputs.dataset
    chosen = jax.random.permutation(key, recipe.sequences)[: recipe.batch_size]
    return jax.tree.map(lambda leaf: leaf[chosen], inputs.dataset)


def _loss_and_gradient(weights: Weights, sequences: Sequences, mesh: Mesh | None) -> tuple[Float[Array, ""], Weights]:
    """On a mesh each device has its share of the batch, and the means over all are taken across devices."""
    if mesh is None:
        return loss_and_gradient(weights, sequences)
    everywhere, spread = PartitionSpec(), PartitionSpec(BATCH)

    def share(weights: Weights, sequences: Sequences) -> tuple[Float[Array, ""], Weights]:
        return jax.lax.pmean(loss_and_gradient(weights, sequences), BATCH)

    sequences = jax.lax.with_sharding_constraint(sequences, NamedSharding(mesh, spread))
    return jax.shard_map(share, mesh=mesh, in_specs=(everywhere, spread), out_specs=everywhere, check_vma=False)(
        weights, sequences
    )


def _set(weights: Weights, held: Held, number: Int[Array, ""], task: Task) -> Weights:
    """W + (value - theta_k) B_k for what is held at a value."""
    theta = project(weights, task.rotation).coordinates
    moves = (number >= held.since) & held.is_set
    return jax.tree.map(jnp.add, weights, lift(jnp.where(moves, held.value - theta, jnp.zeros_like(theta)), task))


def _leave(update: Weights, held: Held, number: Int[Array, ""], task: Task) -> Weights:
    """The update without its part that moves held coordinates: the nearest one that leaves them where they are.

    What is taken away is a combination of the dual basis sum_l (G^-1)_kl B_l of the held coordinates. G couples two
    coordinates of a pair alone, so that of a pair with one held, -cos(phi) of its part goes to the other.
    """
    theta = project(update, task.rotation).coordinates
    is_held = number >= held.since
    zero = jnp.zeros_like(theta)
    moved = jnp.where(is_held, theta, zero)
    to_others = jnp.asarray(np.eye(len(COORDINATES)) - metric(task.rotation), theta.dtype) @ moved
    part = moved + jnp.where(is_held, zero, to_others)
    return jax.tree.map(jnp.subtract, update, lift(part, task))
