"""How the full model is trained: every option that its numbers depend on but the seed, checked together."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from induction_dynamics.dynamics.flow import flow_time_of_steps, learning_rate_of_step
from induction_dynamics.dynamics.holds import Hold, check_holds
from induction_dynamics.dynamics.trajectory import check_horizon
from induction_dynamics.errors import ArgumentError, whole_number
from induction_dynamics.task import Task, require_float64
from induction_dynamics.training.optimizers import Optimizer
from induction_dynamics.training.starts import Start
from induction_dynamics.training.steps import Recipe
from induction_dynamics.transformer.disentangled import Weights

LARGEST_STEP = 1e6
"""Largest flow time of a step: far beyond every stable one, and no overflow by itself."""

LARGEST_DIM = 4096
"""Largest D of the full model, with 2 GB of weights."""

DTYPES = ("float32", "float64")

MOST_STEPS = 2**31 - 2**16
_LARGEST_COUNT = 10**9


@dataclasses.dataclass(frozen=True)
class Settings:
    """A training of the full model but for its seed; the arguments are those of `train`.

    Raises:
        ArgumentError: a value out of range, too many steps, or a model that is too wide.
    """

    task: Task
    horizon: float = 12.0
    batch_size: int = 256
    step: float = 0.25
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    steps: int | None = None
    start: Start | Weights | None = None
    sequences: int | None = None
    shared_frames: int = 1
    hold: tuple[Hold, ...] = ()
    dtype: Any = "float32"
    record_every: int = 1

    def __post_init__(self):
        check_width(self.task)
        if not isinstance(self.optimizer, Optimizer):
            raise ArgumentError("optimizer", self.optimizer, "an Optimizer")
        if not isinstance(self.start, Start | Weights | None):
            raise ArgumentError("start", self.start, "a Start, or Weights")
        for hold in self.hold:
            if not isinstance(hold, Hold):
                raise ArgumentError("hold", hold, "of the type Hold")
        object.__setattr__(self, "dtype", _name(self.dtype))
        object.__setattr__(self, "hold", check_holds(self.hold))
        if isinstance(self.start, Start) and self.start.is_zero:
            object.__setattr__(self, "start", None)
        for name in ("batch_size", "shared_frames", "record_every", "sequences", "steps"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _count(name, value))
        if self.optimizer.has_flow_time:
            check_horizon(self.horizon)
            if not (_real(self.step) and 0 < self.step <= LARGEST_STEP):
                raise ArgumentError("step", self.step, f"a flow time above 0, at most {LARGEST_STEP:g}")
            if self.steps is not None:
                allowed = "left out with the optimizer gd, which goes to a horizon of flow time"
                raise ArgumentError("steps", self.steps, allowed)
            if self.horizon * self.task.context_length**2 / self.step > MOST_STEPS:
                allowed = f"a flow time that reaches the horizon within {MOST_STEPS} steps"
                raise ArgumentError("step", self.step, allowed)
            self._check_size("step", self.step, self.learning_rate)
        elif self.steps is None:
            allowed = f"given with the optimizer {self.optimizer.name}, which has no flow time"
            raise ArgumentError("steps", None, allowed)
        elif self.optimizer.warmup and self.optimizer.warmup >= self.steps:
            allowed = f"less than the number of steps, which is {self.steps}"
            raise ArgumentError("warmup", self.optimizer.warmup, allowed)
        if not self.optimizer.has_flow_time:
            for name in ("horizon", "step"):
                object.__setattr__(self, name, getattr(Settings, name))  # without effect
            for name in ("learning_rate", "eps"):
                value = getattr(self.optimizer, name)
                if value is not None:
                    self._check_size(name, value, value)
        for hold in self.hold:
            if hold.value is not None and abs(hold.value) > float(np.finfo(self.dtype).max):
                raise ArgumentError("hold", str(hold), f"at a value that is finite in {self.dtype}")
        if self.sequences is not None and self.batch_size > self.sequences:
            allowed = f"at most the number of sequences in the fixed set, which is {self.sequences}"
            raise ArgumentError("batch_size", self.batch_size, allowed)

    def _check_size(self, name: str, value: float, used: float) -> None:
        """Refuse what is zero or infinite in the floating type of the weights."""
        limits = np.finfo(self.dtype)
        if not float(limits.tiny) <= used <= float(limits.max):
            raise ArgumentError(name, value, f"neither so small nor so large that it is lost in {self.dtype}")

    @property
    def time_unit(self) -> str:
        """`flow`, or `steps` for an optimizer without flow time."""
        return "flow" if self.optimizer.has_flow_time else "steps"

    @property
    def learning_rate(self) -> float:
        """Eta, of the full weights."""
        if self.optimizer.has_flow_time:
            return learning_rate_of_step(self.step, self.task.embedding_dim)
        assert self.optimizer.learning_rate is not None
        return self.optimizer.learning_rate

    @property
    def time_of_step(self) -> float:
        """What a step adds to the time, in its unit."""
        if not self.optimizer.has_flow_time:
            return 1.0
        return flow_time_of_steps(1.0, self.learning_rate, self.task.embedding_dim)

    @property
    def most(self) -> int:
        """Records of a run that goes on to its end: one at its start, and one after each step."""
        steps = self.steps
        if steps is None:
            steps = int(self.horizon * self.task.context_length**2 / self.step * (1 + 1e-12))
        return steps + 1

    def recipe(self, several: bool = False) -> Recipe:
        """What the compiled program depends on.

        Args:
            several: whether several seeds run side by side.
        """
        scheduled = (self.optimizer.schedule or "constant") != "constant"
        return Recipe(
            task=self.task,
            batch_size=self.batch_size,
            # the learning rate is an argument of the program
            optimizer=self.optimizer
            if self.optimizer.has_flow_time
            else dataclasses.replace(self.optimizer, learning_rate=1.0),
            steps=self.most - 1 if scheduled else 0,
            sequences=self.sequences or 0,
            shared_frames=self.shared_frames,
            held=bool(self.hold),
            record_every=self.record_every,
            several=several,
        )


def check_width(task: Task) -> None:
    """Refuse a full model whose 28 D^2 weights are more than a workstation trains.

    Args:
        task: gives D, and N where D is the default for it.

    Raises:
        ArgumentError: D is larger than 4096.
    """
    if task.embedding_dim > LARGEST_DIM:
        if task == dataclasses.replace(task, embedding_dim=0):
            reason = f"so small that the full model's width ({task.embedding_dim}) is at most {LARGEST_DIM}"
            raise ArgumentError("context_length", task.context_length, reason)
        raise ArgumentError("embedding_dim", task.embedding_dim, f"at most {LARGEST_DIM} for the full model")


def check_seed(seed: Any) -> int:
    """Refuse what is no seed.

    Args:
        seed: a whole number from 0 to 2^32 - 1.

    Raises:
        ArgumentError: it is none.
    """
    number = whole_number(seed)
    if number is None or not 0 <= number < 2**32:
        raise ArgumentError("seed", seed, f"a whole number from 0 to {2**32 - 1}")
    return number


def check_dtype(dtype: str) -> None:
    """Refuse float64 where jax has none.

    Args:
        dtype: name of a floating type.

    Raises:
        ValueError: it is float64, and jax_enable_x64 is off.
    """
    if dtype == "float64":
        require_float64("Training in float64 needs")


def _name(dtype: Any) -> str:
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in DTYPES:
        raise ArgumentError("dtype", dtype, f"one of {', '.join(DTYPES)}")
    return name


def _count(name: str, value: Any) -> int:
    most = MOST_STEPS if name in ("steps", "record_every") else _LARGEST_COUNT
    number = whole_number(value) or 0
    if not 1 <= number <= most:
        raise ArgumentError(name, value, f"a whole number, at least 1 and at most {most}" if number else "at least 1")
    return number


def _real(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
