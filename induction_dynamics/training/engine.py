"""What all trainings share: many steps in one compiled program, and what the host does between two such programs."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from induction_dynamics.errors import ArgumentError

BATCH = "batch"
"""Name of the axis of a mesh of devices over which the sequences of a batch are spread."""

LOOK = 64
"""Steps between two looks at whether a run has passed what it waits for; also the most that run without a word."""

_PATIENCE = 0.5  # seconds between two looks from the host, once the speed is known


class State(NamedTuple):
    """Between two steps: the weights of the last record, the update that leads to the next, the optimizer's memory."""

    weights: Any
    update: Any
    memory: PyTree[Array]


@runtime_checkable
class Recipe(Protocol):
    """All of a training that its compiled program depends on; it can be hashed.

    Of a step it makes a record, a named tuple of arrays, among them `loss`.
    """

    @property
    def rare(self) -> tuple[str, ...]:
        """Of the record, what is NaN but every so many steps (`record_every` of the settings)."""
        ...

    @property
    def several(self) -> bool:
        """Whether there are several seeds, side by side along a leading axis of state, inputs and records."""
        ...

    @property
    def one_by_one(self) -> bool:
        """Whether several seeds take their steps one after the other, rather than each step together."""
        ...

    @property
    def axes(self) -> Any:
        """Of the inputs, which have an axis for the seeds; as `jax.vmap` takes it."""
        ...

    def transformation(self, inputs: Any) -> optax.GradientTransformation:
        """From gradients to updates."""
        ...

    def blank(self, weights: Any) -> Any:
        """A record of nothing, all NaN."""
        ...

    def one_step(
        self, state: State, inputs: Any, number: Int[Array, ""], optimizer: optax.GradientTransformation, mesh: Any
    ) -> tuple[State, Any]:
        """The next state, and the record of this step, whose number all that is random depends on."""
        ...


@runtime_checkable
class Trained(Protocol):
    """Settings of a training: a dataclass of all that its numbers depend on but the seeds."""

    @property
    def most(self) -> int:
        """Records of a run that goes on to its end: one at its start, and one after each step."""
        ...

    @property
    def record_every(self) -> int:
        """Steps between two records of what is recorded rarely."""
        ...


@dataclasses.dataclass(frozen=True)
class Ended:
    """The end of one seed's run.

    Args:
        done: records that it has.
        outcome: how it ended.
        weights: of its last record; None where they became infinite.
    """

    done: int
    outcome: str
    weights: Any


@dataclasses.dataclass(frozen=True)
class Saved:
    """All that a later process needs to go on.

    Args:
        done: records made.
        state: after them.
        records: all of them, in parts that follow each other.
        ended: which seeds have ended, and how.
    """

    done: int
    state: State
    records: Sequence[Any]
    ended: Mapping[int, Ended]


def first_state(weights: PyTree[Array], optimizer: optax.GradientTransformation) -> State:
    """The state before the first step.

    Args:
        weights: that training starts from; without the axis of several seeds.
        optimizer: from gradients to updates.
    """
    return State(weights, jax.tree.map(jnp.zeros_like, weights), optimizer.init(weights))  # pyright: ignore[reportArgumentType]


