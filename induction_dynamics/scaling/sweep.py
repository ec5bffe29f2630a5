"""Emergence times over many points: which are computed together, and the table they end in."""

from collections.abc import Callable, Iterator, Sequence

from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES, crossing_targets, crossings_of_all
from induction_dynamics.dynamics.flow import solve_flows
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.reduced.loss import has_closed_form
from induction_dynamics.scaling.points import Point, Row
from induction_dynamics.training.pace import Pace
from induction_dynamics.training.train import run_training

Progress = Callable[[int, int, str], None]
"""Called from the host between batches: points done, points in all, and what is being computed."""

Train = Callable[..., list[Trajectory]]
"""Makes the runs of a training for some seeds: `training.train.run_training`, or something of the same arguments."""


_FOLLOWED = 2048  # points of a batch for the circuit's own solver
_CLOSED = 4  # and of others in closed form: what a ledger may lose, and a worker waits for


def sweep(
    points: Sequence[Point],
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    thresholds: Sequence[float] = (0.5,),
    loss_fractions: Sequence[float] = (0.5,),
    on_progress: Progress | None = None,
    on_run: Callable[[Trajectory], None] | None = None,
    train_with: Train | None = None,
) -> list[Row]:
    """Emergence times of all points, each point's from one run that stops once every crossing has happened.

    Args:
        points: what to run.
        measures: coordinate names or `loss`.
        thresholds: for the coordinates, finite and above 0.
        loss_fractions: for the loss, strictly between 0 and 1.
        on_progress: see `Progress`.
        on_run: called with each point's run as it is done, in any order; nothing else keeps it.
        train_with: makes the runs of the full model; by default `train` with the options of the point.

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
    for places, trajectories in _run_batches(points, targets, on_progress, train_with):
        for trajectory in trajectories:
            if on_run is not None:
                on_run(trajectory)
        for place, crossings in zip(places, crossings_of_all(trajectories, targets), strict=True):
            rows[place] = Row.of(points[place], crossings)
    return [row for place in range(len(points)) for row in rows[place]]


def run_points(
    points: Sequence[Point], stop: Sequence[tuple[str, float]] = (), on_progress: Progress | None = None
) -> Iterator[tuple[int, Trajectory]]:
    """Run all points, several at once, and yield each one's place and trajectory as it is done.

    Args:
        points: what to run.
        stop: measures and thresholds after whose crossing a run ends; without any it goes on to its horizon.
        on_progress: see `Progress`.
    """
    for places, trajectories in _run_batches(points, stop, on_progress):
        yield from zip(places, trajectories, strict=True)


def _run_batches(
    points: Sequence[Point],
    stop: Sequence[tuple[str, float]],
    on_progress: Progress | None,
    train_with: "Train | None" = None,
) -> Iterator[tuple[list[int], list[Trajectory]]]:
    tell = on_progress or (lambda done, total, words: None)
    done = 0
    for places in batches(points):
        batch = [points[place] for place in places]
        words = describe_batch(batch)
        tell(done, len(points), words)

        def say(more: str, at: int = done, words: str = words) -> None:
            tell(at, len(points), words + more)

        yield places, run_batch(batch, stop, say, train_with)
        done += len(places)
        tell(done, len(points), words)


def run_batch(
    points: Sequence[Point],
    stop: Sequence[tuple[str, float]],
    tell: Callable[[str], None] | None = None,
    train_with: "Train | None" = None,
) -> list[Trajectory]:
    """The runs of one batch.

    The digits of a point's run do not depend on its companions.

    Args:
        points: as put together by `batches`.
        stop: measures and thresholds after whose crossing a run ends; without any it goes on to its horizon.
        tell: called now and then from within a training with words on how far it is.
        train_with: see `sweep`.
    """
    if points[0].model == "full":
        return [_train(points[0], stop, tell or (lambda words: None), train_with or run_training)]
    return _solve(points, stop)


def _train(
    point: Point, stop: Sequence[tuple[str, float]], tell: Callable[[str], None], train_with: "Train"
) -> Trajectory:
    assert point.seed is not None
    settings = point.settings()
    pace = Pace(settings.most, settings.time_of_step, settings.time_unit)
    return train_with(
        settings, (point.seed,), stop, on_progress=lambda steps, most, loss: tell(f": {pace(steps, loss)}")
    )[0]


def _solve(points: Sequence[Point], stop: Sequence[tuple[str, float]]) -> list[Trajectory]:
    first = points[0]
    assert first.horizon is not None
    return solve_flows(
        [point.task for point in points],
        first.model,
        horizon=first.horizon,
        start=dict(first.start.coordinates) if first.start else None,
        stop=stop,
        # None where nothing is random
        samples=first.samples or 1,
        seed=first.seed or 0,
        accuracy=first.accuracy,
        hold=first.hold or (),
    )


def batches(points: Sequence[Point]) -> Iterator[list[int]]:
    """Places of points to be computed together: alike but for N, in its order.

    Args:
        points: in any order.
    """
    groups: dict[object, list[int]] = {}
    for place, point in enumerate(points):
        groups.setdefault(_companions(place, point), []).append(place)
    for places in groups.values():
        places.sort(key=lambda place: points[place].task.context_length)
        width = _FOLLOWED if _followed(points[places[0]]) else _CLOSED
        yield from (places[first : first + width] for first in range(0, len(places), width))


def _companions(place: int, point: Point) -> object:
    """What points of one batch have in common; a place is its own alone."""
    task = point.task
    if point.model == "full" or not has_closed_form(task, point.model) or any(hold.since for hold in point.hold or ()):
        return place
    alike = (task.inputs, task.query, task.rotation, task.copies, point.horizon, point.accuracy)
    return point.model, *alike, point.start, point.hold, _followed(point)


def _followed(point: Point) -> bool:
    """Whether the circuit's own solver runs it, which starts from two pairs."""
    task = point.task
    closed = point.model == "circuit" and has_closed_form(task, point.model) and not (point.start or point.hold)
    return closed and task.query == "last" and task.context_length > 1 and task.copies == 1


def describe_batch(points: Sequence[Point]) -> str:
    """What a batch is, in a few words."""
    lengths = [point.task.context_length for point in points]
    span = f"N = {lengths[0]}" if len(lengths) == 1 else f"N = {lengths[0]} to {lengths[-1]}"
    optimizer = f", {points[0].optimizer.name}" if points[0].optimizer else ""
    return f"{points[0].model}{optimizer}, query {points[0].task.query}, {span}"
