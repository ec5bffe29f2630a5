"""Trainings from random starts: when the circuit emerges, where the reduced flow says it would, and what is captured.

Each case is kept in a folder as it is done; part of the experiment `off_subspace`.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from induction_dynamics.dynamics.emergence import crossings_of
from induction_dynamics.dynamics.flow import ACCURACY, solve_flow
from induction_dynamics.dynamics.trajectory import Trajectory
from induction_dynamics.files import written_whole
from induction_dynamics.pseudo_parameters import COORDINATES, PLACES, project
from induction_dynamics.scaling.keys import SCHEMA_VERSION
from induction_dynamics.task import Task, sample_sequences, split_seed
from induction_dynamics.training.starts import Start, starting_weights
from induction_dynamics.training.train import train_seeds
from induction_dynamics.transformer.disentangled import Weights, forward

MEASURES = ("gamma_3", "beta_2", "alpha_3", "loss", "loss_of_start")
"""Coordinates at 0.5; the loss at 1/4, half of what it is at zero; and the loss at half of what it starts from."""

OFF_BY = 0.1
"""A time this far off, relatively, is one that the reduced flow no longer predicts."""

_QUARTER = 0.25
_FRESH = 4096
_ALL_ELSE = {"schema": SCHEMA_VERSION, "measures": MEASURES, "quarter": _QUARTER, "fresh": _FRESH, "accuracy": ACCURACY}
"""On which what is kept depends, beside a case and its training."""

Row = dict[str, Any]


class Case(NamedTuple):
    """N, D and query, which of W1, W2, W3 start at random (one of their names, or `all`), and at what scale."""

    context_length: int
    embedding_dim: int
    query: str
    matrices: str
    scale: float


@dataclasses.dataclass(frozen=True)
class Training:
    """How each case is trained: seeds, end in units of N^2, sequences and flow time per step."""

    seeds: tuple[int, ...]
    horizon: float
    batch_size: int
    step: float


def random_starts(
    cases: Sequence[Case], training: Training, folder: Path, tell: Callable[[int, int, str], None]
) -> tuple[list[Row], list[Row]]:
    """A row for each training from a random start, and one for each of its emergence times.

    Args:
        cases: what is trained.
        training: how.
        folder: keeps what was found of each case.
        tell: called with cases done, cases in all, and what is trained.
    """
    starts, times = [], []
    for done, case in enumerate(cases):
        task, about = Task(case.context_length, case.embedding_dim, query=case.query), case._asdict()
        words = f"N = {case.context_length}, D = {case.embedding_dim}, query {case.query}"
        tell(done, len(cases), f"{words}, random start of {case.matrices}, scale {case.scale:g}")
        start = Start(scale=tuple(case.scale * (case.matrices in ("all", name)) for name in PLACES))
        key = [about, dataclasses.asdict(training), _ALL_ELSE]
        found = _kept(folder, key, lambda t=task, s=start: _trained(training, t, s))
        starts += [about | row for row in found["starts"]]
        times += [about | row for row in found["times"]]
    return starts, times


def _kept(folder: Path, key: list[dict[str, Any]], make: Callable[[], Row]) -> Row:
    """What was found of a case earlier, or else now."""
    path = folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(make())
        with written_whole(path) as temporary:
            temporary.write_text(content)
    return json.loads(path.read_text())


def _trained(training: Training, task: Task, start: Start) -> Row:
    runs = train_seeds(
        task,
        training.seeds,
        start=start,
        horizon=training.horizon,
        batch_size=training.batch_size,
        step=training.step,
    )
    zero = _crossings(solve_flow(task, horizon=training.horizon))
    starts, times = [], []
    for seed, run in zip(training.seeds, runs, strict=True):
        first = starting_weights(start, task, split_seed(seed).initialisation, jnp.float32)
        theta = np.asarray(project(first).coordinates, float).tolist()
        beside = _crossings(
            solve_flow(task, horizon=training.horizon, start=dict(zip(COORDINATES, theta, strict=True)))
        )
        starts.append({"seed": seed, "outcome": run.outcome, **_left(run, first), **_at_work(task, run, seed)})
        for measure, (time, outcome) in _crossings(run).items():
            ratios = {"per_flow_from_zero": _ratio(time, zero[measure][0])}
            ratios["per_flow_from_projection"] = _ratio(time, beside[measure][0])
            times.append({"seed": seed, "measure": measure, "time": time, "outcome": outcome, **ratios})
    return {"starts": starts, "times": times}


def _ratio(time: float | None, predicted: float | None) -> float | None:
    return time / predicted if time is not None and predicted else None


def _crossings(run: Trajectory) -> dict[str, tuple[float | None, str]]:
    """Times and outcomes of `MEASURES`."""
    quarter = _QUARTER / float(run.loss[0])
    targets = [("gamma_3", 0.5), ("beta_2", 0.5), ("alpha_3", 0.5), ("loss", min(quarter, 0.999)), ("loss", 0.5)]
    return {
        name: (crossing.time, crossing.outcome)
        for name, crossing in zip(MEASURES, crossings_of(run, targets), strict=True)
    }


def _left(run: Trajectory, first: Weights) -> Row:
    """Of the weights and of their movement, what the subspace captures; and what is off it over the random start."""
    names = ("captured_of_weights", "captured_of_movement", "off_end_per_start", "off_moved_per_start")
    matrices = [f"off_end_per_start_{name}" for name in PLACES]
    if run.weights is None:
        return {"initial_loss": float(run.loss[0]), **dict.fromkeys((*names, *matrices))}
    moved = jax.tree.map(jnp.subtract, run.weights, first)
    whole, off = zip(*(_norms_of(weights) for weights in (first, run.weights, moved)), strict=True)
    start, end, movement = (np.linalg.norm(norms) for norms in off)
    random = bool(start > 0)
    each = [float(e / s) if s > 0 else None for s, e in zip(off[0], off[1], strict=True)]
    return {
        "initial_loss": float(run.loss[0]),
        "captured_of_weights": 1 - float(end / np.linalg.norm(whole[1])) ** 2,
        "captured_of_movement": 1 - float(movement / np.linalg.norm(whole[2])) ** 2,
        "off_end_per_start": float(end / start) if random else None,
        "off_moved_per_start": float(movement / start) if random else None,
        **dict(zip(matrices, each, strict=True)),
    }


def _norms_of(weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Of W1, W2, W3 the norm, and that of the part off the subspace."""
    whole = np.array([np.linalg.norm(np.asarray(getattr(weights, name), float)) for name in PLACES])
    fractions = project(weights).off_subspace
    return whole, whole * np.array([float(getattr(fractions, name)) for name in PLACES])


