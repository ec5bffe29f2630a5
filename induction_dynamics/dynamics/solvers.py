"""How stiff gradient flows in closed form are solved, and the trajectories that solutions leave."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from induction_dynamics.dynamics import circuit_flow, radau
from induction_dynamics.dynamics.collocation import STAGES
from induction_dynamics.dynamics.emergence import LOSS
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES
from induction_dynamics.reduced.loss import ReducedLoss
from induction_dynamics.task import Task
from induction_dynamics.traced import traced_once

_T = TypeVar("_T")
_Part = TypeVar("_Part")
_CIRCUIT_STEPS = (80, 512)  # tried first, and by the runs that these were not enough for
_BLOCK = 256  # runs of the circuit side by side: more do not fit into a processor's cache


class Levels(NamedTuple):
    """What a run waits for: the highest threshold asked of each coordinate, the lowest fraction of the loss."""

    coordinates: Float[Array, "19"]
    loss_fraction: Float[Array, ""]


class Run(eqx.Module):
    """What a run solves, theta = start + directions y.

    Args:
        directions: B with B B^T = G^-1 on the coordinates that move, so that dy/dt = -B^T d loss/d theta.
    """

    loss: ReducedLoss
    horizon: Float[Array, ""]
    start: Float[Array, "19"]
    directions: Float[Array, "19 moving"]
    levels: Levels

    def coordinates(self, moved: Float[Array, "*nodes moving"]) -> Float[Array, "*nodes 19"]:
        """Theta at y."""
        start = self.start if moved.ndim == 1 else jnp.broadcast_to(self.start, (*moved.shape[:-1], len(self.start)))
        return start + moved @ self.directions.T

    def flow(self, moved: Float[Array, " moving"]) -> tuple[Float[Array, " moving"], Float[Array, ""]]:
        """dy/dt and the loss."""
        value, gradient = jax.value_and_grad(self.loss)(self.coordinates(moved))
        return -(self.directions.T @ gradient), value

    def arrived(self, moved: Float[Array, " moving"], fraction: Float[Array, ""]) -> Bool[Array, ""]:
        """Whether all is beyond its levels, with the loss as a fraction of its start."""
        return jnp.all(self.coordinates(moved) >= self.levels.coordinates) & (fraction <= self.levels.loss_fraction)


class Nodes(NamedTuple):
    """The solution of a run: `steps` accepted steps, each as the even nodes of its polynomial.

    Their number is the polynomial's degree: `collocation.STAGES`, or `explicit.DEGREE`. What lies beyond the last step
    has no meaning.
    """

    time: Float[Array, " node"]
    coordinates: Float[Array, "node 19"]
    loss: Float[Array, " node"]
    steps: Int[Array, ""]
    stopped: Bool[Array, ""]
    failed: Bool[Array, ""]


@traced_once(Nodes)
def collocate(run: Run, rtol: Float[Array, ""], max_steps: int) -> Nodes:
    """Solve by Radau collocation."""
    start = jnp.zeros(run.directions.shape[1])
    flow = jax.jit(lambda moved: run.flow(moved))  # traced once; a method of a module has no hash for that
    steps = radau.integrate(flow, run.arrived, start, run.horizon, rtol, max_steps)
    fractions = jnp.arange(1, STAGES + 1) / STAGES
    times = steps.start[:, None] + steps.length[:, None] * fractions[None]
    time = jnp.append(jnp.zeros_like(times[:1, 0]), times.reshape(-1))
    moved = jnp.append(start[None], steps.values.reshape(-1, len(start)), axis=0)
    loss = losses_at(lambda at: flow(at)[1], moved, STAGES * steps.taken + 1)
    return Nodes(time, run.coordinates(moved), loss, steps.taken, steps.stopped, steps.failed)


def losses_at(
    loss: Callable[[Float[Array, " moving"]], Float[Array, ""]],
    moved: Float[Array, "node moving"],
    count: Int[Array, ""],
) -> Float[Array, " node"]:
    """The loss at the first nodes, and zeros.

    Args:
        loss: of y.
        moved: y at the nodes.
        count: at how many of them.
    """
    return jax.lax.fori_loop(
        0, count, lambda node, losses: losses.at[node].set(loss(moved[node])), jnp.zeros(len(moved))
    )


def follow(tasks: Sequence[Task], horizon: float, levels: Levels, accuracy: float) -> list[Trajectory]:
    """Solve the circuit with the query last, from zero."""
    places = [COORDINATES.index(name) for name in CIRCUIT]
    alpha, beta, gamma = (levels.coordinates[place] for place in places)
    asked = circuit_flow.Levels(alpha, beta, gamma, levels.loss_fraction)
    lengths = np.array([float(task.context_length) for task in tasks])
    runs: dict[int, Trajectory] = {}
    waiting = np.arange(len(tasks))
    for most in _CIRCUIT_STEPS:
        if not len(waiting):
            break
        blocks = [waiting[first : first + _BLOCK] for first in range(0, len(waiting), _BLOCK)]

        def solve(block: np.ndarray, most: int = most) -> circuit_flow.CircuitNodes:
            # Of one size, which is compiled once, and in which no run's digits depend on its companions.
            batch = lengths[np.resize(block, _BLOCK)]
            return circuit_flow.solve_circuit_last(batch, horizon * batch**2, asked, accuracy, most)

        for block, nodes in zip(blocks, _in_threads(solve, blocks, lambda block: _BLOCK), strict=True):
            time, *values, loss, steps, stopped, failed = map(np.asarray, nodes)
            for place, run in enumerate(block.tolist()):
                records = slice(STAGES * int(steps[place]) + 1)
                coordinates = np.zeros((records.stop, len(COORDINATES)))
                for column, value in zip(places, values, strict=True):
                    coordinates[:, column] = value[place, records]
                runs[run] = Trajectory(
                    time=time[place, records],
                    coordinates=coordinates,
                    loss=loss[place, records],
                    off_subspace=np.zeros(records.stop),
                    outcome=_outcome(stopped[place], failed[place]),
                    degree=STAGES,
                )
        waiting = np.array([run for run in waiting.tolist() if runs[run].outcome == "solver_failed"], int)
    return [runs[run] for run in range(len(tasks))]


def _in_threads(solve: Callable[[_Part], _T], parts: Sequence[_Part], size: Callable[[_Part], int]) -> Iterator[_T]:
    """Results in order, computed in threads while the earlier ones are made use of; the first of each size alone.

    That one compiles the program of its size.
    """
    if len(parts) == 1:
        yield solve(parts[0])
        return
    (device,) = jnp.zeros(()).devices()
    elsewhere = device != jax.devices()[0]

    def as_here(part: _Part) -> _T:
        # What a `with` has settled holds for its own thread alone.
        with jax.enable_x64(True), jax.default_device(device) if elsewhere else contextlib.nullcontext():
            return solve(part)

    first_places = {size(part): place for place, part in reversed(list(enumerate(parts)))}.values()
    with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1)) as threads:
        first = {place: solve(parts[place]) for place in sorted(first_places)}
        later = {place: threads.submit(as_here, part) for place, part in enumerate(parts) if place not in first}
        try:
            for place in range(len(parts)):
                yield first[place] if place in first else later[place].result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def solve_each(
    solve: Callable[[Task], tuple[Nodes, int]], tasks: Sequence[Task], size: Callable[[Task], int] | None
) -> list[Trajectory]:
    """The runs of several tasks.

    Args:
        solve: solves a task's run; also the degree of its polynomials.
        tasks: the tasks.
        size: of a task's arrays, for runs that are so small that as many go at once as there are cores; None for
            those that go one after another.
    """

    def run(task: Task) -> Trajectory:
        return _trajectory(*solve(task))

    return [run(task) for task in tasks] if size is None else list(_in_threads(run, tasks, size))


def _trajectory(nodes: Nodes, degree: int) -> Trajectory:
    """A run, cut after its last step, or before what is not finite."""
    length = degree * int(nodes.steps) + 1
    # Copies: a view would keep all that the solver had room for.
    time, coordinates, loss = (np.array(np.asarray(each)[:length]) for each in nodes[:3])
    finite = np.isfinite(loss) & np.isfinite(coordinates).all(axis=1)
    outcome = _outcome(nodes.stopped, nodes.failed)
    if not finite.all():
        outcome = "nonfinite"
        length = (max(int(np.argmin(finite)), 1) - 1) // degree * degree + 1
    return Trajectory(
        time=time[:length],
        coordinates=coordinates[:length],
        loss=loss[:length],
        off_subspace=np.zeros(length),
        outcome=outcome,
        degree=degree,
    )


def _outcome(stopped: bool | np.bool_ | Array, failed: bool | np.bool_ | Array) -> str:
    return "emerged" if stopped else "solver_failed" if failed else "horizon_reached"


def levels_of(stop: Sequence[tuple[str, float]]) -> Levels:
    """What runs wait for, from measures and thresholds; without any they go on to their horizons."""
    highest = np.full(len(COORDINATES), -np.inf if stop else np.inf)
    lowest = np.inf
    for measure, threshold in stop:
        if measure == LOSS:
            lowest = min(lowest, threshold)
        else:
            place = COORDINATES.index(measure)
            highest[place] = max(highest[place], threshold)
    return Levels(jnp.asarray(highest), jnp.asarray(lowest))


def power_of_two(number: int) -> int:
    """The next power of two: few sizes are compiled."""
    return 1 << max(number - 1, 1).bit_length()
