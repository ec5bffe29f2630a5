"""One type for every run: a reduced flow, or the training of the full model projected onto the subspace."""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.optimize import elementwise

from induction_dynamics.errors import ArgumentError
from induction_dynamics.transformer.disentangled import Weights

OUTCOMES: dict[str, str] = {
    "emerged": "every crossing that was waited for has happened",
    "horizon_reached": "the run ended at its horizon",
    "stopped": "the run ended earlier, with the crossings that it waited for",
    "solver_failed": "the solver gave up before the horizon",
    "nonfinite": "the loss or a coordinate became infinite or NaN",
}
"""How a run, or the search for one crossing, can end, each with its sentence."""

TIME_UNITS = ("flow", "steps")
"""What the time of a run is counted in: flow time, or the steps of an optimizer that has none."""


def check_horizon(horizon: float) -> None:
    """Refuse a time at which no run can end.

    Args:
        horizon: in units of N^2.

    Raises:
        ArgumentError: it is not finite or not above 0.
    """
    if not (np.isfinite(horizon) and horizon > 0):
        raise ArgumentError("horizon", horizon, "finite and above 0")


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Coordinates and loss along a run, from its start.

    Records come in groups of `degree` intervals. Within a group time, coordinates and loss are each the polynomial of
    that degree through the group's degree + 1 records, in a parameter in which these lie evenly, from 0 to 1. A reduced
    flow has the degree of its solver's steps; a trained model has degree 1, a record before each step.

    Args:
        time: t, flow time of each record (see `time_unit`), from 0, never falling (it may stand still where a step is
            below rounding, or where a coordinate jumps).
        coordinates: theta, in the order of `pseudo_parameters.COORDINATES`.
        loss: the population loss of a reduced model; the loss on each step's own batch of a trained one.
        off_subspace: ||W - sum_k theta_k B_k|| / ||W||; zero for a reduced model.
        outcome: how the run ended, a key of `OUTCOMES`.
        degree: of the polynomial between records.
        weights: of the last record of a trained model; None for a reduced one, and where they became infinite.
        time_unit: `flow`, or `steps` where there is no flow time: t then counts the steps of an optimizer.

    Raises:
        ValueError: an unknown outcome or unit, or a number of records that is not 1 plus a multiple of the degree.

    Example:
        >>> import numpy as np
        >>> from induction_dynamics import Trajectory
        >>> time = np.array([0.0, 1.0, 2.0])
        >>> coordinates = time[:, None] ** 2 * np.ones(19)
        >>> run = Trajectory(time, coordinates, 0.5 - time / 8, 0 * time, "horizon_reached", degree=2)
        >>> between, loss = run.at(np.array([1.5]))
        >>> float(between[0, 0]), float(loss[0])
        (2.25, 0.3125)
    """

    time: Float[np.ndarray, " time"]
    coordinates: Float[np.ndarray, "time 19"]
    loss: Float[np.ndarray, " time"]
    off_subspace: Float[np.ndarray, " time"]
    outcome: str
    degree: int = 1
    weights: Weights | None = None
    time_unit: str = "flow"

    def __post_init__(self):
        if self.time_unit not in TIME_UNITS:
            raise ValueError(f"time_unit must be one of {', '.join(TIME_UNITS)}; got {self.time_unit!r}.")
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}; got {self.outcome!r}.")
        if (len(self.time) - 1) % self.degree:
            raise ValueError(f"a degree of {self.degree} does not divide {len(self.time) - 1} intervals.")

    def at(self, time: Float[np.ndarray, " at"]) -> tuple[Float[np.ndarray, "at 19"], Float[np.ndarray, " at"]]:
        """Coordinates and loss at any flow times within the run.

        Args:
            time: t, between the first record and the last.

        Raises:
            ValueError: a time outside the run.
        """
        if np.any(time < self.time[0]) or np.any(time > self.time[-1]):
            raise ValueError(f"time must be within [{self.time[0]:g}, {self.time[-1]:g}], the span of the run.")
        steps = max((len(self.time) - 1) // self.degree, 1)
        ends = self.time[:: self.degree]
        group = np.clip(np.searchsorted(ends, time, side="right") - 1, 0, steps - 1)
        values = np.concatenate([self.coordinates, self.loss[:, None]], axis=1)
        fraction = self._fraction(time, group)
        between = np.stack([evaluate(column[self._records(group)], fraction) for column in values.T], axis=1)
        return between[:, :-1], between[:, -1]

    def _records(self, group: np.ndarray) -> np.ndarray:
        """Places of the records of groups."""
        return np.minimum(group[:, None] * self.degree + np.arange(self.degree + 1), len(self.time) - 1)

    def _fraction(self, time: Float[np.ndarray, " at"], group: np.ndarray) -> Float[np.ndarray, " at"]:
        """Where in its group each time is."""
        records = self.time[self._records(group)]
        first, length = records[:, 0], records[:, -1] - records[:, 0]
        fraction = np.divide(time - first, length, out=np.ones_like(time), where=length > 0)
        straight = first[:, None] + length[:, None] * np.arange(self.degree + 1) / self.degree
        curved = np.flatnonzero(np.any(np.abs(records - straight) > 1e-12 * np.abs(records[:, -1:]), axis=1))
        if len(curved):

            def late(fraction: np.ndarray, index: np.ndarray) -> np.ndarray:
                return evaluate(records[index], fraction) - time[index]

            ends = np.zeros(len(curved)), np.ones(len(curved))
            fraction[curved] = elementwise.find_root(late, ends, args=(curved,)).x
        return fraction


def evaluate(records: Float[np.ndarray, "at nodes"], fraction: Float[np.ndarray, " at"]) -> Float[np.ndarray, " at"]:
    """Polynomials through values at evenly spaced places, each at one place.

    Args:
        records: values at the fractions 0, 1/d, .., 1 of an interval, a row for each polynomial of degree d.
        fraction: where, from 0 to 1.
    """
    nodes = np.arange(records.shape[1])
    away = (len(nodes) - 1) * fraction[:, None] - nodes
    total = np.zeros_like(fraction)
    for i in nodes:
        others = nodes[nodes != i]
        total += records[:, i] * np.prod(away[:, others] / (i - others), axis=1)
    return total
