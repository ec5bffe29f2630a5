"""Optimizers by name and options, all of them optax's."""

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array, Float

from induction_dynamics.errors import ArgumentError

OPTIMIZERS = ("gd", "sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "linear")

_EVERY = ("learning_rate", "weight_decay", "clip", "schedule", "warmup")
_OWN: dict[str, dict[str, Any]] = {
    "gd": {},
    "sgd": {"momentum": 0.9, "nesterov": False},
    "adam": {"b1": 0.9, "b2": 0.999, "eps": 1e-8},
    "adamw": {"b1": 0.9, "b2": 0.999, "eps": 1e-8},
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gd": {},
    "sgd": {"weight_decay": 0.0, "schedule": "constant", "warmup": 0},
    "adam": {"weight_decay": 0.0, "schedule": "constant", "warmup": 0},
    "adamw": {"weight_decay": 1e-4, "schedule": "constant", "warmup": 0},
}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    r"""How a gradient becomes an update of the weights.

    `gd` is gradient descent, W <- W - eta grad, with eta = step x D: the only one that advances flow time. The others
    have no flow time, and their runs are told in steps. With g the gradient (clipped, and for sgd and adam with
    weight_decay x W added), and eta_s the learning rate of step s,

        sgd    m <- momentum m + g;  W <- W - eta_s m                      (nesterov: g + momentum m in the place of m)
        adam   W <- W - eta_s m^ / (sqrt(v^) + eps), m^ and v^ the means of g and g^2 over about 1/(1 - b1) and
               1/(1 - b2) steps, without the bias of their start (Kingma and Ba, arXiv 1412.6980)
        adamw  the same, and - eta_s weight_decay W (Loshchilov and Hutter, arXiv 1711.05101)

    Args:
        name: `gd`, `sgd`, `adam` or `adamw`.
        learning_rate: eta, the largest of the run; not for gd.
        momentum: from 0 to below 1 (sgd; 0.9 by default).
        nesterov: whether momentum looks ahead (sgd).
        b1: from 0 to below 1 (adam, adamw).
        b2: likewise.
        eps: above 0 (adam, adamw).
        weight_decay: at least 0; not for gd (adamw: 1e-4 by default, else 0).
        clip: largest Euclidean norm of the gradient of all weights together, to which a larger one is scaled; not for
            gd.
        schedule: how eta_s goes on after the warmup, to the end of the run: `constant`, `cosine` or `linear` (both to
            0); not for gd.
        warmup: steps in which eta_s rises in proportion from 0 to eta; not for gd.

    What is None takes its default, and stays None where it has no effect.

    Raises:
        ArgumentError: an unknown name, a value out of range, one that has no effect on this optimizer, or no learning
            rate where one is needed.

    Example:
        >>> import induction_dynamics as idyn
        >>> adam = idyn.Optimizer("adam", learning_rate=1e-2)
        >>> run = idyn.train(idyn.Task(context_length=2), optimizer=adam, steps=300, batch_size=64)
        >>> run.time_unit, float(run.time[-1]), bool(run.loss[-1] < run.loss[0] / 2)
        ('steps', 300.0, True)
    """

    name: str = "gd"
    learning_rate: float | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    b1: float | None = None
    b2: float | None = None
    eps: float | None = None
    weight_decay: float | None = None
    clip: float | None = None
    schedule: str | None = None
    warmup: int | None = None

    def __post_init__(self):
        if self.name not in OPTIMIZERS:
            raise ArgumentError("optimizer", self.name, f"one of {', '.join(OPTIMIZERS)}")
        taken = takes(self.name)
        for name, value in vars(self).items():
            if value is not None and name != "name" and name not in taken:
                which = [other for other in OPTIMIZERS if name in takes(other)]
                allowed = f"left out with the optimizer {self.name} (it is of {', '.join(which)})"
                raise ArgumentError(name, value, allowed)
        for name, default in (_DEFAULTS[self.name] | _OWN[self.name]).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        if "learning_rate" in taken and self.learning_rate is None:
            raise ArgumentError("learning_rate", None, f"given with the optimizer {self.name}")
        for name, (allowed, accepts) in _RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not accepts(value):
                raise ArgumentError(name, value, allowed)
            object.__setattr__(self, name, int(value) if name == "warmup" else float(value))
        if self.nesterov is not None and not isinstance(self.nesterov, bool):
            raise ArgumentError("nesterov", self.nesterov, "true or false")
        if self.schedule not in (None, *SCHEDULES):
            raise ArgumentError("schedule", self.schedule, f"one of {', '.join(SCHEDULES)}")

    @property
    def has_flow_time(self) -> bool:
        """Whether a step advances flow time by always the same."""
        return self.name == "gd"

    def options(self) -> dict[str, Any]:
        """What differs from the defaults of this optimizer, but for the learning rate."""
        usual = _DEFAULTS[self.name] | _OWN[self.name]
        given = {name: value for name, value in vars(self).items() if name not in ("name", "learning_rate")}
        return {name: value for name, value in given.items() if value is not None and value != usual.get(name)}


def takes(name: str) -> tuple[str, ...]:
    """The options that an optimizer takes, of the fields of `Optimizer`.

    Args:
        name: of the optimizer.
    """
    return () if name == "gd" else (*_EVERY, *_OWN[name])


def _finite(accepts: Callable[[float], bool]) -> Callable[[Any], bool]:
    def accept(value: Any) -> bool:
        try:
            return isinstance(value, numbers.Real | np.number) and math.isfinite(value) and accepts(float(value))
        except OverflowError:
            return False

    return accept


_RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "learning_rate": ("a finite number above 0", _finite(lambda x: x > 0)),
    "momentum": ("a number from 0 to below 1", _finite(lambda x: 0 <= x < 1)),
    "b1": ("a number from 0 to below 1", _finite(lambda x: 0 <= x < 1)),
    "b2": ("a number from 0 to below 1", _finite(lambda x: 0 <= x < 1)),
    "eps": ("a finite number above 0", _finite(lambda x: x > 0)),
    "weight_decay": ("a finite number, at least 0", _finite(lambda x: x >= 0)),
    "clip": ("a finite number above 0", _finite(lambda x: x > 0)),
    "warmup": ("a whole number of steps, at least 0", lambda x: isinstance(x, int | np.integer) and int(x) >= 0),
}