@functools.partial(jax.jit, static_argnames=("recipe", "capacity", "mesh"), donate_argnames="state")
def advance(
    state: State,
    inputs: Any,
    first: Int[Array, ""],
    count: Int[Array, ""],
    recipe: Recipe,
    capacity: int,
    mesh: Mesh | None = None,
) -> tuple[State, Any]:
    """Take some steps; step s draws its batch from the key folded with s, however the steps are parted among calls.

    Args:
        state: before them.
        inputs: read by all.
        first: number of the first step.
        count: how many, at most `capacity`.
        recipe: of the training.
        capacity: rows of the records that are returned; the last ones are NaN if there are fewer steps.
        mesh: devices over which a batch is spread; by default one device has all.

    Returns:
        The state after the last of them, and a record made before each.
    """

    def run(state: State, inputs: Any) -> tuple[State, Any]:
        optimizer = recipe.transformation(inputs)
        empty = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (capacity, *leaf.shape)), recipe.blank(state.weights))

        def one(index: Array, carry: tuple[State, Any]) -> tuple[State, Any]:
            state, records = carry
            state, record = recipe.one_step(state, inputs, first + index, optimizer, mesh)
            return state, jax.tree.map(lambda rows, row: rows.at[index].set(row), records, record)

        # A loop whose length is an argument: one program, and the same digits, however the steps are parted.
        return jax.lax.fori_loop(0, count, one, (state, empty))

    if not recipe.several:
        return run(state, inputs)
    if not recipe.one_by_one:
        return jax.vmap(run, in_axes=(0, recipe.axes))(state, inputs)

    def of_seed(seed: Array) -> tuple[State, Any]:
        def pick(axis: int | None, part: Any) -> Any:
            return part if axis is None else jax.tree.map(lambda leaf: leaf[seed], part)

        return run(pick(0, state), jax.tree.map(pick, recipe.axes, inputs, is_leaf=lambda axis: axis is None))

    return jax.lax.map(of_seed, jnp.arange(len(jax.tree.leaves(state)[0])))


