"""Gradient flow of a reduced loss, and what flow time is."""

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from induction_dynamics.dynamics.collocation import STAGES
from induction_dynamics.dynamics.emergence import check_target
from induction_dynamics.dynamics.holds import Hold, check_holds
from induction_dynamics.dynamics.pieces import Piece, begun, solve_in_pieces
from induction_dynamics.dynamics.solvers import (
    Nodes,
    Run,
    collocate,
    follow,
    levels_of,
    power_of_two,
    solve_each,
)
from induction_dynamics.dynamics.trajectory import Trajectory, check_horizon
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES, metric
from induction_dynamics.reduced.loss import (
    ACTIVE,
    ReducedLoss,
    has_closed_form,
    is_sampled,
    number_of_places,
    reduced_loss,
)
from induction_dynamics.task import Task, require_float64

ACCURACY = 1e-7
"""Relative error of emergence times that is asked for unless another is."""

_ACCURACIES = (1e-10, 1e-2)  # below, rounding of the gradients; above, a step may pass over what is to be seen
_TIGHTER = {"collocation": 0.3, "explicit": 0.01, "sampled": 1.0}  # a step's tolerance, as a fraction of the accuracy
_EXPLICIT_STEPS = 1 << 18  # as many as fit in memory; about one for each unit of flow time is needed
_IMPLICIT_STEPS = 1 << 11


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


def check_accuracy(accuracy: float) -> None:
    """Refuse an accuracy that no solver gives.

    Args:
        accuracy: relative, of emergence times.

    Raises:
        ArgumentError: it is out of range.
    """
    finest, coarsest = _ACCURACIES
    if not finest <= accuracy <= coarsest:
        raise ArgumentError("accuracy", accuracy, f"from {finest:g} to {coarsest:g}")