def transformation(
    optimizer: Optimizer, learning_rate: Float[Array, ""] | float, steps: int
) -> optax.GradientTransformation:
    """The optax transformation from gradients to updates.

    Args:
        optimizer: which.
        learning_rate: eta; of gd, step x D.
        steps: of the whole run, at whose end a schedule has come to its own.
    """
    parts: list[optax.GradientTransformation] = []
    if optimizer.clip is not None:
        parts.append(optax.clip_by_global_norm(optimizer.clip))
    decay = optax.add_decayed_weights(optimizer.weight_decay) if optimizer.weight_decay else optax.identity()
    if optimizer.name in ("sgd", "adam"):
        parts.append(decay)
    if optimizer.name == "sgd" and optimizer.momentum:
        parts.append(optax.trace(optimizer.momentum, nesterov=bool(optimizer.nesterov)))
    if optimizer.name in ("adam", "adamw"):
        assert optimizer.b1 is not None and optimizer.b2 is not None and optimizer.eps is not None
        parts.append(optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.eps))
    if optimizer.name == "adamw":
        parts.append(decay)
    return optax.chain(*parts, optax.scale_by_learning_rate(_schedule(optimizer, learning_rate, steps)))


def _schedule(optimizer: Optimizer, learning_rate: Float[Array, ""] | float, steps: int) -> Any:
    warmup = optimizer.warmup or 0
    left = max(steps - warmup, 1)
    rate: Any = learning_rate  # optax takes arrays for numbers
    after = {
        "constant": lambda: rate,
        "cosine": lambda: optax.cosine_decay_schedule(rate, left),
        "linear": lambda: optax.linear_schedule(rate, 0.0, left),
    }[optimizer.schedule or "constant"]()
    if not warmup:
        return after
    rest: Any = after if callable(after) else optax.constant_schedule(after)
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), rest], [warmup])


def mixing_dtypes() -> Any:
    """Within it arrays of several floating types may meet, as they do in optax."""
    return jax.numpy_dtype_promotion("standard")
