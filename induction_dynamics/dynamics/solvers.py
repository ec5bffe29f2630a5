"""The three ways in which a gradient flow is solved, and the trajectories that they leave."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import diffrax
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

EXPLICIT_DEGREE = 4
"""Degree of the polynomial kept of an explicit step, that of its solver's interpolant."""

_T = TypeVar("_T")
_CIRCUIT_STEPS = (80, 512)  # tried first, and by the runs that these were not enough for
_BLOCK = 256  # runs of the circuit side by side: more do not fit into a processor's cache
_FIRST_STEP = 1e-14  # of an explicit run, as a fraction of it; it grows at once


class Levels(NamedTuple):
    """What a run waits for: the highest threshold asked of each coordinate, the lowest fraction of the loss."""

    coordinates: Float[Array, "19"]
    loss_fraction: Float[Array, ""]


class Run(eqx.Module):
    """What a batch of runs solves, theta = start + directions y: the loss and the horizon of each have a leading axis.

    Args:
        directions: B with B B^T = G^-1 on the coordinates that move, so that dy/dt = -B^T d loss/d theta.
    """

    loss: ReducedLoss
    horizon: Float[Array, " run"]
    start: Float[Array, "19"]
    directions: Float[Array, "19 moving"]
    levels: Levels

    def coordinates(self, moved: Float[Array, "*nodes moving"]) -> Float[Array, "*nodes 19"]:
        """Theta at y."""
        start = self.start if moved.ndim == 1 else jnp.broadcast_to(self.start, (*moved.shape[:-1], len(self.start)))
        return start + moved @ self.directions.T

    def flow(
        self, loss: ReducedLoss, moved: Float[Array, " moving"]
    ) -> tuple[Float[Array, " moving"], Float[Array, ""]]:
        """dy/dt and the loss."""
        value, gradient = jax.value_and_grad(loss)(self.coordinates(moved))
        return -(self.directions.T @ gradient), value

    def arrived(self, moved: Float[Array, " moving"], fraction: Float[Array, ""]) -> Bool[Array, ""]:
        """Whether all is beyond its levels, with the loss as a fraction of its start."""
        return jnp.all(self.coordinates(moved) >= self.levels.coordinates) & (fraction <= self.levels.loss_fraction)


class Nodes(NamedTuple):
    """The solution of a batch of runs: `steps` accepted steps, each as the even nodes of its polynomial.

    Their number is the polynomial's degree: `collocation.STAGES`, or `EXPLICIT_DEGREE`.
    """

    time: Float[Array, "run nodes"]
    coordinates: Float[Array, "run nodes 19"]
    steps: Int[Array, " run"]
    stopped: Bool[Array, " run"]
    failed: Bool[Array, " run"]


@eqx.filter_jit
def collocate(run: Run, rtol: Float[Array, ""], max_steps: int) -> Nodes:
    """Solve by Radau collocation, all runs side by side."""
    start = jnp.zeros((len(run.horizon), run.directions.shape[1]))
    steps = radau.integrate(
        jax.jit(lambda loss, moved: run.flow(loss, moved)), run.arrived, run.loss, start, run.horizon, rtol, max_steps
    )
    fractions = jnp.arange(1, STAGES + 1) / STAGES
    times = steps.start[..., None] + steps.length[..., None] * fractions[None, None]
    flat = (len(start), -1)
    time = jnp.append(jnp.zeros_like(run.horizon)[:, None], times.reshape(flat), axis=1)
    moved = jnp.append(start[:, None], steps.values.reshape(*flat, start.shape[1]), axis=1)
    return Nodes(time, run.coordinates(moved), steps.taken, steps.stopped, steps.failed)


