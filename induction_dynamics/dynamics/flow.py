"""Gradient flow of a reduced loss, and what flow time is."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from induction_dynamics.dynamics.collocation import STAGES
from induction_dynamics.dynamics.emergence import check_target
from induction_dynamics.dynamics.solvers import (
    EXPLICIT_DEGREE,
    Run,
    collocate,
    follow,
    levels_of,
    march,
    power_of_two,
    trajectories,
)
from induction_dynamics.dynamics.trajectory import Trajectory, check_horizon
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES, metric
from induction_dynamics.reduced.loss import ACTIVE, ReducedLoss, has_closed_form, number_of_places, reduced_loss
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
        stop: measures and thresholds, as in `emergence.crossing_targets`; the run ends with the first step after which
            all of them are beyond their thresholds. (One that has fallen back by then keeps the run going.)
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
    stop: Sequence[tuple[str, float]] = (),
    samples: int = 2048,
    seed: int = 0,
    accuracy: float = ACCURACY,
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
        accuracy: the same for all.

    Raises:
        ArgumentError: see `solve_flow`; also tasks that differ in more than N and D, or isotropic ones that differ.
        ValueError: jax_enable_x64 is off.
    """
    require_float64("Reduced flows need")
    names = tuple(active) if active is not None else ACTIVE.get(model, ())
    _check(tasks, model, horizon, names, start or {}, accuracy)
    for target in stop:
        check_target(*target)
    closed = has_closed_form(tasks[0], model)
    if closed and len({number_of_places(task, model) for task in tasks}) > 1:
        raise ArgumentError("tasks", "several sizes", "alike in `reduced.loss.number_of_places`")
    levels = levels_of(stop)
    runs: dict[int, Trajectory] = {}
    if closed and tasks[0].query == "last" and not start and set(names) == set(CIRCUIT):
        # But for a single pair, which has no earlier token, so that alpha_3 has no gradient.
        several = [place for place, task in enumerate(tasks) if task.context_length > 1]
        followed = follow([tasks[place] for place in several], horizon, levels, accuracy)
        runs.update(zip(several, followed, strict=True))
    others = [place for place in range(len(tasks)) if place not in runs]
    if others:
        left = [tasks[place] for place in others]
        losses = [reduced_loss(task, model, samples=samples, seed=seed) for task in left]
        run = Run(
            loss=jax.tree.map(lambda *leaves: jnp.stack(leaves), *losses),
            horizon=jnp.asarray([horizon * float(task.context_length) ** 2 for task in left]),
            start=jnp.asarray([(start or {}).get(name, 0.0) for name in COORDINATES]),
            directions=jnp.asarray(_directions(losses[0], left[0].rotation, names)),
            levels=levels,
        )
        runs.update(zip(others, _solve(run, left, closed, horizon, accuracy), strict=True))
    return [runs[place] for place in range(len(tasks))]


def _solve(run: Run, tasks: Sequence[Task], closed: bool, horizon: float, accuracy: float) -> list[Trajectory]:
    """By collocation what is in closed form, or too long for explicit steps."""
    steps = min(horizon * max(task.context_length for task in tasks) ** 2 + 1024, _EXPLICIT_STEPS + 1)
    if closed or steps > _EXPLICIT_STEPS:
        nodes = collocate(run, jnp.asarray(_TIGHTER["collocation"] * accuracy), _IMPLICIT_STEPS)
        return trajectories(run.loss, nodes, STAGES)
    kind = "sampled" if tasks[0].inputs == "isotropic" else "explicit"
    nodes = march(run, jnp.asarray(_TIGHTER[kind] * accuracy), power_of_two(int(steps)))
    return trajectories(run.loss, nodes, EXPLICIT_DEGREE)


def _directions(loss: ReducedLoss, rotation: float, names: Sequence[str]) -> Float[np.ndarray, "19 moving"]:
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
    kinds = {(task.inputs, task.query, task.rotation) for task in tasks}
    if len(kinds) != 1:
        raise ArgumentError("tasks", kinds, "alike in inputs, query and rotation")
    if not has_closed_form(tasks[0], model) and len({task.context_length for task in tasks}) > 1:
        raise ArgumentError("tasks", "several lengths", "of one length for isotropic inputs or another rotation")