def _at_work(task: Task, run: Trajectory, seed: int) -> Row:
    """What the trained weights do on fresh sequences, whatever their coordinates say."""
    if run.weights is None:
        return dict.fromkeys(("final_loss", "attention_to_the_label", "answered"))
    fresh = sample_sequences(task, split_seed(seed).evaluation, _FRESH)
    output = jax.jit(forward)(run.weights, fresh)
    label = 2 * np.asarray(fresh.query) + 1
    error = np.asarray(output.prediction - fresh.target, float)
    nearest = np.argmax(np.einsum("bld,bd->bl", fresh.tokens[:, :-1], output.prediction), axis=1)
    return {
        "final_loss": float(np.sum(error**2) / (2 * _FRESH)),
        "attention_to_the_label": float(np.mean(np.asarray(output.attention_2)[np.arange(_FRESH), label])),
        "answered": float(np.mean(nearest == label)),
    }


def limits(times: Sequence[Row]) -> list[Row]:
    """The scale at which a time is first off by a tenth, or there is none: geometric mean over the seeds."""
    names, groups = ("context_length", "embedding_dim", "query", "measure"), {}
    for row in sorted((row for row in times if row["matrices"] == "all"), key=lambda row: row["scale"]):
        groups.setdefault(tuple(row[name] for name in names), {}).setdefault(row["seed"], []).append(row)
    rows = []
    for about, by_seed in groups.items():
        for prediction in ("per_flow_from_zero", "per_flow_from_projection"):
            found = [
                scale_of_limit([row["scale"] for row in own], [row[prediction] for row in own])
                for own in by_seed.values()
            ]
            rows.append({**dict(zip(names, about, strict=True)), "prediction": prediction, **_geometric(found)})
    return rows


def scale_of_limit(scales: Sequence[float], ratios: Sequence[float | None]) -> float | None:
    """The first scale at which a ratio of times is off by a tenth, by a straight line in the logarithm of the scale.

    Args:
        scales: increasing.
        ratios: of the trained time to the predicted one; None where there is no time: halfway to that scale.

    Returns:
        The scale; None if no ratio is off.
    """
    off = [None if ratio is None else abs(ratio - 1) for ratio in ratios]
    for place, value in enumerate(off):
        if value is not None and value <= OFF_BY:
            continue
        if place == 0 or scales[place - 1] <= 0:
            return scales[place]
        before = off[place - 1]
        assert before is not None
        share = 0.5 if value is None else (OFF_BY - before) / (value - before)
        return scales[place - 1] * (scales[place] / scales[place - 1]) ** share
    return None


def _geometric(found: Sequence[float | None]) -> Row:
    """Geometric mean of the scales, with a 95 % t-interval, if each seed has one above 0."""
    known = np.log([scale for scale in found if scale])
    if len(known) < max(len(found), 2):
        return {"scale": None, "low": None, "high": None, "seeds_off": len(known)}
    half = float(stats.t.ppf(0.975, len(known) - 1) * stats.sem(known))
    middle, low, high = (math.exp(float(np.mean(known)) + shift) for shift in (0.0, -half, half))
    return {"scale": middle, "low": low, "high": high, "seeds_off": len(known)}
