"""Gradient flow of a reduced loss, and what flow time is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Bool, Float, Int

from induction_dynamics.dynamics.emergence import LOSS, check_target
from induction_dynamics.dynamics.trajectory import Trajectory, check_horizon
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import COORDINATES, metric
from induction_dynamics.reduced.circuit import CircuitLoss
from induction_dynamics.reduced.loss import ACTIVE, ReducedLoss, has_closed_form, reduced_loss
from induction_dynamics.task import Task, require_float64

RTOL = {"orthonormal": 1e-9, "isotropic": 1e-7}
"""Relative tolerance of a step; the absolute one is a hundredth of it. A sampled loss is not worth more."""

_DEGREE = 4  # of the polynomial kept of each step; the interpolants of both solvers have at most this degree
# Largest N for the explicit solver, by query. Its steps grow as N^2, so beyond that Newton's method is cheaper; with
# the query uniform that comes later, since a Hessian costs so much more.
_EXPLICIT_UP_TO = {"last": 96, "uniform": 128}
_EXPLICIT_STEPS = 1 << 18  # as many as fit in memory; about one for each unit of flow time is needed
_IMPLICIT_STEPS = 1 << 13
_FIRST_STEP = 1e-14  # as a fraction of the run; below 2N, the shortest time scale, for N up to 1e12; it grows at once


def flow_time_of_steps(steps: float, learning_rate: float, embedding_dim: int) -> float:
    r"""Flow time that gradient descent on the full weights has advanced, t = steps * eta / D.

    Time units. Gradient flow on the weights, dW/dt' = -grad_W loss, moves the coordinates by
    dtheta/dt' = -(1/D) G^-1 d loss/d theta, since each basis matrix has squared norm D. Flow time is t = t'/D, so that
    the reduced flow is dtheta/dt = -G^-1 d loss/d theta whatever D is (G = I for M = J). Gradient descent with learning
    rate eta advances t' by eta a step. Flow time is neither steps, nor samples (batch size times steps), nor tokens
    (2N + 1 times samples). The factor 1/2 in the loss is part of the definition.

    Args:
        steps: number of steps.
        learning_rate: eta, of the full weights.
        embedding_dim: D.

    Example:
        >>> from induction_dynamics import flow_time_of_steps
        >>> flow_time_of_steps(1000.0, learning_rate=6.0, embedding_dim=24)
        250.0
    """
    return steps * learning_rate / embedding_dim


def learning_rate_of_step(step: float, embedding_dim: int) -> float:
    """Learning rate eta whose every step advances flow time by `step`: eta = step * D (see `flow_time_of_steps`)."""
    return step * embedding_dim


def solve_flow(
    task: Task,
    model: str = "subspace",
    *,
    horizon: float = 12.0,
    start: Mapping[str, float] | None = None,
    active: Sequence[str] | None = None,
    stop: Sequence[tuple[str, float]] = (),
    samples: int = 2048,
    seed: int = 0,
) -> Trajectory:
    r"""Integrate the gradient flow of a reduced model, dtheta/dt = -G^-1 d loss/d theta.

    G is the Gram matrix of the active coordinates' basis (`pseudo_parameters.metric`), the identity at 90 degrees: held
    coordinates make a constrained flow, whose metric is that of the coordinates left. Solved in rescaled time by an
    L-stable implicit method (Kvaerno5 with Newton's method), or by Tsit5 where the loss is not the closed form of the
    circuit and N is at most about 100, in float64.

    Args:
        task: the task, with its context length N.
        model: `circuit` or `subspace`; only says which coordinates are active by default, and which form of the loss
            is used.
        horizon: flow time at which the run is given up, in units of N^2.
        start: coordinates that do not start from zero, and their values.
        active: coordinates that move; all others are held at their start. By default those of the model.
        stop: measures and thresholds, as in `emergence.crossing_targets`; the run ends with the first step after which
            all of them are beyond their thresholds. (One that has fallen back by then keeps the run going.)
        samples: number of Gram matrices in the loss (isotropic inputs only).
        seed: of the Gram matrices (isotropic inputs only).

    Returns:
        The run, as the nodes of the solver's own interpolant; its outcome is one of `trajectory.OUTCOMES`.

    Raises:
        ArgumentError: a value out of range.
        ValueError: jax_enable_x64 is off.

    Example:
        >>> import jax
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> run = idyn.solve_flow(idyn.Task(context_length=16), "circuit", stop=[("loss", 0.5)])
        >>> run.outcome, float(run.loss[0]), bool(run.loss[-1] < 0.25)
        ('emerged', 0.5, True)
        >>> print(f"{run.time[-1] / 16**2:.1f} N^2")  # at the end of the step in which the loss was halved
        4.9 N^2
    """
    return solve_flows(
        [task], model, horizon=horizon, start=start, active=active, stop=stop, samples=samples, seed=seed
    )[0]


def solve_flows(
    tasks: Sequence[Task],
    model: str = "subspace",
    *,
    horizon: float = 12.0,
    start: Mapping[str, float] | None = None,
    active: Sequence[str] | None = None,
    stop: Sequence[tuple[str, float]] = (),
    samples: int = 2048,
    seed: int = 0,
) -> list[Trajectory]:
    """`solve_flow` for several tasks side by side, which differ in nothing but N and D.

    Side by side each takes as many steps as the slowest, and arrays are as long as the longest's: give it tasks of
    like N (`sweep` does).

    Args:
        tasks: the tasks.
        model: see `solve_flow`, as for all that follow.
        horizon: in units of each task's own N^2.
        start: the same for all.
        active: the same for all.
        stop: the same for all.
        samples: the same for all.
        seed: the same for all.

    Raises:
        ArgumentError: see `solve_flow`; also tasks that differ in more than N and D, or isotropic ones that differ.
        ValueError: jax_enable_x64 is off.
    """
    require_float64("Reduced flows need")
    names = tuple(active) if active is not None else ACTIVE.get(model, ())
    _check(tasks, model, horizon, names, start or {})
    for target in stop:
        check_target(*target)
    longest = max(task.context_length for task in tasks)
    padded = padded_length(model, longest)
    losses = [reduced_loss(task, model, samples=samples, seed=seed, padded_length=padded) for task in tasks]
    first = np.array([(start or {}).get(name, 0.0) for name in COORDINATES])
    places = tuple(sorted(COORDINATES.index(name) for name in set(names)))
    gram = metric(tasks[0].rotation)[np.ix_(places, places)]
    # From the padded length, so that it does not depend on the companions.
    steps = _power_of_two(int(min(horizon * padded**2 + 1024, _EXPLICIT_STEPS + 1)))
    short = longest <= _EXPLICIT_UP_TO[tasks[0].query] and steps <= _EXPLICIT_STEPS
    explicit = short and not isinstance(losses[0], CircuitLoss)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *losses)
    nodes = _integrate(
        stacked,
        jnp.asarray([horizon * float(task.context_length) ** 2 for task in tasks]),
        jnp.asarray(first),
        jnp.asarray(np.linalg.inv(gram)),
        _levels(stop),
        places,
        explicit,
        steps if explicit else _IMPLICIT_STEPS,
        RTOL[tasks[0].inputs],
    )
    return _trajectories(stacked, nodes)


def padded_length(model: str, context_length: int) -> int:
    """Number of pairs that a loss's arrays are padded to: few distinct lengths, so few compilations.

    Args:
        model: `circuit` or `subspace`.
        context_length: N.
    """
    length = 16 if model == "subspace" else 64
    while length < context_length:
        length *= 2 if model == "subspace" else 4
    return length


class _Levels(NamedTuple):
    """What a run waits for: the highest threshold asked of each coordinate, the lowest fraction of the loss."""

    coordinates: Float[Array, "19"]
    loss_fraction: Float[Array, ""]


class _Nodes(NamedTuple):
    """The solution of a batch of runs: `steps` accepted steps, each as the nodes of its interpolant."""

    time: Float[Array, "run nodes"]
    coordinates: Float[Array, "run nodes 19"]
    steps: Int[Array, " run"]
    stopped: Bool[Array, " run"]
    failed: Bool[Array, " run"]


class _Newton(optx.Newton):
    """Newton's method that ends when its update falls under the tolerance.

    Optimistix's own tests of convergence compare successive updates, which near rounding are noise: the step is then
    rejected though the stage is solved. Here that made the solver take up to twenty times as many steps.
    """

    def terminate(self, fn, y, args, options, state, tags):
        """Whether to stop, and with which result."""
        del fn, y, args, options, tags
        begun = state.step >= 1
        lost = begun & ~jnp.isfinite(state.diffsize)
        done = begun & (state.diffsize < self.kappa)
        return done | lost, optx.RESULTS.where(lost, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful)


class _StepwiseTerm(diffrax.ODETerm):
    """An ODE whose implicit stages are solved for h f and not for f.

    The solver's tolerance then applies to what a stage adds to the coordinates. Applied to f, which the fast directions
    magnify by their rate, it asks for digits that rounding does not leave (from N = 1e5 on no step is accepted).
    """

    def is_vf_expensive(self, t0, t1, y, args) -> bool:
        """True selects solving in h f."""
        return True


@eqx.filter_jit
def _integrate(
    losses: ReducedLoss,
    horizons: Float[Array, " run"],
    start: Float[Array, "19"],
    inverse_metric: Float[Array, "active active"],
    levels: _Levels,
    places: tuple[int, ...],
    explicit: bool,
    max_steps: int,
    rtol: float,
) -> _Nodes:
    """Solve up to each run's horizon in s = t/horizon, all runs side by side.

    The ends of the interval and the first step are constants: were they arguments, diffrax would check them on the
    host, and such a program neither enters the compilation cache nor lowers for another platform.
    """
    index = np.array(places)

    def one(loss: ReducedLoss, horizon: Float[Array, ""]):
        initial_loss = loss(start)

        def velocity(s, moving, args):
            coordinates = start.at[index].set(moving)
            return -horizon * (inverse_metric @ jax.grad(loss)(coordinates)[index])

        def arrived(s, moving, args, **kwargs):
            coordinates = start.at[index].set(moving)
            high = jnp.all(coordinates >= levels.coordinates)
            return high & (loss(coordinates) <= levels.loss_fraction * initial_loss)

        if explicit:
            solver, term = diffrax.Tsit5(), diffrax.ODETerm(velocity)
        else:
            newton = _Newton(rtol=rtol, atol=rtol / 100, kappa=0.1, cauchy_termination=False)
            solver, term = diffrax.Kvaerno5(root_finder=newton), _StepwiseTerm(velocity)
        solution = diffrax.diffeqsolve(
            term,
            solver,
            t0=0.0,
            t1=1.0,
            dt0=_FIRST_STEP,
            y0=start[index],
            saveat=diffrax.SaveAt(t0=True, steps=True, dense=True),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol / 100),
            event=diffrax.Event(arrived),
            max_steps=max_steps,
            throw=False,
        )
        assert isinstance(solution.ts, jax.Array)
        # Beyond the steps taken the buffer holds inf; the nodes there repeat the start, and are cut off later.
        begin = jnp.where(jnp.isfinite(solution.ts), solution.ts, jnp.zeros_like(solution.ts))
        end = jnp.append(solution.ts[1:], jnp.inf)
        length = jnp.where(jnp.isfinite(end), end - begin, jnp.zeros_like(begin))
        fractions = jnp.arange(_DEGREE) / _DEGREE
        times = (begin[:, None] + fractions[None, :] * length[:, None]).reshape(-1)
        moving = jax.vmap(solution.evaluate)(times)
        coordinates = jnp.broadcast_to(start, (len(times), len(start))).at[:, index].set(moving)
        stopped = solution.result == diffrax.RESULTS.event_occurred
        failed = (solution.result != diffrax.RESULTS.successful) & ~stopped
        steps = solution.stats["num_accepted_steps"]
        return _Nodes(times * horizon, coordinates, steps, stopped, failed)

    return jax.vmap(one)(losses, horizons)


@eqx.filter_jit
def _losses_at(losses: ReducedLoss, coordinates: Float[Array, "run nodes 19"]) -> Float[Array, "run nodes"]:
    return jax.lax.map(
        lambda at_node: jax.vmap(lambda loss, theta: loss(theta))(losses, at_node), jnp.swapaxes(coordinates, 0, 1)
    ).T


def _trajectories(losses: ReducedLoss, nodes: _Nodes) -> list[Trajectory]:
    counts = np.asarray(nodes.steps)
    kept = min(_power_of_two(_DEGREE * int(counts.max()) + 1), nodes.time.shape[1])
    values = np.asarray(_losses_at(losses, nodes.coordinates[:, :kept]))
    times, coordinates = np.asarray(nodes.time[:, :kept]), np.asarray(nodes.coordinates[:, :kept])
    runs = []
    for run, count in enumerate(counts):
        length = _DEGREE * int(count) + 1
        finite = np.isfinite(values[run, :length]) & np.isfinite(coordinates[run, :length]).all(axis=1)
        outcome = "emerged" if nodes.stopped[run] else "solver_failed" if nodes.failed[run] else "horizon_reached"
        if not finite.all():
            outcome = "nonfinite"
            length = (max(int(np.argmin(finite)), 1) - 1) // _DEGREE * _DEGREE + 1
        runs.append(
            Trajectory(
                time=times[run, :length],
                coordinates=coordinates[run, :length],
                loss=values[run, :length],
                off_subspace=np.zeros(length),
                outcome=outcome,
                degree=_DEGREE,
            )
        )
    return runs


def _levels(stop: Sequence[tuple[str, float]]) -> _Levels:
    # A run that waits for nothing goes on to its horizon.
    highest = np.full(len(COORDINATES), -np.inf if stop else np.inf)
    lowest = np.inf
    for measure, threshold in stop:
        if measure == LOSS:
            lowest = min(lowest, threshold)
        else:
            place = COORDINATES.index(measure)
            highest[place] = max(highest[place], threshold)
    return _Levels(jnp.asarray(highest), jnp.asarray(lowest))


def _check(
    tasks: Sequence[Task], model: str, horizon: float, active: tuple[str, ...], start: Mapping[str, float]
) -> None:
    if model not in ACTIVE:
        raise ArgumentError("model", model, f"one of {', '.join(ACTIVE)}")
    check_horizon(horizon)
    for argument, names in (("active", active), ("start", tuple(start))):
        for name in names:
            if name not in COORDINATES:
                raise ArgumentError(argument, name, f"coordinates, of {', '.join(COORDINATES)}")
            if argument == "start" and not np.isfinite(start[name]):
                raise ArgumentError(argument, start[name], "finite")
            if model == "circuit" and name not in ACTIVE["circuit"]:
                raise ArgumentError(argument, name, f"of {', '.join(ACTIVE['circuit'])} for the model circuit")
    if not active:
        raise ArgumentError("active", active, "at least one coordinate")
    kinds = {(task.inputs, task.query, task.rotation) for task in tasks}
    if len(kinds) != 1:
        raise ArgumentError("tasks", kinds, "alike in inputs, query and rotation")
    if not has_closed_form(tasks[0], model) and len({task.context_length for task in tasks}) > 1:
        raise ArgumentError("tasks", "several lengths", "of one length for isotropic inputs or another rotation")


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 1).bit_length()
