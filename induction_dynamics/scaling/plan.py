"""Which points a sweep is made of, and about how long they take."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from induction_dynamics.dynamics.emergence import DEFAULT_MEASURES
from induction_dynamics.dynamics.flow import ACCURACY
from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.errors import ArgumentError
from induction_dynamics.reduced.loss import has_closed_form, is_sampled, number_of_places
from induction_dynamics.scaling.points import Point
from induction_dynamics.task import Task, number_of_placements
from induction_dynamics.training.optimizers import OPTIMIZERS, Optimizer, takes
from induction_dynamics.training.starts import Start, coordinates_of

NONE = "none"
"""An alternative of a grid without any hold, or with a start from zero."""

_MOST_COMBINATIONS = 10**6
_OF_OPTIMIZERS = (*(field.name for field in dataclasses.fields(Optimizer) if field.name != "name"), "steps")
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
        copies: how often the queried pair stands in the context.
        embedding_dim: D; 0 for the default that goes with N and the inputs.
        horizon: see `Point`, as for all that follow; in units of N^2.
        batch_size: sequences per training step.
        step: flow time per training step.
        samples: Gram matrices in a sampled loss.
        accuracy: relative, of the emergence times of reduced flows.
        seed: of whatever is random.
        optimizer: names, see `Optimizer`, as for those up to warmup; an option has no effect on optimizers that do not
            take it, and is the optimizer's default where there is none.
        learning_rate: eta, which all optimizers but gd need.
        momentum: from 0 to below 1.
        nesterov: whether momentum looks ahead.
        b1: from 0 to below 1.
        b2: likewise.
        eps: above 0.
        weight_decay: at least 0.
        clip: largest norm of the gradient.
        schedule: `constant`, `cosine` or `linear`.
        warmup: steps.
        steps: after which a training without flow time is given up; all optimizers but gd need them.
        start_scale: of the random part of a training's start, see `Start`.
        start: coordinates at the start, NAME=VALUE joined by commas, or `none`.
        sequences: number of sequences in a fixed set, 0 for fresh ones at every step.
        shared_frames: see `sample_sequences`.
        dtype: `float32` or `float64`, of a training.
        hold: coordinates that are held, as `Hold.read` takes them, joined by commas, or `none`.

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
    copies: tuple[int, ...] = (1,)
    embedding_dim: tuple[int, ...] = (0,)
    horizon: tuple[float, ...] = (12.0,)
    batch_size: tuple[int, ...] = (256,)
    step: tuple[float, ...] = (0.25,)
    samples: tuple[int, ...] = (2048,)
    accuracy: tuple[float, ...] = (ACCURACY,)
    seed: tuple[int, ...] = (0,)
    optimizer: tuple[str, ...] = ("gd",)
    learning_rate: tuple[float, ...] = ()
    momentum: tuple[float, ...] = ()
    nesterov: tuple[bool, ...] = ()
    b1: tuple[float, ...] = ()
    b2: tuple[float, ...] = ()
    eps: tuple[float, ...] = ()
    weight_decay: tuple[float, ...] = ()
    clip: tuple[float, ...] = ()
    schedule: tuple[str, ...] = ()
    warmup: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    start_scale: tuple[float, ...] = (0.0,)
    start: tuple[str, ...] = (NONE,)
    sequences: tuple[int, ...] = (0,)
    shared_frames: tuple[int, ...] = (1,)
    dtype: tuple[str, ...] = ("float32",)
    hold: tuple[str, ...] = (NONE,)

    def points(self) -> list[Point]:
        """The points, each once: values of options that have no effect on a model make no further points.

        Raises:
            ArgumentError: a value, or a combination of values, that the task or the model does not take; an option that
                none of the optimizers takes; or more than a million combinations.
        """
        combinations = math.prod(len(values) or 1 for values in vars(self).values())
        if combinations > _MOST_COMBINATIONS:
            raise ArgumentError("grid", combinations, f"of at most {_MOST_COMBINATIONS} combinations")
        found: dict[Point, None] = {}
        tasks = [
            Task(length, dim, inputs, query, rotation, copies)
            for inputs, query, rotation, copies, dim, length in itertools.product(
                self.inputs, self.query, self.rotation, self.copies, self.embedding_dim, self.context_lengths
            )
        ]
        trainings = self._trainings()
        runs = [
            {"seed": seed, "start": _start(scale, words), "hold": _holds(hold)}
            for seed, scale, words, hold in itertools.product(self.seed, self.start_scale, self.start, self.hold)
        ]
        for model in self.model:
            options = trainings if model == "full" else self._flows()
            for how, run, task in itertools.product(options, runs, tasks):
                found[Point(task, model, **how, **run)] = None
        return list(found)

    def _flows(self) -> list[dict[str, Any]]:
        """Options of reduced flows."""
        return _combinations({name: getattr(self, name) for name in ("horizon", "samples", "accuracy")})

    def _trainings(self) -> list[dict[str, Any]]:
        """Options of trainings, but for those that reduced flows have too."""
        self._check_taken()
        data = {name: getattr(self, name) for name in ("batch_size", "sequences", "shared_frames", "dtype")}
        data["sequences"] = [number or None for number in self.sequences]
        found = []
        for name in self.optimizer if "full" in self.model else ():
            own = {option: getattr(self, option) for option in takes(name) if getattr(self, option)}
            for options in _combinations(own):
                optimizer = Optimizer(name, **options)
                ends = {"horizon": self.horizon, "step": self.step}
                if not optimizer.has_flow_time:
                    ends = {"steps": self.steps or (None,)}
                found += [{"optimizer": optimizer, **rest} for rest in _combinations(ends | data)]
        return found

    def _check_taken(self) -> None:
        """Refuse what is given and would do nothing at all."""
        for name in self.optimizer:
            if name not in OPTIMIZERS:
                raise ArgumentError("optimizer", name, f"one of {', '.join(OPTIMIZERS)}")
        taken = {option for name in self.optimizer for option in _taken(name)}
        for option in _OF_OPTIMIZERS:
            values = getattr(self, option)
            if values and option not in taken:
                names = [name for name in OPTIMIZERS if option in _taken(name)]
                allowed = f"left out with the optimizer {', '.join(self.optimizer)} (it is of {', '.join(names)})"
                raise ArgumentError(option, values[0], allowed)


def _taken(name: str) -> tuple[str, ...]:
    """Options of a grid that have an effect on one optimizer and not on another."""
    return () if name == "gd" else (*takes(name), "steps")


def _start(scale: float, words: str) -> Start:
    try:
        coordinates = coordinates_of(() if words in ("", NONE) else words.split(","))
    except ValueError:
        allowed = f"coordinates, NAME=VALUE joined by commas, or {NONE}"
        raise ArgumentError("start", words, allowed) from None
    return Start(scale, coordinates)


def _holds(words: str) -> tuple[Hold, ...]:
    return () if words in ("", NONE) else tuple(Hold.read(word.strip()) for word in words.split(","))


def _combinations(options: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]


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
        a_step = 3e-4 + (point.batch_size or 0) * (7.5e-7 * pairs + 1.5e-7 * pairs**2) * wide
        return a_step * _number_of_steps(point, targets)
    if is_sampled(task, point.model) or (task.copies > 1 and not has_closed_form(task, point.model)):
        return 1.3e-4 * (point.samples or number_of_placements(task)) * pairs**2
    if not has_closed_form(task, point.model):
        return 0.02 + 5e-4 * pairs**2
    if task.copies > 1:
        return number_of_places(task, point.model) * (0.03 + 0.005 * (1 << (task.copies - 1).bit_length()))
    if point.model == "circuit" and task.query == "last" and not (point.start or point.hold):
        return 1e-4
    short = number_of_places(task, point.model) <= 64
    if point.model == "circuit":
        return 0.01 if short else 0.3
    return 0.05 if short else 0.4 if task.query == "last" else 1.5


def _program(point: Point) -> tuple[object, ...]:
    """Points that are alike in this are run by one compiled program."""
    task = point.task
    if point.model == "full":
        return point.model, point.settings().recipe(), point.dtype
    held = tuple((hold.coordinate, bool(hold.since)) for hold in point.hold or ())
    if not has_closed_form(task, point.model):
        return point.model, task, point.samples, held
    return point.model, task.query, number_of_places(task, point.model), (task.copies - 1).bit_length(), held


def _number_of_steps(point: Point, targets: Sequence[tuple[str, float]]) -> float:
    """Of a training, about: all that it is given, or 6 N^2/ln(N + 2) of flow time to the fall of the loss."""
    if point.horizon is None or point.step is None:
        return float(point.steps or 0)
    pairs = point.task.context_length
    soon = all(measure in DEFAULT_MEASURES and 0.1 <= level <= 0.9 for measure, level in targets)
    return pairs**2 * min(point.horizon, 6 / math.log(pairs + 2) if targets and soon else math.inf) / point.step
