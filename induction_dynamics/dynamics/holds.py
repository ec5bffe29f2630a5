"""Interventions: coordinates that are held at a value from some time on, in the reduced flow and in training alike."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import COORDINATES

ALLOWED = "a coordinate, NAME[=VALUE][@TIME], such as beta_2=0 or alpha_3=1.5@40 or gamma_4@100"

_WORD = re.compile(r"([a-z]+_[0-9]+)(?:=([^=@]+))?(?:@([^=@]+))?")


@dataclasses.dataclass(frozen=True)
class Hold:
    """One coordinate held at a value from some time on, while all else goes on.

    Under the hold the weights move by the part of each update that leaves the coordinate where it is (the nearest one
    in the Frobenius norm), and the reduced flow is the constrained one, whose metric is that of the coordinates left:
    both have the same limit of small steps. Where the coordinate has another value as the hold begins, it alone jumps.

    Args:
        coordinate: its name.
        value: theta_k at which it is held; None for the value that it has when the hold begins.
        since: t, time at which the hold begins: flow time, or steps in a training that has no flow time.

    Raises:
        ArgumentError: an unknown coordinate, or a number that is not finite, or a time before 0.

    Example:
        >>> import jax
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> hold = idyn.Hold("beta_2", 0.0)  # no query ever attends to a matching label
        >>> task = idyn.Task(context_length=2)
        >>> for run in (idyn.solve_flow(task, horizon=12.0, hold=[hold]), idyn.train(task, horizon=12.0, hold=[hold])):
        ...     print(idyn.emergence_times(run, measures=["alpha_3"])[0].outcome)
        horizon_reached
        horizon_reached
    """

    coordinate: str
    value: float | None = None
    since: float = 0.0

    def __post_init__(self):
        if self.coordinate not in COORDINATES:
            raise ArgumentError("hold", self.coordinate, f"of coordinates, which are {', '.join(COORDINATES)}")
        if self.value is not None:
            value = _number(self.value)
            if not math.isfinite(value):
                raise ArgumentError("hold", self.value, "at a finite value")
            object.__setattr__(self, "value", value)
        since = _number(self.since)
        if not 0 <= since < math.inf:
            raise ArgumentError("hold", self.since, "from a finite time on, at least 0")
        object.__setattr__(self, "since", since)

    @classmethod
    def read(cls, word: str) -> "Hold":
        """The inverse of `str`, NAME[=VALUE][@TIME].

        Args:
            word: such as `beta_2=0`, `alpha_3=1.5@40` or `gamma_4@100`.

        Raises:
            ArgumentError: it is nothing of the kind.
        """
        found = _WORD.fullmatch(word)
        try:
            if found is None or found[1] not in COORDINATES:
                raise ValueError
            value, since = (None if part is None else float(part) for part in found.groups()[1:])
        except ValueError:
            raise ArgumentError("hold", word, ALLOWED) from None
        return cls(found[1], value, since or 0.0)

    def __str__(self) -> str:
        value = "" if self.value is None else f"={self.value!r}"
        return f"{self.coordinate}{value}" + (f"@{self.since!r}" if self.since else "")


def check_holds(holds: Sequence[Hold], known: Sequence[str] = COORDINATES) -> tuple[Hold, ...]:
    """The holds in the order of the coordinates.

    Args:
        holds: in any order.
        known: coordinates that the model has.

    Raises:
        ArgumentError: two of one coordinate, or one that the model has not.
    """
    names = [hold.coordinate for hold in holds]
    for name in names:
        if names.count(name) > 1:
            raise ArgumentError("hold", name, "of each coordinate at most once")
        if name not in known:
            raise ArgumentError("hold", name, f"of {', '.join(known)} for this model")
    return tuple(sorted(holds, key=lambda hold: COORDINATES.index(hold.coordinate)))


def _number(given: Any) -> float:
    """NaN for what is none."""
    if isinstance(given, bool | str | bytes):
        return math.nan
    try:
        return float(given)
    except (TypeError, ValueError, OverflowError):
        return math.nan
