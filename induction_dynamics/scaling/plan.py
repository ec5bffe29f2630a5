"""Which points a sweep is made of, and about how long they take."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES
from induction_dynamics.dynamics.flow import ACCURACY
from induction_dynamics.errors import ArgumentError
from induction_dynamics.reduced.loss import has_closed_form, number_of_places
from induction_dynamics.scaling.sweep import Point
from induction_dynamics.task import Task

_MOST_COMBINATIONS = 10**6
_COMPILING = {("circuit", "uniform"): 4.0, ("subspace", "last"): 9.0, ("subspace", "uniform"): 16.0}


@dataclasses.dataclass(frozen=True)
class Grid:
    """All combinations of some values of every option of a task, a model and a training.

    Args:
        context_lengths: numbers N of item-label pairs.
        model: `circuit`, `subspace` or `full`.
        inputs: see `Task`, as for the next three.
        query: `last` or `uniform`.
        rotation: in degrees.
        embedding_dim: D; 0 for the default that goes with N and the inputs.
        horizon: see `Point`, as for all that follow; in units of N^2.
        batch_size: sequences per training step.
        step: flow time per training step.
        samples: Gram matrices in a sampled loss.
        accuracy: relative, of the emergence times of reduced flows.
        seed: of whatever is random.

    Example:
        >>> from induction_dynamics import Grid
        >>> grid = Grid(context_lengths=(4, 8), model=("subspace", "full"), batch_size=(64, 256), seed=(0, 1, 2))
        >>> len(grid.points())  # batch size and seed have no effect on the reduced flow
        14
    """

    context_lengths: tuple[int, ...]
    model: tuple[str, ...] = ("subspace",)
    inputs: tuple[str, ...] = ("orthonormal",)
    query: tuple[str, ...] = ("last",)
    rotation: tuple[float, ...] = (90.0,)
    embedding_dim: tuple[int, ...] = (0,)
    horizon: tuple[float, ...] = (12.0,)
    batch_size: tuple[int, ...] = (256,)
    step: tuple[float, ...] = (0.25,)
    samples: tuple[int, ...] = (2048,)
    accuracy: tuple[float, ...] = (ACCURACY,)
    seed: tuple[int, ...] = (0,)

    def points(self) -> list[Point]:
        """The points, each once: values of options that have no effect on a model make no further points.

        Raises:
            ArgumentError: a value, or a combination of values, that the task or the model does not take; or more than a
                million combinations.
        """
        combinations = math.prod(len(values) for values in vars(self).values())
        if combinations > _MOST_COMBINATIONS:
            raise ArgumentError("grid", combinations, f"of at most {_MOST_COMBINATIONS} combinations")
        found: dict[Point, None] = {}
        tasks = [
            Task(length, dim, inputs, query, rotation)
            for inputs, query, rotation, dim, length in itertools.product(
                self.inputs, self.query, self.rotation, self.embedding_dim, self.context_lengths
            )
        ]
        options = list(
            itertools.product(self.horizon, self.batch_size, self.step, self.samples, self.accuracy, self.seed)
        )
        for model, (horizon, batch_size, step, samples, accuracy, seed), task in itertools.product(
            self.model, options, tasks
        ):
            found[Point(task, model, horizon, seed, batch_size, step, samples, accuracy)] = None
        return list(found)


def log_spaced(first: int, last: int, per_decade: int) -> list[int]:
    """Distinct whole numbers, evenly spaced in their logarithm, with both ends.

    Args:
        first: the smallest, at least 1.
        last: the largest.
        per_decade: how many for a factor of ten.

    Example:
        >>> log_spaced(4, 400, 2)
        [4, 13, 40, 126, 400]
    """
    count = max(math.ceil(per_decade * math.log10(last / first) - 1e-9), 1)
    inner = (round(first * (last / first) ** (index / count)) for index in range(1, count))
    return sorted({first, *inner, last})


@dataclasses.dataclass(frozen=True)
class Cost:
    """About how long points take on one core of the two that it was measured on; right within a factor of some three.

    Args:
        seconds: for the runs themselves.
        compiling: seconds more for kinds of runs of which the cache of compiled programs holds none.
    """

    seconds: float
    compiling: float


def estimate(points: Sequence[Point], targets: Sequence[tuple[str, float]] = ()) -> Cost:
    """About how long points take.

    Args:
        points: to be run.
        targets: measures and thresholds that the runs wait for.

    Example:
        >>> from induction_dynamics import Point, Task
        >>> short, long = (Point(Task(n), "full", seed=0, batch_size=256, step=0.25) for n in (4, 16))
        >>> 10 < estimate([long]).seconds / estimate([short]).seconds < 1000
        True
    """
    kinds = {_program(point): point for point in points}
    compiling = sum((_COMPILING.get((point.model, point.task.query), 4.0) for point in kinds.values()), 0.0)
    return Cost(sum((seconds_of(point, targets) for point in points), 0.0), compiling)


def seconds_of(point: Point, targets: Sequence[tuple[str, float]] = ()) -> float:
    """About how long one point takes, compiled, on one core.

    Args:
        point: what is run.
        targets: measures and thresholds that the run waits for.
    """
    task, pairs = point.task, point.task.context_length
    if point.model == "full":
        # of a step, measured for N = 2 to 32 at widths 2N + 2
        wide = (task.embedding_dim / (2 * pairs + 2)) ** 2
        a_step = 3e-4 + (point.batch_size or 0) * (1.5e-6 * pairs + 2.5e-7 * pairs**2) * wide
        return a_step * _duration(point, targets) / (point.step or 1.0)
    if task.inputs == "isotropic":
        return 1.3e-4 * (point.samples or 0) * pairs**2
    if not has_closed_form(task, point.model):
        return 0.02 + 5e-4 * pairs**2
    if point.model == "circuit" and task.query == "last":
        return 1e-4
    short = number_of_places(task, point.model) <= 64
    if point.model == "circuit":
        return 0.01 if short else 0.3
    return 0.05 if short else 0.4 if task.query == "last" else 1.5


def _program(point: Point) -> tuple[object, ...]:
    """Points that are alike in this are run by one compiled program."""
    task = point.task
    if point.model == "full" or not has_closed_form(task, point.model):
        return point.model, task, point.batch_size, point.samples
    return point.model, task.query, number_of_places(task, point.model)


def _duration(point: Point, targets: Sequence[tuple[str, float]]) -> float:
    """Flow time that a training takes, about: 6 N^2/ln(N + 2) to the fall of the loss, or all that it is given."""
    pairs = point.task.context_length
    soon = all(measure in DEFAULT_MEASURES and 0.1 <= level <= 0.9 for measure, level in targets)
    return pairs**2 * min(point.horizon, 6 / math.log(pairs + 2) if targets and soon else math.inf)


def duration(seconds: float) -> str:
    """A time in words of one unit.

    Example:
        >>> duration(0.2), duration(75.0), duration(600.0), duration(3600.0 * 5)
        ('1 s', '75 s', '10 min', '5.0 h')
    """
    if seconds < 100:
        return f"{max(round(seconds), 1)} s" if seconds > 0 else "0 s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
