"""One run of a sweep, and the row of the table for each of its emergence times."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from induction_dynamics.dynamics.emergence import Emergence
from induction_dynamics.dynamics.flow import ACCURACY, check_accuracy
from induction_dynamics.dynamics.holds import Hold, check_holds
from induction_dynamics.dynamics.trajectory import check_horizon
from induction_dynamics.errors import ArgumentError, whole_number
from induction_dynamics.reduced.loss import ACTIVE, check_length, is_sampled
from induction_dynamics.task import Task
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.settings import Settings, check_seed
from induction_dynamics.training.starts import Start

MODELS = (*ACTIVE, "full")


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of one model on one task.

    Args:
        task: the task, with its context length N.
        model: `circuit` or `subspace` (reduced flows) or `full` (training of all 28 D^2 weights).
        horizon: flow time at which the run is given up, in units of N^2; None of a training without flow time.
        seed: seed of whatever is random; None where nothing is (most reduced flows on orthonormal inputs).
        batch_size: sequences per training step (`full` only, else None).
        step: flow time per training step (`full` by gradient descent only, else None).
        samples: Gram matrices in the loss (reduced flow on isotropic inputs, or with very many placements of several
            copies, else None).
        accuracy: relative error of emergence times that the solver of a reduced flow aims at (`solve_flow`).
        optimizer: of `full`; None for gradient descent.
        steps: after which a training without flow time is given up.
        start: what the run starts from; a reduced flow has the coordinates alone. None for zero.
        sequences: number of sequences in a fixed set (`full` only); None for fresh ones at every step.
        shared_frames: see `sample_sequences` (`full` only); None for 1.
        dtype: floating type of `full`; None for float32.
        hold: coordinates that are held; None for none.

    What has no effect on the model, and a default of `optimizer` and what follows it, is set to None (of `accuracy`, to
    its default), so that points that run alike are equal.

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
    horizon: float | None = 12.0
    seed: int | None = None
    batch_size: int | None = None
    step: float | None = None
    samples: int | None = None
    accuracy: float = ACCURACY
    optimizer: Optimizer | None = None
    steps: int | None = None
    start: Start | None = None
    sequences: int | None = None
    shared_frames: int | None = None
    dtype: str | None = None
    hold: tuple[Hold, ...] | None = None

    def __post_init__(self):
        if self.model not in MODELS:
            raise ArgumentError("model", self.model, f"one of {', '.join(MODELS)}")
        full = self.model == "full"
        flows = not full or self.optimizer is None or self.optimizer.has_flow_time
        self._forget(full, flows)
        if flows:
            if self.horizon is None:
                raise ArgumentError("horizon", None, "given for a run with flow time")
            check_horizon(self.horizon)
        check_accuracy(self.accuracy)
        if self.model in ACTIVE:
            check_length(self.task, self.model)
        sampled = not full and is_sampled(self.task, self.model)
        needed = ("seed", "batch_size", *("step",) * flows) if full else ("seed", "samples") if sampled else ()
        for name in ("seed", "batch_size", "step", "samples"):
            value = getattr(self, name)
            if name not in needed:
                object.__setattr__(self, name, None)
            elif value is None:
                raise ArgumentError(name, None, f"given for the model {self.model} on {self.task.inputs} inputs")
            elif name != "step":
                object.__setattr__(self, name, check_seed(value) if name == "seed" else _count(name, value))
        for name in ("horizon", "accuracy", "step"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        if full:
            object.__setattr__(self, "accuracy", ACCURACY)
            self._take_over(self.settings())
        else:
            self._check_reduced()

    def _forget(self, full: bool, flows: bool) -> None:
        """Set to None what has no effect, or is a default."""
        start, hold, frames = self.start, check_holds(tuple(self.hold or ())), self.shared_frames if full else None
        if start is not None and not full:
            start = Start(coordinates=start.coordinates)
        if self.task.inputs != "orthonormal":
            frames = None
        if isinstance(frames, int) and isinstance(self.batch_size, int):
            frames = min(frames, self.sequences or self.batch_size)  # more are one group likewise
        end = self.horizon * float(self.task.context_length) ** 2 if flows and self.horizon else self.steps
        hold = tuple(one for one in hold if end is None or one.since <= end)
        kept = {
            "horizon": self.horizon if flows else None,
            "optimizer": None if flows else self.optimizer,
            "steps": self.steps if full else None,
            "start": None if start is None or start.is_zero else start,
            "sequences": self.sequences if full else None,
            "shared_frames": frames,
            "dtype": self.dtype if full else None,
            "hold": hold or None,
        }
        for name, value in kept.items():
            object.__setattr__(self, name, value)

    def _take_over(self, settings: Settings) -> None:
        """Options of a training as it has them: whole numbers of Python, a type by its name, and None for defaults."""
        for name, usual in (("steps", None), ("sequences", None), ("shared_frames", 1), ("dtype", "float32")):
            value = getattr(settings, name)
            object.__setattr__(self, name, None if value == usual else value)

    def _check_reduced(self) -> None:
        active = ACTIVE[self.model]
        check_holds(self.hold or (), active)
        for name, value in self.start.coordinates if self.start else ():
            if name not in active:
                raise ArgumentError("start", f"{name}={value:g}", f"of {', '.join(active)} for the model {self.model}")

    def settings(self) -> Settings:
        """How the full model is trained.

        Raises:
            ArgumentError: see `Settings`.
        """
        given = {name: getattr(self, name) for name in ("horizon", "step", "batch_size", "shared_frames", "dtype")}
        return Settings(
            self.task,
            optimizer=self.optimizer or Optimizer(),
            steps=self.steps,
            start=self.start,
            sequences=self.sequences,
            hold=self.hold or (),
            **{name: value for name, value in given.items() if value is not None},
        )


def _count(name: str, value: object) -> int:
    number = whole_number(value)
    if number is None or not 1 <= number <= 10**9:
        raise ArgumentError(name, value, f"a whole number from 1 to {10**9}")
    return number


@dataclasses.dataclass(frozen=True)
class Row:
    """One emergence time: a row of the table that every command answers with (README, "The document").

    The fields of the point, then what emerged: `time` is in `time_unit`, or None with the reason in `outcome`;
    `sustained` says whether the measure stayed beyond its threshold for the next 1 % of the run. `start`, `hold` and
    `training` (what else differs from the defaults of a training) are in words, None where there is nothing to say.
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
    horizon: float | None
    accuracy: float | None
    copies: int = 1
    optimizer: str | None = None
    learning_rate: float | None = None
    steps: int | None = None
    sequences: int | None = None
    start: str | None = None
    hold: str | None = None
    training: str | None = None

    @classmethod
    def of(cls, point: Point, crossings: Sequence[Emergence]) -> "list[Row]":
        """The rows of the crossings in the run of one point."""
        own = columns_of(point)
        return [cls(**own, **vars(crossing)) for crossing in crossings]


