"""Emergence times over many points: which are computed together, and the table they end in."""

import dataclasses
import operator
from collections.abc import Callable, Iterator, Sequence

from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES, Emergence, crossing_targets, crossings_of_all
from induction_dynamics.dynamics.flow import ACCURACY, check_accuracy, solve_flows
from induction_dynamics.dynamics.trajectory import Trajectory, check_horizon
from induction_dynamics.errors import ArgumentError
from induction_dynamics.reduced.loss import ACTIVE, check_length, has_closed_form, number_of_places
from induction_dynamics.reduced.mesh import EXACT
from induction_dynamics.task import Task
from induction_dynamics.training.gradient_descent import check_training, train

MODELS = (*ACTIVE, "full")

Progress = Callable[[int, int, str], None]
"""Called from the host between batches: points done, points in all, and what is being computed."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of one model on one task.

    Args:
        task: the task, with its context length N.
        model: `circuit` or `subspace` (reduced flows) or `full` (gradient descent on all 28 D^2 weights).
        horizon: flow time at which the run is given up, in units of N^2.
        seed: seed of whatever is random; None where nothing is (a reduced flow on orthonormal inputs).
        batch_size: sequences per training step (`full` only, else None).
        step: flow time per training step (`full` only, else None).
        samples: Gram matrices in the loss (reduced flow on isotropic inputs only, else None).
        accuracy: relative error of emergence times that the solver of a reduced flow aims at (`solve_flow`).

    What has no effect on the model is set to None (of `accuracy`, to its default), so that points that run alike are
    equal.

    Raises:
        ArgumentError: an unknown model, a value out of range, or a `full` one without its seed, batch size and step.

    Example:
        >>> from induction_dynamics import Point, Task
        >>> reduced = Point(Task(context_length=8), "subspace")
        >>> trained = Point(Task(context_length=8), "full", seed=0, batch_size=256, step=0.25)
        >>> reduced.horizon, trained.horizon, reduced.seed
        (12.0, 12.0, None)
    """

    task: Task
    model: str
    horizon: float = 12.0
    seed: int | None = None
    batch_size: int | None = None
    step: float | None = None
    samples: int | None = None
    accuracy: float = ACCURACY

    def __post_init__(self):
        if self.model not in MODELS:
            raise ArgumentError("model", self.model, f"one of {', '.join(MODELS)}")
        check_horizon(self.horizon)
        check_accuracy(self.accuracy)
        full = self.model == "full"
        sampled = not full and self.task.inputs == "isotropic"
        needed = ("seed", "batch_size", "step") if full else ("seed", "samples") if sampled else ()
        for name in ("seed", "batch_size", "step", "samples"):
            value = getattr(self, name)
            if name not in needed:
                object.__setattr__(self, name, None)
            elif value is None:
                raise ArgumentError(name, None, f"given for the model {self.model} on {self.task.inputs} inputs")
            elif name != "step":
                object.__setattr__(self, name, _whole(name, value))
        for name in ("horizon", "accuracy", "step"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        if full:
            assert self.batch_size is not None and self.step is not None
            object.__setattr__(self, "accuracy", ACCURACY)
            check_training(self.task, self.horizon, self.batch_size, self.step)
        else:
            check_length(self.task, self.model)


def _whole(name: str, value: object) -> int:
    """A whole number of Python, NumPy or JAX that the argument takes, as Python's."""
    low, high = (0, 2**32 - 1) if name == "seed" else (1, 10**9)
    try:
        number = low - 1 if isinstance(value, bool) else operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        number = low - 1
    if not low <= number <= high:
        raise ArgumentError(name, value, f"a whole number from {low} to {high}")
    return number


@dataclasses.dataclass(frozen=True)
class Row:
    """One emergence time: a row of the table that every command answers with (README, "The document").

    The fields of the point, then what emerged: `time` is in `time_unit`, or None with the reason in `outcome`;
    `sustained` says whether the measure stayed beyond its threshold for the next 1 % of the run.
    """

    context_length: int
    embedding_dim: int
    inputs: str
    query: str
    rotation: float
    model: str
    measure: str
    threshold: float
    time: float | None
    time_unit: str
    outcome: str
    sustained: bool | None
    seed: int | None
    batch_size: int | None
    step: float | None
    samples: int | None
    horizon: float
    accuracy: float | None

    @classmethod
    def of(cls, point: Point, crossings: Sequence[Emergence]) -> "list[Row]":
        """The rows of the crossings in the run of one point."""
        own = {**vars(point.task), **vars(point), "time_unit": "flow"}
        del own["task"]
        if point.model == "full":
            own["accuracy"] = None
        return [cls(**own, **vars(crossing)) for crossing in crossings]


def sweep(
    points: Sequence[Point],
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    thresholds: Sequence[float] = (0.5,),
    loss_fractions: Sequence[float] = (0.5,),
    on_progress: Progress | None = None,
    on_run: Callable[[Trajectory], None] | None = None,
) -> list[Row]:
    """Emergence times of all points, each point's from one run that stops once every crossing has happened.

    Args:
        points: what to run.
        measures: coordinate names or `loss`.
        thresholds: for the coordinates, finite and above 0.
        loss_fractions: for the loss, strictly between 0 and 1.
        on_progress: see `Progress`.
        on_run: called with each point's run as it is done, in any order; nothing else keeps it.

    Returns:
        A row for each point, measure and threshold, in the order of the points.

    Raises:
        ArgumentError: a value out of range. A run that fails is no exception but the outcome of its rows.

    Example:
        >>> import jax
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> points = [idyn.Point(idyn.Task(n), "circuit") for n in (16, 64)]
        >>> for row in idyn.sweep(points, measures=["beta_2", "loss"]):
        ...     print(row.context_length, row.measure, f"{row.time / row.context_length**2:.4f} N^2")
        16 beta_2 2.0218 N^2
        16 loss 4.8887 N^2
        64 beta_2 1.9446 N^2
        64 loss 4.9322 N^2
    """
    targets = crossing_targets(measures, thresholds, loss_fractions)
    rows: dict[int, list[Row]] = {}
    for places, trajectories in _run_batches(points, targets, on_progress):
        for trajectory in trajectories:
            if on_run is not None:
                on_run(trajectory)
        for place, crossings in zip(places, crossings_of_all(trajectories, targets), strict=True):
            rows[place] = Row.of(points[place], crossings)
    return [row for place in range(len(points)) for row in rows[place]]


def run_points(
    points: Sequence[Point], stop: Sequence[tuple[str, float]] = (), on_progress: Progress | None = None
) -> Iterator[tuple[int, Trajectory]]:
    """Run all points, those of like size side by side, and yield each one's place and trajectory as it is done.

    Args:
        points: what to run.
        stop: measures and thresholds after whose crossing a run ends; without any it goes on to its horizon.
        on_progress: see `Progress`.
    """
    for places, trajectories in _run_batches(points, stop, on_progress):
        yield from zip(places, trajectories, strict=True)


def _run_batches(
    points: Sequence[Point], stop: Sequence[tuple[str, float]], on_progress: Progress | None
) -> Iterator[tuple[list[int], list[Trajectory]]]:
    tell = on_progress or (lambda done, total, words: None)
    done = 0
    for places in batches(points):
        batch = [points[place] for place in places]
        words = describe_batch(batch)
        tell(done, len(points), words)
        yield places, run_batch(batch, stop, lambda more, at=done, words=words: tell(at, len(points), words + more))
        done += len(places)
        tell(done, len(points), words)


def run_batch(
    points: Sequence[Point], stop: Sequence[tuple[str, float]], tell: Callable[[str], None] | None = None
) -> list[Trajectory]:
    """The runs of one batch, side by side.

    The arrays have the same shapes however many points there are, so that the digits of a point's run do not depend on
    its companions.

    Args:
        points: as put together by `batches`.
        stop: measures and thresholds after whose crossing a run ends; without any it goes on to its horizon.
        tell: called now and then from within a training with words on how far it is.
    """
    if points[0].model == "full":
        return [_train(points[0], stop, tell or (lambda words: None))]
    return _solve(points, stop)


def _train(point: Point, stop: Sequence[tuple[str, float]], tell: Callable[[str], None]) -> Trajectory:
    assert point.seed is not None and point.batch_size is not None and point.step is not None
    return train(
        point.task,
        horizon=point.horizon,
        batch_size=point.batch_size,
        step=point.step,
        seed=point.seed,
        stop=stop,
        on_progress=lambda steps, most, loss: tell(f": {steps} steps of at most {most}, loss {loss:.3f}"),
    )


def _solve(points: Sequence[Point], stop: Sequence[tuple[str, float]]) -> list[Trajectory]:
    first = points[0]
    # The circuit's own solver fills up its batches by itself.
    missing = 0 if _followed(first) else _width(first) - len(points)
    tasks = [point.task for point in points] + [points[-1].task] * missing
    # None where nothing is random
    samples, seed = first.samples or 1, first.seed or 0
    options = {"horizon": first.horizon, "samples": samples, "seed": seed, "accuracy": first.accuracy}
    return solve_flows(tasks, first.model, stop=stop, **options)[: len(points)]


def batches(points: Sequence[Point]) -> Iterator[list[int]]:
    """Places of points to be computed side by side: alike but for N, and of like N.

    Args:
        points: in any order.
    """
    groups: dict[object, list[int]] = {}
    for place, point in enumerate(points):
        groups.setdefault(_companions(place, point), []).append(place)
    for places in groups.values():
        places.sort(key=lambda place: points[place].task.context_length)
        width = _width(points[places[-1]])
        yield from (places[first : first + width] for first in range(0, len(places), width))


def _companions(place: int, point: Point) -> object:
    task = point.task
    if point.model == "full" or not has_closed_form(task, point.model):
        return place
    alike = (point.model, task.inputs, task.query, task.rotation, point.horizon, point.accuracy)
    return *alike, _followed(point), number_of_places(task, point.model)


def _followed(point: Point) -> bool:
    """Whether the circuit's own solver runs it, which starts from two pairs."""
    task = point.task
    closed = point.model == "circuit" and has_closed_form(task, point.model)
    return closed and task.query == "last" and task.context_length > 1


def _width(point: Point) -> int:
    """How many points side by side.

    On a logarithmic mesh, and of Gram matrices, one alone keeps the machine busy, and none waits for the slowest.
    """
    if _followed(point):
        return 2048
    exact = has_closed_form(point.task, point.model) and number_of_places(point.task, point.model) <= max(EXACT)
    return 4 if exact else 1


def describe_batch(points: Sequence[Point]) -> str:
    """What a batch is, in a few words."""
    lengths = [point.task.context_length for point in points]
    span = f"N = {lengths[0]}" if len(lengths) == 1 else f"N = {lengths[0]} to {lengths[-1]}"
    return f"{points[0].model}, query {points[0].task.query}, {span}"
