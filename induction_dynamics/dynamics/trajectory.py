"""One type for every run: a reduced flow, or the training of the full model projected onto the subspace."""

import dataclasses

import numpy as np
from jaxtyping import Float

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

    Records come in groups of `degree` intervals, and on each group the run is the polynomial of that degree through
    the group's degree + 1 records. A reduced flow has degree 4, at the nodes of its solver's own interpolant; a
    trained model has degree 1, a record before each step.

    Args:
        time: t, flow time of each record, increasing from 0.
        coordinates: theta, in the order of `pseudo_parameters.COORDINATES`.
        loss: the population loss of a reduced model; the loss on each step's own batch of a trained one.
        off_subspace: ||W - sum_k theta_k B_k|| / ||W||; zero for a reduced model.
        outcome: how the run ended, a key of `OUTCOMES`.
        degree: of the polynomial between records.
        weights: of the last record of a trained model; None for a reduced one, and where they became infinite.

    Raises:
        ValueError: an unknown outcome, or a number of records that is not 1 plus a multiple of the degree.

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

    def __post_init__(self):
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
        last_group = max(len(self.time) - 1, 1) // self.degree - 1
        group = np.clip(np.searchsorted(self.time[:: self.degree], time, side="right") - 1, 0, max(last_group, 0))
        values = np.concatenate([self.coordinates, self.loss[:, None]], axis=1)
        between = self.interpolate(values, group, time)
        return between[:, :-1], between[:, -1]

    def interpolate(
        self,
        values: Float[np.ndarray, "time columns"],
        group: np.ndarray,
        time: Float[np.ndarray, " at"],
    ) -> Float[np.ndarray, "at columns"]:
        """Lagrange interpolation of recorded values, at one time in each of the given groups of records.

        Args:
            values: recorded along the run, a column for each quantity.
            group: number of the group of `degree` intervals that each time lies in.
            time: t.
        """
        if len(self.time) == 1:
            return np.broadcast_to(values, (len(time), values.shape[1]))
        records = np.minimum(group[:, None] * self.degree + np.arange(self.degree + 1), len(self.time) - 1)
        nodes = self.time[records]
        weights = np.ones_like(nodes)
        for i in range(self.degree + 1):
            for j in range(self.degree + 1):
                if i != j:
                    span = nodes[:, i] - nodes[:, j]
                    weights[:, i] *= np.divide(time - nodes[:, j], span, out=np.ones_like(span), where=span != 0)
        return np.einsum("ai,aic->ac", weights, values[records])
