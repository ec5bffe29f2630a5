"""When each coordinate crosses each threshold, and in which order."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import elementwise

from induction_dynamics.dynamics.trajectory import Trajectory, evaluate
from induction_dynamics.errors import ArgumentError
from induction_dynamics.pseudo_parameters import CIRCUIT, COORDINATES

LOSS = "loss"
MEASURES: tuple[str, ...] = (*COORDINATES, LOSS)
"""What can emerge: a coordinate rising through a threshold, or the loss falling through a fraction of its start."""

DEFAULT_MEASURES: tuple[str, ...] = (*CIRCUIT, LOSS)


@dataclasses.dataclass(frozen=True)
class Emergence:
    """The first crossing of one threshold by one measure.

    Args:
        measure: a coordinate, or `loss`.
        threshold: value that the coordinate rises through; fraction of its initial value that the loss falls through.
        time: flow time of the first crossing, None where there was none.
        outcome: `emerged`, or why there is no time (`trajectory.OUTCOMES`).
        sustained: whether the measure stayed beyond the threshold for the next 1 % of the run; None where there was
            no crossing, or where the run ended before that.

    Example:
        >>> from induction_dynamics import Emergence
        >>> found = Emergence("alpha_3", 0.5, time=901.3, outcome="emerged", sustained=True)
        >>> never = Emergence("gamma_3", 3.0, time=None, outcome="horizon_reached", sustained=None)
        >>> [f"{one.measure}: {one.time or one.outcome}" for one in (found, never)]
        ['alpha_3: 901.3', 'gamma_3: horizon_reached']
    """

    measure: str
    threshold: float
    time: float | None
    outcome: str
    sustained: bool | None


@dataclasses.dataclass(frozen=True)
class Order:
    """What emerged before what.

    Args:
        threshold: of the coordinates.
        groups: measures from first to last; those of one group are tied.
        never: measures that did not emerge.
    """

    threshold: float
    groups: tuple[tuple[str, ...], ...]
    never: tuple[str, ...]

    def __str__(self) -> str:
        parts = [", ".join(" = ".join(group) for group in self.groups)] if self.groups else []
        return "; ".join([*parts, f"never {', '.join(self.never)}"] if self.never else parts)


def emergence_times(
    trajectory: Trajectory,
    *,
    measures: Sequence[str] = DEFAULT_MEASURES,
    thresholds: Sequence[float] = (0.5,),
    loss_fractions: Sequence[float] = (0.5,),
) -> list[Emergence]:
    """First crossings of every measure and threshold, all from one run.

    A coordinate emerges when it first rises through the threshold (at t = 0 if it starts beyond), the loss when it
    first falls through the fraction of its initial value. A crossing is bracketed between two records and then found
    as the root of the run's own polynomial there: the solver's interpolant for a flow, a straight line for a trained
    model.

    Args:
        trajectory: the run.
        measures: coordinate names or `loss`.
        thresholds: for the coordinates, finite and above 0.
        loss_fractions: for the loss, strictly between 0 and 1.

    Returns:
        One `Emergence` for each measure and threshold, measures first.

    Raises:
        ArgumentError: an unknown measure, or a threshold that cannot be crossed from zero.

    Example:
        >>> import jax
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> run = idyn.solve_flow(idyn.Task(context_length=16), "circuit", horizon=6.0)
        >>> for found in idyn.emergence_times(run, measures=["alpha_3", "gamma_3", "loss"], thresholds=[0.5, 3.0]):
        ...     print(found.measure, found.threshold, found.outcome, found.time and f"{found.time:.1f}")
        alpha_3 0.5 emerged 901.3
        alpha_3 3.0 emerged 1244.6
        gamma_3 0.5 emerged 22.2
        gamma_3 3.0 horizon_reached None
        loss 0.5 emerged 1251.5
    """
    return crossings_of(trajectory, crossing_targets(measures, thresholds, loss_fractions))


def crossings_of(trajectory: Trajectory, targets: Sequence[tuple[str, float]]) -> list[Emergence]:
    """First crossings of given targets, see `emergence_times`.

    Args:
        trajectory: the run.
        targets: measures and thresholds, as made by `crossing_targets`.
    """
    return crossings_of_all([trajectory], targets)[0]


def crossings_of_all(trajectories: Sequence[Trajectory], targets: Sequence[tuple[str, float]]) -> list[list[Emergence]]:
    """First crossings of given targets in each of many runs, whose roots are all found together.

    Args:
        trajectories: the runs.
        targets: measures and thresholds, as made by `crossing_targets`.
    """
    found: dict[int, list[Emergence]] = {}
    for degree in {run.degree for run in trajectories} if targets else ():
        places = [place for place, run in enumerate(trajectories) if run.degree == degree]
        times, sustained = _first_crossings([trajectories[place] for place in places], targets)
        for place, row, kept in zip(places, times.tolist(), sustained.tolist(), strict=True):
            never = trajectories[place].outcome if trajectories[place].outcome != "emerged" else "stopped"
            found[place] = [
                Emergence(measure, threshold, None, never, None)
                if math.isnan(time)
                else Emergence(measure, threshold, time, "emerged", None if stays < 0 else stays > 0)
                for (measure, threshold), time, stays in zip(targets, row, kept, strict=True)
            ]
    return [found.get(place, []) for place in range(len(trajectories))]


def check_target(measure: str, threshold: float) -> None:
    """Refuse a measure that does not exist, or a threshold that it cannot cross.

    Raises:
        ArgumentError: see `emergence_times`.
    """
    if measure not in MEASURES:
        raise ArgumentError("measures", measure, f"one of {', '.join(MEASURES)}")
    if measure == LOSS and not 0 < threshold < 1:
        raise ArgumentError("loss_fractions", threshold, "strictly between 0 and 1")
    if measure != LOSS and not (math.isfinite(threshold) and threshold > 0):
        raise ArgumentError("thresholds", threshold, "finite and above 0")


def crossing_targets(
    measures: Sequence[str], thresholds: Sequence[float], loss_fractions: Sequence[float]
) -> list[tuple[str, float]]:
    """Every pair of a measure and one of its thresholds, checked.

    Raises:
        ArgumentError: see `emergence_times`.
    """
    targets = [
        (measure, float(level)) for measure in measures for level in (loss_fractions if measure == LOSS else thresholds)
    ]
    # also thresholds that no measure asked for uses
    for measure, level in [*targets, *((LOSS, x) for x in loss_fractions), *((CIRCUIT[0], x) for x in thresholds)]:
        check_target(measure, level)
    return targets


def emergence_order(emergences: Sequence[Emergence], tie: float = 1e-6) -> list[Order]:
    """The order of emergence in one run, for each threshold of the coordinates; losses take part in every one.

    Args:
        emergences: of one run, as returned by `emergence_times`.
        tie: relative difference of times up to which measures count as emerging together.

    Example:
        >>> import jax
        >>> jax.config.update("jax_enable_x64", True)
        >>> import induction_dynamics as idyn
        >>> run = idyn.solve_flow(idyn.Task(context_length=16), "circuit", horizon=6.0)
        >>> for order in idyn.emergence_order(idyn.emergence_times(run, thresholds=[0.5, 3.0])):
        ...     print(order.threshold, order, sep=": ")
        0.5: gamma_3, beta_2, alpha_3, loss to 0.5
        3.0: alpha_3, beta_2, loss to 0.5; never gamma_3
    """
    losses = [emergence for emergence in emergences if emergence.measure == LOSS]
    orders = []
    for threshold in dict.fromkeys(emergence.threshold for emergence in emergences if emergence.measure != LOSS):
        here = [emergence for emergence in emergences if emergence.measure != LOSS and emergence.threshold == threshold]
        timed = [(emergence.time, _name(emergence)) for emergence in here + losses if emergence.time is not None]
        groups: list[list[str]] = []
        previous = -math.inf
        for time, name in sorted(timed):
            if time - previous <= tie * time:
                groups[-1].append(name)
            else:
                groups.append([name])
            previous = time
        never = tuple(_name(emergence) for emergence in here + losses if emergence.time is None)
        orders.append(Order(threshold, tuple(tuple(group) for group in groups), never))
    return orders


def _name(emergence: Emergence) -> str:
    return f"loss to {emergence.threshold:g}" if emergence.measure == LOSS else emergence.measure


def _first_crossings(
    runs: Sequence[Trajectory], targets: Sequence[tuple[str, float]]
) -> tuple[Float[np.ndarray, "run target"], Int[np.ndarray, "run target"]]:
    """Times of the first crossings in runs of one degree, NaN where there is none; whether each was sustained.

    Of the second 1 stands for yes, 0 for no and -1 for a run that ended too early to tell.
    """
    degree, longest = runs[0].degree, max(len(run.time) for run in runs)
    time = np.full((len(runs), longest), np.inf)
    signals = np.full((len(runs), longest, len(targets)), -np.inf)  # negative before a crossing, not so after it
    columns = [-1 if measure == LOSS else COORDINATES.index(measure) for measure, _ in targets]
    for row, run in enumerate(runs):
        length = len(run.time)
        time[row, :length] = run.time
        for column, (place, (_, threshold)) in enumerate(zip(columns, targets, strict=True)):
            signals[row, :length, column] = (
                threshold * run.loss[0] - run.loss if place < 0 else run.coordinates[:, place] - threshold
            )
    after = np.argmax(signals >= 0, axis=1)
    times = np.where(signals[:, 0] >= 0, time[:, :1], np.nan)
    row, column = np.nonzero(after > 0)
    if len(row):
        first = (after[row, column] - 1) // degree * degree
        group = first[:, None] + np.arange(degree + 1)
        before = after[row, column] - 1 - first
        values, records = signals[row[:, None], group, column[:, None]], time[row[:, None], group]

        def at(fraction: np.ndarray, index: np.ndarray) -> np.ndarray:
            return evaluate(values[index], fraction)

        ends = before / degree, (before + 1) / degree
        found = evaluate(records, elementwise.find_root(at, ends, args=(np.arange(len(row)),)).x)
        # Rounding must not move a crossing out of its interval, which has no length where a run jumps.
        last = after[row, column]
        times[row, column] = np.clip(found, time[row, last - 1], time[row, last])
    end = np.array([run.time[-1] for run in runs])[:, None]
    window = times + 0.01 * (end - time[:, :1])
    following = (time[:, :, None] > times[:, None]) & (time[:, :, None] <= np.minimum(window, end)[:, None])
    fallen = np.any(following & (signals < 0), axis=1)
    stays = np.any(following, axis=1) & (end >= window)
    return times, np.where(fallen, 0, np.where(stays, 1, -1))