def columns_of(point: Point) -> dict[str, Any]:
    """What the rows of a point have in common, by the names of `Row`; points that differ, differ in it.

    Args:
        point: what is run.
    """
    found = {**vars(point.task), "model": point.model, "time_unit": "flow", "training": None}
    for name in ("seed", "batch_size", "step", "samples", "horizon", "steps", "sequences"):
        found[name] = getattr(point, name)
    found["accuracy"] = None if point.model == "full" else point.accuracy
    found["start"] = start_in_words(point.start)
    found["hold"] = " ".join(map(str, point.hold)) if point.hold else None
    if point.model == "full":
        optimizer = point.optimizer or Optimizer()
        found |= {"optimizer": optimizer.name, "learning_rate": optimizer.learning_rate}
        found["time_unit"] = "flow" if optimizer.has_flow_time else "steps"
        further = {"shared_frames": point.shared_frames, "dtype": point.dtype, **optimizer.options()}
        found["training"] = _in_words(further)
    return found


def start_in_words(start: Start | None) -> str | None:
    """Such as `scale=0.1 gamma_3=0.5`; None for a start from zero."""
    if start is None or start.is_zero:
        return None
    scales = start.scales
    scale = scales[:1] if len(set(scales)) == 1 else scales
    return _in_words({"scale": ",".join(map(_shown, scale)) if any(scales) else None, **dict(start.coordinates)})


def _in_words(options: Mapping[str, Any]) -> str | None:
    return " ".join(f"{name}={_shown(value)}" for name, value in options.items() if value is not None) or None


def _shown(value: Any) -> str:
    """A number with as few digits as tell it from all others."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
