"""Runs with interventions that begin on the way: solved piece by piece, and joined to one trajectory."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from induction_dynamics.dynamics.holds import Hold
from induction_dynamics.dynamics.solvers import Levels
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.pseudo_parameters import COORDINATES


class Piece(NamedTuple):
    """A part of one or several runs, in which the same coordinates are held.

    Args:
        horizon: flow time from its start at which it ends, in units of each run's N^2.
        start: theta at its start; None for zero that nobody has asked for, from where the circuit has its own form.
        held: coordinates that do not move.
        levels: what it waits for, the loss as a fraction of that at the start of the piece.
    """

    horizon: float
    start: Float[np.ndarray, "19"] | None
    held: frozenset[str]
    levels: Levels


def begun(
    holds: Sequence[Hold], since: float, coordinates: Float[np.ndarray, "19"]
) -> tuple[Float[np.ndarray, "19"], frozenset[str]]:
    """Theta after the jumps of the holds that begin at a time, and all that is held from then on.

    Args:
        holds: all of the run.
        since: the time.
        coordinates: theta before.
    """
    after = coordinates.copy()
    for hold in holds:
        if hold.since == since and hold.value is not None:
            after[COORDINATES.index(hold.coordinate)] = hold.value
    return after, frozenset(hold.coordinate for hold in holds if hold.since <= since)


def solve_in_pieces(
    solve: Callable[[Piece], Trajectory],
    loss: Callable[[Float[np.ndarray, "19"]], float],
    holds: Sequence[Hold],
    first: Piece,
    scale: float,
) -> Trajectory:
    """One run from piece to piece, up to its horizon or the first piece that does not reach its end.

    Args:
        solve: solves a piece, all of the same degree.
        loss: the loss at theta.
        holds: of the run; what `first` holds is among them, and those after its horizon do nothing.
        first: the run as if none of the later holds came.
        scale: N^2, unit of the horizon.
    """
    horizon = first.horizon * scale
    onsets = sorted({hold.since for hold in holds if 0 < hold.since < horizon})
    run = _ending(solve(first._replace(horizon=onsets[0] / scale)), 0.0, onsets[0])
    for since, until in zip(onsets, [*onsets[1:], horizon], strict=True):
        if run.outcome != "horizon_reached":
            break
        state, held = begun(holds, since, run.coordinates[-1])
        value = loss(state)
        if not np.isfinite(value):
            return dataclasses.replace(run, outcome="nonfinite")
        if np.any(state != run.coordinates[-1]):
            run = _jump(run, since, state, value)
        # Known here, where a loss of zero has no fractions, and where an explicit solver would take a step first.
        if np.all(state >= first.levels.coordinates) and value <= first.levels.loss_fraction * run.loss[0]:
            return dataclasses.replace(run, outcome="emerged")
        levels = first.levels
        if value > 0:
            levels = levels._replace(loss_fraction=levels.loss_fraction * (run.loss[0] / value))
        piece = solve(Piece((until - since) / scale, state, held, levels))
        run = _joined(run, _ending(piece, since, until))
    return run


def _ending(piece: Trajectory, since: float, until: float) -> Trajectory:
    """A piece in the time of the whole run, whose horizon is met to the last digit."""
    time = np.minimum(since + piece.time, until)
    if piece.outcome == "horizon_reached" and len(time) > 1:
        time[-1] = until
    return dataclasses.replace(piece, time=time)


def _jump(run: Trajectory, time: float, coordinates: Float[np.ndarray, "19"], loss: float) -> Trajectory:
    """The run and a group of records without length, straight from where it was to where it is."""
    records = run.degree + 1
    jump = Trajectory(
        time=np.full(records, time),
        coordinates=np.linspace(run.coordinates[-1], coordinates, records),
        loss=np.linspace(run.loss[-1], loss, records),
        off_subspace=np.zeros(records),
        outcome=run.outcome,
        degree=run.degree,
    )
    return _joined(run, jump)


def _joined(run: Trajectory, more: Trajectory) -> Trajectory:
    """Of two parts of a run; the record that both have is the second's, whose loss is no polynomial's."""
    joined = {
        name: np.concatenate([getattr(run, name)[:-1], getattr(more, name)])
        for name in ("time", "coordinates", "loss", "off_subspace")
    }
    return dataclasses.replace(more, **joined)