class Run:
    """A training as the host sees it: the state, all records so far, and which seeds have come to their ends.

    Args:
        settings: of the training.
        recipe: of its program.
        seeds: how many.
        state: before the first step.
    """

    def __init__(self, settings: Trained, recipe: Recipe, seeds: int, state: State):
        self.state = state
        self.done = 0
        self.last_loss = float("nan")
        self.records: list[Any] = []
        self.ended: dict[int, Ended] = {}
        self.settings = settings
        self._seeds, self._rare = seeds, recipe.rare
        # of several processes all must take the same steps at once
        self._at_once = 1 if jax.process_count() == 1 else LOOK

    def passed(self, seed: int) -> bool:
        """Whether a seed has passed what it waits for; by default none waits for anything."""
        return False

    @property
    def waits(self) -> bool:
        """Whether seeds wait for anything."""
        return False

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.done >= self.settings.most or len(self.ended) == self._seeds

    def steps_to_go(self, every: int) -> int:
        """Steps to the next look, the next checkpoint or the end, but no more than go by in a moment.

        Args:
            every: steps between two checkpoints; 0 without.
        """
        ends = [self.settings.most, (self.done // LOOK + 1) * LOOK]
        if every:
            ends.append((self.done // every + 1) * every)
        return min(min(ends) - self.done, self._at_once)

    def pace(self, count: int, seconds: float) -> None:
        """Find how many steps go by in a moment; what is compiled first counts as slow.

        Args:
            count: steps taken.
            seconds: that they took.
        """
        if jax.process_count() > 1:
            return
        fitting = int(_PATIENCE / max(seconds / count, 1e-9))
        self._at_once = min(max(fitting, 1), 8 * self._at_once, LOOK)

    def take(self, state: State, records: Any, count: int) -> None:
        """Keep what some steps have left, and see who has ended.

        Args:
            state: after them.
            records: of them, and of nothing beyond them.
            count: how many.
        """
        self.state = state
        rows = [np.asarray(leaf, np.float64) for leaf in records]
        if not self._several:
            rows = [row[None] for row in rows]
        self.records.append(type(records)(*(row[:, :count] for row in rows)))
        self.done += count
        self.last_loss = float(np.mean(self.records[-1].loss[:, -1]))
        self._look()

    @property
    def _several(self) -> bool:
        return self._seeds > 1

    def _look(self) -> None:
        latest = self.records[-1]
        due = self.recorded(self.done - latest.loss.shape[1], self.done)
        for seed in range(self._seeds):
            if seed in self.ended:
                continue
            seen = [
                values[seed][due] if name in self._rare else values[seed] for name, values in latest._asdict().items()
            ]
            if not all(np.isfinite(values).all() for values in seen):
                self.ended[seed] = Ended(self.done, "nonfinite", None)
        # Looked at ever more rarely, so that looking costs no more than in proportion to the run.
        number = -(-self.done // LOOK)
        at_a_look = self.done % LOOK == 0 or self.done == self.settings.most
        if not self.waits or not at_a_look or number % max(1, number // 32):
            return
        for seed in range(self._seeds):
            if seed not in self.ended and self.passed(seed):
                self.ended[seed] = Ended(self.done, "emerged", self.weights_of(seed))

    def recorded(self, first: int, last: int) -> np.ndarray:
        """Which of the steps have a record of what is recorded rarely.

        Args:
            first: number of the first step.
            last: one more than that of the last.
        """
        return np.arange(first, last) % self.settings.record_every == 0

    def weights_of(self, seed: int) -> Any:
        """Those of a seed's last record; a copy, since the state is given away with the next steps.

        Args:
            seed: its number among the seeds.
        """
        return jax.tree.map(lambda leaf: jnp.array(leaf[seed] if self._several else leaf), self.state.weights)

    def end_of(self, seed: int) -> Ended:
        """How a seed has ended: by itself, or with the run.

        Args:
            seed: its number among the seeds.
        """
        return self.ended.get(seed) or Ended(self.done, "horizon_reached", self.weights_of(seed))

    def saved(self) -> Saved:
        """All that a later process needs to go on."""
        return Saved(self.done, self.state, self.records, self.ended)

    def go_on(self, saved: Saved) -> None:
        """Begin where another process has ended.

        Args:
            saved: what that one left.
        """
        self.done, self.state, self.ended = saved.done, saved.state, dict(saved.ended)
        self.records = list(saved.records)
        self.last_loss = float(np.mean(self.records[-1].loss[:, -1]))


def carry_out(
    run: Run,
    recipe: Recipe,
    inputs: Any,
    store: contextlib.AbstractContextManager[Any] | None = None,
    mesh: Mesh | None = None,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> None:
    """Take a run to its end, or from its latest saved state there.

    Args:
        run: the training.
        recipe: of its program.
        inputs: read by all steps.
        store: of saved states (`saving.Store`).
        mesh: devices over which a batch is spread.
        on_progress: called now and then with steps done, steps at most, and the last loss.
    """
    with store or contextlib.nullcontext() as kept:
        if kept is not None and (saved := kept.latest(run.state)) is not None:
            run.go_on(saved if mesh is None else dataclasses.replace(saved, state=everywhere(saved.state, mesh)))
        while not run.over:
            begun = time.monotonic()
            count = run.steps_to_go(kept.every if kept else 0)
            first, number = (jnp.asarray(value, jnp.int32) for value in (run.done, count))
            state, records = advance(run.state, inputs, first, number, recipe, LOOK, mesh)
            run.take(state, records, count)
            run.pace(count, time.monotonic() - begun)
            if on_progress is not None:
                on_progress(run.done, run.settings.most, run.last_loss)
            if kept is not None and (run.over or run.done % kept.every == 0):
                kept.save(run.saved())


def side_by_side(leaves: Sequence[Any], several: bool) -> Any:
    """Trees of several seeds with a leading axis for them; the only one as it is.

    Args:
        leaves: one tree for each.
        several: whether there are several.
    """
    return jax.tree.map(lambda *each: jnp.stack(each), *leaves) if several else leaves[0]


def mesh_of(devices: Sequence[Any], batch_size: int) -> Mesh | None:
    """Devices among which a batch is shared evenly; None for a single one.

    Args:
        devices: of all processes.
        batch_size: B.

    Raises:
        ArgumentError: the batch cannot be shared evenly.
    """
    if len(devices) < 2:
        return None
    if batch_size % len(devices):
        reason = f"a multiple of the number of devices, which is {len(devices)}"
        raise ArgumentError("batch_size", batch_size, reason)
    return Mesh(np.asarray(devices), (BATCH,))


def everywhere(tree: PyTree[Array], mesh: Mesh) -> PyTree[Array]:
    """The same arrays whole on every device of a mesh, also on those of other processes, which do the same.

    Args:
        tree: of arrays and random keys.
        mesh: of devices.
    """
    whole = NamedSharding(mesh, PartitionSpec())

    def put(leaf: Array) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)))
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, whole, lambda index: values[index])

    return jax.tree.map(put, tree)