def solve_flow(
    task: Task,
    model: str = "subspace",
    *,
    horizon: float = 12.0,
    start: Mapping[str, float] | None = None,
    active: Sequence[str] | None = None,
    hold: Sequence[Hold] = (),
    stop: Sequence[tuple[str, float]] = (),
    samples: int = 2048,
    seed: int = 0,
    accuracy: float = ACCURACY,
) -> Trajectory:
    r"""Integrate the gradient flow of a reduced model, dtheta/dt = -G^-1 d loss/d theta.

    G is the Gram matrix of the active coordinates' basis (`pseudo_parameters.metric`), the identity at 90 degrees: held
    coordinates make a constrained flow, whose metric is that of the coordinates left. A loss in closed form is stiff,
    relaxing in 2N while the run takes N^2, and is solved by Radau collocation (`dynamics.radau`; from zero the circuit
    with the query last by a form of its own, `dynamics.circuit_flow`); one that is a mean over Gram matrices by Tsit5
    (diffrax), whose steps are cheaper. In float64.

    Args:
        task: the task, with its context length N.
        model: `circuit` or `subspace`; only says which coordinates are active by default, and which form of the loss
            is used.
        horizon: flow time at which the run is given up, in units of N^2.
        start: coordinates that do not start from zero, and their values.
        active: coordinates that move; all others are held at their start. By default those of the model.
        hold: interventions, with `since` in flow time; one at or after the horizon does nothing. From then on the
            coordinate is constant, and those left, m, follow dtheta_m/dt = -(G_mm)^-1 d loss/d theta_m. Where it has
            another value before, it alone jumps: a group of records without length, by which a threshold on the way is
            crossed at `since`. One with `since` 0 is a start, and the run has no jump.
        stop: measures and thresholds, as in `emergence.crossing_targets`; the run ends with the first step after which
            all of them are beyond their thresholds. (One that has fallen back by then keeps the run going.) A jump is
            such a step; fractions of the loss are always those of the loss at t = 0.
        samples: number of Gram matrices in the loss (isotropic inputs only).
        seed: of the Gram matrices (isotropic inputs only).
        accuracy: relative error of emergence times at thresholds from 0.01 to 0.99 that the solver aims at. (With
            sampled Gram matrices it is that of each step; the samples' own scatter is far larger.)

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
        [task],
        model,
        horizon=horizon,
        start=start,
        active=active,
        hold=hold,
        stop=stop,
        samples=samples,
        seed=seed,
        accuracy=accuracy,
    )[0]


def solve_flows(
    tasks: Sequence[Task],
    model: str = "subspace",
    *,
    horizon: float = 12.0,
    start: Mapping[str, float] | None = None,
    active: Sequence[str] | None = None,
    hold: Sequence[Hold] = (),
    stop: Sequence[tuple[str, float]] = (),
    samples: int = 2048,
    seed: int = 0,
    accuracy: float = ACCURACY,
) -> list[Trajectory]:
    """`solve_flow` for several tasks that differ in nothing but N and D.

    Those whose loss is in closed form are solved as many at once as there are cores.

    Args:
        tasks: the tasks.
        model: see `solve_flow`, as for all that follow.
        horizon: in units of each task's own N^2.
        start: the same for all.
        active: the same for all.
        hold: the same for all, `since` in flow time; a task with a hold that begins after t = 0 is solved by itself.
        stop: the same for all.
        samples: the same for all.
        seed: the same for all.
        accuracy: the same for all.

    Raises:
        ArgumentError: see `solve_flow`; also tasks that differ in more than N and D.
        ValueError: jax_enable_x64 is off.
    """
    require_float64("Reduced flows need")
    names = tuple(active) if active is not None else ACTIVE.get(model, ())
    _check(tasks, model, horizon, names, start or {}, accuracy)
    holds = check_holds(hold, ACTIVE[model])
    for target in stop:
        check_target(*target)
    closed = has_closed_form(tasks[0], model)
    given = np.array([(start or {}).get(name, 0.0) for name in COORDINATES], float)
    state, held = begun(holds, 0.0, given)
    asked = bool(start) or any(one.since == 0 and one.value is not None for one in holds)
    whole = Piece(horizon, state if asked else None, held, levels_of(stop))
    setting = _Setting(
        names=frozenset(names) - held,
        model=model,
        closed=closed,
        horizon=horizon,
        accuracy=accuracy,
        # The last one alone is kept: Gram matrices of many tasks would fill the memory.
        loss_of=functools.lru_cache(1)(lambda task: reduced_loss(task, model, samples=samples, seed=seed)),
    )
    scales = [float(task.context_length) ** 2 for task in tasks]
    apart = [any(0 < one.since < horizon * scale for one in holds) for scale in scales]
    together = [task for task, alone in zip(tasks, apart, strict=True) if not alone]
    solved = iter(_solve(setting, together, whole) if together else ())
    return [
        _solve_alone(setting, task, whole, holds, scale) if alone else next(solved)
        for task, scale, alone in zip(tasks, scales, apart, strict=True)
    ]


class _Setting(NamedTuple):
    """What all runs and all their pieces share.

    Args:
        names: coordinates that move at first.
        model: `circuit` or `subspace`.
        closed: whether the loss is in closed form.
        horizon: of the runs, in units of N^2.
        accuracy: see `solve_flow`.
        loss_of: the loss on a task.
    """

    names: frozenset[str]
    model: str
    closed: bool
    horizon: float
    accuracy: float
    loss_of: Callable[[Task], ReducedLoss]


def _solve_alone(setting: _Setting, task: Task, whole: Piece, holds: Sequence[Hold], scale: float) -> Trajectory:
    """A run with holds that begin on its way."""
    loss = eqx.filter_jit(setting.loss_of(task))
    return solve_in_pieces(
        lambda piece: _solve(setting, [task], piece)[0],
        lambda theta: float(loss(jnp.asarray(theta))),
        holds,
        whole,
        scale,
    )


def _solve(setting: _Setting, tasks: Sequence[Task], piece: Piece) -> list[Trajectory]:
    """A piece of several runs, the circuit with the query last by its own form if it starts from zero."""
    names = setting.names - piece.held
    runs: dict[int, Trajectory] = {}
    plain = setting.closed and tasks[0].query == "last" and tasks[0].copies == 1
    if plain and piece.start is None and names == set(CIRCUIT):
        # But for a single pair, which has no earlier token, so that alpha_3 has no gradient.
        several = [place for place, task in enumerate(tasks) if task.context_length > 1]
        followed = follow([tasks[place] for place in several], piece.horizon, piece.levels, setting.accuracy)
        runs.update(zip(several, followed, strict=True))
    others = [place for place in range(len(tasks)) if place not in runs]
    if others:
        runs.update(zip(others, _integrate(setting, [tasks[place] for place in others], piece, names), strict=True))
    return [runs[place] for place in range(len(tasks))]


def _integrate(setting: _Setting, tasks: Sequence[Task], piece: Piece, names: frozenset[str]) -> list[Trajectory]:
    """By collocation what is in closed form, or too long for explicit steps; all pieces of a run by the same."""
    all_of_them = _directions(setting.loss_of(tasks[0]), tasks[0].rotation, ACTIVE[setting.model])
    directions = _directions(setting.loss_of(tasks[0]), tasks[0].rotation, names)
    # Where less moves there are columns of zeros, so that one program, compiled once, solves whatever is held.
    padded = np.pad(directions, ((0, 0), (0, all_of_them.shape[1] - directions.shape[1])))
    # Explicit steps have a mean square of errors, in which zeros count.
    moving = max(directions.shape[1], 1) / all_of_them.shape[1]

    def solve(task: Task) -> tuple[Nodes, int]:
        run = Run(
            loss=setting.loss_of(task),
            horizon=jnp.asarray(piece.horizon * float(task.context_length) ** 2),
            start=jnp.zeros(len(COORDINATES)) if piece.start is None else jnp.asarray(piece.start),
            directions=jnp.asarray(padded),
            levels=piece.levels,
        )
        steps = min(setting.horizon * task.context_length**2 + 1024, _EXPLICIT_STEPS + 1)
        if setting.closed or steps > _EXPLICIT_STEPS:
            return collocate(run, jnp.asarray(_TIGHTER["collocation"] * setting.accuracy), _IMPLICIT_STEPS), STAGES
        from induction_dynamics.dynamics import explicit

        kind = "sampled" if is_sampled(task, setting.model) else "explicit"
        tolerance = _TIGHTER[kind] * setting.accuracy * math.sqrt(moving)
        return explicit.march(run, jnp.asarray(tolerance), power_of_two(int(steps))), explicit.DEGREE

    return solve_each(solve, tasks, (lambda task: number_of_places(task, setting.model)) if setting.closed else None)


def _directions(loss: ReducedLoss, rotation: float, names: Collection[str]) -> Float[np.ndarray, "19 moving"]:
    """B with B B^T = G^-1 on the coordinates that move; at right angles no more than the loss can tell apart."""
    moving = sorted(COORDINATES.index(name) for name in set(names))
    gram = metric(rotation)[np.ix_(moving, moving)]
    directions = np.zeros((len(COORDINATES), len(moving)))
    if not np.array_equal(gram, np.eye(len(moving))):
        directions[moving] = np.linalg.cholesky(np.linalg.inv(gram))
        return directions
    # Each coordinate enters one combination at most.
    held = [place for place in range(len(COORDINATES)) if place not in moving]
    combined = loss.combinations.T.copy()
    combined[held] = 0
    sizes = np.linalg.norm(combined, axis=0)
    return combined[:, sizes > 0] / sizes[sizes > 0]


def _check(
    tasks: Sequence[Task],
    model: str,
    horizon: float,
    active: tuple[str, ...],
    start: Mapping[str, float],
    accuracy: float,
) -> None:
    if model not in ACTIVE:
        raise ArgumentError("model", model, f"one of {', '.join(ACTIVE)}")
    check_horizon(horizon)
    check_accuracy(accuracy)
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
    kinds = {(task.inputs, task.query, task.rotation, task.copies) for task in tasks}
    if len(kinds) != 1:
        raise ArgumentError("tasks", kinds, "alike in inputs, query, rotation and copies")