@eqx.filter_jit
def march(run: Run, rtol: Float[Array, ""], max_steps: int) -> Nodes:
    """Solve by an explicit method up to each run's horizon in s = t/horizon, all runs side by side.

    The ends of the interval and the first step are constants: were they arguments, diffrax would check them on the
    host, and such a program neither enters the compilation cache nor lowers for another platform.
    """

    def one(loss: ReducedLoss, horizon: Float[Array, ""]):
        first_loss = loss(run.start)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda s, moved, args: horizon * run.flow(loss, moved)[0]),
            diffrax.Tsit5(),
            t0=0.0,
            t1=1.0,
            dt0=_FIRST_STEP,
            y0=jnp.zeros(run.directions.shape[1]),
            saveat=diffrax.SaveAt(t0=True, steps=True, dense=True),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol / 100),
            event=diffrax.Event(
                lambda s, moved, args, **kwargs: run.arrived(moved, loss(run.coordinates(moved)) / first_loss)
            ),
            max_steps=max_steps,
            throw=False,
        )
        assert isinstance(solution.ts, jax.Array)
        # Beyond the steps taken the buffer holds inf; the nodes there repeat the start, and are cut off later.
        begin = jnp.where(jnp.isfinite(solution.ts), solution.ts, jnp.zeros_like(solution.ts))
        end = jnp.append(solution.ts[1:], jnp.inf)
        length = jnp.where(jnp.isfinite(end), end - begin, jnp.zeros_like(begin))
        fractions = jnp.arange(EXPLICIT_DEGREE) / EXPLICIT_DEGREE
        times = (begin[:, None] + fractions[None, :] * length[:, None]).reshape(-1)
        coordinates = run.coordinates(jax.vmap(solution.evaluate)(times))
        stopped = solution.result == diffrax.RESULTS.event_occurred
        failed = (solution.result != diffrax.RESULTS.successful) & ~stopped
        return Nodes(times * horizon, coordinates, solution.stats["num_accepted_steps"], stopped, failed)

    return jax.vmap(one)(run.loss, run.horizon)


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

        for block, nodes in zip(blocks, _side_by_side(solve, blocks), strict=True):
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


def _side_by_side(solve: Callable[[np.ndarray], _T], blocks: Sequence[np.ndarray]) -> Iterator[_T]:
    """Results in order, computed in threads while the earlier ones are made use of; the first one compiles alone."""
    if len(blocks) == 1:
        yield solve(blocks[0])
        return
    with ThreadPoolExecutor(min(len(blocks), os.cpu_count() or 1)) as threads:
        first = solve(blocks[0])
        later = [threads.submit(solve, block) for block in blocks[1:]]
        yield first
        yield from (each.result() for each in later)


@eqx.filter_jit
def _losses_at(losses: ReducedLoss, coordinates: Float[Array, "run nodes 19"]) -> Float[Array, "run nodes"]:
    return jax.lax.map(
        lambda at_node: jax.vmap(lambda loss, theta: loss(theta))(losses, at_node), jnp.swapaxes(coordinates, 0, 1)
    ).T


def trajectories(losses: ReducedLoss, nodes: Nodes, degree: int) -> list[Trajectory]:
    """The runs of a batch, each cut after its last step, or before what is not finite."""
    counts = np.asarray(nodes.steps)
    kept = min(power_of_two(degree * int(counts.max()) + 1), nodes.time.shape[1])
    values = np.asarray(_losses_at(losses, nodes.coordinates[:, :kept]))
    times, coordinates = np.asarray(nodes.time[:, :kept]), np.asarray(nodes.coordinates[:, :kept])
    runs = []
    for run, count in enumerate(counts):
        length = degree * int(count) + 1
        finite = np.isfinite(values[run, :length]) & np.isfinite(coordinates[run, :length]).all(axis=1)
        outcome = _outcome(nodes.stopped[run], nodes.failed[run])
        if not finite.all():
            outcome = "nonfinite"
            length = (max(int(np.argmin(finite)), 1) - 1) // degree * degree + 1
        runs.append(
            Trajectory(
                time=times[run, :length],
                coordinates=coordinates[run, :length],
                loss=values[run, :length],
                off_subspace=np.zeros(length),
                outcome=outcome,
                degree=degree,
            )
        )
    return runs


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
